"""Which events happened while this block ran?

    with traced() as trace:
        square_all([1, 2, 3])
    max_overlap(trace)

The list is filled when the block ends. Workers ship their events in batches, a moment after the
results, so the end of the block waits until every task that was submitted in it has its last record,
for `SETTLE_S` at most: a task that the block left running must not hold up the notebook.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from minray.base.events import Event, EventPage, TaskFinished, TaskSubmitted

SETTLE_S = 2.0
_POLL_S = 0.01


class EventSource(Protocol):
    """What the recorder needs of an engine."""

    def events(self, cursor: int) -> EventPage:
        """The events after `cursor`."""


# Where the last recording on this engine ended: the next one need not decode what came before.
_cursors: weakref.WeakKeyDictionary[EventSource, int] = weakref.WeakKeyDictionary()


def current_source() -> EventSource | None:
    """The process's engine, or None when there is none (not initialised, or real Ray)."""
    from minray.engine import seam  # late: pure users of `minray.grading` need no engine

    return seam.current_or_none()


def unfinished(trace: list[Event]) -> set[str]:
    """The ids of tasks that were submitted in this trace and have no last record in it."""
    open_tasks = {event.task_id for event in trace if isinstance(event, TaskSubmitted)}
    return open_tasks - {event.task_id for event in trace if isinstance(event, TaskFinished)}


@contextmanager
def traced(
    source: EventSource | None = None, settle_s: float = SETTLE_S, sleep: Callable[[float], None] = time.sleep
) -> Iterator[list[Event]]:
    """Record the events of a block. The list stays empty inside the block and where there is no engine."""
    trace: list[Event] = []
    source = current_source() if source is None else source
    if source is None:
        yield trace
        return
    cursor = _drain(source, _cursors.get(source, 0), None)
    try:
        yield trace
    finally:
        patience = int(settle_s / _POLL_S)
        cursor = _drain(source, cursor, trace)
        while patience > 0 and unfinished(trace):
            sleep(_POLL_S)
            cursor = _drain(source, cursor, trace)
            patience -= 1
        trace.sort(key=lambda event: event.time_s)
        _cursors[source] = cursor


def _drain(source: EventSource, cursor: int, into: list[Event] | None) -> int:
    """Read pages until one is empty; returns the cursor after them."""
    while True:
        page = source.events(cursor)
        if into is not None:
            into.extend(page.events)
        if not page.events:
            return page.cursor
        cursor = page.cursor
