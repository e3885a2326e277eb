"""How does a call leave its owner?

    f.remote(x) ─► submit ─► queue of its shape ─► flush ─► a leased worker (one frame, many tasks)

A task leaves only when every reference among its top-level arguments is ready; small values travel
with it, large ones stay in the arena. Arguments are pickled at the call: later changes by the caller
are not seen, and what cannot be pickled fails where it was written.

Corking: the first task after a pause leaves at once; in a burst one flush every 200 us, at 128 tasks,
or at `get`. Window: about 4 ms of estimated work per worker, from a moving average per function; an
unknown function counts as a full window, so the tasks behind it stay here, free for another worker.
"""

from __future__ import annotations

import functools
import pickle
import time
from array import array
from typing import Any

from minray.base.messages import LeaseDemand, Shape
from minray.rpc.channel import PACKET_BYTES
from minray.serialization.values import (
    FAILED,
    PENDING,
    PLAIN_TEXT_LIMIT,
    PLAIN_TYPES,
    STORED,
    Stored,
    blame_argument,
)
from minray.worker.core_state import CoreState, Lease, TaskGroup
from minray.worker.functions import FunctionRecord
from minray.worker.interrupts import interrupts
from minray.worker.object_ref import BorrowedRef, ObjectRef, make_ref
from minray.worker.peer import Peer
from minray.worker.recorder import CHUNK, DISPATCH, NO_ATTEMPTS
from minray.worker.task_context import current_task
from minray.worker.wire import EXPORT, TASKS, Call, Slot, Yields

BATCH = 128
FRAME_TASKS = 256
CORK_S = 200e-6
WINDOW_US = 4000.0
WINDOW_TASKS = 2048
_REF_TYPES = (ObjectRef, BorrowedRef)
_perf = time.perf_counter
_new = ObjectRef.__new__


class _Late:
    """A call that waits for `left` more of its references; called once by each (few bytes: there may be a million)."""

    __slots__ = ("core", "dependencies", "left", "payload", "ref", "send")

    def __init__(self, core: Submission, ref: Any, payload: Any, dependencies: list[Any], send: Any) -> None:
        self.core = core
        self.ref = ref
        self.payload = payload
        self.dependencies = dependencies
        self.send = send
        self.left = 0

    def __call__(self) -> None:
        core = self.core
        with core.waiter_lock:
            self.left -= 1
            if self.left:
                return
        if core.unready.pop(self.ref.n, None) is not None:  # else it was cancelled
            self.go()

    def go(self) -> None:
        """All are ready: send the call with their values, or let it fail as the first that failed."""
        core = self.core
        for dependency in self.dependencies:
            if dependency.st == FAILED:
                core.note_never_sent(self.ref.n, dependency.v)
                core.complete(self.ref.n, FAILED, dependency.v)
                return
        slots = tuple([core.slot_value(dependency) for dependency in self.dependencies])
        self.send(self.payload._replace(slots=slots))


class Submission(CoreState):
    """From `f.remote(...)` to the frame on the socket."""

    def group_of(self, shape: Shape) -> TaskGroup:
        """The queue of `shape`."""
        group = self.groups.get(shape)
        if group is None:
            group = self.groups[shape] = TaskGroup(shape, self._max_leases(shape))
        return group

    def _max_leases(self, shape: Shape) -> int:
        limits = [
            int(self.cluster_resources.get(name, 0.0) * 10_000 // amount)
            for name, amount in shape
            if amount > 0
        ]
        return max(1, min(limits)) if limits else 64

    # ---------------------------------------------------------------- submit
    def submit(
        self, record: FunctionRecord, args: tuple[Any, ...], kwargs: dict[str, Any] | None
    ) -> ObjectRef[Any]:
        """Queue one task with one return value. Returns its reference at once."""
        payload: Any = args
        if kwargs or record.returns != 1:
            payload = None
        else:
            for value in args:
                kind = type(value)
                if kind in PLAIN_TYPES or ((kind is str or kind is bytes) and len(value) <= PLAIN_TEXT_LIMIT):
                    continue
                payload = None
                break
        ref: ObjectRef[Any] = _new(ObjectRef)
        ref.n = number = next(self.numbers)
        ref.owner = self.worker_id
        ref.st = 0
        ref.v = None
        ref.w = None
        ref.pins = 0
        ref.t = 0.0
        group = record.group
        now = _perf()
        recorder = self.recorder
        if payload is None:
            return self._submit_slowly(ref, record, args, kwargs or {}, now)
        ref.task = task = (number, record.number, payload)
        self.table[number] = ref
        if recorder is not None:
            ref.t = now
        if self.executor is not None:
            self.note_parent(number)
        queue = group.queue
        queue.append(task)
        if now - group.last_flush_s > CORK_S or len(queue) >= BATCH:
            self.kick(group, now)
        else:
            self.corked = True
            self.loop.busy = True
            if self.loop.sleeps or self.loop.pump_blocks:
                self.loop.wake_pump()
        if interrupts.pending:
            interrupts.raise_pending()
        return ref

    def _submit_slowly(
        self,
        ref: ObjectRef[Any],
        record: FunctionRecord,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        now: float,
    ) -> ObjectRef[Any]:
        payload, dependencies, held = self.pack(args, kwargs, record.returns)
        self._register(ref, record.number, None, payload, dependencies, held, record.returns, now)
        self.when_ready(ref, payload, dependencies, functools.partial(self._queue, ref, record))
        if interrupts.pending:
            interrupts.raise_pending()
        return ref

    def _queue(self, ref: ObjectRef[Any], record: FunctionRecord, payload: Any) -> None:
        ref.task = task = (ref.n, record.number, payload)
        group = record.group
        group.queue.append(task)
        self.kick(group, _perf())

    def _register(
        self,
        ref: ObjectRef[Any],
        function: Any,
        actor: Any,
        payload: Any,
        dependencies: list[ObjectRef[Any]],
        held: tuple[Any, ...],
        returns: int | Yields,
        now: float,
    ) -> None:
        number = ref.n
        ref.task = (number, function, payload)
        self.table[number] = ref
        if held:
            self.held[number] = held
            for part in held:
                self.pin(part)
        if type(returns) is not int:
            self.handing_out[number] = self.open_stream(ref, returns)
        elif returns > 1:
            others = [make_ref(self.worker_id, next(self.numbers)) for _ in range(returns - 1)]
            self.multi[number] = self.handing_out[number] = others
        if actor is not None:
            ref.v = actor.named
        if self.recorder is not None:
            ref.t = now
            if dependencies:
                self.recorder.takes(number, tuple(dependency.hex() for dependency in dependencies[:16]))
        if self.executor is not None:
            self.note_parent(number)

    def returned_refs(self, ref: ObjectRef[Any], returns: int | Yields) -> Any:
        """What `.remote()` hands out for a task with `returns` values."""
        if type(returns) is not int:
            return self.handing_out.pop(ref.n)
        if returns == 1:
            return ref
        if returns == 0:
            return None
        return [
            ref,
            *self.handing_out.pop(ref.n, ()),
        ]  # `multi` may be done with it: answers can be that fast

    # ---------------------------------------------------------------- arguments
    def pack(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], returns: int | Yields
    ) -> tuple[Any, list[ObjectRef[Any]], tuple[Any, ...]]:
        """(payload, references to wait for, what to keep alive). Raises what pickling raises."""
        dependencies: list[ObjectRef[Any]] = []
        if any(type(value) in _REF_TYPES for value in args):
            args = tuple(_slot(value, dependencies) for value in args)
        if kwargs and any(type(value) in _REF_TYPES for value in kwargs.values()):
            kwargs = {key: _slot(value, dependencies) for key, value in kwargs.items()}
        try:
            state, form, refs = self.store.seal((args, kwargs))
        except (TypeError, pickle.PicklingError) as error:
            raise blame_argument(args, kwargs, error) from error.__cause__
        if state == STORED:
            stream, buffers, block, _ = form
            if block is not None:
                whole = self.adopt(form, refs, None, "argument")
                call = Call(stream, None, (*block, self.worker_id, whole.n), (), returns)
                return call, dependencies, (*dependencies, whole)
            if buffers or refs:
                return Call(stream, buffers or None, None, (), returns), dependencies, (*dependencies, *refs)
            form = stream
        if dependencies or returns != 1:
            stream = pickle.dumps(form, 5) if state == 1 else form
            return Call(stream, None, None, (), returns), dependencies, tuple(dependencies)
        return form, dependencies, ()

    def adopt(
        self, form: tuple[Any, ...], refs: Any, ref: ObjectRef[Any] | None, kind: str = "put"
    ) -> ObjectRef[Any]:
        """Make sealed parts an own, ready object. `kind`: of its ObjectPut."""
        if ref is None:
            ref = make_ref(self.worker_id, next(self.numbers))
        for part in refs:
            self.pin(part)
        ref.v = self.store.keep(form, refs, self.note_end, ref.n)
        ref.st = STORED
        if form[2] is not None and self.recorder is not None:
            self.note_stored(ref, form, kind)
        return ref

    def when_ready(
        self, ref: ObjectRef[Any], payload: Any, dependencies: list[ObjectRef[Any]], send: Any
    ) -> None:
        """Call `send(payload)` once all dependencies are ready, with their values in its slots."""
        if not dependencies:
            send(payload)
            return
        late = _Late(self, ref, payload, dependencies, send)
        missing = [dependency for dependency in dependencies if dependency.st == PENDING]
        if not missing:
            late.go()
            return
        late.left = len(missing)
        self.unready[ref.n] = watched = []
        for dependency in missing:
            watched.append((dependency, late))
            self.on_ready(dependency, late)
            if isinstance(dependency, BorrowedRef):
                self.fetch(dependency)

    def slot_value(self, ref: ObjectRef[Any]) -> tuple[Any, ...]:
        """What travels of a ready reference among the arguments."""
        value = ref.v
        if ref.st == STORED:
            value.used_s = _perf()
            value = (value.stream, value.buffers, value.block, value.size)
        return ref.owner, ref.n, ref.st, value

    # ---------------------------------------------------------------- flush
    def kick(self, group: TaskGroup, now: float) -> None:
        """Flush `group`; on the way, apply replies that have come (no thread switch is needed)."""
        group.last_flush_s = now
        leases = group.leases
        if len(leases) == 1 and not leases[0].in_flight and len(group.queue) == 1:
            self._send_single(group, leases[0])
            if not group.queue:
                return
        loop = self.loop
        if loop.lead():
            try:
                for lease in leases:
                    if lease.in_flight:
                        loop.drain(lease.peer.channel)
            finally:
                loop.leave()
        self.flush(group)
        if group.queue:
            self.corked = True

    def _send_single(self, group: TaskGroup, lease: Lease) -> None:
        """The synchronous case, one task for one idle worker, without the window's arithmetic."""
        with self.flush_lock:
            if lease.blocked or lease.draining or lease.peer.gone or lease.in_flight or len(group.queue) != 1:
                return
            if lease.lease_id not in self.leases_by_id:
                return  # the pump gave it back since the caller looked
            batch = [group.queue.popleft()]
            lease.estimate_us = group.average_us.get(batch[0][1], WINDOW_US)
            self.send_tasks(lease, batch)
            if group.wanted:
                self._demand(group)

    def flush(self, group: TaskGroup) -> None:
        """Send queued tasks to leased workers as far as their windows allow; ask for more workers."""
        queue = group.queue
        if not queue:
            return
        with self.flush_lock:
            average = group.average_us.get
            leases = group.leases
            while queue:
                lease = None
                for candidate in leases:
                    if candidate.blocked or candidate.draining or candidate.peer.gone:
                        continue
                    if lease is None or candidate.estimate_us < lease.estimate_us:
                        lease = candidate
                if lease is None:
                    break
                estimate = lease.estimate_us
                if lease.in_flight and (estimate >= WINDOW_US or lease.in_flight >= WINDOW_TASKS):
                    break
                limit = min(len(queue), FRAME_TASKS)
                if len(leases) > 1:  # spread a small backlog over all
                    limit = max(1, min(limit, (len(queue) + len(leases) - 1) // len(leases)))
                batch: list[Any] = []
                take = queue.popleft
                for _ in range(limit):
                    task = take()
                    batch.append(task)
                    estimate += average(task[1], WINDOW_US)
                    if estimate >= WINDOW_US:
                        break
                lease.estimate_us = estimate
                self.send_tasks(lease, batch)
            if queue or group.wanted:
                self._demand(group)

    def send_tasks(self, lease: Lease, batch: list[Any]) -> None:
        """One frame (or more, when it is large) with `batch`, functions first."""
        peer = lease.peer
        exported = peer.exported
        functions = {task[1] for task in batch}
        for function in functions:
            if function not in exported:
                self._export(peer, function)
        if not lease.in_flight:
            lease.progress_s = _perf()
            lease.head_left = len(batch)
            if lease.batches:
                lease.batches.clear()
            if lease.returned:
                lease.returned.clear()
        elif not lease.batches:
            lease.head_left = len(batch)
        if lease.returned:
            lease.returned.difference_update([task[0] for task in batch])
        lease.batches.append(batch)
        lease.in_flight += len(batch)
        if lease.in_flight > 1:
            self.loop.busy = True
            if self.loop.sleeps:
                self.loop.wake_pump()
        self._note_dispatch(peer, batch, functions, None)
        frame = pickle.dumps((TASKS, batch), 5)
        if len(frame) > PACKET_BYTES and len(batch) > 1:
            self._send_frames(peer, batch)
        else:
            peer.channel.send_bytes(frame)

    def _send_frames(self, peer: Peer, batch: list[Any]) -> None:
        frame = pickle.dumps((TASKS, batch), 5)
        if len(frame) > PACKET_BYTES and len(batch) > 1:
            half = len(batch) // 2
            self._send_frames(peer, batch[:half])
            self._send_frames(peer, batch[half:])
            return
        peer.channel.send_bytes(frame)

    def _note_dispatch(self, peer: Peer, batch: list[Any], functions: set[Any], actor: Any) -> None:
        recorder = self.recorder
        if recorder is not None:
            numbers: Any
            if len(batch) == 1:
                numbers, called = (batch[0][0],), batch[0][1]
            else:
                numbers = array(
                    "q", [task[0] for task in batch]
                )  # no container of containers: see the recorder
                called = next(iter(functions)) if len(functions) == 1 else [task[1] for task in batch]
            tried = self.attempts_of(numbers) if self.attempts else NO_ATTEMPTS
            log = recorder.log
            log.append(
                (
                    DISPATCH,
                    _perf(),
                    numbers,
                    peer.worker_id,
                    peer.pid,
                    tried,
                    called,
                    actor,
                )
            )
            if len(log) > CHUNK:
                recorder.roll()

    def attempts_of(self, numbers: Any) -> dict[int, int]:
        """The attempts so far of those of `numbers` that were tried before."""
        attempts = self.attempts
        return (
            {number: attempts[number] for number in numbers if number in attempts}
            if attempts
            else NO_ATTEMPTS
        )

    def note_parent(self, number: int) -> None:
        """In a worker: which task submits?"""
        context = self.executor.context
        if context is None and (own := current_task()) is not None:  # a concurrent actor's call
            context = self.child_of[number] = own
            if not len(self.child_of) % 1024:
                self.forget_children()
        elif context is not self._parent:
            self._parent = context
            self._first_child = number
            if self.recorder is not None:
                self.recorder.parent_is(number, context.task_id if context is not None else "")
        if self.untold and context in self.untold:
            interrupts.pending = True  # the end of this submission looks after it

    def _export(self, peer: Peer, function: int) -> None:
        record = self.functions[function]
        peer.exported.add(function)
        peer.channel.send((EXPORT, function, record.name, record.blob, record.careful, record.max_calls))

    def _demand(self, group: TaskGroup) -> None:
        """Tell the node how many more workers of this shape we could use now (absolute)."""
        active = sum(1 for lease in group.leases if not lease.blocked and not lease.draining)
        backlog = len(group.queue)
        if not backlog and any(lease.in_flight > 1 for lease in group.leases):
            backlog = sum(max(0, lease.in_flight - 1) for lease in group.leases if self._stalled(lease))
        wanted = max(0, min(backlog, group.max_leases - active))
        if wanted != group.wanted and (wanted == 0 or group.wanted == 0 or wanted > group.wanted * 2):
            group.wanted = wanted
            self.tell_node(LeaseDemand(group.shape, wanted))

    def _stalled(self, lease: Lease) -> bool:
        return lease.in_flight > 1 and _perf() - lease.progress_s > 0.005


def _slot(value: Any, dependencies: list[ObjectRef[Any]]) -> Any:
    if type(value) in _REF_TYPES:
        dependencies.append(value)
        return Slot(len(dependencies) - 1)
    return value


def stored_parts(stored: Stored) -> tuple[Any, ...]:
    """What travels of a stored value."""
    return stored.stream, stored.buffers, stored.block, stored.size
