"""How is a running task stopped, and nothing beside it?

A worker runs one task after another on its main thread, so "interrupt what runs now" would sooner or
later hit the neighbour of the task that was meant. Here the target is one execution (its
`TaskContext`), and the main thread itself compares it with what it runs, at the moment of raising:

    CANCEL ─► waits in the queue? ─► RETURNED, unstarted
           ─► runs here? ─► target = its context; SIGINT to the main thread ─► the handler: is the target
              still what I run, and is user code on top of the stack? ─► KeyboardInterrupt
           ─► force ─► this process ends, if at the last look the task still runs

A signal reaches `time.sleep`, locks and sockets, which an asynchronous exception does not. With code
of the runtime on top nothing is raised: a wait of `get` is ended and raises at its end, anything else
is tried again a moment later. Calls of actors are told (`is_canceled()`), never interrupted.

Children: what the task has submitted is cancelled with it, and what it submits until it knows.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from minray.base import ids
from minray.base.errors import TaskCancelledError
from minray.serialization.errors import dump_error
from minray.serialization.values import FAILED
from minray.worker.interrupts import interrupts
from minray.worker.peer import Peer
from minray.worker.task_context import TaskContext, current_task
from minray.worker.wire import RETURNED

if TYPE_CHECKING:
    from minray.worker.executor import Executor

F = TypeVar("F", bound=Callable[..., Any])
STRIKE_AGAIN_S = 0.01
WATCH_S = 0.2
FORGET_S = 5.0
TOLD_MAX = 4096
LAST_WORDS_S = 1.0
_perf = time.perf_counter

_ABOVE_THE_API = ("minray.util.", "minray.testing.", "minray.grading.", "minray.dag")

doors: set[CodeType] = set()
"""Functions of the runtime that call user code: what runs right above one of them may be interrupted."""


def door(function: F) -> F:
    """Mark a function of the runtime that calls user code with all tables whole."""
    doors.add(function.__code__)
    return function


class NotStarted(BaseException):
    """The task was cancelled before its first line."""


class Interruption:
    """The executing side of `cancel` in a worker."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.core = executor.core
        self.target: TaskContext | None = None  # to be interrupted, not yet done
        self._sent = False  # a signal of ours is under way
        self._noted: dict[TaskContext, None] = {}  # cancelled while they ran

    def install(self) -> None:
        """Take SIGINT over (main thread of a worker)."""
        interrupts.wake_fd = self.core.loop.wake_fd
        interrupts.raise_in_worker = self.raise_due
        signal.signal(signal.SIGINT, self._on_signal)

    # ---------------------------------------------------------------- the order
    def on_cancel(self, peer: Peer, number: int, force: bool, recursive: bool) -> None:
        """The owner `peer` wants its task `number` stopped (called by whoever reads)."""
        executor = self.executor
        if executor.actor is not None and executor.actor.concurrent:
            service = executor.actor.service
            if service.take_back(peer, number):
                peer.channel.send((RETURNED, [number], False))
            else:
                service.stop(peer, number, recursive)
            return
        for task in list(peer.queue):
            if task[0] == number:
                try:
                    peer.queue.remove(task)
                except ValueError:
                    break  # the main thread was faster: it begins now
                peer.channel.send((RETURNED, [number], False))
                return
        if not self._runs(peer, number):
            # Done, on its way back, or between the queue and its first line: then the main thread looks here.
            executor.refused[peer, number] = True
            if not self._runs(peer, number):
                return
            executor.refused.pop((peer, number), None)
        context = executor.context
        if context is not None and context.number == number and context.peer is peer:
            self.stop(context, force, recursive)

    def expect(self, peer: Peer, number: int) -> None:
        """A call of a concurrent actor is cancelled that is done, or about to begin in another thread."""
        refused = self.executor.refused
        refused[peer, number] = True

        def forget() -> None:
            refused.pop((peer, number), None)

        self.core.loop.call_later(FORGET_S, forget)

    def _runs(self, peer: Peer, number: int) -> bool:
        context = self.executor.context
        return context is not None and context.number == number and context.peer is peer

    def refuse(self, context: TaskContext) -> None:
        """A task begins while refusals are noted. Raises: NotStarted if it is one of those."""
        refused = self.executor.refused
        hit = refused.pop((context.peer, context.number), False)
        if self.executor.actor is None or not self.executor.actor.concurrent:
            refused.clear()  # what is noted and does not begin now has ended before
        if hit:
            raise NotStarted

    def stop(self, context: TaskContext, force: bool, recursive: bool) -> None:
        """The task of `context` runs: tell it, and its children."""
        self.note(context)
        if self.executor.context is context:
            self.core.untold.clear()  # of those that ran here before
        if recursive:
            self.core.untold.add(context)
            self.core.cancel_children(context, force)
        if self.executor.actor is not None:
            self.executor.generating.stop(context.peer, context.number)
            if self.executor.context is context:
                self._watch(context)
            return
        if force:
            self._end_process(context)
        self.target = context
        self._strike()

    def _watch(self, context: TaskContext) -> None:
        """A method that does not look must not leave its mark behind."""
        if self.executor.context is not context:
            self.core.untold.discard(context)
        elif context in self.core.untold:
            self.core.loop.call_later(WATCH_S, lambda: self._watch(context))

    # ---------------------------------------------------------------- what a task can ask
    def note(self, context: TaskContext) -> None:
        """It is cancelled, as `is_canceled()` tells."""
        self._noted[context] = None
        while len(self._noted) > TOLD_MAX:
            self._noted.pop(next(iter(self._noted)))

    def is_cancelled(self, context: TaskContext | None) -> bool:
        """Whether the task of `context` was cancelled; from now on it knows."""
        if context in self._noted:
            self.core.untold.discard(context)
            return True
        return False

    # ---------------------------------------------------------------- the blow
    def _strike(self) -> None:
        context = self.target
        if context is None:
            return
        if self.executor.context is not context:  # it has ended meanwhile
            self.target = None
            self.core.untold.discard(context)
            return
        if threading.get_ident() == self.executor.main_ident:
            interrupts.pending = True  # the main thread reads, inside the task's own get or wait
        elif callable(signal.getsignal(signal.SIGINT)):  # else the task has switched it off, or to "kill"
            self._sent = True
            signal.pthread_kill(self.executor.main_ident, signal.SIGINT)
        self.core.loop.call_later(STRIKE_AGAIN_S, self._strike)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        context = self.target
        if self._sent:
            self._sent = False
        else:
            context = self.executor.context  # not ours: somebody sent SIGINT to this process
        if context is None or self.executor.context is not context or frame is None:
            return
        if _in_user_code(frame):
            self._deliver(context)
        elif self.target is context:
            interrupts.pending = True
            with contextlib.suppress(OSError):
                os.eventfd_write(interrupts.wake_fd, 1)

    def raise_due(self) -> None:
        """A public function of the runtime ends and something is due (any thread).

        Raises: KeyboardInterrupt in the task that is meant."""
        interrupts.pending = False
        context = current_task() or self.executor.context  # None: a thread of the user's
        if context is not None and context in self.core.untold:
            self.core.cancel_children(context, False)
        target = self.target
        if (
            target is not None
            and self.executor.context is target
            and threading.get_ident() == self.executor.main_ident
            and _will_be_whole(sys._getframe(1))
        ):
            self._deliver(target)

    def _deliver(self, context: TaskContext) -> None:
        """Main thread, user code next below. Raises: KeyboardInterrupt."""
        self.target = None
        if context in self.core.untold:
            self.core.cancel_children(context, False)  # what it has submitted since the order came
            self.core.untold.discard(context)
        raise KeyboardInterrupt

    def _end_process(self, context: TaskContext) -> None:
        """By force: finished neighbours' answers leave, then this process ends if the task still runs."""
        executor = self.executor
        peer = context.peer
        with contextlib.suppress(Exception):
            executor.flush_replies(peer)
            executor.output.ship(peer, context)
        channels = list(self.core.loop.channels.values())
        deadline = _perf() + LAST_WORDS_S
        while any(channel.outbox for channel in channels) and _perf() < deadline:
            for channel in channels:
                channel.flush()
            time.sleep(0.001)
        # The main thread cannot begin another task between this look and the call behind it: both are one
        # thread's bytecodes without a place where the GIL could change hands.
        if executor.context is context:
            os._exit(1)

    # ---------------------------------------------------------------- the answer
    def answer(self, context: TaskContext | None, error: BaseException) -> tuple[int, Any] | None:
        """The answer to a task that never began; None for any other error."""
        if context is not None and isinstance(error, NotStarted):
            return FAILED, dump_error(self.error_of(context, "before it started"))
        return None

    def error_of(self, context: TaskContext, how: str) -> TaskCancelledError:
        """What stands for the interrupt in the caller's process."""
        return TaskCancelledError(
            ids.TaskID(bytes.fromhex(context.task_id)),
            f"Task: {context.name} ({context.task_id}) was cancelled {how}.",
        )


def _is_runtime(frame: FrameType) -> bool:
    """All of minray but the parts that stand on its public API. The API counts, for it imports modules when
    they are first needed, and an import that is broken off is told as another error."""
    name = frame.f_globals.get("__name__", "")
    return name.startswith("minray.") and not name.startswith(_ABOVE_THE_API)


def _in_user_code(frame: FrameType | None) -> bool:
    """Whether user code, called by a door of the runtime, is on top of the stack."""
    walk = frame
    while walk is not None:
        if walk.f_code in doors:
            return walk is not frame
        if _is_runtime(walk):
            return False
        walk = walk.f_back
    return False


def _will_be_whole(frame: FrameType | None) -> bool:
    """Whether below the runtime's frames on top there is user code that a door has called, or the door itself
    (a generator that waits for its consumer)."""
    walk = frame
    while walk is not None and walk.f_code not in doors:
        if not _is_runtime(walk):
            return _in_user_code(walk)
        walk = walk.f_back
    return walk is not None
