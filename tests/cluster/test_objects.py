"""Large objects: read in place, never overwritten under a reader, given back in time, refused with a reason."""

from __future__ import annotations

import gc
import os
import pickle
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import minray as ray
from minray.engine.seam import current

pytestmark = [pytest.mark.cluster]

MB = 1 << 20


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    ray.init(num_cpus=2, object_store_memory=64 * MB)
    yield
    ray.shutdown()


def _live() -> int:
    gc.collect()
    return int(current().core.store.arena.live_bytes())


def _until(what: Callable[[], Any], within_s: float = 20.0) -> None:
    give_up = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < give_up, "it did not come to that"
        time.sleep(0.01)


def _churn(count: int = 20) -> None:
    for _ in range(count):
        ray.put(np.full(100_000, -1.0))


@ray.remote
def _full(length: int, value: float) -> Any:
    return np.full(length, value)


@pytest.fixture(autouse=True)
def _store_is_empty_after_each() -> Iterator[None]:
    yield
    _until(lambda: _live() == 0)


@pytest.mark.parametrize("derive", [
    lambda a: a[1000:2000],
    lambda a: a[::7],
    lambda a: a.view(np.int64),
    lambda a: a.reshape(100, 1000)[3].T,
    lambda a: memoryview(a)[10:20],
    lambda a: memoryview(a.data).cast("B"),
    lambda a: [a, {"again": a[5:]}],
], ids=["slice", "stride", "dtype", "reshape", "memoryview", "bytes view", "container"])  # fmt: skip
def test_whatever_is_derived_from_a_value_keeps_its_bytes(derive: Any) -> None:
    number = 12345.0
    for make in (lambda: ray.put(np.full(100_000, number)), lambda: _full.remote(100_000, number)):
        value = ray.get(make())
        derived = derive(value)
        copy = pickle.dumps(np.array(derived) if not isinstance(derived, list) else derived)
        del value
        gc.collect()
        _churn()
        assert pickle.dumps(np.array(derived) if not isinstance(derived, list) else derived) == copy
        del derived


def test_values_are_read_in_place_and_read_only() -> None:
    ref = ray.put(np.arange(100_000))
    first, second = ray.get(ref), ray.get(ref)
    assert np.shares_memory(first, second) and not first.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1


def test_what_was_put_is_a_snapshot() -> None:
    mine = np.zeros(100_000)
    text = {"k": [1, 2]}
    refs = [ray.put(mine), ray.put(text), _same.remote(mine), _same.remote(text)]
    mine[:] = 5
    text["k"].append(3)
    assert [float(np.sum(ray.get(refs[index]))) for index in (0, 2)] == [0.0, 0.0]
    assert [ray.get(refs[index]) for index in (1, 3)] == [{"k": [1, 2]}] * 2


@ray.remote
def _same(value: Any) -> Any:
    return value


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 100 * 1024 - 1, 100 * 1024, 100 * 1024 + 1, 3 * MB])
def test_bytes_of_every_size_come_back_from_everywhere(size: int) -> None:
    data = os.urandom(size)
    text = "é" * (size // 2)
    assert ray.get(ray.put(data)) == data
    assert ray.get(_same.remote(data)) == data
    assert ray.get(_same.remote(ray.put(data))) == data
    assert ray.get(_same.remote([ray.put(data)]))[0] is not None
    assert ray.get([_same.remote(text), ray.put(text)]) == [text, text]
    assert ray.get(_same.remote(bytearray(data))) == data


def test_arrays_of_every_kind_come_back_equal() -> None:
    rng = np.random.default_rng(0)
    arrays = [
        rng.random((500, 300)),
        np.asfortranarray(rng.random((500, 300))),
        rng.random((500, 300))[::2, ::3],
        rng.integers(0, 9, 200_000, dtype=np.int8),
        np.array(["a", "bc"] * 50_000),
        np.zeros(0),
        np.zeros((3, 0, 5)),
        np.array([{"a": 1}, None], dtype=object),
        np.ma.masked_array(rng.random(50_000), mask=rng.random(50_000) > 0.5),
    ]
    for array in arrays:
        for value in (ray.get(ray.put(array)), ray.get(_same.remote(array))):
            assert value.dtype == array.dtype and value.shape == array.shape and bool(np.all(value == array))
    together = ray.get(_same.remote({"all": arrays}))
    assert all(bool(np.all(a == b)) for a, b in zip(together["all"], arrays, strict=True))


def test_a_dropped_reference_gives_its_memory_back_without_another_call() -> None:
    refs = [ray.put(np.zeros(200_000)), _full.remote(200_000, 1.0)]
    ray.get(refs)
    assert _live() >= 1_600_000
    del refs
    _until(lambda: _live() == 0)


def test_all_memory_goes_back_to_the_node_in_the_end() -> None:
    views = [ray.get(_full.remote(300_000, float(x))) for x in range(8)]
    assert [view[0] for view in views] == list(range(8))
    refs = [ray.put(np.zeros(300_000)) for _ in range(8)]
    del views, refs
    _until(lambda: _live() == 0)
    # A third of the store for one object: only possible when everybody returned empty slabs.
    for _ in range(3):
        assert ray.get(_full.remote(5 * MB, 2.0))[-1] == 2.0


def test_a_full_store_goes_to_disk_and_every_value_is_as_it_was() -> None:
    kept = [ray.put(np.full(MB, float(i))) for i in range(12)]  # 8 MB each: half as much again as the store
    assert [float(ray.get(ref)[-1]) for ref in kept] == list(range(12))
    assert ray.get(_same.remote(3)) == 3 and ray.get(ray.put("small")) == "small"
    kept.clear()
    assert (ray.get(ray.put(np.ones(4 * MB))) == 1).all()


def test_a_value_larger_than_the_store_is_kept_on_disk() -> None:
    assert ray.get(_full.remote(10 * MB, 1.0)).sum() == 10 * MB
    large = np.ones(10 * MB)
    assert ray.get(ray.put(large)).sum() == 10 * MB
    assert (ray.get(_same.remote(large)) == large).all()
    assert ray.get(_full.remote(10, 1.0))[0] == 1


def test_a_waiting_put_proceeds_when_others_let_go() -> None:
    import threading

    kept = [ray.put(np.ones(MB)) for _ in range(6)]
    threading.Timer(0.3, kept.clear).start()
    assert len([ray.put(np.ones(MB)) for _ in range(3)]) == 3


def test_a_value_that_cannot_be_written_leaves_no_block(monkeypatch: pytest.MonkeyPatch) -> None:
    arena = current().core.store.arena

    def broken(*_: Any) -> None:
        raise MemoryError("no page")

    before = _live()
    monkeypatch.setattr(type(arena), "write", broken)
    with pytest.raises(MemoryError):
        ray.put(np.ones(MB))
    assert _live() == before
