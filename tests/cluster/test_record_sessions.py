"""A recording and the life of the cluster: before `init`, across `shutdown`, without tracing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import minray
from minray.base import events as ev

pytestmark = [pytest.mark.cluster]


def _program(ray: Any) -> None:
    @ray.remote
    def leaf() -> int:
        return 1

    @ray.remote
    def parent() -> int:
        return int(ray.get(leaf.remote()))

    assert ray.get(parent.remote()) == 1


def _names(run: Any) -> list[str]:
    return sorted(event.name.rpartition(".")[2] for event in run if isinstance(event, ev.TaskFinished))


def test_a_block_that_contains_init_and_shutdown_is_recorded_whole() -> None:
    with minray.record() as run:
        minray.init(num_cpus=2)
        _program(minray)
        minray.shutdown()
        minray.init(num_cpus=2)
        _program(minray)
        minray.shutdown()
    assert _names(run) == ["leaf", "leaf", "parent", "parent"]
    assert run.complete, run.gaps


def test_a_run_stays_readable_after_shutdown(cluster_of: Callable[..., Any]) -> None:
    ray = cluster_of(num_cpus=2)
    with minray.record() as run:
        _program(ray)
    minray.shutdown()
    assert _names(run) == ["leaf", "parent"] and "2 tasks" in repr(run)


def test_a_block_without_a_cluster_is_an_empty_run() -> None:
    with minray.record() as run:
        pass
    assert run.events == () and run.complete


def test_without_tracing_a_run_says_that_nothing_is_recorded(
    cluster_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINRAY_TRACING", "0")
    ray = cluster_of(num_cpus=1)
    with minray.record() as run:
        _program(ray)
    assert not run.complete and "tracing is off" in run.gaps[0]
