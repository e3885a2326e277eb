"""Is the order of an actor's calls kept while its process is killed at random instants?

Every call that runs appends one line to a file: which process, whose call, which number. The file is
read against what the callers were told.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from typing import Any

import pytest

import minray as ray

pytestmark = pytest.mark.cluster

CALLS = 400
WAIT_S = 120


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Any:
    """Four CPUs, shared by the module."""
    ray.init(num_cpus=4, log_to_driver=False)
    yield
    ray.shutdown()


@ray.remote(num_cpus=0)
class Log:
    """Writes down what runs, with one system call, so that a line is there whole or not at all."""

    def __init__(self, path: str) -> None:
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.pid = os.getpid()

    def add(self, who: str, i: int) -> int:
        """One call."""
        os.write(self.file, f"{self.pid} {who} {i}\n".encode())
        return i


@ray.remote(num_cpus=0)
def later(i: int) -> int:
    """An argument that is not ready at once."""
    time.sleep(0.002)
    return i


@ray.remote(num_cpus=0)
def call_many(logs: list[Any], who: str, count: int, seed: int) -> list[Any]:
    """Make calls in bursts, some with arguments that are late; what became of each: its number or an error's name."""
    chance = random.Random(seed)
    refs = []
    for i in range(count):
        late = chance.random() < 0.1
        refs.append(logs[0].add.remote(who, later.remote(i) if late else i))
        if chance.random() < 0.3:
            time.sleep(chance.random() * 0.01)
    outcome: list[Any] = []
    for ref in refs:
        try:
            outcome.append(ray.get(ref, timeout=WAIT_S))
        except ray.exceptions.RayActorError as error:
            outcome.append(type(error).__name__)
    return outcome


class Killer:
    """Kills the actor's process now and then, as long as calls are made."""

    def __init__(self, path: str, seed: int, kills: int) -> None:
        self.path = path
        self.chance = random.Random(seed)
        self.left = kills
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        killed: set[int] = set()
        while self.left and not self.over.wait(self.chance.random() * 0.05):
            lines = read(self.path)
            if lines and lines[-1][0] not in killed:
                killed.add(lines[-1][0])
                self.left -= 1
                try:
                    os.kill(lines[-1][0], signal.SIGKILL)
                except ProcessLookupError:
                    pass

    def stop(self) -> None:
        """No more."""
        self.over.set()
        self.thread.join()


def read(path: str) -> list[tuple[int, str, int]]:
    """What ran, in order."""
    if not os.path.exists(path):
        return []
    with open(path) as file:
        parts = [line.split() for line in file.read().split("\n")[:-1]]
    return [(int(pid), who, int(i)) for pid, who, i in parts]


def run(
    path: str, seed: int, retries: int, callers: int
) -> tuple[list[tuple[int, str, int]], dict[str, list[Any]]]:
    """Callers and a killer at work; the file's lines and the outcomes by caller."""
    log = Log.options(max_restarts=-1, max_task_retries=retries).remote(path)
    killer = Killer(path, seed, 5)
    refs = {f"c{n}": call_many.remote([log], f"c{n}", CALLS, seed + n) for n in range(callers)}
    outcomes = {who: ray.get(ref, timeout=WAIT_S) for who, ref in refs.items()}
    killer.stop()
    ray.kill(log)
    lines = read(path)
    assert len({pid for pid, _, _ in lines}) > 2, "hardly anything was killed"
    return lines, outcomes


@pytest.mark.parametrize("seed", [1, 2])
def test_without_retries_no_call_runs_twice_and_order_holds(tmp_path: Any, seed: int) -> None:
    lines, outcomes = run(str(tmp_path / "log"), seed, retries=0, callers=2)
    for who, outcome in outcomes.items():
        ran = [i for _, caller, i in lines if caller == who]
        assert ran == sorted(set(ran)), "a call ran twice, or before one that was made earlier"
        answered = [i for i in outcome if isinstance(i, int)]
        assert set(answered) <= set(ran)
        assert {i for i in outcome if not isinstance(i, int)} <= {"ActorUnavailableError"}
        assert len(outcome) == CALLS


@pytest.mark.parametrize("seed", [3, 4])
def test_with_retries_every_call_is_answered_and_runs_again_in_order(tmp_path: Any, seed: int) -> None:
    lines, outcomes = run(str(tmp_path / "log"), seed, retries=-1, callers=2)
    for who, outcome in outcomes.items():
        assert outcome == list(range(CALLS))
        seen = -1
        for pid in dict.fromkeys(pid for pid, _, _ in lines):
            ran = [i for process, caller, i in lines if process == pid and caller == who]
            if not ran:
                continue
            assert ran == list(range(ran[0], ran[0] + len(ran))), (
                "a process ran calls out of order, or left one out"
            )
            assert ran[0] <= seen + 1, "a call was left out between two processes"
            seen = max(seen, ran[-1])
        assert seen == CALLS - 1
