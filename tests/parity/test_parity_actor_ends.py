"""Do actors end, fail, restart and answer to their names as Ray's?"""

from __future__ import annotations

import abc
import asyncio
import atexit
import gc
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

ray: Any = importlib.import_module(os.environ.get("MINRAY_PARITY_ENGINE", "minray"))

pytestmark = pytest.mark.usefixtures("cluster")

WAIT_S = 60


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


def ends(ref: Any) -> str:
    """How a call ended: its value's type, or the name of the error."""
    try:
        return type(get(ref)).__name__
    except ray.exceptions.RayError as error:
        return type(error).__name__


def worker_class(folder: Any = None, **options: Any) -> Any:
    """An actor class with everything that these tests do to it."""
    path = str(folder) if folder is not None else ""

    def leave_mark(name: str) -> None:
        if path:
            with open(os.path.join(path, name), "a") as file:
                file.write("x")

    class Worker:
        def __init__(self) -> None:
            leave_mark("constructed")
            self.built = True

        def __ray_shutdown__(self) -> None:
            leave_mark("shutdown")

        def __del__(self) -> None:
            if hasattr(self, "built"):  # Ray's ActorClass inherits this method too
                leave_mark("del")

        def at_exit(self) -> None:
            atexit.register(leave_mark, "atexit")

        def pid(self) -> int:
            return os.getpid()

        def mark(self, name: str) -> str:
            leave_mark(name)
            return name

        def nap(self, seconds: float) -> float:
            time.sleep(seconds)
            return seconds

        def leave(self) -> None:
            ray.actor.exit_actor()

        def leave_deeply(self) -> None:
            def inner() -> None:
                ray.actor.exit_actor()

            inner()

        def exit(self, code: int = 0) -> None:
            sys.exit(code)

        def die(self) -> None:
            os._exit(1)

        def fail(self) -> None:
            raise ValueError("method")

    return ray.remote(**options)(Worker) if options else ray.remote(Worker)


def marks(folder: Any) -> dict[str, int]:
    """Which marks were left, how often."""
    return {name: os.path.getsize(folder / name) for name in os.listdir(folder)}


# ------------------------------------------------------------------------------------ ends on purpose
@pytest.mark.parametrize("how", ["leave", "leave_deeply", "exit"])
def test_an_end_on_purpose_runs_shutdown_atexit_and_del(tmp_path: Any, how: str) -> None:
    worker = worker_class(tmp_path).remote()
    get(worker.at_exit.remote())
    assert ends(getattr(worker, how).remote()) == "ActorDiedError"
    wanted = {"constructed": 1, "shutdown": 1, "atexit": 1, "del": 1}
    assert eventually(lambda: marks(tmp_path) == wanted), marks(tmp_path)


def test_the_end_of_the_last_handle_runs_shutdown_atexit_and_del(tmp_path: Any) -> None:
    worker = worker_class(tmp_path).remote()
    get(worker.at_exit.remote())
    del worker
    gc.collect()
    wanted = {"constructed": 1, "shutdown": 1, "atexit": 1, "del": 1}
    assert eventually(lambda: marks(tmp_path) == wanted), marks(tmp_path)


def test_a_killed_actor_runs_nothing(tmp_path: Any) -> None:
    worker = worker_class(tmp_path).remote()
    get(worker.at_exit.remote())
    ray.kill(worker)
    assert ends(worker.pid.remote()) == "ActorDiedError"
    time.sleep(0.3)
    assert marks(tmp_path) == {"constructed": 1}


def test_terminate_comes_after_the_calls_before_it(tmp_path: Any) -> None:
    worker = worker_class(tmp_path).remote()
    before = [worker.mark.remote("before") for _ in range(3)]
    end = worker.__ray_terminate__.remote()
    after = worker.mark.remote("after")
    assert get(before) == ["before"] * 3
    assert [ends(end), ends(after)] == ["ActorDiedError"] * 2
    assert "after" not in marks(tmp_path)


def test_calls_behind_exit_actor_fail_and_nothing_restarts(tmp_path: Any) -> None:
    worker = worker_class(tmp_path, max_restarts=3, max_task_retries=3).remote()
    get(worker.pid.remote())
    leaving = worker.leave.remote()
    behind = [worker.mark.remote("behind") for _ in range(3)]
    assert [ends(ref) for ref in [leaving, *behind]] == ["ActorDiedError"] * 4
    assert marks(tmp_path)["constructed"] == 1
    assert "behind" not in marks(tmp_path)


def test_exit_actor_in_the_constructor() -> None:
    @ray.remote
    class A:
        def __init__(self) -> None:
            ray.actor.exit_actor()

        def f(self) -> int:
            return 1

    assert ends(A.remote().f.remote()) == "ActorDiedError"


def test_exit_actor_of_a_threaded_actor_fails_what_waits() -> None:
    @ray.remote(max_concurrency=2)
    class A:
        def __init__(self) -> None:
            self.started = threading.Event()

        def slow(self) -> str:
            self.started.set()
            time.sleep(0.5)
            return "finished"

        def leave(self) -> None:
            self.started.wait(WAIT_S)
            ray.actor.exit_actor()

    a = A.remote()
    slow, leave = a.slow.remote(), a.leave.remote()
    queued = [a.slow.remote() for _ in range(3)]
    assert ends(leave) == "ActorDiedError"
    assert "ActorDiedError" in [ends(ref) for ref in queued]
    assert ends(slow) in ("str", "ActorDiedError")  # Ray says that it finishes; it does not always


@pytest.mark.parametrize("how", ["leave", "leave_plainly"])
def test_exit_actor_of_an_async_actor_finishes_what_runs(how: str) -> None:
    @ray.remote
    class A:
        def __init__(self) -> None:
            self.started = asyncio.Event()

        async def slow(self) -> str:
            self.started.set()
            await asyncio.sleep(0.3)
            return "finished"

        async def ready(self) -> None:
            await self.started.wait()

        async def leave(self) -> None:
            ray.actor.exit_actor()

        def leave_plainly(self) -> None:
            ray.actor.exit_actor()

    a = A.remote()
    slow = a.slow.remote()
    get(a.ready.remote())
    leave = getattr(a, how).remote()
    assert get(slow) == "finished"
    assert ends(leave) == "ActorDiedError"
    assert ends(a.ready.remote()) == "ActorDiedError"


def test_exit_actor_in_a_group() -> None:
    @ray.remote(concurrency_groups={"io": 1})
    class A:
        @ray.method(concurrency_group="io")
        def leave(self) -> None:
            ray.actor.exit_actor()

        def ping(self) -> int:
            return 1

    a = A.remote()
    assert get(a.ping.remote()) == 1
    assert ends(a.leave.remote()) == "ActorDiedError"
    assert ends(a.ping.remote()) == "ActorDiedError"


def test_ready_and_call_are_methods_of_every_actor() -> None:
    worker = worker_class().remote()
    assert get(worker.__ray_ready__.remote()) is True
    assert get(worker.__ray_call__.remote(lambda self, x, y=1: (type(self).__name__, x, y), 2, y=3)) == (
        "Worker",
        2,
        3,
    )


# ------------------------------------------------------------------------------------ deaths
def test_a_dead_actor_names_its_class_its_id_and_its_pid() -> None:
    worker = worker_class().remote()
    pid = get(worker.pid.remote())
    with pytest.raises(ray.exceptions.ActorDiedError) as caught:
        get(worker.die.remote())
    text = str(caught.value)
    assert "Worker" in text
    assert worker._actor_id.hex() in text
    assert str(pid) in text
    assert caught.value.actor_id == worker._actor_id.hex()
    assert not caught.value.actor_init_failed


def test_a_failed_constructor_says_so() -> None:
    @ray.remote
    class A:
        def __init__(self) -> None:
            raise KeyError("no start")

        def f(self) -> None: ...

    a = A.remote()
    with pytest.raises(ray.exceptions.ActorDiedError, match="no start") as caught:
        get(a.f.remote())
    assert caught.value.actor_init_failed
    assert caught.value.actor_id == a._actor_id.hex()
    with pytest.raises(ray.exceptions.ActorDiedError, match="no start"):
        get(a.f.remote())


def test_a_restarting_actor_without_retries_is_unavailable_then_back() -> None:
    worker = worker_class(max_restarts=1).remote()
    get(worker.pid.remote())
    assert ends(worker.die.remote()) in ("ActorUnavailableError", "ActorDiedError")

    def back() -> bool:
        return ends(worker.pid.remote()) == "int"

    assert eventually(back)
    assert ends(worker.die.remote()) in ("ActorUnavailableError", "ActorDiedError")
    assert eventually(lambda: ends(worker.pid.remote()) == "ActorDiedError")


def test_calls_made_while_an_actor_restarts_wait_for_it() -> None:
    @ray.remote(max_restarts=1, max_task_retries=-1)
    class Slow:
        def __init__(self) -> None:
            time.sleep(0.3)

        def pid(self) -> int:
            return os.getpid()

    slow = Slow.remote()
    first = get(slow.pid.remote())
    os.kill(first, signal.SIGKILL)
    assert set(get([slow.pid.remote() for _ in range(5)])) != {first}


def test_killing_twice_and_killing_the_dead_is_fine() -> None:
    worker = worker_class().remote()
    get(worker.pid.remote())
    ray.kill(worker)
    ray.kill(worker)
    assert ends(worker.pid.remote()) == "ActorDiedError"
    ray.kill(worker)


def test_an_actor_may_be_killed_before_it_is_built() -> None:
    @ray.remote(resources={"special": 2})
    class Takes:
        def ping(self) -> int:
            return 1

    first = Takes.remote()
    get(first.ping.remote())
    second = Takes.remote()
    waiting = second.ping.remote()
    ray.kill(second)
    assert ends(waiting) == "ActorDiedError"
    assert get(first.ping.remote()) == 1


def test_a_constructor_whose_argument_failed() -> None:
    @ray.remote
    def fail() -> None:
        raise KeyError("argument")

    @ray.remote
    class A:
        def __init__(self, x: Any) -> None: ...

        def f(self) -> None: ...

    a = A.remote(fail.remote())
    with pytest.raises(ray.exceptions.ActorDiedError):
        get(a.f.remote())


def test_a_method_error_names_the_actor() -> None:
    worker = worker_class().remote()
    with pytest.raises(ValueError, match="method") as caught:
        get(worker.fail.remote())
    assert "Worker" in str(caught.value)
    assert worker._actor_id.hex() in str(caught.value)


# ------------------------------------------------------------------------------------ owners and handles
def test_an_actor_ends_with_the_worker_that_owns_it() -> None:
    worker = worker_class()

    @ray.remote(num_cpus=0)
    class Owner:
        def __init__(self) -> None:
            self.child = worker.options(num_cpus=0).remote()

        def give(self) -> Any:
            return [self.child]

    owner = Owner.remote()
    (child,) = get(owner.give.remote())
    assert ends(child.pid.remote()) == "int"
    ray.kill(owner)
    assert eventually(lambda: ends(child.pid.remote()) == "ActorDiedError")


def test_a_detached_actor_outlives_the_worker_that_made_it() -> None:
    worker = worker_class()

    @ray.remote(num_cpus=0)
    class Owner:
        def __init__(self) -> None:
            worker.options(num_cpus=0, name="outlives", lifetime="detached").remote()

        def ping(self) -> None: ...

    owner = Owner.remote()
    get(owner.ping.remote())
    ray.kill(owner)
    assert eventually(lambda: ends(owner.ping.remote()) == "ActorDiedError")
    found = ray.get_actor("outlives")
    assert ends(found.pid.remote()) == "int"
    ray.kill(found)


def test_a_handle_that_a_task_returns_keeps_the_actor() -> None:
    worker = worker_class()

    @ray.remote
    def make() -> Any:
        return worker.options(num_cpus=0).remote()

    handle = get(make.remote())
    time.sleep(0.2)
    assert ends(handle.pid.remote()) == "int"
    assert ends(handle.pid.remote()) == "int"


def test_a_handle_in_an_object_keeps_the_actor() -> None:
    worker = worker_class().remote()
    pid = get(worker.pid.remote())
    box = ray.put({"handle": worker})
    del worker
    gc.collect()
    time.sleep(0.3)
    assert get(get(box)["handle"].pid.remote()) == pid


def test_a_handle_in_a_closure_and_in_another_actor() -> None:
    worker = worker_class().remote()
    pid = get(worker.pid.remote())

    @ray.remote
    def closure() -> int:
        return ray.get(worker.pid.remote())  # type: ignore[no-any-return]  # noqa: F821

    @ray.remote(num_cpus=0)
    class Keeper:
        def keep(self, handles: list[Any]) -> None:
            self.handle = handles[0]

        def ask(self) -> int:
            return ray.get(self.handle.pid.remote())  # type: ignore[no-any-return]

    assert get(closure.remote()) == pid
    keeper = Keeper.remote()
    get(keeper.keep.remote([worker]))
    del closure, worker
    gc.collect()
    time.sleep(0.3)
    assert get(keeper.ask.remote()) == pid


# ------------------------------------------------------------------------------------ names
def test_a_taken_name_has_an_error_of_its_own() -> None:
    first = worker_class(name="taken").remote()
    get(first.pid.remote())
    with pytest.raises(ray.exceptions.ActorAlreadyExistsError, match="taken"):
        worker_class(name="taken").remote()
    ray.kill(first)


def test_get_actor_does_not_find_the_dead() -> None:
    worker = worker_class(name="mortal").remote()
    get(worker.pid.remote())
    ray.kill(worker)

    def gone() -> bool:
        try:
            ray.get_actor("mortal")
        except ValueError:
            return True
        return False

    assert eventually(gone)


def test_many_processes_race_for_one_name() -> None:
    worker = worker_class()

    @ray.remote(num_cpus=0.1)
    def race() -> tuple[str, int]:
        handle = worker.options(name="raced", get_if_exists=True, lifetime="detached", num_cpus=0).remote()
        return handle._actor_id.hex(), ray.get(handle.pid.remote())

    found = get([race.remote() for _ in range(8)])
    assert len(set(found)) == 1
    ray.kill(ray.get_actor("raced"))


def test_a_name_in_another_namespace_is_not_seen() -> None:
    worker = worker_class(name="far", namespace="elsewhere").remote()
    get(worker.pid.remote())
    with pytest.raises(ValueError):
        ray.get_actor("far")
    assert ray.get_actor("far", namespace="elsewhere") == worker


# ------------------------------------------------------------------------------------ classes and handles
def test_names_of_the_actor_module() -> None:
    worker = worker_class()
    assert isinstance(worker, ray.actor.ActorClass)
    handle = worker.remote()
    assert isinstance(handle, ray.actor.ActorHandle)
    assert isinstance(handle.pid, ray.actor.ActorMethod)
    assert isinstance(handle._actor_id, ray.ActorID)
    assert handle._ray_actor_id == handle._actor_id
    assert "pid" in dir(handle)


def test_an_abstract_class_cannot_be_an_actor() -> None:
    class Abstract(abc.ABC):
        @abc.abstractmethod
        def f(self) -> None: ...

    with pytest.raises((TypeError, ray.exceptions.RayActorError), match="abstract"):
        get(ray.remote(Abstract).remote().f.remote())


def test_a_class_that_fills_an_abstract_one_in_can() -> None:
    class Abstract(abc.ABC):
        @abc.abstractmethod
        def f(self) -> int: ...

        def g(self) -> int:
            return self.f() + 1

    @ray.remote
    class Concrete(Abstract):
        def f(self) -> int:
            return 1

    assert get(Concrete.remote().g.remote()) == 2


def test_properties_and_fields_stay_in_the_actor() -> None:
    @ray.remote
    class A:
        field = 3

        @property
        def value(self) -> int:
            return 3

        def read(self) -> int:
            return self.value + self.field

    a = A.remote()
    with pytest.raises(AttributeError, match="value"):
        a.value
    with pytest.raises(AttributeError, match="field"):
        a.field.remote()
    assert get(a.read.remote()) == 6


def test_a_method_may_be_named_for_the_views() -> None:
    worker = worker_class().remote()
    assert ends(worker.pid.options(name="what it does").remote()) == "int"


def test_methods_pickle_with_their_actor() -> None:
    worker = worker_class().remote()
    pid = get(worker.pid.remote())

    @ray.remote
    def call(method: Any) -> int:
        return ray.get(method.remote())  # type: ignore[no-any-return]

    assert get(call.remote(worker.pid)) == pid


def test_a_bare_method_decorator_changes_nothing() -> None:
    @ray.remote
    class A:
        @ray.method
        def f(self) -> int:
            return 5

    assert get(A.remote().f.remote()) == 5


def test_an_unknown_method_option_is_an_error() -> None:
    with pytest.raises((ValueError, TypeError, AssertionError), match="nonsense"):

        class A:
            @ray.method(nonsense=1)
            def f(self) -> None: ...


def test_threads_of_libraries_follow_the_cpus_of_an_actor() -> None:
    @ray.remote
    class A:
        def threads(self) -> str:
            return os.environ["OMP_NUM_THREADS"]

    @ray.remote
    def threads() -> str:
        return os.environ["OMP_NUM_THREADS"]

    assert get(A.options(num_cpus=2).remote().threads.remote()) == "2"
    assert get(A.remote().threads.remote()) == "1"
    assert get(threads.options(num_cpus=3).remote()) == "3"
    assert get(threads.remote()) == "1"
