"""Does an actor's story stay whole: late arguments, last words, threads, ends?"""

from __future__ import annotations

import os
import signal
import threading
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


# ------------------------------------------------------------------------------------ last words
@ray.remote(num_cpus=0)
class Fragile:
    """Ends in the middle of a burst of fast calls."""

    def work(self, i: int, end_at: int, how: str) -> int:
        """i, unless it is the end."""
        if i == end_at:
            if how == "exit":
                os._exit(1)
            elif how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            else:
                os.abort()
        return i

    def fork(self) -> int:
        """A child of the program's own ends without a word."""
        pid = os.fork()
        if pid == 0:
            os._exit(7)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def outcome(ref: Any) -> Any:
    """The value, or the name of the error."""
    try:
        return get(ref)
    except ray.exceptions.RayError as error:
        return type(error).__name__


@pytest.mark.parametrize("how", ["exit", "kill", "abort"])
def test_what_was_finished_is_answered_though_the_next_call_ends_the_process(how: str) -> None:
    fragile = Fragile.remote()
    get([fragile.work.remote(i, -1, how) for i in range(300)])  # known to be fast: answers share frames
    found = [outcome(ref) for ref in [fragile.work.remote(i, 50, how) for i in range(100)]]
    assert found == [*range(50), *["ActorDiedError"] * 50]


def test_a_forked_child_of_an_actor_speaks_for_nobody() -> None:
    fragile = Fragile.remote()
    assert get([fragile.work.remote(1, -1, ""), fragile.fork.remote(), fragile.work.remote(2, -1, "")]) == [
        1,
        7,
        2,
    ]


def test_an_actor_that_was_built_again_answers_call_by_call() -> None:
    fragile = Fragile.options(max_restarts=1).remote()
    get(fragile.work.remote(0, -1, ""))
    outcome(fragile.work.remote(0, 0, "exit"))
    assert eventually(lambda: outcome(fragile.work.remote(1, -1, "")) == 1)
    assert get([fragile.work.remote(i, -1, "") for i in range(200)]) == list(range(200))


# ------------------------------------------------------------------------------------ threads
def test_a_thread_reads_while_the_event_loop_sleeps_in_a_call() -> None:
    @ray.remote(num_cpus=0)
    class Sleeper:
        def __init__(self) -> None:
            self.found: list[Any] = []
            self.done = threading.Event()

        async def ask_in_a_thread(self, box: Any) -> None:
            def ask() -> None:
                self.found.append(ray.get(box[0].read.remote()))
                self.done.set()

            threading.Thread(target=ask).start()

        def block(self) -> Any:
            self.done.wait(WAIT_S)
            return self.found

    box = Box.options(num_cpus=0).remote(8)
    sleeper = Sleeper.remote()
    blocked = [sleeper.ask_in_a_thread.remote([box]), sleeper.block.remote()]
    assert get(blocked)[1] == [8]


def test_objects_of_an_actor_are_given_out_while_its_event_loop_is_blocked(tmp_path: Any) -> None:
    @ray.remote(num_cpus=0)
    class Owner:
        async def make(self) -> list[Any]:
            return [ray.put(5)]

        def block(self, path: str) -> bool:
            deadline = time.monotonic() + WAIT_S
            while not os.path.exists(path) and time.monotonic() < deadline:
                time.sleep(0.01)
            return os.path.exists(path)

    owner = Owner.remote()
    (ref,) = get(owner.make.remote())
    blocked = owner.block.remote(str(tmp_path / "go"))
    assert get(ref) == 5
    (tmp_path / "go").touch()
    assert get(blocked)


def test_a_blocking_get_in_an_event_loop_is_warned_of_once() -> None:
    @ray.remote(num_cpus=0)
    class Blocking:
        async def read(self, box: Any) -> Any:
            return ray.get(box[0].read.remote())

        def log(self) -> str:
            with open("/proc/self/fd/1") as file:
                return file.read()

    box = Box.options(num_cpus=0).remote(3)
    blocking = Blocking.remote()
    assert get([blocking.read.remote([box]) for _ in range(3)]) == [3, 3, 3]
    assert get(blocking.log.remote()).count("blocks its event loop") == 1


def test_finished_calls_do_not_wait_for_a_blocking_neighbour(tmp_path: Any) -> None:
    @ray.remote(num_cpus=0)
    class Mixed:
        async def quick(self) -> int:
            return 1

        def block(self, path: str) -> bool:
            deadline = time.monotonic() + WAIT_S
            while not os.path.exists(path) and time.monotonic() < deadline:
                time.sleep(0.01)
            return os.path.exists(path)

    mixed = Mixed.remote()
    quick, blocked = mixed.quick.remote(), mixed.block.remote(str(tmp_path / "go"))
    assert get(quick) == 1
    (tmp_path / "go").touch()
    assert get(blocked)


def test_threads_of_an_actor_know_whose_they_are() -> None:
    @ray.remote(num_cpus=0)
    class Knows:
        def ask(self) -> tuple[Any, Any]:
            found: list[Any] = []
            thread = threading.Thread(target=lambda: found.append(ray.get_runtime_context().get_actor_id()))
            thread.start()
            thread.join()
            return found[0], ray.get_runtime_context().get_actor_id()

    in_thread, in_call = get(Knows.remote().ask.remote())
    assert in_thread == in_call is not None


# ------------------------------------------------------------------------------------ ends
@ray.remote
class Leaver:
    """Leaves in uncommon ways."""

    def ping(self) -> int:
        """Still there."""
        return 1

    def swallow(self) -> str:
        """Catches even the exit."""
        try:
            ray.actor.exit_actor()
        except BaseException:
            return "stayed"

    def in_a_thread(self) -> None:
        """A thread that is no call."""
        threading.Timer(0.05, self._leave).start()

    def _leave(self) -> None:
        try:
            ray.actor.exit_actor()
        except SystemExit:
            pass


@pytest.mark.parametrize("threads", [1, 2])
def test_an_actor_does_not_stay_for_swallowing_its_exit(threads: int) -> None:
    leaver = Leaver.options(num_cpus=0, max_concurrency=threads).remote()
    get(leaver.ping.remote())
    leaver.swallow.remote()
    assert eventually(lambda: outcome(leaver.ping.remote()) == "ActorDiedError")


@pytest.mark.parametrize("threads", [1, 2])
def test_a_thread_of_the_program_may_end_its_actor(threads: int) -> None:
    leaver = Leaver.options(num_cpus=0, max_concurrency=threads).remote()
    get(leaver.in_a_thread.remote())
    assert eventually(lambda: outcome(leaver.ping.remote()) == "ActorDiedError")


def test_a_lost_connection_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from minray.engine.seam import slot
    from minray.worker import actor_calls

    monkeypatch.setattr(actor_calls, "CUT_OFF_S", 0.1)
    box = Box.options(num_cpus=0).remote(4)
    assert get(box.read.remote()) == 4
    calls = slot.engine.core.actors[box._actor_id.binary()]
    calls.peer.channel.sock.shutdown(2)
    assert eventually(lambda: calls.peer is None or calls.peer.gone)
    assert eventually(lambda: outcome(box.read.remote()) == 4)


def test_an_owner_forgets_actors_that_are_gone() -> None:
    from minray.engine.seam import slot

    boxes = [Box.options(num_cpus=0).remote(i) for i in range(6)]
    ids = [box._actor_id.binary() for box in boxes]
    assert get([box.read.remote() for box in boxes]) == list(range(6))
    for box in boxes[:3]:
        ray.kill(box)
    assert {outcome(box.read.remote()) for box in boxes[:3]} == {"ActorDiedError"}
    del box, boxes
    assert eventually(lambda: not any(one in slot.engine.core.actors for one in ids))


def test_exit_actor_of_a_threaded_actor_finishes_what_runs() -> None:
    @ray.remote(num_cpus=0, max_concurrency=2)
    class Two:
        def __init__(self) -> None:
            self.started = threading.Event()

        def slow(self) -> str:
            self.started.set()
            time.sleep(0.3)
            return "finished"

        def leave(self) -> None:
            self.started.wait(WAIT_S)
            ray.actor.exit_actor()

    two = Two.remote()
    slow, leave = two.slow.remote(), two.leave.remote()
    assert [outcome(slow), outcome(leave)] == ["finished", "ActorDiedError"]


# ------------------------------------------------------------------------------------ many calls
def test_thousands_of_calls_that_wait_keep_nobody_from_being_sent() -> None:
    @ray.remote(num_cpus=0, concurrency_groups={"wait": 1, "open": 1})
    class Gate:
        def __init__(self) -> None:
            self.gate = threading.Event()

        @ray.method(concurrency_group="wait")
        def wait(self) -> bool:
            return self.gate.wait(WAIT_S)

        @ray.method(concurrency_group="open")
        def open(self) -> None:
            self.gate.set()

    gate = Gate.options(allow_out_of_order_execution=True).remote()
    waiting = [gate.wait.remote() for _ in range(5000)]
    get(gate.open.remote())
    assert all(get(waiting))
    ordered = Gate.remote()  # in order: more than a window's worth, of one group, is not in another's way either
    waiting = [ordered.wait.remote() for _ in range(2500)]
    get(ordered.open.remote())
    assert all(get(waiting))


def test_calls_with_late_arguments_count_as_pending(tmp_path: Any) -> None:
    @ray.remote(num_cpus=0, max_concurrency=2, max_pending_calls=2)
    class Echo:
        def say(self, x: int) -> int:
            return x

    late = when_there.remote(str(tmp_path / "go"))
    echo = Echo.remote()
    refs = [echo.say.remote(late), echo.say.remote(late)]
    with pytest.raises(ray.exceptions.PendingCallsLimitExceeded):
        echo.say.remote(3)
    (tmp_path / "go").touch()
    assert get(refs) == [1, 1]
    assert get(echo.say.remote(3)) == 3


def test_a_call_is_recorded_under_the_name_that_it_was_given() -> None:
    from minray.engine.seam import slot

    box = Box.options(num_cpus=0).remote(1)
    get([box.read.options(name="the only one").remote(), box.read.remote()])
    names = [getattr(event, "name", "") for event in slot.engine.events(0).events]
    assert names.count("the only one") >= 2  # submitted, finished
    assert "Box.read" in names
