"""What happens in an owner when memory is short, and how are spilled bytes found again?

    no room ─► ask the node ─► everybody trims and offers what nobody reads ─► the node chooses
            ─► owners write to disk, free the blocks ─► try again ... ─► nothing to spill: to disk itself

The decisions are `raylet.state.room` and `raylet.state.spill_policy`; here are the hands. Writing is
done by a thread of its own, so that a full store does not stop answers. The bytes are written while
everybody may go on reading them; only then, and only if nobody reads at that instant
(`object_store.readers`), does the object's place change and its block become free. Places that were
given out before are found to be stale when they are opened, and their owner is asked for the new one.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

from minray.base import events as ev
from minray.base import ids
from minray.base.errors import ObjectLostError, OutOfDiskError
from minray.base.messages import (
    ObjectsSpilled,
    OrphansFound,
    OrphansFreed,
    RoomOffered,
    RoomWanted,
    SpillCounted,
    SpillOrdered,
    StoreTrim,
)
from minray.object_store.arena import Block
from minray.object_store.blocks import HEADER_BYTES, OWNER_BYTES, total_of
from minray.object_store.layout import payload_bytes
from minray.object_store.readers import StaleBlock
from minray.object_store.spill_files import files_by_writer
from minray.serialization.values import FAILED, PENDING, STORED, Stored
from minray.worker.core_state import CoreState
from minray.worker.interrupts import interrupts
from minray.worker.object_ref import BorrowedRef, ObjectRef, make_borrowed
from minray.worker.store import Kept

FUSE_BYTES = 64 << 20
"""Objects are put into one file up to this size."""

ROUNDS_MAX = 10  # others may take what was freed for us; after so many rounds ...
ROOM_WITHIN_S = 60.0  # ... or so long, the object goes to disk itself
RETURN_WITHIN_S = 0.25  # for freed blocks to come back through their allocators and the node
PAUSE_S = 0.005
ORPHANS_AFTER_S = 0.5  # by then everything that their allocator sent before its end has been read
CANDIDATES_MIN = 500  # so many are offered even when fewer would do: one of them may lie better
CANDIDATES_MAX = 20_000
_perf = time.perf_counter


class Spilling(CoreState):
    """Makes room, gives room, finds what was moved."""

    def __init__(self) -> None:
        super().__init__()
        self._orders: queue.SimpleQueue[SpillOrdered | None] = queue.SimpleQueue()
        self._spiller: threading.Thread | None = None
        self._told = SpillCounted(0, 0, 0, 0, 0)
        self._dead_owners: set[bytes] = set()  # prefixes

    def begin_spilling(self) -> None:
        """The store is there."""
        store = self.store
        store.on_restored = self._note_restored
        store.between = self._interruptible
        if self.config.spilling:
            store.make_room = self.make_room

    def end_spilling(self) -> None:
        """Leave: what is being written is given up."""
        if self._spiller is not None:
            self._orders.put(None)
            self._spiller.join(timeout=5.0)

    # ---------------------------------------------------------------- who needs room
    def make_room(self, size: int) -> Block | None:
        """A block for `size` bytes once others have given way; None when that does not help.

        Raises: KeyboardInterrupt.
        """
        arena = self.store.arena
        total = total_of(size)
        if total > arena.size_bytes:
            return None
        deadline = _perf() + ROOM_WITHIN_S
        for attempt in range(ROUNDS_MAX):
            number = self.ask_node("room", (total, attempt > 0))
            while (outcome := self.ask_node("room_outcome", number)) is None:
                self._pause()
            freed, _ = outcome
            patience = _perf() + (RETURN_WITHIN_S if freed else 0.0)
            while True:
                self._collect()
                block = arena.allocate(size)
                if block is not None or _perf() > patience:
                    break
                self._pause()
            if block is not None:
                return block
            if not freed or _perf() > deadline:
                break
        return None

    def _pause(self) -> None:
        """Hear messages for a moment."""
        loop = self.loop
        if loop.leader_ident == threading.get_ident():
            loop.poll_once(PAUSE_S)
        elif loop.lead():
            try:
                loop.poll_once(PAUSE_S)
            finally:
                loop.leave()
        else:
            time.sleep(PAUSE_S / 2)
        self._interruptible()

    def _interruptible(self) -> None:
        if interrupts.pending:
            interrupts.raise_pending()

    # ---------------------------------------------------------------- who gives room
    def on_store_trim(self, message: StoreTrim) -> None:
        """Somebody needs memory: what we do not use goes back."""
        for worker_id in message.dead:
            peer = self.peers.get(worker_id)
            if peer is not None and not peer.gone:
                self.loop.drain_rest(peer.channel)  # what it freed itself comes first
            self._dead_owners.add(worker_id[:OWNER_BYTES])
        self._give_back_unused()

    def _give_back_unused(self) -> None:
        self._collect()
        arena = self.store.arena
        if arena.is_mapped:
            for owner in arena.other_owners() & self._dead_owners:
                self._free_blocks_of(owner)
            arena.trim()

    def on_room_wanted(self, message: RoomWanted) -> None:
        """What could be spilled?"""
        if message.requesters != (self.worker_id,):
            self._give_back_unused()
        else:
            self._collect()
        arena = self.store.arena
        offered = tuple(self._candidates(message)) if self.config.spilling else ()
        live = tuple(arena.live_by_slab().items()) if arena.is_mapped else ()
        self.tell_node(RoomOffered(message.number, offered, live))

    def _candidates(self, message: RoomWanted) -> Iterator[tuple[int, int, float]]:
        known = sorted((kept.used_s, offset) for offset, kept in list(self.store.resident.items()))
        found = offered = 0
        for used_s, offset in known[:CANDIDATES_MAX]:
            if found >= message.amount_bytes and offered >= CANDIDATES_MIN and not message.in_pieces:
                break
            kept = self.store.resident.get(offset)
            if kept is None:
                continue
            total = total_of(payload_bytes(kept.block[1]))
            if not self.store.readers.in_use(offset, total):
                found += total
                offered += 1
                yield offset - HEADER_BYTES, total, used_s

    def on_spill_ordered(self, message: SpillOrdered) -> None:
        """The node chose: off to the thread that writes."""
        if self._spiller is None:
            self._spiller = threading.Thread(target=self._spill_main, daemon=True, name="minray-spill")
            self._spiller.start()
        self._orders.put(message)

    # ---------------------------------------------------------------- the thread that writes
    def _spill_main(self) -> None:
        while (order := self._orders.get()) is not None:
            freed, error = 0, ""
            try:
                for batch in self._batches(order.starts):
                    freed += self._spill(batch)
                    del batch
                    self.free_ended()
                if order.requesters != (self.worker_id,) and self.store.arena.is_mapped:
                    self.store.arena.trim()
            except OutOfDiskError as full:
                error = str(full)
            except _Closed:
                return
            except Exception as odd:  # the order must be answered: somebody waits for the room
                error = f"{type(odd).__name__}: {odd}"
                logging.getLogger("minray").exception("objects could not be spilled")
            self.tell_node(ObjectsSpilled(order.number, freed, error))

    def _batches(self, starts: tuple[int, ...]) -> Iterator[list[tuple[Kept, Any]]]:
        """Values with the blocks in which they lie now, enough for a file."""
        batch: list[tuple[Kept, Any]] = []
        size = 0
        for start in starts:
            kept = self.store.resident.get(start + HEADER_BYTES)
            if kept is None:
                continue  # it died meanwhile
            block = kept.block
            batch.append((kept, block))
            size += kept.size
            if size >= FUSE_BYTES or len(batch) >= self.config.fused_objects_max:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _spill(self, batch: list[tuple[Kept, Any]]) -> int:
        """Write these into one file, and free the blocks of those that nobody reads then.

        A value may die while it is written, its block be used for another: then `move` refuses.
        Returns: freed bytes.
        """
        store = self.store
        writable = store.arena.writable
        began = _perf()
        objects = []
        for _, (offset, lengths, _, _) in batch:
            size = payload_bytes(lengths)
            objects.append((size, ((0, writable[offset : offset + size]),)))
        name, positions = store.files.write(self.worker_id, objects, self._stop_when_closed)
        seconds = _perf() - began
        store.files.hold(name, 0)  # the first to come may die before the last has come
        freed = 0
        written = sum(size for size, _ in objects)
        for (kept, block), position in zip(batch, positions, strict=True):
            offset, lengths, _, _ = block
            total = total_of(payload_bytes(lengths))
            place = (position, lengths, b"", name)
            if not store.readers.take(
                writable, offset, total, lambda kept=kept, place=place: store.move(kept, place)  # type: ignore[misc]
            ):
                continue  # somebody began to read it meanwhile, or it is dead
            store.ended.append((block, (), kept.size, 0))
            freed += total
            store.spilled_objects += 1
            store.spilled_bytes += kept.size
            if self.recorder is not None and kept.number:
                object_id = ids.object_id_hex(self.worker_id, kept.number)
                path, writer = os.path.join(store.files.folder, name), self.worker_id.hex()
                share = seconds * kept.size / written
                self.recorder.record(ev.ObjectSpilled(_perf(), object_id, kept.size, share, path, writer))
        store.files.release(name, 0)
        return freed

    def _stop_when_closed(self) -> None:
        if self.closed:
            raise _Closed

    # ---------------------------------------------------------------- finding what was moved
    def open_block(self, ref: Any, stored: Any, holder: Any, known: Any) -> tuple[Any, list[Any]]:
        """The value of `ref`, whose buffers lie in a block or a file: `stored`, which may be behind the times.

        Raises: ObjectLostError, OwnerDiedError.
        """
        own = type(ref) is ObjectRef
        stored.used_s = _perf()
        asked = False
        while True:
            block = stored.block
            try:
                return self.store.open_parts(stored.stream, stored.buffers, block, holder, known, not own)
            except StaleBlock:
                if own and stored.block != block:
                    continue  # spilled between two lines
                if own or asked:
                    raise ObjectLostError(ref.hex()) from None
            asked = True
            now = self._ask_owner(ref)
            if now.st == FAILED:
                raise self.error_of(now)
            assert now.st == STORED
            stored.block = now.v.block

    def open_foreign(self, ref: BorrowedRef[Any], stream: bytes, buffers: Any, block: Any) -> tuple[Any, list[Any]]:
        """The value of somebody else's object, from what came with a call."""
        if block is None:
            return self.store.open_parts(stream, buffers, None, ref, None)
        return self.open_block(ref, Stored(stream, buffers, block, (), 0), ref, None)

    def read_ahead(self, refs: Any) -> None:
        """Several values are about to be opened: those on disk are read at the same time."""
        blocks = [ref.v.block for ref in refs if ref.st == STORED]
        parts = [(block[3], block[0], payload_bytes(block[1])) for block in blocks if block and not block[2]]
        if len(parts) > 1:
            self.store.files.read_ahead(parts)

    def _ask_owner(self, ref: Any) -> Any:
        """A reference like `ref`, as its owner knows it now."""
        if ref.owner == self.worker_id:
            own = self.table.get(ref.n)
            if own is not None:
                return own
            raise ObjectLostError(ref.hex())
        probe: BorrowedRef[Any] = make_borrowed(ref.owner, ref.n)
        self.fetch_all([probe])
        while probe.st == PENDING:
            self._interruptible()
            self._step(probe, None)
        return probe

    def _note_restored(self, holder: Any, size: int, seconds: float, name: str) -> None:
        if self.recorder is None:
            return
        if isinstance(holder, ObjectRef):
            object_id = holder.hex()
        else:
            object_id = ids.object_id_hex(self.worker_id, holder.number)
        path = os.path.join(self.store.files.folder, name)
        self.recorder.record(
            ev.ObjectRestored(_perf(), object_id, size, seconds, path, self.worker_id.hex())
        )

    def tell_spilled(self) -> None:
        """Report our counts to the node when they have changed."""
        store = self.store
        counted = SpillCounted(
            store.spilled_objects,
            store.spilled_bytes,
            store.restored_objects,
            store.restored_bytes,
            store.files.live_bytes,
        )
        if counted != self._told:
            self._told = counted
            self.tell_node(counted)

    # ---------------------------------------------------------------- what the dead leave
    def clear_after(self, worker_id: bytes) -> None:
        """A process died: free what we allocated for it, remove what it wrote for us and never told of."""
        self._dead_owners.add(worker_id[:OWNER_BYTES])
        self._free_blocks_of(worker_id)
        files = self.store.files
        for name in files_by_writer(files.folder, self.worker_id, worker_id):
            files.discard(name)

    def _free_blocks_of(self, owner: bytes) -> None:
        store = self.store
        if not store.arena.is_mapped:
            return
        for offset, total in store.arena.blocks_of(owner):
            if store.readers.take_from_the_dead(store.arena.writable, offset, total):
                store.arena.free(offset)

    def on_orphans_found(self, message: OrphansFound) -> None:
        """Blocks of ours whose allocator died: those that we were never told of can go."""

        def answer() -> None:
            resident = self.store.resident
            unknown = tuple(
                (offset, mark)
                for offset, mark in message.blocks
                if (kept := resident.get(offset)) is None or kept.block[3] != mark
            )
            if unknown:
                self.tell_node(OrphansFreed(unknown))

        self.loop.call_later(ORPHANS_AFTER_S, answer)


class _Closed(Exception):
    """The process leaves the cluster."""
