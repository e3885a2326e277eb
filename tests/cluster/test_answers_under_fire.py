"""Whoever waits is answered, however it waits: futures, callbacks, await, threads; workers killed, all of it stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from minray.engine.seam import current
from tests.chaos.program import Program

pytestmark = [pytest.mark.cluster, pytest.mark.chaos]
COUNT = 60


@contextmanager
def _deaths(every_s: float = 0.1) -> Iterator[None]:
    over = threading.Event()

    def run() -> None:
        while not over.wait(every_s):
            pids = [row["pid"] for row in current().ask("state")["workers"] if row["pid"] > 1]  # 0: not forked yet
            for pid in pids[:1]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.fixture
def slow(cluster: Any) -> Any:
    @cluster.remote(max_retries=-1)
    def slow(x: int) -> int:
        time.sleep(0.01)
        return x

    return slow


def test_futures_and_callbacks_come_while_workers_die(slow: Any) -> None:
    heard: list[int] = []
    with _deaths():
        refs = [slow.remote(x) for x in range(COUNT)]
        futures = [ref.future() for ref in refs]
        for ref in refs:
            ref._on_completed(heard.append)
        assert [future.result(timeout=60) for future in futures] == list(range(COUNT))
    give_up = time.monotonic() + 20
    while len(heard) < COUNT and time.monotonic() < give_up:
        time.sleep(0.01)
    assert sorted(heard) == list(range(COUNT))


def test_an_event_loop_awaits_while_workers_die(slow: Any) -> None:
    async def all_of_them() -> list[int]:
        return await asyncio.wait_for(asyncio.gather(*[slow.remote(x) for x in range(COUNT)]), 60)

    with _deaths():
        assert asyncio.run(all_of_them()) == list(range(COUNT))


def test_many_threads_get_while_workers_die(cluster: Any, slow: Any) -> None:
    def fetch(x: int) -> int:
        return cluster.get(slow.remote(x), timeout=60)  # type: ignore[no-any-return]

    with _deaths(), ThreadPoolExecutor(8) as pool:
        assert list(pool.map(fetch, range(COUNT))) == list(range(COUNT))


def test_a_future_of_a_task_that_may_not_run_again_names_the_task_and_the_signal(cluster: Any) -> None:
    @cluster.remote(max_retries=0)
    def doomed() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    error = doomed.remote().future().exception(timeout=60)
    assert isinstance(error, cluster.exceptions.WorkerCrashedError)
    assert "doomed" in str(error) and "SIGKILL" in str(error)


_STOPPED = """
import time
import minray as ray
ray.init(num_cpus=2, log_to_driver=False)

@ray.remote(max_retries=0)
def nap(x):
    time.sleep(0.02)
    return x

@ray.remote
class Counter:
    def __init__(self):
        self.count = 0
    def add(self):
        self.count += 1
        return self.count

counter = Counter.remote()
rounds = 0
print("READY", flush=True)
began = time.time()
while time.time() - began < 5:
    rounds += 1
    assert ray.get([nap.remote(i) for i in range(8)]) == list(range(8))
    assert ray.get(counter.add.remote()) == rounds  # neither repeated nor restarted
print("DONE", flush=True)
ray.shutdown()
"""


def _descendants(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += _descendants(int(child))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_closed_lid_kills_nothing(tmp_path: Path) -> None:
    with Program(tmp_path / "stopped.py", _STOPPED) as program:
        program.line("READY")
        time.sleep(0.5)
        pids = _descendants(program.pid)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        time.sleep(3)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        program.line("DONE")
        assert program.end()[2] == 0
