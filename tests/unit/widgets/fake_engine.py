"""What would an engine report? Synthetic event pages, for views that run without a cluster.

`script` makes the events of a whole run from a seed; `FakeEngine` hands them out as its clock passes
their times, in pages, with cursors, like the real engine's `events`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from minray.base.events import (
    Event,
    EventPage,
    GetCalled,
    TaskDispatched,
    TaskFinished,
    TaskRetried,
    TaskSubmitted,
    WorkerChanged,
)


def script(
    tasks: int = 40,
    workers: int = 4,
    begin_s: float = 100.0,
    mean_s: float = 0.2,
    seed: int = 0,
    troubles: bool = True,
    prefix: str = "",
) -> list[Event]:
    """Events, by time, of `tasks` tasks on `workers` workers: some fail, one is retried, one gathers."""
    dice = random.Random(seed)
    events: list[Event] = []
    pids = [4000 + i for i in range(workers)]
    ids = [f"{prefix}w{i}" for i in range(workers)]
    for i in range(workers):
        events.append(WorkerChanged(begin_s, ids[i], pids[i], True, ""))
    free = [begin_s + 0.02] * workers
    done: list[str] = []
    for n in range(tasks):
        task, name = f"{prefix}{n:08x}", ("clean", "score", "fit")[n % 3]
        submitted = begin_s + 0.01 + n * 1e-4
        arguments = tuple(f"{t}00000001" for t in done[-2:]) if n % 7 == 6 else ()
        events.append(TaskSubmitted(submitted, task, name, "", "", arguments))
        duration = mean_s * dice.uniform(0.3, 2.0)
        ready = submitted
        for attempt in (0, 1):
            at = min(range(workers), key=free.__getitem__)
            start = max(free[at], ready)
            end = start + duration
            events.append(TaskDispatched(max(ready, start - 0.005), task, ids[at], pids[at], attempt))
            free[at] = end + 0.001
            outcome = "ok"
            if troubles and n % 11 == 5 and attempt == 0:
                outcome = "lost"
            elif troubles and n % 13 == 7:
                outcome = "error"
            error = {"ok": "", "lost": "worker died", "error": "ValueError: odd"}[outcome]
            events.append(TaskFinished(end, task, name, ids[at], pids[at], start, outcome, error, attempt))
            if outcome != "lost":
                break
            ready = end + 1e-4
            events.append(TaskRetried(end, task, name, 1, "worker died"))
        done.append(task)
    last = max(free)
    objects = tuple(f"{t}00000001" for t in done[-64:])
    events.append(
        GetCalled(last + 0.01, begin_s + 0.05, "get", objects, len(done), 0, "lesson.py:12", "driver")
    )
    return sorted(events, key=lambda event: event.time_s)


class FakeEngine:
    """Hands out `events` when `clock()` has passed their time."""

    def __init__(self, events: list[Event], clock: Callable[[], float] = time.perf_counter) -> None:
        self._events = events
        self._clock = clock
        self.polls = 0

    def events(self, cursor: int) -> EventPage:
        """The page after `cursor`."""
        self.polls += 1
        now = self._clock()
        upto = cursor
        while upto < len(self._events) and self._events[upto].time_s <= now:
            upto += 1
        return EventPage(tuple(self._events[cursor:upto]), upto, 0)

    def events_ahead(self, cursor: int) -> tuple[int, int]:
        """(the cursor of this moment, how many events lie between)."""
        now = self._clock()
        end = sum(event.time_s <= now for event in self._events)
        return end, end - cursor
