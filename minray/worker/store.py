"""Where does a value lie, and how does it come back?

Up to 100 KB it is inline, in its owner's heap; beyond, its buffers lie in a block of the node's
arena and everybody on the node reads them in place. `seal` turns a value into (state, form), `open`
turns it back. A `SharedStored` is a block that this process owns: its `__del__` queues the block to
be freed, so the block lives exactly as long as the reference or the last view of it.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from minray.base.errors import ObjectStoreFullError, RaySystemError
from minray.object_store.arena import Arena
from minray.object_store.layout import plan
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


class SharedStored(Stored):
    """A stored value whose end must be told: its block is freed, its references are unpinned."""

    __slots__ = ("on_end", "number")

    on_end: Callable[[Any], None]
    number: int  # of the reference, for the events; 0: none

    def __del__(self) -> None:
        try:
            self.on_end((self.block, self.refs, self.size, self.number))
        except AttributeError:
            pass


class _ClosedArena:
    """Stands where the arena was after `shutdown()`: late frees are void, everything else is an error."""

    size_bytes = 0

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
    ) -> None:
        self.arena: Arena | _ClosedArena = arena
        self.worker_id = worker_id
        self.inline_limit = inline_limit
        self._ask_store = ask_store
        self._collect = collect  # frees what is queued to be freed
        self.ended: deque[tuple[Any, tuple[Any, ...], int, int]] = deque()

    def close(self) -> None:
        """Let go of the arena: functions and refs that a program keeps must not keep its memory too."""
        self.arena = _ClosedArena()

    # ---------------------------------------------------------------- value -> form
    def seal(self, value: Any, owner: bytes | None = None) -> tuple[int, Any, list[Any]]:
        """(state, plain value | bytes | parts, references inside). parts = (stream, buffers, block, size).

        Raises: ObjectStoreFullError, TypeError or PicklingError for what cannot be pickled.
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
        block = self._allocate(max(total, 64))
        try:
            for position, view in zip(positions, views, strict=True):
                if view.nbytes:
                    self.arena.write(block, position, view)
        except BaseException:  # no memory for the pages: nobody will ever ask for this block
            self.arena.free(block.offset)
            raise
        if owner is not None and owner != self.worker_id:
            self.arena.set_owner(block.offset, owner)
        return stream, None, (block.offset, lengths, self.worker_id), total + len(stream)

    def _allocate(self, size: int) -> Any:
        self._collect()
        deadline = time.monotonic() + FULL_WAIT_S
        while True:
            block = self.arena.allocate(size)
            if block is not None:
                return block
            if size > self.arena.size_bytes or time.monotonic() > deadline:
                raise self._full(size)
            time.sleep(0.02)  # others were asked to give back empty slabs
            self._collect()

    def _full(self, size: int) -> ObjectStoreFullError:
        state = self._ask_store()
        capacity = state.get("capacity_bytes", 0)
        largest = sorted(state.get("clients", {}).items(), key=lambda item: -item[1])[:4]
        who = ", ".join(f"{self._who(worker)} {_mb(count)}" for worker, count in largest if count)
        return ObjectStoreFullError(
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
        stored = SharedStored(stream, buffers, block, tuple(refs), size)
        stored.on_end = on_end
        stored.number = number
        return stored

    # ---------------------------------------------------------------- form -> value
    def open_parts(
        self, stream: bytes, buffers: Any, block: Any, holder: Any, known: dict[Any, Any] | None
    ) -> tuple[Any, list[Any]]:
        """The value again. `holder` lives until the last view of the block is dead."""
        if block is None:
            return load(stream, buffers, known)
        offset, lengths, _ = block
        views = read_only_buffers(self.arena.read_only, offset, lengths, holder)
        if stream == RAW_BYTES:
            return bytes(views[0]), []
        if stream == STREAM_IN_BLOCK:
            return load(views[-1], views[:-1], known)  # type: ignore[arg-type]
        return load(stream, views, known)


def _mb(count: float) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} KB"
