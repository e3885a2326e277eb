"""A worker ends after `max_calls` executions: answers leave first, neighbours move on, objects stay."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minray.engine.seam import current

pytestmark = [pytest.mark.cluster]


def _until(what: Callable[[], Any], within_s: float = 30.0) -> Any:
    give_up = time.monotonic() + within_s
    while not (found := what()):
        assert time.monotonic() < give_up, "it did not come to that"
        time.sleep(0.01)
    return found


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _pid() -> int:
    return os.getpid()


def _workers(ray: Any) -> list[int]:
    return [row["pid"] for row in current().ask("state")["workers"]]


def test_in_a_burst_no_worker_runs_it_more_often_and_none_is_lost(cluster: Any) -> None:
    ray = cluster

    @ray.remote(max_calls=3, max_retries=0)  # a lost call would be an error
    def limited(number: int) -> tuple[int, int]:
        return number, os.getpid()

    answers = ray.get([limited.remote(number) for number in range(60)], timeout=120)
    assert [number for number, _ in answers] == list(range(60))
    pids = [pid for _, pid in answers]
    assert max(map(pids.count, pids)) <= 3
    done = {pid for pid in pids if pids.count(pid) == 3}
    assert done
    _until(lambda: not done & set(_workers(ray)))


def test_other_functions_behind_it_move_on_without_a_retry(cluster_of: Callable[..., Any]) -> None:
    ray = cluster_of(num_cpus=1)
    limited = ray.remote(max_calls=1, max_retries=0)(_pid)

    @ray.remote(max_retries=0)
    def other(number: int) -> int:
        return number

    ray.get([other.remote(number) for number in range(50)])  # known to be fast: sent in batches
    refs = [limited.remote() if number % 10 == 5 else other.remote(number) for number in range(60)]
    answers = ray.get(refs, timeout=120)
    assert [a for n, a in enumerate(answers) if n % 10 != 5] == [n for n in range(60) if n % 10 != 5]
    assert len({a for n, a in enumerate(answers) if n % 10 == 5}) == 6
    retried = [event for event in current().events(0).events if type(event).__name__ == "TaskRetried"]
    assert not retried


def test_it_works_nested_on_one_cpu(cluster_of: Callable[..., Any]) -> None:
    ray = cluster_of(num_cpus=1)

    @ray.remote(max_calls=1)
    def parent(depth: int) -> list[int]:
        return [os.getpid(), *(ray.get(parent.remote(depth - 1)) if depth else [])]

    for _ in range(3):
        pids = ray.get(parent.remote(3), timeout=120)
        assert len(set(pids)) == 4


def test_objects_of_a_worker_that_has_done_its_share_are_served_until_nobody_wants_them(cluster: Any) -> None:
    ray = cluster

    @ray.remote(max_calls=1)
    def make() -> tuple[int, Any, Any]:
        return os.getpid(), ray.put(b"x" * 400_000), ray.remote(_pid).remote()

    pid, stored, child = ray.get(make.remote(), timeout=60)
    time.sleep(0.3)
    assert not _gone(pid)
    assert len(ray.get(stored)) == 400_000
    assert ray.get(child, timeout=60) != pid
    del stored, child
    _until(lambda: _gone(pid))


def test_a_large_result_survives_the_worker_that_made_it(cluster: Any) -> None:
    ray = cluster

    @ray.remote(max_calls=1)
    def make() -> tuple[int, bytes]:
        return os.getpid(), b"z" * 2_000_000

    ref = make.remote()
    pid, data = ray.get(ref, timeout=60)
    assert len(data) == 2_000_000
    del ref, data
    _until(lambda: _gone(pid))


def test_the_lease_ends_with_the_last_call_while_the_worker_stays_for_its_objects(
    cluster_of: Callable[..., Any],
) -> None:
    ray = cluster_of(num_cpus=1)

    @ray.remote(max_calls=1)
    def make() -> Any:
        return [ray.put(1)]

    kept = [ray.get(make.remote(), timeout=60) for _ in range(4)]
    assert [ray.get(refs[0]) for refs in kept] == [1] * 4
    _until(lambda: ray.available_resources().get("CPU") == 1.0)


def test_without_a_limit_the_worker_is_kept(cluster_of: Callable[..., Any]) -> None:
    ray = cluster_of(num_cpus=1, num_gpus=1)
    for options in ({"max_calls": 0}, {"num_gpus": 1, "max_calls": 0}):
        task = ray.remote(**options)(_pid)
        assert len({ray.get(task.remote(), timeout=60) for _ in range(5)}) == 1
    gpu = ray.remote(num_gpus=1)(_pid)
    assert len({ray.get(gpu.remote(), timeout=60) for _ in range(3)}) == 3
    assert len({ray.get(gpu.options(num_gpus=0.5).remote(), timeout=60) for _ in range(3)}) == 3


def test_a_cancelled_call_does_not_count(cluster: Any) -> None:
    ray = cluster
    blockers = [ray.remote(time.sleep).remote(60) for _ in range(2)]
    limited = ray.remote(max_calls=1)(_pid)
    queued = limited.remote()
    ray.cancel(queued)
    for ref in [*blockers, queued]:
        ray.cancel(ref)
        with pytest.raises(ray.exceptions.TaskCancelledError):
            ray.get(ref, timeout=60)
    assert ray.get(limited.remote(), timeout=60) > 0
