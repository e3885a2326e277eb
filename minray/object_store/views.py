"""When did the last reader of a block's bytes go away?

`pickle.loads(meta, buffers=read_only_buffers(...))` builds arrays straight over the arena. The
block must stay as it is while any of them, or anything derived from them, can still be reached: a
slice, a dtype view, a DataFrame's column, an Arrow buffer, a memoryview, a tensor.

    region (a ctypes array) ◄── root memoryview ◄── slice of it ◄── array ◄── its slices, views ...
      ▲
      └─ weak reference (holds `holder`); its death releases `holder`

All of those hold the *exporter* of the buffer alive, and nothing else reliably: a memoryview of a
memoryview, which is what consumers make, goes back to the exporter and drops the ones between. So a
weak reference to an array, or to a memoryview that was given to one, fires too early. Each read
makes an exporter of its own, which no reader sees: a ctypes array that owns nothing and starts at
the address of the mapping.

Rejected: a PickleBuffer around a slice of the arena as exporter (as cheap, no ctypes, but before
Python 3.12.7 the collector crashes on a cycle that contains one: gh-77894), a numpy array (there may
be no numpy), one small mmap per read (two system calls and new page faults).

The callback may run in any thread, inside the garbage collector or between two bytecodes of the
allocator, so it only pops a dict. What the release of `holder` sets off is up to `holder`: it must
be as careful.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from pickle import PickleBuffer
from typing import Any

from minray.object_store.layout import ALIGNMENT_BYTES

_pins: dict[int, _Pin] = {}
_exporters: dict[int, tuple[weakref.ref[Any], Callable[[], Any]]] = {}  # id of a mapping: how to export it


class _Pin(weakref.ref[Any]):
    """Holds `holder` and the mapping until `region` dies; kept in `_pins` under its own id."""

    __slots__ = ("holder", "mapping")
    holder: object
    mapping: object


def _region_died(pin: weakref.ref[Any], _pins: dict[int, _Pin] = _pins) -> None:
    # `_pins` is a default argument: module globals may be gone when this runs at interpreter exit.
    _pins.pop(id(pin), None)


def _exporter(mapping: Any) -> Callable[[], Any]:
    """A function that makes a new buffer over the whole mapping, owning nothing of it."""
    known = _exporters.get(id(mapping))
    if known is not None:
        return known[1]
    import ctypes  # here, because a process that reads no large object shall not pay for it

    address = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    array = ctypes.c_ubyte * len(mapping)
    at = id(mapping)

    def unmapped(_: weakref.ref[Any], _exporters: dict[int, Any] = _exporters) -> None:
        _exporters.pop(at, None)

    def export(from_address: Callable[[int], Any] = array.from_address) -> Any:
        return from_address(address)

    _exporters[at] = (weakref.ref(mapping, unmapped), export)
    return export


def read_only_buffers(
    arena_readonly: memoryview, offset: int, lengths: Sequence[int], holder: object
) -> list[memoryview]:
    """Views of the buffers that `layout.plan(lengths)` placed in the payload at `offset`.

    `arena_readonly` is `Arena.read_only`. `holder` (any object: the reference that pins the block)
    stays alive until the last view of any kind is gone. Views are read-only.

    Raises: ValueError when the buffers would reach outside the arena.
    """
    end = offset
    for length in lengths:
        end += (length + ALIGNMENT_BYTES - 1) & -ALIGNMENT_BYTES
    if offset < 0 or end > len(arena_readonly) or not arena_readonly.readonly:
        raise ValueError(
            f"buffers at {offset}..{end} do not lie in a read-only arena of {len(arena_readonly)} bytes"
        )
    mapping = arena_readonly.obj
    return _pinned(_exporter(mapping)(), mapping, offset, lengths, holder)


def read_only_buffers_at(
    address: int, size_bytes: int, lengths: Sequence[int], holder: object
) -> list[memoryview]:
    """The same for `size_bytes` of memory at `address`, which `holder` keeps mapped (a part of a file)."""
    import ctypes

    return _pinned((ctypes.c_ubyte * size_bytes).from_address(address), None, 0, lengths, holder)


def _pinned(
    region: Any, mapping: object, offset: int, lengths: Sequence[int], holder: object
) -> list[memoryview]:
    # `raw` because ctypes calls its bytes "<B", and readers expect plain bytes, "B".
    root = PickleBuffer(region).raw().toreadonly()
    pin = _Pin(region, _region_died)
    pin.holder = holder
    pin.mapping = mapping
    _pins[id(pin)] = pin
    if len(lengths) == 1:
        return [root[offset : offset + lengths[0]]]
    buffers = []
    at = offset
    for length in lengths:
        buffers.append(root[at : at + length])
        at += (length + ALIGNMENT_BYTES - 1) & -ALIGNMENT_BYTES
    return buffers


def pinned_regions() -> int:
    """How many reads are still in use in this process."""
    return len(_pins)
