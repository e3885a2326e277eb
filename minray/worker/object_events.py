"""What becomes of the large values that this process owns?

Only values in shared memory leave events; a small value travels with its task and is gone with its
reference. Each is told by its owner, which hears of all of it anyway:

    ObjectPut ──► ObjectBorrowed by a process ──► ObjectReturned ──► ObjectFreed
"""

from __future__ import annotations

import time
from typing import Any

from minray.base import events as ev
from minray.base import ids
from minray.serialization.values import STORED
from minray.worker.core_state import CoreState
from minray.worker.object_ref import ObjectRef
from minray.worker.peer import Peer

_perf = time.perf_counter


class ObjectEvents(CoreState):
    """The owner's notes about blocks of the arena. Called for those only, and only while tracing."""

    def note_stored(self, ref: ObjectRef[Any], form: Any, kind: str) -> None:
        """`ref` has its value in a block now; `kind` as in ObjectPut."""
        assert self.recorder is not None
        _, _, allocator, mark = form[2]
        writer = allocator.hex() if allocator else mark.split("-")[1]
        where = "shared" if allocator else "disk"
        self.recorder.record(ev.ObjectPut(_perf(), ref.hex(), form[3], where, writer, kind))
        self.recorder.roll()
        if ref.pins:  # who borrowed it while its task ran?
            for peer in list(self.peers.values()):
                hold = peer.holds.get(ref.n)
                if hold is not None and hold[1] > 0:
                    self.note_borrowed(peer, ref)

    def note_freed(self, number: int, size: int) -> None:
        """The block of object `number` is given back."""
        if self.recorder is not None and number:
            self.recorder.record(ev.ObjectFreed(_perf(), ids.object_id_hex(self.worker_id, number), size))

    def note_borrowed(self, peer: Peer, ref: ObjectRef[Any]) -> None:
        """`peer` holds its first handle on `ref`."""
        assert self.recorder is not None
        self.recorder.record(ev.ObjectBorrowed(_perf(), ref.hex(), peer.worker_id.hex(), peer.pid))

    def note_returned(self, peer: Peer, ref: ObjectRef[Any] | None) -> None:
        """`peer` has no handle on `ref` any more."""
        if ref is not None and ref.st == STORED and self.recorder is not None and ref.v.block is not None:
            self.recorder.record(ev.ObjectReturned(_perf(), ref.hex(), peer.worker_id.hex(), peer.pid))
