"""What may Ctrl-C interrupt?

A KeyboardInterrupt between reading a reply from a socket and applying it loses the reply for ever.
So the handler looks at the interrupted stack: if a frame of the runtime's own code is on it, the
interrupt is noted and a blocked wait is woken; the public functions raise it at their end, where all
tables are whole. Any other code is interrupted at once, by the handler that was there before
(Python's, Jupyter's). The hot path pays one attribute test a call.

What was noted where no public function follows (in a `__del__`, in the last lines of a call) would
wait for ever, so whoever reads the sockets next sends the main thread the signal again.

Rejected: a counter of critical sections (two bytecodes that the signal can separate), a blocked
signal mask (two system calls a section).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_RUNTIME = (
    "minray.worker.",
    "minray.rpc.",
    "minray.object_store.",
    "minray.engine.",
    "minray.serialization.",
)


class Interrupts:
    """The process's SIGINT handling. One instance a process; installed in the main thread."""

    def __init__(self) -> None:
        self.pending = False
        self.wake_fd = -1  # an eventfd that every blocking wait polls
        self.raise_in_worker: Callable[[], None] | None = None  # see `minray.worker.interruption`
        self._before: Any = None
        self._main = threading.main_thread()
        self.main_ident: int = self._main.ident or 0
        self._nudged = False

    def install(self) -> None:
        """Take over SIGINT (again). Only the main thread can; elsewhere nothing happens."""
        if threading.current_thread() is not self._main:
            return
        current = signal.getsignal(signal.SIGINT)
        if current == self._handle or not callable(current):
            return  # ours already, or the program ignores SIGINT: its wish
        self._before = current
        signal.signal(signal.SIGINT, self._handle)

    def uninstall(self) -> None:
        """Give SIGINT back to whoever had it."""
        self.pending = False
        if threading.current_thread() is self._main and signal.getsignal(signal.SIGINT) == self._handle:
            signal.signal(signal.SIGINT, self._before or signal.default_int_handler)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self._nudged:
            self._nudged = False
            if not self.pending:
                return  # it was raised between the nudge and its arrival
        walk = frame
        while walk is not None:
            if walk.f_globals.get("__name__", "").startswith(_RUNTIME):
                self.pending = True
                if self.wake_fd >= 0:
                    with contextlib.suppress(OSError):
                        os.eventfd_write(self.wake_fd, 1)
                return
            walk = walk.f_back
        self.pending = False
        self._deliver(signum, frame)

    def _deliver(self, signum: int, frame: FrameType | None) -> None:
        before = self._before or signal.default_int_handler
        before(signum, frame)

    def raise_pending(self) -> None:
        """Deliver a noted interrupt now (public functions call this at their end).

        Raises: KeyboardInterrupt, or whatever the earlier handler does.
        """
        if self.raise_in_worker is not None:
            self.raise_in_worker()
        elif self.pending and threading.current_thread() is self._main:
            self.pending = False
            self._deliver(signal.SIGINT, None)

    def nudge(self) -> None:
        """A noted interrupt is still not raised: have the handler look again (from any other thread)."""
        if self.pending and threading.get_ident() != self.main_ident:
            if signal.getsignal(signal.SIGINT) == self._handle:
                self._nudged = True
                signal.pthread_kill(self.main_ident, signal.SIGINT)


interrupts = Interrupts()
