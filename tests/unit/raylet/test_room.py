"""Who is asked to spill what, and does every request for room get an answer, whoever dies or is silent?"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from minray.base.messages import ObjectsSpilled, RoomOffered, RoomWanted, SpillOrdered
from minray.raylet.state.commands import Send
from minray.raylet.state.room import Outcome, RoomTable
from minray.raylet.state.spill_policy import Candidate, LeastRecentlyUsed, Room, cheapest_run

A, B, C = b"a" * 16, b"b" * 16, b"c" * 16
SLAB = 1000


def _one(start: int, size: int, used_s: float, owner: bytes = A) -> Candidate:
    return Candidate(owner, start, size, used_s)


# ---------------------------------------------------------------- the policy
def test_the_least_recently_used_go_first_until_it_is_enough() -> None:
    known = [_one(0, 500, 3.0), _one(500, 500, 1.0), _one(1000, 500, 2.0, B), _one(1500, 500, 4.0)]
    chosen = LeastRecentlyUsed().choose(known, Room(900, 0, SLAB, 10))
    assert [one.start for one in chosen] == [500, 1000]


def test_no_less_than_the_amount_is_chosen() -> None:
    known = [_one(at, 100, float(at)) for at in range(0, 2000, 100)]
    assert len(LeastRecentlyUsed().choose(known, Room(100, 1000, SLAB, 10))) == 10


def test_the_cheapest_run_of_slabs_is_emptied() -> None:
    # Slabs: 900 bytes | 100 | 50 | something that is read | 10
    known = [_one(0, 900, 1.0), _one(1100, 100, 2.0), _one(2200, 50, 3.0), _one(4000, 10, 4.0)]
    live = {0: 900, SLAB: 100, 2 * SLAB: 50, 3 * SLAB: 700, 4 * SLAB: 10}
    room = Room(2 * SLAB, 0, SLAB, 5, True, live)
    assert [one.start for one in cheapest_run(known, room)] == [1100, 2200]
    assert [one.start for one in cheapest_run(known, Room(SLAB, 0, SLAB, 5, True, live))] == [4000]
    assert cheapest_run(known, Room(4 * SLAB, 0, SLAB, 5, True, live)) == []


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 2500), st.booleans(), st.floats(0, 100)), max_size=30),
    st.integers(1, 6),
)
def test_a_chosen_run_is_free_once_it_is_moved(blocks: list[tuple[int, bool, float]], slabs: int) -> None:
    at, candidates, live, pinned = 0, [], {}, set()
    for size, movable, used_s in blocks:
        start, end = at, at + size
        if movable:
            candidates.append(_one(start, size, used_s))
        while start < end:
            slab = start // SLAB
            part = min(end, (slab + 1) * SLAB) - start
            live[slab * SLAB] = live.get(slab * SLAB, 0) + part
            if not movable:
                pinned.add(slab)
            start += part
        at = end
    count = at // SLAB + 1
    chosen = cheapest_run(candidates, Room(slabs * SLAB, 0, SLAB, count, True, live))
    left = dict(live)
    for one in chosen:
        start, end = one.start, one.start + one.total_bytes
        while start < end:
            slab = start // SLAB
            part = min(end, (slab + 1) * SLAB) - start
            left[slab * SLAB] -= part
            start += part

    def runs(used: Any) -> bool:
        return any(
            all(not used(slab) for slab in range(first, first + slabs)) for first in range(count - slabs + 1)
        )

    assert runs(lambda slab: left.get(slab * SLAB, 0)) == runs(lambda slab: slab in pinned)


# ---------------------------------------------------------------- the rounds
def _table(fits: Any = lambda size: False, slabs: int = 10) -> RoomTable:
    return RoomTable(LeastRecentlyUsed(), SLAB, slabs, 0, fits, lambda: [None] * slabs)


def _to(sends: list[Send]) -> list[bytes]:
    return [send.client_id for send in sends]


def test_a_round_asks_all_orders_the_oldest_and_reports() -> None:
    table = _table(slabs=1)
    number, sends = table.asked(A, 700, False, [A, B])
    assert sends == [Send(A, RoomWanted(1, 700, False, (A,))), Send(B, RoomWanted(1, 700, False, (A,)))]
    assert table.outcome(number) is None
    assert table.offered(A, RoomOffered(1, ((0, 500, 2.0),), ((0, 1000),))) == []
    sends = table.offered(B, RoomOffered(1, ((500, 500, 1.0),), ()))
    assert sends == [Send(B, SpillOrdered(1, (500,), (A,))), Send(A, SpillOrdered(1, (0,), (A,)))]
    assert table.spilled(A, ObjectsSpilled(1, 500, "")) == []
    assert table.outcome(number) is None
    assert table.spilled(B, ObjectsSpilled(1, 0, "the disk is full")) == []
    assert table.outcome(number) == Outcome(500, "the disk is full")


def test_when_returned_slabs_are_enough_nothing_is_spilled() -> None:
    table = _table(fits=lambda size: size <= 700)
    number, _ = table.asked(A, 700, False, [A])
    assert table.offered(A, RoomOffered(1, ((0, 5000, 1.0),), ())) == []
    assert table.outcome(number) == Outcome(700, "")


def test_requests_during_a_round_share_the_next_one() -> None:
    table = _table()
    first, _ = table.asked(A, 100, False, [A, B])
    second, sends = table.asked(B, 200, False, [A, B])
    third, _ = table.asked(A, 300, True, [A, B])
    assert (first, second, third, sends) == (1, 2, 2, [])
    table.offered(A, RoomOffered(1, (), ()))
    sends = table.offered(B, RoomOffered(1, (), ()))
    assert table.outcome(1) == Outcome(0, "")
    assert sends[0].message == RoomWanted(2, 500, True, (B, A))


def test_a_silent_client_is_waited_for_once() -> None:
    table = _table()
    table.asked(A, 100, False, [A, B])
    table.offered(A, RoomOffered(1, (), ()))
    assert table.expired(1, ordered=False) == []
    assert table.outcome(1) == Outcome(0, "")
    table.asked(A, 100, False, [A, B])
    table.offered(A, RoomOffered(2, (), ()))
    assert table.outcome(2) == Outcome(0, "")
    table.offered(B, RoomOffered(1, (), ()))  # it is back
    table.asked(A, 100, False, [A, B])
    table.offered(A, RoomOffered(3, (), ()))
    assert table.outcome(3) is None


def test_slabs_of_the_dead_and_the_silent_are_not_counted_on() -> None:
    table = RoomTable(LeastRecentlyUsed(), SLAB, 3, 0, lambda size: False, lambda: [A, B, None])
    table.asked(A, 2 * SLAB, True, [A])
    sends = table.offered(A, RoomOffered(1, ((0, 10, 1.0),), ((0, 10),)))
    assert sends == []
    assert table.outcome(1) == Outcome(0, ""), "B's slab lies in every run of two"


def test_much_memory_in_pieces_is_joined_instead_of_spilling_the_oldest() -> None:
    table = _table(slabs=4)
    table.asked(A, SLAB, False, [A])
    offered = ((0, 900, 1.0), (1000, 10, 9.0), (2000, 900, 2.0), (3000, 900, 3.0))
    [send] = table.offered(A, RoomOffered(1, offered, ((0, 400), (1000, 10), (2000, 400), (3000, 400))))
    assert send.message.starts == (1000,)


class Rounds(RuleBasedStateMachine):
    """Clients come, go, ask, answer or stay silent in any order: each request has its outcome in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.table = _table(slabs=4)
        self.clients = {A, B, C}
        self.open: list[tuple[bytes, int]] = []
        self.unanswered: list[tuple[bytes, Any]] = []

    def _heard(self, sends: list[Send]) -> None:
        self.unanswered.extend((send.client_id, send.message) for send in sends)

    @rule(client=st.sampled_from([A, B, C]), size=st.integers(1, 4000), pieces=st.booleans())
    def ask(self, client: bytes, size: int, pieces: bool) -> None:
        if client in self.clients:
            number, sends = self.table.asked(client, size, pieces, sorted(self.clients))
            self.open.append((client, number))
            self._heard(sends)

    @precondition(lambda self: self.unanswered)
    @rule(which=st.integers(0, 9), size=st.integers(0, 1500), error=st.sampled_from(["", "full"]))
    def answer(self, which: int, size: int, error: str) -> None:
        client, message = self.unanswered.pop(which % len(self.unanswered))
        if client not in self.clients:
            return
        if isinstance(message, RoomWanted):
            own = sorted((A, B, C)).index(client) * SLAB
            offered = ((own, size, 1.0),) if size else ()
            self._heard(self.table.offered(client, RoomOffered(message.number, offered, ((own, size),))))
        else:
            self._heard(self.table.spilled(client, ObjectsSpilled(message.number, size, error)))

    @rule(client=st.sampled_from([A, B, C]))
    def die(self, client: bytes) -> None:
        self.clients.discard(client)
        self.open = [one for one in self.open if one[0] != client]  # nobody asks any more
        self._heard(self.table.client_gone(client))

    @rule(client=st.sampled_from([A, B, C]))
    def come(self, client: bytes) -> None:
        self.clients.add(client)

    @rule()
    def be_late(self) -> None:
        awaiting = self.table.awaiting()
        if awaiting is not None:
            self._heard(self.table.expired(awaiting[0], awaiting[1]))

    @invariant()
    def whole(self) -> None:
        self.table.check_invariants()

    def teardown(self) -> None:
        for _ in range(200):
            awaiting = self.table.awaiting()
            if awaiting is None:
                break
            self._heard(self.table.expired(awaiting[0], awaiting[1]))
        assert all(self.table.outcome(number) is not None for _, number in self.open)


TestRounds = Rounds.TestCase
TestRounds.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
