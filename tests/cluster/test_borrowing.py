"""An object lives as long as somebody, anywhere, can still ask for it, and not longer."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import minray as ray
from minray.engine.seam import current

pytestmark = [pytest.mark.cluster]

LENGTH = 40_000  # of float64: beyond the inline limit, so a block of the arena


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    ray.init(num_cpus=4, object_store_memory=96 << 20)
    yield
    ray.shutdown()


class _Holder:
    """Keeps references (or values) in every kind of container, passes them on, drops them."""

    def __init__(self, *first: Any) -> None:
        self.kept: dict[Any, Any] = dict(enumerate(first))

    def keep(self, key: Any, what: Any) -> None:
        self.kept[key] = what

    def sum(self, key: Any) -> float:
        value = self.kept[key]
        while not isinstance(value, np.ndarray):
            if isinstance(value, ray.ObjectRef):
                value = ray.get(value, timeout=30)
            else:
                value = next(iter(value.values())) if isinstance(value, dict) else value[0]
        return float(value[0]) if (value == value[0]).all() else float("nan")

    def give(self, key: Any) -> Any:
        return self.kept[key]

    def drop(self, key: Any) -> None:
        del self.kept[key]
        gc.collect()

    def make(self, key: Any, number: float) -> list[Any]:
        self.kept[key] = ray.put(np.full(LENGTH, number))
        return [self.kept[key]]

    def pass_on(self, other: Any, key: Any) -> None:
        ray.get(other.keep.remote(key, [self.kept[key]]))

    def live(self) -> tuple[Any, ...]:
        """What is still alive here, for whom: all of it empty when nothing is."""
        core = current().core
        peers = {id(peer): peer for peer in core.peers.values()}
        peers |= {id(one.tag): one.tag for one in core.loop.channels.values() if hasattr(one.tag, "holds")}
        holds = {
            (key, peer.pid): {n: hold[1] for n, hold in peer.holds.items()}
            for key, peer in peers.items()
            if peer.holds
        }
        table = {n: (ref.pins, ref.task is not None) for n, ref in core.table.items()}
        return (
            core.store.arena.live_bytes(),
            holds,
            table,
            len(core._anchors),
            len(core._kept),
            dict(core.held),
        )


@pytest.fixture
def holders() -> list[Any]:
    holder = ray.remote(_Holder)
    found = [holder.remote() for _ in range(2)]
    return found


def _array(number: float) -> Any:
    return ray.put(np.full(LENGTH, number))


def _churn() -> None:
    """Whatever was freed by mistake is overwritten now."""
    for _ in range(12):
        ray.put(np.full(LENGTH, -1.0))


def _until(what: Callable[[], str], within_s: float = 10.0) -> None:
    """Wait until `what()` finds nothing to complain about."""
    give_up = time.monotonic() + within_s
    while complaint := what():
        assert time.monotonic() < give_up, complaint
        time.sleep(0.01)


def _nothing_left(*actors: Any) -> None:
    gc.collect()
    core = current().core

    def left() -> str:
        holds = {peer.pid: dict(peer.holds) for peer in core.peers.values() if peer.holds}
        here = core.store.arena.live_bytes(), holds, core.table, core._anchors, core._kept
        there = ray.get([actor.live.remote() for actor in actors])
        return "" if not any(map(any, [here, *there])) else f"here {os.getpid()}: {here}, there: {there}"

    _until(left)


# ------------------------------------------------------------------------------------------- one drop
@pytest.mark.parametrize(
    "wrap", [lambda r: [r], lambda r: {"k": [r]}, lambda r: ([[{"a": (r,)}]],)], ids=["list", "dict", "deep"]
)
def test_a_reference_kept_in_a_container_outlives_its_owners_handle(holders: list[Any], wrap: Any) -> None:
    holder, _ = holders
    ref = _array(3.0)
    ray.get(holder.keep.remote("x", wrap(ref)))
    del ref
    gc.collect()
    _churn()
    assert ray.get(holder.sum.remote("x")) == 3.0
    ray.get(holder.drop.remote("x"))
    _nothing_left(*holders)


def test_an_array_argument_kept_by_an_actor_stays_as_it_was(holders: list[Any]) -> None:
    holder, other = holders
    ref = _array(3.0)
    ray.get([holder.keep.remote("ref", ref), holder.keep.remote("value", np.full(LENGTH, 4.0))])
    del ref
    third = ray.remote(_Holder).remote(np.full(LENGTH, 5.0), _array(6.0))
    gc.collect()
    _churn()
    assert ray.get([holder.sum.remote("ref"), holder.sum.remote("value")]) == [3.0, 4.0]
    assert ray.get([third.sum.remote(0), third.sum.remote(1)]) == [5.0, 6.0]
    ray.get(
        [holder.drop.remote("ref"), holder.drop.remote("value"), third.drop.remote(0), third.drop.remote(1)]
    )
    _nothing_left(holder, other, third)


def test_a_reference_is_passed_on_to_third_processes_and_back(holders: list[Any]) -> None:
    a, b = holders
    ref = _array(3.0)
    ray.get(a.keep.remote("x", [ref]))
    del ref
    ray.get(a.pass_on.remote(b, "x"))
    ray.get(a.drop.remote("x"))
    _churn()
    assert ray.get(b.sum.remote("x")) == 3.0
    back = ray.get(b.give.remote("x"))
    ray.get(b.drop.remote("x"))
    _churn()
    while isinstance(back, list):
        back = back[0]
    assert (ray.get(back) == 3.0).all()
    del back
    _nothing_left(a, b)


def test_an_object_of_an_actor_outlives_the_actors_own_handle(holders: list[Any]) -> None:
    a, b = holders
    (ref,) = ray.get(a.make.remote("x", 8.0))
    ray.get(b.keep.remote("x", [ref]))
    del ref
    ray.get(a.drop.remote("x"))
    _churn()
    assert ray.get(b.sum.remote("x")) == 8.0
    ray.get(b.drop.remote("x"))
    _nothing_left(a, b)


def test_a_reference_stored_in_an_object_lives_with_that_object(holders: list[Any]) -> None:
    @ray.remote
    def dig(value: Any) -> float:
        return float(ray.get(value["a"][0])[0])

    @ray.remote
    def unwrap(refs: list[Any]) -> Any:
        return ray.get(refs[0])

    outer = ray.put({"a": [_array(10.0)]})
    gc.collect()
    _churn()
    assert ray.get(dig.remote(outer)) == 10.0
    twice = ray.get(unwrap.remote([outer]))
    del outer
    gc.collect()
    _churn()
    assert (ray.get(twice["a"][0]) == 10.0).all()
    del twice
    _nothing_left(*holders)


def test_references_returned_by_tasks_and_nested_tasks_can_be_read(holders: list[Any]) -> None:
    @ray.remote
    def make(number: float) -> Any:
        return ray.put(np.full(LENGTH, number))

    @ray.remote
    def nested(number: float) -> list[Any]:
        return [make.remote(number), ray.put(number), np.full(LENGTH, number)]

    refs = ray.get([nested.remote(float(x)) for x in range(6)])
    _churn()
    for x, (inner, small, value) in enumerate(refs):
        assert (ray.get(ray.get(inner)) == x).all() and ray.get(small) == x and (value == x).all()
    del refs, inner, value, small
    _nothing_left(*holders)


def test_ten_thousand_references_in_one_object_are_read_and_dropped(holders: list[Any]) -> None:
    @ray.remote
    def count(refs: list[Any]) -> int:
        return sum(ray.get(refs))

    before = len(current().core.table)
    box = ray.put([ray.put(1) for _ in range(10_000)])
    assert ray.get(count.remote(ray.get(box))) == 10_000
    assert ray.get([count.remote(ray.get(box)[:500]) for _ in range(3)]) == [500] * 3
    del box
    gc.collect()
    _until(lambda: f"{len(current().core.table)} objects" if len(current().core.table) > before else "")


# ------------------------------------------------------------------------------------------ all orders
class _References(RuleBasedStateMachine):
    """Handles anywhere, dropped in any order, against a dictionary of what each must still read."""

    actors: list[Any] = []

    def __init__(self) -> None:
        super().__init__()
        self.numbers = iter(range(1, 10_000))
        self.here: dict[int, Any] = {}  # number -> a reference in the driver
        self.views: dict[int, Any] = {}
        self.there: dict[tuple[int, int], int] = {}  # (actor, number) -> number

    @rule()
    def put(self) -> None:
        number = next(self.numbers)
        self.here[number] = _array(float(number))

    @rule(which=st.integers(0, 1))
    def put_there(self, which: int) -> None:
        number = next(self.numbers)
        ray.get(self.actors[which].make.remote(number, float(number)))
        self.there[which, number] = number

    @rule()
    def result_of_a_task(self) -> None:
        number = next(self.numbers)
        self.here[number] = _full.remote(float(number))

    @precondition(lambda self: self.here)
    @rule(data=st.data(), which=st.integers(0, 1), shape=st.integers(0, 2))
    def lend(self, data: Any, which: int, shape: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.here)))
        ref = self.here[number]
        ray.get(self.actors[which].keep.remote(number, ([ref], {"k": [ref]}, ref)[shape]))
        self.there[which, number] = number

    @precondition(lambda self: self.there)
    @rule(data=st.data())
    def pass_on(self, data: Any) -> None:
        which, number = data.draw(st.sampled_from(sorted(self.there)))
        ray.get(self.actors[which].pass_on.remote(self.actors[1 - which], number))
        self.there[1 - which, number] = number

    @precondition(lambda self: self.there)
    @rule(data=st.data())
    def fetch_back(self, data: Any) -> None:
        which, number = data.draw(st.sampled_from(sorted(self.there)))
        found = ray.get(self.actors[which].give.remote(number))
        while isinstance(found, (list, dict)):
            found = next(iter(found.values())) if isinstance(found, dict) else found[0]
        if isinstance(found, ray.ObjectRef):
            self.here[number] = found
        else:
            self.views[number] = found

    @precondition(lambda self: self.here)
    @rule(data=st.data())
    def view(self, data: Any) -> None:
        number = data.draw(st.sampled_from(sorted(self.here)))
        self.views[number] = ray.get(self.here[number])[100:200].view(np.int64)

    @precondition(lambda self: self.here)
    @rule(data=st.data())
    def drop_here(self, data: Any) -> None:
        del self.here[data.draw(st.sampled_from(sorted(self.here)))]

    @precondition(lambda self: self.there)
    @rule(data=st.data())
    def drop_there(self, data: Any) -> None:
        which, number = data.draw(st.sampled_from(sorted(self.there)))
        self.actors[which].drop.remote(number)
        del self.there[which, number]

    @rule()
    def churn(self) -> None:
        _churn()

    @invariant()
    def views_are_whole(self) -> None:
        for number, view in self.views.items():
            assert (view.view(np.float64) == number).all()

    def teardown(self) -> None:
        for number in self.here:
            assert (ray.get(self.here[number], timeout=30) == number).all()
        for which, number in self.there:
            assert ray.get(self.actors[which].sum.remote(number), timeout=30) == number
        for which, number in self.there:
            self.actors[which].drop.remote(number)
        self.here.clear()
        self.views.clear()
        self.there.clear()
        gc.collect()
        _nothing_left(*self.actors)


@ray.remote
def _full(number: float) -> Any:
    return np.full(LENGTH, number)


def test_handles_dropped_in_any_order_free_each_object_once_and_in_time(holders: list[Any]) -> None:
    _References.actors = holders
    run_state_machine_as_test(
        _References,
        settings=settings(
            max_examples=15,
            stateful_step_count=25,
            deadline=None,
            phases=[Phase.generate],  # what one example leaks is there in the next: shrinking would mislead
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
    _References.actors = []


# Last: exported functions stay as long as the cluster, and what they captured with them.
def test_a_reference_in_a_closure_lives_with_the_function() -> None:
    def reader(ref: Any) -> Any:
        @ray.remote
        def read() -> float:
            return float(ray.get(ref)[0])

        return read

    read = reader(_array(9.0))
    assert ray.get(read.remote()) == 9.0
    gc.collect()
    _churn()
    assert ray.get([read.remote() for _ in range(4)]) == [9.0] * 4


@pytest.mark.parametrize("kind", ["ordered", "threaded", "async"])
def test_a_reference_that_comes_home_in_an_answer_is_not_overtaken_by_the_drop_of_its_borrower(
    kind: str,
) -> None:
    class Hub:
        def __init__(self) -> None:
            self.box: dict[Any, Any] = {}

        def keep(self, key: int, boxed: list[Any]) -> None:
            self.box[key] = boxed

        def give(self, key: int) -> list[Any]:
            return self.box.pop(
                key
            )  # the last handle here goes with this answer, which may wait for its frame

    class AsyncHub(Hub):
        async def keep(self, key: int, boxed: list[Any]) -> None:
            self.box[key] = boxed

        async def give(self, key: int) -> list[Any]:
            return self.box.pop(key)

    cls = ray.remote(AsyncHub if kind == "async" else Hub)
    hub = cls.options(max_concurrency=4).remote() if kind == "threaded" else cls.remote()
    for key in range(300):
        ref = ray.put([key])
        ray.get(hub.keep.remote(key, [ref]))
        del ref
        (home,) = ray.get(hub.give.remote(key))
        assert ray.get(home) == [key]
