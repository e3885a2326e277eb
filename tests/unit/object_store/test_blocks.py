"""Can a node always read what a dead process left in its slabs?"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import partial

import pytest

from minray.object_store.arena import Arena
from minray.object_store.blocks import HEADER, HEADER_BYTES, LIVE, MAGIC, scan_slab, walk_blocks
from minray.object_store.slabs import SlabTable

CAPACITY = 8 << 20
ME = b"me".ljust(16, b"-")


@pytest.fixture
def fd() -> Iterator[int]:
    fd = os.memfd_create("test-arena")
    os.ftruncate(fd, CAPACITY)
    yield fd
    os.close(fd)


def arena_on(fd: int, table: SlabTable, name: bytes = ME) -> Arena:
    def give_back(slabs: list[tuple[int, int]]) -> None:
        for offset, size in slabs:
            table.give_back(name, offset, size)

    return Arena(fd, CAPACITY, name, lambda size: table.grant(name, size), give_back)


def scan(view: memoryview, table: SlabTable, name: bytes = ME) -> list[tuple[int, int]]:
    return [b[:2] for offset, size in table.ranges(name) for b in scan_slab(view, offset, size, name)]


def test_a_scan_finds_exactly_the_live_blocks(fd: int) -> None:
    table = SlabTable(CAPACITY)
    arena = arena_on(fd, table)
    held = [arena.allocate(size) for size in (10, 5000, 700_000, 2_000_000, 64, 300_000)]
    for block in held[1::2]:
        assert block is not None
        arena.free(block.offset)
    assert sorted(scan(arena.read_only, table)) == sorted(block[:2] for block in held[::2] if block)


def test_the_owner_in_the_header_is_whom_set_owner_named(fd: int) -> None:
    table = SlabTable(CAPACITY)
    arena = arena_on(fd, table)
    first, second = arena.allocate(10), arena.allocate(10)
    assert first is not None
    assert second is not None
    arena.set_owner(second.offset, b"somebody else's id")
    owners = {b.offset: b.owner for b in scan_slab(arena.read_only, 0, table.slab_bytes)}
    assert owners == {first.offset: ME[:8], second.offset: b"somebody"}
    arena.free(second.offset)
    again = arena.allocate(10)
    assert again is not None and again[:2] == second[:2]
    assert [b.owner for b in scan_slab(arena.read_only, 0, table.slab_bytes)] == [ME[:8]] * 2
    arena.check_invariants()


def test_headers_and_free_blocks_tile_the_range(fd: int) -> None:
    table = SlabTable(CAPACITY)
    arena = arena_on(fd, table)
    for size in (10, 5000, 400_000):
        arena.allocate(size)
    at = 0
    for block in walk_blocks(arena.read_only, 0, arena.owned_bytes()):
        assert block.start == at
        at += block.total_bytes
    assert at == arena.owned_bytes()


def test_a_slab_granted_but_never_used_is_passed_over(fd: int) -> None:
    table = SlabTable(CAPACITY)
    table.grant(ME, table.slab_bytes)  # the process was about to be told
    arena = arena_on(fd, table)
    block = arena.allocate(100)
    assert block is not None
    assert table.ranges(ME) == [(0, 2 * table.slab_bytes)]
    assert scan(arena.read_only, table) == [block[:2]]


def test_what_an_earlier_tenant_left_is_not_taken_for_ours(fd: int) -> None:
    table = SlabTable(CAPACITY)
    earlier = b"earlier".ljust(16, b"-")
    tenant = arena_on(fd, table, earlier)
    tenant.allocate(100)
    table.orphan(earlier, [])  # killed; its slab still bears a live header
    table.grant(ME, table.slab_bytes)
    assert scan(tenant.read_only, table) == []


def test_a_returned_slab_granted_again_alone_begins_without_a_live_block(fd: int) -> None:
    table = SlabTable(CAPACITY)
    arena = arena_on(fd, table)
    slab = table.slab_bytes
    held = [arena.allocate(100_000) for _ in range(8)]
    for block in held:
        assert block is not None
        arena.free(block.offset)
    arena.trim()
    for index in range(4):
        table.grant(ME, slab)
        assert scan_slab(arena.read_only, index * slab, slab, ME) == []


def test_garbage_is_no_block(fd: int) -> None:
    view = memoryview(bytearray(CAPACITY))
    owner = ME[:8]
    wrong = [
        (MAGIC + 1, 128, owner, 64, owner, LIVE),  # no block at all
        (MAGIC, 100, owner, 10, owner, LIVE),  # not aligned
        (MAGIC, 0, owner, 0, owner, LIVE),  # would never end
        (MAGIC, CAPACITY * 2, owner, 10, owner, LIVE),  # leaves the range
        (MAGIC, 128, owner, 65, owner, LIVE),  # payload larger than its block
    ]
    for fields in wrong:
        HEADER.pack_into(view, 0, *fields)
        assert scan_slab(view, 0, 1 << 20, ME) == []
    HEADER.pack_into(view, 0, MAGIC, 1 << 20, owner, 64, owner, LIVE)
    assert [b.offset for b in scan_slab(view, 0, 1 << 20, ME)] == [HEADER_BYTES]


def test_a_range_outside_the_arena_is_refused() -> None:
    view = memoryview(bytes(1 << 20))
    for offset, size in [(-64, 128), (0, (1 << 20) + 1), (1 << 20, 64)]:
        with pytest.raises(ValueError, match="outside the arena"):
            scan_slab(view, offset, size)


def test_a_process_killed_amid_allocations_leaves_headers_that_tile(fd: int) -> None:
    # Killed at five arbitrary instants; whatever the instant, the chain must be whole.
    for attempt in range(5):
        name = bytes([65 + attempt]) * 16
        table = SlabTable(CAPACITY)
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                arena = Arena(fd, CAPACITY, name, partial(table.grant, name), lambda _: None, CAPACITY)
                held: list[int] = []
                count = 0
                while True:
                    block = arena.allocate((count * 7919) % 90_000)
                    if block is not None:
                        held.append(block.offset)
                    if block is None or count % 3 == 0:
                        arena.free(held.pop((count * 31) % len(held)))
                    count += 1
                    if count == 500 * (attempt + 1):
                        os.write(write_end, b"on")
            finally:
                os._exit(1)
        os.close(write_end)
        assert os.read(read_end, 2) == b"on"
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL
        os.close(read_end)
        reader = Arena(fd, CAPACITY, ME, lambda _: None, lambda _: None)
        at = 0
        for block in walk_blocks(reader.read_only, 0, CAPACITY, name):
            assert block.start == at
            at += block.total_bytes
        assert at > CAPACITY // 2  # it had all the slabs but, perhaps, the last
