"""What happens when an answer, or a death, comes back?

A reply frame makes entries ready and wakes who waits. A worker's end makes its tasks run again, as
often as `max_retries` allows, or fail with what is known of the cause. Leases are kept while they are
useful: idle ones go back after 50 ms (at once when others wait), busy ones after 500 ms of others
waiting; tasks stuck behind a long one are taken back when another worker is free.

    REPLY ─► table.pop(number) ─► entry ready ─► waiters
    worker gone ─► its batches not answered ─► retry: front of the queue │ WorkerCrashedError
"""

from __future__ import annotations

import struct
import time
from array import array
from collections.abc import Callable
from typing import Any

from minray.base import events as ev
from minray.base import ids
from minray.base.errors import RayTaskError, TaskUnschedulableError, WorkerCrashedError
from minray.base.messages import DemandStuck, LeaseDemand, LeaseGranted, LeaseReturned, WorkerDied
from minray.serialization.errors import dump_error, load_error
from minray.serialization.values import FAILED, PLAIN
from minray.worker.core_state import CoreState, Lease, TaskGroup
from minray.worker.object_ref import ObjectRef
from minray.worker.peer import Peer
from minray.worker.recorder import DONE
from minray.worker.state.habits import TINY_US
from minray.worker.wire import LEASED, TAKE_BACK

MULTI = 5  # the state of a reply that carries several return values: value = [(state, value), ...]
IDLE_LEASE_S = 0.05
ROTATE_S = 0.5
CAUSE_WAIT_S = 1.5
BLOCKED_PATIENCE_S = 0.004
_perf = time.perf_counter
_times = struct.Struct("d")


class Replies(CoreState):
    """Applies what comes back from workers and from the node about leases."""

    # ---------------------------------------------------------------- replies
    def on_reply(self, peer: Peer, message: Any) -> None:
        """(REPLY, numbers, states, values, times)."""
        _, numbers, states, values, times = message
        pop = self.table.pop
        count = len(numbers)
        target = peer.lease
        recorder = self.recorder
        submitted: list[float] = []
        later: list[Any] = []  # the entry is in the log before the references leave the table: see the recorder
        if recorder is not None:
            recorder.log.append(
                (DONE, numbers, states, times, peer.worker_id, peer.pid, self.attempts_of(numbers), self.errors, later)
            )
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
                    self.table[number] = ref
            if ref is not None and task is not None:
                function = task[1]
        else:
            for number, state, value in zip(numbers, states, values):
                ref = self.table.get(number)
                note(ref.t if ref is not None else 0.0)
                if ref is not None and ref.task is not None:
                    function = ref.task[1]
                    self._apply(peer, number, ref, state, value)
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
        if state == FAILED:
            task = ref.task
            record = self.functions.get(task[1]) if type(task[1]) is int else None
            rules = record.retry_exceptions if record is not None else getattr(peer.lease, "retry_exceptions", False)
            if rules and self._retry_failed(peer, ref, task, value, rules, record):
                return
            self.errors[number] = _one_line(value)
            if len(self.errors) > 10_000:
                self.errors.clear()
        if state == MULTI:
            others = self.multi.get(number, [])
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
                self.table[number] = ref
        self._drop_held((number,))

    def _drop_held(self, numbers: Any) -> None:
        for number in numbers:
            parts = self.held.pop(number, None)
            if parts is not None:
                for part in parts:
                    self.unpin(part)

    def fail_task(self, number: int, error: BaseException) -> None:
        """Task `number` will never have a value: `get` raises `error`."""
        self.errors[number] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        if self.recorder is not None:
            name = ""
            ref = self.table.get(number)
            if ref is not None and ref.task is not None:
                record = self.functions.get(ref.task[1]) if type(ref.task[1]) is int else None
                name = record.name if record is not None else str(ref.task[1])
            self.recorder.record(
                ev.TaskFinished(
                    _perf(), ids.task_id_hex(self.worker_id, number), name, "", 0, _perf(), "lost",
                    self.errors[number], self.attempts.get(number, 0),
                )
            )
        self.complete(number, FAILED, dump_error(error))

    def _progress(self, target: Any, peer: Peer, count: int, function: Any, times: bytes) -> None:
        if type(target) is not Lease:
            target.progressed(count)
            return
        lease = target
        group = lease.group
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
    def _retry_failed(self, peer: Peer, ref: ObjectRef[Any], task: Any, value: bytes, rules: Any, record: Any) -> bool:
        limit = record.max_retries if record is not None else getattr(peer.lease, "max_task_retries", 0)
        done = self.attempts.get(ref.n, 0)
        if limit >= 0 and done >= limit:
            return False
        error = load_error(value)
        cause = getattr(error, "cause", None) or error
        if rules is not True and not isinstance(cause, tuple(rules)):
            return False
        self._count_retry(ref.n, record.name if record is not None else str(task[1]), repr(cause))
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

    def on_returned(self, peer: Peer, message: Any) -> None:
        """(RETURNED, numbers, blocked): tasks come back unstarted; queue them again, in order."""
        _, numbers, blocked = message
        lease = peer.lease
        if type(lease) is not Lease:
            return
        lease.asked_back = False
        tasks = [ref.task for number in numbers if (ref := self.table.get(number)) is not None and ref.task]
        with self.flush_lock:
            lease.blocked = lease.blocked or blocked
            before = lease.in_flight
            lease.in_flight = left = max(0, before - len(numbers))
            lease.estimate_us = lease.estimate_us * left / before if before else 0.0
            lease.returned.update(numbers)
            lease.group.queue.extendleft(reversed(tasks))
        group = lease.group
        self.flush(group)
        if not blocked:
            self._demand(group)
        elif group.queue:
            # Most waits are short: ask for another worker only if this one still waits in a while.
            self.loop.call_later(BLOCKED_PATIENCE_S, lambda: self._demand(group))

    def on_unblocked(self, peer: Peer, message: Any) -> None:
        """(UNBLOCKED,): the worker's task runs on; it may get more."""
        lease = peer.lease
        if type(lease) is Lease:
            lease.blocked = False
            self.flush(lease.group)
            if not lease.in_flight and not lease.group.queue:
                self._lease_idle(lease)

    # ---------------------------------------------------------------- leases
    def on_granted(self, grant: LeaseGranted) -> None:
        """The node lends a worker."""
        group = self.groups[grant.shape]
        group.wanted = max(0, group.wanted - 1)
        group.stuck = ""
        try:
            peer = self.attach(grant.worker_id, grant.address, grant.pid)
        except OSError:
            self.tell_node(LeaseReturned(grant.lease_id, broken=True))
            return
        lease = Lease(group, peer, grant.lease_id, _perf())
        peer.lease = lease
        self.leases_by_id[grant.lease_id] = lease
        peer.channel.send((LEASED, grant.lease_id, grant.gpu_ids, grant.shape))
        if self.recorder is not None:
            self._note_lease(lease, True)
        with self.flush_lock:
            group.leases.append(lease)
        if group.queue:
            self.flush(group)
        else:
            self._rebalance(group)
        if not lease.in_flight:
            self._lease_idle(lease)

    def _note_lease(self, lease: Lease, granted: bool) -> None:
        assert self.recorder is not None
        shape = ", ".join(f"{name}:{amount / 10_000:g}" for name, amount in lease.group.shape)
        self.recorder.record(
            ev.LeaseChanged(
                _perf(),
                lease.lease_id,
                lease.peer.worker_id.hex(),
                lease.peer.pid,
                self.worker_id.hex(),
                shape,
                granted,
            )
        )

    def _lease_idle(self, lease: Lease) -> None:
        if lease.blocked:
            return
        if self.hungry or lease.draining:
            self._give_back(lease)
            return
        if len(lease.group.leases) > 1 and self._rebalance(lease.group):
            return
        if not self._idle_armed:
            self._idle_armed = True
            self.loop.call_later(IDLE_LEASE_S, self._return_idle)

    _idle_armed = False
    _rotation_armed = False

    def _return_idle(self) -> None:
        self._idle_armed = False
        now = _perf()
        again = False
        for lease in list(self.leases_by_id.values()):
            if lease.in_flight or lease.blocked:
                continue
            if now - lease.progress_s >= IDLE_LEASE_S * 0.9 and not lease.group.queue:
                self._give_back(lease)
            else:
                again = True
        if again:
            self._idle_armed = True
            self.loop.call_later(IDLE_LEASE_S, self._return_idle)

    def return_idle_now(self) -> None:
        """Give every idle lease back (before the node is asked what is available)."""
        for lease in list(self.leases_by_id.values()):
            if not lease.in_flight and not lease.blocked and not lease.group.queue:
                self._give_back(lease)

    def _give_back(self, lease: Lease, broken: bool = False) -> None:
        with self.flush_lock:
            if self.leases_by_id.pop(lease.lease_id, None) is None:
                return
            if lease in lease.group.leases:
                lease.group.leases.remove(lease)
        if lease.peer.lease is lease:
            lease.peer.lease = None
        if self.recorder is not None:
            self._note_lease(lease, False)
        self.tell_node(LeaseReturned(lease.lease_id, broken))
        group = lease.group
        if group.queue:
            group.wanted = 0
            self._demand(group)

    def on_hungry(self, hungry: bool) -> None:
        """Others wait for what we hold (or no longer)."""
        self.hungry = hungry
        if hungry:
            for lease in list(self.leases_by_id.values()):
                if not lease.in_flight and not lease.blocked and not lease.group.queue:
                    self._give_back(lease)
            self._rotate()

    def _rotate(self) -> None:
        self._rotation_armed = False
        if not self.hungry:
            return
        now = _perf()
        for lease in list(self.leases_by_id.values()):
            if now - lease.granted_s > ROTATE_S and not lease.draining and not lease.blocked:
                lease.draining = True
                if not lease.in_flight:
                    self._give_back(lease)
        if self.leases_by_id and not self._rotation_armed:
            self._rotation_armed = True
            self.loop.call_later(0.1, self._rotate)

    def _rebalance(self, group: TaskGroup) -> bool:
        """Take tasks back from behind a long one when another worker of the shape is idle."""
        with self.flush_lock:
            idle = [
                lease for lease in group.leases if not lease.in_flight and not lease.blocked and not lease.draining
            ]
            if not idle:
                return False
            asked = False
            for lease in group.leases:
                if lease.in_flight > 1 and not lease.asked_back and self._stalled(lease):
                    lease.asked_back = True
                    lease.peer.channel.send((TAKE_BACK, lease.in_flight - 1))
                    asked = True
            return asked

    def check_stalls(self) -> bool:
        """Every 5 ms while tasks queue up behind others. Returns whether to look again."""
        again = False
        for group in list(self.groups.values()):
            if group.queue:
                again = True
                self.flush(group)
            crowded = False
            for lease in group.leases:
                if lease.in_flight > 1:
                    crowded = True
                    break
            if crowded:
                again = True
                if not self._rebalance(group) and not group.queue:
                    self._demand(group)
        return again

    def on_stuck(self, stuck: DemandStuck) -> None:
        """The node cannot meet a demand: warn, or fail the queued tasks when it refuses."""
        group = self.groups.get(stuck.shape)
        if group is None:  # an actor of ours cannot be placed
            self.warn(f"stuck {stuck.shape}", f"An actor cannot start: {stuck.reason}")
            return
        if stuck.refused:
            with self.flush_lock:
                tasks = list(group.queue)
                group.queue.clear()
                group.wanted = 0
            for task in tasks:
                self.fail_task(task[0], TaskUnschedulableError(stuck.reason))
            return
        if stuck.infeasible and group.stuck != stuck.reason:
            group.stuck = stuck.reason
            self.warn(f"stuck {stuck.shape}", f"{len(group.queue)} queued tasks cannot start: {stuck.reason}")

    def warn(self, key: str, text: str) -> None:
        """Tell the user once (overridden by the process's shell)."""

    # ---------------------------------------------------------------- deaths
    def on_peer_gone(self, peer: Peer) -> None:
        """A direct connection ended: everything that depended on it is retried or fails."""
        peer.gone = True
        if self.peers.get(peer.worker_id) is peer:
            del self.peers[peer.worker_id]
        self.drop_holds(peer)
        lease = peer.lease
        if type(lease) is Lease:
            self._lease_lost(lease)
        elif lease is not None:
            lease.connection_lost(peer)
        if self.executor is not None:
            self.executor.caller_gone(peer)

    def _lease_lost(self, lease: Lease) -> None:
        with self.flush_lock:
            self.leases_by_id.pop(lease.lease_id, None)
            if lease in lease.group.leases:
                lease.group.leases.remove(lease)
            lost = [
                task
                for batch in lease.batches
                for task in batch
                if task[0] not in lease.returned
                and (ref := self.table.get(task[0])) is not None
                and ref.task is not None
            ]
            lease.batches.clear()
        worker_id = lease.peer.worker_id

        def end_lease() -> None:
            if worker_id not in self.deaths:  # it lives, but we cannot reach it
                self.tell_node(LeaseReturned(lease.lease_id, broken=True))

        # Not now: the node would kill what is dead already, and name that as the cause.
        self.when_cause_known(worker_id, end_lease)
        # The first of them was running; those behind it had not begun, so it costs them no retry. It may have
        # finished, its answer waiting for others to share a frame: from now on this function's answers do not.
        for function in {task[1] for task in lost}:
            self._be_careful(function)
        for task in reversed(lost[1:]):
            lease.group.queue.appendleft(task)
        if lost:
            self.when_cause_known(worker_id, lambda: self._retry_lost(lost[0], lease))
        if lease.group.queue:
            lease.group.wanted = 0
            self._demand(lease.group)
            self.flush(lease.group)

    def _be_careful(self, function: int) -> None:
        record = self.functions[function]
        if not record.careful:
            record.careful = True
            for peer in list(self.peers.values()):
                peer.exported.discard(function)

    def _retry_lost(self, task: Any, lease: Lease) -> None:
        number, function, _ = task
        ref = self.table.get(number)
        if ref is None or ref.task is None:
            return
        record = self.functions[function]
        text = self.worker_end_text(lease.peer.worker_id)
        done = self.attempts.get(number, 0)
        if record.max_retries < 0 or done < record.max_retries:
            self._count_retry(number, record.name, text)
            record.group.queue.appendleft(task)
            self.flush(record.group)
            self._demand(record.group)
            return
        again = f" {done + 1} times (max_retries={record.max_retries})" if done else ""
        self.fail_task(number, WorkerCrashedError(f"The task {record.name} was lost{again}: {text}"))

    def when_cause_known(self, worker_id: bytes, then: Callable[[], None]) -> None:
        """Run `then` once the node has said why the worker died, or after 1.5 s without a word."""
        if worker_id in self.deaths:
            then()
            return
        waiting = self.awaiting_cause.setdefault(worker_id, [])
        waiting.append(then)
        if len(waiting) == 1:
            self.loop.call_later(CAUSE_WAIT_S, lambda: self.resume_lost(worker_id))

    def on_worker_died(self, died: WorkerDied) -> None:
        """The node reports a death with its cause."""
        self.deaths[died.worker_id] = died
        if self.recorder is not None:
            self.recorder.record(ev.WorkerChanged(_perf(), died.worker_id.hex(), died.pid, False, died.reason))
        peer = self.peers.get(died.worker_id)
        if peer is not None and not peer.gone:
            self.loop.drain_rest(peer.channel)
        self.resume_lost(died.worker_id)

    def resume_lost(self, worker_id: bytes) -> None:
        """Continue what waited for the cause of a death."""
        for then in self.awaiting_cause.pop(worker_id, []):
            then()

    def worker_end_text(self, worker_id: bytes) -> str:
        """What is known of a worker's end, one or more lines."""
        died = self.deaths.get(worker_id)
        if died is None:
            return f"its worker process {worker_id.hex()[:8]} is gone; the cause is not known."
        return died.reason

    def cancel_demands(self) -> None:
        """Withdraw every demand (shutdown)."""
        for group in list(self.groups.values()):
            if group.wanted:
                group.wanted = 0
                self.tell_node(LeaseDemand(group.shape, 0))


def _one_line(value: Any) -> str:
    error = load_error(value)
    cause = getattr(error, "cause", None) if isinstance(error, RayTaskError) else None
    shown = cause or error
    return f"{type(shown).__name__}: {shown}".splitlines()[0][:200] if str(shown) else type(shown).__name__

