"""How do bytes get into shared memory fastest, given what this process has touched before?

A page of the arena is, seen from one process, in one of three states (GB/s on one core, 6.18):

    cold     no memory behind it yet   mapped store 1.9 (a fault and a zeroing per page), pwrite 3.5
    cached   memory, not mapped here   mapped store 2.6, MADV_POPULATE_WRITE 17 and then a store
    mapped   in our page table         mapped store 7.3: as fast as any memcpy

So cold stretches are filled by pwrite, cached ones are mapped in one call and then stored to, and
mapped ones, which the allocator prefers, take the plain copy. The state is remembered per chunk of
64 KB and is a hint: a wrong one costs time, never correctness.

Large copies let other threads run: pwrite releases the GIL, numpy does, and a slice assignment is
cut into pieces.
"""

from __future__ import annotations

import mmap
import os
import sys
import threading
from collections.abc import Callable
from pickle import PickleBuffer
from typing import Any

Buffer = bytes | bytearray | memoryview | PickleBuffer

CHUNK_BITS = 16
SMALL_BYTES = 1 << CHUNK_BITS
"""Below this the plain copy is best whatever the state: a system call costs as much as the faults."""

PIECE_BYTES = 4 << 20
"""One slice assignment without numpy holds the GIL for about half a millisecond."""

PARALLEL_BYTES = 16 << 20
"""From here a second thread pays: one core does not saturate the memory (7 GB/s alone, 10 by two)."""

COPY_THREADS = min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)

COLD, CACHED, MAPPED = 0, 1, 2
MADV_POPULATE_WRITE = 23  # Linux 5.14; not in Python 3.11's mmap
MADV_REMOVE = 9


class PageWriter:
    """Writes through one mapping of a memfd. Safe to call from several threads for disjoint ranges."""

    def __init__(self, fd: int, mapping: mmap.mmap, view: memoryview) -> None:
        self._fd = fd
        self._mapping = mapping
        self._view = view
        self._state = bytearray((len(view) >> CHUNK_BITS) + 1)
        self._populates = True
        self._array: Any = None  # the whole arena as a numpy array, once numpy is there

    def write(self, offset: int, data: memoryview) -> None:
        """Copy `data` (one dimension, bytes) to `offset`."""
        size_bytes = len(data)
        if size_bytes < SMALL_BYTES:
            self._view[offset : offset + size_bytes] = data
            return
        state = self._state
        chunk = offset >> CHUNK_BITS
        end = ((offset + size_bytes - 1) >> CHUNK_BITS) + 1
        if state.count(MAPPED, chunk, end) == end - chunk:
            self._copy(offset, data)
            return
        while chunk < end:
            run_state = state[chunk]
            run_end = chunk + 1
            while run_end < end and state[run_end] == run_state:
                run_end += 1
            low = max(offset, chunk << CHUNK_BITS)
            high = min(offset + size_bytes, run_end << CHUNK_BITS)
            part = data[low - offset : high - offset]
            if run_state == COLD:
                self._write_cold(low, part)
                new_state = CACHED
            else:
                if run_state == CACHED:
                    self._populate(low, high)
                self._copy(low, part)
                new_state = MAPPED
            state[chunk:run_end] = bytes((new_state,)) * (run_end - chunk)
            chunk = run_end

    def forget(self, offset: int, size_bytes: int) -> None:
        """The range is given back: its pages may be punched out by the node."""
        first, end = offset >> CHUNK_BITS, (offset + size_bytes) >> CHUNK_BITS
        self._state[first:end] = bytes(end - first)

    def _write_cold(self, offset: int, data: memoryview) -> None:
        at = 0
        while at < len(data):
            at += os.pwrite(self._fd, data[at:], offset + at)

    def _populate(self, low: int, high: int) -> None:
        if not self._populates:
            return
        low &= -mmap.PAGESIZE
        try:
            # In pieces: madvise holds the GIL.
            for start in range(low, high, PIECE_BYTES):
                self._mapping.madvise(MADV_POPULATE_WRITE, start, min(high, start + PIECE_BYTES) - start)
        except OSError:  # an older kernel; plain faults do the same, more slowly
            self._populates = False

    def _copy(self, offset: int, data: memoryview) -> None:
        size_bytes = len(data)
        numpy = sys.modules.get("numpy")
        if size_bytes > PIECE_BYTES // 4 and numpy is not None and hasattr(numpy, "copyto"):
            if self._array is None:
                self._array = numpy.frombuffer(self._view, numpy.uint8)
            target, source = self._array[offset : offset + size_bytes], numpy.frombuffer(data, numpy.uint8)
            if size_bytes < PARALLEL_BYTES or COPY_THREADS < 2:
                numpy.copyto(target, source)
            else:
                _copy_in_parallel(numpy.copyto, target, source, size_bytes)
            return
        view = self._view
        for at in range(0, size_bytes, PIECE_BYTES):
            piece = data[at : at + PIECE_BYTES]
            view[offset + at : offset + at + len(piece)] = piece


def _copy_in_parallel(copyto: Callable[[Any, Any], None], target: Any, source: Any, size_bytes: int) -> None:
    """Copy in `COPY_THREADS` stretches; numpy releases the GIL while it copies."""
    stretch = (size_bytes // COPY_THREADS + 4095) & -4096
    helpers = [
        threading.Thread(target=copyto, args=(target[at : at + stretch], source[at : at + stretch]), daemon=True)
        for at in range(stretch, size_bytes, stretch)
    ]
    for helper in helpers:
        helper.start()
    try:
        copyto(target[:stretch], source[:stretch])
    finally:
        for helper in helpers:
            helper.join()


def punch(mapping: mmap.mmap, offset: int, size_bytes: int) -> None:
    """Give the memory behind a range of the arena back to the system; it reads as zeros after.

    For the node, of slabs that nobody owns any more. Page tables of all processes forget it too.
    """
    mapping.madvise(MADV_REMOVE, offset, size_bytes)
