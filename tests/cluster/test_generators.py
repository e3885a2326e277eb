"""Items of a generator arrive at once and in order, none twice, none lost, and nothing of them stays behind."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minray as ray
from minray.base import events as ev
from minray.engine.seam import current
from minray.exceptions import (
    ActorUnavailableError,
    RaySystemError,
    RayTaskError,
    StreamingGeneratorReplayInconsistentError,
)

pytestmark = [pytest.mark.cluster]

LARGE = 50_000  # of float64: beyond the inline limit, so a block of the arena


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    ray.init(num_cpus=4, object_store_memory=96 << 20)
    yield
    ray.shutdown()


def until(true: Callable[[], Any]) -> None:
    """Poll until `true()`."""
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, "did not come true within 30 s"
        time.sleep(0.01)


def at_rest() -> bool:
    """Nothing of any generator is left in this process."""
    gc.collect()
    core = current().core  # type: ignore[attr-defined]
    return not core.streams and not core.table and not core.handing_out and not core.held


@ray.remote
class Source:
    """An actor with methods that yield."""

    def large(self, n: int, mark: str = "") -> Iterator[Any]:
        for item in range(n):
            yield np.full(LARGE, item)
        if mark:
            Path(mark).touch()

    def live_bytes(self) -> int:
        core = current().core  # type: ignore[attr-defined]
        core._collect()
        return int(core.store.arena.live_bytes())

    def endless(self, mark: str, pid: str = "") -> Iterator[int]:
        item = 0
        try:
            while True:
                yield item
                item += 1
        finally:
            Path(mark).touch()

    def pid(self) -> int:
        return os.getpid()


# ---------------------------------------------------------------- promptness
def test_items_of_a_burst_are_seen_although_the_generator_sleeps_after_it(tmp_path: Path) -> None:
    @ray.remote
    def burst(gate: str) -> Iterator[int]:
        yield from range(50)
        while not os.path.exists(gate):
            time.sleep(0.01)
        yield 50

    gate = tmp_path / "gate"
    gen = burst.remote(str(gate))
    assert [ray.get(next(gen)) for _ in range(50)] == list(range(50))
    assert not gen.next_ready()
    gate.touch()
    assert [ray.get(ref) for ref in gen] == [50]


def test_many_items_keep_their_order() -> None:
    @ray.remote
    def mixed(n: int) -> Iterator[Any]:
        for item in range(n):
            yield item if item % 3 else (item, b"x" * (item % 7000)) if item % 2 else "s" * (item % 5000)

    for item, ref in enumerate(mixed.remote(5000)):
        value = ray.get(ref)
        expected = item if item % 3 else (item, b"x" * (item % 7000)) if item % 2 else "s" * (item % 5000)
        assert value == expected
    assert item == 4999


def test_output_of_a_generator_comes_before_its_item(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    @ray.remote
    def talks(gate: str) -> Iterator[int]:
        print("said before the item")
        yield 1
        while not os.path.exists(gate):
            time.sleep(0.01)

    gate = tmp_path / "gate"
    gen = talks.remote(str(gate))
    next(gen)
    until(lambda: "said before the item" in capfd.readouterr().out)
    gate.touch()
    assert list(gen) == []


# ---------------------------------------------------------------- memory
def test_dropped_generators_leave_no_memory_behind(tmp_path: Path) -> None:
    source = Source.remote()
    assert ray.get(source.live_bytes.remote()) == 0
    gen = source.large.remote(100, str(tmp_path / "end"))  # 40 MB each time, in a store of 96
    assert ray.get(next(gen))[0] == 0
    del gen
    until((tmp_path / "end").exists)
    for _ in range(3):
        first = next(source.large.remote(60))
        assert ray.get(first)[0] == 0
        del first
    until(lambda: ray.get(source.live_bytes.remote()) == 0)
    until(at_rest)


def test_items_taken_and_dropped_leave_no_memory_behind() -> None:
    source = Source.remote()
    gen = source.large.options(_generator_backpressure_num_objects=10).remote(400)  # 160 MB
    assert [int(ray.get(ref)[0]) for ref in gen] == list(range(400))
    del gen
    until(lambda: ray.get(source.live_bytes.remote()) == 0)
    until(at_rest)


def test_references_inside_items_are_counted() -> None:
    @ray.remote
    def boxes(mine: Any, n: int) -> Iterator[Any]:
        for item in range(n):
            yield [ray.put(np.full(LARGE, item)), mine, {"again": ray.put(item)}]

    @ray.remote
    def owner() -> list[Any]:
        return [ray.put(np.ones(LARGE))]

    mine, (theirs,) = ray.put("mine"), ray.get(owner.remote())
    for third in (mine, theirs):
        kept = [ray.get(ref) for ref in boxes.remote([third], 5)]
        for item, (large, held, small) in enumerate(kept):
            assert ray.get(large)[0] == item and ray.get(small["again"]) == item
            assert ray.get(held[0]) is not None
    del kept, large, held, small, third, mine, theirs
    until(at_rest)


# ---------------------------------------------------------------- backpressure
def test_a_producer_that_waits_lends_its_cpu_to_its_consumers() -> None:
    @ray.remote(num_cpus=4, _generator_backpressure_num_objects=1)
    def produce(n: int) -> Iterator[int]:
        yield from range(n)

    @ray.remote(num_cpus=4)
    def consume(item: int) -> int:
        return item + 100

    assert [ray.get(consume.remote(ref)) for ref in produce.remote(4)] == [100, 101, 102, 103]


def test_an_actors_window_holds_all_its_generators_together(tmp_path: Path) -> None:
    class Bounded:
        def __init__(self) -> None:
            self.made = 0

        async def count(self, n: int) -> AsyncIterator[int]:
            for item in range(n):
                self.made += 1
                yield item

        async def so_far(self) -> int:
            return self.made

    actor = ray.remote(_actor_generator_backpressure_num_objects=6)(Bounded).remote()
    first, second = actor.count.remote(50), actor.count.remote(50)
    until(lambda: ray.get(actor.so_far.remote()) >= 6)
    time.sleep(0.2)
    assert ray.get(actor.so_far.remote()) <= 7, "each may have one in hand when the window closes"
    assert [ray.get(ref) for ref in first] == list(range(50))
    assert [ray.get(ref) for ref in second] == list(range(50))


def test_two_generators_feed_each_other_through_narrow_windows() -> None:
    @ray.remote(num_cpus=1, _generator_backpressure_num_objects=1)
    def count(n: int) -> Iterator[int]:
        yield from range(n)

    @ray.remote(num_cpus=1, _generator_backpressure_num_objects=2)
    def relay(depth: int, n: int) -> Iterator[int]:
        source = relay.remote(depth - 1, n) if depth else count.remote(n)
        for ref in source:
            yield ray.get(ref) + 1

    assert [ray.get(ref) for ref in relay.remote(5, 20)] == list(range(6, 26))


# ---------------------------------------------------------------- deaths
def test_a_stream_whose_workers_are_killed_at_random_arrives_whole() -> None:
    @ray.remote(max_retries=-1)
    def count(n: int) -> Iterator[Any]:
        for item in range(n):
            yield (item, os.getpid()) if item % 10 else (item, os.getpid(), np.full(LARGE, item))

    dice = random.Random(4)
    for window in (-1, 1, 7):
        gen = count.options(_generator_backpressure_num_objects=window).remote(200)
        kills = sorted(dice.sample(range(200), 3))
        for item, ref in enumerate(gen):
            got = ray.get(ref)
            assert got[0] == item
            if item % 10 == 0:
                assert got[2][0] == item
            if item in kills:
                try:
                    os.kill(got[1], signal.SIGKILL)
                except ProcessLookupError:
                    pass  # killed before, its items arrived
            del got, ref
        assert item == 199
        del gen
    until(at_rest)


def test_a_crash_behind_an_answer_not_sent_yet_delivers_nothing_twice(tmp_path: Path) -> None:
    @ray.remote(num_cpus=4, max_retries=3)
    def two(mark: str = "") -> Iterator[int]:
        yield 1
        if mark and not os.path.exists(mark):
            Path(mark).touch()
            os._exit(1)
        yield 2

    for gen in [two.remote() for _ in range(50)]:  # known to be fast: answers share frames
        assert len(list(gen)) == 2
    for round_ in range(5):
        gens = [two.remote(), two.remote(str(tmp_path / str(round_))), two.remote()]
        assert [[ray.get(ref) for ref in gen] for gen in gens] == [[1, 2]] * 3


def test_calls_of_a_restarted_actor_go_on_where_they_were(tmp_path: Path) -> None:
    class Fragile:
        def count(self, n: int, mark: str) -> Iterator[int]:
            for item in range(n):
                if item == 5 and not os.path.exists(mark):
                    Path(mark).touch()
                    time.sleep(0.1)
                    os._exit(1)
                yield item

    actor = ray.remote(max_restarts=1, max_task_retries=1)(Fragile).remote()
    assert [ray.get(ref) for ref in actor.count.remote(9, str(tmp_path / "a"))] == list(range(9))
    actor = ray.remote(max_restarts=1)(Fragile).remote()
    gen = actor.count.remote(9, str(tmp_path / "b"))
    assert [ray.get(next(gen)) for _ in range(5)] == list(range(5))
    with pytest.raises(ActorUnavailableError):
        ray.get(next(gen))
    with pytest.raises(StopIteration):
        next(gen)


def test_a_method_that_fails_and_then_dies_goes_on_where_it_was_each_time(tmp_path: Path) -> None:
    class Unlucky:
        @ray.method(retry_exceptions=True)
        def count(self, n: int, folder: str) -> Iterator[int]:
            runs = len(list(Path(folder).iterdir()))
            (Path(folder) / str(runs)).touch()
            for item in range(n):
                if item == 3 and runs == 0:
                    raise OSError("once")
                if item == 6 and runs == 1:
                    os._exit(1)
                yield item

    actor = ray.remote(max_restarts=1, max_task_retries=4)(Unlucky).remote()
    gen = actor.count.remote(9, str(tmp_path))
    assert [ray.get(ref) for ref in gen] == list(range(9))
    assert len(list(tmp_path.iterdir())) == 3


def test_a_replay_that_yields_less_says_so(tmp_path: Path) -> None:
    @ray.remote(max_retries=1)
    def shrinks(mark: str) -> Iterator[int]:
        if os.path.exists(mark):
            yield 0
            return
        Path(mark).touch()
        yield from range(3)
        time.sleep(0.1)
        os._exit(1)

    gen = shrinks.remote(str(tmp_path / "mark"))
    assert [ray.get(next(gen)) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(RayTaskError) as caught:
        ray.get(next(gen))
    assert isinstance(caught.value.cause, StreamingGeneratorReplayInconsistentError)


def test_a_generator_is_closed_when_its_consumer_is_dead(tmp_path: Path) -> None:
    source = Source.remote()

    @ray.remote(max_retries=0)
    def consume(source: Any, mark: str) -> None:
        gen = source.endless.options(_generator_backpressure_num_objects=5).remote(mark)
        next(gen)
        os._exit(1)

    ref = consume.remote(source, str(tmp_path / "closed"))
    until((tmp_path / "closed").exists)
    assert isinstance(ray.get(source.pid.remote()), int), "and the actor goes on"
    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(ref)


# ---------------------------------------------------------------- kinds
def test_an_async_generator_is_a_task_too() -> None:
    @ray.remote
    async def slowly(n: int) -> AsyncIterator[int]:
        for item in range(n):
            await asyncio.sleep(0.001)
            yield item

    assert [ray.get(ref) for ref in slowly.remote(4)] == [0, 1, 2, 3]
    assert ray.get(slowly.options(num_returns=2).remote(2)) == [0, 1]


def test_generators_run_in_concurrency_groups_and_threads() -> None:
    class Grouped:
        @ray.method(concurrency_group="io")
        async def count(self, n: int) -> AsyncIterator[int]:
            for item in range(n):
                await asyncio.sleep(0)
                yield item

        def plain(self, n: int) -> Iterator[int]:
            yield from range(n)

    grouped = ray.remote(concurrency_groups={"io": 3})(Grouped).remote()
    gens = [grouped.count.options(_generator_backpressure_num_objects=2).remote(30) for _ in range(3)]
    gens += [grouped.plain.options(_generator_backpressure_num_objects=2).remote(30) for _ in range(2)]
    found: list[list[int]] = [[] for _ in gens]
    for _ in range(30):
        for gen, values in zip(gens, found, strict=True):
            values.append(ray.get(next(gen)))
    assert found == [list(range(30))] * 5
    assert [list(gen) for gen in gens] == [[]] * 5


def test_threads_of_a_driver_consume_side_by_side() -> None:
    @ray.remote
    def count(n: int) -> Iterator[int]:
        yield from range(n)

    sums: list[int] = []
    threads = [
        threading.Thread(target=lambda: sums.append(sum(ray.get(ref) for ref in count.remote(2000))))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sums == [sum(range(2000))] * 3


def test_several_values_and_a_failure_are_tried_again_as_a_whole(tmp_path: Path) -> None:
    @ray.remote(num_returns=3, max_retries=1, retry_exceptions=True)
    def fails_once(mark: str) -> Iterator[int]:
        yield 1
        if not os.path.exists(mark):
            Path(mark).touch()
            raise OSError("once")
        yield 2
        yield 3

    assert ray.get(fails_once.remote(str(tmp_path / "mark"))) == [1, 2, 3]


def test_an_async_generator_that_never_awaits_lets_others_run(tmp_path: Path) -> None:
    class Greedy:
        def __init__(self) -> None:
            self.going = True

        async def endless(self) -> AsyncIterator[int]:
            while self.going:
                yield 1

        def plainly(self) -> Iterator[int]:
            while self.going:
                yield 1

        async def stop(self) -> str:
            self.going = False
            return "stopped"

    for name in ("endless", "plainly"):
        greedy = ray.remote(Greedy).remote()
        gen = getattr(greedy, name).remote()
        next(gen)
        assert ray.get(greedy.stop.remote(), timeout=60) == "stopped"
        assert all(ray.get(ref) == 1 for ref in gen)


def test_ctrl_c_ends_the_wait_for_an_item_and_nothing_else(tmp_path: Path) -> None:
    @ray.remote
    def gated(gate: str) -> Iterator[int]:
        yield 1
        while not os.path.exists(gate):
            time.sleep(0.01)
        yield 2

    gate = tmp_path / "gate"
    gen = gated.remote(str(gate))
    assert ray.get(next(gen)) == 1
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        next(gen)
    gate.touch()
    assert [ray.get(ref) for ref in gen] == [2]


# ---------------------------------------------------------------- what is told
def test_the_events_of_a_generator_end_with_its_last_item() -> None:
    @ray.remote
    def told() -> Iterator[int]:
        yield 1
        time.sleep(0.05)
        yield 2

    @ray.remote(max_retries=0)
    def fails() -> Iterator[int]:
        yield 1
        raise ValueError("told")

    before = current().events_ahead(0)[0]
    assert len(list(told.remote())) == 2 and len(list(fails.remote())) == 2
    ended: dict[str, ev.TaskFinished] = {}
    submitted: set[str] = set()

    def both() -> bool:
        nonlocal before
        page = current().events(before)
        before = page.cursor
        submitted.update(one.name for one in page.events if isinstance(one, ev.TaskSubmitted))
        ended.update({one.name: one for one in page.events if isinstance(one, ev.TaskFinished)})
        return len(ended) == 2

    until(both)
    good = next(
        one for name, one in ended.items() if "told" in name and "fails" not in name.rsplit(".", 1)[-1]
    )
    bad = next(one for name, one in ended.items() if name.endswith("fails"))
    assert good.outcome == "ok" and good.time_s - good.started_s >= 0.04
    assert bad.outcome == "error" and "told" in bad.error
    assert set(ended) <= submitted


def test_looking_without_waiting_reads_what_has_come() -> None:
    @ray.remote
    def count(n: int) -> Iterator[int]:
        yield from range(n)

    gen = count.remote(3)
    found: list[int] = []
    deadline = time.monotonic() + 30
    while len(found) < 3 and time.monotonic() < deadline:
        ref = gen._next_sync(timeout_s=0)
        if not ref.is_nil():
            found.append(ray.get(ref))
    assert found == [0, 1, 2]
    while not gen.is_finished():
        assert time.monotonic() < deadline


def test_the_nil_reference_has_no_value_and_says_so() -> None:
    nil = ray.ObjectRef.nil()
    assert nil.is_nil() and nil.hex() == "f" * 56 and not ray.put(1).is_nil()
    with pytest.raises(ValueError, match="nil"):
        ray.get(nil)


def test_a_generator_of_a_cluster_that_is_gone_says_so() -> None:
    """Last: it ends the module's cluster."""

    @ray.remote
    def slow() -> Iterator[int]:
        yield 1
        time.sleep(60)

    gen = slow.remote()
    next(gen)
    ray.shutdown()
    with pytest.raises(RaySystemError, match="shut down"):
        next(gen)
    del gen
