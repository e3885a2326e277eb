"""Does an actor's story stay whole: late arguments, last words, threads, ends?"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest

import minray as ray

pytestmark = pytest.mark.cluster

WAIT_S = 60


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Any:
    """Three CPUs, shared by the module."""
    ray.init(num_cpus=3, log_to_driver=False)
    yield
    ray.shutdown()


def get(refs: Any) -> Any:
    """Get, but never for ever."""
    return ray.get(refs, timeout=WAIT_S)


def eventually(claim: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Wait until `claim` holds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if claim():
            return True
        time.sleep(0.02)
    return False


@ray.remote
def when_there(path: str) -> int:
    """1, once the file is there."""
    while not os.path.exists(path):
        time.sleep(0.01)
    return 1


@ray.remote
def fail() -> None:
    """Fail."""
    raise KeyError("argument")


@ray.remote
class Box:
    """Keeps a value."""

    def __init__(self, value: Any = 0) -> None:
        self.value = value

    def read(self) -> Any:
        """The value."""
        return self.value

    def pid(self) -> int:
        """Whose process."""
        return os.getpid()


@ray.remote(num_cpus=0)
def read_from(boxes: list[Any]) -> Any:
    """Ask a box from another process."""
    return ray.get(boxes[0].read.remote())


# ------------------------------------------------------------------------------------ late arguments
def test_a_handle_given_away_before_its_constructor_could_run_works(tmp_path: Any) -> None:
    box = Box.remote(when_there.remote(str(tmp_path / "go")))
    asked = read_from.remote([box])
    time.sleep(0.2)
    (tmp_path / "go").touch()
    assert get(asked) == 1


def test_a_name_is_taken_while_the_arguments_are_late(tmp_path: Any) -> None:
    late = when_there.remote(str(tmp_path / "go"))
    box = Box.options(name="late").remote(late)
    with pytest.raises(ray.exceptions.ActorAlreadyExistsError, match="late"):
        Box.options(name="late").remote(late)
    found = ray.get_actor("late")
    (tmp_path / "go").touch()
    assert get([found.read.remote(), box.read.remote()]) == [1, 1]


def test_everybody_hears_that_an_argument_failed() -> None:
    box = Box.remote(fail.remote())
    with pytest.raises(ray.exceptions.ActorDiedError, match="argument"):
        get(box.read.remote())
    with pytest.raises(ray.exceptions.ActorDiedError, match="argument"):
        get(read_from.remote([box]))


def test_an_actor_killed_while_its_arguments_are_late_stays_dead(tmp_path: Any) -> None:
    box = Box.remote(when_there.remote(str(tmp_path / "go")))
    asked = box.read.remote()
    ray.kill(box)
    with pytest.raises(ray.exceptions.ActorDiedError):
        get(asked)
    (tmp_path / "go").touch()
    with pytest.raises(ray.exceptions.ActorDiedError):
        get(box.read.remote())


def test_no_call_reaches_an_actor_after_it_was_killed() -> None:
    for _ in range(5):
        box = Box.options(num_cpus=0).remote()
        get(box.read.remote())
        ray.kill(box)
        with pytest.raises(ray.exceptions.ActorDiedError):
            get(box.read.remote())


def test_a_call_after_a_kill_with_restart_reaches_the_new_process() -> None:
    box = Box.options(num_cpus=0, max_restarts=-1, max_task_retries=-1).remote()
    for _ in range(4):
        pid = get(box.pid.remote())
        ray.kill(box, no_restart=False)
        assert get(box.pid.remote()) != pid
