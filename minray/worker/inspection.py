"""What does this process answer when an observer looks at it from outside?

`minray list`, `minray stack` and the state API are observers: they connect like a peer but are none (no
references, no leases, no trace in the tables), ask one question and leave. Whoever reads the sockets
answers, so a process that computes or blocks answers too; only native code that keeps Python's lock for
itself delays it. Answers are raw: the observer decodes them, in its own time.

    observer ──INSPECT token, what, argument──► process ──INSPECTED token, value, error──► observer
"""

from __future__ import annotations

import gc
import itertools
import os
import pickle
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from minray.base import ids
from minray.base.resources import amounts_of
from minray.rpc.channel import Channel
from minray.serialization.values import FAILED, PENDING, PICKLED, PLAIN, STORED
from minray.worker.core_state import CoreState
from minray.worker.object_ref import BorrowedRef, ObjectRef
from minray.worker.recorder import Recorder
from minray.worker.store import SharedStored
from minray.worker.wire import INSPECTED

PENDING_ARGS, PENDING_NODE, SUBMITTED = "PENDING_ARGS_AVAIL", "PENDING_NODE_ASSIGNMENT", "SUBMITTED_TO_WORKER"
_OWN_REFERENCES = 3  # of a local variable, a list of these objects, and the argument of getrefcount


class Inspection(CoreState):
    """Answers to observers. They only read, and take no lock of the hot path."""

    def on_inspect(self, channel: Channel, message: Any) -> None:
        """(INSPECT, token, what, argument)."""
        _, token, what, argument = message
        try:
            answer = (INSPECTED, token, self.inspect(what, argument), "")
        except Exception as error:
            answer = (INSPECTED, token, None, f"{type(error).__name__}: {error}")
        channel.send(answer)

    def inspect(self, what: str, argument: Any = None) -> Any:
        """The answer to one question. Raises: KeyError for one that nobody knows."""
        answers: dict[str, Callable[[Any], Any]] = {
            "tasks": self._inspect_tasks,
            "objects": self._inspect_objects,
            "stacks": lambda _: {**stacks(), "running": list(self._running_here())},
            "recorded": lambda limit: None if self.recorder is None else self.recorder.snapshot(limit, True),
        }
        return answers[what](argument)

    # ---------------------------------------------------------------- tasks
    def _inspect_tasks(self, limit: int) -> dict[str, Any]:
        """Our own tasks (the newest `limit` that ended, and as many that have not), and what runs here."""
        recorder = self.recorder
        pending, total = self._pending_tasks(limit)
        return {
            "pid": os.getpid(),
            "job_id": self.job_id,
            "pending": pending,
            "pending_total": total,
            "hidden": [] if recorder is None else recorder.hidden_among(row[0] for row in pending),
            "recorded": None if recorder is None else recorder.snapshot(limit),
            "functions": {
                number: (record.name, amounts_of(record.group.shape))
                for number, record in list(self.functions.items())
            },
            "running": list(self._running_here()),
        }

    def _pending_tasks(self, limit: int) -> tuple[list[tuple[Any, ...]], int]:
        """[(number, submitted, function, actor, state, worker, pid, attempt), ...] of what has no answer."""
        numbers = [number for number, ref in list(self.table.items()) if ref.task is not None]
        wanted = frozenset(numbers[-limit:])
        places: dict[int, tuple[str, bytes, int]] = {}
        for number in wanted:
            places[number] = (PENDING_ARGS, b"", 0)
        for group in list(self.groups.values()):
            for task in list(group.queue):
                if task[0] in wanted:
                    places[task[0]] = (PENDING_NODE, b"", 0)
            for lease in list(group.leases):
                for task in itertools.chain.from_iterable(list(lease.batches)):
                    if task[0] in wanted and task[0] not in lease.returned:
                        places[task[0]] = (SUBMITTED, lease.peer.worker_id, lease.peer.pid)
        for calls in list(self.actors.values()):
            for entry in list(calls.queue):
                if type(entry) is tuple and entry[0] in wanted:
                    places[entry[0]] = (PENDING_NODE, b"", 0)
            if (peer := calls.peer) is not None:
                for task in list(calls.sent):
                    if task[0] in wanted:
                        places[task[0]] = (SUBMITTED, peer.worker_id, peer.pid)
        rows = []
        for number in sorted(wanted):
            ref = self.table.get(number)
            if ref is None or (task := ref.task) is None:
                continue
            actor = ref.v if type(task[1]) is not int and type(ref.v) is tuple else None
            rows.append((number, ref.t, task[1], actor, *places[number], self.attempts.get(number, 0)))
        return rows, len(numbers)

    def _running_here(self) -> Iterator[tuple[str, str, float]]:
        """(task id, name, since when or 0.0) of the tasks under way in this process."""
        executor = self.executor
        if executor is None:
            return
        context = executor.context
        if context is not None and context.number:
            yield context.task_id, context.name, executor.seen_s if executor.looked_at is context else 0.0
        actor = executor.actor
        service = None if actor is None else actor.service
        if service is not None:
            yield from service.under_way()

    # ---------------------------------------------------------------- objects
    def _inspect_objects(self, limit: int) -> dict[str, Any]:
        """What is referred to here: own references and handles on others' objects, and why each lives."""
        refs = [ref for ref in gc.get_referrers(ObjectRef, BorrowedRef) if type(ref) in _REFS]
        stored = [value for value in gc.get_referrers(SharedStored) if type(value) is SharedStored]
        captured = Counter(id(ref) for value in stored for ref in value.refs or ())
        used = Counter(id(part) for parts in list(self.held.values()) for part in parts)
        lent = Counter(id(h[0]) for peer in list(self.peers.values()) for h in list(peer.holds.values()))
        states = {row[0]: row[4] for row in self._pending_tasks(limit)[0]}
        rows: list[tuple[str, int, str, int, str, bool]] = []
        known = set()
        for ref in refs:
            known.add(id(ref.v))
            kept = captured[id(ref)] + used[id(ref)] + lent[id(ref)] + (self.table.get(ref.n) is ref)
            is_local = sys.getrefcount(ref) > _OWN_REFERENCES + kept
            if len(rows) < limit:
                rows.append(self._object_row(ref, states, is_local, used[id(ref)], captured[id(ref)]))
        for value in stored:  # the reference is gone, but somebody holds an array over the bytes
            if id(value) not in known and value.block is not None and len(rows) < limit:
                name = ids.object_id_hex(self.worker_id, value.number)
                rows.append((name, value.size, "FINISHED", 1, "PINNED_IN_MEMORY", True))
        return {"pid": os.getpid(), "rows": rows, "total": max(len(rows), len(refs))}

    def _object_row(
        self, ref: Any, states: dict[int, str], is_local: bool, used: int, captured: int
    ) -> tuple[str, int, str, int, str, bool]:
        """(object id, bytes or -1, task status, attempt, reference type or "" when others keep it, shared)."""
        value, state = ref.v, ref.st
        is_handle = type(value) is SharedStored and not value.number and value.block is None and not value.size
        shared = state == STORED and getattr(value, "block", None) is not None
        if is_handle and state == STORED and not value.stream:
            kind, status = "ACTOR_HANDLE", "NIL"
        else:
            if type(value) is SharedStored and shared and sys.getrefcount(value) > _OWN_REFERENCES + 1:
                kind = "PINNED_IN_MEMORY"
            elif used:
                kind = "USED_BY_PENDING_TASK"
            elif is_local:
                kind = "LOCAL_REFERENCE"
            else:
                kind = "CAPTURED_IN_OBJECT" if captured else ""
            status = "FAILED" if state == FAILED else "FINISHED"
            if state == PENDING:
                status = states.get(ref.n, PENDING_NODE) if type(ref) is ObjectRef else "NIL"
        attempt = self.attempts.get(ref.n, 0) + 1 if type(ref) is ObjectRef else 1
        return ref.hex(), _size_of(state, value, kind), status, attempt, kind, shared


_REFS = (ObjectRef, BorrowedRef)


def _size_of(state: int, value: Any, kind: str) -> int:
    if kind == "ACTOR_HANDLE" or state == PENDING:
        return -1
    if state == STORED:
        return int(value.size)
    if state == PLAIN:
        return len(pickle.dumps(value, 5))
    return len(value) if state in (PICKLED, FAILED) and type(value) is bytes else -1


def stacks() -> dict[str, Any]:
    """The Python stacks of every thread of this process, the main thread first."""
    threads = {thread.ident: thread for thread in threading.enumerate()}
    main = threading.main_thread().ident
    found = []
    for ident, frame in sys._current_frames().items():
        thread = threads.get(ident)
        name = thread.name if thread is not None else f"thread {ident}"
        found.append((ident != main, name, _shown(frame)))
    found.sort(key=lambda row: row[:2])
    return {"pid": os.getpid(), "threads": [(name, text) for _, name, text in found]}


def _shown(frame: Any) -> str:
    """A stack without the frames that every worker begins with, and without those of this answer."""
    inner = frame
    while inner is not None:
        if inner.f_code is Inspection.on_inspect.__code__:
            frame = inner.f_back
        inner = inner.f_back
    lines = traceback.extract_stack(frame)
    begins = [index for index, line in enumerate(lines) if line.name == "run_worker"]
    return "".join(traceback.format_list(lines[begins[-1] + 1 :] if begins else lines))


def events_of(snapshot: dict[str, Any]) -> list[Any]:
    """What a recorder's snapshot tells, as typed events. In the observer."""
    return Recorder.decoded(snapshot)
