"""Is a block that any process reads ever moved, and is one that nobody reads ever kept?"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from minray.object_store.arena import Arena, Block
from minray.object_store.blocks import total_of
from minray.object_store.readers import Readers, StaleBlock

CAPACITY = 1 << 20
ME = b"allocator-of-all"


class Store:
    """One arena, in which this process allocates."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("test-arena")
        os.ftruncate(self.fd, CAPACITY)
        self.arena = Arena(self.fd, CAPACITY, ME, lambda _: (0, CAPACITY), lambda _: None, CAPACITY)
        self.readers = Readers(self.fd)

    def put(self, size: int = 5000) -> Block:
        block = self.arena.allocate(size)
        assert block is not None
        return block

    def read(self, block: Block, shared: bool = False) -> Any:
        offset, size, mark = block
        return self.readers.enter(self.arena.read_only, offset, size, ME, mark, shared, None)

    def take(self, block: Block, move: Any = lambda: True) -> bool:
        return self.readers.take(self.arena.writable, block.offset, total_of(block.size_bytes), move)


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store()
    yield store
    os.close(store.fd)
    vars(store).clear()


class Other:
    """A second process that reads a block until it is told to end."""

    def __init__(self, store: Store, block: Block) -> None:
        self.told, tell = os.pipe()
        ours, self.end = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self.end)
                readers = Readers(store.fd)
                try:
                    reading = readers.enter(
                        store.arena.read_only, block.offset, block.size_bytes, ME, block.mark, True, None
                    )
                    os.write(tell, b"r")
                    os.read(ours, 1)
                    del reading
                    readers.drain()
                    os.write(tell, b"d")
                    os.read(ours, 1)
                except StaleBlock:
                    os.write(tell, b"s")
            finally:
                os._exit(0)
        os.close(tell)
        os.close(ours)

    def said(self) -> bytes:
        return os.read(self.told, 1)

    def go_on(self) -> None:
        os.write(self.end, b"x")

    def gone(self) -> None:
        os.close(self.end)
        os.close(self.told)
        os.waitpid(self.pid, 0)


def test_a_block_is_not_moved_while_it_is_read_here_and_is_stale_after(store: Store) -> None:
    block = store.put()
    first, second = store.read(block), store.read(block)
    assert not store.take(block)
    del first
    assert not store.take(block)
    del second
    assert store.take(block)
    with pytest.raises(StaleBlock):
        store.read(block)


def test_a_block_is_not_moved_while_another_process_reads_it(store: Store) -> None:
    block = store.put()
    other = Other(store, block)
    assert other.said() == b"r"
    assert store.readers.in_use(block.offset, total_of(block.size_bytes))
    assert not store.take(block)
    other.go_on()
    assert other.said() == b"d"
    assert store.take(block)
    other.gone()


def test_a_killed_reader_pins_nothing(store: Store) -> None:
    block = store.put()
    other = Other(store, block)
    assert other.said() == b"r"
    os.kill(other.pid, signal.SIGKILL)
    other.gone()
    assert store.take(block)


def test_who_comes_after_the_move_is_told(store: Store) -> None:
    block = store.put()
    assert store.take(block)
    other = Other(store, block)
    assert other.said() == b"s"
    other.gone()


def test_a_block_used_again_is_not_taken_for_the_old_one(store: Store) -> None:
    block = store.put()
    store.arena.free(block.offset)
    again = store.put()
    assert again.offset == block.offset
    with pytest.raises(StaleBlock):
        store.read(block)
    assert store.read(again)


def test_memory_that_was_given_back_is_stale(store: Store) -> None:
    blocks = [store.put(200_000) for _ in range(4)]
    for block in blocks:
        store.arena.free(block.offset)
    store.put(900_000)
    for block in blocks:
        with pytest.raises(StaleBlock):
            store.read(block)


def test_a_dead_value_is_not_moved_and_its_header_not_touched(store: Store) -> None:
    block = store.put()
    store.arena.free(block.offset)
    again = store.put()
    assert not store.take(block, lambda: False)
    assert store.read(again), "it is somebody else's now, and live"


def test_the_dead_owners_block_is_freed_once_nobody_reads_it(store: Store) -> None:
    block = store.put()
    total = total_of(block.size_bytes)
    other = Other(store, block)
    assert other.said() == b"r"
    assert not store.readers.take_from_the_dead(store.arena.writable, block.offset, total)
    other.go_on()
    assert other.said() == b"d"
    other.gone()
    assert store.readers.take_from_the_dead(store.arena.writable, block.offset, total)
    store.arena.free(block.offset)


class ManyReads(RuleBasedStateMachine):
    """Reads, ends of reads, moves and frees in any order, in one process."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store()
        self.blocks: list[Block] = []
        self.reads: list[tuple[Block, Any]] = []
        self.gone: list[Block] = []

    def teardown(self) -> None:
        self.reads.clear()
        os.close(self.store.fd)
        vars(self.store).clear()

    @precondition(lambda self: len(self.blocks) < 30)
    @rule(size=st.integers(1, 20_000))
    def put(self, size: int) -> None:
        self.blocks.append(self.store.put(size))

    @precondition(lambda self: self.blocks)
    @rule(which=st.integers(0, 99), shared=st.booleans())
    def read(self, which: int, shared: bool) -> None:
        block = self.blocks[which % len(self.blocks)]
        self.reads.append((block, self.store.read(block, shared)))

    @precondition(lambda self: self.reads)
    @rule(which=st.integers(0, 99))
    def end(self, which: int) -> None:
        self.reads.pop(which % len(self.reads))
        gc.collect(0)

    @precondition(lambda self: self.blocks)
    @rule(which=st.integers(0, 99))
    def take(self, which: int) -> None:
        block = self.blocks[which % len(self.blocks)]
        read = any(one is block for one, _ in self.reads)
        assert self.store.take(block) == (not read)
        if not read:
            self.blocks.remove(block)
            self.store.arena.free(block.offset)
            self.gone.append(block)

    @rule()
    def nothing_old_opens(self) -> None:
        for block in self.gone:
            with pytest.raises(StaleBlock):
                self.store.read(block)

    @invariant()
    def counts_are_right(self) -> None:
        if hasattr(self.store, "readers"):
            assert self.store.readers.open_reads() == len({block.offset for block, _ in self.reads})


TestManyReads = ManyReads.TestCase
TestManyReads.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
