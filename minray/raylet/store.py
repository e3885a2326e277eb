"""Who may allocate where in this node's shared memory?

The node owns the arena (one sparse memfd) and hands out slabs of it; allocation inside a slab is its
client's business. Pages of returned slabs are punched out, so that memory goes back to the machine.
The arena is mapped here only once there is something to punch or to scan.
"""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minray.object_store.slabs import SlabTable


def make_arena(size_bytes: int) -> int:
    """A sparse memfd of that size. It has no name in any folder and goes with its last descriptor."""
    fd = os.memfd_create("minray-arena", os.MFD_CLOEXEC)
    os.ftruncate(fd, size_bytes)
    return fd


class StoreShell:
    """Slab grants and returns. Nothing is imported or mapped before the first large object."""

    def __init__(self, arena_fd: int, size_bytes: int) -> None:
        self.arena_fd = arena_fd
        self.size_bytes = size_bytes
        self._table: SlabTable | None = None
        self._mapping: mmap.mmap | None = None

    @property
    def table(self) -> SlabTable:
        """Made at first use."""
        if self._table is None:
            from minray.object_store.slabs import SlabTable

            self._table = SlabTable(self.size_bytes)
        return self._table

    def _mapped(self) -> mmap.mmap:
        if self._mapping is None:
            self._mapping = mmap.mmap(self.arena_fd, self.size_bytes)
            if hasattr(mmap, "MADV_DONTFORK"):
                self._mapping.madvise(mmap.MADV_DONTFORK)
        return self._mapping

    def grant(self, client_id: bytes, size_bytes: int) -> tuple[int, int] | None:
        """A slab of at least that size, None when there is no room."""
        return self.table.grant(client_id, size_bytes)

    def give_back(self, client_id: bytes, slabs: tuple[tuple[int, int], ...]) -> None:
        """Whole empty slabs return."""
        for offset, size_bytes in slabs:
            self.table.give_back(client_id, offset, size_bytes)
        self._punch(slabs)

    def client_died(self, client_id: bytes) -> None:
        """Keep its live blocks, which others may still read; free the rest of its slabs."""
        if self._table is None:
            return
        ranges = self._table.ranges(client_id)
        if not ranges:
            return
        from minray.object_store.blocks import scan_slab

        with memoryview(self._mapped()) as view:
            live = [
                block
                for offset, size_bytes in ranges
                for block in scan_slab(view, offset, size_bytes, client_id)
            ]
        self._punch(self._table.orphan(client_id, live))

    def free_orphans(self, offsets: tuple[int, ...]) -> None:
        """Blocks of dead clients that nobody refers to any more."""
        self._punch(self.table.free_orphans(offsets))

    def _punch(self, ranges: Any) -> None:
        from minray.object_store.pages import punch

        for offset, size_bytes in ranges:
            punch(self._mapped(), offset, size_bytes)

    def report(self) -> dict[str, Any]:
        """For the question "store"."""
        granted = {} if self._table is None else self._table.granted_by_client()
        return {
            "capacity_bytes": self.size_bytes,
            "granted_bytes": sum(granted.values()),
            "clients": granted,
        }
