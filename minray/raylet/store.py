"""Who may allocate where in this node's shared memory, and what happens when it is full?

The node owns the arena (one sparse memfd) and hands out slabs of it; allocation inside a slab is its
client's business. Pages of returned slabs are punched out, so that memory goes back to the machine.
The arena is mapped here only once there is something to punch or to scan.

When a client dies, its slabs are read back (`object_store.blocks`). What lives in them belongs to

    the dead one itself, or another dead owner   free, as soon as no process reads it any more
    an owner that lives                          stays; the owner is asked, for it may have died
                                                 between storing the bytes and telling of them

When the store is full, `raylet.state.room` decides who spills what; its messages pass through here.
"""

from __future__ import annotations

import mmap
import os
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from minray.base.messages import (
    ObjectsSpilled,
    OrphansFound,
    OrphansFreed,
    RoomOffered,
    SlabReturned,
    SpillCounted,
    StoreTrim,
)

if TYPE_CHECKING:
    from minray.object_store.slabs import SlabTable
    from minray.raylet.state.room import RoomTable

AMOUNT_SHARE = 8
"""A round of spilling frees no more than an eighth of the arena without need."""

DEATHS_TOLD_MAX = 4096
"""Most deaths are broadcast when they happen; this is for those of workers that nobody had met."""


def make_arena(size_bytes: int) -> int:
    """A sparse memfd of that size. It has no name in any folder and goes with its last descriptor."""
    fd = os.memfd_create("minray-arena", os.MFD_CLOEXEC)
    os.ftruncate(fd, size_bytes)
    return fd


class StoreShell:
    """Slabs, orphans and room. Nothing is imported or mapped before the first large object."""

    def __init__(
        self, arena_fd: int, size_bytes: int, spill_dir: str = "", min_spilling_bytes: int = 100 * 10**6
    ) -> None:
        self.arena_fd = arena_fd
        self.size_bytes = size_bytes
        self.spill_dir = spill_dir
        self._min_spilling_bytes = min_spilling_bytes
        self._table: SlabTable | None = None
        self._room: RoomTable | None = None
        self._mapping: mmap.mmap | None = None
        self._orphans: dict[int, tuple[bytes, int, int]] = {}  # offset: owner's prefix, total bytes, mark
        self._dead: dict[bytes, None] = {}  # prefixes of all clients that died
        self._untold: deque[bytes] = deque(maxlen=DEATHS_TOLD_MAX)  # those since the last StoreTrim
        self._counts: dict[bytes, SpillCounted] = {}
        self._past = [0, 0, 0, 0]  # counts of dead clients
        self._send: Callable[[bytes, Any], None] = lambda client_id, message: None
        self._clients: Callable[[], Iterable[bytes]] = tuple
        self._call_later: Callable[[float, Callable[[], None]], Any] = lambda delay_s, callback: None
        self.handlers: dict[type, Callable[[bytes, Any], None]] = {
            SlabReturned: lambda c, m: self.give_back(c, m.slabs),
            OrphansFreed: lambda c, m: self.free_orphans(m.blocks),
            RoomOffered: lambda c, m: self._perform(self.room.offered(c, m)),
            ObjectsSpilled: lambda c, m: self._perform(self.room.spilled(c, m)),
            SpillCounted: self._counts.__setitem__,
        }
        self.questions: dict[str, Callable[[bytes, Any], Any]] = {
            "slab": self._ask_slab,
            "store": lambda c, _: self.report(),
            "room": self._ask_room,
            "room_outcome": lambda c, number: self.room.outcome(number),
        }

    def wire(
        self,
        send: Callable[[bytes, Any], None],
        clients: Callable[[], Iterable[bytes]],
        call_later: Callable[[float, Callable[[], None]], Any],
    ) -> None:
        """Give it its way to the clients, and a clock."""
        self._send, self._clients, self._call_later = send, clients, call_later

    @property
    def table(self) -> SlabTable:
        """Made at first use."""
        if self._table is None:
            from minray.object_store.slabs import SlabTable

            self._table = SlabTable(self.size_bytes)
        return self._table

    @property
    def room(self) -> RoomTable:
        """Made at first use."""
        if self._room is None:
            from minray.raylet.state.room import RoomTable
            from minray.raylet.state.spill_policy import LeastRecentlyUsed

            amount_bytes = min(self._min_spilling_bytes, self.size_bytes // AMOUNT_SHARE)
            table = self.table
            self._room = RoomTable(
                LeastRecentlyUsed(), table.slab_bytes, table.slab_count, amount_bytes, table.fits, table.owners
            )
        return self._room

    def _mapped(self) -> mmap.mmap:
        if self._mapping is None:
            self._mapping = mmap.mmap(self.arena_fd, self.size_bytes)
            if hasattr(mmap, "MADV_DONTFORK"):
                self._mapping.madvise(mmap.MADV_DONTFORK)
        return self._mapping

    # ---------------------------------------------------------------- slabs
    def grant(self, client_id: bytes, size_bytes: int) -> tuple[int, int] | None:
        """A slab of at least that size, None when there is no room."""
        slab = self.table.grant(client_id, size_bytes)
        if slab is None and self._orphans:
            self._free_unread()
            slab = self.table.grant(client_id, size_bytes)
        return slab

    def _ask_slab(self, client_id: bytes, size_bytes: int) -> tuple[int, int] | None:
        slab = self.grant(client_id, size_bytes)
        if slab is None:
            message = StoreTrim(size_bytes, tuple(self._untold))
            self._untold.clear()
            for other in self._clients():
                self._send(other, message)
        return slab

    def give_back(self, client_id: bytes, slabs: tuple[tuple[int, int], ...]) -> None:
        """Whole empty slabs return."""
        for offset, size_bytes in slabs:
            self.table.give_back(client_id, offset, size_bytes)
        self._punch(slabs)

    # ---------------------------------------------------------------- room
    def _ask_room(self, client_id: bytes, wanted: tuple[int, bool]) -> int:
        number, sends = self.room.asked(client_id, *wanted, self._clients())
        self._perform(sends)
        return number

    def _perform(self, sends: Iterable[tuple[bytes, Any]]) -> None:
        for client_id, message in sends:
            self._send(client_id, message)
        awaiting = self.room.awaiting()
        if awaiting is not None and sends:
            number, ordered, patience_s = awaiting
            self._call_later(patience_s, lambda: self._perform(self.room.expired(number, ordered)))

    # ---------------------------------------------------------------- deaths
    def client_died(self, client_id: bytes) -> None:
        """Keep its live blocks, which others may still read; free the rest of its slabs."""
        prefix = client_id[:8]
        self._dead[prefix] = None
        self._untold.append(client_id)
        counted = self._counts.pop(client_id, None)
        if counted is not None:
            self._past = [past + now for past, now in zip(self._past, counted, strict=False)]
        if self._room is not None:
            self._perform(self._room.client_gone(client_id))
        self._remove_files(client_id)
        if self._table is None:
            return
        ranges = self._table.ranges(client_id)
        if ranges:
            self._read_back(client_id, ranges)
        if self._orphans:
            self._free_unread()

    def _read_back(self, client_id: bytes, ranges: list[tuple[int, int]]) -> None:
        from minray.object_store.blocks import scan_slab

        with memoryview(self._mapped()) as view:
            live = [
                block
                for offset, size_bytes in ranges
                for block in scan_slab(view, offset, size_bytes, client_id)
            ]
        self._punch(self.table.orphan(client_id, live))
        found: dict[bytes, list[tuple[int, int]]] = {}
        for block in live:
            self._orphans[block.offset] = (block.owner, block.total_bytes, block.mark)
            found.setdefault(block.owner, []).append((block.offset, block.mark))
        for other in self._clients():
            if other[:8] in found:
                self._send(other, OrphansFound(client_id, tuple(found.pop(other[:8]))))

    def _free_unread(self) -> None:
        """Free the blocks whose owner and allocator are dead and that no process reads."""
        from minray.object_store.readers import lock_alone, mark_free, unlock

        gone = []
        with memoryview(self._mapped()) as view:
            for offset, (owner, total_bytes, _) in self._orphans.items():
                if owner in self._dead and lock_alone(self.arena_fd, offset, total_bytes):
                    mark_free(view, offset)
                    unlock(self.arena_fd, offset, total_bytes)
                    gone.append(offset)
        self._free(gone)

    def free_orphans(self, blocks: tuple[tuple[int, int], ...]) -> None:
        """Blocks of dead clients that nobody refers to any more; those freed already are passed over."""
        self._free([offset for offset, mark in blocks if self._orphans.get(offset, (b"", 0, -1))[2] == mark])

    def _free(self, offsets: list[int]) -> None:
        for offset in offsets:
            del self._orphans[offset]
        self._punch(self.table.free_orphans(offsets))

    def _remove_files(self, owner: bytes) -> None:
        if self.spill_dir and os.path.isdir(self.spill_dir):
            from minray.object_store.spill_files import files_of_owner

            for name in files_of_owner(self.spill_dir, owner):
                try:
                    os.unlink(os.path.join(self.spill_dir, name))
                except OSError:
                    pass

    def _punch(self, ranges: Any) -> None:
        from minray.object_store.pages import punch

        for offset, size_bytes in ranges:
            punch(self._mapped(), offset, size_bytes)

    # ---------------------------------------------------------------- what there is
    def report(self) -> dict[str, Any]:
        """For the question "store"."""
        granted = {} if self._table is None else self._table.granted_by_client()
        sums = [past + sum(column) for past, column in zip(self._past, self._columns(), strict=True)]
        return {
            "capacity_bytes": self.size_bytes,
            "granted_bytes": sum(granted.values()),
            "clients": granted,
            "orphaned_bytes": sum(total_bytes for _, total_bytes, _ in self._orphans.values()),
            "spilled_objects": sums[0],
            "spilled_bytes": sums[1],
            "restored_objects": sums[2],
            "restored_bytes": sums[3],
            "disk_bytes": sum(counted.disk_bytes for counted in self._counts.values()),
            "spill_dir": self.spill_dir,
        }

    def _columns(self) -> list[list[int]]:
        return [[counted[column] for counted in self._counts.values()] for column in range(4)]
