"""Is anybody reading this block, in whatever process, also one that was killed a moment ago?

Before bytes are moved or freed while references to them live, every process with a view of them must
be known; a view freed under a reader is silent corruption. The kernel keeps that table: a process
that opens a block which another one owns takes a shared lock on the block's range of the arena's
descriptor, and gives it back with its last view. Record locks end with their process, however it
ends, so there is nobody to ask and nothing to repair.

    reader   shared lock ──► is the header still (allocator, mark), LIVE? ──► views ... ──► unlock
                                └─ no: StaleBlock, ask the owner where the bytes are now
    mover    exclusive lock, without waiting ──► nobody reads: header = MOVED ──► unlock ──► free
                                └─ refused: it stays

Either the reader holds its lock first, and the mover is refused, or the mover has marked the header
first, and the reader sees it. Readers in the owner's own process are counted in a dict here, under
one thread lock that the mover takes too; they need no system call. (A process loses its record locks
when it closes any descriptor of the file: the arena's stays open as long as its mapping.)

Rejected: a reader count in the header (no atomic add from Python, and a killed reader would pin for
ever), asking every borrower by message (third parties get places from borrowers, and a busy one
answers late).
"""

from __future__ import annotations

import fcntl
import threading
from collections import deque
from collections.abc import Callable

from minray.object_store.blocks import (
    FREE,
    HEADER_BYTES,
    IDENTITY,
    LIVE,
    MAGIC,
    MOVED,
    OWNER_BYTES,
    STATE,
    STATE_AT,
    total_of,
)


class StaleBlock(Exception):
    """The bytes are not there any more: their owner moved them, or is dead."""


class Reading:
    """Lives as long as the views of one read; its end is told by an append, whatever thread it strikes."""

    __slots__ = ("ended", "holder", "offset")

    def __init__(self, offset: int, holder: object, ended: deque[int]) -> None:
        self.offset = offset
        self.holder = holder
        self.ended = ended

    def __del__(self) -> None:
        self.ended.append(self.offset)


class Readers:
    """The blocks that this process reads. Thread-safe."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._counts: dict[int, int] = {}  # payload offset: open reads
        self._locked: dict[int, int] = {}  # payload offset: bytes of its range that we hold a lock on
        self.ended: deque[int] = deque()

    def enter(
        self, view: memoryview, offset: int, size_bytes: int, allocator: bytes, mark: int, shared: bool, holder: object
    ) -> Reading:
        """Begin to read a block of `size_bytes` payload. `shared`: another process owns it.

        Returns: the reading; hand it to the views as their holder. Raises: StaleBlock.
        """
        start = offset - HEADER_BYTES
        counts = self._counts
        with self._lock:
            if self.ended:
                self._drain()
            if shared and offset not in self._locked:
                total = total_of(size_bytes)
                fcntl.lockf(self._fd, fcntl.LOCK_SH, total, start)
                if not _is_live(view, start, allocator, mark):
                    fcntl.lockf(self._fd, fcntl.LOCK_UN, total, start)
                    raise StaleBlock
                self._locked[offset] = total
            elif not _is_live(view, start, allocator, mark):
                raise StaleBlock
            counts[offset] = counts.get(offset, 0) + 1
        return Reading(offset, holder, self.ended)

    def drain(self) -> None:
        """Forget the reads that have ended, and unlock their blocks."""
        if self.ended:
            with self._lock:
                self._drain()

    def _drain(self) -> None:
        ended, counts = self.ended, self._counts
        while ended:
            try:
                offset = ended.popleft()
            except IndexError:
                return
            left = counts[offset] - 1
            if left:
                counts[offset] = left
                continue
            del counts[offset]
            total = self._locked.pop(offset, 0)
            if total:
                fcntl.lockf(self._fd, fcntl.LOCK_UN, total, offset - HEADER_BYTES)

    def in_use(self, offset: int, total_bytes: int) -> bool:
        """Does any process read it at this moment? A hint: only `take` decides."""
        with self._lock:
            self._drain()
            if offset in self._counts:
                return True
            if not lock_alone(self._fd, offset, total_bytes):
                return True
            unlock(self._fd, offset, total_bytes)
            return False

    def take(self, view: memoryview, offset: int, total_bytes: int, move: Callable[[], bool]) -> bool:
        """Declare a block of ours moved, unless it is read. For the owner only.

        `move` notes where the bytes are now, or returns False: the value is dead, and the block may be
        somebody else's already. Returns: whether it was moved. After it nobody can begin to read the block.
        """
        with self._lock:
            self._drain()
            if offset in self._counts or not lock_alone(self._fd, offset, total_bytes):
                return False
            try:
                moved = move()
                if moved:
                    STATE.pack_into(view, offset - HEADER_BYTES + STATE_AT, MOVED)
                return moved
            finally:
                unlock(self._fd, offset, total_bytes)

    def take_from_the_dead(self, view: memoryview, offset: int, total_bytes: int) -> bool:
        """Declare a block free whose owner is dead, unless somebody still reads it. Returns: whether it was."""
        with self._lock:
            self._drain()
            if offset in self._counts or not lock_alone(self._fd, offset, total_bytes):
                return False
            mark_free(view, offset)
            unlock(self._fd, offset, total_bytes)
            return True

    def open_reads(self) -> int:
        """How many blocks this process reads now."""
        self.drain()
        return len(self._counts)


def _is_live(view: memoryview, start: int, allocator: bytes, mark: int) -> bool:
    magic, _, written_by, _, _, state, marked = IDENTITY.unpack_from(view, start)
    return (  # type: ignore[no-any-return]
        marked == mark and state == LIVE and magic == MAGIC and written_by == allocator[:OWNER_BYTES]
    )


def mark_free(view: memoryview, offset: int) -> None:
    """Say in a block's header that it is free (while its lock is held)."""
    STATE.pack_into(view, offset - HEADER_BYTES + STATE_AT, FREE)


def lock_alone(fd: int, offset: int, total_bytes: int) -> bool:
    """Take the exclusive lock of a block, unless another process reads it."""
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, total_bytes, offset - HEADER_BYTES)
    except OSError:
        return False
    return True


def unlock(fd: int, offset: int, total_bytes: int) -> None:
    """The reverse of `lock_alone`."""
    fcntl.lockf(fd, fcntl.LOCK_UN, total_bytes, offset - HEADER_BYTES)
