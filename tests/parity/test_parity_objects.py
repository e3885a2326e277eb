"""Do `get`, `put`, `wait` and the objects themselves keep Ray's edges?"""

from __future__ import annotations

import gc
import importlib
import os
import time
from typing import Any

import numpy as np
import pytest

ray: Any = importlib.import_module(os.environ.get("MINRAY_PARITY_ENGINE", "minray"))

pytestmark = pytest.mark.usefixtures("cluster")

SMALL = 10
LARGE = 1 << 20


def test_get_of_a_list_gives_a_list_in_order() -> None:
    assert ray.get([ray.put(i) for i in range(5)]) == [0, 1, 2, 3, 4]


def test_get_of_an_empty_list_is_an_empty_list() -> None:
    assert ray.get([]) == []


def test_get_of_duplicates_repeats_the_value() -> None:
    ref = ray.put("x")
    assert ray.get([ref, ref, ref]) == ["x", "x", "x"]


def test_get_of_a_tuple_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="Invalid type of object refs.*tuple"):
        ray.get((ray.put(1), ray.put(2)))


@pytest.mark.parametrize("wrong", [1, "x", None, {"a": 1}, {1}], ids=repr)
def test_get_of_a_non_ref_is_a_value_error(wrong: object) -> None:
    with pytest.raises(ValueError, match="Invalid type of object refs"):
        ray.get(wrong)


def test_get_of_a_list_with_a_non_ref_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="value 2, which is not an.*ObjectRef"):
        ray.get([ray.put(1), 2])


def test_get_with_a_timeout_returns_what_is_there() -> None:
    assert ray.get(ray.put(1), timeout=0) == 1
    assert ray.get(ray.put(1), timeout=5) == 1


def test_a_negative_get_timeout_still_gives_what_is_there() -> None:
    ref = ray.put(5)
    assert ray.get(ref, timeout=-1) == 5


def test_put_of_a_ref_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="ObjectRef"):
        ray.put(ray.put(1))


def test_put_of_a_list_of_refs_is_allowed() -> None:
    inner = ray.put(1)
    (back,) = ray.get(ray.put([inner]))
    assert back == inner
    assert ray.get(back) == 1


@pytest.mark.parametrize(
    "value",
    [None, 0, 1.5, "text", b"", b"x" * LARGE, "y" * LARGE, (), [], {}, {"a": (1, [2])}, True, 1j, 1 << 100],
)
def test_plain_values_come_back_equal(value: object) -> None:
    got = ray.get(ray.put(value))
    assert got == value
    assert type(got) is type(value)


def test_a_bytearray_comes_back_equal() -> None:
    assert ray.get(ray.put(bytearray(b"abc"))) == b"abc"  # Ray gives bytes


def test_wait_splits_ready_from_not_ready() -> None:
    @ray.remote
    def slow() -> None:
        time.sleep(0.5)

    done, pending = ray.put(1), slow.remote()
    ready, rest = ray.wait([pending, done], timeout=10)
    assert (ready, rest) == ([done], [pending])
    ray.get(pending)


def test_wait_loses_and_repeats_nothing() -> None:
    refs = [ray.put(i) for i in range(5)]
    ready, rest = ray.wait(refs, num_returns=3, timeout=10)
    assert (len(ready), len(rest)) == (3, 2)
    assert {*ready, *rest} == {*refs}


def test_wait_returns_only_num_returns_even_if_more_are_ready() -> None:
    refs = [ray.put(i) for i in range(4)]
    ready, rest = ray.wait(refs, timeout=10)
    assert len(ready) == 1
    assert len(rest) == 3


def test_wait_timeout_zero_polls() -> None:
    @ray.remote
    def slow() -> None:
        time.sleep(0.3)

    ref = slow.remote()
    assert ray.wait([ref], timeout=0) == ([], [ref])
    ray.get(ref)
    assert ray.wait([ref], timeout=0) == ([ref], [])


def test_wait_of_an_empty_list_is_empty() -> None:
    assert ray.wait([]) == ([], [])


def test_wait_of_duplicates_is_a_value_error() -> None:
    ref = ray.put(1)
    with pytest.raises(ValueError, match="unique"):
        ray.wait([ref, ref])


def test_wait_of_a_single_ref_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="list"):
        ray.wait(ray.put(1))


def test_wait_of_a_non_ref_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        ray.wait([1])


def test_wait_with_num_returns_zero_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="number of objects to return 0"):
        ray.wait([ray.put(1)], num_returns=0)


def test_wait_with_too_many_num_returns_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="num_returns"):
        ray.wait([ray.put(1)], num_returns=2)


def test_wait_with_a_negative_timeout_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="timeout"):
        ray.wait([ray.put(1)], timeout=-1)


def test_wait_accepts_none_as_no_timeout() -> None:
    ref = ray.put(1)
    assert ray.wait([ref], timeout=None) == ([ref], [])


def test_arrays_are_read_only_when_large() -> None:
    array = ray.get(ray.put(np.arange(LARGE)))
    assert not array.flags.writeable
    with pytest.raises(ValueError):
        array[0] = 1


def test_arrays_are_read_only_when_small() -> None:
    array = ray.get(ray.put(np.arange(SMALL)))
    assert not array.flags.writeable


def test_an_array_argument_is_read_only_in_a_task() -> None:
    @ray.remote
    def writeable(array: Any) -> bool:
        return bool(array.flags.writeable)

    assert ray.get(writeable.remote(ray.put(np.zeros(LARGE)))) is False


def test_arrays_keep_dtype_shape_and_values() -> None:
    for array in (
        np.arange(12).reshape(3, 4),
        np.zeros((2, 0)),
        np.array(["a", "bc"]),
        np.array([1 + 2j]),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.arange(20)[::2],
        np.array([{"k": 1}, None], dtype=object),
    ):
        got = ray.get(ray.put(array))
        assert got.dtype == array.dtype
        assert got.shape == array.shape
        assert (got == array).all()


def test_changing_the_original_does_not_change_the_object() -> None:
    for size in (SMALL, LARGE):
        array = np.zeros(size)
        ref = ray.put(array)
        array[0] = 7
        assert ray.get(ref)[0] == 0


def test_changing_a_list_got_does_not_change_the_object() -> None:
    ref = ray.put([1, 2])
    ray.get(ref).append(3)
    assert ray.get(ref) == [1, 2]


def test_changing_a_list_argument_in_a_task_does_not_reach_the_caller() -> None:
    @ray.remote
    def spoil(xs: list[int]) -> int:
        xs.append(9)
        return len(xs)

    ref = ray.put([1])
    assert ray.get([spoil.remote(ref), spoil.remote(ref)]) == [2, 2]
    assert ray.get(ref) == [1]


def test_a_view_outlives_its_ref() -> None:
    ref = ray.put(np.full(LARGE, 3))
    view = ray.get(ref)[100:200]
    del ref
    gc.collect()
    others = [ray.put(np.zeros(LARGE)) for _ in range(3)]
    assert (view == 3).all()
    del others


def test_identity_inside_one_object_is_kept() -> None:
    shared = [1]
    a, b = ray.get(ray.put((shared, shared)))
    assert a is b


def test_two_arrays_in_one_container_come_back_whole() -> None:
    a, b = np.arange(LARGE), np.arange(SMALL)
    x, box = ray.get(ray.put((a, {"b": b})))
    assert (x == a).all()
    assert (box["b"] == b).all()


def test_a_ref_is_hashable_and_equal_to_its_copies() -> None:
    ref = ray.put(1)
    (copy,) = ray.get(ray.put([ref]))
    assert copy == ref
    assert hash(copy) == hash(ref)
    assert {ref: 1}[copy] == 1
    assert ref != ray.put(1)
    assert ref != "x"


def test_a_ref_has_a_hex_and_a_binary_form() -> None:
    ref = ray.put(1)
    assert ref.hex() == ref.binary().hex()
    assert ref.hex() in repr(ref)
    assert repr(ref).startswith("ObjectRef(")
    assert len(ref.hex()) == 56


def test_a_ref_names_its_task() -> None:
    @ray.remote
    def f() -> None: ...

    ref = f.remote()
    assert isinstance(ref.task_id().hex(), str)
    ray.get(ref)


def test_a_ref_has_a_concurrent_future() -> None:
    @ray.remote
    def f(fail: bool) -> int:
        if fail:
            raise ValueError("future")
        return 5

    assert f.remote(False).future().result(timeout=30) == 5
    with pytest.raises(ValueError, match="future"):
        f.remote(True).future().result(timeout=30)


def test_a_ref_can_be_awaited() -> None:
    import asyncio

    @ray.remote
    def f(x: int) -> int:
        return x + 1

    async def main() -> list[int]:
        one = await f.remote(0)
        return [one, *await asyncio.gather(f.remote(1), f.remote(2))]

    assert asyncio.run(main()) == [1, 2, 3]


def test_awaiting_a_failed_ref_raises_its_cause() -> None:
    import asyncio

    @ray.remote
    def f() -> None:
        raise KeyError("async")

    async def main() -> None:
        await f.remote()

    with pytest.raises(KeyError, match="async"):
        asyncio.run(main())


def test_asyncio_wait_accepts_refs_as_futures() -> None:
    import asyncio

    @ray.remote
    def f(x: int) -> int:
        return x

    async def main() -> set[int]:
        done, pending = await asyncio.wait([asyncio.ensure_future(_wrap(f.remote(i))) for i in range(3)])
        assert not pending
        return {task.result() for task in done}

    async def _wrap(ref: Any) -> int:
        return await ref

    assert asyncio.run(main()) == {0, 1, 2}


def test_a_ref_kept_by_an_actor_outlives_the_driver_handle() -> None:
    @ray.remote
    class Keeper:
        def keep(self, box: list[Any]) -> None:
            self.ref = box[0]

        def read(self) -> float:
            return float(ray.get(self.ref).sum())

    keeper = Keeper.remote()
    ref = ray.put(np.ones(LARGE))
    ray.get(keeper.keep.remote([ref]))
    del ref
    gc.collect()
    assert ray.get(keeper.read.remote()) == LARGE


def test_refs_nested_two_deep_stay_alive() -> None:
    @ray.remote
    def make() -> Any:
        return {"outer": [ray.put([ray.put(np.ones(LARGE))])]}

    box = ray.get(make.remote())
    (inner,) = ray.get(box["outer"][0])
    del box
    gc.collect()
    assert ray.get(inner).sum() == LARGE


def test_a_large_result_passes_from_task_to_task() -> None:
    @ray.remote
    def make() -> Any:
        return np.ones(LARGE)

    @ray.remote
    def total(a: Any) -> float:
        return float(a.sum())

    assert ray.get(total.remote(make.remote())) == LARGE


def test_the_driver_reads_what_a_task_put() -> None:
    @ray.remote
    def make() -> Any:
        return [ray.put(i) for i in range(10)]

    assert ray.get(ray.get(make.remote())) == list(range(10))


def test_a_dataclass_travels() -> None:
    import dataclasses

    @dataclasses.dataclass
    class Point:
        x: int
        y: int = 2

    @ray.remote
    def swap(p: Any) -> Any:
        return type(p)(p.y, p.x)

    got = ray.get(swap.remote(Point(1)))
    assert (got.x, got.y) == (2, 1)


def test_refs_compare_and_sort_into_sets() -> None:
    refs = [ray.put(i) for i in range(3)]
    assert len({*refs, *refs}) == 3
