"""How do a driver's readers come to the events of other processes?

Workers keep what they recorded until somebody asks, for shipping it unasked would cost every nested task
ten times its recording. A driver's log takes in what is shipped, so each reader finds everything in one
place. What cannot come any more is told as an `EventsLost`, never left out in silence:

    driver ──EventsWanted──► node ──► workers ──EventsShipped──► node ──► every driver's log
    a worker ends by itself: its last few thousand tasks, and how many it left out
    a worker is killed:      what it had not shipped is lost, if it submitted anything
"""

from __future__ import annotations

import itertools
import threading
import time

from minray.base import events as ev
from minray.base.messages import EventsShipped, EventsWanted, WorkerDied
from minray.worker.core_state import CoreState
from minray.worker.recorder import ForeignEvents

SHIP_EVENTS = 500  # in one message
LAST_TASKS = 2000  # whose events a worker ships at its end without being asked
EVENTS_WAIT_S = 0.3
_NOT_CONNECTED = ("starting", "doomed")


class EventSharing(CoreState):
    """Both sides: the process that recorded, and the driver that reads."""

    def __init__(self) -> None:
        super().__init__()
        self._shipped = 0  # our log's cursor after what we shipped
        self._shipping = threading.RLock()  # the pump answers a question while the main thread ends
        self._sequence = itertools.count(1)
        self._heard: dict[bytes, int] = {}  # worker -> the sequence number of its last batch
        self._told_all: set[bytes] = set()  # those that shipped their last events
        self._tokens_of_gathering = itertools.count(1)
        self._gathering = 0
        self._shippers: set[bytes] = set()  # who has not answered the gathering yet

    # ---------------------------------------------------------------- who recorded
    def ship_events(self, token: int = 0) -> None:
        """Send what this worker recorded since it last did to the drivers. `token`: of who asked."""
        recorder = self.recorder
        if recorder is None:
            return
        with self._shipping:
            page = recorder.read(self._shipped)
            self._shipped = page.cursor
            found = page.events
            if page.lost:
                found = (self._lost(page.lost, "its log overflowed before anybody read it"), *found)
            starts = range(0, max(1, len(found)), SHIP_EVENTS)
            for start in starts:
                batch = ForeignEvents.pack(found[start : start + SHIP_EVENTS])
                answers = token if start == starts[-1] else 0
                self.tell_node(EventsShipped(self.worker_id, batch, next(self._sequence), answers))

    def ship_last_events(self) -> None:
        """Before a deliberate end: of what nobody asked for, the last few thousand tasks.

        An actor that submitted 100,000 would take seconds to end otherwise, and its owner as many to merge them.
        """
        recorder = self.recorder
        if recorder is None:
            return
        with self._shipping:
            _, before = recorder.ahead(self._shipped)
            self._shipped = recorder.recent(self._shipped, LAST_TASKS)
            _, after = recorder.ahead(self._shipped)
            if after < before:
                why = f"it ended with more than {LAST_TASKS} tasks that nobody had asked for"
                recorder.record(self._lost(before - after, why))
            self.ship_events(-1)

    def _lost(self, count: int, why: str) -> ev.EventsLost:
        return ev.EventsLost(time.perf_counter(), self.worker_id.hex(), count, why)

    # ---------------------------------------------------------------- who reads
    def merge_events(self, message: EventsShipped) -> None:
        """A batch of another process's events."""
        worker_id = message.worker_id
        if message.token == self._gathering:
            self._shippers.discard(worker_id)
        if message.token == -1:
            self._told_all.add(worker_id)
        recorder = self.recorder
        if recorder is None:
            return
        before = self._heard.get(worker_id)
        self._heard[worker_id] = message.sequence
        if before is not None and message.sequence != before + 1:
            why = "this driver did not read fast enough, and the node dropped batches for it"
            recorder.record(ev.EventsLost(time.perf_counter(), worker_id.hex(), 0, why))
        for event in ForeignEvents.unpack(message.batch):
            recorder.record(event)
        recorder.roll()

    def note_events_of_dead(self, died: WorkerDied) -> None:
        """A worker is gone: what of its own has nobody seen?"""
        self._shippers.discard(died.worker_id)
        self._heard.pop(died.worker_id, None)
        if died.worker_id in self._told_all:
            self._told_all.discard(died.worker_id)
        elif died.submitted and self.is_driver and self.recorder is not None:
            why = f"process {died.pid} was killed before it shipped what it had recorded of its own tasks"
            self.recorder.record(ev.EventsLost(time.perf_counter(), died.worker_id.hex(), 0, why))

    def events(self, cursor: int) -> ev.EventPage:
        """Recorded events after `cursor`; asks the workers for theirs, which come with a later read."""
        if self.recorder is None:
            return ev.EventPage((), 0, 0)
        if self.is_driver:
            self.tell_node(EventsWanted())
        return self.recorder.read(cursor)

    def events_ahead(self, cursor: int) -> tuple[int, int]:
        """(the cursor of this moment, about how many events lie between): free of charge."""
        return (0, 0) if self.recorder is None else self.recorder.ahead(cursor)

    def mark_events(self) -> int:
        """The cursor of this moment, for a reader who wants what comes (0 while nothing is traced)."""
        return 0 if self.recorder is None else self.recorder.mark()

    def gather_events(self, timeout_s: float = EVENTS_WAIT_S) -> list[str]:
        """Have the workers ship what they recorded and wait until they have. Returns the ids (hex) of those
        that did not answer in time. In a worker: nothing to wait for."""
        if self.recorder is None or not self.is_driver:
            return []
        state = self.ask_node("state")
        self._shippers = {
            bytes.fromhex(row["worker_id"]) for row in state["workers"] if row["state"] not in _NOT_CONNECTED
        }
        self._gathering = next(self._tokens_of_gathering)
        self.tell_node(EventsWanted(self._gathering))
        deadline = time.perf_counter() + timeout_s
        while self._shippers and time.perf_counter() < deadline:
            if self.loop.lead():
                try:
                    self.loop.poll_once(0.02)
                finally:
                    self.loop.leave()
            else:
                time.sleep(0.002)
        return sorted(worker_id.hex() for worker_id in self._shippers)
