"""Do generator tasks and methods behave as Ray's: items while the task runs, failures, backpressure, refusals?"""
# ruff: noqa: UP028  (Ray's executor sends into the generator, so `yield from range(n)` fails there)

from __future__ import annotations

import asyncio
import importlib
import os
import pickle
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ray: Any = importlib.import_module(os.environ.get("MINRAY_PARITY_ENGINE", "minray"))

pytestmark = pytest.mark.usefixtures("cluster")


def values(refs: Iterable[Any]) -> list[Any]:
    """The values of the references; of one that raises, the classes of its cause."""
    found: list[Any] = []
    for ref in refs:
        try:
            found.append(ray.get(ref))
        except ray.exceptions.RayTaskError as error:
            found.append(type(error.cause))
        except ray.exceptions.RayError as error:
            found.append(type(error))
    return found


def until(true: Callable[[], Any]) -> None:
    """Poll until `true()`."""
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, "did not come true within 30 s"
        time.sleep(0.02)


def counting(**options: Any) -> Any:
    """A remote generator of 0, 1, .. n - 1."""

    def count(n: int) -> Iterator[int]:
        for item in range(n):
            yield item

    return ray.remote(**options)(count) if options else ray.remote(count)


def failing() -> Any:
    """A remote generator that fails after n items."""

    @ray.remote(max_retries=0)
    def fail(n: int) -> Iterator[int]:
        for item in range(n):
            yield item
        raise ValueError("midway")

    return fail


# ---------------------------------------------------------------- the plain case
def test_a_generator_function_streams_by_default() -> None:
    gen = counting().remote(3)
    assert type(gen) is ray.ObjectRefGenerator
    refs = list(gen)
    assert all(isinstance(ref, ray.ObjectRef) for ref in refs)
    assert ray.get(refs) == [0, 1, 2]


def test_streaming_may_be_named() -> None:
    assert values(counting(num_returns="streaming").remote(2)) == [0, 1]
    assert values(counting().options(num_returns="streaming").remote(2)) == [0, 1]


def test_an_empty_generator_ends_at_once() -> None:
    assert list(counting().remote(0)) == []


def test_after_the_last_item_next_raises_stop_iteration_again_and_again() -> None:
    gen = counting().remote(1)
    next(gen)
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(gen)


def test_items_come_while_the_task_runs(tmp_path: Path) -> None:
    @ray.remote
    def one_by_one(gate: str) -> Iterator[str]:
        yield "first"
        while not os.path.exists(gate):
            time.sleep(0.01)
        yield "second"

    gate = tmp_path / "gate"
    gen = one_by_one.remote(str(gate))
    assert ray.get(next(gen)) == "first"
    gate.touch()
    assert values(gen) == ["second"]


def test_large_items_and_items_that_hold_references_arrive() -> None:
    @ray.remote
    def make() -> Iterator[Any]:
        yield np.arange(300_000)
        yield [ray.put("inner"), ray.put(np.ones(300_000))]
        yield {"small": (1, 2)}

    large, nested, small = list(make.remote())
    assert int(ray.get(large).sum()) == sum(range(300_000))
    inner, array = ray.get(nested)
    assert ray.get(inner) == "inner" and float(ray.get(array).sum()) == 300_000
    assert ray.get(small) == {"small": (1, 2)}


def test_an_item_is_an_argument_like_any_reference() -> None:
    @ray.remote
    def double(x: int) -> int:
        return 2 * x

    gen = counting().remote(4)
    assert ray.get([double.remote(ref) for ref in gen]) == [0, 2, 4, 6]


def test_what_a_generator_returns_is_ignored() -> None:
    @ray.remote
    def ends_with_a_value() -> Any:
        yield 1
        return 99

    gen = ends_with_a_value.remote()
    assert values(gen) == [1] and ray.get(gen.completed()) is None


def test_arguments_may_be_references() -> None:
    assert values(counting().remote(ray.put(2))) == [0, 1]


def test_a_task_may_consume_the_generator_of_another() -> None:
    count = counting()

    @ray.remote
    def total(n: int) -> int:
        return sum(ray.get(ref) for ref in count.remote(n))

    assert ray.get(total.remote(5)) == 10


def test_a_generator_may_yield_what_another_yields() -> None:
    count = counting()

    @ray.remote
    def relay(n: int) -> Iterator[int]:
        for ref in count.remote(n):
            yield ray.get(ref) + 100

    assert values(relay.remote(3)) == [100, 101, 102]


# ---------------------------------------------------------------- failures
def test_a_failure_midway_is_one_more_reference_and_then_the_end() -> None:
    gen = failing().remote(2)
    assert [ray.get(next(gen)), ray.get(next(gen))] == [0, 1]
    last = next(gen)
    with pytest.raises(ValueError, match="midway"):
        ray.get(last)
    with pytest.raises(StopIteration):
        next(gen)
    assert ray.get(gen.completed()) is None


def test_an_item_that_cannot_be_pickled_fails_the_generator() -> None:
    @ray.remote(max_retries=0)
    def unpicklable() -> Iterator[Any]:
        import threading

        yield 1
        yield threading.Lock()
        yield 3

    assert values(unpicklable.remote()) == [1, TypeError]


def test_a_failed_argument_fails_the_generator_before_it_begins() -> None:
    @ray.remote(max_retries=0)
    def bad() -> int:
        raise KeyError("argument")

    gen = counting().remote(bad.remote())
    assert values(gen) == [KeyError]
    with pytest.raises(KeyError):
        ray.get(gen.completed())


def test_a_worker_that_dies_midway_is_replayed_without_a_second_delivery(tmp_path: Path) -> None:
    @ray.remote(max_retries=1)
    def dies_once(mark: str) -> Iterator[int]:
        for item in range(6):
            if item == 3 and not os.path.exists(mark):
                open(mark, "w").close()
                time.sleep(0.3)
                os._exit(1)
            yield item

    assert values(dies_once.remote(str(tmp_path / "mark"))) == [0, 1, 2, 3, 4, 5]


def test_a_worker_that_dies_for_good_is_the_last_reference() -> None:
    @ray.remote(max_retries=0)
    def dies() -> Iterator[int]:
        yield 0
        time.sleep(0.3)
        os._exit(1)

    gen = dies.remote()
    assert values(gen) == [0, ray.exceptions.WorkerCrashedError]
    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(gen.completed())
    assert gen.is_finished()


@pytest.mark.parametrize("kind", ["streaming", "dynamic"])
def test_retry_exceptions_replays_a_generator(tmp_path: Path, kind: str) -> None:
    def fails_once(mark: str) -> Iterator[int]:
        for item in range(4):
            if item == 2 and not os.path.exists(mark):
                open(mark, "w").close()
                raise OSError("once")
            yield item

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        remote = ray.remote(max_retries=1, retry_exceptions=[OSError], num_returns=kind)(fails_once)
    made = remote.remote(str(tmp_path / "mark"))
    assert values(made if kind == "streaming" else ray.get(made)) == [0, 1, 2, 3]


# ---------------------------------------------------------------- looking at a generator
def test_completed_is_ready_when_the_task_has_ended() -> None:
    gen = counting().remote(2)
    assert isinstance(gen.completed(), ray.ObjectRef)
    assert ray.get(gen.completed()) is None
    assert gen.next_ready() and not gen.is_finished()
    assert values(gen) == [0, 1]
    assert gen.is_finished() and not gen.next_ready()


def test_next_ready_tells_whether_next_would_wait(tmp_path: Path) -> None:
    @ray.remote
    def gated(gate: str) -> Iterator[int]:
        yield 1
        while not os.path.exists(gate):
            time.sleep(0.01)

    gen = gated.remote(str(tmp_path / "gate"))
    next(gen)
    assert not gen.next_ready() and not gen.is_finished()
    (tmp_path / "gate").touch()
    until(gen.is_finished)


def test_wait_takes_generators_beside_references(tmp_path: Path) -> None:
    @ray.remote
    def gated(gate: str) -> Iterator[int]:
        while not os.path.exists(gate):
            time.sleep(0.01)
        yield 1

    gen, ref = gated.remote(str(tmp_path / "gate")), ray.put(1)
    assert ray.wait([gen], timeout=0.2) == ([], [gen])
    assert ray.wait([gen, ref], timeout=30) == ([ref], [gen])
    (tmp_path / "gate").touch()
    assert ray.wait([gen], timeout=30) == ([gen], [])
    assert values(gen) == [1]
    assert ray.wait([gen], timeout=30) == ([gen], []), "at its end, too: next does not wait"


def test_get_hands_a_generator_back_and_refuses_a_list_of_them() -> None:
    gen = counting().remote(1)
    assert ray.get(gen) is gen
    with pytest.raises(TypeError):
        ray.get([gen])
    with pytest.raises(TypeError):
        ray.wait(gen)
    assert values(gen) == [0]


def test_a_generator_cannot_be_passed_or_pickled() -> None:
    gen = counting().remote(1)
    with pytest.raises(TypeError, match="generator"):
        pickle.dumps(gen)
    with pytest.raises(TypeError):
        counting().remote(gen)
    with pytest.raises(TypeError):
        ray.put(gen)
    assert values(gen) == [0]


def test_send_throw_and_close_are_refused() -> None:
    gen = counting().remote(1)
    for refused in (lambda: gen.send(1), lambda: gen.throw(ValueError()), gen.close):
        with pytest.raises(NotImplementedError):
            refused()
    assert values(gen) == [0]


def test_next_sync_gives_the_nil_reference_when_nothing_comes_in_time(tmp_path: Path) -> None:
    @ray.remote
    def gated(gate: str) -> Iterator[int]:
        while not os.path.exists(gate):
            time.sleep(0.01)
        yield 1

    gen = gated.remote(str(tmp_path / "gate"))
    assert gen._next_sync(timeout_s=0.1).is_nil()
    assert ray.ObjectRef.nil() == gen._next_sync(timeout_s=0)
    (tmp_path / "gate").touch()
    assert ray.get(gen._next_sync(timeout_s=30)) == 1


def test_generators_are_consumed_in_coroutines() -> None:
    count = counting()

    async def consume(n: int) -> list[int]:
        return [await ref async for ref in count.remote(n)]

    async def both() -> list[list[int]]:
        return list(await asyncio.gather(consume(3), consume(4)))

    assert asyncio.run(both()) == [[0, 1, 2], [0, 1, 2, 3]]


# ---------------------------------------------------------------- num_returns
def test_dynamic_is_one_reference_whose_value_is_a_collection_of_references() -> None:
    count = counting()
    with pytest.warns(DeprecationWarning, match="dynamic"):
        dynamic = count.options(num_returns="dynamic")
    ref = dynamic.remote(3)
    assert isinstance(ref, ray.ObjectRef)
    found = ray.get(ref)
    assert isinstance(found, ray.DynamicObjectRefGenerator) and len(found) == 3
    assert values(found) == [0, 1, 2]
    assert len(found) == 0, "each reference is handed out once"
    assert values(ray.get(ref)) == [0, 1, 2], "but get gives a new collection"


def test_a_dynamic_value_is_read_in_another_task() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        dynamic = counting().options(num_returns="dynamic")

    @ray.remote
    def total(found: Any) -> int:
        return sum(ray.get(ref) for ref in found)

    assert ray.get(total.remote(dynamic.remote(4))) == 6


def test_a_failure_in_a_dynamic_generator_is_its_last_reference() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        ref = failing().options(num_returns="dynamic").remote(2)
    assert values(ray.get(ref)) == [0, 1, ValueError]


def test_a_generator_with_a_number_of_returns_fills_the_references_in_order() -> None:
    assert ray.get(counting().options(num_returns=3).remote(3)) == [0, 1, 2]
    assert counting().options(num_returns=0).remote(3) is None
    assert ray.get(counting().options(num_returns=1).remote(3)) == 0
    assert values(counting().options(num_returns=2).remote(3)) == [0, 1], "more are dropped"


def test_a_generator_with_too_few_returns_fails_only_the_places_not_filled() -> None:
    assert values(counting().options(num_returns=3, max_retries=0).remote(2)) == [0, 1, ValueError]
    assert values(failing().options(num_returns=3).remote(1)) == [0, ValueError, ValueError]


def test_a_function_that_returns_a_generator_object_gives_its_first_item() -> None:
    @ray.remote
    def indirect() -> Any:
        return (item for item in "ab")

    assert ray.get(indirect.remote()) == "a"


def test_items_are_refused_of_functions_that_do_not_yield() -> None:
    @ray.remote
    def plain() -> int:
        return 1

    for kind in ("streaming", "dynamic"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            with pytest.raises(ValueError, match="can only be used with generator functions"):
                plain.options(num_returns=kind)
            with pytest.raises(ValueError, match="can only be used with generator functions"):
                ray.remote(num_returns=kind)(lambda: 1)


def test_each_yield_may_give_several_objects() -> None:
    @ray.remote(_num_objects_per_yield=2)
    def pairs(n: int) -> Iterator[tuple[int, int]]:
        for item in range(n):
            yield item, -item

    assert values(pairs.remote(3)) == [0, 0, 1, -1, 2, -2]
    with pytest.raises(ValueError, match="_num_objects_per_yield cannot be overridden"):
        pairs.options(_num_objects_per_yield=3)

    @ray.remote(_num_objects_per_yield=2, max_retries=0)
    def wrong() -> Iterator[tuple[int, ...]]:
        yield (1,)

    assert values(wrong.remote()) == [ValueError]


# ---------------------------------------------------------------- backpressure
def test_backpressure_holds_the_producer_back_until_items_are_taken(tmp_path: Path) -> None:
    @ray.remote(_generator_backpressure_num_objects=2)
    def noted(folder: str) -> Iterator[int]:
        for item in range(6):
            (Path(folder) / str(item)).touch()
            yield item

    gen = noted.remote(str(tmp_path))

    def made() -> int:
        return len(list(tmp_path.iterdir()))

    until(lambda: made() == 2)
    assert ray.wait([gen], timeout=30)[0], "wait takes nothing"
    time.sleep(0.3)
    assert made() == 2
    assert ray.get(next(gen)) == 0
    until(lambda: made() == 3)
    time.sleep(0.3)
    assert made() == 3
    assert values(gen) == [1, 2, 3, 4, 5]


def test_a_dropped_generator_runs_to_its_end(tmp_path: Path) -> None:
    @ray.remote
    def noted(folder: str) -> Iterator[int]:
        for item in range(6):
            (Path(folder) / str(item)).touch()
            yield item

    gen = noted.options(_generator_backpressure_num_objects=1).remote(str(tmp_path))
    until(lambda: (tmp_path / "0").exists())
    del gen
    until(lambda: (tmp_path / "5").exists())


@pytest.mark.parametrize(("window", "error"), [(0, ValueError), ("2", TypeError)])
def test_an_impossible_window_is_refused(window: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="_generator_backpressure_num_objects"):
        counting().options(_generator_backpressure_num_objects=window)


# ---------------------------------------------------------------- cancel
def test_a_cancelled_generator_ends_with_the_cancellation() -> None:
    @ray.remote
    def slowly() -> Iterator[int]:
        for item in range(600):
            yield item
            time.sleep(0.1)

    gen = slowly.remote()
    assert ray.get(next(gen)) == 0
    ray.cancel(gen)
    *before, last = list(gen)
    assert values(before) == list(range(1, len(before) + 1)) and len(before) < 500
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(last)
    with pytest.raises(StopIteration):
        next(gen)


def test_a_generator_cancelled_by_force_ends_with_the_cancellation() -> None:
    @ray.remote
    def stays() -> Iterator[int]:
        yield 0
        time.sleep(60)

    gen = stays.remote()
    assert ray.get(next(gen)) == 0
    ray.cancel(gen, force=True)
    (last,) = list(gen)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(last)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(gen.completed())


# ---------------------------------------------------------------- methods
def plain_class() -> Any:
    """Nested, so that it travels by value."""

    class Plain:
        """Methods that yield, of an actor that serves one call after the other."""

        def count(self, n: int) -> Iterator[int]:
            for item in range(n):
                yield item

        @ray.method(num_returns=2)  # type: ignore[untyped-decorator]
        def two(self) -> Iterator[int]:
            yield 1
            yield 2

        @ray.method(num_returns="streaming", _generator_backpressure_num_objects=1)  # type: ignore[untyped-decorator]
        def narrow(self, n: int) -> Iterator[int]:
            for item in range(n):
                yield item

        def fail(self) -> Iterator[int]:
            yield 1
            raise KeyError("k")

        def one(self) -> int:
            return 1

    return Plain


def concurrent_class() -> Any:
    """Nested, so that it travels by value."""

    class Concurrent:
        """An async actor."""

        async def slowly(self, n: int) -> AsyncIterator[int]:
            for item in range(n):
                await asyncio.sleep(0.01)
                yield item

        async def endless(self) -> AsyncIterator[int]:
            item = 0
            while True:
                await asyncio.sleep(0.01)
                yield item
                item += 1

        async def fail(self) -> AsyncIterator[int]:
            yield 1
            raise KeyError("k")

        def plainly(self, n: int) -> Iterator[int]:
            for item in range(n):
                yield item

        async def consume(self, other: Any, n: int) -> list[int]:
            return [await ref async for ref in other.count.remote(n)]

    return Concurrent


def test_methods_of_an_actor_may_yield() -> None:
    actor = ray.remote(plain_class()).remote()
    gen = actor.count.remote(3)
    assert type(gen) is ray.ObjectRefGenerator and values(gen) == [0, 1, 2]
    assert ray.get(actor.two.remote()) == [1, 2]
    assert values(actor.narrow.remote(3)) == [0, 1, 2]
    assert values(actor.count.options(_generator_backpressure_num_objects=2).remote(4)) == [0, 1, 2, 3]
    assert ray.get(actor.count.options(num_returns=1).remote(3)) == 0
    assert values(actor.fail.remote()) == [1, KeyError]
    assert ray.get(actor.one.remote()) == 1
    with pytest.raises(ValueError, match="can only be used with generator functions"):
        actor.one.options(num_returns="streaming")
    with pytest.raises(ValueError, match="_num_objects_per_yield cannot be overridden"):
        actor.count.options(_num_objects_per_yield=2)


def test_a_handle_passed_on_knows_which_methods_yield() -> None:
    @ray.remote
    def total(handle: Any) -> int:
        return sum(ray.get(ref) for ref in handle.count.remote(4))

    assert ray.get(total.remote(ray.remote(plain_class()).remote())) == 6


def test_methods_of_an_async_actor_may_yield() -> None:
    actor = ray.remote(concurrent_class()).remote()
    assert values(actor.slowly.remote(3)) == [0, 1, 2]
    assert values(actor.plainly.remote(3)) == [0, 1, 2]
    assert values(actor.fail.remote()) == [1, KeyError]


def test_several_generators_run_at_once_in_one_async_actor() -> None:
    actor = ray.remote(concurrent_class()).remote()
    first, second = actor.endless.remote(), actor.endless.remote()
    for item in range(5):
        assert ray.get(next(first)) == item and ray.get(next(second)) == item
    assert values(actor.slowly.remote(2)) == [0, 1]
    ray.kill(actor)


def test_an_async_actor_consumes_generators() -> None:
    other = ray.remote(plain_class()).remote()
    assert ray.get(ray.remote(concurrent_class()).remote().consume.remote(other, 4)) == [0, 1, 2, 3]


def test_a_threaded_actor_streams_from_several_threads() -> None:
    actor = ray.remote(max_concurrency=3)(plain_class()).remote()
    assert [values(gen) for gen in [actor.count.remote(n) for n in (3, 4, 5)]] == [
        [0, 1, 2],
        [0, 1, 2, 3],
        [0, 1, 2, 3, 4],
    ]


def test_a_generator_of_a_dead_actor_raises_its_death() -> None:
    actor = ray.remote(plain_class()).remote()
    assert values(actor.count.remote(1)) == [0]
    ray.kill(actor)
    gen = actor.count.remote(2)
    assert values(gen) == [ray.exceptions.ActorDiedError]
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(gen.completed())


def test_a_generator_method_cannot_be_declared_on_what_does_not_yield() -> None:
    with pytest.raises(ValueError, match="can only be used with generator functions"):

        class Wrong:
            @ray.method(num_returns="streaming")  # type: ignore[untyped-decorator]
            def one(self) -> int:
                return 1
