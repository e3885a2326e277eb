"""Do pools, queues and result iterators behave as Ray's on real processes?"""

from __future__ import annotations

import asyncio
import queue as stdlib_queue
import threading
from typing import Any

import pytest

import minray
from minray.util import ActorPool, as_completed, list_named_actors, map_unordered, register_serializer
from minray.util.queue import Empty, Full, Queue
from minray.util.serialization import deregister_serializer

pytestmark = [pytest.mark.cluster, pytest.mark.minray(num_cpus=2)]


@minray.remote
class Doubler:
    def double(self, value: int) -> int:
        return 2 * value

    def fail(self, value: int) -> int:
        raise ValueError(value)

    def two(self, value: int) -> tuple[int, int]:
        return value, -value


@minray.remote
def square(value: int) -> int:
    return value * value


def pool_of(count: int) -> Any:
    return ActorPool([Doubler.remote() for _ in range(count)])


def test_pool_maps_in_order_and_out_of_order(minray_cluster: Any) -> None:
    pool = pool_of(2)
    assert list(pool.map(lambda a, v: a.double.remote(v), range(10))) == [2 * v for v in range(10)]
    assert sorted(pool.map_unordered(lambda a, v: a.double.remote(v), range(10))) == [
        2 * v for v in range(10)
    ]
    assert pool.has_free()
    assert not pool.has_next()


def test_pool_gives_results_in_the_order_of_submission(minray_cluster: Any) -> None:
    pool = pool_of(2)
    for value in range(5):
        pool.submit(lambda a, v: a.double.remote(v), value)
    assert not pool.has_free()
    assert [pool.get_next() for _ in range(5)] == [0, 2, 4, 6, 8]
    with pytest.raises(StopIteration):
        pool.get_next()


def test_get_next_after_an_unordered_one_is_refused(minray_cluster: Any) -> None:
    pool = pool_of(1)
    pool.submit(lambda a, v: a.double.remote(v), 1)
    pool.submit(lambda a, v: a.double.remote(v), 2)
    assert pool.get_next_unordered() == 2
    assert pool.get_next() == 4


def test_pool_goes_on_after_an_error(minray_cluster: Any) -> None:
    pool = pool_of(1)
    pool.submit(lambda a, v: a.fail.remote(v), 1)
    pool.submit(lambda a, v: a.double.remote(v), 2)
    with pytest.raises(ValueError, match="1"):
        pool.get_next()
    assert pool.get_next() == 4


def test_pool_times_out_without_losing_the_result(minray_cluster: Any) -> None:
    gate = Queue()

    @minray.remote
    class Waits:
        def wait(self, gate: Any) -> str:
            return str(gate.get())

    pool = ActorPool([Waits.remote()])
    pool.submit(lambda a, v: a.wait.remote(v), gate)
    with pytest.raises(TimeoutError):
        pool.get_next(timeout=0.01)
    gate.put("open")
    assert pool.get_next(timeout=30) == "open"


def test_pool_membership(minray_cluster: Any) -> None:
    first, second = Doubler.remote(), Doubler.remote()
    pool = ActorPool([first])
    with pytest.raises(ValueError, match="already belongs"):
        pool.push(first)
    pool.push(second)
    assert {pool.pop_idle(), pool.pop_idle()} == {first, second}
    assert pool.pop_idle() is None


def test_a_method_with_several_returns_is_one_piece_of_work(minray_cluster: Any) -> None:
    pool = pool_of(1)
    pool.submit(lambda a, v: a.two.options(num_returns=2).remote(v), 3)
    pool.submit(lambda a, v: a.two.options(num_returns=2).remote(v), 4)
    assert pool.get_next(timeout=30) == [3, -3]
    assert pool.get_next_unordered(timeout=30) == [4, -4]


def test_queue_is_first_in_first_out_across_processes(minray_cluster: Any) -> None:
    items: Queue = Queue()

    @minray.remote
    def produce(items: Queue) -> None:
        for value in range(5):
            items.put(value)

    minray.get(produce.remote(items))
    assert (items.size(), len(items), items.qsize(), items.empty(), items.full()) == (5, 5, 5, False, False)
    assert [items.get() for _ in range(5)] == list(range(5))
    assert items.empty()


def test_queue_says_empty_and_full(minray_cluster: Any) -> None:
    items = Queue(maxsize=2)
    with pytest.raises(Empty):
        items.get_nowait()
    with pytest.raises(stdlib_queue.Empty):
        items.get(timeout=0.01)
    items.put_nowait_batch([1, 2])
    assert items.full()
    for attempt in (lambda: items.put_nowait(3), lambda: items.put(3, timeout=0.01)):
        with pytest.raises(Full):
            attempt()
    with pytest.raises(Full, match="room for 0"):
        items.put_nowait_batch([3])
    with pytest.raises(Empty, match="holds 2"):
        items.get_nowait_batch(3)
    assert items.get_nowait_batch(2) == [1, 2]
    with pytest.raises(ValueError, match="non-negative"):
        items.get(timeout=-1)


def test_a_waiting_get_is_woken_by_a_put(minray_cluster: Any) -> None:
    items = Queue()
    found: list[Any] = []
    reader = threading.Thread(target=lambda: found.append(items.get(timeout=60)))
    reader.start()
    items.put("x")
    reader.join(60)
    assert found == ["x"]


def test_queue_serves_coroutines(minray_cluster: Any) -> None:
    items = Queue(maxsize=1)

    async def scenario() -> list[Any]:
        await items.put_async(1)
        with pytest.raises(Full):
            await items.put_async(2, block=False)
        first = await items.get_async()
        with pytest.raises(Empty):
            await items.get_async(timeout=0.01)
        return [first]

    assert asyncio.run(scenario()) == [1]


@pytest.mark.parametrize("force", [False, True])
def test_queue_shuts_down(minray_cluster: Any, force: bool) -> None:
    items = Queue()
    actor = items.actor
    items.shutdown(force=force)
    items.shutdown()
    with pytest.raises(minray.exceptions.RayActorError):
        minray.get(actor.qsize.remote(), timeout=30)


def test_queue_may_be_named(minray_cluster: Any) -> None:
    items = Queue(actor_options={"name": "work"})
    assert "work" in list_named_actors()
    assert {"name": "work", "namespace": minray.get_runtime_context().namespace} in list_named_actors(True)
    del items


def test_results_are_taken_as_they_complete(minray_cluster: Any) -> None:
    refs = [square.remote(value) for value in range(25)]
    assert sorted(as_completed(refs, chunk_size=4)) == sorted(v * v for v in range(25))
    again = list(as_completed(refs, chunk_size=1, yield_obj_refs=True))
    assert set(again) == set(refs)
    with pytest.raises(ValueError, match="chunk_size"):
        as_completed(refs, chunk_size=0)


def test_map_unordered_takes_inputs_only_as_fast_as_tasks_finish(minray_cluster: Any) -> None:
    taken: list[int] = []

    def inputs() -> Any:
        for value in range(50):
            taken.append(value)
            yield value

    results = map_unordered(square, inputs(), backpressure_size=5, chunk_size=1)
    first = next(results)
    assert len(taken) <= 6
    assert sorted([first, *results]) == sorted(v * v for v in range(50))


class Connection:
    def __init__(self, url: str) -> None:
        self.url = url
        self.lock = threading.Lock()


def test_a_registered_serializer_carries_arguments(minray_cluster: Any) -> None:
    @minray.remote
    def url_of(connection: Any) -> str:
        return str(connection.url)

    register_serializer(Connection, serializer=lambda c: c.url, deserializer=Connection)
    try:
        assert minray.get(url_of.remote(Connection("db://x"))) == "db://x"
    finally:
        deregister_serializer(Connection)
