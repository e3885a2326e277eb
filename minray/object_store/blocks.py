"""What does a block look like in the arena, and how is a dead process's slab read back?

Every block, live or free, starts with a 64-byte header; the payload follows, so payloads are
64-byte aligned. The headers tile the memory that a process owns: from the start of a range of
slabs, header + total size leads to the next header, to the end of the range. That is all a node
needs to find what a process that was killed left behind.

    offset - 64                          offset                       offset - 64 + total
    │ magic total allocator payload owner state mark │ payload ...  (padding) │ next header ...

Offsets in this package always name the payload, except where a comment says "header".

Only the process that was granted a slab writes headers in it. Fields are written in native order,
eight bytes at a time, and a split writes the header of the remainder before it shrinks the first
part: whatever the instant of a SIGKILL, the headers that are reached still tile. One field may be
written by others too: an owner that has moved its bytes elsewhere sets the state to MOVED, and a node
that cleans up after an owner's death sets it to FREE, each while it holds the block's lock (`readers`).

The mark is new with every use of a block: who was told (offset, mark) can see whether it still lies there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

HEADER_BYTES = 64
ALIGNMENT_BYTES = 64
OWNER_BYTES = 8
"""Length of the id prefixes in a header: enough to tell the processes of one session apart."""

SLAB_STEP_BYTES = 64 << 10
SLAB_BYTES_MIN = 256 << 10
SLAB_BYTES_MAX = 8 << 20
SLABS_WANTED = 256

SMALL_STEP_MAX_BYTES = 1 << 10  # payloads up to here: classes of 64 bytes
STACK_MAX_BYTES = 1 << 20  # up to here: four classes per power of two, quickly reused; above: pages of 4 KB

MAGIC = 0x6B636F6C62796172  # "rayblock", little-endian
FREE = 0
LIVE = 1
MOVED = 2  # its owner has the bytes elsewhere; the allocator will hear of it and free the block

# magic, total, allocator, payload, owner, state. The state comes last: a block becomes live when
# all else about it is true (the mark behind it is written before).
HEADER = struct.Struct("@QQ8sQ8sQ")
IDENTITY = struct.Struct("@QQ8sQ8sQQ")  # the same, with the mark
# The part that changes when a block is used again at its old size.
REUSED = struct.Struct("@Q8sQ")
STATE = struct.Struct("@Q")
OWNER = struct.Struct("@8s")
REUSED_AT = 24
OWNER_AT = 32
STATE_AT = 40
MARK_AT = 48


def slab_bytes_of(capacity_bytes: int) -> int:
    """The slab size of an arena: a 256th, within 0.25-8 MB, in steps of 64 KB."""
    share = capacity_bytes // SLABS_WANTED
    rounded = (share + SLAB_STEP_BYTES - 1) // SLAB_STEP_BYTES * SLAB_STEP_BYTES
    return min(SLAB_BYTES_MAX, max(SLAB_BYTES_MIN, rounded))


def total_of(size_bytes: int) -> int:
    """Bytes that a payload takes in the arena: its size class and the header."""
    if size_bytes <= SMALL_STEP_MAX_BYTES:
        return ((size_bytes + 63) & -64) + HEADER_BYTES
    if size_bytes <= STACK_MAX_BYTES:
        shift = (size_bytes - 1).bit_length() - 3
        return (((size_bytes - 1) >> shift) + 1 << shift) + HEADER_BYTES
    return ((size_bytes + 4095) & -4096) + HEADER_BYTES


class BlockInfo(NamedTuple):
    """One block as its header tells. `offset` and `size_bytes` are the payload's."""

    offset: int
    size_bytes: int  # 0 for a free block
    total_bytes: int  # with header and padding
    owner: bytes  # first 8 bytes of the owner's id
    live: bool
    mark: int = 0

    @property
    def start(self) -> int:
        """Arena offset of the header."""
        return self.offset - HEADER_BYTES


def walk_blocks(
    view: memoryview, offset: int, size_bytes: int, allocator: bytes = b""
) -> Iterator[BlockInfo]:
    """Every block, live and free, in `size_bytes` of arena from `offset`, in order.

    The range must be a maximal run of slabs of one process (`SlabTable.ranges`): a block may cross
    from one grant into the next. A slab that begins without a valid header is passed over: it was
    granted, and its process died before it wrote there. With `allocator` (an id or its 8-byte
    prefix), a header that another process left in the slab earlier counts as no header.
    """
    end = offset + size_bytes
    if offset < 0 or end > len(view):
        raise ValueError(f"range {offset}+{size_bytes} lies outside the arena of {len(view)} bytes")
    expected = allocator[:OWNER_BYTES]
    slab_bytes = slab_bytes_of(len(view))
    at = offset
    while at + HEADER_BYTES <= end:
        magic, total, written_by, payload, owner, state, mark = IDENTITY.unpack_from(view, at)
        valid = (
            magic == MAGIC
            and total >= HEADER_BYTES
            and total % ALIGNMENT_BYTES == 0
            and at + total <= end
            and payload <= total - HEADER_BYTES
            and (not expected or written_by == expected)
        )
        if not valid:
            at += slab_bytes - at % slab_bytes
            continue
        live = state == LIVE
        yield BlockInfo(at + HEADER_BYTES, payload if live else 0, total, owner, live, mark)
        at += total


def scan_slab(view: memoryview, offset: int, size_bytes: int, allocator: bytes = b"") -> list[BlockInfo]:
    """The live blocks of a range of slabs; see `walk_blocks` for the arguments."""
    return [block for block in walk_blocks(view, offset, size_bytes, allocator) if block.live]
