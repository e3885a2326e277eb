"""Can a task be stopped, looked at and let go from another process?"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

import minray as ray
from minray.util import pdb

pytestmark = pytest.mark.cluster


@pytest.fixture
def cluster() -> Iterator[Any]:
    context = ray.init(num_cpus=2, log_to_driver=False)
    yield context
    ray.shutdown()


def waiting(count: int = 1) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 30
    while len(rows := pdb.breakpoints()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return rows


def say(*lines: str, breakpoint_id: str = "") -> str:
    """Type these at the prompt; returns what pdb printed."""
    printed: list[str] = []
    left = list(lines)
    pdb.connect(breakpoint_id, read_line=lambda prompt: left.pop(0), write=printed.append)
    return "".join(printed)


@ray.remote
def stops(value: int) -> int:
    doubled = 2 * value
    breakpoint()  # noqa: T100
    return doubled + 1


def test_a_breakpoint_in_a_task_waits_and_shows_its_variables(cluster: Any) -> None:
    ref = stops.remote(20)
    (row,) = waiting()
    assert row["task"] == "stops" and __file__ in row["where"]
    text = say("p doubled", "doubled = 100", "continue")
    assert "40" in text and "stops()" in text  # which line it is depends on the version of Python
    assert ray.get(ref, timeout=30) == 101
    assert pdb.breakpoints() == []


def test_stepping_and_breakpoints_keep_the_connection(cluster: Any) -> None:
    ref = stops.remote(1)
    waiting()
    text = say("next", "next", "continue")
    assert "--Return--" in text
    assert ray.get(ref, timeout=30) == 3


def test_quitting_ends_the_task(cluster: Any) -> None:
    ref = stops.options(max_retries=0).remote(1)
    waiting()
    say("quit")
    with pytest.raises(ray.exceptions.RayTaskError, match="BdbQuit"):
        ray.get(ref, timeout=30)


def test_a_debugger_that_goes_away_lets_the_task_run_on(cluster: Any) -> None:
    ref = stops.remote(3)
    waiting()

    def hang_up(prompt: str) -> str:
        raise EOFError

    pdb.connect(read_line=hang_up, write=lambda text: None)
    assert ray.get(ref, timeout=30) == 7


def test_several_are_told_apart_by_their_ids(cluster: Any) -> None:
    refs = [stops.remote(1), stops.remote(2)]
    rows = waiting(2)
    with pytest.raises(ValueError, match="Name one"):
        pdb.connect()
    for row in rows:
        say("continue", breakpoint_id=row["id"])
    assert sorted(ray.get(refs, timeout=30)) == [3, 5]
    with pytest.raises(ValueError, match="Nothing waits"):
        pdb.connect()


def test_post_mortem_stops_where_the_exception_was_raised(cluster: Any) -> None:
    @ray.remote
    class Actor:
        def work(self) -> str:
            try:
                secret = 42
                raise KeyError(secret)
            except KeyError:
                pdb.post_mortem()
            return "went on"

    ref = Actor.remote().work.remote()
    (row,) = waiting()
    assert "KeyError" in row["error"]
    assert "42" in say("p secret", "continue")
    assert ray.get(ref, timeout=30) == "went on"
    with pytest.raises(ValueError, match="traceback"):
        pdb.post_mortem()


def test_the_command_attaches_from_another_terminal(cluster: Any) -> None:
    ref = stops.remote(5)
    waiting()
    command = [sys.executable, "-m", "minray", "debug", "--address", cluster.address_info["session_dir"]]
    listed = subprocess.run([*command, "--list"], capture_output=True, text=True, timeout=60)
    assert "stops (pid" in listed.stdout and listed.returncode == 0
    told = subprocess.run(command, input="p doubled\ncontinue\n", capture_output=True, text=True, timeout=60)
    assert "10" in told.stdout and told.returncode == 0, told.stderr
    assert ray.get(ref, timeout=30) == 11
    nothing = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert nothing.returncode == 1 and "Nothing waits" in nothing.stderr
