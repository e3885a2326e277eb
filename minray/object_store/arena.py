"""Where do the bytes of a large object go, without asking anybody?

The node keeps one sparse memfd, the arena, and grants slabs of it (`slabs.SlabTable`). Inside its
slabs a process allocates on its own, in about a microsecond:

    allocate ──► the stack of its size class: the block freed last, its pages still mapped here
             ──► a free extent (`extents.FreeExtents`), split
             ──► the stacks emptied into the extents, where neighbours merge; again
             ──► a slab from the node
             ──► None: the store is full

    free     ──► small: on the stack of its class     large: into the extents, merged at once
             ──► much free memory: whole empty slabs go back to the node (`trim`)

Last in, first out, because a copy into mapped pages is three times as fast as into new ones
(`pages`). A freed block keeps its header; headers tile the slabs, so that the node can read what a
dead process left (`blocks.scan_slab`).

Not here: who may read a block and when it dies. That is reference counting's business; a block
lives until its allocator calls `free`, or dies and the node frees its orphans.
"""

from __future__ import annotations

import itertools
import mmap
import os
import threading
import weakref
from collections.abc import Callable
from typing import NamedTuple

from minray.object_store.blocks import (
    FREE,
    HEADER,
    HEADER_BYTES,
    LIVE,
    MAGIC,
    MARK_AT,
    OWNER,
    OWNER_AT,
    OWNER_BYTES,
    REUSED,
    REUSED_AT,
    STACK_MAX_BYTES,
    STATE,
    STATE_AT,
    slab_bytes_of,
    total_of,
    walk_blocks,
)
from minray.object_store.extents import FreeExtents
from minray.object_store.pages import Buffer, PageWriter

RequestSlab = Callable[[int], tuple[int, int] | None]
ReturnSlabs = Callable[[list[tuple[int, int]]], None]

KEEP_BYTES_MIN = 128 << 20
KEEP_SHARE = 8

_FREE_BYTES = STATE.pack(FREE)


class Block(NamedTuple):
    """A live block of this process. `offset` is the payload's place in the arena; see `blocks` for the mark."""

    offset: int
    size_bytes: int
    mark: int = 0


class Arena:
    """One process's view of the node's arena, and its allocator. Thread-safe.

    Mapped at first use. `request_slab(size_bytes)` asks the node and returns (offset, size) or
    None; `return_slabs` gets the ranges that go back. Both are called without the arena's lock, by
    the thread that allocates or frees. Do not call in from a weak-reference callback or `__del__`:
    they can strike while this very thread holds the lock; let them append to a deque instead.

    A forked child shares the memory but owns none of it: it starts empty, and `after_fork` gives
    it its own name and its own way to the node.
    """

    def __init__(
        self,
        fd: int,
        size_bytes: int,
        process_id: bytes,
        request_slab: RequestSlab,
        return_slabs: ReturnSlabs,
        keep_bytes: int | None = None,
    ) -> None:
        self.fd = fd
        self.size_bytes = size_bytes
        self.slab_bytes = slab_bytes_of(size_bytes)
        if keep_bytes is None:
            keep_bytes = min(size_bytes // 2, max(KEEP_BYTES_MIN, size_bytes // KEEP_SHARE))
        self.keep_bytes = keep_bytes
        self._mapping: mmap.mmap | None = None
        self._own(process_id, request_slab, return_slabs)
        arena = weakref.ref(self)

        def disown() -> None:
            forked = arena()
            if forked is not None:
                forked._own(forked._process_id, _no_slab, _no_return)

        os.register_at_fork(after_in_child=disown)

    def _own(self, process_id: bytes, request_slab: RequestSlab, return_slabs: ReturnSlabs) -> None:
        """Start with nothing, under this name."""
        self._process_id = process_id
        self._name = process_id[:OWNER_BYTES]
        self._request_slab = request_slab
        self._return_slabs = return_slabs
        self._lock = threading.Lock()
        self._live: dict[int, int] = {}  # payload offset: total bytes
        self._marks = itertools.count(1)
        self._owner_of: dict[int, bytes] = {}  # live blocks that another process decides about: its prefix
        self._stacks: dict[int, list[int]] = {}  # total: payload offsets, freed last on top
        self._stacked_bytes = 0
        self._extents = FreeExtents()  # of headers: an extent starts where its header does
        self._slabs: set[int] = set()  # offsets of the slabs that are ours
        self._free_bytes = 0
        self._largest_bytes = 0  # of the blocks freed since the node last asked for memory
        self._trim_above_bytes = self.keep_bytes
        if self._mapping is not None:
            self._writer = PageWriter(self.fd, self._mapping, self._view)  # our page table is new

    def after_fork(
        self,
        process_id: bytes,
        request_slab: RequestSlab | None = None,
        return_slabs: ReturnSlabs | None = None,
    ) -> None:
        """This process is a forked child: from here on it is `process_id` and owns no slab yet."""
        self._own(process_id, request_slab or _no_slab, return_slabs or _no_return)

    # --- the mapping --------------------------------------------------------------------------
    def _map(self) -> None:
        mapping = mmap.mmap(self.fd, self.size_bytes)
        self._view = memoryview(mapping)
        self._read_only = self._view.toreadonly()
        self._writer = PageWriter(self.fd, mapping, self._view)
        self._mapping = mapping

    @property
    def read_only(self) -> memoryview:
        """The whole arena for readers (`views.read_only_buffers`)."""
        if self._mapping is None:
            with self._lock:
                if self._mapping is None:
                    self._map()
        return self._read_only

    @property
    def writable(self) -> memoryview:
        """The whole arena, for whoever may change the state in a header (`readers`)."""
        if self._mapping is None:
            self.read_only  # noqa: B018  (maps)
        return self._view

    @property
    def is_mapped(self) -> bool:
        """Has this process used the arena at all?"""
        return self._mapping is not None

    # --- allocation ---------------------------------------------------------------------------
    def allocate(self, size_bytes: int) -> Block | None:
        """A live block for `size_bytes`, owned by this process until `set_owner`.

        Returns: None when the store is full: the node has no slab even after ours that are empty
        went back. Where returned slabs travel on another connection than requests, they may come too
        late for this call, so trying again a little later can succeed.
        """
        total = total_of(size_bytes)
        with self._lock:
            stack = self._stacks.get(total)
            if stack:
                offset = stack.pop()
                self._stacked_bytes -= total
                self._free_bytes -= total
                start = offset - HEADER_BYTES
                mark = next(self._marks)
                STATE.pack_into(self._view, start + MARK_AT, mark)
                REUSED.pack_into(self._view, start + REUSED_AT, size_bytes, self._name, LIVE)
                self._live[offset] = total
                return Block(offset, size_bytes, mark)
            if size_bytes < 0:
                raise ValueError(f"a block of {size_bytes} bytes")
            if total > self.size_bytes:
                return None
            block = self._split_block(total, size_bytes)
            if block is not None:
                return block
        wanted = -(-total // self.slab_bytes) * self.slab_bytes
        grant = self._request_slab(wanted)
        if grant is None:
            # Another thread may have freed what we need while we asked. Else the run of slabs that
            # is needed may be partly the node's and partly ours and empty: give those back, ask again.
            with self._lock:
                block = self._split_block(total, size_bytes)
            if block is not None or not self.trim():
                return block
            grant = self._request_slab(wanted)
            if grant is None:
                return None
        with self._lock:
            self._adopt(grant[0], grant[1])
            block = self._split_block(total, size_bytes)
        if block is None:
            raise ValueError(f"asked for a slab of {wanted} bytes, was granted {grant}")
        return block

    def write(self, block: Block, position: int, buffer: Buffer) -> None:
        """Copy `buffer` (contiguous) into the block, `position` bytes after its start."""
        data = memoryview(buffer)
        if data.ndim != 1 or data.format != "B":
            data = data.cast("B")
        offset, size_bytes, _ = block
        if position < 0 or position + len(data) > size_bytes:
            raise ValueError(f"{len(data)} bytes at {position} do not fit a block of {size_bytes}")
        if offset not in self._live:
            raise ValueError(f"block {offset} is not live, or not of this process")
        self._writer.write(offset + position, data)

    def free(self, offset: int) -> None:
        """The block's bytes may be used again. Only its allocator may say so, once.

        Raises: ValueError when it is no live block of this process.
        """
        returned: list[tuple[int, int]] = []
        with self._lock:
            total = self._live.pop(offset, None)
            if total is None:
                raise ValueError(f"block {offset} was freed, but it is not a live block of this process")
            if self._owner_of:
                self._owner_of.pop(offset, None)
            start = offset - HEADER_BYTES
            self._view[start + STATE_AT : start + STATE_AT + 8] = _FREE_BYTES
            self._free_bytes += total
            if total <= STACK_MAX_BYTES + HEADER_BYTES:
                self._stacked_bytes += total
                stack = self._stacks.get(total)
                if stack is None:
                    self._stacks[total] = [offset]
                else:
                    stack.append(offset)
            else:
                self._merge(start, total)
                if total > self._largest_bytes:
                    self._largest_bytes = total
            if self._free_bytes > self._trim_above_bytes:
                returned = self._trim_to_allowance()
        if returned:
            self._return_slabs(returned)

    def set_owner(self, offset: int, owner: bytes) -> None:
        """Note in the block's header which process decides about its life (an id, or its prefix).

        When this process dies, the node asks those owners about its blocks.
        """
        if offset not in self._live:
            raise ValueError(f"block {offset} is not live, or not of this process")
        OWNER.pack_into(self._view, offset - HEADER_BYTES + OWNER_AT, owner[:OWNER_BYTES])
        self._owner_of[offset] = owner[:OWNER_BYTES]

    def blocks_of(self, owner: bytes) -> list[tuple[int, int]]:
        """(payload offset, total bytes) of our live blocks that `owner` (an id or its prefix) decides about."""
        prefix = owner[:OWNER_BYTES]
        with self._lock:
            return [
                (offset, self._live[offset]) for offset, name in self._owner_of.items() if name == prefix
            ]

    def other_owners(self) -> set[bytes]:
        """Prefixes of the processes that decide about blocks of ours."""
        with self._lock:
            return set(self._owner_of.values())

    def live_by_slab(self) -> dict[int, int]:
        """How many bytes of live blocks lie in each of our slabs (by the slab's offset)."""
        with self._lock:
            live = list(self._live.items())
        held: dict[int, int] = {}
        for offset, total in live:
            start, end = offset - HEADER_BYTES, offset - HEADER_BYTES + total
            while start < end:
                slab = start - start % self.slab_bytes
                part = min(end, slab + self.slab_bytes) - start
                held[slab] = held.get(slab, 0) + part
                start += part
        return held

    def trim(self, keep_bytes: int = 0) -> int:
        """Return whole empty slabs to the node until at most `keep_bytes` are free here.

        Returns: the bytes that went back.
        """
        with self._lock:
            returned = self._trim(keep_bytes)
            self._largest_bytes = 0
            self._trim_above_bytes = max(self.keep_bytes, self._free_bytes + self.keep_bytes // 2)
        if returned:
            self._return_slabs(returned)
        return sum(size_bytes for _, size_bytes in returned)

    # --- what there is ------------------------------------------------------------------------
    def live_bytes(self) -> int:
        """Bytes of live blocks, with headers and padding."""
        return len(self._slabs) * self.slab_bytes - self._free_bytes

    def owned_bytes(self) -> int:
        """Bytes of the slabs that this process was granted and has not returned."""
        return len(self._slabs) * self.slab_bytes

    def live_blocks(self) -> list[int]:
        """Offsets of the live blocks, in order."""
        return sorted(self._live)

    def check_invariants(self) -> None:
        """Assert that index, free lists and the headers in memory agree, and nothing overlaps."""
        with self._lock:
            self._extents.check_invariants()
            free = dict(self._extents)
            stacked = {
                offset - HEADER_BYTES: total for total, stack in self._stacks.items() for offset in stack
            }
            live = {offset - HEADER_BYTES: total for offset, total in self._live.items()}
            assert sum(stacked.values()) == self._stacked_bytes
            assert sum(map(len, self._stacks.values())) == len(stacked), "a block is stacked twice"
            assert sum(free.values()) + self._stacked_bytes == self._free_bytes
            assert sum(live.values()) == self.live_bytes()
            assert len(free) + len(stacked) + len(live) == len(free | stacked | live)
            known = sorted((free | stacked | live).items())
            seen = []
            slabs = sorted(self._slabs)
            while slabs:
                first = last = slabs.pop(0)
                while slabs and slabs[0] == last + self.slab_bytes:
                    last = slabs.pop(0)
                for block in walk_blocks(self._view, first, last + self.slab_bytes - first, self._name):
                    seen.append((block.start, block.total_bytes))
                    assert block.live == (block.start in live), f"state of block {block}"
                    assert not block.live or total_of(block.size_bytes) == block.total_bytes
            assert seen == known, "headers in memory and the index disagree"

    # --- inside the lock ----------------------------------------------------------------------
    def _adopt(self, offset: int, size_bytes: int) -> None:
        slabs = range(offset, offset + size_bytes, self.slab_bytes)
        whole = offset % self.slab_bytes == size_bytes % self.slab_bytes == 0
        inside = 0 <= offset < offset + size_bytes <= self.size_bytes
        if not (whole and inside and self._slabs.isdisjoint(slabs)):
            raise ValueError(f"the node granted {offset}+{size_bytes}: not whole slabs, or ours already")
        if self._mapping is None:
            self._map()
        self._slabs.update(slabs)
        self._free_bytes += size_bytes
        # Before the merge: a header to the left that came to cover this must not skip over garbage.
        self._write_free(offset, size_bytes)
        self._merge(offset, size_bytes)

    def _split_block(self, total: int, size_bytes: int) -> Block | None:
        start = self._extents.find(total)
        if start is None:
            if self._free_bytes < total or not self._stacked_bytes:
                return None
            self._unstack()
            start = self._extents.find(total)
            if start is None:
                return None
        size = self._extents.remove(start)
        if size > total:
            # Free memory never touches free memory, so this needs no merge, only its header, which
            # must be there before ours shrinks.
            self._extents.add(start + total, size - total)
            self._write_free(start + total, size - total)
        mark = next(self._marks)
        STATE.pack_into(self._view, start + MARK_AT, mark)
        HEADER.pack_into(self._view, start, MAGIC, total, self._name, size_bytes, self._name, LIVE)
        offset = start + HEADER_BYTES
        self._live[offset] = total
        self._free_bytes -= total
        return Block(offset, size_bytes, mark)

    def _merge(self, start: int, size_bytes: int) -> None:
        start, size_bytes = self._extents.add(start, size_bytes)
        self._write_free(start, size_bytes)

    def _unstack(self) -> None:
        """Small free blocks become extents again, so that neighbours merge."""
        for total, stack in self._stacks.items():
            for offset in stack:
                self._merge(offset - HEADER_BYTES, total)
        self._stacks.clear()
        self._stacked_bytes = 0

    def _trim_to_allowance(self) -> list[tuple[int, int]]:
        # A program that puts one 800 MB array after the other shall find the pages of the last one
        # mapped, however small the allowance: the node says when somebody else needs them.
        allowance = max(self.keep_bytes, self._largest_bytes + self.slab_bytes)
        returned = self._trim(allowance) if self._free_bytes > allowance else []
        # What is left over may be in pieces that cannot go back: wait until as much again as half the
        # allowance is free before trying anew.
        self._trim_above_bytes = max(allowance, self._free_bytes + allowance // 2)
        return returned

    def _trim(self, keep_bytes: int) -> list[tuple[int, int]]:
        if self._free_bytes <= keep_bytes or not self._slabs:
            return []
        self._unstack()
        slab_bytes = self.slab_bytes
        returned = []
        for start, size in list(self._extents):  # those longest unchanged first: the warm ones stay
            excess = -(-(self._free_bytes - keep_bytes) // slab_bytes) * slab_bytes
            if excess <= 0:
                break
            low = -(-start // slab_bytes) * slab_bytes
            high = (start + size) // slab_bytes * slab_bytes
            low = max(low, high - excess)
            if low >= high:
                continue
            # The next header first, then ours shrinks: see `blocks`.
            self._extents.remove(start)
            if high < start + size:
                self._extents.add(high, start + size - high)
                self._write_free(high, start + size - high)
            for slab in range(high - slab_bytes, low - 1, -slab_bytes):
                # Each slab may be granted alone next: none may begin with an old header of a live
                # block.
                self._write_free(slab, slab_bytes)
                self._slabs.discard(slab)
            if low > start:
                self._extents.add(start, low - start)
                self._write_free(start, low - start)
            self._writer.forget(low, high - low)
            self._free_bytes -= high - low
            returned.append((low, high - low))
        return returned

    def _write_free(self, start: int, size_bytes: int) -> None:
        HEADER.pack_into(self._view, start, MAGIC, size_bytes, self._name, 0, self._name, FREE)


def _no_slab(size_bytes: int) -> tuple[int, int] | None:
    """A forked child has no way to the node of its own yet."""
    return None


def _no_return(slabs: list[tuple[int, int]]) -> None:
    """A forked child has nothing to return."""
