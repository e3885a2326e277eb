"""When does a single-threaded process run next? On a readable descriptor, or when a deadline comes.

Nothing else wakes it: with no deadline pending it sleeps in epoll without a timeout, which is what
makes five idle clusters in one small machine affordable.
"""

from __future__ import annotations

import heapq
import itertools
import select
import sys
import time
import traceback
from collections.abc import Callable

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
monotonic_s = time.monotonic


class Timer:
    """One pending call. `cancel` is idempotent."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Do not call."""
        self.callback = None


class EventLoop:
    """epoll and a heap of timers. Callbacks may watch, unwatch and stop."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._sequence = itertools.count()
        self.running = True

    def watch(self, fd: int, callback: Callable[[int], None], mask: int = READ) -> None:
        """Call `callback(events)` when `fd` is ready."""
        self._callbacks[fd] = callback
        self._epoll.register(fd, mask)

    def change(self, fd: int, mask: int) -> None:
        """Wait for something else on `fd`."""
        if fd in self._callbacks:
            self._epoll.modify(fd, mask)

    def unwatch(self, fd: int) -> None:
        """Forget `fd` (before it is closed). Unknown ones are fine."""
        if self._callbacks.pop(fd, None) is not None:
            try:
                self._epoll.unregister(fd)
            except OSError:  # closed already: the kernel forgot it itself
                pass

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Call once after `delay_s`."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (monotonic_s() + delay_s, next(self._sequence), timer))
        return timer

    def stop(self) -> None:
        """Leave `run` after the present batch."""
        self.running = False

    def run(self, after_batch: Callable[[float], float | None]) -> None:
        """Serve until stopped. `after_batch(now)` runs after each batch and returns its own deadline."""
        while True:
            deadline_s = _guarded_batch(after_batch)
            if not self.running:
                return
            while self._timers and self._timers[0][2].callback is None:
                heapq.heappop(self._timers)
            if self._timers and (deadline_s is None or self._timers[0][0] < deadline_s):
                deadline_s = self._timers[0][0]
            # Rounded up: epoll's milliseconds would wake us a little early, and twice.
            timeout_s = -1 if deadline_s is None else max(0.0, deadline_s - monotonic_s()) + 0.0005
            for fd, events in self._epoll.poll(timeout_s):
                callback = self._callbacks.get(fd)
                if callback is not None:
                    _guarded(callback, events)
            now_s = monotonic_s()
            while self._timers and self._timers[0][0] <= now_s:
                timer = heapq.heappop(self._timers)[2]
                if timer.callback is not None:
                    _guarded(timer.callback)

    def close(self) -> None:
        """Close the epoll descriptor."""
        self._epoll.close()


def _guarded(callback: Callable[..., None], *arguments: int) -> None:
    # One client's odd message must not end everybody's cluster: say it in node.log and go on.
    try:
        callback(*arguments)
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()


def _guarded_batch(after_batch: Callable[[float], float | None]) -> float | None:
    now_s = monotonic_s()
    try:
        return after_batch(now_s)
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
        return now_s + 1.0  # try again soon, without spinning
