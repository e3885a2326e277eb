"""Workers die at random while a program runs that promised to try again: it never notices."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minray.engine.seam import current

pytestmark = [pytest.mark.cluster, pytest.mark.chaos, pytest.mark.slow]

SECONDS = 5.0


def _workers() -> list[int]:
    return [row["pid"] for row in current().ask("state")["workers"] if row["pid"] > 1]


class _Killer:
    """kill -9 of a random worker, or of what `choose` finds, every now and then."""

    def __init__(self, dice: random.Random, choose: Callable[[], list[int]] = _workers) -> None:
        self.kills = 0
        self._dice = dice
        self._choose = choose
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.wait(self._dice.uniform(0.02, 0.25)):
            pids = self._choose()
            if pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._dice.choice(pids), signal.SIGKILL)
                    self.kills += 1

    def __enter__(self) -> _Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def _all_is_well_again(ray: Any) -> None:
    core = current().core
    give_up = time.monotonic() + 20
    while True:
        gc.collect()
        left = (
            {number: ref.task for number, ref in core.table.items() if ref.task is not None},
            [lease.in_flight for lease in core.leases_by_id.values() if lease.in_flight],
            core.held,
            core.awaiting_cause,
            core.store.arena.live_bytes(),
            ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"],
        )
        if not any(left):
            return
        assert time.monotonic() < give_up, left
        time.sleep(0.02)


def test_a_program_that_may_retry_never_notices_its_workers_deaths(cluster_of: Callable[..., Any]) -> None:
    ray = cluster_of(num_cpus=4)
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    dice = random.Random(seed)

    @ray.remote(max_retries=-1)
    def double(x: int) -> int:
        return 2 * x

    @ray.remote(max_retries=-1)
    def slow(x: int) -> int:
        time.sleep(0.02)
        return x

    @ray.remote(max_retries=-1)
    def total(array: Any, extra: int) -> float:
        return float(array.sum()) + extra

    @ray.remote(max_retries=-1, num_returns=2)
    def large(x: int) -> tuple[int, Any]:
        return x, np.full(50_000, float(x))

    ended = time.monotonic() + SECONDS
    rounds = 0
    with _Killer(dice) as killer:
        while time.monotonic() < ended or killer.kills < 10:
            rounds += 1
            x = dice.randrange(1000)
            array = ray.put(np.full(50_000, 1.0))
            refs = [double.remote(x) for _ in range(200)]
            refs += [slow.remote(x) for _ in range(8)]
            refs += [total.remote(array, double.remote(x)) for _ in range(4)]
            values = ray.get(refs, timeout=60)
            assert values[:200] == [2 * x] * 200
            assert values[200:208] == [x] * 8
            assert values[208:] == [50_000.0 + 2 * x] * 4
            pairs = [large.remote(i) for i in range(3)]
            assert ray.get([one for one, _ in pairs], timeout=60) == [0, 1, 2]
            for i, (_, ref) in enumerate(pairs):
                # The value may lie in the memory of a worker that is dead by now: it must still be whole.
                assert (ray.get(ref, timeout=60) == i).all()
            del array, refs, pairs, values, ref, _
    print(f"{killer.kills} kills, {rounds} rounds")
    _all_is_well_again(ray)
    assert ray.get([double.remote(x) for x in range(1000)]) == [2 * x for x in range(1000)]


def test_nested_tasks_survive_deaths_anywhere_in_the_tree(cluster_of: Callable[..., Any]) -> None:
    ray = cluster_of(num_cpus=2)
    dice = random.Random(random.randrange(10**9))

    @ray.remote(max_retries=-1, retry_exceptions=True)
    def tree(depth: int) -> int:
        if depth == 0:
            time.sleep(0.002)
            return 1
        return sum(ray.get([tree.remote(depth - 1), tree.remote(depth - 1)]))

    ended = time.monotonic() + SECONDS
    with _Killer(dice) as killer:
        while time.monotonic() < ended or killer.kills < 5:
            assert ray.get(tree.remote(3), timeout=90) == 8
    _all_is_well_again(ray)


def test_actors_that_may_restart_answer_every_call(cluster_of: Callable[..., Any]) -> None:
    ray = cluster_of(num_cpus=2)
    dice = random.Random(random.randrange(10**9))

    @ray.remote(max_restarts=-1, max_task_retries=-1)
    class Echo:
        def say(self, x: Any) -> Any:
            return x

    actors = [Echo.remote() for _ in range(3)]
    ended = time.monotonic() + SECONDS
    with _Killer(dice) as killer:
        while time.monotonic() < ended or killer.kills < 10:
            refs = [actor.say.remote(x) for x in range(100) for actor in actors]
            assert ray.get(refs, timeout=60) == [x for x in range(100) for _ in actors]
            box = ray.put(np.ones(30_000))
            assert [
                float(v.sum()) for v in ray.get([actor.say.remote(box) for actor in actors], timeout=60)
            ] == [30_000.0] * 3
            del box, refs
    _all_is_well_again(ray)


def test_calls_without_retries_are_answered_or_fail_and_run_at_most_once(
    cluster_of: Callable[..., Any], tmp_path: Any
) -> None:
    ray = cluster_of(num_cpus=3)
    dice = random.Random(random.randrange(10**9))

    @ray.remote(max_retries=0)
    def once(path: str) -> str:
        with open(path, "a") as file:
            file.write("x")
        return path

    lost = made = 0
    ended = time.monotonic() + SECONDS
    with _Killer(dice) as killer:
        while time.monotonic() < ended or killer.kills < 5:
            refs = {
                str(tmp_path / f"{made + i}"): once.remote(str(tmp_path / f"{made + i}")) for i in range(100)
            }
            made += 100
            for path, ref in refs.items():
                try:
                    assert ray.get(ref, timeout=60) == path
                    assert os.path.getsize(path) == 1
                except ray.exceptions.WorkerCrashedError:
                    lost += 1
                    assert not os.path.exists(path) or os.path.getsize(path) <= 1
            del refs, ref
    print(f"{killer.kills} kills, {lost} of {made} lost")
    assert lost <= killer.kills
    _all_is_well_again(ray)
