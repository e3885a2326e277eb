"""Does `cancel` stop what Ray stops, and do its errors, its flags and `max_calls` behave as Ray's?

Left out are the cases in which Ray 2.60 itself fails, which `tests/cluster/test_cancel.py` states for
minray alone: a task that waits for an argument (Ray aborts the driver), an actor's call that waits for
one (Ray answers nothing of that actor any more), a call that waits in the actor (Ray runs it; if the
actor is async, Ray now and then answers only when the call before it has ended).
"""

from __future__ import annotations

import asyncio
import importlib
import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ray: Any = importlib.import_module(os.environ.get("MINRAY_PARITY_ENGINE", "minray"))

pytestmark = pytest.mark.usefixtures("cluster")
LONG_S = 60.0


def eventually(claim: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Wait until `claim` holds, on real Ray some seconds late."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if claim():
            return True
        time.sleep(0.02)
    return False


def gone(pid: int) -> bool:
    """Whether no such process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def sleeper() -> Any:
    """A task that says in a file that it runs, and notes an interrupt in another."""

    def sleep(path: str) -> str:
        Path(path).write_text(str(os.getpid()))
        try:
            end = time.monotonic() + LONG_S
            while time.monotonic() < end:
                time.sleep(0.01)
        except KeyboardInterrupt:
            Path(path + ".interrupted").touch()
            raise
        return "slept"

    return ray.remote(sleep)


def actor_class() -> Any:
    """An actor of ordinary methods that run for a while."""

    class Worker:
        def __init__(self) -> None:
            self.ended: list[str] = []

        def work(self, path: str, gate: str) -> str:
            Path(path).touch()
            end = time.monotonic() + LONG_S
            while not Path(gate).exists() and time.monotonic() < end:
                time.sleep(0.01)
            self.ended.append("work")
            return "worked"

        def until_told(self, path: str) -> str:
            Path(path).touch()
            end = time.monotonic() + LONG_S
            while time.monotonic() < end:
                if ray.get_runtime_context().is_canceled():
                    self.ended.append("told")
                    return "told"
                time.sleep(0.01)
            self.ended.append("never told")
            return "never told"

        def nested(self, task: Any, path: str) -> Any:
            return ray.get(task.remote(path))

        def log(self) -> list[str]:
            return self.ended

    return ray.remote(Worker)


def async_class() -> Any:
    """An actor of coroutines."""

    def say(path: str) -> None:
        Path(path).touch()

    class Waiter:
        def __init__(self) -> None:
            self.seen: list[str] = []

        async def wait(self, path: str) -> str:
            say(path)
            try:
                await asyncio.sleep(LONG_S)
            except asyncio.CancelledError:
                self.seen.append("CancelledError")
                raise
            return "waited"

        async def insist(self, path: str) -> str:
            say(path)
            try:
                await asyncio.sleep(LONG_S)
            except asyncio.CancelledError:
                self.seen.append("insisted")
            return "insisted"

        async def child(self, task: Any, path: str) -> Any:
            return await task.remote(path)

        async def give_up(self) -> None:
            raise asyncio.CancelledError

        async def flag(self) -> bool:
            return bool(ray.get_runtime_context().is_canceled())

        async def log(self) -> list[str]:
            return self.seen

    return ray.remote(Waiter)


def started(path: Path) -> None:
    """Wait until the task has said that it runs."""
    assert eventually(path.exists)


def cancelled(ref: Any) -> Any:
    """The TaskCancelledError that `get` raises."""
    with pytest.raises(ray.exceptions.TaskCancelledError) as caught:
        ray.get(ref, timeout=60)
    return caught.value


# ------------------------------------------------------------------------------------------- tasks
def test_a_running_task_is_interrupted_and_get_raises_a_task_error_that_is_a_cancelled_error(
    tmp_path: Path,
) -> None:
    ref = sleeper().remote(str(tmp_path / "a"))
    started(tmp_path / "a")
    assert ray.cancel(ref) is None
    error = cancelled(ref)
    assert isinstance(error, ray.exceptions.RayTaskError)
    assert isinstance(error.cause, ray.exceptions.TaskCancelledError)
    assert "sleep" in str(error) and "was cancelled" in str(error) and error.task_id is not None
    assert (tmp_path / "a.interrupted").exists()


def test_cancelling_twice_changes_nothing(tmp_path: Path) -> None:
    ref = sleeper().remote(str(tmp_path / "a"))
    started(tmp_path / "a")
    ray.cancel(ref)
    cancelled(ref)
    ray.cancel(ref)
    cancelled(ref)


def test_the_worker_of_an_interrupted_task_goes_on(tmp_path: Path) -> None:
    @ray.remote
    def pid() -> int:
        return os.getpid()

    ref = sleeper().options(resources={"special": 2}).remote(str(tmp_path / "a"))
    started(tmp_path / "a")
    ray.cancel(ref)
    cancelled(ref)
    assert not gone(int((tmp_path / "a").read_text()))
    assert ray.get(pid.options(resources={"special": 2}).remote(), timeout=60) > 0


def test_force_ends_the_worker_process(tmp_path: Path) -> None:
    ref = sleeper().remote(str(tmp_path / "a"))
    started(tmp_path / "a")
    ray.cancel(ref, force=True)
    error = cancelled(ref)
    assert not isinstance(error, ray.exceptions.RayTaskError)
    assert eventually(lambda: gone(int((tmp_path / "a").read_text())))
    assert not (tmp_path / "a.interrupted").exists()


def test_a_task_that_ignores_the_interrupt_is_ended_by_force(tmp_path: Path) -> None:
    @ray.remote(max_retries=2)
    def stubborn(path: str) -> None:
        with open(path, "a") as file:
            file.write("x")
        end = time.monotonic() + LONG_S
        while time.monotonic() < end:
            try:
                time.sleep(0.01)
            except KeyboardInterrupt:
                Path(path + ".ignored").touch()

    ref = stubborn.remote(str(tmp_path / "a"))
    started(tmp_path / "a")
    ray.cancel(ref)
    started(tmp_path / "a.ignored")
    assert ray.wait([ref], timeout=0.2) == ([], [ref])
    ray.cancel(ref, force=True)
    cancelled(ref)
    assert (tmp_path / "a").read_text() == "x"


@pytest.mark.parametrize("force", [False, True])
def test_a_queued_task_never_runs(tmp_path: Path, force: bool) -> None:
    task = sleeper().options(resources={"special": 2})
    first = task.remote(str(tmp_path / "a"))
    started(tmp_path / "a")
    second = task.remote(str(tmp_path / "b"))
    ray.cancel(second, force=force)
    error = cancelled(second)
    assert not isinstance(error, ray.exceptions.RayTaskError)
    ray.cancel(first)
    cancelled(first)
    assert ray.get(ray.remote(resources={"special": 2})(lambda: 1).remote(), timeout=60) == 1
    assert not (tmp_path / "b").exists()


def test_a_finished_task_keeps_its_value() -> None:
    ref = ray.remote(lambda: 5).remote()
    assert ray.get(ref) == 5
    ray.cancel(ref)
    ray.cancel(ref, force=True)
    assert ray.get(ref) == 5


def test_cancelling_a_put_object_does_nothing() -> None:
    ref = ray.put([1, 2])
    assert ray.cancel(ref) is None
    assert ray.get(ref) == [1, 2]


@pytest.mark.parametrize("what", [3, None, "ref", []])
def test_only_references_can_be_cancelled(what: Any) -> None:
    with pytest.raises(TypeError, match="only supported for object refs"):
        ray.cancel(what)


def test_force_and_recursive_are_named() -> None:
    with pytest.raises(TypeError):
        ray.cancel(ray.put(1), True)


def test_a_task_that_catches_the_interrupt_and_returns_has_its_value(tmp_path: Path) -> None:
    @ray.remote
    def tidy(path: str) -> str:
        Path(path).touch()
        try:
            for _ in range(6000):
                time.sleep(0.01)
        except KeyboardInterrupt:
            return "tidied"
        return "slept"

    ref = tidy.remote(str(tmp_path / "a"))
    started(tmp_path / "a")
    ray.cancel(ref)
    assert ray.get(ref, timeout=60) == "tidied"


def test_another_exception_on_the_way_out_is_the_task_s_and_no_retry_follows(tmp_path: Path) -> None:
    @ray.remote(max_retries=3, retry_exceptions=True)
    def clumsy(path: str) -> None:
        with open(path, "a") as file:
            file.write("x")
        try:
            for _ in range(6000):
                time.sleep(0.01)
        except KeyboardInterrupt:
            raise ValueError("on the way out") from None

    ref = clumsy.remote(str(tmp_path / "a"))
    started(tmp_path / "a")
    ray.cancel(ref)
    with pytest.raises(ValueError, match="on the way out"):
        ray.get(ref, timeout=60)
    assert (tmp_path / "a").read_text() == "x"


def test_a_task_that_raises_keyboard_interrupt_itself_counts_as_cancelled() -> None:
    @ray.remote
    def stop() -> None:
        raise KeyboardInterrupt

    assert isinstance(cancelled(stop.remote()), ray.exceptions.RayTaskError)


def test_every_return_value_of_a_cancelled_task_fails(tmp_path: Path) -> None:
    @ray.remote(num_returns=2)
    def pair(path: str) -> tuple[int, int]:
        Path(path).touch()
        for _ in range(6000):
            time.sleep(0.01)
        return 1, 2

    first, second = pair.remote(str(tmp_path / "a"))
    started(tmp_path / "a")
    ray.cancel(second)
    cancelled(second)
    cancelled(first)


def test_tasks_that_take_the_result_fail_with_it(tmp_path: Path) -> None:
    ref = sleeper().remote(str(tmp_path / "a"))
    dependent = ray.remote(lambda x: x).remote(ref)
    started(tmp_path / "a")
    ray.cancel(ref)
    cancelled(dependent)


def test_a_cancelled_reference_is_ready() -> None:
    ref = sleeper().options(resources={"special": 2}).remote("/dev/null")
    ray.cancel(ref)
    assert ray.wait([ref], timeout=60) == ([ref], [])


def test_get_with_a_timeout_then_cancel_then_get(tmp_path: Path) -> None:
    ref = sleeper().remote(str(tmp_path / "a"))
    with pytest.raises(ray.exceptions.GetTimeoutError):
        ray.get(ref, timeout=0.1)
    started(tmp_path / "a")
    ray.cancel(ref)
    cancelled(ref)


def test_the_task_can_ask_whether_it_is_cancelled(tmp_path: Path) -> None:
    @ray.remote
    def ask(path: str) -> list[bool]:
        seen = [ray.get_runtime_context().is_canceled()]
        Path(path).touch()
        try:
            for _ in range(6000):
                time.sleep(0.01)
        except KeyboardInterrupt:
            seen.append(ray.get_runtime_context().is_canceled())
        return seen

    ref = ask.remote(str(tmp_path / "a"))
    started(tmp_path / "a")
    ray.cancel(ref)
    assert ray.get(ref, timeout=60) == [False, True]
    with pytest.raises(RuntimeError):
        ray.get_runtime_context().is_canceled()  # a driver is no task


# ---------------------------------------------------------------------------------------- children
def test_children_are_cancelled_with_their_parent(tmp_path: Path) -> None:
    task = sleeper()

    @ray.remote(num_cpus=0)
    def parent(path: str) -> Any:
        return ray.get(task.remote(path))

    ref = parent.remote(str(tmp_path / "a"))
    started(tmp_path / "a")
    ray.cancel(ref)
    cancelled(ref)
    started(tmp_path / "a.interrupted")


def test_grandchildren_are_cancelled_too(tmp_path: Path) -> None:
    task = sleeper()

    @ray.remote(num_cpus=0)
    def parent(path: str, depth: int) -> Any:
        return ray.get(parent.remote(path, depth - 1) if depth else task.remote(path))

    ref = parent.remote(str(tmp_path / "a"), 2)
    started(tmp_path / "a")
    ray.cancel(ref)
    cancelled(ref)
    started(tmp_path / "a.interrupted")


def test_children_go_on_when_not_recursive(tmp_path: Path) -> None:
    @ray.remote(num_cpus=0)
    def child(path: str, gate: str) -> None:
        Path(path).touch()
        while not Path(gate).exists():
            time.sleep(0.01)
        Path(path + ".end").touch()

    @ray.remote(num_cpus=0)
    def parent(path: str, gate: str) -> Any:
        return ray.get(child.remote(path, gate))

    ref = parent.remote(str(tmp_path / "a"), str(tmp_path / "gate"))
    started(tmp_path / "a")
    ray.cancel(ref, recursive=False)
    cancelled(ref)
    (tmp_path / "gate").touch()
    started(tmp_path / "a.end")


def test_a_borrowed_reference_is_cancelled_at_its_owner(tmp_path: Path) -> None:
    task = sleeper()

    @ray.remote(num_cpus=0)
    def parent(path: str) -> list[Any]:
        return [task.remote(path)]

    inner = ray.get(parent.remote(str(tmp_path / "a")))[0]
    started(tmp_path / "a")
    ray.cancel(inner)
    cancelled(inner)


def test_a_task_can_cancel_another_one(tmp_path: Path) -> None:
    @ray.remote(num_cpus=0)
    def stop(refs: list[Any]) -> str:
        ray.cancel(refs[0])
        return "done"

    ref = sleeper().remote(str(tmp_path / "a"))
    started(tmp_path / "a")
    assert ray.get(stop.remote([ref]), timeout=60) == "done"
    cancelled(ref)


def test_threads_may_cancel_at_the_same_time(tmp_path: Path) -> None:
    refs = [sleeper().options(num_cpus=0.1).remote(str(tmp_path / str(index))) for index in range(4)]
    for index in range(4):
        started(tmp_path / str(index))
    threads = [threading.Thread(target=ray.cancel, args=(ref,)) for ref in refs * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for ref in refs:
        cancelled(ref)


# ------------------------------------------------------------------------------------------ actors
def test_force_is_refused_for_a_call_under_way(tmp_path: Path) -> None:
    actor = actor_class().remote()
    ref = actor.work.remote(str(tmp_path / "a"), str(tmp_path / "gate"))
    started(tmp_path / "a")
    with pytest.raises(ValueError, match="force=True is not supported for actor tasks"):
        ray.cancel(ref, force=True)
    (tmp_path / "gate").touch()
    assert ray.get(ref, timeout=60) == "worked"
    ray.cancel(ref, force=True)  # it is done
    assert ray.get(ref) == "worked"


@pytest.mark.parametrize("threads", [1, 2])
def test_a_running_method_is_not_interrupted_but_its_caller_gets_no_value(
    tmp_path: Path, threads: int
) -> None:
    actor = actor_class().options(max_concurrency=threads).remote()
    ref = actor.work.remote(str(tmp_path / "a"), str(tmp_path / "gate"))
    started(tmp_path / "a")
    ray.cancel(ref)
    assert ray.wait([ref], timeout=0.3) == ([], [ref])
    (tmp_path / "gate").touch()
    cancelled(ref)
    assert ray.get(actor.log.remote(), timeout=60) == ["work"]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_running_method_is_told(tmp_path: Path, threads: int) -> None:
    actor = actor_class().options(max_concurrency=threads).remote()
    ref = actor.until_told.remote(str(tmp_path / "a"))
    started(tmp_path / "a")
    ray.cancel(ref)
    cancelled(ref)
    assert ray.get(actor.log.remote(), timeout=60) == ["told"]


def test_what_a_method_submitted_is_cancelled_with_it(tmp_path: Path) -> None:
    actor = actor_class().remote()
    ref = actor.nested.remote(sleeper(), str(tmp_path / "a"))
    started(tmp_path / "a")
    ray.cancel(ref)
    cancelled(ref)
    started(tmp_path / "a.interrupted")


def test_a_call_is_cancelled_before_its_actor_lives(tmp_path: Path) -> None:
    @ray.remote
    class Slow:
        def __init__(self, gate: str) -> None:
            while not Path(gate).exists():
                time.sleep(0.01)
            self.calls: list[int] = []

        def call(self, number: int) -> list[int]:
            self.calls.append(number)
            return self.calls

    actor = Slow.remote(str(tmp_path / "gate"))
    first, second = actor.call.remote(1), actor.call.remote(2)
    ray.cancel(first)
    (tmp_path / "gate").touch()
    cancelled(first)
    assert ray.get(second, timeout=60) == [2]


def test_a_coroutine_under_way_gets_a_cancelled_error(tmp_path: Path) -> None:
    actor = async_class().remote()
    ref = actor.wait.remote(str(tmp_path / "a"))
    started(tmp_path / "a")
    ray.cancel(ref)
    assert isinstance(cancelled(ref), ray.exceptions.RayTaskError)
    assert ray.get(actor.log.remote(), timeout=60) == ["CancelledError"]


def test_a_coroutine_that_goes_on_is_cancelled_for_its_caller(tmp_path: Path) -> None:
    actor = async_class().remote()
    ref = actor.insist.remote(str(tmp_path / "a"))
    started(tmp_path / "a")
    ray.cancel(ref)
    cancelled(ref)
    assert eventually(lambda: ray.get(actor.log.remote(), timeout=60) == ["insisted"])


def test_a_coroutine_s_children_are_cancelled(tmp_path: Path) -> None:
    actor = async_class().remote()
    ref = actor.child.remote(sleeper(), str(tmp_path / "a"))
    started(tmp_path / "a")
    ray.cancel(ref)
    cancelled(ref)
    started(tmp_path / "a.interrupted")


def test_a_coroutine_that_raises_cancelled_error_itself_counts_as_cancelled() -> None:
    cancelled(async_class().remote().give_up.remote())


def test_coroutines_have_no_flag_and_no_force(tmp_path: Path) -> None:
    actor = async_class().remote()
    with pytest.raises(RuntimeError):
        ray.get(actor.flag.remote(), timeout=60)
    ref = actor.wait.remote(str(tmp_path / "a"))
    started(tmp_path / "a")
    with pytest.raises(ValueError, match="force=True is not supported for actor tasks"):
        ray.cancel(ref, force=True)
    ray.cancel(ref)
    cancelled(ref)


# --------------------------------------------------------------------------------------- max_calls
def test_a_worker_ends_after_max_calls() -> None:
    @ray.remote(max_calls=2)
    def pid() -> int:
        return os.getpid()

    pids = [ray.get(pid.remote(), timeout=60) for _ in range(6)]
    assert all(pids.count(one) <= 2 for one in pids)
    done = {one for one in pids if pids.count(one) == 2}
    assert done and eventually(lambda: all(gone(one) for one in done))


def test_calls_that_raise_count() -> None:
    @ray.remote(max_calls=1, max_retries=0)
    def fail() -> None:
        raise ValueError(os.getpid())

    pids = set()
    for _ in range(3):
        with pytest.raises(ValueError) as caught:
            ray.get(fail.remote(), timeout=60)
        pids.add(caught.value.args[0])
    assert len(pids) == 3


def test_what_the_worker_owns_outlives_its_calls() -> None:
    @ray.remote(max_calls=1)
    def make() -> list[Any]:
        return [ray.put([1, 2, 3]), child.remote()]

    @ray.remote
    def child() -> str:
        return "child"

    stored, made = ray.get(make.remote(), timeout=60)
    time.sleep(0.3)
    assert ray.get(stored, timeout=60) == [1, 2, 3]
    assert ray.get(made, timeout=60) == "child"


def test_a_gpu_task_has_a_process_of_its_own_unless_told_otherwise() -> None:
    def pid() -> int:
        return os.getpid()

    own = ray.remote(num_gpus=1)(pid)
    assert len({ray.get(own.remote(), timeout=60) for _ in range(3)}) == 3


def test_max_calls_is_not_for_actors_nor_for_options() -> None:
    with pytest.raises(ValueError, match="max_calls"):

        @ray.remote(max_calls=1)
        class Actor:
            pass

    with pytest.raises(ValueError, match="max_calls"):
        ray.remote(lambda: 1).options(max_calls=1)


@pytest.mark.parametrize("wrong", [-1, 1.5, "1"])
def test_max_calls_is_a_count(wrong: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        ray.remote(max_calls=wrong)(lambda: 1)


def test_a_subprocess_that_the_task_waits_for_does_not_hold_the_interrupt(tmp_path: Path) -> None:
    @ray.remote
    def run(path: str) -> None:
        Path(path).touch()
        while True:
            subprocess.run(["sleep", "0.05"], check=True)

    ref = run.remote(str(tmp_path / "a"))
    started(tmp_path / "a")
    ray.cancel(ref)
    cancelled(ref)
