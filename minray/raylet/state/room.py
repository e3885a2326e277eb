"""The store is full and somebody needs room: who gives up what?

One round at a time; requests that come meanwhile share the next one. Pure: messages in, messages out.

    asked ──► RoomWanted to all ──► their RoomOffered ──► does it fit now, empty slabs returned?
                                                             ├─ yes: done
                                                             └─ the policy chooses ──► SpillOrdered
                                                                 to the owners ──► ObjectsSpilled ──► done

A client that does not answer in time (it holds its interpreter for seconds) is not waited for again
until it has said something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from minray.base.messages import ObjectsSpilled, RoomOffered, RoomWanted, SpillOrdered
from minray.raylet.state.commands import Send
from minray.raylet.state.spill_policy import Candidate, Room, SpillPolicy

OFFERS_WITHIN_S = 0.5
SPILLED_WITHIN_S = 60.0
OUTCOMES_KEPT = 256


class Outcome(NamedTuple):
    """How a round ended. `freed_bytes`: by spilling, or, when returned slabs did it, what was asked for."""

    freed_bytes: int
    error: str


class _Round:
    """The one under way."""

    def __init__(self, number: int, needs: dict[bytes, tuple[int, bool]], awaited: set[bytes]) -> None:
        self.number = number
        self.needs = needs
        self.awaited = awaited
        self.ordered = False
        self.answered: set[bytes] = set()
        self.candidates: list[Candidate] = []
        self.live: dict[int, int] = {}
        self.freed_bytes = 0
        self.error = ""

    @property
    def run_bytes(self) -> int:
        return max(size_bytes for size_bytes, _ in self.needs.values())

    @property
    def in_pieces(self) -> bool:
        return any(in_pieces for _, in_pieces in self.needs.values())


class RoomTable:
    """The rounds. Not thread-safe: the node's loop owns it."""

    def __init__(
        self,
        policy: SpillPolicy,
        slab_bytes: int,
        slab_count: int,
        amount_bytes: int,
        fits: Callable[[int], bool],
        owners: Callable[[], Sequence[bytes | None]],
    ) -> None:
        """`fits(size)`: could the node grant a slab run of that size now? `owners()`: of each slab, dead ones
        included. `amount_bytes`: see `Room`."""
        self.policy = policy
        self._slab_bytes = slab_bytes
        self._slab_count = slab_count
        self._amount_bytes = amount_bytes
        self._fits = fits
        self._owners = owners
        self._clients: set[bytes] = set()
        self._silent: set[bytes] = set()
        self._round: _Round | None = None
        self._waiting: dict[bytes, tuple[int, bool]] = {}
        self._next = 1
        self._outcomes: dict[int, Outcome] = {}

    def asked(
        self, client_id: bytes, size_bytes: int, in_pieces: bool, clients: Iterable[bytes]
    ) -> tuple[int, list[Send]]:
        """A client needs room. Returns: the number of the round that serves it, and what to send."""
        self._clients = set(clients)
        self._waiting[client_id] = (size_bytes, in_pieces)
        if self._round is not None:
            return self._next, []
        sends = self._start()
        return self._next - 1, sends

    def outcome(self, number: int) -> Outcome | None:
        """Of a round; None while it lasts or is still to come."""
        if number >= self._next or (self._round is not None and self._round.number == number):
            return None
        return self._outcomes.get(number, Outcome(0, ""))

    def offered(self, client_id: bytes, message: RoomOffered) -> list[Send]:
        """A client says what it could spill."""
        self._silent.discard(client_id)
        current = self._round
        if current is None or current.number != message.number or current.ordered:
            return []
        current.candidates.extend(
            Candidate(client_id, start, total, used_s) for start, total, used_s in message.candidates
        )
        current.live.update(message.live)
        current.answered.add(client_id)
        current.awaited.discard(client_id)
        return self._advance()

    def spilled(self, client_id: bytes, message: ObjectsSpilled) -> list[Send]:
        """An owner has carried its order out."""
        self._silent.discard(client_id)
        current = self._round
        if current is None or current.number != message.number or not current.ordered:
            return []
        current.freed_bytes += message.freed_bytes
        current.error = current.error or message.error
        current.awaited.discard(client_id)
        return self._advance()

    def client_gone(self, client_id: bytes) -> list[Send]:
        """It will neither answer nor need anything."""
        self._clients.discard(client_id)
        self._silent.discard(client_id)
        self._waiting.pop(client_id, None)
        if self._round is None:
            return []
        self._round.awaited.discard(client_id)
        return self._advance()

    def expired(self, number: int, ordered: bool) -> list[Send]:
        """The time for that half of a round is over."""
        current = self._round
        if current is None or current.number != number or current.ordered != ordered:
            return []
        self._silent |= current.awaited
        current.awaited.clear()
        return self._advance()

    def awaiting(self) -> tuple[int, bool, float] | None:
        """(number, ordered, patience in seconds) of the half under way: for the shell's timer."""
        if self._round is None:
            return None
        ordered = self._round.ordered
        return self._round.number, ordered, SPILLED_WITHIN_S if ordered else OFFERS_WITHIN_S

    def check_invariants(self) -> None:
        """Assert that nobody is waited for who cannot answer, and that a round waits for somebody."""
        assert self._round is None or self._round.awaited
        assert self._round is None or self._round.awaited <= self._clients
        assert self._round is not None or not self._waiting

    # ---------------------------------------------------------------- inside
    def _start(self) -> list[Send]:
        needs, self._waiting = self._waiting, {}
        current = _Round(self._next, needs, self._clients - self._silent)
        self._next += 1
        self._round = current
        message = RoomWanted(
            current.number,
            max(self._amount_bytes, sum(size_bytes for size_bytes, _ in needs.values())),
            current.in_pieces,
            tuple(needs),
        )
        sends = [Send(client_id, message) for client_id in sorted(self._clients)]
        return sends + self._advance()

    def _advance(self) -> list[Send]:
        current = self._round
        if current is None or current.awaited:
            return []
        if current.ordered:
            return self._finish(Outcome(current.freed_bytes, current.error))
        if self._fits(current.run_bytes):
            return self._finish(Outcome(current.run_bytes, ""))
        current.ordered = True
        orders: dict[bytes, list[int]] = {}
        for candidate in self._chosen(current):
            if candidate.owner in self._clients:
                orders.setdefault(candidate.owner, []).append(candidate.start)
        if not orders:
            return self._finish(Outcome(0, ""))
        current.awaited = set(orders)
        requesters = tuple(current.needs)
        return [
            Send(owner, SpillOrdered(current.number, tuple(starts), requesters))
            for owner, starts in orders.items()
        ]

    def _chosen(self, current: _Round) -> Sequence[Candidate]:
        slab_bytes = self._slab_bytes
        live = dict(current.live)
        for slab, owner in enumerate(self._owners()):
            if owner is not None and owner not in current.answered:
                live[slab * slab_bytes] = slab_bytes  # a dead or silent owner's: who knows
        room = Room(
            current.run_bytes,
            max(self._amount_bytes, sum(size_bytes for size_bytes, _ in current.needs.values())),
            slab_bytes,
            self._slab_count,
            current.in_pieces,
            live,
        )
        if not current.in_pieces and room.free_bytes >= max(2 * room.run_bytes, room.amount_bytes):
            # There is memory, but in pieces: moving a few bytes helps more than moving the oldest.
            chosen = self.policy.choose(current.candidates, replace(room, in_pieces=True))
            if chosen:
                return chosen
        return self.policy.choose(current.candidates, room)

    def _finish(self, outcome: Outcome) -> list[Send]:
        assert self._round is not None
        self._outcomes[self._round.number] = outcome
        if len(self._outcomes) > OUTCOMES_KEPT:
            del self._outcomes[next(iter(self._outcomes))]
        self._round = None
        return self._start() if self._waiting else []
