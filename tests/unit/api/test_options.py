"""Are options refused where they are written, and do they become the shapes that Ray would schedule?"""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from minray.api import options
from minray.api.options import (
    ActorOptions,
    MethodOptions,
    SchedulingStrategy,
    TaskOptions,
    check_remote_arguments,
    parse_actor_options,
    parse_method_options,
    parse_task_options,
)
from minray.api.placement import unmet_labels
from minray.base.messages import Shape

ONE_CPU = (("CPU", 10_000),)


def test_no_options_are_rays_defaults() -> None:
    assert parse_task_options({}) == TaskOptions()
    assert parse_actor_options({}) == ActorOptions()
    assert parse_method_options({}) == MethodOptions()
    task = parse_task_options({})
    assert (task.shape, task.num_returns, task.max_retries, task.retry_exceptions) == (ONE_CPU, 1, 3, False)


def test_none_means_the_default_for_every_option() -> None:
    for checks, parse, default in (
        (options.TASK_CHECKS, parse_task_options, TaskOptions()),
        (options.ACTOR_CHECKS, parse_actor_options, ActorOptions()),
        (options.METHOD_CHECKS, parse_method_options, MethodOptions()),
    ):
        assert parse(dict.fromkeys(checks)) == default


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        ({"num_cpus": 0}, ()),
        ({"num_cpus": 0.5}, (("CPU", 5_000),)),
        ({"num_cpus": 0.1 + 0.2}, (("CPU", 3_000),)),
        ({"num_gpus": 0.25}, (("CPU", 10_000), ("GPU", 2_500))),
        ({"resources": {"b": 1, "a": 2, "zero": 0}}, (("CPU", 10_000), ("a", 20_000), ("b", 10_000))),
        ({"memory": 1024}, (("CPU", 10_000), ("memory", 10_240_000))),
        ({"accelerator_type": "T4"}, (("CPU", 10_000), ("accelerator_type:T4", 10))),
    ],
)
def test_task_shape(given: dict[str, Any], shape: Shape) -> None:
    assert parse_task_options(given).shape == shape


@pytest.mark.parametrize(
    ("given", "placement", "held"),
    [
        ({}, ONE_CPU, ()),
        ({"num_cpus": 2}, (("CPU", 20_000),), (("CPU", 20_000),)),
        ({"num_cpus": 0}, (), ()),
        ({"num_gpus": 1}, (("CPU", 10_000), ("GPU", 10_000)), (("CPU", 10_000), ("GPU", 10_000))),
        ({"resources": {"x": 1}}, (("CPU", 10_000), ("x", 10_000)), (("CPU", 10_000), ("x", 10_000))),
        ({"memory": 1}, (("CPU", 10_000), ("memory", 10_000)), (("memory", 10_000),)),
    ],
)
def test_actor_placement_and_held_resources(given: dict[str, Any], placement: Shape, held: Shape) -> None:
    actor = parse_actor_options(given)
    assert (actor.placement, actor.held, actor.shape) == (placement, held, placement)


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"num_cpu": 1}, ValueError, "did you mean 'num_cpus'"),
        ({"retries": 1}, ValueError, "did you mean 'max_retries'"),
        ({"zzz": 1}, ValueError, "Valid ones are"),
        ({"max_restarts": 1}, ValueError, "option of actors"),
        ({"num_cpus": -1}, ValueError, "negative"),
        ({"num_cpus": "2"}, TypeError, "num_cpus"),
        ({"num_cpus": True}, TypeError, "num_cpus"),
        ({"num_cpus": float("nan")}, ValueError, "finite"),
        ({"num_cpus": float("inf")}, ValueError, "finite"),
        ({"num_cpus": 0.00001}, ValueError, "0.0001"),
        ({"num_gpus": 1.5}, ValueError, "whole"),
        ({"resources": {"CPU": 1}}, ValueError, "num_cpus"),
        ({"resources": {"GPU": 1}}, ValueError, "num_gpus"),
        ({"resources": {"memory": 1}}, ValueError, "memory"),
        ({"resources": {"x": -1}}, ValueError, "negative"),
        ({"resources": {"x": "1"}}, TypeError, "x"),
        ({"resources": {1: 1}}, TypeError, "str"),
        ({"resources": [1]}, TypeError, "resources"),
        ({"num_returns": -1}, ValueError, "num_returns"),
        ({"num_returns": "many"}, ValueError, "streaming"),
        ({"num_returns": 1.0}, TypeError, "num_returns"),
        ({"max_retries": -2}, ValueError, "max_retries"),
        ({"max_retries": 1.5}, TypeError, "max_retries"),
        ({"retry_exceptions": [ValueError, 3]}, ValueError, "exception classes"),
        ({"retry_exceptions": "yes"}, TypeError, "retry_exceptions"),
        ({"scheduling_strategy": "PACK"}, ValueError, "SPREAD"),
        ({"scheduling_strategy": object()}, TypeError, "scheduling_strategies"),
        ({"runtime_env": "x"}, TypeError, "runtime_env"),
        ({"object_store_memory": 5}, ValueError, "actors only"),
        ({"label_selector": {"zone": "not("}}, ValueError, "in(a, b)"),
        ({"label_selector": {"-zone": "a"}}, ValueError, "label"),
        ({"placement_group": object()}, ValueError, "placement groups"),
    ],
)
def test_wrong_task_options_are_refused_at_once(
    given: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as caught:
        parse_task_options(given)
    assert text in str(caught.value)
    with pytest.raises(error):
        TaskOptions().merge(given)


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"max_restart": 1}, ValueError, "did you mean 'max_restarts'"),
        ({"max_retries": 1}, ValueError, "option of remote functions"),
        ({"lifetime": "forever"}, ValueError, "detached"),
        ({"max_restarts": -2}, ValueError, "-1"),
        ({"max_concurrency": 0}, ValueError, "1 or more"),
        ({"get_if_exists": True}, ValueError, "name must be specified"),
        ({"name": ""}, ValueError, "empty"),
        ({"namespace": ""}, ValueError, "empty"),
        ({"name": 3}, TypeError, "name"),
        ({"concurrency_groups": {"io": 0}}, ValueError, "io"),
        ({"num_returns": 2}, ValueError, "option of remote functions"),
    ],
)
def test_wrong_actor_options_are_refused_at_once(
    given: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as caught:
        parse_actor_options(given)
    assert text in str(caught.value)


def test_merge_replaces_named_options_and_keeps_the_rest() -> None:
    first = parse_task_options({"num_cpus": 2, "resources": {"a": 1}, "max_retries": 0, "max_calls": 5})
    second = first.merge({"resources": {"b": 1}, "name": "n"})
    assert second.shape == (("CPU", 20_000), ("b", 10_000))
    assert (second.max_retries, second.name, second.max_calls) == (0, "n", 5)
    assert first.name is None
    assert second.merge({"num_cpus": None}).shape == (("CPU", 10_000), ("b", 10_000))
    with pytest.raises(ValueError, match="max_calls"):
        first.merge({"max_calls": 1})
    actor = parse_actor_options({"num_cpus": 1, "name": "n"})
    assert actor.merge({"get_if_exists": True, "lifetime": "detached"}).detached
    with pytest.raises(ValueError, match="concurrency_groups"):
        actor.merge({"concurrency_groups": {}})


def test_a_gpu_task_gets_a_fresh_process_unless_it_says_otherwise_where_it_is_declared() -> None:
    gpu = parse_task_options({"num_gpus": 0.5})
    assert gpu.max_calls == 1
    assert gpu.merge({"num_gpus": 0}).max_calls == 1
    assert parse_task_options({"num_gpus": 1, "max_calls": 0}).max_calls == 0
    assert parse_task_options({}).merge({"num_gpus": 1}).max_calls == 0


def test_an_override_of_get_if_exists_may_come_before_the_name() -> None:
    with pytest.raises(ValueError, match="get_if_exists"):
        ActorOptions().merge({"get_if_exists": True})
    assert ActorOptions().merge({"get_if_exists": True, "name": "a"}).get_if_exists


def test_options_pickle_and_hash_as_values() -> None:
    task = parse_task_options({"retry_exceptions": [ValueError], "num_returns": "dynamic"})
    assert pickle.loads(pickle.dumps(task)) == task
    assert hash(task) == hash(
        parse_task_options({"retry_exceptions": (ValueError,), "num_returns": "dynamic"})
    )
    assert task.retry_exceptions == (ValueError,)
    assert "num_returns" in task.given


def test_strategies_of_the_layer_above_are_accepted() -> None:
    class Mine(SchedulingStrategy):
        pass

    mine = Mine()
    assert parse_task_options({"scheduling_strategy": mine}).scheduling_strategy is mine
    assert parse_actor_options({"scheduling_strategy": "SPREAD"}).scheduling_strategy == "SPREAD"


def test_method_options() -> None:
    method = parse_method_options({"num_returns": 2, "concurrency_group": "io"})
    assert method.merge({"name": "x"}).num_returns == 2
    with pytest.raises(ValueError, match="did you mean 'num_returns'"):
        parse_method_options({"num_return": 2})


@pytest.mark.parametrize(
    ("condition", "value", "met"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("a", None, False),
        ("!a", "b", True),
        ("!a", None, True),
        ("in(a, b)", "b", True),
        ("in(a,b)", "c", False),
        ("!in(a, b)", "c", True),
        ("!in(a, b)", "a", False),
    ],
)
def test_label_conditions(condition: str, value: str | None, met: bool) -> None:
    labels = {} if value is None else {"zone": value}
    assert unmet_labels({"zone": condition}, labels) == ([] if met else [f"zone={condition}"])
    assert unmet_labels(None, labels) == []


def test_remote_is_bare_or_has_keywords_only() -> None:
    check_remote_arguments((len,), {})
    check_remote_arguments((), {"num_cpus": 1})
    wrong: list[tuple[tuple[object, ...], dict[str, object]]] = [
        ((), {}),
        ((len,), {"num_cpus": 1}),
        ((1,), {}),
        ((len, len), {}),
    ]
    for args, kwargs in wrong:
        with pytest.raises(TypeError, match="no parentheses"):
            check_remote_arguments(args, kwargs)
