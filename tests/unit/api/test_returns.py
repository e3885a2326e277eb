"""What a call gives, from its options and from whether its function yields."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from minray.api.options import parse_actor_options, parse_method_options, parse_task_options
from minray.api.returns import RayDeprecationWarning, check_override, check_returns, returns_of, yields
from minray.worker.wire import Yields


def plain() -> int:
    return 1


def items() -> Iterator[int]:
    yield 1


async def slow_items() -> AsyncIterator[int]:
    yield 1


async def coroutine() -> int:
    return 1


def test_functions_that_yield_are_told_from_others() -> None:
    assert [yields(one) for one in (plain, items, slow_items, coroutine)] == [False, True, True, False]


@pytest.mark.parametrize(
    ("given", "generator", "returns"),
    [
        ({}, False, 1),
        ({"num_returns": 3}, False, 3),
        ({"num_returns": 0}, True, 0),
        ({"num_returns": 2}, True, 2),
        ({}, True, Yields(False, 0)),
        ({"num_returns": None}, True, Yields(False, 0)),
        ({"num_returns": "streaming"}, True, Yields(False, 0)),
        ({"num_returns": "dynamic"}, True, Yields(True, 0)),
        ({"_generator_backpressure_num_objects": 5}, True, Yields(False, 5)),
        ({"_generator_backpressure_num_objects": -1}, True, Yields(False, 0)),
        ({"_generator_backpressure_num_objects": 5}, False, 1),
        ({"_num_objects_per_yield": 2}, True, Yields(False, 0, 2)),
    ],
)
def test_what_a_call_gives(given: dict[str, Any], generator: bool, returns: Any) -> None:
    assert returns_of(given, generator) == returns


def test_items_are_refused_of_what_does_not_yield_and_dynamic_is_deprecated() -> None:
    check_returns({"num_returns": "streaming"}, True, 1)
    check_returns({"num_returns": 2}, False, 1)
    with pytest.raises(ValueError, match="can only be used with generator functions"):
        check_returns({"num_returns": "streaming"}, False, 1)
    with pytest.warns(RayDeprecationWarning, match="Use num_returns='streaming'"):
        check_returns({"num_returns": "dynamic"}, True, 1)
    with pytest.raises(ValueError, match=r"per task call. Use @ray.remote\(_num_objects_per_yield"):
        check_override({"_num_objects_per_yield": 2}, "task", "@ray.remote")


@pytest.mark.parametrize("parse", [parse_task_options, parse_method_options])
def test_an_impossible_window_is_refused_where_it_is_written(parse: Any) -> None:
    for good in (1, 100, -1, None):
        parse({"_generator_backpressure_num_objects": good})
    with pytest.raises(ValueError, match="_generator_backpressure_num_objects=0 is not allowed"):
        parse({"_generator_backpressure_num_objects": 0})
    with pytest.raises(TypeError, match="_generator_backpressure_num_objects"):
        parse({"_generator_backpressure_num_objects": "2"})
    with pytest.raises(ValueError, match="_actor_generator_backpressure_num_objects=0"):
        parse_actor_options({"_actor_generator_backpressure_num_objects": 0})


def test_the_options_of_a_call_keep_what_the_method_is() -> None:
    method = parse_method_options({"num_returns": None}, generator=True)
    assert returns_of(method.given, method.generator) == Yields(False, 0)
    merged = method.merge({"_generator_backpressure_num_objects": 3})
    assert merged.generator and returns_of(merged.given, merged.generator) == Yields(False, 3)
