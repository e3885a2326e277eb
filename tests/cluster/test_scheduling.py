"""Who runs where, and when: nobody waits for what is free, nobody takes what is not."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.cluster]


def _until(what: Callable[[], Any], within_s: float = 20.0) -> None:
    give_up = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < give_up, "it did not come to that"
        time.sleep(0.01)


def _gate(path: str) -> None:
    while not os.path.exists(path):
        time.sleep(0.005)


@pytest.mark.parametrize("position", [0, 7, 50])
def test_no_task_waits_behind_a_long_one_while_another_worker_is_idle(
    cluster: Any, tmp_path: Path, position: int
) -> None:
    ray = cluster

    @ray.remote
    def maybe_long(door: str) -> int:
        if door:
            _gate(door)
        return os.getpid()

    ray.get([maybe_long.remote("") for _ in range(2000)])  # warm: known to be fast, so sent in batches
    door = str(tmp_path / "door")
    refs = [maybe_long.remote(door if x == position else "") for x in range(100)]
    long = refs.pop(position)
    ray.get(refs, timeout=60)  # all the others, while the long one runs
    assert ray.wait([long], timeout=0)[0] == []
    Path(door).touch()
    ray.get(long, timeout=60)


def test_a_finished_task_is_not_held_back_by_a_long_one_behind_it(
    cluster_of: Callable[..., Any], tmp_path: Path
) -> None:
    ray = cluster_of(num_cpus=1)

    @ray.remote
    def maybe_long(door: str) -> int:
        if door:
            _gate(door)
        return 1

    ray.get([maybe_long.remote("") for _ in range(2000)])
    door = str(tmp_path / "door")
    refs = [maybe_long.remote(door if x == 40 else "") for x in range(80)]
    assert ray.get(refs[:40], timeout=60) == [1] * 40
    assert ray.wait(refs[40:], timeout=0)[0] == []
    Path(door).touch()
    ray.get(refs, timeout=60)


def test_two_functions_of_one_shape_share_its_workers(cluster_of: Callable[..., Any]) -> None:
    ray = cluster_of(num_cpus=1)

    @ray.remote
    def inner(x: int) -> int:
        return x

    @ray.remote
    def outer(x: int) -> int:
        return sum(ray.get([inner.remote(x), inner.remote(x)]))

    assert ray.get([outer.remote(x) for x in range(20)], timeout=60) == [2 * x for x in range(20)]


def test_nested_tasks_go_sixty_deep_on_one_cpu_and_as_deep_again_at_once(
    cluster_of: Callable[..., Any],
) -> None:
    ray = cluster_of(num_cpus=1)

    @ray.remote
    def deep(n: int) -> int:
        return 0 if n == 0 else 1 + ray.get(deep.remote(n - 1))

    @ray.remote
    def fib(n: int) -> int:
        return n if n < 2 else sum(ray.get([fib.remote(n - 1), fib.remote(n - 2)]))

    assert ray.get(deep.remote(60), timeout=100) == 60
    assert ray.get(deep.remote(60), timeout=100) == 60
    assert ray.get(fib.remote(8), timeout=100) == 21
    _until(
        lambda: ray.available_resources().get("CPU") == 1
    )  # workers give their own leases back in a moment


def test_a_second_owner_gets_its_turn_while_the_first_has_a_long_queue(cluster: Any) -> None:
    ray = cluster

    @ray.remote
    def nap(s: float) -> float:
        time.sleep(s)
        return time.perf_counter()

    @ray.remote(num_cpus=0)
    def owner() -> float:
        return max(ray.get([nap.remote(0.02) for _ in range(4)]))

    many = [nap.remote(0.05) for _ in range(60)]
    ray.wait(many, num_returns=2)
    theirs = ray.get(owner.remote(), timeout=60)
    assert theirs < max(ray.get(many, timeout=60))


def test_resources_are_never_given_twice(cluster_of: Callable[..., Any], tmp_path: Path) -> None:
    ray = cluster_of(num_cpus=4, resources={"disk": 1})

    @ray.remote
    def busy(name: str) -> int:
        mine = tmp_path / f"{name}-{os.getpid()}-{time.perf_counter_ns()}"
        mine.touch()
        count = len(list(tmp_path.glob(f"{name}-*")))
        time.sleep(0.05)
        mine.unlink()
        return count

    quarter = busy.options(num_cpus=0.25)
    assert max(ray.get([quarter.remote("a") for _ in range(32)], timeout=60)) <= 16
    half = busy.options(num_cpus=0, resources={"disk": 0.5})
    assert max(ray.get([half.remote("b") for _ in range(8)], timeout=60)) == 2
    assert max(ray.get([busy.options(num_cpus=3).remote("c") for _ in range(4)], timeout=60)) == 1
    assert ray.available_resources() == ray.cluster_resources()


def test_each_task_sees_the_gpus_that_it_holds_and_no_other(cluster_of: Callable[..., Any]) -> None:
    ray = cluster_of(num_cpus=4, num_gpus=2)

    @ray.remote
    def visible() -> tuple[str, list[int]]:
        time.sleep(0.05)
        return os.environ.get("CUDA_VISIBLE_DEVICES", "unset"), ray.get_gpu_ids()

    assert ray.get(visible.remote()) == ("", [])
    ones = ray.get([visible.options(num_gpus=1).remote() for _ in range(6)], timeout=60)
    assert {ids[0] for _, ids in ones} == {0, 1}
    assert all(text == ",".join(map(str, ids)) for text, ids in ones)
    assert ray.get(visible.options(num_gpus=2).remote(), timeout=60) == ("0,1", [0, 1])
    halves = ray.get([visible.options(num_gpus=0.5).remote() for _ in range(4)], timeout=60)
    assert all(len(ids) == 1 for _, ids in halves)

    @ray.remote(num_gpus=1)
    class Holder:
        def ids(self) -> tuple[str, list[int]]:
            return os.environ["CUDA_VISIBLE_DEVICES"], ray.get_gpu_ids()

    holders = [Holder.remote() for _ in range(2)]
    assert sorted(ray.get([holder.ids.remote() for holder in holders], timeout=60)) == [
        ("0", [0]),
        ("1", [1]),
    ]
    assert ray.get(visible.remote()) == ("", [])


def test_available_resources_are_true_at_once(cluster: Any, tmp_path: Path) -> None:
    ray = cluster
    door = str(tmp_path / "door")

    @ray.remote
    def waits() -> None:
        _gate(door)

    for _ in range(20):
        ray.get(ray.remote(lambda: 1).remote())
        assert ray.available_resources()["CPU"] == 2
    running = waits.remote()
    _until(lambda: ray.available_resources()["CPU"] == 1)
    Path(door).touch()
    ray.get(running, timeout=60)
    assert ray.available_resources()["CPU"] == 2


def test_what_can_never_run_is_named_within_seconds_and_holds_up_nobody(cluster: Any) -> None:
    ray = cluster

    @ray.remote
    def one() -> int:
        return 1

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        impossible = [one.options(num_cpus=8).remote(), one.options(resources={"unobtainium": 1}).remote()]
        assert ray.get([one.remote() for _ in range(200)], timeout=60) == [1] * 200

        def texts() -> str:
            ray.wait(impossible, timeout=0.05)
            return " ".join(str(warning.message) for warning in caught)

        _until(lambda: "CPU: 8" in texts() and "unobtainium: 1" in texts())
    assert ray.wait(impossible, num_returns=2, timeout=0)[0] == []


def test_a_blocked_task_lends_its_cpu_and_keeps_the_rest(cluster_of: Callable[..., Any]) -> None:
    ray = cluster_of(num_cpus=1, resources={"disk": 1})

    @ray.remote
    def free() -> dict[str, float]:
        return dict(ray.available_resources())

    @ray.remote(resources={"disk": 1})
    def waits() -> dict[str, float]:
        return ray.get(free.remote())  # type: ignore[no-any-return]

    seen = ray.get(waits.remote(), timeout=60)
    assert seen.get("CPU", 0) == 0 and seen.get("disk", 0) == 0


def test_tasks_submitted_while_another_thread_waits_leave_at_once(cluster: Any, tmp_path: Path) -> None:
    import threading

    ray = cluster

    @ray.remote
    def touch(name: str) -> None:
        (tmp_path / name).touch()

    @ray.remote(num_cpus=0)
    def never() -> None:
        _gate(str(tmp_path / "never"))

    ray.get([touch.remote("warm") for _ in range(10)])
    waiter = threading.Thread(target=lambda: ray.get(never.remote()))
    waiter.start()
    time.sleep(0.2)  # it leads now, in a poll without end
    refs = [touch.remote(f"t{x}") for x in range(30)]  # a burst, and no `get` that would flush it
    _until(lambda: len(list(tmp_path.glob("t*"))) == 30)
    (tmp_path / "never").touch()
    waiter.join(60)
    ray.get(refs, timeout=60)
