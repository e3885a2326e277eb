"""Do concurrency groups, threads, event loops and the order of calls behave as Ray's?"""

from __future__ import annotations

import asyncio
import importlib
import os
import threading
import time
from typing import Any

import pytest

ray: Any = importlib.import_module(os.environ.get("MINRAY_PARITY_ENGINE", "minray"))

pytestmark = pytest.mark.usefixtures("cluster")

WAIT_S = 60


def get(refs: Any) -> Any:
    """Get, but never for ever."""
    return ray.get(refs, timeout=WAIT_S)


def gate_class(asynchronous: bool, **options: Any) -> Any:
    """A class whose calls wait for one another, so that side by side is seen without a clock."""

    class Gate:
        def __init__(self) -> None:
            self.gates: dict[str, threading.Event] = {}
            self.lock = threading.Lock()
            self.now = 0
            self.most = 0
            self.order: list[int] = []

        def _gate(self, name: str) -> threading.Event:
            with self.lock:
                return self.gates.setdefault(name, threading.Event())

        def _enter(self) -> None:
            with self.lock:
                self.now += 1
                self.most = max(self.most, self.now)

        @ray.method(concurrency_group="io")
        def open(self, name: str) -> None:
            self._gate(name).set()

        @ray.method(concurrency_group="io")
        def io_thread(self) -> int:
            return threading.get_ident()

    if asynchronous:

        class Asynchronous(Gate):
            async def wait(self, name: str) -> str:
                self._enter()
                while not self._gate(name).is_set():  # noqa: ASYNC110 - another thread opens it
                    await asyncio.sleep(0.005)
                self.now -= 1
                return name

            @ray.method(concurrency_group="compute")
            async def compute(self, name: str) -> str:
                return await self.wait(name)

            async def note(self, i: int) -> list[int]:
                self.order.append(i)
                return list(self.order)

            def thread(self) -> int:
                return threading.get_ident()

            def block(self, name: str) -> bool:
                return self._gate(name).wait(WAIT_S)

            def seen_most(self) -> int:
                return self.most

        return ray.remote(**options)(Asynchronous)

    class Threaded(Gate):
        def wait(self, name: str) -> str:
            self._enter()
            self._gate(name).wait(WAIT_S)
            with self.lock:
                self.now -= 1
            return name

        @ray.method(concurrency_group="compute")
        def compute(self, name: str) -> str:
            return self.wait(name)

        def note(self, i: int) -> list[int]:
            self.order.append(i)
            return list(self.order)

        def thread(self) -> int:
            return threading.get_ident()

        def seen_most(self) -> int:
            return self.most

    return ray.remote(**options)(Threaded)


GROUPS = {"io": 2, "compute": 2}
both = pytest.mark.parametrize("asynchronous", [False, True], ids=["threaded", "async"])


@both
def test_a_blocked_default_group_does_not_block_another(asynchronous: bool) -> None:
    gate = gate_class(asynchronous, concurrency_groups=GROUPS, max_concurrency=1).remote()
    waiting = gate.wait.remote("a")
    get(gate.open.remote("a"))
    assert get(waiting) == "a"


@both
def test_a_full_group_does_not_block_the_default(asynchronous: bool) -> None:
    gate = gate_class(asynchronous, concurrency_groups=GROUPS).remote()
    full = [gate.compute.remote("c") for _ in range(5)]
    assert get(gate.note.remote(1)) == [1]
    get(gate.open.remote("c"))
    assert get(full) == ["c"] * 5


@both
def test_a_group_runs_as_many_calls_as_its_limit(asynchronous: bool) -> None:
    gate = gate_class(asynchronous, concurrency_groups=GROUPS).remote()
    calls = [gate.compute.remote("c") for _ in range(6)]
    while get(gate.seen_most.remote()) < 2:
        time.sleep(0.01)
    get(gate.open.remote("c"))
    get(calls)
    assert get(gate.seen_most.remote()) == 2


@both
def test_a_call_may_name_another_group(asynchronous: bool) -> None:
    gate = gate_class(asynchronous, concurrency_groups=GROUPS, max_concurrency=1).remote()
    waiting = gate.wait.remote("a")
    assert get(gate.note.options(concurrency_group="io").remote(3)) == [3]
    get(gate.open.remote("a"))
    get(waiting)


@both
def test_a_named_group_is_used_for_calls_with_refs_and_keywords(asynchronous: bool) -> None:
    gate = gate_class(asynchronous, concurrency_groups=GROUPS, max_concurrency=1).remote()
    waiting = gate.wait.remote("a")
    assert get(gate.note.options(concurrency_group="io").remote(ray.put(3))) == [3]
    assert get(gate.note.options(concurrency_group="compute").remote(i=4)) == [3, 4]
    get(gate.open.remote("a"))
    get(waiting)


@both
def test_an_unknown_group_of_a_call_is_an_error(asynchronous: bool) -> None:
    gate = gate_class(asynchronous, concurrency_groups=GROUPS).remote()
    with pytest.raises((ValueError, ray.exceptions.RayActorError)):
        get(gate.note.options(concurrency_group="nobody").remote(1))


def test_an_unknown_group_of_a_method_is_an_error_at_creation() -> None:
    @ray.remote(concurrency_groups={"io": 1})
    class A:
        @ray.method(concurrency_group="nobody")
        def f(self) -> None: ...

    with pytest.raises((ValueError, AssertionError)):
        A.remote()


def test_groups_are_declared_once() -> None:
    with pytest.raises(ValueError, match="concurrency_groups"):
        gate_class(False, concurrency_groups=GROUPS).options(concurrency_groups={"z": 1}).remote()


def test_groups_outlive_other_options() -> None:
    gate = gate_class(False, concurrency_groups=GROUPS).options(num_cpus=0).remote()
    waiting = gate.wait.remote("a")
    get(gate.open.remote("a"))
    assert get(waiting) == "a"


def test_the_groups_of_an_async_actor_have_event_loops_of_their_own() -> None:
    gate = gate_class(True, concurrency_groups=GROUPS).remote()
    io, other, default = get([gate.io_thread.remote(), gate.io_thread.remote(), gate.thread.remote()])
    assert io == other
    assert io != default


def test_a_blocking_method_of_an_async_actor_blocks_its_group_only() -> None:
    gate = gate_class(True, concurrency_groups=GROUPS).remote()
    blocked = gate.block.remote("b")
    get(gate.open.remote("b"))
    assert get(blocked) is True


def test_calls_of_a_group_start_in_order() -> None:
    @ray.remote(concurrency_groups={"one": 1})
    class Log:
        def __init__(self) -> None:
            self.seen: list[int] = []

        @ray.method(concurrency_group="one")
        def add(self, i: int) -> None:
            self.seen.append(i)

        def read(self) -> list[int]:
            return self.seen

    log = Log.remote()
    get([log.add.remote(i) for i in range(100)])
    assert get(log.read.remote()) == list(range(100))


def test_a_handle_that_travelled_knows_the_groups() -> None:
    gate = gate_class(False, concurrency_groups=GROUPS).remote()

    @ray.remote
    def elsewhere(handle: Any) -> Any:
        return ray.get(handle.note.options(concurrency_group="io").remote(9))

    assert get(elsewhere.remote(gate)) == [9]


@pytest.mark.parametrize("limit", [0, -1, "2"])
def test_an_impossible_limit_is_an_error(limit: Any) -> None:
    class A:
        def f(self) -> None: ...

    with pytest.raises((ValueError, TypeError, OverflowError, ray.exceptions.RayActorError)):
        get(ray.remote(concurrency_groups={"io": limit})(A).remote().f.remote())


# ------------------------------------------------------------------------------------ late arguments
def late_argument() -> tuple[Any, Any]:
    """A ref that is not ready, and who makes it so."""

    class Signal:
        def __init__(self) -> None:
            self.event = asyncio.Event()

        async def wait(self) -> int:
            await self.event.wait()
            return 1

        async def send(self) -> None:
            self.event.set()

    signal = ray.remote(num_cpus=0)(Signal).remote()
    return signal.wait.remote(), signal


@pytest.mark.parametrize(
    "options", [{"max_concurrency": 2}, {"allow_out_of_order_execution": True}], ids=["threaded", "allowed"]
)
def test_a_late_argument_holds_nobody_back_where_order_is_not_promised(options: dict[str, Any]) -> None:
    late, signal = late_argument()

    class Log:
        def __init__(self) -> None:
            self.seen: list[int] = []

        def add(self, i: int) -> list[int]:
            self.seen.append(i)
            return list(self.seen)

    log = ray.remote(**options)(Log).remote()
    first = log.add.remote(late)
    assert get(log.add.remote(2)) == [2]
    get(signal.send.remote())
    assert get(first) == [2, 1]


def test_a_late_argument_holds_nobody_back_in_an_async_actor() -> None:
    late, signal = late_argument()
    gate = gate_class(True, concurrency_groups=GROUPS).remote()
    first = gate.note.remote(late)
    assert get(gate.note.remote(2)) == [2]
    get(signal.send.remote())
    assert get(first) == [2, 1]


def test_a_late_argument_that_fails_leaves_the_others_alone() -> None:
    @ray.remote
    def fail() -> None:
        raise KeyError("late")

    @ray.remote(max_concurrency=2)
    class A:
        def f(self, x: Any) -> Any:
            return x

    a = A.remote()
    bad, good = a.f.remote(fail.remote()), a.f.remote(3)
    with pytest.raises(KeyError):
        get(bad)
    assert get(good) == 3


@pytest.mark.parametrize("concurrent", [{"max_concurrency": 2}, {}], ids=["threaded", "async"])
def test_order_cannot_be_asked_of_concurrent_actors(concurrent: dict[str, Any]) -> None:
    class Plain:
        def f(self) -> None: ...

    class Asynchronous:
        async def f(self) -> None: ...

    cls = Plain if concurrent else Asynchronous
    with pytest.raises(ValueError, match="allow_out_of_order_execution"):
        ray.remote(allow_out_of_order_execution=False, **concurrent)(cls).remote()


# ------------------------------------------------------------------------------------ pending calls
def test_max_pending_calls_counts_unanswered_calls_only() -> None:
    gate = gate_class(False, concurrency_groups=GROUPS, max_concurrency=1, max_pending_calls=3).remote()
    get(gate.__ray_ready__.remote())
    waiting = [gate.wait.remote("a") for _ in range(3)]
    with pytest.raises(ray.exceptions.PendingCallsLimitExceeded):
        for _ in range(5):
            gate.note.remote(1)
    assert len(waiting) == 3
    ray.kill(gate)


def test_answered_and_failed_calls_make_room() -> None:
    @ray.remote(max_pending_calls=2)
    class A:
        def f(self, x: int) -> int:
            if x % 2:
                raise ValueError("odd")
            return x

    a = A.remote()
    for i in range(20):
        ref = a.f.remote(i)
        if i % 2:
            with pytest.raises(ValueError):
                get(ref)
        else:
            assert get(ref) == i


# ------------------------------------------------------------------------------------ retries of methods
def test_a_method_is_retried_after_its_exceptions(tmp_path: Any) -> None:
    path = str(tmp_path / "runs")

    @ray.remote
    class A:
        def _count(self) -> int:
            with open(path, "a") as file:
                file.write("x")
            return os.path.getsize(path)

        @ray.method(max_task_retries=2, retry_exceptions=[KeyError])
        def listed(self) -> int:
            if self._count() < 3:
                raise KeyError("again")
            return self._count()

        @ray.method(max_task_retries=2, retry_exceptions=[KeyError])
        def other(self) -> int:
            self._count()
            raise ValueError("not in the list")

        def plain(self) -> int:
            self._count()
            raise ValueError("no")

    a = A.remote()
    assert get(a.listed.remote()) == 4
    with pytest.raises(ValueError, match="list"):
        get(a.other.remote())
    assert os.path.getsize(path) == 5
    with pytest.raises(ValueError, match="no"):
        get(a.plain.options(max_task_retries=3, retry_exceptions=True).remote())
    assert os.path.getsize(path) == 9


def test_a_retried_call_keeps_its_arguments() -> None:
    @ray.remote
    class A:
        def __init__(self) -> None:
            self.runs = 0

        @ray.method(max_task_retries=3, retry_exceptions=True)
        def size(self, data: bytes, more: int = 0) -> int:
            self.runs += 1
            if self.runs < 3:
                raise ValueError("again")
            return len(data) + more

    assert get(A.remote().size.remote(ray.put(b"x" * 300_000), more=1)) == 300_001


def test_a_method_may_be_retried_where_its_class_is_not(tmp_path: Any) -> None:
    path = str(tmp_path / "runs")

    @ray.remote(max_restarts=2)
    class A:
        @ray.method(max_task_retries=-1)
        def work(self) -> str:
            with open(path, "a") as file:
                file.write("x")
            if os.path.getsize(path) < 2:
                os._exit(1)
            return "done"

    assert get(A.remote().work.remote()) == "done"


def test_a_call_may_refuse_the_retries_of_its_class() -> None:
    @ray.remote(max_restarts=1, max_task_retries=1)
    class A:
        def die(self) -> None:
            os._exit(1)

    with pytest.raises(ray.exceptions.RayActorError):
        get(A.remote().die.options(max_task_retries=0).remote())


# ------------------------------------------------------------------------------------ threads and loops
def test_threads_of_an_actor_make_calls_of_their_own() -> None:
    @ray.remote
    def double(x: int) -> int:
        return 2 * x

    @ray.remote
    class A:
        def run(self) -> list[int]:
            results: dict[int, int] = {}

            def one(i: int) -> None:
                results[i] = ray.get(double.remote(i))

            threads = [threading.Thread(target=one, args=(i,)) for i in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return [results[i] for i in range(4)]

    assert get(A.remote().run.remote()) == [0, 2, 4, 6]


def test_a_thread_works_while_the_event_loop_is_blocked() -> None:
    @ray.remote
    def double(x: int) -> int:
        return 2 * x

    @ray.remote
    class A:
        async def run(self) -> int:
            found: list[int] = []
            thread = threading.Thread(target=lambda: found.append(ray.get(double.remote(4))))
            thread.start()
            thread.join()  # blocks the event loop on purpose
            return found[0]

    assert get(A.remote().run.remote()) == 8


def test_an_event_loop_in_a_thread_of_a_plain_actor() -> None:
    @ray.remote
    def double(x: int) -> int:
        return 2 * x

    @ray.remote
    class A:
        def __init__(self) -> None:
            self.loop = asyncio.new_event_loop()
            threading.Thread(target=self.loop.run_forever, daemon=True).start()

        def run(self) -> list[int]:
            async def both() -> list[int]:
                return await asyncio.gather(double.remote(1), double.remote(2))

            return asyncio.run_coroutine_threadsafe(both(), self.loop).result(WAIT_S)

    assert get(A.remote().run.remote()) == [2, 4]


def test_gather_in_an_async_method() -> None:
    @ray.remote
    def double(x: int) -> int:
        return 2 * x

    @ray.remote
    class A:
        async def run(self) -> list[int]:
            return await asyncio.gather(*[double.remote(i) for i in range(5)])

    assert get(A.remote().run.remote()) == [0, 2, 4, 6, 8]


def test_async_actors_call_each_other() -> None:
    @ray.remote(num_cpus=0)
    class Echo:
        async def say(self, x: int) -> int:
            await asyncio.sleep(0)
            return x

    @ray.remote(num_cpus=0)
    class Asks:
        def __init__(self, other: Any) -> None:
            self.other = other

        async def run(self, n: int) -> int:
            return sum(await asyncio.gather(*[self.other.say.remote(i) for i in range(n)]))

    assert get(Asks.remote(Echo.remote()).run.remote(20)) == sum(range(20))


def test_a_thousand_calls_wait_in_an_async_actor_at_once() -> None:
    @ray.remote
    class Gate:
        def __init__(self) -> None:
            self.event = asyncio.Event()
            self.waiting = 0

        async def wait(self) -> int:
            self.waiting += 1
            if self.waiting == 1000:
                self.event.set()
            await self.event.wait()
            return 1

    gate = Gate.options(max_concurrency=1000).remote()
    assert sum(get([gate.wait.remote() for _ in range(1000)])) == 1000


def test_an_async_constructor_is_awaited() -> None:
    @ray.remote
    def seven() -> int:
        return 7

    @ray.remote
    class A:
        async def __init__(self) -> None:  # type: ignore[misc]
            self.x = await seven.remote()

        async def read(self) -> int:
            return self.x

    assert get(A.remote().read.remote()) == 7


def test_a_blocking_get_in_an_async_method_works() -> None:
    @ray.remote
    def seven() -> int:
        return 7

    @ray.remote
    class A:
        async def read(self) -> int:
            return ray.get(seven.remote())  # type: ignore[no-any-return]

    assert get(A.remote().read.remote()) == 7
