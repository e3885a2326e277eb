"""Where does a value lie, and how does it come back?

Up to 100 KB it is inline, in its owner's heap; beyond, its buffers lie in a block of the node's
arena and everybody on the node reads them in place, or, when the arena is full, in a file
(`worker.spilling`). `seal` turns a value into (state, form), `open_parts` turns it back. A
`SharedStored` is a block that this process owns: its `__del__` queues the block to be freed, so the
block lives exactly as long as the reference or the last view of it.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from minray.base.errors import ObjectStoreFullError, OutOfDiskError, RaySystemError
from minray.object_store.arena import Arena, Block
from minray.object_store.layout import payload_bytes, plan
from minray.object_store.readers import Readers, StaleBlock
from minray.object_store.spill_files import SpillFiles
from minray.object_store.views import read_only_buffers
from minray.serialization.values import (
    PICKLED,
    PLAIN,
    RAW_BYTES,
    STORED,
    Stored,
    dump,
    is_plain,
    load,
    raw,
)

STREAM_IN_BLOCK = b"S"  # the pickle stream itself is the block's last buffer
FULL_WAIT_S = 5.0


class Kept:
    """Where one of our own values lies: its block or its part of a file. Outlives the value by a moment.

    The table of blocks holds these and not the values: a weak reference to a value that is being
    deleted would bring it back to life in the thread that spills, and it would end twice.
    """

    __slots__ = ("block", "ended", "number", "size", "used_s")

    def __init__(self, block: Any, size: int, number: int) -> None:
        self.block = block
        self.size = size
        self.number = number  # of the reference, for the events; 0: none
        self.used_s = time.perf_counter()
        self.ended = False


class SharedStored(Stored):
    """A stored value whose end must be told: its block is freed, its references are unpinned."""

    __slots__ = ("kept", "number", "on_end")

    on_end: Callable[[Any], None]
    number: int
    kept: Kept | None  # None: it has no block, only references

    @property
    def block(self) -> Any:
        """Where its buffers lie now: they may move."""
        kept = self.kept
        return None if kept is None else kept.block

    @block.setter
    def block(self, block: Any) -> None:
        self.kept = None

    @property
    def used_s(self) -> float:
        """When the buffers were last stored, read or sent."""
        return 0.0 if self.kept is None else self.kept.used_s

    @used_s.setter
    def used_s(self, when_s: float) -> None:
        if self.kept is not None:
            self.kept.used_s = when_s

    def __del__(self) -> None:
        try:
            self.on_end((self.kept, self.refs, self.size, self.number))
        except AttributeError:
            pass


class _ClosedArena:
    """Stands where the arena was after `shutdown()`: late frees are void, everything else is an error."""

    size_bytes = 0
    is_mapped = False

    def free(self, offset: int) -> None:
        """Nothing: the memory went with the cluster."""

    def trim(self) -> None:
        """Nothing to give back."""

    def __getattr__(self, name: str) -> Any:
        raise RaySystemError("the cluster of this object was shut down")


class StoreClient:
    """One process's access to the arena and to the forms of values."""

    def __init__(
        self,
        arena: Arena,
        worker_id: bytes,
        inline_limit: int,
        ask_store: Callable[[], dict[str, Any]],
        collect: Callable[[], None],
        files: SpillFiles,
    ) -> None:
        self.arena: Arena | _ClosedArena = arena
        self.worker_id = worker_id
        self.inline_limit = inline_limit
        self._ask_store = ask_store
        self._collect = collect  # frees what is queued to be freed
        self.ended: deque[tuple[Any, tuple[Any, ...], int, int]] = deque()
        self.readers = Readers(arena.fd)
        self.files = files
        self.resident: dict[int, Kept] = {}  # by block: our own values in the arena
        self._moving = threading.Lock()
        # Set by the core worker where objects may be spilled:
        self.make_room: Callable[[int], Block | None] | None = None
        self.between: Callable[[], None] = lambda: None  # called now and then during a long write
        self.on_restored: Callable[[Any, int, float, str], None] = lambda holder, size, seconds, name: None
        self.spilled_objects = self.spilled_bytes = self.restored_objects = self.restored_bytes = 0

    def close(self) -> None:
        """Let go of the arena: functions and refs that a program keeps must not keep its memory too."""
        self.arena = _ClosedArena()

    # ---------------------------------------------------------------- value -> form
    def seal(self, value: Any, owner: bytes | None = None) -> tuple[int, Any, list[Any]]:
        """(state, plain value | bytes | parts, references inside). parts = (stream, buffers, block, size).

        Raises: ObjectStoreFullError, OutOfDiskError, TypeError or PicklingError for what cannot be pickled.
        """
        if is_plain(value):
            return PLAIN, value, []
        kind = type(value)
        if kind is bytes and len(value) > self.inline_limit:
            return STORED, self._to_block(RAW_BYTES, [memoryview(value)], owner), []
        stream, buffers, refs = dump(value)
        if not buffers and not refs and len(stream) <= self.inline_limit:
            return PICKLED, stream, refs
        views = raw(buffers)
        total = sum(view.nbytes for view in views)
        if total + len(stream) <= self.inline_limit:
            return STORED, (stream, [bytes(view) for view in views], None, total + len(stream)), refs
        if len(stream) > self.inline_limit:
            return STORED, self._to_block(STREAM_IN_BLOCK, [*views, memoryview(stream)], owner), refs
        return STORED, self._to_block(stream, views, owner), refs

    def _to_block(self, stream: bytes, views: Sequence[memoryview], owner: bytes | None) -> tuple[Any, ...]:
        lengths = tuple(view.nbytes for view in views)
        total, positions = plan(lengths)
        size = total + len(stream)
        block = self._allocate(max(total, 64))
        if block is None:
            pieces = [piece for piece in zip(positions, views, strict=True) if piece[1].nbytes]
            return stream, None, self._to_disk(max(total, 64), lengths, pieces, owner, size), size
        try:
            for position, view in zip(positions, views, strict=True):
                if view.nbytes:
                    self.arena.write(block, position, view)
        except BaseException:  # no memory for the pages: nobody will ever ask for this block
            self.arena.free(block.offset)
            raise
        if owner is not None and owner != self.worker_id:
            self.arena.set_owner(block.offset, owner)
        return stream, None, (block.offset, lengths, self.worker_id, block.mark), size

    def _allocate(self, size: int) -> Block | None:
        """A block; None: to disk with it. Raises: ObjectStoreFullError when nothing may be spilled."""
        self._collect()
        block = self.arena.allocate(size)
        if block is not None:
            return block
        if self.make_room is not None:
            return self.make_room(size)
        deadline = time.monotonic() + FULL_WAIT_S
        while size <= self.arena.size_bytes and time.monotonic() < deadline:
            time.sleep(0.02)  # others were asked to give back empty slabs
            self._collect()
            block = self.arena.allocate(size)
            if block is not None:
                return block
        raise ObjectStoreFullError(
            self._full(size) + " Spilling is switched off (automatic_object_spilling_enabled)."
        )

    def _to_disk(
        self, total: int, lengths: tuple[int, ...], pieces: Any, owner: bytes | None, size: int
    ) -> tuple[int, tuple[int, ...], bytes, str]:
        try:
            name, _ = self.files.write(owner or self.worker_id, [(total, pieces)], self.between)
        except OutOfDiskError as error:
            raise OutOfDiskError(f"{error}\n{self._full(size)}") from None
        self.spilled_objects += 1
        self.spilled_bytes += size
        return 0, lengths, b"", name

    def _full(self, size: int) -> str:
        state = self._ask_store()
        capacity = state.get("capacity_bytes", 0)
        largest = sorted(state.get("clients", {}).items(), key=lambda item: -item[1])[:4]
        who = ", ".join(f"{self._who(worker)} {_mb(count)}" for worker, count in largest if count)
        return (
            f"The object store is full: an object of {_mb(size)} does not fit. Capacity {_mb(capacity)}; "
            f"largest holders: {who or 'none'}. Drop references that you no longer need (`del ref`), store less, "
            "or start with a larger store: init(object_store_memory=...)."
        )

    def _who(self, worker: Any) -> str:
        worker_id = worker if isinstance(worker, bytes) else bytes.fromhex(str(worker))
        return (
            f"this process (pid {os.getpid()})"
            if worker_id == self.worker_id
            else f"worker {worker_id.hex()[:8]}"
        )

    def keep(
        self, parts: tuple[Any, ...], refs: Sequence[Any], on_end: Callable[[Any], None], number: int = 0
    ) -> Stored:
        """The owner's record of sealed parts; `number` is its object's."""
        stream, buffers, block, size = parts
        if block is None and not refs:
            return Stored(stream, buffers, None, (), size)
        stored = SharedStored(stream, buffers, None, tuple(refs), size)
        stored.on_end = on_end
        stored.number = number
        if block is not None:
            stored.kept = kept = Kept(block, size, number)
            if block[2]:
                self.resident[block[0]] = kept
            else:
                self.files.hold(block[3], size)
        return stored

    def end(self, kept: Kept) -> Any:
        """Its value died. Returns: the block or file that it lies in, which does not change any more."""
        with self._moving:
            kept.ended = True
            if kept.block[2]:
                self.resident.pop(kept.block[0], None)
            return kept.block

    def move(self, kept: Kept, place: tuple[int, tuple[int, ...], bytes, str]) -> bool:
        """Its bytes lie in a file as well: that is its place from now on, unless it has ended."""
        with self._moving:
            if kept.ended:
                return False
            self.files.hold(place[3], kept.size)
            self.resident.pop(kept.block[0], None)
            kept.block = place
            return True

    # ---------------------------------------------------------------- form -> value
    def open_parts(
        self,
        stream: bytes,
        buffers: Any,
        block: Any,
        holder: Any,
        known: dict[Any, Any] | None,
        shared: bool = True,
    ) -> tuple[Any, list[Any]]:
        """The value again. `holder` lives until the last view of the block is dead; `shared`: not our object.

        Raises: StaleBlock when the bytes are not there any more (ask the owner), and what unpickling raises.
        """
        if block is None:
            return load(stream, buffers, known)
        views = self._views(block, holder, shared)
        if stream == RAW_BYTES:
            return bytes(views[0]), []
        if stream == STREAM_IN_BLOCK:
            return load(views[-1], views[:-1], known)  # type: ignore[arg-type]
        return load(stream, views, known)

    def _views(self, block: Any, holder: Any, shared: bool) -> list[memoryview]:
        offset, lengths, allocator, mark = block
        size = payload_bytes(lengths)
        if allocator:
            view = self.arena.read_only
            reading = self.readers.enter(view, offset, size, allocator, mark, shared, holder)
            return read_only_buffers(view, offset, lengths, reading)
        began = time.perf_counter()
        try:
            views, fresh = self.files.open(mark, offset, lengths, size, holder)
        except FileNotFoundError:
            raise StaleBlock from None
        if fresh:
            self.restored_objects += 1
            self.restored_bytes += size
            self.on_restored(holder, size, time.perf_counter() - began, mark)
        return views


def _mb(count: float) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} KB"
