"""Does a recording hold the block's events, all of them, and no others?"""

from __future__ import annotations

from minray.base.events import Event, EventPage, TaskFinished, TaskSubmitted
from minray.grading.trace_recorder import traced


class Log:
    """An engine's log, in pages of two."""

    def __init__(self) -> None:
        self.all: list[Event] = []
        self.reads: list[int] = []

    def events(self, cursor: int) -> EventPage:
        self.reads.append(cursor)
        page = tuple(self.all[cursor : cursor + 2])
        return EventPage(page, cursor + len(page), 0)


def submitted(at: float, task: str) -> TaskSubmitted:
    return TaskSubmitted(at, task, "f", "", "", ())


def finished(at: float, task: str) -> TaskFinished:
    return TaskFinished(at, task, "f", "w", 1, at - 1, "ok", "", 0)


def never(_: float) -> None:
    raise AssertionError("it waited")


def test_a_recording_begins_with_the_block() -> None:
    log = Log()
    log.all += [submitted(i, str(i)) for i in range(5)]
    with traced(log, sleep=never) as trace:
        log.all += [submitted(6, "x"), finished(8, "x")]
        assert trace == []
    assert trace == [submitted(6, "x"), finished(8, "x")]


def test_late_records_are_waited_for_and_put_in_order() -> None:
    log = Log()

    def arrive(_: float) -> None:
        log.all.append(finished(2, "x"))

    with traced(log, sleep=arrive) as trace:
        log.all += [submitted(3, "y"), finished(5, "y"), submitted(1, "x")]
    assert [event.time_s for event in trace] == [1, 2, 3, 5]


def test_a_task_that_goes_on_is_not_waited_for_for_ever() -> None:
    log, naps = Log(), []
    with traced(log, settle_s=0.1, sleep=naps.append) as trace:
        log.all.append(submitted(1, "x"))
    assert trace == [submitted(1, "x")] and len(naps) == 10


def test_the_next_recording_does_not_read_the_past_again() -> None:
    log = Log()
    log.all += [submitted(i, str(i)) for i in range(100)]
    with traced(log, sleep=never):
        pass
    log.reads.clear()
    with traced(log, sleep=never):
        pass
    assert min(log.reads) == 100


def test_an_exception_in_the_block_passes_and_the_events_are_kept() -> None:
    log = Log()
    try:
        with traced(log, sleep=never) as trace:
            log.all += [submitted(1, "x"), finished(2, "x")]
            raise KeyError("x")
    except KeyError:
        pass
    assert len(trace) == 2
