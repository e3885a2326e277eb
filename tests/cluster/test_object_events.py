"""Large objects and blocked gets leave events: who stored it, who keeps it, when its memory was free."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import minray as ray
from minray.base import events as ev
from minray.engine.seam import current

pytestmark = [pytest.mark.cluster]
LARGE = 100_000  # numbers of eight bytes


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    ray.init(num_cpus=2)
    yield
    ray.shutdown()


@ray.remote
class Keeper:
    def keep(self, value: Any) -> float:
        self.value = value
        return float(value.sum())

    def drop(self) -> None:
        self.value = None


def _events_of(object_id: str, until: str) -> list[Any]:
    """The object's events, once there is one of the class `until`."""
    return _until(lambda: _matching(object_id, until))


def _matching(object_id: str, until: str) -> list[Any] | None:
    found = [event for event in current().events(0).events if getattr(event, "object_id", "") == object_id]
    return found if any(type(event).__name__ == until for event in found) else None


def _until(what: Callable[[], Any]) -> Any:
    give_up = time.monotonic() + 30.0
    while not (found := what()):
        assert time.monotonic() < give_up, "it did not come to that"
        time.sleep(0.01)
    return found


def test_a_put_that_an_actor_keeps_is_borrowed_returned_and_freed_in_this_order() -> None:
    keeper = Keeper.remote()
    ref = ray.put(np.ones(LARGE))
    object_id = ref.hex()
    assert ray.get(keeper.keep.remote(ref)) == LARGE
    del ref
    ray.get(keeper.drop.remote())
    found = _events_of(object_id, "ObjectFreed")
    assert [type(event).__name__ for event in found] == [
        "ObjectPut",
        "ObjectBorrowed",
        "ObjectReturned",
        "ObjectFreed",
    ]
    put, borrowed, returned, freed = found
    assert (put.kind, put.worker_id) == ("put", ray.get_runtime_context().get_worker_id())
    assert borrowed.worker_id == returned.worker_id != put.worker_id
    assert put.size_bytes == freed.size_bytes >= 8 * LARGE


def test_a_large_result_is_told_with_the_worker_that_wrote_it() -> None:
    @ray.remote
    def make() -> tuple[str, Any]:
        return ray.get_runtime_context().get_worker_id(), np.zeros(LARGE)

    ref = make.remote()
    worker, array = ray.get(ref)
    (put,) = _events_of(ref.hex(), "ObjectPut")
    assert (put.kind, put.worker_id) == ("result", worker)
    object_id = ref.hex()
    del ref, array
    assert type(_events_of(object_id, "ObjectFreed")[-1]) is ev.ObjectFreed


def test_large_arguments_are_objects_until_their_call_is_done() -> None:
    @ray.remote
    def total(values: Any) -> float:
        return float(values.sum())

    before = current().events(0).cursor
    assert ray.get(total.remote(np.ones(LARGE))) == LARGE
    (put,) = [event for event in current().events(before).events if type(event) is ev.ObjectPut]
    assert put.kind == "argument"
    _events_of(put.object_id, "ObjectFreed")


def test_whoever_borrows_a_result_before_it_is_there_is_told_once_it_is() -> None:
    @ray.remote
    def late(gate: list[Any]) -> Any:
        ray.get(gate[0])
        return np.zeros(LARGE)

    @ray.remote
    class Holder:
        def hold(self, refs: list[Any]) -> None:
            self.refs = refs

    @ray.remote
    def slow() -> None:
        time.sleep(0.5)

    holder = Holder.remote()
    ref = late.remote([slow.remote()])
    ray.get(holder.hold.remote([ref]))
    ray.wait([ref], timeout=30)
    found = _events_of(ref.hex(), "ObjectBorrowed")
    assert [type(event).__name__ for event in found] == ["ObjectPut", "ObjectBorrowed"]


def test_small_values_leave_no_object_event() -> None:
    @ray.remote
    def same(value: Any) -> Any:
        return value

    before = current().events(0).cursor
    refs = [same.remote([1, 2]), ray.put({"a": 1})]
    ray.get(refs)
    ours = {ref.hex() for ref in refs}
    found = [event for event in current().events(before).events if getattr(event, "object_id", "") in ours]
    assert found == []


def test_a_blocked_get_is_visible_while_it_blocks_and_once() -> None:
    @ray.remote
    class Gate:
        def __init__(self) -> None:
            self.opened = threading.Event()

        def open(self) -> None:
            self.opened.set()

        def passed(self) -> None:
            self.opened.wait(60)

    gate = Gate.options(max_concurrency=2).remote()
    cursor = current().events(0).cursor
    ref = gate.passed.remote()
    waiter = threading.Thread(target=lambda: ray.get(ref))
    waiter.start()
    seen: list[Any] = []

    def look() -> bool:
        nonlocal cursor
        page = current().events(cursor)
        cursor = page.cursor
        seen.extend(event for event in page.events if ref.hex() in getattr(event, "object_ids", ()))
        return bool(seen)

    _until(look)
    look()
    (started,) = seen
    assert type(started) is ev.GetStarted
    assert __file__ in started.caller
    ray.get(gate.open.remote())
    waiter.join()
    _until(lambda: look() and len(seen) > 1)
    started, called = seen
    assert type(called) is ev.GetCalled
    assert called.started_s == started.time_s
    assert called.caller == started.caller


def test_a_get_that_blocks_inside_a_task_is_visible_to_the_driver() -> None:
    @ray.remote
    def slow() -> None:
        time.sleep(0.5)

    @ray.remote
    def outer() -> None:
        ray.get(slow.remote())

    cursor = current().events(0).cursor
    ref = outer.remote()
    me = ray.get_runtime_context().get_worker_id()

    def look() -> bool:
        page = current().events(cursor)
        return any(type(event) is ev.GetStarted and event.worker_id != me for event in page.events)

    _until(look)
    ray.get(ref)
