"""The public API against a dictionary: whatever the order of calls and deaths, every answer is the model's.

MINRAY_MODEL_EXAMPLES=500 looks longer than CI does.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

import minray as ray
from minray.engine.seam import current

pytestmark = [pytest.mark.cluster, pytest.mark.chaos]

EXAMPLES = int(os.environ.get("MINRAY_MODEL_EXAMPLES", "8"))
PATIENCE_S = 60.0
LARGE = 30_000  # of float64: shared memory
NEVER = 1 << 60


@dataclass
class Known:
    """What the model says of a reference: its number, and since which death it may be lost with its owner."""

    ref: Any
    number: float
    since: int = NEVER  # the count of deaths when a worker became its owner, or that of what it was made from


@dataclass
class Actor:
    """What the model says of an actor. `kept`: key -> (number, deaths when it was kept, since)."""

    handle: Any
    alive: bool = True
    kept: dict[int, tuple[float, int, int]] = field(default_factory=dict)


def _number(value: Any) -> float:
    while not isinstance(value, (int, float)):
        if isinstance(value, ray.ObjectRef):
            value = ray.get(value, timeout=PATIENCE_S)
        elif isinstance(value, np.ndarray):
            assert (value == value[0]).all()
            value = float(value[0])
        else:
            value = value[0]
    return value


@ray.remote(max_retries=-1)
def plus(value: Any, more: int) -> Any:
    """Top level: `value` comes resolved."""
    return value + more if isinstance(value, (int, float, np.ndarray)) else _number(value) + more


@ray.remote(max_retries=-1)
def inside(box: list[Any]) -> float:
    """Nested: the reference is read by the task."""
    return _number(box)


@ray.remote(max_retries=-1)
def theirs(number: float, large: bool) -> list[Any]:
    """A reference that the worker owns."""
    return [ray.put(np.full(LARGE, number) if large else number)]


@ray.remote(max_retries=-1, num_returns=2)
def both(number: float) -> tuple[float, Any]:
    return number, np.full(LARGE, number)


class _Keeper:
    def __init__(self) -> None:
        self.kept: dict[int, Any] = {}

    def keep(self, key: int, box: list[Any]) -> None:
        self.kept[key] = box

    def read(self, key: int) -> float | None:
        return _number(self.kept[key]) if key in self.kept else None

    def give(self, key: int) -> list[Any] | None:
        return self.kept.get(key)

    def drop(self, key: int) -> None:
        self.kept.pop(key, None)


class Programs(RuleBasedStateMachine):
    """One program, step by step, and the deaths around it."""

    LOST = (ray.exceptions.OwnerDiedError, ray.exceptions.ObjectLostError)

    def __init__(self) -> None:
        super().__init__()
        self.refs: dict[int, Known] = {}
        self.actors: list[Actor] = []
        self.deaths = 0
        self.keys = iter(range(1, 1 << 30))

    def _note(self, ref: Any, number: float, since: int = NEVER) -> None:
        self.refs[next(self.keys)] = Known(ref, number, since)

    def _any(self, data: Any) -> Known:
        return self.refs[data.draw(st.sampled_from(sorted(self.refs)))]

    def _agrees(self, what: Any, number: float, since: int) -> None:
        try:
            assert _number(what) == number
        except self.LOST:
            assert self.deaths > since, "lost, and nobody has died"

    # ------------------------------------------------------------------------------------ objects, tasks
    @rule(number=st.integers(-100, 100), large=st.booleans())
    def put(self, number: int, large: bool) -> None:
        self._note(ray.put(np.full(LARGE, float(number)) if large else number), number)

    @precondition(lambda self: self.refs)
    @rule(data=st.data(), more=st.integers(1, 9), nested=st.booleans())
    def task(self, data: Any, more: int, nested: bool) -> None:
        known = self._any(data)
        if nested:
            self._note(inside.remote([known.ref]), known.number, known.since)
        else:
            self._note(plus.remote(known.ref, more), known.number + more, known.since)

    @rule(number=st.integers(-100, 100), large=st.booleans())
    def reference_from_a_task(self, number: int, large: bool) -> None:
        self._note(theirs.remote(float(number), large), number, self.deaths)

    @rule(number=st.integers(-100, 100))
    def two_values(self, number: int) -> None:
        one, other = both.remote(float(number))
        self._note(one, number)
        self._note(other, number)

    @precondition(lambda self: self.refs)
    @rule(data=st.data())
    def get(self, data: Any) -> None:
        known = self._any(data)
        self._agrees(known.ref, known.number, known.since)

    @precondition(lambda self: self.refs)
    @rule()
    def wait(self) -> None:
        refs = [known.ref for known in self.refs.values()]
        ready, late = ray.wait(refs, num_returns=len(refs), timeout=PATIENCE_S)
        assert ready == refs and not late

    @precondition(lambda self: self.refs)
    @rule(data=st.data())
    def delete(self, data: Any) -> None:
        del self.refs[data.draw(st.sampled_from(sorted(self.refs)))]

    # ------------------------------------------------------------------------------------ actors
    @precondition(lambda self: len(self.actors) < 3)
    @rule()
    def create_actor(self) -> None:
        keeper = ray.remote(max_restarts=-1, max_task_retries=-1, num_cpus=0)(_Keeper)
        self.actors.append(Actor(keeper.remote()))

    @precondition(lambda self: self.refs and self.actors)
    @rule(data=st.data())
    def keep(self, data: Any) -> None:
        actor, known = data.draw(st.sampled_from(self.actors)), self._any(data)
        key = next(self.keys)
        answer = actor.handle.keep.remote(key, [known.ref])
        if not actor.alive:
            with pytest.raises(ray.exceptions.ActorDiedError):
                ray.get(answer, timeout=PATIENCE_S)
            return
        ray.get(answer, timeout=PATIENCE_S)
        actor.kept[key] = (known.number, self.deaths, known.since)

    @precondition(lambda self: any(actor.kept for actor in self.actors))
    @rule(data=st.data(), through=st.sampled_from(["read", "give"]))
    def read(self, data: Any, through: str) -> None:
        actor = data.draw(st.sampled_from([actor for actor in self.actors if actor.kept]))
        key = data.draw(st.sampled_from(sorted(actor.kept)))
        number, when, since = actor.kept[key]
        answer = getattr(actor.handle, through).remote(key)
        if not actor.alive:
            with pytest.raises(ray.exceptions.ActorDiedError):
                ray.get(answer, timeout=PATIENCE_S)
            return
        try:
            found = ray.get(answer, timeout=PATIENCE_S)
        except self.LOST:
            assert self.deaths > since
            return
        if found is None:
            assert self.deaths > when, "forgotten, and nobody has died"
        else:
            self._agrees(found, number, since)

    @precondition(lambda self: any(actor.kept for actor in self.actors))
    @rule(data=st.data())
    def drop(self, data: Any) -> None:
        actor = data.draw(st.sampled_from([actor for actor in self.actors if actor.kept]))
        key = data.draw(st.sampled_from(sorted(actor.kept)))
        del actor.kept[key]
        actor.handle.drop.remote(key)

    @precondition(lambda self: self.actors)
    @rule(data=st.data(), for_ever=st.booleans())
    def kill_actor(self, data: Any, for_ever: bool) -> None:
        actor = data.draw(st.sampled_from(self.actors))
        ray.kill(actor.handle, no_restart=for_ever)
        self.deaths += 1
        actor.alive = actor.alive and not for_ever

    @precondition(lambda self: self.actors)
    @rule(data=st.data())
    def forget_actor(self, data: Any) -> None:
        self.actors.remove(data.draw(st.sampled_from(self.actors)))

    @rule(which=st.integers(0, 7))
    def kill_worker(self, which: int) -> None:
        pids = sorted(row["pid"] for row in current().ask("state")["workers"] if row["pid"] > 1)
        if pids:
            self.deaths += 1
            with contextlib.suppress(ProcessLookupError):
                os.kill(pids[which % len(pids)], signal.SIGKILL)

    # ------------------------------------------------------------------------------------ the end
    def teardown(self) -> None:
        while self.refs:  # no name here may keep the last of them
            _, known = self.refs.popitem()
            self._agrees(known.ref, known.number, known.since)
            del known
        self.actors.clear()
        give_up = time.monotonic() + 30
        while left := {name: value for name, value in _left().items() if value}:
            assert time.monotonic() < give_up, f"not given back: {left}"
            time.sleep(0.01)


def _left() -> dict[str, Any]:
    gc.collect()
    core: Any = current().core  # type: ignore[attr-defined]
    return {
        "objects": {number: (ref.pins, ref.task) for number, ref in core.table.items()},
        "arguments": core.held,
        "several": core.multi,
        "anchors": core._anchors,
        "kept": core._kept,
        "holds": {peer.pid: peer.holds for peer in core.peers.values() if peer.holds},
        "memory": core.store.arena.live_bytes(),
        "CPUs": ray.cluster_resources()["CPU"] - ray.available_resources().get("CPU", 0.0),
    }


@pytest.fixture
def _cluster() -> Iterator[None]:
    ray.init(num_cpus=3, object_store_memory=64 << 20, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.timeout(120 + 20 * EXAMPLES)
@pytest.mark.usefixtures("_cluster")
def test_whatever_the_order_of_calls_and_deaths_every_answer_is_the_models() -> None:
    run_state_machine_as_test(
        Programs,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=25,
            deadline=None,
            phases=[Phase.generate],  # what dies when is not the same twice: shrinking would mislead
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
