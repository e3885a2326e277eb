"""The event log: each reader hears of each thing once, and of what it missed."""

from __future__ import annotations

from array import array
from types import SimpleNamespace
from typing import Any

from minray.base import events as ev
from minray.worker.blocked_gets import BlockedGet
from minray.worker.recorder import CHUNK, CHUNKS_MAX, DISPATCH, DONE, ENDED, Recorder

OWNER, WORKER = b"o" * 16, b"w" * 16


class Owner:
    """A table and a counter, as the core worker has them."""

    def __init__(self) -> None:
        self.recorder = Recorder(OWNER)
        self.table: dict[int, Any] = {}
        self.next = 1
        self.recorder.table = self.table
        self.recorder.next_number = lambda: self.next
        self.recorder.function_name = lambda number: f"f{number}"

    def submit(self) -> int:
        number, self.next = self.next, self.next + 1
        self.table[number] = SimpleNamespace(t=float(number), task=(number, 7, ()), v=None)
        return number

    def dispatch(self, *numbers: int) -> None:
        self.recorder.log.append((DISPATCH, 50.0, array("q", numbers), WORKER, 42, {}, 7, None))

    def done(self, *numbers: int) -> None:
        times = array("d", [60.0 + n for n in numbers] + [61.0 + n for n in numbers]).tobytes()
        submitted = array("d", [float(n) for n in numbers])
        self.recorder.log.append((DONE, numbers, None, times, WORKER, 42, {}, {}, [submitted]))
        for number in numbers:
            del self.table[number]
        self.recorder.roll()

    def cancel(self, number: int) -> None:
        entry = (ENDED, 70.0, number, float(number), 7, None, "cancelled", "TaskCancelledError: enough", 0)
        self.recorder.log.append(entry)
        del self.table[number]


def kinds(page: ev.EventPage) -> list[str]:
    return [type(event).__name__ for event in page.events]


def test_a_task_is_submitted_dispatched_finished_in_this_order() -> None:
    owner = Owner()
    number = owner.submit()
    owner.dispatch(number)
    owner.done(number)
    page = owner.recorder.read(0)
    assert kinds(page) == ["TaskSubmitted", "TaskDispatched", "TaskFinished"]
    assert {event.name for event in page.events if hasattr(event, "name")} == {"f7"}


def test_a_reader_hears_of_a_queued_task_once() -> None:
    owner = Owner()
    number = owner.submit()
    first = owner.recorder.read(0)
    assert kinds(first) == ["TaskSubmitted"]
    owner.dispatch(number)
    second = owner.recorder.read(first.cursor)
    assert kinds(second) == ["TaskDispatched"]
    owner.done(number)
    assert kinds(owner.recorder.read(second.cursor)) == ["TaskFinished"]


def test_two_readers_hear_the_same_whenever_they_read() -> None:
    owner = Owner()
    eager: list[ev.Event] = []
    cursor = 0
    for _ in range(20):
        numbers = [owner.submit() for _ in range(5)]
        page = owner.recorder.read(cursor)
        cursor, _ = page.cursor, eager.extend(page.events)
        owner.dispatch(*numbers[:3])
        page = owner.recorder.read(cursor)
        cursor, _ = page.cursor, eager.extend(page.events)
        owner.done(*numbers[:3])
    eager.extend(owner.recorder.read(cursor).events)
    lazy = owner.recorder.read(0).events
    assert sorted(map(repr, eager)) == sorted(map(repr, lazy))
    assert sum(isinstance(event, ev.TaskSubmitted) for event in eager) == 100


def test_a_reply_that_is_being_applied_waits_for_the_next_page() -> None:
    owner = Owner()
    number = owner.submit()
    owner.dispatch(number)
    owner.recorder.log.append((DONE, (number,), None, b"", WORKER, 42, {}, {}, []))
    assert kinds(owner.recorder.read(0)) == ["TaskSubmitted", "TaskDispatched"]


def test_the_log_is_bounded_and_says_what_was_lost() -> None:
    owner = Owner()
    for _ in range((CHUNKS_MAX + 3) * CHUNK):
        owner.recorder.record(ev.ObjectPut(0.0, "", 1, "inline", ""))
        owner.recorder.roll()
    page = owner.recorder.read(0)
    assert page.lost > 0
    assert page.lost + len(page.events) == (CHUNKS_MAX + 3) * CHUNK
    assert owner.recorder.read(page.cursor).events == ()


def test_the_last_tasks_are_told_whole_and_earlier_ones_left_out() -> None:
    owner = Owner()
    for _ in range(10):
        number = owner.submit()
        owner.dispatch(number)
        owner.done(number)
    page = owner.recorder.read(owner.recorder.recent(0, 3))
    assert kinds(page) == ["TaskSubmitted", "TaskDispatched", "TaskFinished"] * 3
    assert {event.name for event in page.events if hasattr(event, "name")} == {"f7"}


def test_few_tasks_are_told_from_where_the_reader_was() -> None:
    owner = Owner()
    owner.dispatch(owner.submit())
    cursor = owner.recorder.read(0).cursor
    owner.dispatch(owner.submit())
    assert owner.recorder.recent(0, 5) == 0
    assert owner.recorder.recent(cursor, 5) == cursor
    assert len(owner.recorder.read(owner.recorder.recent(cursor, 5)).events) == 2


def test_a_wait_that_is_under_way_is_told_once_to_each_reader() -> None:
    owner = Owner()
    waits = [BlockedGet(5.0, "get", ((OWNER, 1),), 1, 0, None, 0)]
    owner.recorder.blocked = lambda: waits
    first = owner.recorder.read(0)
    again = owner.recorder.read(first.cursor)
    other = owner.recorder.read(0)
    assert [kinds(page) for page in (first, again, other)] == [["GetStarted"], [], ["GetStarted"]]
    waits.append(BlockedGet(6.0, "wait", ((OWNER, 1), (OWNER, 2)), 2, 1, None, 0))
    (second,) = owner.recorder.read(first.cursor).events
    assert isinstance(second, ev.GetStarted)
    assert (second.what, second.count, second.ready, second.time_s) == ("wait", 2, 1, 6.0)


def test_a_task_cancelled_in_the_queue_was_submitted_and_has_no_worker() -> None:
    owner = Owner()
    owner.cancel(owner.submit())
    page = owner.recorder.read(0)
    assert kinds(page) == ["TaskSubmitted", "TaskFinished"]
    finished = page.events[1]
    assert isinstance(finished, ev.TaskFinished)
    assert (finished.outcome, finished.worker_id, finished.name) == ("cancelled", "", "f7")


def test_a_reader_who_knows_the_task_hears_only_of_its_end() -> None:
    owner = Owner()
    first, second = owner.submit(), owner.submit()
    owner.dispatch(first)
    page = owner.recorder.read(0)
    owner.cancel(first)
    owner.cancel(second)
    assert kinds(owner.recorder.read(page.cursor)) == ["TaskFinished", "TaskFinished"]
    everything = kinds(owner.recorder.read(0))
    assert everything.count("TaskSubmitted") == 2 and everything.count("TaskFinished") == 2


def test_an_answer_that_says_cancelled_has_that_outcome() -> None:
    owner = Owner()
    number = owner.submit()
    owner.dispatch(number)
    times = array("d", [60.0, 61.0]).tobytes()
    errors = {number: "TaskCancelledError: Task: f7 was cancelled while it ran."}
    owner.recorder.log.append((DONE, (number,), (4,), times, WORKER, 42, {}, errors, [array("d", [1.0])]))
    del owner.table[number]
    finished = owner.recorder.read(0).events[-1]
    assert isinstance(finished, ev.TaskFinished) and finished.outcome == "cancelled"
