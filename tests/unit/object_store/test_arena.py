"""Does the allocator keep every live byte, and give every byte back?"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from minray.object_store import blocks, pages
from minray.object_store.arena import Arena, Block
from minray.object_store.blocks import total_of
from minray.object_store.slabs import SlabTable

CAPACITY = 8 << 20  # 32 slabs of 256 KB
ME = b"me".ljust(16, b"-")


class Node:
    """The node's side without a node: one memfd, one table, any number of arenas."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.fd = os.memfd_create("test-arena")
        os.ftruncate(self.fd, capacity)
        self.capacity = capacity
        self.table = SlabTable(capacity)
        self.asked: list[int] = []
        self.returned: list[tuple[int, int]] = []

    def arena(self, name: bytes = ME, keep_bytes: int | None = None) -> Arena:
        def request(size: int) -> tuple[int, int] | None:
            self.asked.append(size)
            return self.table.grant(name, size)

        def give_back(slabs: list[tuple[int, int]]) -> None:
            self.returned += slabs
            for offset, size in slabs:
                self.table.give_back(name, offset, size)

        return Arena(self.fd, self.capacity, name, request, give_back, keep_bytes)

    def close(self) -> None:
        os.close(self.fd)


@pytest.fixture
def node() -> Iterator[Node]:
    node = Node()
    yield node
    node.close()


def taken(arena: Arena, size: int) -> Block:
    block = arena.allocate(size)
    assert block is not None
    return block


def content(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def test_an_arena_is_not_mapped_until_it_is_used(node: Node) -> None:
    arena = node.arena()
    assert not arena.is_mapped
    assert arena.read_only.readonly
    assert arena.is_mapped
    assert node.asked == []


def test_a_forked_childs_first_use_needs_no_parent_mapping(node: Node) -> None:
    # What the zygote does: it hands on the descriptor and never maps.
    arena = node.arena()
    arena.allocate(100)
    assert arena.is_mapped


def test_what_is_written_is_read(node: Node) -> None:
    arena = node.arena()
    data = content(1, 300_000)
    block = taken(arena, 400_000)
    arena.write(block, 64, data)
    assert arena.read_only[block.offset + 64 : block.offset + 64 + len(data)] == data
    arena.check_invariants()


@pytest.mark.parametrize("size", [0, 1, 64, 1024, 1025, 65536, 65537, 1 << 20, (1 << 20) + 1, 3_000_000])
def test_payloads_are_aligned_and_large_enough(node: Node, size: int) -> None:
    arena = node.arena()
    block = taken(arena, size)
    assert block.offset % 64 == 0
    assert total_of(size) - blocks.HEADER_BYTES >= size
    arena.write(block, 0, bytes(size))
    arena.check_invariants()


@pytest.mark.parametrize("size", [1025, 5000, 65537, 99_999, 700_000, (1 << 20) + 1])
def test_a_size_class_wastes_at_most_a_quarter(size: int) -> None:
    assert total_of(size) - blocks.HEADER_BYTES <= size * 1.25


def test_the_block_freed_last_is_used_first(node: Node) -> None:
    arena = node.arena()
    first, second = taken(arena, 5000), taken(arena, 5000)
    arena.free(first.offset)
    arena.free(second.offset)
    assert taken(arena, 5000).offset == second.offset
    assert taken(arena, 5000).offset == first.offset


def test_allocation_inside_a_slab_asks_nobody(node: Node) -> None:
    arena = node.arena()
    taken(arena, 100)
    for size in range(1, 2000, 64):
        taken(arena, size)
    assert node.asked == [arena.slab_bytes]


def test_a_big_object_fits_after_small_ones_were_freed(node: Node) -> None:
    arena = node.arena()
    small = []
    while (block := arena.allocate(9000)) is not None:
        small.append(block)
    assert arena.allocate(4 << 20) is None
    for block in random.Random(0).sample(small, len(small)):
        arena.free(block.offset)
    assert arena.allocate(4 << 20) is not None
    arena.check_invariants()


def test_a_freed_span_is_used_again_by_the_next_of_its_size(node: Node) -> None:
    arena = node.arena()
    block = taken(arena, 3_000_000)
    arena.write(block, 0, bytes(3_000_000))
    for _ in range(5):
        arena.free(block.offset)
        again = taken(arena, 3_000_000)
        assert again.offset == block.offset
    assert len(node.asked) == 1


def test_a_full_store_says_so_and_recovers(node: Node) -> None:
    arena = node.arena()
    block = taken(arena, 6 << 20)
    assert arena.allocate(6 << 20) is None
    assert arena.allocate(CAPACITY * 2) is None
    arena.free(block.offset)
    assert arena.allocate(6 << 20) is not None


def test_a_block_is_freed_only_once_and_only_by_its_allocator(node: Node) -> None:
    mine, other = node.arena(), node.arena(b"other".ljust(16, b"-"))
    block = taken(mine, 100)
    with pytest.raises(ValueError, match="not a live block of this process"):
        other.free(block.offset)
    mine.free(block.offset)
    with pytest.raises(ValueError, match="not a live block of this process"):
        mine.free(block.offset)
    with pytest.raises(ValueError, match="not live"):
        mine.write(block, 0, b"late")
    with pytest.raises(ValueError, match="not live"):
        mine.set_owner(block.offset, ME)
    mine.check_invariants()


def test_a_write_cannot_leave_its_block(node: Node) -> None:
    arena = node.arena()
    block = taken(arena, 100)
    with pytest.raises(ValueError, match="do not fit"):
        arena.write(block, 1, bytes(100))
    with pytest.raises(ValueError, match="do not fit"):
        arena.write(block, -1, bytes(1))
    arena.check_invariants()


def test_negative_sizes_are_refused(node: Node) -> None:
    with pytest.raises(ValueError, match="-1 bytes"):
        node.arena().allocate(-1)


def test_readers_cannot_write(node: Node) -> None:
    arena = node.arena()
    block = taken(arena, 100)
    with pytest.raises(TypeError):
        arena.read_only[block.offset] = 1


def test_trim_returns_every_slab_of_an_empty_arena(node: Node) -> None:
    arena = node.arena()
    kept = [taken(arena, size) for size in (100, 5000, 70_000, 2_000_000, 900_000)]
    for block in kept:
        arena.free(block.offset)
    assert arena.trim() == sum(size for _, size in node.returned)
    assert node.table.free_bytes() == node.table.capacity_bytes
    assert arena.owned_bytes() == arena.live_bytes() == 0
    arena.check_invariants()
    assert arena.allocate(5000) is not None


def test_trim_keeps_what_it_is_told_and_what_lives(node: Node) -> None:
    arena = node.arena()
    live = taken(arena, 300_000)
    arena.write(live, 0, content(3, 300_000))
    big = taken(arena, 3_000_000)
    arena.free(big.offset)
    arena.trim(keep_bytes=1 << 20)
    assert (1 << 20) - arena.slab_bytes < arena.owned_bytes() - arena.live_bytes() <= 1 << 20
    arena.trim()
    assert arena.read_only[live.offset : live.offset + 300_000] == content(3, 300_000)
    arena.check_invariants()
    node.table.check_invariants()


def test_freed_memory_beyond_the_allowance_goes_back_by_itself(node: Node) -> None:
    arena = node.arena(keep_bytes=1 << 20)
    live = [taken(arena, 500_000) for _ in range(10)]
    for block in live:
        arena.free(block.offset)
    assert node.returned
    assert arena.owned_bytes() <= 2 << 20
    arena.check_invariants()


def test_the_pages_of_one_object_are_kept_for_the_next_of_its_size(node: Node) -> None:
    arena = node.arena(keep_bytes=0)
    for _ in range(3):
        block = taken(arena, 5_000_000)
        arena.free(block.offset)
    assert node.returned == []
    assert len(node.asked) == 1
    assert arena.trim() == arena.slab_bytes * len(range(0, 5_000_000, arena.slab_bytes))
    assert arena.owned_bytes() == 0


def test_a_grant_that_overlaps_or_is_no_slab_is_refused(node: Node) -> None:
    slab = node.table.slab_bytes
    for wrong in [(100, slab), (0, slab - 1), (CAPACITY, slab), (-slab, slab)]:
        arena = Arena(node.fd, CAPACITY, ME, lambda _, wrong=wrong: wrong, lambda _: None)  # type: ignore[misc]
        with pytest.raises(ValueError, match="granted"):
            arena.allocate(100)
    twice = Arena(node.fd, CAPACITY, ME, lambda _: (0, slab), lambda _: None)
    twice.allocate(slab - 50_000)
    with pytest.raises(ValueError, match="granted"):
        twice.allocate(100_000)


def test_a_forked_child_owns_nothing_until_it_has_its_own_name(node: Node) -> None:
    arena = node.arena()
    block = taken(arena, 100_000)
    arena.write(block, 0, content(4, 100_000))
    spare = taken(arena, 100_000)
    arena.free(spare.offset)
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            assert arena.allocate(100_000) is None  # neither from the parent's free block ...
            with pytest.raises(ValueError, match="not a live block"):
                arena.free(block.offset)  # ... nor may it free the parent's live ones,
            assert arena.read_only[block.offset : block.offset + 100_000] == content(
                4, 100_000
            )  # yet it reads
            child = b"child".ljust(16, b"-")
            arena.after_fork(child, lambda size: node.table.grant(child, size), lambda slabs: None)
            own = taken(arena, 100_000)
            arena.write(own, 0, content(5, 100_000))
            arena.check_invariants()
            os.write(write_end, str(own.offset).encode())
        except BaseException as error:
            os.write(write_end, repr(error).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    answer = os.read(read_end, 1000).decode()
    os.close(read_end)
    os.close(write_end)
    assert answer.isdigit(), answer
    assert arena.read_only[int(answer) : int(answer) + 100_000] == content(5, 100_000)
    assert arena.read_only[block.offset : block.offset + 100_000] == content(4, 100_000)
    arena.check_invariants()


@pytest.mark.parametrize("numpy_loaded", [True, False])
def test_cold_cached_and_mapped_pages_get_the_same_bytes(
    node: Node, numpy_loaded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if numpy_loaded:
        pytest.importorskip("numpy")
    else:
        monkeypatch.setitem(pages.sys.modules, "numpy", None)  # type: ignore[arg-type]
    monkeypatch.setattr(pages, "PIECE_BYTES", 1 << 18)
    arena = node.arena()
    size = 3_000_001
    block = taken(arena, size + 100)
    for seed, position in enumerate([0, 0, 1, 77, 0, 0]):
        arena.write(block, position, content(seed, size))
        at = block.offset + position
        assert arena.read_only[at : at + size] == content(seed, size)
    # A stretch whose pages are in all three states at once.
    arena._writer.forget(block.offset + 500_000, 1_000_000)
    arena._writer._state[(block.offset >> 16) + 20] = pages.CACHED
    arena.write(block, 3, content(9, size))
    assert arena.read_only[block.offset + 3 : block.offset + 3 + size] == content(9, size)
    arena.check_invariants()


def test_punched_slabs_come_back_as_usable_memory(node: Node) -> None:
    arena = node.arena()
    block = taken(arena, 2_000_000)
    arena.write(block, 0, content(1, 2_000_000))
    arena.write(block, 0, content(1, 2_000_000))
    arena.free(block.offset)
    arena.trim()
    assert arena._mapping is not None
    for offset, size in node.returned:
        pages.punch(arena._mapping, offset, size)
    assert os.fstat(node.fd).st_blocks == 0
    assert not any(arena.read_only[block.offset : block.offset + 2_000_000])
    again = taken(arena, 2_000_000)
    arena.write(again, 0, content(2, 2_000_000))
    assert arena.read_only[again.offset : again.offset + 2_000_000] == content(2, 2_000_000)
    arena.check_invariants()


def test_threads_never_share_a_block(node: Node) -> None:
    arena = node.arena()
    trouble: list[str] = []
    start = threading.Barrier(4)

    def churn(seed: int) -> None:
        rng = random.Random(seed)
        mark = bytes([seed + 1])
        held: list[Block] = []
        start.wait()
        for _ in range(400):
            if held and rng.random() < 0.5:
                block = held.pop(rng.randrange(len(held)))
                if (
                    bytes(arena.read_only[block.offset : block.offset + block.size_bytes])
                    != mark * block.size_bytes
                ):
                    trouble.append(f"block {block} was overwritten")
                arena.free(block.offset)
            elif (got := arena.allocate(rng.choice([10, 3000, 70_000, 300_000]))) is not None:
                arena.write(got, 0, mark * got.size_bytes)
                held.append(got)
        for block in held:
            arena.free(block.offset)

    threads = [threading.Thread(target=churn, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not trouble
    arena.check_invariants()
    assert arena.live_bytes() == 0


def test_memory_that_another_thread_frees_while_we_ask_the_node_is_used(node: Node) -> None:
    arena = node.arena()
    blocks_held = []
    while (block := arena.allocate(1 << 20)) is not None:
        blocks_held.append(block)

    def freed_meanwhile(size: int) -> None:
        arena.free(blocks_held[0].offset)

    arena._request_slab = freed_meanwhile
    again = arena.allocate(1 << 20)
    assert again is not None and again[:2] == blocks_held[0][:2]


# ------------------------------------------------------------------ any order of events
SIZES = st.one_of(
    st.integers(0, 2000),
    st.integers(2000, 200_000),
    st.integers(200_000, 2_500_000),
    st.sampled_from([1 << 18, 1 << 20]),
)
NAMES = [bytes([65 + i]) * 16 for i in range(3)]


class ManyProcesses(RuleBasedStateMachine):
    """Three processes share an arena, allocate, free, trim, die; the node recovers what they leave."""

    @initialize(keep=st.sampled_from([0, 1 << 20, CAPACITY]))
    def start(self, keep: int) -> None:
        self.node = Node()
        self.keep = keep
        self.names = list(NAMES)
        self.arenas = [self.node.arena(name, keep) for name in NAMES]
        self.blocks: list[dict[int, tuple[Block, int]]] = [{}, {}, {}]  # offset: block, seed of its bytes
        self.orphans: dict[int, tuple[Block, int]] = {}
        self.seed = 0
        self.view = self.node.arena(b"node" * 4).read_only

    def intact(self, block: Block, seed: int) -> bool:
        data = content(seed, min(block.size_bytes, 500))
        tail = content(seed, min(block.size_bytes, 100))
        end = block.offset + block.size_bytes
        return (
            self.view[block.offset : block.offset + len(data)] == data or block.size_bytes < 600
        ) and self.view[end - len(tail) : end] == tail

    @rule(who=st.integers(0, 2), size=SIZES)
    def allocate(self, who: int, size: int) -> None:
        arena = self.arenas[who]
        block = arena.allocate(size)
        if block is None:
            assert self.node.table.free_bytes() < CAPACITY
            return
        self.seed += 1
        data = content(self.seed, min(size, 500))
        tail = content(self.seed, min(size, 100))
        arena.write(block, 0, data)
        arena.write(block, size - len(tail), tail)
        assert block.offset not in self.blocks[who]
        self.blocks[who][block.offset] = (block, self.seed)

    @rule(who=st.integers(0, 2), choice=st.randoms(use_true_random=False), count=st.integers(1, 6))
    def free(self, who: int, choice: random.Random, count: int) -> None:
        for _ in range(min(count, len(self.blocks[who]))):
            offset = choice.choice(sorted(self.blocks[who]))
            del self.blocks[who][offset]
            self.arenas[who].free(offset)

    @rule(who=st.integers(0, 2), keep=st.sampled_from([0, 100_000, 1 << 20]))
    def trim(self, who: int, keep: int) -> None:
        self.arenas[who].trim(keep)

    @rule(who=st.integers(0, 2), forget=st.sets(st.integers(0, 20)))
    def die(self, who: int, forget: set[int]) -> None:
        name, table = self.names[who], self.node.table
        found = [b for at, size in table.ranges(name) for b in blocks.scan_slab(self.view, at, size, name)]
        assert {(b.offset, b.size_bytes) for b in found} == {b[:2] for b, _ in self.blocks[who].values()}
        assert all(b.owner == name[:8] for b in found)
        kept = [b for number, b in enumerate(found) if number not in forget]
        table.orphan(name, kept)
        self.orphans.update({b.offset: self.blocks[who][b.offset] for b in kept})
        self.seed += 1
        self.names[who] = self.seed.to_bytes(16, "big")[::-1]
        self.arenas[who] = self.node.arena(self.names[who], self.keep)
        self.blocks[who] = {}

    @precondition(lambda self: self.orphans)
    @rule(choice=st.randoms(use_true_random=False))
    def free_orphans(self, choice: random.Random) -> None:
        gone = choice.sample(sorted(self.orphans), choice.randint(1, len(self.orphans)))
        self.node.table.free_orphans(gone)
        for offset in gone:
            del self.orphans[offset]

    @invariant()
    def nothing_overlaps_and_nothing_changes(self) -> None:
        self.node.table.check_invariants()
        for arena, held in zip(self.arenas, self.blocks, strict=True):
            if arena.is_mapped:
                arena.check_invariants()
            assert arena.live_blocks() == sorted(held)
            assert arena.live_bytes() == sum(total_of(block.size_bytes) for block, _ in held.values())
        everything = [pair for held in [*self.blocks, self.orphans] for pair in held.values()]
        end = 0
        for block, seed in sorted(everything):
            assert block.offset - blocks.HEADER_BYTES >= end
            end = block.offset + block.size_bytes
            assert self.intact(block, seed)

    def teardown(self) -> None:
        for arena, held in zip(self.arenas, self.blocks, strict=True):
            for offset in held:
                arena.free(offset)
            arena.trim()
        self.node.table.free_orphans(list(self.orphans))
        assert self.node.table.free_bytes() == CAPACITY
        self.node.table.check_invariants()
        self.node.close()


TestManyProcesses = ManyProcesses.TestCase
TestManyProcesses.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
