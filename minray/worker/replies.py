"""What happens when an answer comes back?

A reply frame makes entries ready and wakes who waits. A task whose exception is among its
`retry_exceptions` runs again instead, as often as `max_retries` allows.

    REPLY ─► table.pop(number) ─► entry ready ─► waiters
"""

from __future__ import annotations

import struct
import time
from array import array
from typing import Any

from minray.base import events as ev
from minray.base import ids
from minray.base.errors import RayTaskError
from minray.serialization.errors import dump_error, load_error
from minray.serialization.values import FAILED, PLAIN
from minray.worker.core_state import CoreState, Lease
from minray.worker.object_ref import ObjectRef
from minray.worker.peer import Peer
from minray.worker.recorder import DONE, ENDED, NO_ATTEMPTS
from minray.worker.state.habits import TINY_US

MULTI = 5  # the state of a reply that carries several return values: value = [(state, value), ...]
GENERATED = 6  # a generator task has ended; value = (index of the first, states, forms): its last items
_perf = time.perf_counter
_times = struct.Struct("d")


class Replies(CoreState):
    """Applies what comes back from workers."""

    # ---------------------------------------------------------------- replies
    def on_reply(self, peer: Peer, message: Any) -> None:
        """(REPLY, numbers, states, values, times)."""
        if self.revoked:
            message = self.revoke_answers(peer, message)
        _, numbers, states, values, times = message
        pop = self.table.pop
        count = len(numbers)
        target = peer.lease
        recorder = self.recorder
        submitted: list[float] = []
        later: list[
            Any
        ] = []  # filled below; the entry must be there before the table forgets: see the recorder
        if recorder is not None:
            tried = self.attempts_of(numbers) if self.attempts else NO_ATTEMPTS
            log = recorder.log
            if count == 1 and (ref := self.table.get(numbers[0])) is not None:
                later.append((ref.t,))
            log.append((DONE, numbers, states, times, peer.worker_id, peer.pid, tried, self.errors, later))
        note = submitted.append
        function = None
        ref = task = None
        if states is None:
            for number, value in zip(numbers, values):
                ref = pop(number, None)
                if ref is None:
                    note(0.0)
                    continue
                note(ref.t)
                ref.v = value
                ref.st = PLAIN
                task = ref.task
                ref.task = None
                if ref.w is not None:
                    waiters = ref.w
                    ref.w = None
                    for wake in waiters:
                        wake()
                if ref.pins:
                    self._keep_pinned(ref)
            if ref is not None and task is not None:
                function = task[1]
        else:
            for number, state, value in zip(numbers, states, values):
                ref = self.table.get(number)
                note(ref.t if ref is not None else 0.0)
                if ref is not None and ref.task is not None:
                    function = ref.task[1]
                    self._apply(peer, number, ref, state, value)
                else:
                    self._refuse(peer, state, value)
        if not later:
            later.append(array("d", submitted))
        if self.held:
            self._drop_held(numbers)
        if self.attempts:
            for number in numbers:
                if (again := self.table.get(number)) is None or again.task is None:
                    self.attempts.pop(number, None)
        if target is not None:
            self._progress(target, peer, count, function, times)

    def _apply(self, peer: Peer, number: int, ref: ObjectRef[Any], state: int, value: Any) -> None:
        if state == FAILED or (state == MULTI and value[-1][0] == FAILED):  # MULTI: a generator, midway
            error = value if state == FAILED else value[-1][1]
            task = ref.task
            record = self.functions.get(task[1]) if type(task[1]) is int else None
            rules = record.retry_exceptions if record is not None else self.call_rules.exceptions(number)
            if rules and self._retry_failed(peer, ref, task, error, rules, record):
                for one_state, one in value if state == MULTI else ():
                    self.accept_form(peer, one_state, one, ref)  # ours now, and gone at once
                return
            self.errors[number] = _one_line(error)
            if len(self.errors) > 10_000:
                self.errors.clear()
        if self.streams and number in self.streams:
            self.generated(peer, ref, state, value)
            return
        if state == MULTI:
            others = self.multi.get(number, ())
            for one_state, one in value[1 + len(others) :]:
                self.refuse_form(peer, one_state, one)
            for other, (one_state, one) in zip(others, value[1:]):
                self._settle(other, one_state, self.accept_form(peer, one_state, one, other))
            state, value = value[0]
        self.complete(number, state, self.accept_form(peer, state, value, ref))

    def _settle(self, ref: ObjectRef[Any], state: int, value: Any) -> None:
        ref.v = value
        ref.st = state
        ref.task = None
        waiters = ref.w
        if waiters is not None:
            ref.w = None
            for wake in waiters:
                wake()

    def complete(self, number: int, state: int, value: Any) -> None:
        """Task `number` has its value (or failed): its references are ready."""
        ref = self.table.pop(number, None)
        others = self.multi.pop(number, None)
        if others is not None and state == FAILED:
            for other in others:
                self._settle(other, FAILED, value)
        if ref is not None:
            self._settle(ref, state, value)
            if ref.pins:
                self._keep_pinned(ref)
        self._drop_held((number,))

    def _keep_pinned(self, ref: ObjectRef[Any]) -> None:
        with (
            self._holds_lock
        ):  # or the last pin goes between the look and the entry, which then stays for ever
            if ref.pins:
                self.table[ref.n] = ref

    def _refuse(self, peer: Peer, state: int, value: Any) -> None:
        """An answer that nobody waits for any more."""
        if state == MULTI:
            for one_state, one in value:
                self.refuse_form(peer, one_state, one)
        elif state == GENERATED:
            for one_state, one in zip(value[1] or (), value[2]):
                self.refuse_form(peer, one_state, one)
        else:
            self.refuse_form(peer, state, value)

    def _drop_held(self, numbers: Any) -> None:
        table = self.table
        for number in numbers:
            if number not in self.held:
                continue
            if (ref := table.get(number)) is not None and ref.task is not None:
                continue  # it runs again, with the same arguments
            parts = self.held.pop(number, None)
            if parts is not None:
                self.call_rules.by_number.pop(number, None)  # who has rules has an entry in `held`
                for part in parts:
                    self.unpin(part)

    def fail_task(self, number: int, error: BaseException, outcome: str = "lost") -> None:
        """Task `number` will never have a value: `get` raises `error`."""
        self.errors[number] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        self._note_ended(number, outcome)
        self.complete(number, FAILED, dump_error(error))

    def note_never_sent(self, number: int, error: Any) -> None:
        """Task `number` fails with the error of an argument."""
        self.errors[number] = _one_line(error)
        self._note_ended(number, "error")

    def _note_ended(self, number: int, outcome: str) -> None:
        ref = self.table.get(number)
        if self.recorder is not None and ref is not None and ref.task is not None and ref.t:
            text, attempt = self.errors[number], self.attempts.get(number, 0)
            self.recorder.log.append(
                (ENDED, _perf(), number, ref.t, ref.task[1], ref.v, outcome, text, attempt)
            )
            self.recorder.roll()

    def _progress(self, target: Any, peer: Peer, count: int, function: Any, times: bytes) -> None:
        if type(target) is not Lease:
            target.progressed(count)
            return
        lease = target
        group = lease.group
        with self.flush_lock:  # another thread may send at this moment, and keeps the same books
            before = lease.in_flight
            lease.in_flight = left = max(0, before - count)
            lease.estimate_us = lease.estimate_us * left / before if before else 0.0
            lease.progress_s = _perf()
            lease.head_left -= count
            batches = lease.batches
            while batches and lease.head_left <= 0:
                batches.popleft()
                if not batches:
                    break
                lease.head_left += len(batches[0])
        if function is not None:
            began = _times.unpack_from(times, 0)[0]
            ended = _times.unpack_from(times, len(times) - 8)[0]
            micros = (ended - began) * 1e6 / count
            old = group.average_us.get(function)
            group.average_us[function] = micros if old is None else 0.7 * old + 0.3 * micros
            if count > 1 and micros < TINY_US:
                finding = self.habits.tasks_done(self.functions[function].name, count, micros)
                if finding:
                    self.warn("tiny tasks", finding)
        if group.queue:
            if lease.draining and not left:
                self._give_back(lease)
            self.flush(group)
        elif not left:
            self._lease_idle(lease)

    # ---------------------------------------------------------------- retries
    def _retry_failed(
        self, peer: Peer, ref: ObjectRef[Any], task: Any, value: bytes, rules: Any, record: Any
    ) -> bool:
        limit = record.max_retries if record is not None else self.call_rules.limit(ref.n, peer.lease)
        done = self.attempts.get(ref.n, 0)
        if limit >= 0 and done >= limit:
            return False
        error = load_error(value)
        cause = getattr(error, "cause", None) or error
        if rules is not True and not isinstance(cause, tuple(rules)):
            return False
        with self.flush_lock:
            if ref.n in self.cancelled:
                return False
            self._count_retry(ref.n, record.name if record is not None else str(task[1]), repr(cause))
            task = self.replayed(task)
            if record is not None:
                record.group.queue.append(task)
            else:
                peer.lease.requeue([task])
        return True

    def _count_retry(self, number: int, name: str, reason: str) -> None:
        self.attempts[number] = attempt = self.attempts.get(number, 0) + 1
        if self.recorder is not None:
            task = ids.task_id_hex(self.worker_id, number)
            self.recorder.record(ev.TaskRetried(_perf(), task, name, attempt, reason[:300]))


def _one_line(value: Any) -> str:
    error = load_error(value)
    cause = getattr(error, "cause", None) if isinstance(error, RayTaskError) else None
    shown = cause or error
    return f"{type(shown).__name__}: {shown}".splitlines()[0][:200] if str(shown) else type(shown).__name__
