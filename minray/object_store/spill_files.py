"""How do objects lie on disk, and how do they come back without a copy?

One file holds many objects of one owner, each at a multiple of 4096 bytes, laid out as in a block
(`layout`). Only the owner counts what still lives in a file, and removes the file after the last; a
file is never rewritten. The name tells whose it is, so that the node can remove what a dead owner
left, and an owner what a dead writer left:

    <folder>/<owner, 16 hex digits>-<writer, 16 digits>-<number>

A reader maps its object's part of the file: read-only, shared with all other readers through the
page cache, unmapped with its last view. Nothing goes back into the arena, where it would push out
another object: what the machine's memory cannot hold the kernel drops from the cache by itself, and an
object larger than the arena needs no special case. (The arena is page cache too: reading from
either costs the same, once the bytes are there.)

The system calls are made through ctypes, not `mmap.mmap`: that keeps a descriptor for every mapping,
and reads ahead under the GIL.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from minray.base.errors import OutOfDiskError
from minray.object_store.views import read_only_buffers_at

POSITION_STEP_BYTES = 4096
PIECE_BYTES = 16 << 20
"""Written or read ahead in one system call: between two of them an interrupt can be raised."""

NAME_DIGITS = 16
MADV_POPULATE_READ = 22  # Linux 5.14
_PROT_READ, _MAP_SHARED = 1, 1

Piece = tuple[int, memoryview]  # (position in the object, bytes)
Part = tuple[str, int]  # (name of the file, position of the object)


def _nothing() -> None:
    """Nobody wants to interrupt."""


class SpillFiles:
    """The files that this process writes, owns or reads. Thread-safe."""

    def __init__(self, folder: str, process_id: bytes, full_share: float = 0.95) -> None:
        self.folder = folder
        self.full_share = full_share  # of the disk in use: beyond, nothing is written
        self._writer = process_id.hex()[:NAME_DIGITS]
        self._lock = threading.Lock()
        self._number = 0
        self._live: dict[str, int] = {}  # own file: objects in it that live
        self.live_bytes = 0  # of those objects
        self.in_use = False  # this process has met a spilled object
        self._mapped: dict[Part, list[int]] = {}  # address, length, reads that are open
        self._ended: deque[Part] = deque()

    # ---------------------------------------------------------------- writing
    def write(
        self,
        owner: bytes,
        objects: Sequence[tuple[int, Sequence[Piece]]],
        between: Callable[[], None] = _nothing,
    ) -> tuple[str, list[int]]:
        """One new file with these objects, each (size in bytes, its pieces): (name, position of each).

        `between` is called between pieces; what it raises ends the writing, and nothing is left.
        Raises: OutOfDiskError, with the folder, the free bytes and what to do.
        """
        positions = []
        end = 0
        for size_bytes, _ in objects:
            positions.append(end)
            end += -(-size_bytes // POSITION_STEP_BYTES) * POSITION_STEP_BYTES
        with self._lock:
            self._number += 1
            name = f"{owner.hex()[:NAME_DIGITS]}-{self._writer}-{self._number}"
        path = os.path.join(self.folder, name)
        try:
            os.makedirs(self.folder, 0o700, exist_ok=True)
            self._check_space(end)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                for position, (_, pieces) in zip(positions, objects, strict=True):
                    for at, data in pieces:
                        _write_all(fd, data, position + at, between)
                if end:
                    os.ftruncate(fd, end)  # mapped in whole pages
            except BaseException:
                self._remove(path)
                raise
            finally:
                os.close(fd)
        except OSError as error:
            raise self._explained(error, end) from error
        return name, positions

    def _check_space(self, size_bytes: int) -> None:
        disk = os.statvfs(self.folder)
        total, free = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
        if total - free + size_bytes > self.full_share * total:
            raise OSError(
                errno.ENOSPC, f"more than {self.full_share:.0%} of the disk would be in use, which is the limit"
            )

    def _explained(self, error: OSError, size_bytes: int) -> OutOfDiskError:
        try:
            disk = os.statvfs(self.folder if os.path.isdir(self.folder) else os.path.dirname(self.folder))
            free = f"{disk.f_bavail * disk.f_frsize / 1e6:.0f} MB of {disk.f_blocks * disk.f_frsize / 1e6:.0f} MB free"
        except OSError:
            free = "free space unknown"
        return OutOfDiskError(
            f"The object store is full and {size_bytes / 1e6:.1f} MB could not be spilled to {self.folder} "
            f"({free}): {error.strerror or error}. Free disk space or drop references (`del ref`), or start with "
            "init(object_spilling_directory=...) on a larger disk, or with more object_store_memory."
        )

    # ---------------------------------------------------------------- the owner's count
    def hold(self, name: str, size_bytes: int) -> None:
        """One more of our objects lies in that file."""
        self.in_use = True
        with self._lock:
            self.live_bytes += size_bytes
            self._live[name] = self._live.get(name, 0) + 1

    def release(self, name: str, size_bytes: int) -> None:
        """One of our objects in it is dead; with the last one the file goes."""
        with self._lock:
            self.live_bytes -= size_bytes
            left = self._live.get(name, 0) - 1
            if left > 0:
                self._live[name] = left
                return
            self._live.pop(name, None)
        self._remove(os.path.join(self.folder, name))

    def discard(self, name: str) -> None:
        """Remove a file in which no object came to live."""
        with self._lock:
            if name in self._live:
                return
        self._remove(os.path.join(self.folder, name))

    def known(self) -> set[str]:
        """The names of the files in which objects of this process live."""
        with self._lock:
            return set(self._live)

    def _remove(self, path: str) -> None:
        try:
            os.unlink(path)
        except OSError:
            pass  # the folder went with the session

    # ---------------------------------------------------------------- reading
    def open(
        self, name: str, position: int, lengths: Sequence[int], size_bytes: int, holder: object
    ) -> tuple[list[memoryview], bool]:
        """Views of the buffers of one object, in memory and mapped. `holder` lives as long as any of them.

        Returns: the views, and whether they had to be mapped (no other read of it was open here).
        Raises: FileNotFoundError when the object or its owner is dead, OSError.
        """
        self.in_use = True
        part = (name, position)
        fresh = False
        with self._lock:
            self._unmap_ended()
            entry = self._mapped.get(part)
            if entry is not None:
                entry[2] += 1
        if entry is None:
            address = self._map(part, size_bytes)
            with self._lock:
                entry = self._mapped.get(part)
                fresh = entry is None
                if entry is None:
                    entry = self._mapped[part] = [address, size_bytes, 1]
                else:  # two threads at once
                    entry[2] += 1
                    _libc().munmap(address, size_bytes)
        use = _Use(part, holder, self._ended)
        return read_only_buffers_at(entry[0], size_bytes, lengths, use), fresh

    def read_ahead(self, parts: Sequence[tuple[str, int, int]]) -> None:
        """Have the system read these (name, position, bytes) into its cache, all at once; do not wait for it."""
        for name, position, size_bytes in parts:
            try:
                fd = os.open(os.path.join(self.folder, name), os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue  # whoever opens it will say why
            try:
                os.posix_fadvise(fd, position, size_bytes, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(fd)

    def _map(self, part: Part, size_bytes: int) -> int:
        import ctypes

        libc = _libc()
        name, position = part
        fd = os.open(os.path.join(self.folder, name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.posix_fadvise(fd, position, size_bytes, os.POSIX_FADV_WILLNEED)
            address: int | None = libc.mmap(None, size_bytes, _PROT_READ, _MAP_SHARED, fd, position)
            if address is None or address == ctypes.c_void_p(-1).value:
                code = ctypes.get_errno()
                raise OSError(code, f"cannot map a spilled object of {size_bytes} bytes: {os.strerror(code)}")
        finally:
            os.close(fd)
        for at in range(0, size_bytes, PIECE_BYTES):  # a hint: older kernels fault page by page
            if libc.madvise(address + at, min(PIECE_BYTES, size_bytes - at), MADV_POPULATE_READ):
                break
        return address

    def unmap_ended(self) -> None:
        """Unmap what no view needs any more (not at its end: that can strike inside the collector)."""
        if self._ended:
            with self._lock:
                self._unmap_ended()

    def _unmap_ended(self) -> None:
        while self._ended:
            try:
                part = self._ended.popleft()
            except IndexError:
                return
            entry = self._mapped[part]
            entry[2] -= 1
            if not entry[2]:
                del self._mapped[part]
                _libc().munmap(entry[0], entry[1])

    def mapped_parts(self) -> int:
        """How many objects are mapped in this process now."""
        self.unmap_ended()
        return len(self._mapped)


class _Use:
    """Lives as long as the views of one read. Its end is only noted, whatever thread it strikes."""

    __slots__ = ("ended", "holder", "part")

    def __init__(self, part: Part, holder: object, ended: deque[Part]) -> None:
        self.part = part
        self.holder = holder
        self.ended = ended

    def __del__(self) -> None:
        self.ended.append(self.part)


_library: Any = None


def _libc() -> Any:
    global _library
    if _library is None:
        import ctypes

        library = ctypes.CDLL(None, use_errno=True)
        library.mmap.restype = ctypes.c_void_p
        library.mmap.argtypes = [
            ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
        ]  # fmt: skip
        library.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        _library = library
    return _library


def _write_all(fd: int, data: memoryview, position: int, between: Callable[[], None]) -> None:
    at = 0
    while at < len(data):
        between()
        at += os.pwrite(fd, data[at : at + PIECE_BYTES], position + at)


def files_of_owner(folder: str, owner: bytes) -> list[str]:
    """Names of the files whose objects `owner` owned."""
    return _named(folder, lambda owned_by, _: owned_by == owner.hex()[:NAME_DIGITS])


def files_by_writer(folder: str, owner: bytes, writer: bytes) -> list[str]:
    """Names of the files that `writer` wrote for `owner`."""
    wanted = owner.hex()[:NAME_DIGITS], writer.hex()[:NAME_DIGITS]
    return _named(folder, lambda *parts: parts == wanted)


def _named(folder: str, matches: Callable[[str, str], bool]) -> list[str]:
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return [name for name in names if name.count("-") == 2 and matches(*name.split("-")[:2])]
