"""Does the node always know whose memory is whose?"""

from __future__ import annotations

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from minray.object_store.blocks import BlockInfo, slab_bytes_of
from minray.object_store.slabs import SlabTable

MB = 1 << 20
A, B, C = b"A" * 16, b"B" * 16, b"C" * 16


def table_of(slabs: int) -> SlabTable:
    return SlabTable(slabs * (256 << 10))


def block_at(offset: int, total: int = 128) -> BlockInfo:
    return BlockInfo(offset + 64, total - 64, total, b"owner---", True)


@pytest.mark.parametrize(
    ("capacity", "slab"),
    [(1 * MB, 256 << 10), (64 * MB, 256 << 10), (100 * MB, 448 << 10), (1 << 30, 4 * MB), (64 << 30, 8 * MB)],
)
def test_a_slab_is_a_256th_within_limits(capacity: int, slab: int) -> None:
    assert slab_bytes_of(capacity) == slab
    assert SlabTable(capacity).slab_bytes == slab


def test_a_store_smaller_than_a_slab_is_refused() -> None:
    with pytest.raises(ValueError, match="holds no slab"):
        SlabTable(1000)


def test_grants_are_contiguous_whole_slabs() -> None:
    table = table_of(8)
    slab = table.slab_bytes
    assert table.grant(A, 1) == (0, slab)
    assert table.grant(B, slab + 1) == (slab, 2 * slab)
    assert table.grant(A, 3 * slab) == (3 * slab, 3 * slab)
    assert table.free_bytes() == 2 * slab
    assert table.grant(C, 3 * slab) is None
    assert table.granted_by_client() == {A: 4 * slab, B: 2 * slab}
    assert table.ranges(A) == [(0, slab), (3 * slab, 3 * slab)]


def test_the_smallest_run_that_fits_is_granted() -> None:
    table = table_of(10)
    slab = table.slab_bytes
    for client, count in ((A, 3), (B, 1), (A, 1), (B, 1), (A, 2), (B, 2)):
        assert table.grant(client, count * slab) is not None
    for offset, size in table.ranges(A):
        table.give_back(A, offset, size)
    assert table.grant(C, slab) == (4 * slab, slab)
    assert table.grant(C, 2 * slab) == (6 * slab, 2 * slab)
    assert table.grant(C, 3 * slab) == (0, 3 * slab)


def test_neighbouring_free_runs_become_one() -> None:
    table = table_of(6)
    slab = table.slab_bytes
    for _ in range(6):
        table.grant(A, slab)
    for index in (1, 3, 2, 0, 5, 4):
        table.give_back(A, index * slab, slab)
        table.check_invariants()
    assert table.grant(B, 6 * slab) == (0, 6 * slab)


def test_a_part_of_a_grant_and_parts_of_two_may_come_back() -> None:
    table = table_of(6)
    slab = table.slab_bytes
    table.grant(A, 2 * slab)
    table.grant(A, 3 * slab)
    table.give_back(A, slab, 2 * slab)
    assert table.ranges(A) == [(0, slab), (3 * slab, 2 * slab)]


@pytest.mark.parametrize("wrong", [(1, 1), (0, 3), (4, 1), (3, 2), (7, 2), (-1, 1), (0, 0)])
def test_giving_back_what_is_not_yours_names_you_and_changes_nothing(wrong: tuple[int, int]) -> None:
    table = table_of(8)
    slab = table.slab_bytes
    table.grant(A, slab)
    table.grant(B, 2 * slab)
    table.grant(A, slab)
    before = table.granted_by_client()
    with pytest.raises(ValueError, match=A.hex()):
        table.give_back(A, wrong[0] * slab, wrong[1] * slab)
    assert table.granted_by_client() == before
    table.check_invariants()


def test_half_slabs_do_not_come_back() -> None:
    table = table_of(4)
    table.grant(A, table.slab_bytes)
    with pytest.raises(ValueError, match="whole slabs"):
        table.give_back(A, 0, table.slab_bytes // 2)
    with pytest.raises(ValueError, match="0 bytes"):
        table.grant(A, 0)


def test_a_dead_clients_empty_slabs_are_free_at_once() -> None:
    table = table_of(6)
    slab = table.slab_bytes
    table.grant(A, 2 * slab)
    table.grant(B, slab)
    table.grant(A, slab)
    assert table.orphan(A, []) == [(0, 2 * slab), (3 * slab, slab)]
    assert table.granted_by_client() == {B: slab}
    table.check_invariants()


def test_orphaned_slabs_stay_until_their_last_block_is_freed() -> None:
    table = table_of(8)
    slab = table.slab_bytes
    table.grant(A, 4 * slab)
    first, second, crossing = block_at(100 * 64), block_at(200 * 64), block_at(2 * slab - 64, slab)
    assert table.orphan(A, [first, second, crossing]) == [(3 * slab, slab)]
    table.check_invariants()
    assert table.granted_by_client()[A] == 3 * slab  # slab 0, and slabs 1-2 under the crossing block
    assert table.free_orphans([first.offset]) == []
    assert table.free_orphans([crossing.offset]) == [(slab, 2 * slab)]
    assert table.orphan_offsets() == [second.offset]
    assert table.free_orphans([second.offset]) == [(0, slab)]
    assert table.free_bytes() == table.capacity_bytes
    table.check_invariants()


def test_unknown_orphans_are_refused_and_nothing_changes() -> None:
    table = table_of(4)
    table.grant(A, table.slab_bytes)
    block = block_at(0)
    with pytest.raises(ValueError, match=B.hex()):
        table.orphan(B, [block])
    with pytest.raises(ValueError, match=A.hex()):
        table.orphan(A, [block_at(table.capacity_bytes)])
    table.orphan(A, [block])
    for wrong in ([block.offset, 999], [block.offset, block.offset]):
        with pytest.raises(ValueError, match="dead client"):
            table.free_orphans(wrong)
    with pytest.raises(ValueError, match="after its death"):
        table.give_back(A, 0, table.slab_bytes)
    assert table.free_orphans([block.offset]) == [(0, table.slab_bytes)]
    table.check_invariants()


class Grants(RuleBasedStateMachine):
    """Against a model that is one list of owners."""

    @initialize(slabs=st.integers(1, 40))
    def start(self, slabs: int) -> None:
        self.table = table_of(slabs)
        self.slab = self.table.slab_bytes
        self.owners: list[bytes | None] = [None] * slabs
        self.orphans: dict[int, int] = {}  # block offset: slab
        self.born = 0
        self.clients = [self.fresh() for _ in range(3)]

    def fresh(self) -> bytes:
        self.born += 1
        return self.born.to_bytes(16, "big")

    @rule(who=st.integers(0, 2), size=st.integers(1, 3 << 20))
    def grant(self, who: int, size: int) -> None:
        wanted = -(-size // self.slab)
        free = "".join("." if owner is None else "x" for owner in self.owners)
        runs = [len(run) for run in free.split("x") if len(run) >= wanted]
        answer = self.table.grant(self.clients[who], size)
        if not runs:
            assert answer is None
            return
        assert answer is not None
        first, count = answer[0] // self.slab, answer[1] // self.slab
        assert count == wanted
        assert self.owners[first : first + count] == [None] * count
        left = len(free[:first]) - len(free[:first].rstrip("."))
        right = len(free[first:]) - len(free[first:].lstrip("."))
        assert left == 0
        assert right == min(runs)
        self.owners[first : first + count] = [self.clients[who]] * count

    @rule(who=st.integers(0, 2), first=st.integers(0, 39), count=st.integers(1, 5))
    def give_back(self, who: int, first: int, count: int) -> None:
        client = self.clients[who]
        if self.owners[first : first + count] == [client] * count:
            self.table.give_back(client, first * self.slab, count * self.slab)
            self.owners[first : first + count] = [None] * count
        else:
            with pytest.raises(ValueError, match=client.hex()):
                self.table.give_back(client, first * self.slab, count * self.slab)

    @rule(who=st.integers(0, 2), choice=st.randoms(use_true_random=False))
    def die(self, who: int, choice: random.Random) -> None:
        client = self.clients[who]
        mine = [slab for slab, owner in enumerate(self.owners) if owner == client]
        kept = {
            slab * self.slab + 64 * (1 + 2 * nth): slab
            for slab in mine
            for nth in range(choice.randint(0, 2))
        }
        freed = self.table.orphan(client, [block_at(offset - 64) for offset in kept])
        gone = {slab for slab in mine if slab not in kept.values()}
        self.released(freed, gone)
        self.orphans.update(kept)
        self.clients[who] = self.fresh()

    @precondition(lambda self: self.orphans)
    @rule(choice=st.randoms(use_true_random=False))
    def free_orphans(self, choice: random.Random) -> None:
        offsets = choice.sample(sorted(self.orphans), choice.randint(1, len(self.orphans)))
        touched = {self.orphans.pop(offset) for offset in offsets}
        self.released(self.table.free_orphans(offsets), touched - set(self.orphans.values()))

    def released(self, ranges: list[tuple[int, int]], slabs: set[int]) -> None:
        named = {s // self.slab for at, size in ranges for s in range(at, at + size, self.slab)}
        assert named == slabs
        for slab in slabs:
            self.owners[slab] = None

    @invariant()
    def table_equals_model(self) -> None:
        self.table.check_invariants()
        assert self.table.free_bytes() == self.owners.count(None) * self.slab
        assert self.table.granted_by_client() == {
            owner: self.owners.count(owner) * self.slab for owner in self.owners if owner is not None
        }
        assert self.table.orphan_offsets() == sorted(self.orphans)


TestGrants = Grants.TestCase
TestGrants.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
