"""Does a block stay pinned as long as anything can read it, and no longer?"""

from __future__ import annotations

import gc
import os
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minray.object_store import views
from minray.object_store.arena import Arena
from minray.object_store.layout import plan
from minray.object_store.views import read_only_buffers

CAPACITY = 16 << 20


class Holder:
    """Stands for the reference that pins the block."""


class Store:
    """Puts and gets values in one process, without references."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("test-arena")
        os.ftruncate(self.fd, CAPACITY)
        self.arena = Arena(self.fd, CAPACITY, b"p" * 16, lambda _: (0, CAPACITY), lambda _: None, CAPACITY)

    def put(self, value: object) -> tuple[bytes, int, list[int]]:
        out: list[pickle.PickleBuffer] = []
        meta = pickle.dumps(value, 5, buffer_callback=out.append)
        raws = [buffer.raw() for buffer in out]
        total, positions = plan([raw.nbytes for raw in raws])
        block = self.arena.allocate(total)
        assert block is not None
        for position, raw in zip(positions, raws, strict=True):
            self.arena.write(block, position, raw)
        return meta, block.offset, [raw.nbytes for raw in raws]

    def get(self, stored: tuple[bytes, int, list[int]]) -> tuple[Any, weakref.ref[Holder]]:
        meta, offset, lengths = stored
        holder = Holder()
        value = pickle.loads(meta, buffers=read_only_buffers(self.arena.read_only, offset, lengths, holder))
        return value, weakref.ref(holder)


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store()
    yield store
    os.close(store.fd)
    vars(store).clear()  # pytest keeps the fixture's value a while; the mapping is to go now


@given(st.lists(st.integers(0, 1000)))
def test_a_plan_aligns_every_buffer_and_overlaps_none(lengths: list[int]) -> None:
    total, positions = plan(lengths)
    end = 0
    for position, length in zip(positions, lengths, strict=True):
        assert position % 64 == 0
        assert end <= position < end + 64
        end = position + length
    assert end <= total < end + 64
    assert total % 64 == 0


def test_the_holder_goes_with_the_last_buffer(store: Store) -> None:
    store.arena.allocate(1000)
    holder = Holder()
    dead = weakref.ref(holder)
    first, second = read_only_buffers(store.arena.read_only, 64, [10, 20], holder)
    del holder
    assert (len(first), len(second)) == (10, 20)
    del first
    assert dead() is not None
    part = second[3:5]
    del second
    assert dead() is not None
    del part
    assert dead() is None
    assert views.pinned_regions() == 0


def test_buffers_lie_where_the_plan_put_them(store: Store) -> None:
    lengths = [5, 0, 64, 65, 1]
    total, positions = plan(lengths)
    block = store.arena.allocate(total)
    assert block is not None
    for number, (position, length) in enumerate(zip(positions, lengths, strict=True)):
        store.arena.write(block, position, bytes([number + 1]) * length)
    got = read_only_buffers(store.arena.read_only, block.offset, lengths, None)
    assert [bytes(buffer) for buffer in got] == [bytes([n + 1]) * length for n, length in enumerate(lengths)]
    assert all(buffer.readonly for buffer in got)


def test_no_buffers_pin_nothing(store: Store) -> None:
    holder = Holder()
    dead = weakref.ref(holder)
    assert read_only_buffers(store.arena.read_only, 64, [], holder) == []
    del holder
    assert dead() is None


@pytest.mark.parametrize(
    ("offset", "lengths"), [(-64, [1]), (CAPACITY - 64, [65]), (CAPACITY + 64, []), (64, [CAPACITY])]
)
def test_buffers_outside_the_arena_are_refused(store: Store, offset: int, lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="do not lie"):
        read_only_buffers(store.arena.read_only, offset, lengths, None)
    assert views.pinned_regions() == 0


def test_a_writable_arena_is_refused() -> None:
    with pytest.raises(ValueError, match="read-only"):
        read_only_buffers(memoryview(bytearray(1000)), 0, [10], None)


def test_a_holder_released_in_the_collector_may_be_anything(store: Store) -> None:
    released: list[str] = []

    class Loud:
        def __del__(self) -> None:
            released.append("gone")

    cycle: list[object] = [read_only_buffers(store.arena.read_only, 64, [10], Loud())]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert released == ["gone"]


def test_views_may_die_in_another_thread(store: Store) -> None:
    holder = Holder()
    dead = weakref.ref(holder)
    box = [read_only_buffers(store.arena.read_only, 64, [10], holder)]
    del holder
    thread = threading.Thread(target=box.clear)
    thread.start()
    thread.join()
    assert dead() is None


def test_views_outlive_the_arena_object(store: Store) -> None:
    block = store.arena.allocate(10)
    assert block is not None
    store.arena.write(block, 0, b"persistent")
    (view,) = read_only_buffers(store.arena.read_only, block.offset, [10], None)
    del store.arena
    gc.collect()
    assert view == b"persistent"


# ------------------------------------------------------------------ numpy
def derive_slice(a: Any) -> Any:
    return a[10:20]


def derive_dtype(a: Any) -> Any:
    return a.view("f4")


def derive_reshape(a: Any) -> Any:
    return a.reshape(10, -1)[3]


def derive_transpose(a: Any) -> Any:
    return a.reshape(10, -1).T


def derive_memoryview(a: Any) -> Any:
    return memoryview(a)[5:]


def derive_memoryview_of_slice_of_dtype(a: Any) -> Any:
    return memoryview(a[10:20].view("u1"))


def derive_frombuffer(a: Any) -> Any:
    import numpy

    return numpy.frombuffer(memoryview(a), "u2")[7:]


def derive_asarray(a: Any) -> Any:
    import numpy

    return numpy.asarray(memoryview(a[1:]))


def derive_broadcast(a: Any) -> Any:
    import numpy

    return numpy.broadcast_to(a, (3, len(a)))


def derive_strided(a: Any) -> Any:
    import numpy

    return numpy.lib.stride_tricks.sliding_window_view(a, 5)[2]


def derive_iterator(a: Any) -> Any:
    return a.flat


def derive_subclass(a: Any) -> Any:
    import numpy

    return a.view(numpy.recarray)


def derive_pickle_buffer(a: Any) -> Any:
    return pickle.PickleBuffer(a)


def derive_cycle(a: Any) -> Any:
    cycle = {"a": a[1:]}
    cycle["self"] = cycle
    return cycle


def derive_closure(a: Any) -> Any:
    part = a[3:]
    return lambda: part


def derive_dlpack(a: Any) -> Any:
    torch = pytest.importorskip("torch")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.from_numpy(a)[3:].view(torch.int32)


def derive_arrow(a: Any) -> Any:
    pa = pytest.importorskip("pyarrow")
    return pa.py_buffer(a).slice(8)


def derive_arrow_array(a: Any) -> Any:
    pa = pytest.importorskip("pyarrow")
    return pa.Array.from_buffers(pa.int64(), len(a), [None, pa.py_buffer(a)]).slice(3)


def derive_frame(a: Any) -> Any:
    pd = pytest.importorskip("pandas")
    return pd.DataFrame(a.reshape(-1, 4), copy=False)


def derive_frame_column(a: Any) -> Any:
    return derive_frame(a)[1]


def derive_frame_values(a: Any) -> Any:
    return derive_frame(a).to_numpy()[3:, 1]


DERIVATIONS = [value for name, value in sorted(globals().items()) if name.startswith("derive_")]


@pytest.mark.parametrize("derive", DERIVATIONS, ids=lambda f: f.__name__.removeprefix("derive_"))
def test_whatever_is_derived_from_an_array_pins_its_block(store: Store, derive: Callable[[Any], Any]) -> None:
    numpy = pytest.importorskip("numpy")
    array, dead = store.get(store.put(numpy.arange(1000)))
    assert numpy.array_equal(array, numpy.arange(1000))
    derived = derive(array)
    del array
    gc.collect()
    assert dead() is not None, "released while it can still be read"
    del derived
    gc.collect()
    assert dead() is None, "still pinned when nothing can read it"
    assert views.pinned_regions() == 0


def test_arrays_are_read_only_and_cannot_be_made_writable(store: Store) -> None:
    numpy = pytest.importorskip("numpy")
    array, _ = store.get(store.put(numpy.arange(1000)))
    assert not array.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True
    with pytest.raises(ValueError, match="WRITEABLE"):
        array[3:].view("u1").flags.writeable = True


def test_arrays_are_aligned_and_share_the_arenas_memory(store: Store) -> None:
    numpy = pytest.importorskip("numpy")
    pair, _ = store.get(store.put([numpy.arange(7, dtype="u1"), numpy.arange(9, dtype="f8")]))
    base = numpy.frombuffer(store.arena.read_only, "u1")
    for array in pair:
        assert array.ctypes.data % 64 == 0
        assert numpy.shares_memory(array, base)


def test_a_value_of_many_arrays_is_pinned_by_any_one(store: Store) -> None:
    numpy = pytest.importorskip("numpy")
    value = {"a": numpy.arange(100), "b": [numpy.ones((3, 4)), numpy.zeros(0)], "c": numpy.full(10, 7, "u1")}
    got, dead = store.get(store.put(value))
    assert numpy.array_equal(got["b"][0], value["b"][0])
    assert len(got["b"][1]) == 0
    last = got["c"][2:]
    del got
    assert dead() is not None
    del last
    assert dead() is None


def test_two_reads_of_one_block_are_pinned_apart(store: Store) -> None:
    numpy = pytest.importorskip("numpy")
    stored = store.put(numpy.arange(100))
    first, first_dead = store.get(stored)
    second, second_dead = store.get(stored)
    del first
    assert first_dead() is None
    assert second_dead() is not None
    del second
    assert second_dead() is None


def test_a_data_frame_reads_in_place_and_pins_its_block(store: Store) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {"x": range(1000), "y": [i / 2 for i in range(1000)], "s": [str(i) for i in range(1000)]}
    )
    got, dead = store.get(store.put(frame))
    pd.testing.assert_frame_equal(got, frame)
    column = got["y"].to_numpy()[5:7]
    del got
    gc.collect()
    assert dead() is not None
    assert list(column) == [2.5, 3.0]
    del column
    gc.collect()
    assert dead() is None


def test_an_arrow_table_reads_in_place_and_pins_its_block(store: Store) -> None:
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"x": list(range(1000)), "s": [str(i) for i in range(1000)]})
    got, dead = store.get(store.put(table))
    assert got.equals(table)
    chunk = got.column("x").chunk(0).slice(5, 2)
    del got
    gc.collect()
    assert dead() is not None
    assert chunk.to_pylist() == [5, 6]
    del chunk
    gc.collect()
    assert dead() is None


def test_a_sparse_tree_of_views_dies_in_any_order(store: Store) -> None:
    numpy = pytest.importorskip("numpy")
    import random

    rng = random.Random(0)
    for _ in range(50):
        array, dead = store.get(store.put(numpy.arange(1000)))
        family = [array]
        del array
        for _ in range(20):
            family.append(rng.choice(family)[rng.randrange(3) :])
        rng.shuffle(family)
        while family:
            assert dead() is not None
            family.pop()
        assert dead() is None
