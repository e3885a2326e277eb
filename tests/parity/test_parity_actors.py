"""Do actors behave as Ray's: order, state, concurrency, names, death, restarts, lifetimes?"""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

ray: Any = importlib.import_module(os.environ.get("MINRAY_PARITY_ENGINE", "minray"))

pytestmark = pytest.mark.usefixtures("cluster")


def eventually(claim: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Wait until `claim` holds, on real Ray some seconds late."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if claim():
            return True
        time.sleep(0.02)
    return False


def counter_class() -> Any:
    """Give a fresh actor class, defined here so that it travels by value."""

    class Counter:
        def __init__(self, start: int = 0) -> None:
            self.value = start

        def add(self, n: int = 1) -> int:
            self.value += n
            return self.value

        def pid(self) -> int:
            return os.getpid()

        def fail(self) -> None:
            raise ValueError("method")

        def die(self) -> None:
            os._exit(1)

    return ray.remote(Counter)


def test_state_lives_between_calls() -> None:
    c = counter_class().remote()
    assert ray.get([c.add.remote() for _ in range(3)]) == [1, 2, 3]


def test_constructor_arguments_arrive_by_position_and_keyword() -> None:
    counter = counter_class()
    a, b = counter.remote(5), counter.remote(start=7)
    assert ray.get([a.add.remote(), b.add.remote()]) == [6, 8]


def test_a_constructor_takes_a_ref() -> None:
    c = counter_class().remote(ray.put(10))
    assert ray.get(c.add.remote()) == 11


def test_calls_of_one_caller_run_in_order() -> None:
    @ray.remote
    class Log:
        def __init__(self) -> None:
            self.seen: list[int] = []

        def add(self, i: int) -> None:
            self.seen.append(i)

        def read(self) -> list[int]:
            return self.seen

    log = Log.remote()
    for i in range(200):
        log.add.remote(i)
    assert ray.get(log.read.remote()) == list(range(200))


def test_order_holds_when_an_argument_is_late() -> None:
    @ray.remote
    def slow(x: int) -> int:
        time.sleep(0.2)
        return x

    @ray.remote
    class Log:
        def __init__(self) -> None:
            self.seen: list[int] = []

        def add(self, i: int) -> list[int]:
            self.seen.append(i)
            return list(self.seen)

    log = Log.remote()
    log.add.remote(slow.remote(1))
    assert ray.get(log.add.remote(2)) == [1, 2]


def test_a_method_error_leaves_the_actor_alive() -> None:
    c = counter_class().remote()
    with pytest.raises(ValueError, match="method") as caught:
        ray.get(c.fail.remote())
    assert isinstance(caught.value, ray.exceptions.RayTaskError)
    assert ray.get(c.add.remote()) == 1


def test_a_failing_constructor_makes_calls_raise_actor_died() -> None:
    @ray.remote
    class Broken:
        def __init__(self) -> None:
            raise RuntimeError("no start")

        def hello(self) -> None: ...

    broken = Broken.remote()
    with pytest.raises(ray.exceptions.ActorDiedError, match="no start"):
        ray.get(broken.hello.remote())


def test_a_dead_actor_raises_ray_actor_error_with_its_name() -> None:
    c = counter_class().remote()
    with pytest.raises(ray.exceptions.RayActorError) as caught:
        ray.get(c.die.remote())
    assert isinstance(caught.value, ray.exceptions.ActorDiedError)
    assert "Counter" in str(caught.value)
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(c.add.remote())


def test_an_actor_class_call_without_remote_is_a_type_error() -> None:
    counter = counter_class()
    with pytest.raises(TypeError, match=r"cannot be instantiated directly.*\.remote\(\)"):
        counter()


def test_a_method_call_without_remote_is_a_type_error() -> None:
    c = counter_class().remote()
    with pytest.raises(TypeError, match=r"cannot be called directly.*\.remote\(\)"):
        c.add()


def test_an_unknown_method_is_an_attribute_error() -> None:
    c = counter_class().remote()
    with pytest.raises(AttributeError, match="no_such"):
        c.no_such.remote()


def test_wrong_method_arguments_are_a_type_error_at_the_call() -> None:
    c = counter_class().remote()
    with pytest.raises(TypeError):
        c.add.remote(1, 2, 3)


def test_wrong_constructor_arguments_are_a_type_error_at_the_call() -> None:
    with pytest.raises(TypeError):
        counter_class().remote(1, 2, 3)


def test_a_function_option_on_a_class_is_refused() -> None:
    with pytest.raises((ValueError, TypeError)):

        @ray.remote(max_retries=2)
        class A: ...


def test_num_returns_of_a_method() -> None:
    @ray.remote
    class Pair:
        @ray.method(num_returns=2)
        def two(self) -> tuple[int, int]:
            return 1, 2

        def three(self) -> tuple[int, int, int]:
            return 1, 2, 3

    p = Pair.remote()
    a, b = p.two.remote()
    assert ray.get([a, b]) == [1, 2]
    assert ray.get(p.three.options(num_returns=3).remote()) == [1, 2, 3]
    assert ray.get(p.two.options(num_returns=1).remote()) == (1, 2)


def test_private_and_dunder_methods_follow_ray() -> None:
    @ray.remote
    class A:
        def _private(self) -> int:
            return 1

        def __call__(self) -> int:
            return 2

    a = A.remote()
    assert ray.get(a._private.remote()) == 1
    assert ray.get(a.__call__.remote()) == 2


def test_inherited_methods_are_callable() -> None:
    class Base:
        def __init__(self, x: int) -> None:
            self.x = x

        def base(self) -> int:
            return self.x

        def both(self) -> str:
            return "base"

    @ray.remote
    class Child(Base):
        def __init__(self, x: int) -> None:
            super().__init__(x + 1)

        def both(self) -> str:
            return "child of " + super().both()

    child = Child.remote(1)
    assert ray.get([child.base.remote(), child.both.remote()]) == [2, "child of base"]


def test_inheriting_from_an_actor_class_is_a_type_error() -> None:
    parent = counter_class()
    with pytest.raises((TypeError, ray.exceptions.RayError)):

        class Child(parent):  # type: ignore[misc, valid-type]
            pass


def test_class_methods_and_static_methods_of_an_actor() -> None:
    @ray.remote
    class A:
        @staticmethod
        def double(x: int) -> int:
            return 2 * x

        @classmethod
        def name(cls) -> str:
            return cls.__name__

    a = A.remote()
    assert ray.get(a.double.remote(4)) == 8
    assert ray.get(a.name.remote()) == "A"


def test_a_handle_passed_to_a_task_reaches_the_same_actor() -> None:
    @ray.remote
    def bump(handle: Any) -> int:
        return ray.get(handle.add.remote())

    c = counter_class().remote()
    ray.get([bump.remote(c) for _ in range(4)])
    assert ray.get(c.add.remote()) == 5


def test_a_handle_in_a_container_and_in_an_object_works() -> None:
    c = counter_class().remote()
    (back,) = ray.get(ray.put([c]))
    assert ray.get(back.add.remote()) == 1
    assert back == c
    assert hash(back) == hash(c)


def test_an_actor_can_create_actors() -> None:
    counter = counter_class()

    @ray.remote
    class Parent:
        def __init__(self) -> None:
            self.children = [counter.remote(i) for i in range(2)]

        def total(self) -> int:
            return sum(ray.get([c.add.remote(0) for c in self.children]))

    assert ray.get(Parent.remote().total.remote()) == 1


def test_an_actor_finds_its_own_handle() -> None:
    @ray.remote
    class Me:
        def handle(self) -> Any:
            return ray.get_runtime_context().current_actor

        def ping(self) -> str:
            return "me"

    me = Me.remote()
    assert ray.get(ray.get(me.handle.remote()).ping.remote()) == "me"


def test_the_last_handle_ends_the_actor() -> None:
    c = counter_class().remote()
    pid = ray.get(c.pid.remote())
    del c
    gc.collect()
    assert eventually(lambda: not _alive(pid))


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_submitted_calls_run_though_the_handle_is_gone() -> None:
    ref = counter_class().remote().add.remote(3)
    gc.collect()
    assert ray.get(ref) == 3


def test_kill_ends_an_actor_at_once() -> None:
    c = counter_class().remote()
    pid = ray.get(c.pid.remote())
    ray.kill(c)
    assert eventually(lambda: not _alive(pid))
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(c.add.remote())


def test_kill_of_a_non_actor_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="actor"):
        ray.kill(ray.put(1))


def test_exit_actor_ends_it_after_the_call() -> None:
    @ray.remote
    class Leaver:
        def leave(self) -> None:
            ray.actor.exit_actor()

        def ping(self) -> None: ...

    leaver = Leaver.remote()
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(leaver.leave.remote())
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(leaver.ping.remote())


def test_exit_actor_outside_an_actor_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        ray.actor.exit_actor()


def test_max_restarts_gives_a_fresh_state_and_a_new_process() -> None:
    c = counter_class().options(max_restarts=1).remote()
    assert ray.get(c.add.remote()) == 1
    pid = ray.get(c.pid.remote())
    os.kill(pid, signal.SIGKILL)

    def again() -> bool:
        try:
            return ray.get(c.add.remote()) >= 1
        except ray.exceptions.RayActorError:
            return False

    assert eventually(again)
    second = ray.get(c.pid.remote())
    assert second != pid
    os.kill(second, signal.SIGKILL)

    def dead() -> bool:
        try:
            ray.get(c.add.remote())
        except ray.exceptions.ActorDiedError:
            return True
        except ray.exceptions.RayActorError:
            pass
        return False

    assert eventually(dead)


def test_max_task_retries_runs_the_call_again(tmp_path: Any) -> None:
    path = str(tmp_path / "attempts")

    @ray.remote(max_restarts=3, max_task_retries=3)
    class Fragile:
        def work(self) -> str:
            with open(path, "a") as file:
                file.write("x")
            if os.path.getsize(path) < 3:
                os._exit(1)
            return "done"

    assert ray.get(Fragile.remote().work.remote()) == "done"
    assert os.path.getsize(path) == 3


def test_kill_without_no_restart_restarts() -> None:
    c = counter_class().options(max_restarts=-1, max_task_retries=-1).remote()
    first = ray.get(c.pid.remote())
    ray.kill(c, no_restart=False)
    assert eventually(lambda: ray.get(c.pid.remote()) != first)


def test_a_named_actor_is_found_and_its_name_is_unique() -> None:
    counter = counter_class()
    c = counter.options(name="unique").remote()
    found = ray.get_actor("unique")
    ray.get(c.add.remote())
    assert ray.get(found.add.remote()) == 2
    with pytest.raises(ValueError, match="unique"):
        counter.options(name="unique").remote()


def test_a_missing_name_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="nobody"):
        ray.get_actor("nobody")


def test_an_empty_or_wrong_name_is_refused() -> None:
    with pytest.raises(ValueError):
        counter_class().options(name="").remote()
    with pytest.raises((TypeError, ValueError)):
        counter_class().options(name=3).remote()


def test_a_name_is_free_again_after_death() -> None:
    counter = counter_class()
    c = counter.options(name="reused").remote()
    ray.get(c.add.remote())
    ray.kill(c)

    def again() -> bool:
        try:
            fresh = counter.options(name="reused").remote()
            return ray.get(fresh.add.remote()) == 1
        except (ValueError, ray.exceptions.RayActorError):
            return False

    assert eventually(again)


def test_namespaces_keep_names_apart() -> None:
    counter = counter_class()
    a = counter.options(name="same", namespace="one").remote(1)
    b = counter.options(name="same", namespace="two").remote(2)
    assert ray.get([a.add.remote(0), b.add.remote(0)]) == [1, 2]
    assert ray.get(ray.get_actor("same", namespace="two").add.remote(0)) == 2
    with pytest.raises(ValueError):
        ray.get_actor("same")


def test_get_if_exists_gives_the_same_actor() -> None:
    counter = counter_class()
    a = counter.options(name="shared", get_if_exists=True).remote(1)
    b = counter.options(name="shared", get_if_exists=True).remote(50)
    assert ray.get([a.add.remote(), b.add.remote()]) == [2, 3]


def test_get_if_exists_without_a_name_is_a_value_error() -> None:
    with pytest.raises(ValueError):
        counter_class().options(get_if_exists=True).remote()


def test_a_named_actor_is_reached_from_a_task() -> None:
    c = counter_class().options(name="from-task").remote(7)

    @ray.remote
    def look() -> int:
        return ray.get(ray.get_actor("from-task").add.remote(0))

    assert ray.get(look.remote()) == 7
    del c


def test_list_named_actors_names_the_living_of_this_namespace() -> None:
    counter = counter_class()
    mine = counter.options(name="listed").remote()
    other = counter.options(name="elsewhere", namespace="far").remote()
    ray.get([mine.add.remote(), other.add.remote()])
    names = ray.util.list_named_actors()
    assert "listed" in names
    assert "elsewhere" not in names
    everywhere = ray.util.list_named_actors(all_namespaces=True)
    assert {"name": "elsewhere", "namespace": "far"} in everywhere


def test_a_detached_actor_lives_without_handles_until_it_is_killed() -> None:
    c = counter_class().options(name="detached", lifetime="detached").remote(3)
    ray.get(c.add.remote())
    del c
    gc.collect()
    time.sleep(0.2)
    again = ray.get_actor("detached")
    assert ray.get(again.add.remote()) == 5
    ray.kill(again)


def test_an_unknown_lifetime_is_refused() -> None:
    with pytest.raises(ValueError, match="lifetime"):
        counter_class().options(lifetime="forever").remote()


def test_an_async_actor_interleaves_its_calls() -> None:
    @ray.remote
    class Gate:
        def __init__(self) -> None:
            self.event = asyncio.Event()

        async def wait(self) -> str:
            await self.event.wait()
            return "open"

        async def open(self) -> None:
            self.event.set()

    gate = Gate.remote()
    waiting = [gate.wait.remote() for _ in range(5)]
    ray.get(gate.open.remote(), timeout=30)
    assert ray.get(waiting, timeout=30) == ["open"] * 5


def test_an_async_actor_respects_max_concurrency() -> None:
    @ray.remote(max_concurrency=2)
    class Busy:
        def __init__(self) -> None:
            self.now = self.most = 0

        async def work(self) -> int:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.02)
            self.now -= 1
            return self.most

    busy = Busy.remote()
    assert max(ray.get([busy.work.remote() for _ in range(8)])) == 2


def test_an_async_method_awaits_refs_and_other_actors() -> None:
    @ray.remote
    def f(x: int) -> int:
        return x * 2

    counter = counter_class()

    @ray.remote
    class Caller:
        async def run(self) -> list[int]:
            c = counter.remote()
            return [await f.remote(2), await c.add.remote(5)]

    assert ray.get(Caller.remote().run.remote()) == [4, 5]


def test_a_sync_method_of_an_async_actor_works() -> None:
    @ray.remote
    class Mixed:
        async def a(self) -> int:
            return 1

        def b(self) -> int:
            return 2

    mixed = Mixed.remote()
    assert ray.get([mixed.a.remote(), mixed.b.remote()]) == [1, 2]


def test_an_async_method_error_crosses() -> None:
    @ray.remote
    class A:
        async def fail(self) -> None:
            await asyncio.sleep(0)
            raise KeyError("async")

        async def fine(self) -> int:
            return 1

    a = A.remote()
    with pytest.raises(KeyError, match="async"):
        ray.get(a.fail.remote())
    assert ray.get(a.fine.remote()) == 1


def test_a_threaded_actor_runs_calls_side_by_side() -> None:
    @ray.remote(max_concurrency=3)
    class Meet:
        def __init__(self) -> None:
            self.barrier = threading.Barrier(3)

        def meet(self) -> int:
            return self.barrier.wait(timeout=30)

    meet = Meet.remote()
    assert sorted(ray.get([meet.meet.remote() for _ in range(3)])) == [0, 1, 2]


def test_a_plain_actor_runs_one_call_at_a_time() -> None:
    @ray.remote
    class One:
        def __init__(self) -> None:
            self.now = self.most = 0

        def work(self) -> int:
            self.now += 1
            self.most = max(self.most, self.now)
            time.sleep(0.01)
            self.now -= 1
            return self.most

    one = One.remote()
    assert max(ray.get([one.work.remote() for _ in range(6)])) == 1


def test_two_callers_interleave_but_each_keeps_its_order() -> None:
    @ray.remote
    class Log:
        def __init__(self) -> None:
            self.seen: list[tuple[str, int]] = []

        def add(self, who: str, i: int) -> None:
            self.seen.append((who, i))

        def read(self) -> list[tuple[str, int]]:
            return self.seen

    log = Log.remote()

    @ray.remote
    def caller(who: str) -> None:
        ray.get([log.add.remote(who, i) for i in range(30)])

    ray.get([caller.remote("a"), caller.remote("b")])
    seen = ray.get(log.read.remote())
    for who in "ab":
        assert [i for w, i in seen if w == who] == list(range(30))


def test_a_ref_returned_by_an_actor_can_be_read_after_the_actor_is_gone() -> None:
    @ray.remote
    class Maker:
        def make(self) -> int:
            return 11

    maker = Maker.remote()
    ref = maker.make.remote()
    assert ray.get(ref) == 11
    ray.kill(maker)
    assert ray.get(ref) == 11


def test_a_call_waits_for_a_slow_constructor() -> None:
    @ray.remote
    class Slow:
        def __init__(self) -> None:
            time.sleep(0.3)

        def ready(self) -> bool:
            return True

    assert ray.get(Slow.remote().ready.remote())


def test_handles_have_a_readable_repr() -> None:
    c = counter_class().remote()
    assert "Counter" in repr(c)
    assert isinstance(c, ray.actor.ActorHandle)


def test_an_actor_class_keeps_its_name_for_options() -> None:
    counter = counter_class()
    c = counter.options(num_cpus=1).remote(2)
    assert ray.get(c.add.remote()) == 3


def test_actor_pool_maps_in_order_and_unordered() -> None:
    @ray.remote
    class Doubler:
        def run(self, x: int) -> int:
            return 2 * x

    pool = ray.util.ActorPool([Doubler.remote() for _ in range(2)])
    assert list(pool.map(lambda a, v: a.run.remote(v), range(6))) == [0, 2, 4, 6, 8, 10]
    assert sorted(pool.map_unordered(lambda a, v: a.run.remote(v), range(6))) == [0, 2, 4, 6, 8, 10]


def test_actor_pool_submit_and_get_next() -> None:
    @ray.remote
    class Doubler:
        def run(self, x: int) -> int:
            return 2 * x

    pool = ray.util.ActorPool([Doubler.remote()])
    pool.submit(lambda a, v: a.run.remote(v), 1)
    pool.submit(lambda a, v: a.run.remote(v), 2)
    assert pool.has_next()
    assert [pool.get_next(), pool.get_next()] == [2, 4]
    assert not pool.has_next()
    with pytest.raises(StopIteration):
        pool.get_next()
    assert pool.has_free()
    idle = pool.pop_idle()
    assert idle is not None
    pool.push(idle)


def test_queue_moves_items_between_processes() -> None:
    from importlib import import_module

    queue_module = import_module(ray.__name__ + ".util.queue")
    queue = queue_module.Queue(maxsize=2)

    @ray.remote
    def produce(q: Any) -> None:
        for i in range(5):
            q.put(i, timeout=30)

    ref = produce.remote(queue)
    assert [queue.get(timeout=30) for _ in range(5)] == [0, 1, 2, 3, 4]
    ray.get(ref)
    assert queue.empty()
    with pytest.raises(queue_module.Empty):
        queue.get_nowait()
    queue.put_nowait("a")
    queue.put_nowait("b")
    assert queue.full()
    assert queue.qsize() == 2
    with pytest.raises(queue_module.Full):
        queue.put_nowait("c")
    queue.shutdown()
