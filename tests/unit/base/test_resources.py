"""Amounts, shapes and GPU ids."""

from __future__ import annotations

import random

import pytest

from minray.base.resources import (
    ONE,
    GpuSet,
    ResourceSet,
    amounts_of,
    describe,
    larger_of,
    missing_sentence,
    shape_of,
)


def test_equal_requests_are_equal_shapes() -> None:
    assert (
        shape_of({"GPU": 0.5, "CPU": 1})
        == shape_of({"CPU": 1.0, "GPU": 0.5, "x": 0})
        == (("CPU", 10_000), ("GPU", 5_000))
    )
    assert amounts_of(shape_of({"CPU": 0.1})) == {"CPU": 0.1}


@pytest.mark.parametrize("amounts", [{"CPU": -1}, {"CPU": 0.00001}, {"GPU": 1.5}])
def test_impossible_amounts_are_refused_by_name(amounts: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(amounts))):
        shape_of(amounts)


def test_fractions_leave_no_crumb() -> None:
    resources = ResourceSet(shape_of({"CPU": 1}))
    tenth = shape_of({"CPU": 0.1})
    for _ in range(10):
        assert resources.fits(tenth)
        resources.subtract(tenth)
    assert not resources.fits(tenth) and resources.in_units() == {}
    for _ in range(10):
        resources.add(tenth)
    assert resources == ResourceSet(shape_of({"CPU": 1}))


def test_what_lacks_is_named() -> None:
    resources = ResourceSet(shape_of({"CPU": 2, "memory": 4e9}))
    shape = shape_of({"CPU": 1, "GPU": 1})
    assert resources.lacking(shape) == ("GPU",)
    assert missing_sentence(shape, resources.amounts) == "needs GPU: 1; this node has CPU: 2, memory: 4 GB"
    assert describe(()) == "nothing"


def test_times_counts_how_often_a_shape_fits() -> None:
    resources = ResourceSet(shape_of({"CPU": 3, "x": 1}))
    assert resources.times(shape_of({"CPU": 1}), 10) == 3
    assert resources.times(shape_of({"CPU": 1, "x": 1}), 10) == 1
    assert resources.times((), 10) == 10


def test_larger_of_covers_both() -> None:
    assert larger_of(shape_of({"CPU": 1}), shape_of({"GPU": 1, "CPU": 0.5})) == shape_of({"CPU": 1, "GPU": 1})


def test_fractions_share_one_gpu_and_leave_whole_ones_whole() -> None:
    gpus = GpuSet(2 * ONE)
    half = ONE // 2
    assert gpus.take(half) == ((0, half),)
    assert gpus.take(half) == ((0, half),)
    assert gpus.take(ONE) == ((1, ONE),)
    assert not gpus.fits(1)
    gpus.give_back(((0, half),))
    assert gpus.fits(half) and not gpus.fits(ONE)


def test_a_whole_gpu_is_not_made_of_two_halves() -> None:
    gpus = GpuSet(2 * ONE)
    first = gpus.take(6_000)
    second = gpus.take(6_000)
    assert first[0][0] != second[0][0]
    assert not gpus.fits(ONE)  # 0.8 is free, but on two cards


@pytest.mark.parametrize("seed", range(20))
def test_random_gpu_use_never_hands_out_more_than_there_is(seed: int) -> None:
    dice = random.Random(seed)
    gpus = GpuSet(3 * ONE)
    taken: list[tuple[tuple[int, int], ...]] = []
    for _ in range(300):
        amount = dice.choice([1, 2_500, 5_000, 9_999, ONE, 2 * ONE])
        if dice.random() < 0.5 and gpus.fits(amount):
            taken.append(gpus.take(amount))
            assert sum(share for _, share in taken[-1]) == amount
        elif taken:
            gpus.give_back(taken.pop(dice.randrange(len(taken))))
        assert all(0 <= free <= ONE for free in gpus.free), f"seed {seed}"
    for use in taken:
        gpus.give_back(use)
    assert gpus.free == [ONE] * 3, f"seed {seed}"
