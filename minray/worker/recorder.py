"""What is kept of every task, and at what cost?

The time of its submission stays in the reference itself; a tuple a batch is appended at dispatch and
at reply: under 0.1 us a task. No tuple per task: a long log of containers is walked by every full
garbage collection, which cost ten times the recording, and appending to an array costs as much as
making the reference. Nothing is formatted: `base.events` records are built when somebody reads. The
log is bounded; a reader whose cursor has fallen out of it is told how many entries it missed.

    pending tasks   the owner's table: number, time, function
    log             ... DISPATCH numbers ... DONE numbers, their submission times ... GET ... RECORD ...
                    ENDED one task without an answer

A submission is reported once to each reader: its cursor remembers the next object number. What was
submitted since is either pending now, or its DONE is in the page.
"""

from __future__ import annotations

import bisect
import itertools
import pickle
import threading
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from minray.base import events as ev
from minray.base import ids
from minray.serialization.values import FAILED
from minray.worker.state.habits import line_of

DISPATCH, DONE, RECORD, GET, ENDED = range(5)
NO_ATTEMPTS: dict[int, int] = {}  # shared by the entries of tasks that were not tried before
CHUNK = 8192
NAMED_MAX = 50_000
HIDDEN_MAX = 200_000  # tasks without events that are remembered
CHUNKS_MAX = 24  # about 200,000 entries of the log
_BITS = 40  # of a cursor: the low ones count the log's entries, the high ones are an object number
_LOW = (1 << _BITS) - 1
_OF_TASK_ENTRIES = (DISPATCH, DONE, ENDED)
_OF_TASKS = (ev.TaskSubmitted, ev.TaskDispatched, ev.TaskFinished, ev.TaskRetried)


class Recorder:
    """One process's event log. Appends come from any thread (the GIL keeps them whole)."""

    def __init__(self, owner: bytes) -> None:
        self.owner = owner
        self.log: list[tuple[Any, ...]] = []
        self._old: deque[list[tuple[Any, ...]]] = deque()
        self._base = 0  # entries before the first one kept
        self._arguments: dict[int, tuple[str, ...]] = {}  # the few tasks that take references
        self._parents: list[tuple[int, str]] = []  # (number of the first child, parent's task id)
        self._names: dict[int, str] = {}
        self._given: dict[int, str] = {}  # names that the program gave to single calls, in order
        self._hidden: dict[str, None] = {}  # ids of tasks that leave no events, in order
        # Set by the core worker:
        self.table: Mapping[int, Any] = {}  # number -> reference
        self.next_number: Callable[[], int] = lambda: 0
        self.function_name: Callable[[int], str] = str
        self.blocked: Callable[[], Iterable[Any]] = tuple  # the waits under way: `worker.blocked_gets`
        self._blocked_lock = threading.Lock()
        self._told_blocked: frozenset[float] = frozenset()  # when those began that are in the log

    # ---------------------------------------------------------------- writing
    def takes(self, number: int, arguments: tuple[str, ...]) -> None:
        """Task `number` has these references (object ids) among its arguments."""
        if len(self._arguments) > 50_000:
            self._arguments.clear()
        self._arguments[number] = arguments

    def call_it(self, number: int, name: str) -> None:
        """The program gave this call a name of its own (`handle.method.options(name=...)`)."""
        self._given[number] = name
        if len(self._given) > HIDDEN_MAX:
            del self._given[next(iter(self._given))]

    def hide(self, numbers: Iterable[int]) -> None:
        """Readers see nothing of these tasks."""
        for number in numbers:
            self._hidden[self._task(number)] = None
        while len(self._hidden) > HIDDEN_MAX:
            del self._hidden[next(iter(self._hidden))]

    def parent_is(self, number: int, parent: str) -> None:
        """Submissions from `number` on are made by the task `parent` ("": by nobody's)."""
        if len(self._parents) > 20_000:
            del self._parents[:10_000]
        self._parents.append((number, parent))

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

    # ---------------------------------------------------------------- reading
    def read(self, cursor: int) -> ev.EventPage:
        """The events after `cursor` (0: from the start), as typed records."""
        self._note_blocked()
        entries, since, submitted, after, lost = self._entries(cursor)
        return ev.EventPage(tuple(self._decode(entries, since, submitted)), after, lost)

    def _entries(self, cursor: int) -> tuple[list[tuple[Any, ...]], int, dict[int, Any], int, int]:
        """(entries after `cursor`, first number not reported, submissions, the next cursor, lost)."""
        since, at_log = cursor >> _BITS, cursor & _LOW
        # In this order: what is submitted after `upto` is for the next page, and what was pending is
        # either still in the snapshot or its DONE is in the log that is copied after it.
        upto = self.next_number()
        submitted = self._pending(since, upto)
        base = self._base
        entries: list[tuple[Any, ...]] = []
        position = base
        for chunk in [*self._old, self.log]:
            size = len(chunk)
            if position + size > at_log:
                entries.extend(chunk[max(0, at_log - position) : size])
            position += size
        start = max(at_log, base)
        taken = 0
        for entry in entries:
            if entry[0] == DISPATCH and max(entry[2]) >= upto:
                break
            if entry[0] == ENDED:
                if entry[2] >= upto:
                    break
                submitted[entry[2]] = (entry[3], entry[4], entry[5])
            elif entry[0] == DONE:
                if not entry[8]:
                    break  # being applied at this moment
                times = zip(entry[1], entry[8][0], strict=True)
                submitted.update((number, (when, None, None)) for number, when in times)
            taken += 1
        return entries[:taken], since, submitted, upto << _BITS | (start + taken), max(0, base - at_log)

    def snapshot(self, tasks_max: int, whole: bool = False) -> dict[str, Any]:
        """The entries about the last `tasks_max` tasks as they are, for `decoded` in another process: there the
        decoding, ten times as dear, delays nobody's program. `whole`: gets, actors, objects and workers too."""
        cursor = self.recent(0, tasks_max)
        entries, since, submitted, _, lost = self._entries(cursor)
        if whole:  # code objects cannot travel: calls of get as ready-made events
            kept = [(RECORD, self._got(entry)) if entry[0] == GET else entry for entry in entries]
        else:
            kept = [entry for entry in entries if entry[0] in _OF_TASK_ENTRIES or type(entry[-1]) in _OF_TASKS]
        numbers = {number for entry in kept if entry[0] == DISPATCH for number in entry[2]}
        functions: set[Any] = {known[1] for known in submitted.values()}
        for entry in kept:
            if entry[0] == DISPATCH:
                functions.update(entry[6] if type(entry[6]) is list else (entry[6],))
            elif entry[0] == ENDED:
                functions.add(entry[4])
        return {
            "owner": self.owner,
            "entries": kept,
            "since": since,
            "submitted": submitted,
            "lost": lost or cursor & _LOW,
            "names": {one: self.function_name(one) for one in functions if type(one) is int},
            "arguments": {number: ids for number, ids in list(self._arguments.items()) if number in numbers},
            "parents": list(self._parents),
            "hidden": self.hidden_among(numbers),
        }

    def hidden_among(self, numbers: Iterable[int]) -> list[str]:
        """The ids of those tasks that leave no events."""
        hidden = self._hidden
        return [task for task in map(self._task, numbers) if task in hidden] if hidden else []

    @staticmethod
    def decoded(snapshot: Mapping[str, Any]) -> list[ev.Event]:
        """The events of a `snapshot`."""
        recorder = Recorder(snapshot["owner"])
        recorder.function_name = snapshot["names"].__getitem__
        recorder._arguments = snapshot["arguments"]
        recorder._parents = snapshot["parents"]
        recorder._hidden = dict.fromkeys(snapshot["hidden"])
        return recorder._decode(snapshot["entries"], snapshot["since"], dict(snapshot["submitted"]))

    def _note_blocked(self) -> None:
        """Put the waits that are under way into the log, each once: other readers find them there."""
        with self._blocked_lock:  # two readers at once must not both tell of it
            waits = {wait.started_s: wait for wait in self.blocked()}
            before, self._told_blocked = self._told_blocked, frozenset(waits)
        for started_s in waits.keys() - before:
            _, what, refs, count, ready, code, instruction = waits[started_s]
            entry = (GET, 0.0, started_s, what, refs, count, ready, code, instruction)
            done = self._got(entry)
            self.record(
                ev.GetStarted(started_s, what, done.object_ids, count, ready, done.caller, done.worker_id)
            )

    def ahead(self, cursor: int) -> tuple[int, int]:
        """(the cursor of this moment, about how many events lie between). Decodes nothing."""
        upto = self.next_number()
        position = self._base + sum(map(len, self._old)) + len(self.log)
        tasks = max(0, upto - (cursor >> _BITS))
        return upto << _BITS | position, 3 * tasks + max(0, position - (cursor & _LOW))

    def mark(self) -> int:
        """The cursor of this moment. Who reads on from it knows the tasks under way by name, as far as the
        newest NAMED_MAX of them go."""
        cursor, _ = self.ahead(0)
        for number in itertools.islice(reversed(list(self.table)), NAMED_MAX):
            ref = self.table.get(number)
            if ref is not None and ref.task is not None and number not in self._names:
                self._names[number] = self._given.get(number) or self._name(ref.task[1], ref.v)
        return cursor

    def _name(self, function: Any, actor: Any) -> str:
        return self.function_name(function) if actor is None else f"{actor[0]}.{function}"

    def recent(self, cursor: int, tasks_max: int) -> int:
        """A later cursor that leaves out all but about the last `tasks_max` tasks after `cursor`."""
        position = self._base + sum(map(len, self._old)) + len(self.log)
        first, tasks, cut = self.next_number(), 0, position
        for chunk in (self.log, *reversed(self._old)):
            for entry in reversed(chunk):
                if position <= cursor & _LOW:
                    return cursor
                if entry[0] == DISPATCH:
                    tasks += len(entry[2])
                    if tasks > tasks_max:
                        return max(cursor >> _BITS, first) << _BITS | cut
                    first = min(first, *entry[2])
                    cut = position - 1
                position -= 1
        return cursor

    def _pending(self, since: int, upto: int) -> dict[int, Any]:
        """Tasks with numbers in [since, upto) that have no answer yet: (time, function, actor)."""
        table = self.table
        pending: dict[int, Any] = {}
        for number in reversed(list(table)):
            ref = table.get(number)
            if ref is None or ref.task is None:
                continue  # ready, and known elsewhere
            if number < since:
                break
            if number < upto and ref.t:
                pending[number] = (ref.t, ref.task[1], ref.v)
        return pending

    def _decode(
        self, entries: list[tuple[Any, ...]], since: int, submitted: dict[int, Any]
    ) -> list[ev.Event]:
        found: list[ev.Event] = []
        if len(self._names) > 400_000:
            self._names.clear()
        for entry in entries:
            kind = entry[0]
            if kind == RECORD:
                found.append(entry[1])
            elif kind == GET:
                found.append(self._got(entry))
            elif kind == DONE:
                self._done(entry, found)
            elif kind == ENDED:
                self._ended(entry, since, submitted, found)
            else:
                self._dispatched(entry, since, submitted, found)
        for number in sorted(submitted):  # not dispatched yet
            when, function, actor = submitted[number]
            if function is not None:
                found.append(self._submission(number, when, function, actor))
        hidden = self._hidden
        return [event for event in found if getattr(event, "task_id", "") not in hidden] if hidden else found

    def _submission(self, number: int, when: float, function: Any, actor: Any) -> ev.Event:
        self._names[number] = name = self._given.get(number) or self._name(function, actor)
        actor_id = "" if actor is None else actor[1].hex()
        arguments = self._arguments.get(number, ())
        return ev.TaskSubmitted(when, self._task(number), name, self._parent_of(number), actor_id, arguments)

    def _parent_of(self, number: int) -> str:
        index = bisect.bisect_right(self._parents, number, key=lambda pair: pair[0])
        return self._parents[index - 1][1] if index else ""

    def _dispatched(
        self, entry: tuple[Any, ...], since: int, submitted: dict[int, Any], found: list[ev.Event]
    ) -> None:
        _, now, numbers, worker_id, pid, attempts, functions, actor = entry
        worker = worker_id.hex()
        for index, number in enumerate(numbers):
            function = functions[index] if type(functions) is list else functions
            if number >= since:
                known = submitted.pop(number, None)
                if known is not None and known[0]:
                    found.append(self._submission(number, known[0], function, actor))
            found.append(ev.TaskDispatched(now, self._task(number), worker, pid, attempts.get(number, 0)))

    def _got(self, entry: tuple[Any, ...]) -> ev.GetCalled:
        _, now, started, what, refs, count, ready, code, instruction = entry
        caller = f"{code.co_filename}:{line_of(code, instruction)}" if code is not None else ""
        shown = tuple(ids.object_id_hex(owner, number) for owner, number in refs)
        return ev.GetCalled(now, started, what, shown, count, ready, caller, self.owner.hex())

    def _done(self, entry: tuple[Any, ...], found: list[ev.Event]) -> None:
        _, numbers, states, times, worker_id, pid, attempts, errors, _ = entry
        clock = array("d")
        clock.frombytes(times)
        count = len(numbers)
        worker = worker_id.hex()
        for index, number in enumerate(numbers):
            failed = states is not None and states[index] == FAILED
            name = self._names.get(number, "")
            found.append(
                ev.TaskFinished(
                    clock[count + index],
                    self._task(number),
                    name,
                    worker,
                    pid,
                    clock[index],
                    _outcome(errors.get(number, "")) if failed else "ok",
                    errors.get(number, "") if failed else "",
                    attempts.get(number, 0),
                )
            )

    def _ended(
        self, entry: tuple[Any, ...], since: int, submitted: dict[int, Any], found: list[ev.Event]
    ) -> None:
        """It was cancelled or lost; perhaps it never left its owner."""
        _, now, number, when, function, actor, outcome, error, attempt = entry
        known = submitted.pop(number, None)
        if known is not None and number >= since and when:
            found.append(self._submission(number, when, function, actor))
        name = self._names.get(number) or (
            self.function_name(function) if type(function) is int else function
        )
        task = self._task(number)
        found.append(ev.TaskFinished(now, task, name, "", 0, now, outcome, error, attempt))

    def _task(self, number: int) -> str:
        return ids.task_id_hex(self.owner, number)


def _outcome(error: str) -> str:
    return "cancelled" if error.startswith("TaskCancelledError") else "error"


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
