"""An idle cluster costs next to nothing: nobody wakes up, and workers that nobody needs go."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minray.engine.seam import current

pytestmark = [pytest.mark.cluster]


def _wake_ups(pid: int) -> int:
    """Voluntary context switches of all threads: each is a sleep that ended."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in status.read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total


def _tree(pid: int) -> list[int]:
    found = [pid]
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += _tree(int(child))
    return found


def test_an_idle_cluster_does_not_wake_up(cluster: Any) -> None:
    ray = cluster

    @ray.remote
    def one(x: int) -> int:
        return x

    @ray.remote
    class Counter:
        def add(self) -> int:
            return 1

    @ray.remote
    class Async:
        async def add(self) -> int:
            return 1

    actors = [Counter.remote(), Async.remote()]
    ray.get([actor.add.remote() for actor in actors])
    ray.get([one.remote(x) for x in range(500)])
    box = ray.put(bytes(300_000))
    pids = _tree(current().core.node_pid)
    time.sleep(1.0)  # leases go back, timers run out
    before = {pid: _wake_ups(pid) for pid in pids}
    mine = _threads_of_ours()
    time.sleep(2.0)
    grown = {pid: _wake_ups(pid) - before[pid] for pid in pids}
    assert sum(grown.values()) <= 20, grown
    assert sum(count - mine[name] for name, count in _threads_of_ours().items()) <= 10
    assert len(ray.get(box)) == 300_000


def _threads_of_ours() -> dict[str, int]:
    """Wake-ups of the driver's threads that minray started."""
    main = os.getpid()
    found = {}
    for task in Path(f"/proc/{main}/task").iterdir():
        if int(task.name) != main:
            text = (task / "status").read_text()
            found[task.name] = int(text.split("voluntary_ctxt_switches:")[1].split()[0])
    return found


def test_workers_idle_for_long_are_given_back_and_come_again(
    monkeypatch: pytest.MonkeyPatch, cluster_of: Callable[..., Any]
) -> None:
    import minray.api.init as init

    whole = init.SessionConfig
    monkeypatch.setattr(
        init, "SessionConfig", lambda **options: dataclasses.replace(whole(**options), idle_worker_s=0.3)
    )
    ray = cluster_of(num_cpus=2)

    @ray.remote
    def pid() -> int:
        time.sleep(0.05)
        return os.getpid()

    @ray.remote
    def lasting() -> Any:
        return [ray.put(7)]

    @ray.remote
    class Stays:
        def pid(self) -> int:
            return os.getpid()

    actor = Stays.remote()
    actor_pid = ray.get(actor.pid.remote())
    first = set(ray.get([pid.remote() for _ in range(8)]))
    give_up = time.monotonic() + 20
    while any(os.path.exists(f"/proc/{one}") for one in first):
        assert time.monotonic() < give_up, "they are still there"
        time.sleep(0.05)
    assert ray.get(actor.pid.remote()) == actor_pid
    assert not first & set(ray.get([pid.remote() for _ in range(8)]))
    # One whose objects are still wanted stays as long as they are.
    (ref,) = ray.get(lasting.remote())
    time.sleep(1.0)
    assert ray.get(ref) == 7
