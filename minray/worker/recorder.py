"""What is kept of every task, and at what cost?

Appending one small tuple a task at submit and one a batch at dispatch and at reply: about 0.15 us a
task. Nothing is formatted: `base.events` records are built when somebody reads. The log is a bounded
sequence of chunks; a reader whose cursor has fallen out of it is told how many entries it missed.
"""

from __future__ import annotations

import pickle
import time
from array import array
from collections import deque
from typing import Any

from minray.base import events as ev
from minray.base import ids
from minray.serialization.values import FAILED

SUBMIT, DISPATCH, DONE, RECORD, GET = range(5)
CHUNK = 8192
CHUNKS_MAX = 24  # about 200,000 entries


class Recorder:
    """One process's event log. Appends come from any thread (the GIL keeps them whole)."""

    def __init__(self, owner: bytes) -> None:
        self.owner = owner
        self.log: list[tuple[Any, ...]] = []
        self._old: deque[list[tuple[Any, ...]]] = deque()
        self._base = 0  # entries before the first one kept
        self._names: dict[int, tuple[str, str]] = {}
        self.function_name: Any = None  # (function number | method, actor id) -> name

    def record(self, event: ev.Event) -> None:
        """Keep a ready-made event."""
        self.log.append((RECORD, event))

    def roll(self) -> None:
        """Start a new chunk when the current one is full (called once a batch)."""
        if len(self.log) >= CHUNK:
            self._old.append(self.log)
            self.log = []
            if len(self._old) > CHUNKS_MAX:
                self._base += len(self._old.popleft())

    def read(self, cursor: int) -> ev.EventPage:
        """The events after `cursor` (0: from the start), as typed records."""
        chunks = [*self._old, self.log]
        base = self._base
        lost = max(0, base - cursor)
        entries: list[tuple[Any, ...]] = []
        position = base
        for chunk in chunks:
            size = len(chunk)
            if position + size > cursor:
                entries.extend(chunk[max(0, cursor - position) : size])
            position += size
        return ev.EventPage(tuple(self.decode(entries)), position, lost)

    def decode(self, entries: list[tuple[Any, ...]]) -> list[ev.Event]:
        """Compact entries -> typed events."""
        found: list[ev.Event] = []
        for entry in entries:
            kind = entry[0]
            if kind == RECORD:
                found.append(entry[1])
            elif kind == SUBMIT:
                found.append(self._submitted(entry))
            elif kind == GET:
                found.append(self._got(entry))
            elif kind == DISPATCH:
                self._dispatched(entry, found)
            else:
                self._done(entry, found)
        return found

    def _submitted(self, entry: tuple[Any, ...]) -> ev.Event:
        _, number, function, actor_id, now, parent = entry[:6]
        arguments = entry[6] if len(entry) > 6 else ()
        name = self.function_name(function, actor_id)
        actor = actor_id.hex() if actor_id is not None else ""
        if len(self._names) > 400_000:
            self._names.clear()
        self._names[number] = (name, actor)
        return ev.TaskSubmitted(now, self._task(number), name, parent, actor, arguments)

    def _got(self, entry: tuple[Any, ...]) -> ev.Event:
        _, now, started, what, refs, count, ready, code, line = entry
        caller = f"{code.co_filename}:{line}" if code is not None else ""
        shown = tuple(ids.object_id_hex(owner, number) for owner, number in refs)
        return ev.GetCalled(now, started, what, shown, count, ready, caller, self.owner.hex())

    def _dispatched(self, entry: tuple[Any, ...], found: list[ev.Event]) -> None:
        _, now, numbers, worker_id, pid, attempts = entry
        worker = worker_id.hex()
        for number in numbers:
            found.append(ev.TaskDispatched(now, self._task(number), worker, pid, attempts.get(number, 0)))

    def _done(self, entry: tuple[Any, ...], found: list[ev.Event]) -> None:
        _, numbers, states, times, worker_id, pid, attempts, errors = entry
        clock = array("d")
        clock.frombytes(times)
        count = len(numbers)
        worker = worker_id.hex()
        for index, number in enumerate(numbers):
            failed = states is not None and states[index] == FAILED
            name = self._names.get(number, ("", ""))[0]
            found.append(
                ev.TaskFinished(
                    clock[count + index],
                    self._task(number),
                    name,
                    worker,
                    pid,
                    clock[index],
                    "error" if failed else "ok",
                    errors.get(number, "") if failed else "",
                    attempts.get(number, 0),
                )
            )

    def _task(self, number: int) -> str:
        return ids.task_id_hex(self.owner, number)


class ForeignEvents:
    """Batches of events that workers shipped to this driver, merged into its own log on arrival."""

    @staticmethod
    def pack(found: tuple[ev.Event, ...]) -> bytes:
        """Events -> bytes."""
        return pickle.dumps(found, 5)

    @staticmethod
    def unpack(batch: bytes) -> tuple[ev.Event, ...]:
        """Bytes -> events."""
        return pickle.loads(batch)  # type: ignore[no-any-return]


def now() -> float:
    """The events' clock."""
    return time.perf_counter()
