"""How do calls reach an actor, in order, across its restarts?

Each process that holds a handle keeps one `ActorCalls` per actor: a queue, the connection, the calls
under way. The queue is strictly first in, first out for each caller: a call whose argument is not
ready holds back those behind it. The node (GCS) says where the actor lives and how it is:

    pending ─► alive (connect, send) ─► restarting (retry or fail what was under way) ─► alive ...
                                     └► dead (everything fails with the cause)

The creator owns the actor (`minray.worker.actor_creation`): its handle carries an ordinary owned
reference, other handles borrow it, and when the last one is gone the actor is asked to finish and end.
"""

from __future__ import annotations

import errno
import pickle
import sys
import time
from collections import deque
from typing import Any

from minray.base import events as ev
from minray.base.errors import (
    ActorDiedError,
    ActorUnavailableError,
    PendingCallsLimitExceeded,
    RayTaskError,
)
from minray.base.messages import (
    ActorChanged,
    ActorOutOfScope,
    KillActor,
    WatchActor,
)
from minray.serialization.errors import load_error
from minray.serialization.values import FAILED, PLAIN, PLAIN_TEXT_LIMIT, PLAIN_TYPES
from minray.worker.call_rules import CallRules
from minray.worker.core_state import CoreState
from minray.worker.interrupts import interrupts
from minray.worker.object_ref import ObjectRef
from minray.worker.peer import Peer
from minray.worker.submission import BATCH, CORK_S, FRAME_TASKS, WINDOW_TASKS
from minray.worker.wire import Call, Yields

CUT_OFF_S = 10.0  # a connection ended and no death is told of: longer than a loaded machine needs to tell
AGAIN_S = 0.5  # a connection that the system refused for lack of descriptors
_perf = time.perf_counter
_new = ObjectRef.__new__


def in_group(payload: Any, group: str, returns: int | Yields) -> Call:
    """The payload of a call that names its concurrency group."""
    if type(payload) is Call:
        return payload._replace(group=group)
    stream = payload if type(payload) is bytes else pickle.dumps(payload, 5)
    return Call(stream, None, None, (), returns, group)


class ActorCalls:
    """One process's calls to one actor."""

    def __init__(
        self,
        core: ActorSide,
        actor_id: bytes,
        class_name: str,
        max_task_retries: int,
        max_pending: int,
        in_order: bool,
        grouped: bool,
    ):
        self.core = core
        self.actor_id = actor_id
        self.class_name = class_name
        self.max_task_retries = max_task_retries
        self.max_pending = max_pending
        # Not in order: a call whose argument is not ready waits beside the queue, and what one group of the actor
        # cannot take yet must not keep others from being sent.
        self.in_order = in_order
        self.window = WINDOW_TASKS if in_order and not grouped else sys.maxsize
        self.unready: dict[int, None] = {}
        self.state = "pending"
        self.pid = 0
        self.incarnation = -1
        self.peer: Peer | None = None
        self.queue: deque[Any] = deque()  # tasks, or [None, number]: a place held for an argument
        self.sent: list[Any] = []
        self.in_flight = 0
        self.last_flush_s = 0.0
        self.cause = ""
        self.error = b""
        self.killed = False
        self.halted = False  # we had it killed: what is called now must not reach the old process any more
        self.watched = False
        self.abandoned = False  # its owner's last handle is gone
        self.handles_gone = False  # the last handle went while calls were under way
        self.creation_held: tuple[Any, ...] = ()  # what the constructor's arguments keep alive
        self.may_restart = False
        self.named = (class_name, actor_id)  # for the events
        self.arguments: Any = None  # stands for the constructor's while they are awaited
        self.keep: Any = None  # the handle's reference while calls are under way

    # ---------------------------------------------------------------- sending
    def flush(self) -> None:
        """Send what is at the head of the queue and ready."""
        core = self.core
        with core.flush_lock:
            peer = self.peer
            queue = self.queue
            if self.halted:
                return
            while queue and peer is not None and not peer.gone and self.in_flight < self.window:
                batch: list[Any] = []
                for _ in range(min(len(queue), FRAME_TASKS)):
                    if type(queue[0]) is list:
                        break  # its argument is not ready: those behind wait too
                    batch.append(queue.popleft())
                if not batch:
                    return
                self.sent.extend(batch)
                self.in_flight += len(batch)
                core._note_dispatch(peer, batch, {task[1] for task in batch}, self.named)
                core._send_frames(peer, batch)

    def progressed(self, count: int) -> None:
        """`count` calls were answered."""
        with self.core.flush_lock:  # another thread may send at this moment, and keeps the same books
            self.in_flight = left = max(0, self.in_flight - count)
            if not left:
                self.sent.clear()
                if not self.queue and not self.unready:
                    self.keep = None
            elif len(self.sent) > 2 * left + 4096:
                table = self.core.table
                self.sent = [task for task in self.sent if (ref := table.get(task[0])) is not None and ref.task]
        if self.queue:
            self.flush()
        elif self.handles_gone:
            self.settle()

    def settle(self) -> None:
        """Tell the node that nobody can reach the actor, once every call that was made is answered."""
        if self.handles_gone and not self.queue and not self.in_flight and not self.unready:
            self.handles_gone = False
            self.core.tell_node(ActorOutOfScope(self.actor_id))

    def requeue(self, tasks: list[Any]) -> None:
        """Run these again, before anything that waits."""
        with self.core.flush_lock:
            again = {task[0] for task in tasks}  # by number: a generator's call may have another payload by now
            self.sent = [task for task in self.sent if task[0] not in again]
            self.queue.extendleft(reversed(tasks))
        self.flush()

    def pending(self) -> int:
        """How many calls of this process are not answered."""
        return len(self.queue) + self.in_flight + len(self.unready)

    # ---------------------------------------------------------------- life
    def connection_lost(self, peer: Peer) -> None:
        """The worker is gone; the node will say whether the actor comes back."""
        if self.peer is peer:
            self.peer = None
            self.core.loop.call_later(CUT_OFF_S, lambda: self._cut_off(peer))

    def _cut_off(self, peer: Peer) -> None:
        """The connection ended and nobody has told of a death: the actor lives, our calls are lost. Connect again."""
        if self.peer is None and self.state == "alive" and peer.worker_id not in self.core.deaths:
            self.cause = "the connection to its process was lost"
            self._lost(False)
            self.core.tell_node(WatchActor(self.actor_id))  # answered with where it is

    def changed(self, change: ActorChanged) -> None:
        """The node reports a new state."""
        self.state = change.state
        self.pid = change.pid or self.pid
        if change.state != "alive" or change.incarnation != self.incarnation:
            self.halted = False
        self.cause = change.cause
        self.error = change.error
        self.killed = change.no_restart_by_kill
        if change.state == "alive":
            if not self.may_restart:
                self.let_arguments_go()  # the actor has counted what it keeps of them
            self._connect(change)
        elif change.state == "restarting":
            self._lost(False)
        elif change.state == "dead":
            self._lost(True)

    def _connect(self, change: ActorChanged) -> None:
        if self.incarnation >= 0 and change.incarnation != self.incarnation and self.sent:
            self._lost(False)
        self.incarnation = change.incarnation
        try:
            self.peer = self.core.attach(change.worker_id, change.address, change.pid)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                core = self.core
                core.warn(
                    "descriptors",
                    f"minray: this process cannot open another connection to an actor ({error.strerror}): it holds "
                    f"{len(core.loop.channels)}. Calls wait until others are closed; `ulimit -n` raises the limit.",
                )
                core.loop.call_later(AGAIN_S, lambda: self._connect_again(change))
            return  # else it died meanwhile: the next report says so
        self.peer.lease = self
        self.flush()

    def _connect_again(self, change: ActorChanged) -> None:
        if self.state == "alive" and self.incarnation == change.incarnation and self.peer is None:
            self._connect(change)

    def _lost(self, for_ever: bool) -> None:
        core = self.core
        if self.peer is not None and not self.peer.gone:
            core.loop.drain_rest(self.peer.channel)  # its last answers come first
        self.peer = None
        if for_ever:
            self.keep = None
        table = core.table
        with core.flush_lock:
            lost = [task for task in self.sent if (ref := table.get(task[0])) is not None and ref.task]
            self.sent = []
            self.in_flight = 0
            again: list[Any] = []
            failed: list[Any] = []
            for task in lost:
                limit = 0 if task[0] in core.cancelled else core.call_rules.limit(task[0], self)
                if not for_ever and (limit < 0 or core.attempts.get(task[0], 0) < limit):
                    again.append(core.replayed(task))
                else:
                    failed.append(task)
            self.queue.extendleft(reversed(again))
            waiting = [*self.queue, *([None, number] for number in self.unready)] if for_ever else []
            if for_ever:
                self.queue.clear()
                self.unready.clear()
        for task in again:
            core.count_retry(task[0], f"{self.class_name}.{task[1]}", self.cause)
        for task in failed:
            core.end_lost(task[0], self.end_error() if for_ever else self._unavailable())
        for entry in waiting:
            core.fail_task(entry[1] if type(entry) is list else entry[0], self.end_error())
        if for_ever:
            self.let_arguments_go()
            if self.abandoned:
                core.actors.pop(self.actor_id, None)
        self.settle()

    def let_arguments_go(self) -> None:
        """The constructor's arguments are not needed any more."""
        held, self.creation_held = self.creation_held, ()
        for part in held:
            self.core.unpin(part)

    def _unavailable(self) -> ActorUnavailableError:
        why = self.cause.strip().rstrip(".") or "its process ended"
        how = "cannot be reached" if self.state == "alive" else "restarts"
        return ActorUnavailableError(
            f"{self.class_name} {how} ({why}); max_task_retries says how often such calls are made again",
            self.actor_id,
        )

    def end_error(self) -> BaseException:
        """The exception of a call to this actor now that it is dead."""
        cause: Any = self.cause or f"The actor {self.class_name} is dead."
        if self.error:
            cause = load_error(self.error)
            if not isinstance(cause, RayTaskError):
                cause = str(cause)
        return ActorDiedError(cause, self.actor_id.hex(), self.class_name, self.pid)


class ActorSide(CoreState):
    """The owner's and the callers' side of actors."""

    def calls_of(
        self,
        actor_id: bytes,
        class_name: str,
        max_task_retries: int = 0,
        max_pending: int = -1,
        in_order: bool = True,
        grouped: bool = False,
    ) -> ActorCalls:
        """This process's record of the actor; asks the node about it at first."""
        calls = self.actors.get(actor_id)
        if calls is None:
            calls = self.actors[actor_id] = ActorCalls(
                self, actor_id, class_name, max_task_retries, max_pending, in_order, grouped
            )
        return calls

    def count_retry(self, number: int, name: str, reason: str) -> None:
        """Note one more attempt (see Replies)."""
        self._count_retry(number, name, reason)

    # ---------------------------------------------------------------- calls
    def call_actor(
        self,
        calls: ActorCalls,
        keep: Any,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        returns: int | Yields,
        rules: CallRules | None = None,
    ) -> Any:
        """Queue one call. Returns its reference (a list for several values, None for none) at once.

        keep: the handle's reference; the actor outlives its last handle until this call is answered.
        """
        calls.keep = keep
        if not calls.watched:
            calls.watched = True
            self.tell_node(WatchActor(calls.actor_id))
        if calls.max_pending > 0 and calls.pending() >= calls.max_pending:
            raise PendingCallsLimitExceeded(
                f"The actor {calls.class_name} has {calls.max_pending} calls waiting (max_pending_calls); "
                "wait for some of them before you make more."
            )
        payload: Any = args
        if kwargs or returns != 1 or rules is not None:
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
        now = _perf()
        if payload is None:
            self._call_slowly(calls, ref, method, args, kwargs or {}, returns, now, rules)
        else:
            ref.task = task = (number, method, payload)
            ref.v = calls.named  # until there is a value
            self.table[number] = ref
            if self.recorder is not None:
                ref.t = now
            if self.executor is not None:
                self.note_parent(number)
            calls.queue.append(task)
        if calls.state == "dead":
            self._fail_dead(calls)
        elif now - calls.last_flush_s > CORK_S or len(calls.queue) >= BATCH:
            calls.last_flush_s = now
            self._drain_and_flush(calls)
        else:
            self.corked = True
            self.loop.busy = True
            if self.loop.sleeps or self.loop.pump_blocks:
                self.loop.wake_pump()
        if interrupts.pending:
            interrupts.raise_pending()
        return ref if returns == 1 else self.returned_refs(ref, returns)

    def _drain_and_flush(self, calls: ActorCalls) -> None:
        peer = calls.peer
        if peer is not None and calls.in_flight and self.loop.lead():
            try:
                self.loop.drain(peer.channel)
            finally:
                self.loop.leave()
        calls.flush()

    def _fail_dead(self, calls: ActorCalls) -> None:
        calls.keep = None
        waiting = [*calls.queue, *([None, number] for number in calls.unready)]
        calls.queue.clear()
        calls.unready.clear()
        for entry in waiting:
            self.fail_task(entry[1] if type(entry) is list else entry[0], calls.end_error())

    def _call_slowly(
        self,
        calls: ActorCalls,
        ref: ObjectRef[Any],
        method: str,
        args: Any,
        kwargs: Any,
        returns: int | Yields,
        now: float,
        rules: CallRules | None,
    ) -> None:
        payload, dependencies, held = self.pack(args, kwargs, returns)
        if rules is not None and rules.concurrency_group:
            payload = in_group(payload, rules.concurrency_group, returns)
        self._register(ref, method, calls, payload, dependencies, held, returns, now)
        if rules is not None:
            self.call_rules.by_number[ref.n] = rules
            if rules.name and self.recorder is not None:
                self.recorder.call_it(ref.n, rules.name)
            self.held.setdefault(ref.n, ())  # where answered calls are looked for
        if not dependencies:
            calls.queue.append(ref.task)
            return
        place = [None, ref.n]
        if calls.in_order:
            calls.queue.append(place)
        else:
            calls.unready[ref.n] = None

        def send(final: Any) -> None:
            ref.task = task = (ref.n, method, final)
            with self.flush_lock:
                if calls.unready.pop(ref.n, 0) is None:
                    calls.queue.append(task)
                else:
                    for index, entry in enumerate(calls.queue):
                        if entry is place:
                            calls.queue[index] = task
                            break
            calls.flush()

        def give_up() -> None:
            if ref.st != PLAIN:
                with self.flush_lock:
                    calls.unready.pop(ref.n, None)
                    if place in calls.queue:
                        calls.queue.remove(place)
                calls.flush()
                calls.settle()

        self.when_ready(ref, payload, dependencies, send)
        if any(dependency.st == FAILED for dependency in dependencies) or ref.st:
            give_up()
        else:
            self.on_ready(ref, give_up)

    def flush_actors(self) -> bool:
        """Send corked calls; whether any wait for nothing but a tick."""
        again = False
        for calls in list(self.actors.values()):
            if calls.queue:
                calls.flush()
                again = again or (calls.peer is not None and bool(calls.queue))
        return again

    # ---------------------------------------------------------------- the node's word
    def on_actor_changed(self, change: ActorChanged) -> None:
        """The node reports an actor's state."""
        calls = self.actors.get(change.actor_id)
        if calls is None:
            return
        calls.changed(change)
        if self.recorder is not None:
            self.recorder.record(
                ev.ActorChangedState(
                    _perf(),
                    change.actor_id.hex(),
                    calls.class_name,
                    change.state,
                    change.worker_id.hex(),
                    change.pid,
                    change.cause,
                )
            )

    def kill_actor(self, calls: ActorCalls, no_restart: bool) -> None:
        """SIGKILL the actor's process. Calls that were not sent fail or wait for the restart."""
        calls.flush()
        calls.halted = calls.state != "dead"
        self.tell_node(KillActor(calls.actor_id, no_restart))
