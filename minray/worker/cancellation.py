"""What happens when the owner of a task does not want it any more?

It depends on where the task is, and only its owner knows:

    in a queue here, or waits for an argument ─► taken out: its reference fails at once
    sent to a worker ─► CANCEL follows it there (`minray.worker.interruption`); the answer tells the end
    lost with its worker, or on its way back unstarted ─► not queued again
    ready ─► nothing happens

A task is marked before it is looked for. Whoever would queue it again asks for the mark under the
same lock (`flush_lock`), so that it cannot escape between two places. A reference that is borrowed is
forwarded to its owner.
"""

from __future__ import annotations

from typing import Any

from minray.base import ids
from minray.base.errors import TaskCancelledError
from minray.base.messages import LeaseReturned
from minray.serialization.errors import dump_error
from minray.serialization.values import FAILED, PENDING, PLAIN
from minray.worker.core_state import CoreState, Lease
from minray.worker.interrupts import interrupts
from minray.worker.object_ref import BorrowedRef, ObjectRef
from minray.worker.peer import Peer
from minray.worker.replies import MULTI
from minray.worker.wire import CANCEL

LOOK_AGAIN_S = 0.005
LOOK_AGAIN_MAX_S = 0.5
FORCE_PATIENCE_S = 1.0
"""How long a worker may take to end itself before its node kills it (native code holds the GIL)."""
MARKS_MAX = 10_000


class Cancellation(CoreState):
    """The owner's side of `cancel`."""

    def cancel(self, ref: ObjectRef[Any], force: bool, recursive: bool) -> None:
        """Stop the task that makes `ref`. Raises: ValueError for an actor's call by force, TypeError."""
        try:
            if ref.owner == self.worker_id:
                self._cancel_own(ref, force, recursive)
            elif type(ref) is not BorrowedRef:
                raise TypeError(
                    f"No owner found for object {ref.hex()}: the cluster that it belongs to was shut down."
                )
            elif ref.st == PENDING:
                try:
                    self.peer_for(ref.owner).channel.send((CANCEL, ref.n, force, recursive, True))
                except OSError:
                    pass  # its owner is dead, and the task with it
        finally:
            if interrupts.pending:
                interrupts.raise_pending()

    def on_cancel(self, peer: Peer, message: Any) -> None:
        """(CANCEL, number, force, recursive, yours)."""
        _, number, force, recursive, yours = message
        if not yours:
            if self.executor is not None:
                self.executor.interruption.on_cancel(peer, number, force, recursive)
            return
        ref = self.table.get(number)
        if ref is not None and ref.st == PENDING:
            try:
                self._cancel_own(ref, force, recursive)
            except ValueError:  # an actor's call: there is nobody here to refuse the force to
                self._cancel_own(ref, False, recursive)

    def _cancel_own(self, ref: ObjectRef[Any], force: bool, recursive: bool) -> None:
        if ref.task is None:  # ready, of `put`, or a further return value
            for number, others in list(self.multi.items()):
                if any(other is ref for other in others):
                    first = self.table.get(number)
                    if first is not None:
                        ref = first
                    break
        task = ref.task
        if task is None:
            return
        if force and type(task[1]) is str:
            raise ValueError("force=True is not supported for actor tasks.")
        self.withdraw(task[0], force, recursive)

    def withdraw(self, number: int, force: bool, recursive: bool, pause_s: float = LOOK_AGAIN_S) -> None:
        """Cancel task `number` of ours, wherever it is; between two places: look again in `pause_s`."""
        ref = self.table.get(number)
        task = ref.task if ref is not None else None
        if task is None:
            return  # it has its value
        calls: Any = None
        if type(task[1]) is str:
            assert ref is not None
            calls = self.actors.get(ref.v[1]) if type(ref.v) is tuple else None
            if calls is None:
                return  # an actor that waits for an argument of its constructor: `kill` ends actors
        with self.flush_lock:
            if len(self.cancelled) > MARKS_MAX:
                self._forget_marks()
            self.cancelled[number] = force or self.cancelled.get(number, False)
            waits = self._take_out(number, task, calls)
            peer = None if waits else self._runs_at(number, task, calls)
        if waits:
            self.end_cancelled(number)
            if calls is not None:
                calls.flush()
                calls.settle()
        elif peer is not None:
            if calls is not None:
                self.revoked.add(number)
            peer.channel.send((CANCEL, number, force, recursive, False))
            if force:
                self.loop.call_later(FORCE_PATIENCE_S, lambda: self._insist(number))
        else:  # whoever holds it at this moment will see the mark, or we find it then
            longer = min(2 * pause_s, LOOK_AGAIN_MAX_S)
            self.loop.call_later(pause_s, lambda: self.withdraw(number, force, recursive, longer))
        self.loop.wake_pump()

    def _take_out(self, number: int, task: Any, calls: Any) -> bool:
        """Take it out of where it waits in this process. Returns whether it waited."""
        watched = self.unready.pop(number, None)
        if watched is not None:
            with self.waiter_lock:
                for dependency, callback in watched:
                    if dependency.w is not None and callback in dependency.w:
                        dependency.w.remove(callback)
            return True
        queue = self.functions[task[1]].group.queue if calls is None else calls.queue
        try:
            queue.remove(task)
            return True
        except ValueError:
            pass
        for entry in list(queue):
            if type(entry) is tuple and entry[0] == number:  # queued again in another form
                queue.remove(entry)
                return True
        return False

    def _runs_at(self, number: int, task: Any, calls: Any) -> Peer | None:
        """The process to which it was sent and that has not answered."""
        if calls is not None:
            return calls.peer if any(sent[0] == number for sent in calls.sent) else None
        lease = self._lease_of(number, task)
        return lease.peer if lease is not None else None

    def _lease_of(self, number: int, task: Any) -> Lease | None:
        group = self.functions[task[1]].group
        for lease in list(self.leases_by_id.values()):
            if lease.group is group and lease.in_flight and number not in lease.returned:
                if any(sent[0] == number for batch in lease.batches for sent in batch):
                    return lease
        return None

    def _insist(self, number: int) -> None:
        """The worker was told to end and has not: its pump cannot run, or the task has not begun there."""
        ref = self.table.get(number)
        task = ref.task if ref is not None else None
        if task is None:
            return
        with self.flush_lock:
            lease = self._lease_of(number, task)
            if lease is None:
                return
            unanswered = (
                sent[0]
                for batch in lease.batches
                for sent in batch
                if sent[0] not in lease.returned
                and (one := self.table.get(sent[0])) is not None
                and one.task is not None
            )
            at_its_head = next(unanswered, 0) == number  # else the process belongs to its neighbour yet
        if at_its_head:
            self.tell_node(LeaseReturned(lease.lease_id, broken=True))
        self.loop.call_later(FORCE_PATIENCE_S, lambda: self._insist(number))

    # ---------------------------------------------------------------- ends
    def end_cancelled(self, number: int, how: str = "before it started") -> None:
        """A task of ours is not to run (any more): its references fail."""
        self.revoked.discard(number)
        ref = self.table.get(number)
        if ref is None or ref.task is None:
            return
        if how == "while it ran" and self.cancelled.get(number):
            how = "by force: its worker process was killed"
        self.fail_task(number, self.cancel_error(ref, how), "cancelled")

    def end_lost(self, number: int, error: BaseException) -> None:
        """A call of ours was lost with its actor: `error`, unless it was cancelled before."""
        if number in self.cancelled:
            self.end_cancelled(number, "while it ran")
        else:
            self.fail_task(number, error)

    def cancel_error(self, ref: ObjectRef[Any], how: str) -> TaskCancelledError:
        """What `get` raises for the task of `ref`."""
        function = ref.task[1]
        if type(function) is int:
            name = self.functions[function].name
        else:
            name = f"{ref.v[0]}.{function}" if type(ref.v) is tuple else str(function)
        task_id = ids.task_id_hex(self.worker_id, ref.n)
        return TaskCancelledError(
            ids.TaskID(bytes.fromhex(task_id)), f"Task: {name} ({task_id}) was cancelled {how}."
        )

    def refused_calls(self, calls: Any, numbers: Any) -> None:
        """An actor gives calls back unstarted: they were cancelled."""
        for number in numbers:
            self.end_cancelled(number)
        calls.progressed(len(numbers))

    def revoke_answers(self, peer: Peer, message: Any) -> Any:
        """Values of actor calls that were cancelled while they ran become errors: a method is not
        interrupted, but its caller has done without its value."""
        kind, numbers, states, values, times = message
        hits = [index for index, number in enumerate(numbers) if number in self.revoked]
        if not hits:
            some = next(iter(self.revoked))  # its answer may have come while it was being revoked
            if (ref := self.table.get(some)) is None or ref.task is None:
                self.revoked.discard(some)
            return message
        states = [PLAIN] * len(numbers) if states is None else list(states)
        values = list(values)
        for index in hits:
            number, state = numbers[index], states[index]
            self.revoked.discard(number)
            ref = self.table.get(number)
            if ref is None or ref.task is None or state == FAILED:
                continue
            # What nobody wants is accepted and dropped all the same: its block and references are counted.
            for part_state, part in values[index] if state == MULTI else [(state, values[index])]:
                self.accept_form(peer, part_state, part, ref)
            states[index] = FAILED
            values[index] = dump_error(self.cancel_error(ref, "while it ran"))
        return kind, numbers, states, values, times

    # ---------------------------------------------------------------- children
    def cancel_children(self, context: Any, force: bool) -> None:
        """Cancel what the task of `context`, which runs here, has submitted."""
        first = self._first_child if self._parent is context else None
        for number, ref in list(self.table.items()):
            task = ref.task
            if task is None:
                continue
            parent = self.child_of.get(number)
            if parent is None:
                mine = first is not None and number >= first
            else:
                mine = parent.number == context.number and parent.peer is context.peer
            if mine:
                self.withdraw(number, force and type(task[1]) is int, True)

    def forget_children(self) -> None:
        """Keep `child_of` to tasks that are not done."""
        for number in list(self.child_of):
            ref = self.table.get(number)
            if ref is None or ref.task is None:
                self.child_of.pop(number, None)

    def _forget_marks(self) -> None:
        for number in list(self.cancelled):
            ref = self.table.get(number)
            if ref is None or ref.task is None:
                del self.cancelled[number]
