"""When did the last reader of a block's bytes go away?

`pickle.loads(meta, buffers=read_only_buffers(...))` builds arrays straight over the arena. The
block must stay as it is while any of them, or anything derived from them, can still be reached: a
slice, a dtype view, a DataFrame's column, an Arrow buffer, a memoryview, a tensor.

    region = arena[o:o+n] ◄── PickleBuffer ◄── root memoryview ◄── slice ◄── array ◄── its slices ...
      ▲
      └─ weak reference (holds `holder`); its death releases `holder`

All of those hold the *exporter* of the buffer alive, and nothing else reliably: numpy re-bases a
view onto the object that exported its buffer and drops the ones between, so a weak reference to
the array or to a memoryview given to it fires too early. A PickleBuffer forwards buffer requests to
the object it wraps, which makes `region`, an object that no reader ever sees, the exporter of them
all. Rejected: `weakref.finalize` (twice the cost, and an atexit hook), one small mmap per read
(two system calls and a page-table entry), ctypes arrays (writable).

The callback may run in any thread, inside the garbage collector or between two bytecodes of the
allocator, so it only pops a dict. What the release of `holder` sets off is up to `holder`: it must
be as careful.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from pickle import PickleBuffer

from minray.object_store.layout import ALIGNMENT_BYTES

_pins: dict[int, _Pin] = {}


class _Pin(weakref.ref[memoryview]):
    """Holds `holder` until `region` dies. Kept alive in `_pins`, under its own id, until then."""

    __slots__ = ("holder",)
    holder: object


def _region_died(pin: weakref.ref[memoryview], _pins: dict[int, _Pin] = _pins) -> None:
    # `_pins` is a default argument: module globals may be gone when this runs at interpreter exit.
    _pins.pop(id(pin), None)


def read_only_buffers(
    arena_readonly: memoryview, offset: int, lengths: Sequence[int], holder: object
) -> list[memoryview]:
    """Views of the buffers that `layout.plan(lengths)` placed in the payload at `offset`.

    `holder` (any object: the reference that pins the block) stays alive until the last view of any
    kind is gone. Views are read-only.

    Raises: ValueError when the buffers would reach outside the arena.
    """
    end = offset
    for length in lengths:
        end += (length + ALIGNMENT_BYTES - 1) & -ALIGNMENT_BYTES
    if offset < 0 or end > len(arena_readonly) or not arena_readonly.readonly:
        raise ValueError(
            f"buffers at {offset}..{end} do not lie in a read-only arena of {len(arena_readonly)} bytes"
        )
    region = arena_readonly[offset:end]
    root = memoryview(PickleBuffer(region))
    pin = _Pin(region, _region_died)
    pin.holder = holder
    _pins[id(pin)] = pin
    if len(lengths) == 1:
        return [root[: lengths[0]]]
    buffers = []
    at = 0
    for length in lengths:
        buffers.append(root[at : at + length])
        at += (length + ALIGNMENT_BYTES - 1) & -ALIGNMENT_BYTES
    return buffers


def pinned_regions() -> int:
    """How many reads are still in use in this process."""
    return len(_pins)
