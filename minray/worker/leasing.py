"""Which leased workers does an owner keep, and which does it give back?

Leases are kept while they are useful: idle ones go back after 50 ms (at once when others wait), busy
ones after 500 ms of others waiting. Tasks stuck behind a long one are taken back when another worker
of their shape is free, so no task waits behind a running one while another worker is idle.

    granted ─► busy ◄─► idle ──50 ms, or others wait──► given back
                └─ others wait for 500 ms ─► draining ─► given back
"""

from __future__ import annotations

import time
from typing import Any

from minray.base import events as ev
from minray.base.errors import TaskUnschedulableError
from minray.base.messages import DemandStuck, LeaseDemand, LeaseGranted, LeaseReturned
from minray.worker.core_state import CoreState, Lease, TaskGroup
from minray.worker.peer import Peer
from minray.worker.wire import LEASED, PARTED, TAKE_BACK

IDLE_LEASE_S = 0.05
ROTATE_S = 0.5
BLOCKED_PATIENCE_S = 0.004
_perf = time.perf_counter


class Leasing(CoreState):
    """The owner's side of leases."""

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
        peer.channel.send((LEASED, grant.lease_id, grant.gpu_ids, grant.shape, group.environment))
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
        shape = ", ".join(f"{name}:{amount / 10_000:g}" for name, amount in lease.group.shape if amount)
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
            if lease.in_flight and not broken:
                return  # it was idle a moment ago, and another thread has sent it something since
            if self.leases_by_id.pop(lease.lease_id, None) is None:
                return
            if lease in lease.group.leases:
                lease.group.leases.remove(lease)
        if lease.peer.lease is lease:
            lease.peer.lease = None
        if self.recorder is not None:
            self._note_lease(lease, False)
        self.tell_node(LeaseReturned(lease.lease_id, broken, lease.retired))
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
                lease
                for lease in group.leases
                if not lease.in_flight and not lease.blocked and not lease.draining
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

    # ---------------------------------------------------------------- tasks that come back unstarted
    def on_returned(self, peer: Peer, message: Any) -> None:
        """(RETURNED, numbers, blocked): tasks come back unstarted; queue them again, in order."""
        _, numbers, blocked = message
        lease = peer.lease
        if type(lease) is not Lease:
            if lease is not None:
                self.refused_calls(lease, numbers)
            else:
                self._queue_again(numbers)
            return
        lease.asked_back = False
        with self.flush_lock:
            refused = [number for number in numbers if number in self.cancelled] if self.cancelled else ()
            tasks = [
                ref.task
                for number in numbers
                if number not in refused and (ref := self.table.get(number)) is not None and ref.task
            ]
            lease.blocked = lease.blocked or blocked
            before = lease.in_flight
            lease.in_flight = left = max(0, before - len(numbers))
            lease.estimate_us = lease.estimate_us * left / before if before else 0.0
            lease.returned.update(numbers)
            lease.group.queue.extendleft(reversed(tasks))
        for number in refused:
            self.end_cancelled(number)
        group = lease.group
        self.flush(group)
        if not blocked:
            if lease.draining and not lease.in_flight:
                self._give_back(lease)
            self._demand(group)
        elif group.queue:
            # Most waits are short: ask for another worker only if this one still waits in a while.
            self.loop.call_later(BLOCKED_PATIENCE_S, lambda: self._demand(group))

    def _queue_again(self, numbers: list[int]) -> None:
        # The lease under which they were sent is over; they are ours all the same.
        for number in reversed(numbers):
            ref = self.table.get(number)
            if ref is None or ref.task is None:
                continue
            if number in self.cancelled:
                self.end_cancelled(number)
                continue
            group = self.functions[ref.task[1]].group
            group.queue.appendleft(ref.task)
            self.flush(group)
            self._demand(group)

    def on_leaving(self, peer: Peer, message: Any) -> None:
        """(LEAVING,): what runs there now is the last (`max_calls`); the lease ends with it."""
        lease = peer.lease
        if type(lease) is Lease:
            with self.flush_lock:
                lease.draining = lease.retired = True
            if not lease.in_flight:
                self._give_back(lease)
            self._demand(lease.group)
        peer.channel.send((PARTED,))

    def on_unblocked(self, peer: Peer, message: Any) -> None:
        """(UNBLOCKED,): the worker's task runs on; it may get more."""
        lease = peer.lease
        if type(lease) is Lease:
            lease.blocked = False
            self.flush(lease.group)
            if not lease.in_flight and not lease.group.queue:
                self._lease_idle(lease)

    def cancel_demands(self) -> None:
        """Withdraw every demand (shutdown)."""
        for group in list(self.groups.values()):
            if group.wanted:
                group.wanted = 0
                self.tell_node(LeaseDemand(group.shape, 0))
