"""Nothing grows: memory after many calls, descriptors after many actors, threads and files after many clusters."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minray.engine.seam import current

pytestmark = [pytest.mark.cluster]


def _memory_kb(pid: int) -> int:
    """Private memory: what this process alone costs."""
    total = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(("Private_Dirty:", "Private_Clean:")):
            total += int(line.split()[1])
    return total


def _pids(ray: Any) -> list[int]:
    core = current().core
    return [os.getpid(), core.node_pid, *(row["pid"] for row in current().ask("state")["workers"])]


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _until(what: Callable[[], Any], within_s: float = 20.0) -> Any:
    give_up = time.monotonic() + within_s
    while not (found := what()):
        assert time.monotonic() < give_up, "it did not come to that"
        time.sleep(0.02)
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")
def test_memory_is_flat_after_many_tasks_and_calls(
    monkeypatch: pytest.MonkeyPatch, cluster_of: Callable[..., Any]
) -> None:
    monkeypatch.setenv("MINRAY_TRACING", "0")  # the event log is bounded, but fills for longer than this
    ray = cluster_of(num_cpus=2)

    @ray.remote
    def same(x: Any) -> Any:
        return x

    @ray.remote(num_returns=2)
    def both(x: int) -> tuple[int, bytes]:
        return x, b"y" * 6000

    @ray.remote
    class Counter:
        def __init__(self) -> None:
            self.count = 0

        def add(self, x: Any) -> int:
            self.count += 1
            return self.count

    counter = Counter.remote()

    def work(tasks: int, calls: int) -> None:
        for _ in range(0, tasks, 5_000):
            ray.get([same.remote(x) for x in range(4_000)])
            ray.get([same.remote([ref]) for ref in [same.remote(x) for x in range(500)]])
            ray.get([pair[1] for pair in [both.remote(x) for x in range(250)]])
        for _ in range(0, calls, 2_000):
            ray.get([counter.add.remote(x) for x in range(1_900)])
            ray.get([counter.add.remote([ray.put(x)]) for x in range(100)])
        box = ray.put(bytes(200_000))
        ray.get([same.remote(box) for _ in range(100)])

    work(20_000, 4_000)
    gc.collect()
    before = {pid: _memory_kb(pid) for pid in _pids(ray)}
    work(100_000, 20_000)
    gc.collect()
    _until(lambda: not current().core.table)
    growth = {pid: _memory_kb(pid) - before[pid] for pid in _pids(ray) if pid in before}
    assert len(growth) >= 4
    # kB. 120,000 calls that kept one small object each (an ObjectRef is 88 bytes) would be more.
    assert max(growth.values()) < 4_000, growth
    core = current().core
    for table in (
        core.table,
        core.held,
        core.multi,
        core.handing_out,
        core.attempts,
        core.errors,
        core._anchors,
        core._kept,
    ):
        assert not table


def test_actors_that_come_and_go_leave_no_descriptor(cluster: Any) -> None:
    ray = cluster

    @ray.remote
    class Visitor:
        def pid(self) -> int:
            return os.getpid()

    def visit(count: int) -> None:
        visitors = [Visitor.remote() for _ in range(count)]
        pids = ray.get([visitor.pid.remote() for visitor in visitors])
        visitors.clear()
        gc.collect()
        _until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))

    visit(5)
    core = current().core
    before = {pid: _descriptors(pid) for pid in (os.getpid(), core.node_pid)}
    for _ in range(5):
        visit(10)
    _until(lambda: all(_descriptors(pid) <= count + 2 for pid, count in before.items()))
    sockets = [name for name in os.listdir(core.config.session_dir) if name.startswith("p-")]
    assert len(sockets) <= len(_pids(ray))


def test_twenty_clusters_one_after_the_other_leave_nothing(tmp_path: Path) -> None:
    import minray as ray

    @ray.remote
    def one() -> int:
        return 1

    def once() -> None:
        ray.init(num_cpus=1, _temp_dir=str(tmp_path))
        assert ray.get(one.remote()) == 1
        assert len(ray.get(ray.put(bytes(300_000)))) == 300_000
        ray.shutdown()

    once()
    gc.collect()
    threads, descriptors = threading.active_count(), _descriptors(os.getpid())
    for _ in range(20):
        once()
    gc.collect()
    assert threading.active_count() == threads
    assert _descriptors(os.getpid()) <= descriptors
    assert not list(tmp_path.rglob("session_*"))


def test_shutdown_with_work_under_way_is_clean_and_quick(cluster_of: Callable[..., Any]) -> None:
    ray = cluster_of(num_cpus=2)

    @ray.remote
    def nap(s: float) -> None:
        time.sleep(s)

    @ray.remote
    class Napper:
        def nap(self, s: float) -> None:
            time.sleep(s)

    napper = Napper.remote()
    kept = [nap.remote(600) for _ in range(50)] + [napper.nap.remote(600), ray.put(bytes(10**6))]
    ray.wait(kept, timeout=0.2)
    pids = _pids(ray)[1:]
    ray.shutdown()
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    del kept
