"""Do `init`, `shutdown` and their repetitions behave as Ray's? Each test starts its own cluster."""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest

ray: Any = importlib.import_module(os.environ.get("MINRAY_PARITY_ENGINE", "minray"))

pytestmark = pytest.mark.usefixtures("no_cluster")

QUIET: dict[str, Any] = {"include_dashboard": False, "logging_level": "ERROR", "log_to_driver": False}


def test_is_initialized_follows_init_and_shutdown() -> None:
    assert not ray.is_initialized()
    ray.init(num_cpus=1, **QUIET)
    assert ray.is_initialized()
    with pytest.raises(RuntimeError, match="twice"):
        ray.init(num_cpus=1, **QUIET)
    context = ray.init(num_cpus=1, ignore_reinit_error=True, **QUIET)
    assert context is not None
    ray.shutdown()
    assert not ray.is_initialized()
    ray.shutdown()


def test_init_after_shutdown_is_a_fresh_cluster() -> None:
    ray.init(num_cpus=1, **QUIET)
    first = ray.get_runtime_context().get_node_id()
    ref = ray.put(1)
    ray.shutdown()
    ray.init(num_cpus=3, **QUIET)
    assert ray.cluster_resources()["CPU"] == 3
    assert ray.get_runtime_context().get_node_id() != first
    assert ray.get(ray.put(2)) == 2
    del ref


def test_a_remote_function_survives_a_new_session() -> None:
    @ray.remote
    def f() -> int:
        return 7

    @ray.remote
    class A:
        def g(self) -> int:
            return 8

    for _ in range(2):
        ray.init(num_cpus=1, **QUIET)
        assert ray.get(f.remote()) == 7
        assert ray.get(A.remote().g.remote()) == 8
        ray.shutdown()


def test_init_as_a_context_manager_shuts_down() -> None:
    with ray.init(num_cpus=1, **QUIET) as context:
        assert ray.is_initialized()
        assert context.address_info["node_id"] == ray.get_runtime_context().get_node_id()
    assert not ray.is_initialized()


def test_the_first_call_starts_a_cluster_by_itself() -> None:
    @ray.remote
    def f() -> int:
        return 1

    assert ray.get(f.remote()) == 1
    assert ray.is_initialized()


def test_cluster_resources_without_a_cluster_say_so() -> None:
    with pytest.raises(Exception, match="has not been started|not initiali"):
        ray.cluster_resources()


def test_unknown_init_keywords_are_refused() -> None:
    with pytest.raises((RuntimeError, TypeError, ValueError)):
        ray.init(no_such_option=1)
    assert not ray.is_initialized()


def test_init_inside_a_worker_is_told_or_harmless() -> None:
    ray.init(num_cpus=2, **QUIET)

    @ray.remote
    def inside() -> bool:
        try:
            ray.init()
        except RuntimeError:
            pass
        return ray.is_initialized()

    assert ray.get(inside.remote()) is True
    assert ray.get(inside.remote()) is True


def test_a_nested_task_runs_on_one_cpu() -> None:
    ray.init(num_cpus=1, **QUIET)

    @ray.remote
    def down(n: int) -> int:
        return 0 if n == 0 else 1 + ray.get(down.remote(n - 1))

    assert ray.get(down.remote(5)) == 5


def test_without_a_namespace_each_session_has_its_own() -> None:
    ray.init(num_cpus=1, **QUIET)
    first = ray.get_runtime_context().namespace
    assert isinstance(first, str)
    assert first


def test_variables_of_the_job_reach_workers_and_not_the_driver() -> None:
    ray.init(num_cpus=1, runtime_env={"env_vars": {"PARITY_JOB_VARIABLE": "job"}}, **QUIET)

    @ray.remote
    def look() -> str | None:
        return os.environ.get("PARITY_JOB_VARIABLE")

    assert ray.get(look.remote()) == "job"
    assert "PARITY_JOB_VARIABLE" not in os.environ
