"""What becomes of tasks and references whose worker is gone?

The connection's end tells at once, the node tells why a moment later. Tasks that had begun run again
as often as `max_retries` allows, or fail with what is known of the cause; those that had not begun
are queued again and lose no retry.

    worker gone ─► its batches not answered ─► retry: front of the queue │ WorkerCrashedError
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from minray.base import events as ev
from minray.base.errors import WorkerCrashedError
from minray.base.messages import LeaseReturned, WorkerDied
from minray.worker.core_state import CoreState, Lease
from minray.worker.peer import Peer

CAUSE_WAIT_S = 1.5
DEATHS_MAX = 10_000  # causes that are remembered; of older ones it is only known that they are gone
_perf = time.perf_counter


class Deaths(CoreState):
    """Ends of peers."""

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
                task  # once: a task that came back and was sent here again is in two batches
                for task in {task[0]: task for batch in lease.batches for task in batch}.values()
                if task[0] not in lease.returned
                and (ref := self.table.get(task[0])) is not None
                and ref.task is not None
            ]
            lease.batches.clear()
            # The first of them was running; those behind it had not begun, so it costs them no retry. It may have
            # finished, its answer waiting for others to share a frame: from now on this function's answers do not.
            # (Then the second was running, and if it is a generator, items of it may be here: `replayed`.)
            stopped = [task for task in lost if task[0] in self.cancelled]
            if lost and lost[0] not in stopped:
                for function in {task[1] for task in lost}:
                    self._be_careful(function)
            for task in reversed(lost[1:]):
                if task not in stopped:
                    lease.group.queue.appendleft(self.replayed(task))
        worker_id = lease.peer.worker_id

        def end_lease() -> None:
            if worker_id not in self.deaths:  # it lives, but we cannot reach it
                self.tell_node(LeaseReturned(lease.lease_id, broken=True))

        # Not now: the node would kill what is dead already, and name that as the cause.
        self.when_cause_known(worker_id, end_lease)
        for task in stopped:
            self.end_cancelled(task[0], "while it ran" if task is lost[0] else "before it started")
        if lost and lost[0] not in stopped:
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
        with self.flush_lock:
            cancelled = number in self.cancelled
            again = not cancelled and (record.max_retries < 0 or done < record.max_retries)
            if again:
                self._count_retry(number, record.name, text)
                record.group.queue.appendleft(self.replayed(task))
        if cancelled:
            self.end_cancelled(number)
            return
        if again:
            self.flush(record.group)
            self._demand(record.group)
            return
        times = f" {done + 1} times (max_retries={record.max_retries})" if done else ""
        self.fail_task(number, WorkerCrashedError(f"The task {record.name} was lost{times}: {text}"))

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
        if len(self.deaths) > DEATHS_MAX:
            del self.deaths[next(iter(self.deaths))]
        if self.recorder is not None:
            self.recorder.record(
                ev.WorkerChanged(_perf(), died.worker_id.hex(), died.pid, False, died.reason)
            )
        peer = self.peers.get(died.worker_id)
        if peer is not None and not peer.gone:
            self.loop.drain_rest(peer.channel)
        self.note_events_of_dead(died)
        self.resume_lost(died.worker_id)
        self.clear_after(died.worker_id)

    def on_workers_died(self, deaths: tuple[WorkerDied, ...]) -> None:
        """The node reports several."""
        for died in deaths:
            self.on_worker_died(died)

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
