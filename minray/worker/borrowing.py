"""Who keeps an object alive in another process?

The owner counts the handles that each peer holds. A handle is made when a reference is unpickled
(in arguments, in a value, in a closure); until the owner has counted it, something that the owner
does count keeps the object alive, the *anchor*:

    in arguments   the caller keeps what it sent until the reply; the worker counts what survived the
                   call before it replies
    in a value     the outer reference, until the owner has answered BORROWED
    in a reply     the sender counts its own objects for the receiver beforehand; those of third
                   parties it keeps until RELEASE

    BORROW n ──► owner: holds[n] += 1 ──► UNBORROW n ──► 0: unpinned ──► freed with the last local ref

What we tell one owner travels on one connection, `peers[owner]`: were two processes to connect to each
other at the same moment, an UNBORROW on the one could overtake a BORROW on the other. Where an order
between two connections matters all the same, an answer is awaited (BORROWED, RELEASE).

A peer's end drops all its handles. Source: Ownership (Wang et al., NSDI 2021); Ray counts borrowers
by process and passes borrower lists in replies, here each handle counts and order does the rest.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from minray.base.errors import ObjectLostError, OwnerDiedError
from minray.base.messages import OrphansFreed
from minray.serialization.errors import dump_error
from minray.serialization.values import FAILED, PENDING, STORED, Stored, collecting
from minray.worker.core_state import CoreState
from minray.worker.object_ref import BorrowedRef, ObjectRef, make_borrowed, make_ref
from minray.worker.peer import Peer
from minray.worker.store import Kept
from minray.worker.wire import BORROW, BORROWED, FETCH, FREE, RELEASE, UNBORROW, VALUE


class _Once:
    """Calls `then` when counted `times` times."""

    __slots__ = ("then", "times")

    def __init__(self, then: Callable[[], None], times: int) -> None:
        self.then = then
        self.times = times

    def count(self) -> None:
        self.times -= 1
        if not self.times:
            self.then()


class Borrowing(CoreState):
    """Both sides of borrowed references, and the forms of values on the wire."""

    def __init__(self) -> None:
        super().__init__()
        self._tokens = itertools.count(1)
        self._anchors: dict[int, Any] = {}  # token -> what waits for BORROWED
        self._kept: dict[int, tuple[Peer, list[Any]]] = {}  # token -> references in a reply, until RELEASE

    # ---------------------------------------------------------------- pins of own objects
    def pin(self, part: Any) -> None:
        """Someone else may ask for `part` by number: keep it in the table."""
        if type(part) is ObjectRef:
            with self._holds_lock:  # += on a field is two steps, and the pump counts too
                part.pins += 1
                self.table[part.n] = part

    def unpin(self, part: Any) -> None:
        """The reverse of `pin`."""
        if type(part) is ObjectRef:
            with self._holds_lock:
                part.pins -= 1
                if part.pins <= 0 and part.task is None and self.table.get(part.n) is part:
                    del self.table[part.n]

    def pin_for_ever(self, ref: ObjectRef[Any]) -> None:
        """A reference was pickled outside the runtime (a file, a queue of the user's own)."""
        if type(ref) is ObjectRef:
            self.pin(ref)
        else:
            self._anchors[-next(self._tokens)] = ref

    # ---------------------------------------------------------------- rebuilding
    def rebuild_ref(self, owner: bytes, number: int) -> ObjectRef[Any]:
        """The reference (owner, number) in this process (called while unpickling)."""
        if owner == self.worker_id:
            return self._own(number)
        known = collecting.known
        if known is not None and (ref := known.get((owner, number))) is not None:
            return ref  # type: ignore[no-any-return]
        borrowed: BorrowedRef[Any] = make_borrowed(owner, number)
        made = collecting.made
        if made is None:
            self.register_borrows([borrowed], None, None)
        else:
            made.append(borrowed)
        return borrowed

    def rebuild_refs(self, owner: bytes, numbers: Any) -> list[ObjectRef[Any]]:
        """An exact list of references of one owner."""
        if owner == self.worker_id:
            table = self.table
            try:
                return [table[number] for number in numbers]
            except KeyError:
                return [self.rebuild_ref(owner, number) for number in numbers]
        if collecting.known:
            return [self.rebuild_ref(owner, number) for number in numbers]
        refs: list[ObjectRef[Any]] = [make_borrowed(owner, number) for number in numbers]
        if collecting.made is None:
            self.register_borrows(refs, None, None)
        else:
            collecting.made.extend(refs)
        return refs

    def _own(self, number: int) -> ObjectRef[Any]:
        """Our object `number`."""
        table = self.table
        for _ in range(5):
            ref = table.get(number)
            if ref is not None:
                return ref
            if self.loop.leader_ident == threading.get_ident():
                break
            time.sleep(
                0.001
            )  # the reader takes an entry out of the table for a moment while it becomes ready
        return self._lost_ref(self.worker_id, number)

    def _lost_ref(self, owner: bytes, number: int) -> ObjectRef[Any]:
        ref = make_ref(owner, number)
        ref.v = dump_error(ObjectLostError(ref.hex()))
        ref.st = FAILED
        return ref

    # ---------------------------------------------------------------- the borrower
    def register_borrows(self, made: list[Any], anchor: Any, via: Peer | None) -> list[int]:
        """Have the owners count our handles. `anchor` lives until they have (an owner reached through
        `via` reads in order: no answer needed); if it can be called, it is, once all have. Returns the
        tokens of the answers to come."""
        self.garbage_possible = True
        by_owner: dict[bytes, list[Any]] = {}
        for ref in made:
            if type(ref) is BorrowedRef and not ref.held:
                by_owner.setdefault(ref.owner, []).append(ref)
        tokens: list[int] = []
        if callable(anchor):
            anchor = _Once(anchor, len(by_owner))
        for owner, refs in by_owner.items():
            numbers = [ref.n for ref in refs]
            for ref in refs:
                ref.held = True
            if via is not None and via.worker_id == owner and self.peers.get(owner) is via:
                via.channel.send((BORROW, numbers, 0))
                continue
            try:
                peer = self.peer_for(owner)
            except OSError:
                self._owner_died(owner, refs)
                if type(anchor) is _Once:
                    anchor.count()
                continue
            token = next(self._tokens)
            self._anchors[token] = (anchor, peer)
            tokens.append(token)
            peer.channel.send((BORROW, numbers, token))
        return tokens

    def on_borrowed(self, peer: Peer, message: Any) -> None:
        """(BORROWED, token)."""
        anchor = self._anchors.pop(message[1], None)
        if anchor is not None and type(anchor[0]) is _Once:
            anchor[0].count()

    def send_drops(self) -> None:
        """Report handles that died, one message an owner."""
        dropped = self.dropped
        by_owner: dict[bytes, list[int]] = {}
        while dropped:
            try:
                owner, number = dropped.popleft()
            except IndexError:
                break
            by_owner.setdefault(owner, []).append(number)
        for owner, numbers in by_owner.items():
            peer = self.peers.get(owner)
            if peer is not None and not peer.gone:
                peer.channel.send((UNBORROW, numbers))

    def fetch(self, ref: BorrowedRef[Any]) -> None:
        """Ask the owner for the value (once)."""
        if ref.st != PENDING:
            return
        self.fetch_all([ref])

    def fetch_all(self, refs: Sequence[Any]) -> None:
        """Ask the owners for the values of these references."""
        by_owner: dict[bytes, list[Any]] = {}
        for ref in refs:
            if type(ref) is BorrowedRef and ref.st == PENDING:
                by_owner.setdefault(ref.owner, []).append(ref)
        for owner, waiting in by_owner.items():
            try:
                peer = self.peer_for(owner)
            except OSError:
                self._owner_died(owner, waiting)
                continue
            numbers = []
            for ref in waiting:
                asked = peer.fetching.get(ref.n)
                if asked is None:
                    peer.fetching[ref.n] = [ref]
                    numbers.append(ref.n)
                elif not any(other is ref for other in asked):
                    asked.append(ref)
            if numbers:
                peer.channel.send((FETCH, numbers))

    def on_value(self, peer: Peer, message: Any) -> None:
        """(VALUE, number, state, form)."""
        _, number, state, form = message
        for ref in peer.fetching.pop(number, ()):
            value = form
            if state == STORED:
                stream, buffers, block, size = form
                value = Stored(stream, buffers, block, (), size)
            self._settle(ref, state, value)

    def _owner_died(self, owner: bytes, refs: list[Any]) -> None:
        text = self.worker_end_text(owner)
        for ref in refs:
            ref.held = False
            if ref.st == PENDING:
                error = OwnerDiedError(ref.hex(), text)
                self._settle(ref, FAILED, dump_error(error))

    # ---------------------------------------------------------------- the owner
    def on_borrow(self, peer: Peer, message: Any) -> None:
        """(BORROW, numbers, token): count the peer's handles."""
        _, numbers, token = message
        with self._holds_lock:
            self._count(peer, numbers)
        if token:
            peer.channel.send((BORROWED, token))

    def _count(self, peer: Peer, numbers: Any) -> None:
        table, holds = self.table, peer.holds
        for number in numbers:
            hold = holds.get(number)
            if hold is not None:
                hold[1] += 1
                if not hold[1]:
                    del holds[number]  # gone again already
                continue
            ref = table.get(number)
            if ref is not None:
                ref.pins += 1
                if ref.st == STORED and self.recorder is not None and ref.v.block is not None:
                    self.note_borrowed(peer, ref)
            holds[number] = [ref, 1]

    def on_unborrow(self, peer: Peer, message: Any) -> None:
        """(UNBORROW, numbers): that many handles are gone."""
        with self._holds_lock:
            self._discount(peer, message[1])

    def _discount(self, peer: Peer, numbers: Any) -> None:
        holds = peer.holds
        for number in numbers:
            hold = holds.get(number)
            if hold is None:
                holds[number] = [None, -1]  # on a second connection, it has overtaken its BORROW
                continue
            hold[1] -= 1
            if not hold[1]:
                del holds[number]
                self.note_returned(peer, hold[0])
                self.unpin(hold[0])

    def drop_holds(self, peer: Peer) -> None:
        """The peer is dead: its handles, and what it was to answer."""
        with self._holds_lock:
            holds, waiting = list(peer.holds.values()), dict(peer.fetching)
            peer.holds.clear()  # in place: a second connection to the same process shares them
            peer.fetching.clear()
            kept = [token for token, (receiver, _) in self._kept.items() if receiver is peer]
        for token in kept:
            self.on_release(peer, (RELEASE, token))
        for hold in holds:
            self.note_returned(peer, hold[0])
            self.unpin(hold[0])
        if waiting:
            refs = [ref for asked in waiting.values() for ref in asked]
            self.when_cause_known(peer.worker_id, lambda: self._owner_died(peer.worker_id, refs))
        for token, anchor in list(self._anchors.items()):
            if token > 0 and anchor[1] is peer:
                self.on_borrowed(peer, (BORROWED, token))

    def on_fetch(self, peer: Peer, message: Any) -> None:
        """(FETCH, numbers): answer each when it is ready."""
        for number in message[1]:
            ref = self.table.get(number)
            if ref is None:
                ref = self._lost_ref(self.worker_id, number)
            if ref.st != PENDING:
                self._send_value(peer, ref)
            else:
                self.on_ready(ref, lambda ref=ref: self._send_value(peer, ref))  # type: ignore[misc]

    def _send_value(self, peer: Peer, ref: ObjectRef[Any]) -> None:
        form = ref.v
        if ref.st == STORED:
            form.used_s = time.perf_counter()
            form = (form.stream, form.buffers, form.block, form.size)
        if not peer.gone:
            peer.channel.send((VALUE, ref.n, ref.st, form))

    # ---------------------------------------------------------------- values in replies
    def form_for_reply(self, peer: Peer, form: tuple[Any, ...], refs: list[Any]) -> tuple[Any, ...]:
        """What a reply carries of a sealed value: its parts, and the references inside.

        Own ones are counted for the receiver here; those of others are kept until RELEASE.
        """
        if not refs:
            return (*form, None, 0)
        names = []
        foreign = []
        for ref in refs:
            names.append((ref.owner, ref.n))
            if ref.owner == self.worker_id == peer.worker_id:
                self.pin(ref)  # a lease on ourselves: the receiver makes no handle that could be returned
                foreign.append(ref)
            elif type(ref) is ObjectRef and ref.owner == self.worker_id:
                self._lend(peer, ref)
            else:
                # Of the receiver's own, too: this answer waits for its frame, and the drop of our handle, which
                # goes at once, would overtake it.
                foreign.append(ref)
        token = 0
        if foreign:
            token = next(self._tokens)
            with self._holds_lock:
                if peer.gone:
                    return (*form, names, 0)  # nobody will read it
                self._kept[token] = (peer, foreign)
        return (*form, names, token)

    def _lend(self, peer: Peer, ref: ObjectRef[Any]) -> None:
        """Count a handle that `peer` is about to make of our object. The reader may be making it ready right now
        and have taken it out of the table for that: so not by number."""
        with self._holds_lock:
            if peer.gone:
                return  # the caller died while its task ran: its handles were dropped, and nobody would drop this
            hold = peer.holds.get(ref.n)
            if hold is None or hold[0] is not ref:
                self.table[ref.n] = ref
                self._count(peer, (ref.n,))
            else:
                hold[1] += 1
                self.table[ref.n] = ref

    def on_release(self, peer: Peer, message: Any) -> None:
        """(RELEASE, token)."""
        kept = self._kept.pop(message[1], None)
        if kept is not None:
            for ref in kept[1]:
                self.unpin(ref)

    def accept_form(self, peer: Peer | None, state: int, form: Any, owner_ref: Any) -> Any:
        """A value that came in a reply becomes ours: its block, its references."""
        if state != STORED:
            return form
        stream, buffers, block, size, names, token = form
        refs: list[Any] = []
        if names:
            assert peer is not None
            foreign = []
            for owner, number in names:
                if owner == self.worker_id:
                    refs.append(self._own(number))
                    continue
                borrowed: BorrowedRef[Any] = make_borrowed(owner, number)
                refs.append(borrowed)
                self.garbage_possible = True
                if owner == peer.worker_id:
                    borrowed.held = True  # counted there before it was sent
                else:
                    foreign.append(borrowed)
            for ref in refs:
                self.pin(ref)
            if foreign:
                self.register_borrows(foreign, lambda: peer.channel.send((RELEASE, token)), None)
            elif token:
                peer.channel.send((RELEASE, token))
        if block is not None and self.recorder is not None:
            self.note_stored(owner_ref, (stream, buffers, block, size), "result")
        return self.store.keep((stream, buffers, block, size), refs, self.note_end, owner_ref.n)

    def refuse_form(self, peer: Peer, state: int, form: Any) -> None:
        """A value that nobody waits for any more (a call that ran twice, or was given up): what the sender counted
        or keeps for us is given back, its block is freed."""
        if state == STORED:
            self.accept_form(peer, state, form, make_ref(self.worker_id, 0))

    # ---------------------------------------------------------------- ends
    def note_end(self, ended: Any) -> None:
        """A stored value died (any thread, inside the collector): only queue it."""
        self.store.ended.append(ended)
        loop = self.loop
        if not loop.busy:
            loop.pend()

    def free_ended(self) -> None:
        """Free the blocks and references of values that died."""
        ended = self.store.ended
        foreign: dict[bytes, list[tuple[int, int]]] = {}
        while ended:
            try:
                block, refs, size, number = ended.popleft()
            except IndexError:
                break
            if refs is None:
                self.actor_out_of_scope(block)
                continue
            for ref in refs:
                self.unpin(ref)
            if block is not None:
                self.note_freed(number, size)
                offset, _, allocator, mark = self.store.end(block) if type(block) is Kept else block
                if not allocator:
                    self.store.files.release(mark, size)
                    continue
                if allocator == self.worker_id:
                    self.store.arena.free(offset)
                else:
                    foreign.setdefault(allocator, []).append((offset, mark))
        for allocator, blocks in foreign.items():
            offsets = [offset for offset, _ in blocks]
            peer = self.peers.get(allocator)
            if peer is not None and not peer.gone:
                peer.channel.send((FREE, offsets))
            elif allocator in self.deaths:
                self.tell_node(OrphansFreed(tuple(blocks)))
            else:
                try:
                    self.peer_for(allocator).channel.send((FREE, offsets))
                except OSError:
                    self.tell_node(OrphansFreed(tuple(blocks)))

    def on_free(self, peer: Peer, message: Any) -> None:
        """(FREE, offsets): blocks of our slabs whose owner is done."""
        for offset in message[1]:
            self.store.arena.free(offset)
