"""How does the caller of a pool get at what its calls returned?

Each submission is a job of one or more chunks. The dispatcher's thread tells a job of each chunk that ended
(`chunk_done`); the job is at the same time what the caller holds:

    apply_async               ──► AsyncResult      one chunk, one value
    map_async, starmap_async  ──► MapResult        a list; ready when the last chunk is, failed with the first error
    imap, imap_unordered      ──► IMapIterator     chunks as they come, put in order or not

As in the standard library a callback runs in a thread of the pool, and before `get` returns.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from multiprocessing import TimeoutError  # noqa: A004 - what the standard library's results raise
from typing import Any

Callback = Callable[[Any], object]


class AsyncResult:
    """The result of one `apply_async`. `pool` is kept: it must not end while results are awaited."""

    def __init__(
        self, pool: Any, function: Any, callback: Callback | None, error_callback: Callback | None
    ) -> None:
        self.function = function
        self.made_s = time.perf_counter()
        self.stored: Any = None  # how it is sent
        self.small = True  # whether chunks are worth packing
        self.light = False  # its chunks are sent in no time
        self._pool = pool
        self._callback = callback
        self._error_callback = error_callback
        self._ended = threading.Event()
        self._success = True
        self._value: Any = None

    def ready(self) -> bool:
        """Whether the call ended, well or not."""
        return self._ended.is_set()

    def successful(self) -> bool:
        """Whether the call ended without an exception. Raises: ValueError while it has not ended."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._success

    def wait(self, timeout: float | None = None) -> None:
        """Return when the call ended, or after `timeout` seconds."""
        self._ended.wait(timeout)

    def get(self, timeout: float | None = None) -> Any:
        """The value. Raises: the call's exception; multiprocessing.TimeoutError after `timeout` seconds."""
        if not self._ended.wait(timeout):
            raise TimeoutError
        if self._success:
            return self._value
        raise self._value

    # ------------------------------------------------------------- called by the dispatcher
    def chunk_done(self, index: int, success: bool, value: Any) -> Callable[[], None] | None:
        """One chunk ended. Returns what is to run in the callback thread, if anything."""
        self._success = success
        self._value = value
        return self._end()

    def fail(self, error: BaseException) -> Callable[[], None] | None:
        """The pool ended first."""
        return None if self.ready() else self.chunk_done(0, False, error)

    def _end(self) -> Callable[[], None] | None:
        self._pool = None
        callback = self._callback if self._success else self._error_callback
        if callback is None:
            self._ended.set()
            return None
        wanted = callback

        def call() -> None:
            try:
                wanted(self._value)
            finally:
                self._ended.set()

        return call


class MapResult(AsyncResult):
    """The result of `map_async` or `starmap_async`: a list."""

    def __init__(
        self,
        pool: Any,
        function: Any,
        chunks: int,
        callback: Callback | None,
        error_callback: Callback | None,
    ) -> None:
        super().__init__(pool, function, callback, error_callback)
        self._parts: list[Any] = [()] * chunks
        self._left = chunks
        if not chunks:  # nothing will ever end: it has
            self._pool = None
            self._value = []
            self._ended.set()

    def chunk_done(self, index: int, success: bool, value: Any) -> Callable[[], None] | None:
        """One chunk ended; the first that failed gives the exception."""
        self._left -= 1
        if not success and self._success:
            self._success = False
            self._value = value
            self._parts.clear()
        elif self._success:
            self._parts[index] = value
        if self._left:
            return None
        if self._success:
            self._value = [one for part in self._parts for one in part]
            self._parts.clear()
        return self._end()

    def fail(self, error: BaseException) -> Callable[[], None] | None:
        """The pool ended first."""
        if self.ready():
            return None
        self._left = 1
        return self.chunk_done(0, False, error)


class IMapIterator:
    """Results of `imap` (in the order of the input) or `imap_unordered` (as they come).

    Its input is read by a thread of its own, a little ahead of the workers: `slots` counts the chunks that
    may still be read.
    """

    def __init__(self, pool: Any, function: Any, ordered: bool, ahead: int) -> None:
        self.function = function
        self.made_s = time.perf_counter()
        self.stored: Any = None
        self.small = True
        self.light = False
        self.slots = threading.Semaphore(ahead)
        self.stopped = False  # the pool ended: nobody reads the input any further
        self._pool = pool
        self._ordered = ordered
        self._changed = threading.Condition(threading.Lock())
        self._items: deque[tuple[bool, Any]] = deque()
        self._early: dict[int, tuple[bool, Any]] = {}  # chunks that came before their turn
        self._next_chunk = 0
        self._done = 0
        self._total: int | None = None  # how many chunks there are, once the input has ended

    def __iter__(self) -> IMapIterator:
        return self

    def next(self, timeout: float | None = None) -> Any:
        """The next result.

        Raises: the call's exception; StopIteration at the end; multiprocessing.TimeoutError after `timeout` s.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._items:
                if self._done == self._total:
                    self._pool = None
                    raise StopIteration
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError
                self._changed.wait(left)
            success, value = self._items.popleft()
        if success:
            return value
        raise value

    __next__ = next  # noqa: A003 - the method above

    # ------------------------------------------------------------- called by the dispatcher and the reader
    def chunk_done(self, index: int, success: bool, value: Any) -> None:
        """One chunk ended: a list of values, or an exception in its place."""
        self.slots.release()
        with self._changed:
            self._done += 1
            if not self._ordered:
                self._append(success, value)
            else:
                self._early[index] = success, value
                while self._next_chunk in self._early:
                    self._append(*self._early.pop(self._next_chunk))
                    self._next_chunk += 1
            self._changed.notify_all()

    def _append(self, success: bool, value: Any) -> None:
        if success:
            self._items.extend((True, one) for one in value)
        else:
            self._items.append((False, value))

    def input_ended(self, total: int) -> None:
        """The input had `total` chunks."""
        with self._changed:
            self._total = total
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """The pool ended first: what came so far can be read, then `error`, then the end."""
        self.stopped = True
        self.slots.release()
        with self._changed:
            if self._done != self._total:
                self._items.append((False, error))
                self._total = self._done
            self._changed.notify_all()
