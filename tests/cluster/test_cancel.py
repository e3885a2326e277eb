"""`cancel` finds a task wherever it is, stops it and nothing else, and leaves nothing behind.

What Ray does too is in tests/parity/test_parity_cancel.py. Here: the inside (batches, races, leaks), and
the cases in which Ray 2.60 fails: a task that waits for an argument aborts its driver, a call that is
cancelled while it waits for one stalls its actor, a call that waits in the actor runs all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minray.engine.seam import current
from minray.exceptions import OwnerDiedError, RayTaskError, TaskCancelledError
from tests.chaos.program import Program

pytestmark = [pytest.mark.cluster]
LONG_S = 120.0


def _until(what: Callable[[], Any], within_s: float = 30.0) -> Any:
    give_up = time.monotonic() + within_s
    while not (found := what()):
        assert time.monotonic() < give_up, "it did not come to that"
        time.sleep(0.01)
    return found


def _cancelled(ray: Any, ref: Any) -> Any:
    with pytest.raises(TaskCancelledError) as caught:
        ray.get(ref, timeout=60)
    return caught.value


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _touch_and_sleep(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    time.sleep(LONG_S)


def _note(path: str, what: Any) -> Any:
    """Append one line at once: who ran, how often."""
    with open(path, "a") as file:
        file.write(f"{what}\n")
    return what


def _lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


# ------------------------------------------------------------------------------------ before it runs
def test_a_task_that_waits_for_an_argument_is_cancelled_and_lets_its_other_arguments_go(
    cluster: Any, tmp_path: Path
) -> None:
    ray = cluster
    gate = ray.remote(_touch_and_sleep).remote(str(tmp_path / "gate"))
    kept = ray.put(b"x" * 300_000)
    refs_before = len(gc.get_referrers(kept))
    waits = ray.remote(lambda a, b: _note(str(tmp_path / "ran"), "ran")).remote(gate, kept)
    _until((tmp_path / "gate").exists)
    ray.cancel(waits)
    error = _cancelled(ray, waits)
    assert not isinstance(error, RayTaskError) and "before it started" in str(error)
    gc.collect()
    assert len(gc.get_referrers(kept)) <= refs_before, "the waiting argument keeps the others"
    assert not current().core.held and not current().core.unready
    ray.cancel(gate)
    _cancelled(ray, gate)
    assert not (tmp_path / "ran").exists()


def test_what_depends_on_a_task_cancelled_in_the_queue_fails_with_it(cluster: Any) -> None:
    ray = cluster
    task = ray.remote(num_cpus=2)(lambda x=None: x)
    blocker = ray.remote(num_cpus=2)(lambda: time.sleep(LONG_S)).remote()
    queued = task.remote()
    chain = task.remote(task.remote(queued))
    ray.cancel(queued)
    _cancelled(ray, chain)
    ray.cancel(blocker)
    _cancelled(ray, blocker)


def test_neighbours_in_a_batch_run_untouched_and_exactly_once(
    cluster_of: Callable[..., Any], tmp_path: Path
) -> None:
    ray = cluster_of(num_cpus=1)
    path = str(tmp_path / "ran")

    @ray.remote(max_retries=0)
    def quick(number: int) -> Any:
        return _note(path, number)

    @ray.remote(max_retries=0)
    def gate(number: int, path: str, open_path: str) -> None:
        Path(path).touch()
        while not Path(open_path).exists():
            time.sleep(0.005)

    for number in range(50):
        ray.get(quick.remote(-1 - number))  # known to be fast: many share a frame
    first = gate.remote(0, str(tmp_path / "in"), str(tmp_path / "open"))
    refs = [quick.remote(number) for number in range(40)]
    _until((tmp_path / "in").exists)
    out = [3, 4, 17, 39]
    for number in out:
        ray.cancel(refs[number], force=number == 17)
    for number in out:
        _cancelled(ray, refs[number])
    (tmp_path / "open").touch()
    ray.get(first)
    rest = [ref for number, ref in enumerate(refs) if number not in out]
    assert ray.get(rest, timeout=60) == [number for number in range(40) if number not in out]
    ran = [int(line) for line in _lines(tmp_path / "ran") if int(line) >= 0]
    assert ran == [number for number in range(40) if number not in out]


def test_a_queue_of_thousands_is_cancelled_from_either_end(cluster_of: Callable[..., Any]) -> None:
    ray = cluster_of(num_cpus=1)
    blocker = ray.remote(lambda: time.sleep(LONG_S)).remote()
    refs = [ray.remote(lambda: 1).remote() for _ in range(2)] + [_one(ray).remote() for _ in range(3000)]
    for ref in reversed(refs):
        ray.cancel(ref)
    for ref in refs:
        _cancelled(ray, ref)
    ray.cancel(blocker)
    _cancelled(ray, blocker)
    assert ray.get(_one(ray).remote(), timeout=60) == 1
    assert not current().core.table


def _one(ray: Any) -> Any:
    return ray.remote(_return_one)


def _return(value: Any) -> Any:
    return value


def _return_one() -> int:
    return 1


# ---------------------------------------------------------------------------------------- while it runs
def _in_loop() -> None:
    while True:
        pass


def _in_sleep() -> None:
    time.sleep(LONG_S)


def _in_lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def _in_socket() -> None:
    one, _other = socket.socketpair()
    one.recv(1)


def _in_subprocess() -> None:
    subprocess.run(["sleep", "120"], check=True)


def _in_c_code() -> None:
    while True:
        sum(range(3_000_000))


def _in_get() -> None:
    import minray

    minray.get(minray.remote(_in_sleep).remote())


def _in_wait() -> None:
    import minray

    minray.wait([minray.remote(_in_sleep).remote()])


def _in_get_of_a_thread() -> None:
    import minray

    thread = threading.Thread(target=lambda: contextlib.suppress(Exception)(_in_get), daemon=True)
    thread.start()
    minray.get(minray.remote(num_cpus=0)(_in_sleep).remote())


def _in_calls() -> None:
    import minray

    one = minray.remote(num_cpus=0)(_return_one)
    while True:
        minray.get([one.remote() for _ in range(20)])


def _in_asyncio() -> None:
    asyncio.run(asyncio.sleep(LONG_S))


def _in_puts() -> None:
    import minray

    while True:
        minray.put(b"x" * 200_000)


@pytest.mark.parametrize(
    "work",
    [
        _in_loop,
        _in_sleep,
        _in_lock,
        _in_socket,
        _in_subprocess,
        _in_c_code,
        _in_get,
        _in_wait,
        _in_get_of_a_thread,
        _in_calls,
        _in_asyncio,
        _in_puts,
    ],
    ids=lambda work: work.__name__[1:],
)
def test_a_running_task_is_interrupted_whatever_it_does(
    cluster: Any, tmp_path: Path, work: Callable[[], None]
) -> None:
    ray = cluster

    @ray.remote
    def run(path: str) -> None:
        Path(path).write_text(str(os.getpid()))
        work()

    ref = run.remote(str(tmp_path / "a"))
    pid = int(_until(lambda: (tmp_path / "a").exists() and (tmp_path / "a").read_text()))
    time.sleep(0.05)
    ray.cancel(ref)
    error = _cancelled(ray, ref)
    assert isinstance(error, RayTaskError)  # its own interrupt, or the end of the child that it waited for
    assert not _gone(pid)
    assert ray.get([_one(ray).remote() for _ in range(20)], timeout=60) == [1] * 20
    _until(lambda: ray.available_resources().get("CPU") == 2.0)


def test_native_code_that_never_returns_is_ended_by_force(cluster: Any, tmp_path: Path) -> None:
    ray = cluster

    @ray.remote(max_retries=3)
    def hold(path: str) -> None:
        import ctypes

        Path(path).write_text(str(os.getpid()))
        ctypes.PyDLL(None).sleep(120)  # with the GIL held: no other thread of the process runs

    ref = hold.remote(str(tmp_path / "a"))
    pid = int(_until(lambda: (tmp_path / "a").exists() and (tmp_path / "a").read_text()))
    ray.cancel(ref, force=True)
    assert "by force" in str(_cancelled(ray, ref))
    _until(lambda: _gone(pid))
    assert ray.get(_one(ray).remote(), timeout=60) == 1


def test_force_costs_the_neighbours_behind_no_retry(cluster_of: Callable[..., Any], tmp_path: Path) -> None:
    ray = cluster_of(num_cpus=1)
    path = str(tmp_path / "ran")

    @ray.remote(max_retries=0)
    def either(number: int) -> Any:
        if number == 100:
            Path(path + ".in").touch()
            time.sleep(LONG_S)
        return _note(path, number)

    for _ in range(20):
        ray.get(either.remote(-1))
    before = [either.remote(number) for number in range(5)]
    middle = either.remote(100)
    behind = [either.remote(number) for number in range(5, 25)]
    _until(Path(path + ".in").exists)
    ray.cancel(middle, force=True)
    _cancelled(ray, middle)
    assert ray.get(before + behind, timeout=60) == list(range(25))
    assert [int(line) for line in _lines(tmp_path / "ran") if int(line) >= 0] == list(range(25))


def test_the_interrupt_never_hits_a_neighbour(cluster_of: Callable[..., Any], tmp_path: Path) -> None:
    """Each of a thousand tasks is cancelled at about the moment of its end, with others around it."""
    ray = cluster_of(num_cpus=1)
    seed = int(os.environ.get("MINRAY_TEST_SEED", "0")) or random.randrange(1 << 30)
    print(f"MINRAY_TEST_SEED={seed}")
    dice = random.Random(seed)
    path = str(tmp_path / "ran")

    @ray.remote(max_retries=0)
    def work(number: int, rounds: int) -> int:
        os.write(_descriptor(path), b"%d\n" % number)
        total = 0
        for step in range(rounds):
            total += step
        return number

    victims = 1000
    number = 0
    while number < 3 * victims:
        refs = []
        for _ in range(15):
            refs.append((number, work.remote(number, dice.choice((10, 1000, 20_000)))))
            number += 1
        chosen = dice.sample(refs, 5)
        for _, ref in chosen:
            if dice.random() < 0.5:
                time.sleep(dice.random() * 0.002)
            ray.cancel(ref)
        cancelled = {one for one, _ in chosen}
        for one, ref in refs:
            try:
                assert ray.get(ref, timeout=60) == one
            except TaskCancelledError:
                assert one in cancelled, f"seed {seed}: the neighbour {one} was hit"
    counts: dict[str, int] = {}
    for line in _lines(tmp_path / "ran"):
        counts[line] = counts.get(line, 0) + 1
    assert max(counts.values()) == 1, f"seed {seed}: some ran twice"
    core = current().core
    assert not core.table and not core.held and not core.multi and not core.revoked


_opened: dict[str, int] = {}


def _descriptor(path: str) -> int:
    if path not in _opened:
        _opened[path] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    return _opened[path]


# ------------------------------------------------------------------------------------------- retries
def test_a_task_that_is_being_retried_is_not_retried_again(cluster: Any, tmp_path: Path) -> None:
    ray = cluster
    path = str(tmp_path / "tries")

    @ray.remote(max_retries=-1, retry_exceptions=True)
    def flaky() -> None:
        _note(path, "x")
        time.sleep(0.01)
        raise ConnectionError

    ref = flaky.remote()
    _until(lambda: len(_lines(tmp_path / "tries")) >= 3)
    ray.cancel(ref)
    with pytest.raises((TaskCancelledError, ConnectionError)):
        ray.get(ref, timeout=60)
    tries = len(_lines(tmp_path / "tries"))
    time.sleep(0.2)
    assert len(_lines(tmp_path / "tries")) == tries


def test_a_cancelled_task_whose_worker_dies_is_cancelled_not_lost(cluster: Any, tmp_path: Path) -> None:
    ray = cluster

    @ray.remote(max_retries=5)
    def stubborn(path: str) -> None:
        _note(path, os.getpid())
        while True:
            try:
                time.sleep(0.01)
            except KeyboardInterrupt:
                _note(path, "ignored")

    ref = stubborn.remote(str(tmp_path / "a"))
    _until(lambda: _lines(tmp_path / "a"))
    ray.cancel(ref)
    pid = _until(lambda: len(_lines(tmp_path / "a")) == 2 and int(_lines(tmp_path / "a")[0]))
    os.kill(pid, signal.SIGKILL)
    _cancelled(ray, ref)
    assert len(_lines(tmp_path / "a")) == 2


# ------------------------------------------------------------------------------------------ children
def test_children_submitted_while_the_parent_is_being_cancelled_do_not_escape(
    cluster_of: Callable[..., Any], tmp_path: Path
) -> None:
    ray = cluster_of(num_cpus=2)
    path = str(tmp_path / "ended")

    @ray.remote(num_cpus=0.5)
    def child(directory: str, number: int) -> None:
        time.sleep(0.2)
        _note(path, number)

    @ray.remote(num_cpus=0)
    def parent(directory: str) -> None:
        refs = []
        for number in range(1_000_000):
            refs.append(child.remote(directory, number))
            if number == 5:
                Path(directory, "in").touch()
            time.sleep(0.0005)

    for attempt in range(2):
        with contextlib.suppress(FileNotFoundError):
            (tmp_path / "in").unlink()
        ref = parent.remote(str(tmp_path))
        _until((tmp_path / "in").exists)
        ray.cancel(ref)
        _cancelled(ray, ref)
        ended = _lines(tmp_path / "ended")
        time.sleep(0.5)
        assert _lines(tmp_path / "ended") == ended, f"attempt {attempt}"
    _until(lambda: ray.available_resources().get("CPU") == 2.0)


def test_what_a_method_submits_after_the_order_is_cancelled_until_it_has_looked(
    cluster: Any, tmp_path: Path
) -> None:
    ray = cluster
    one = ray.remote(_return)
    seven = ray.put(7)

    @ray.remote
    class Actor:
        def work(self, path: str, gate: str) -> list[Any]:
            Path(path).touch()
            while not Path(gate).exists():
                time.sleep(0.005)
            self.seen = [self.try_one()]
            assert ray.get_runtime_context().is_canceled()
            self.seen.append(self.try_one())  # it knows: this is on purpose
            return self.seen

        def try_one(self) -> Any:
            try:
                return ray.get([one.remote(1), one.remote(seven)])
            except TaskCancelledError:
                return "cancelled"

        def log(self) -> list[Any]:
            return self.seen

    actor = Actor.remote()
    ref = actor.work.remote(str(tmp_path / "in"), str(tmp_path / "gate"))
    _until((tmp_path / "in").exists)
    ray.cancel(ref)
    time.sleep(0.1)
    (tmp_path / "gate").touch()
    _cancelled(ray, ref)
    assert ray.get(actor.log.remote()) == ["cancelled", [1, 7]]


def test_the_children_of_a_neighbour_are_left_alone(cluster: Any, tmp_path: Path) -> None:
    """One call of a concurrent actor is cancelled; what the other submitted goes on."""
    ray = cluster

    @ray.remote(num_cpus=0)
    def child(path: str, gate: str) -> str:
        Path(path).touch()
        while not Path(gate).exists():
            time.sleep(0.005)
        return "done"

    @ray.remote
    class Threaded:
        def work(self, path: str, gate: str) -> Any:
            return ray.get(child.remote(path, gate))

    @ray.remote
    class Async:
        async def work(self, path: str, gate: str) -> Any:
            return await child.remote(path, gate)

    for kind in (Threaded.options(max_concurrency=3), Async):
        folder = tmp_path / f"{kind is Async}"
        folder.mkdir()
        actor = kind.remote()
        refs = [actor.work.remote(str(folder / str(n)), str(folder / "gate")) for n in range(3)]
        for n in range(3):
            _until((folder / str(n)).exists)
        ray.cancel(refs[1])
        _cancelled(ray, refs[1])
        (folder / "gate").touch()
        assert ray.get([refs[0], refs[2]], timeout=60) == ["done", "done"]


# -------------------------------------------------------------------------------------------- actors
def test_a_call_that_waits_in_its_actor_never_runs_and_the_next_one_does(
    cluster: Any, tmp_path: Path
) -> None:
    ray = cluster

    @ray.remote
    class Actor:
        def __init__(self) -> None:
            self.log: list[int] = []

        def wait(self, path: str, gate: str) -> None:
            Path(path).touch()
            while not Path(gate).exists():
                time.sleep(0.005)

        def add(self, number: int) -> list[int]:
            self.log.append(number)
            return self.log

    for threads in (1, 2):
        folder = tmp_path / str(threads)
        folder.mkdir()
        actor = Actor.options(max_concurrency=threads).remote()
        busy = [actor.wait.remote(str(folder / f"in{n}"), str(folder / "gate")) for n in range(threads)]
        calls = [actor.add.remote(number) for number in range(4)]
        for n in range(threads):
            _until((folder / f"in{n}").exists)
        ray.cancel(calls[1])
        ray.cancel(calls[3])
        _cancelled(ray, calls[1])
        _cancelled(ray, calls[3])
        (folder / "gate").touch()
        ray.get([*busy, calls[0], calls[2]], timeout=60)
        assert sorted(ray.get(actor.add.remote(9))) == [0, 2, 9]


def test_a_waiting_call_of_an_async_actor_never_runs(cluster: Any, tmp_path: Path) -> None:
    ray = cluster

    @ray.remote(max_concurrency=1)
    class Actor:
        async def wait(self, path: str) -> None:
            _note(path, "ran")
            await asyncio.sleep(LONG_S)

        async def add(self, number: int) -> int:
            return number

    actor = Actor.remote()
    first = actor.wait.remote(str(tmp_path / "a"))
    _until((tmp_path / "a").exists)
    second, third = actor.wait.remote(str(tmp_path / "b")), actor.add.remote(3)
    ray.cancel(second)
    _cancelled(ray, second)  # at once, not when its turn comes
    ray.cancel(first)
    _cancelled(ray, first)
    assert ray.get(third, timeout=60) == 3
    assert not (tmp_path / "b").exists()


def test_a_call_that_waits_for_an_argument_gives_its_place_up(cluster: Any, tmp_path: Path) -> None:
    ray = cluster

    @ray.remote
    class Actor:
        def add(self, number: Any) -> Any:
            return number

    actor = Actor.remote()
    gate = ray.remote(_touch_and_sleep).remote(str(tmp_path / "in"))
    stuck, behind = actor.add.remote(gate), actor.add.remote(2)
    _until((tmp_path / "in").exists)
    assert ray.wait([behind], timeout=0.2) == ([], [behind])
    ray.cancel(stuck)
    assert ray.get(behind, timeout=60) == 2
    _cancelled(ray, stuck)
    ray.cancel(gate)
    _cancelled(ray, gate)


def test_an_actor_is_never_cancelled_with_the_task_that_made_it(cluster: Any, tmp_path: Path) -> None:
    ray = cluster

    @ray.remote(num_cpus=0)
    def slow(gate: str) -> int:
        while not Path(gate).exists():
            time.sleep(0.005)
        return 7

    @ray.remote(num_cpus=0)
    def parent(path: str, refs: list[Any]) -> None:
        ray.remote(_Kept).options(name="kept", lifetime="detached").remote(refs[0])
        Path(path).touch()
        time.sleep(LONG_S)

    late = slow.remote(str(tmp_path / "gate"))
    ref = parent.remote(str(tmp_path / "in"), [late])
    _until((tmp_path / "in").exists)
    ray.cancel(ref)
    _cancelled(ray, ref)
    (tmp_path / "gate").touch()
    _until(lambda: "kept" in ray.util.list_named_actors())
    assert ray.get(ray.get_actor("kept").get.remote(), timeout=60) == 7


class _Kept:
    def __init__(self, argument: Any) -> None:
        self.argument = argument

    def get(self) -> Any:
        return self.argument


def test_a_value_that_is_cancelled_away_leaves_no_block_behind(cluster: Any, tmp_path: Path) -> None:
    ray = cluster

    @ray.remote
    class Actor:
        def make(self, path: str, gate: str) -> Any:
            Path(path).touch()
            while not Path(gate).exists():
                time.sleep(0.005)
            return [b"x" * 500_000, ray.put(b"y" * 500_000)]

        def in_use(self) -> int:
            gc.collect()
            core = current().core
            core.free_ended()
            return int(core.store.arena.live_bytes())

    actor = Actor.remote()
    ref = actor.make.remote(str(tmp_path / "in"), str(tmp_path / "gate"))
    _until((tmp_path / "in").exists)
    ray.cancel(ref)
    (tmp_path / "gate").touch()
    _cancelled(ray, ref)
    _until(lambda: ray.get(actor.in_use.remote()) == 0)


# ------------------------------------------------------------------------------------------ the driver
def test_a_reply_under_way_is_either_the_value_or_the_cancellation(cluster: Any) -> None:
    ray = cluster
    one = _one(ray)
    ends = {"value": 0, "cancelled": 0}
    for number in range(300):
        ref = one.remote()
        if number % 3:
            ray.wait([ref], timeout=0)
        ray.cancel(ref, force=number % 7 == 0)
        try:
            assert ray.get(ref, timeout=60) == 1
            ends["value"] += 1
        except TaskCancelledError:
            ends["cancelled"] += 1
    assert sum(ends.values()) == 300
    assert not current().core.table
    assert ray.get([one.remote() for _ in range(50)], timeout=60) == [1] * 50


def test_another_thread_s_get_wakes_when_its_task_is_cancelled(cluster: Any) -> None:
    ray = cluster
    blockers = [ray.remote(lambda: time.sleep(LONG_S)).remote() for _ in range(2)]
    queued = _one(ray).remote()
    ended: list[BaseException] = []

    def wait() -> None:
        try:
            ray.get(queued)
        except TaskCancelledError as error:
            ended.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)
    ray.cancel(queued)
    thread.join(timeout=30)
    assert len(ended) == 1
    for ref in blockers:
        ray.cancel(ref)
        _cancelled(ray, ref)


def test_futures_and_awaits_of_a_cancelled_task_end(cluster: Any, tmp_path: Path) -> None:
    ray = cluster
    ref = ray.remote(_touch_and_sleep).remote(str(tmp_path / "a"))

    async def wait() -> None:
        with pytest.raises(TaskCancelledError):
            await asyncio.wait_for(asyncio.wrap_future(ref.future()), 60)

    _until((tmp_path / "a").exists)
    ray.cancel(ref)
    asyncio.run(wait())


def test_the_events_say_cancelled(cluster: Any, tmp_path: Path) -> None:
    ray = cluster
    running = ray.remote(num_cpus=2)(_touch_and_sleep).remote(str(tmp_path / "a"))
    _until((tmp_path / "a").exists)
    queued = _one(ray).remote()
    ray.cancel(queued)
    ray.cancel(running)
    for ref in (queued, running):
        _cancelled(ray, ref)
    events = current().all_events().events
    finished = {event.task_id: event for event in events if type(event).__name__ == "TaskFinished"}
    submitted = {event.task_id for event in events if type(event).__name__ == "TaskSubmitted"}
    for ref, worker in ((queued, False), (running, True)):
        task = ref.task_id().hex()
        assert finished[task].outcome == "cancelled" and task in submitted
        assert bool(finished[task].worker_id) is worker
        assert finished[task].error.startswith("TaskCancelledError")


def test_the_error_names_the_task_and_says_how_far_it_came(cluster: Any, tmp_path: Path) -> None:
    ray = cluster
    ref = ray.remote(_touch_and_sleep).remote(str(tmp_path / "a"))
    _until((tmp_path / "a").exists)
    ray.cancel(ref)
    error = _cancelled(ray, ref)
    assert "_touch_and_sleep" in str(error) and ref.task_id().hex() in str(error)
    assert error.task_id == ref.task_id()


def test_cancel_needs_a_cluster_and_a_reference_of_it(cluster_of: Callable[..., Any]) -> None:
    ray = cluster_of(num_cpus=1)
    old = _one(ray).remote()
    ray.shutdown()
    with pytest.raises(RuntimeError, match=r"call minray.init\(\) first"):
        ray.cancel(old)
    cluster_of(num_cpus=1)
    with pytest.raises(TypeError, match="No owner found for object"):
        ray.cancel(old)


def test_cancelling_what_a_dead_process_owned_does_nothing(cluster: Any, tmp_path: Path) -> None:
    ray = cluster

    @ray.remote(num_cpus=0, max_retries=0)
    def parent(path: str) -> Any:
        return [os.getpid(), ray.remote(num_cpus=0)(_touch_and_sleep).remote(path)]

    pid, inner = ray.get(parent.remote(str(tmp_path / "a")))
    _until((tmp_path / "a").exists)
    os.kill(pid, signal.SIGKILL)
    _until(lambda: _gone(pid))
    ray.cancel(inner)
    with pytest.raises((OwnerDiedError, TaskCancelledError)):
        ray.get(inner, timeout=60)


def test_a_worker_that_gets_ctrl_c_by_hand_interrupts_what_it_runs(cluster: Any, tmp_path: Path) -> None:
    ray = cluster
    ref = ray.remote(_touch_and_sleep).remote(str(tmp_path / "a"))
    pid = int(_until(lambda: (tmp_path / "a").exists() and (tmp_path / "a").read_text()))
    os.kill(pid, signal.SIGINT)
    _cancelled(ray, ref)
    os.kill(pid, signal.SIGINT)  # it runs nothing now
    assert ray.get([_one(ray).remote() for _ in range(20)], timeout=60) == [1] * 20
    assert not _gone(pid)


# ---------------------------------------------------------------------------------------- generators
@pytest.mark.parametrize("options", [{}, {"_generator_backpressure_num_objects": 2}], ids=["busy", "waits"])
@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_streaming_task_is_stopped_and_says_so_after_its_items(
    cluster: Any, options: dict[str, Any], kind: str
) -> None:
    ray = cluster

    @ray.remote(num_cpus=1, **options)
    def plain() -> Any:
        number = 0
        while True:
            yield number
            time.sleep(0.005)
            number += 1

    @ray.remote(num_cpus=1, **options)
    async def coroutine() -> Any:
        number = 0
        while True:
            yield number
            await asyncio.sleep(0.005)
            number += 1

    items = (plain if kind == "plain" else coroutine).remote()
    assert [ray.get(next(items)) for _ in range(3)] == [0, 1, 2]
    time.sleep(0.1)  # with backpressure it stands now
    ray.cancel(items)
    with pytest.raises(TaskCancelledError):
        for number, ref in enumerate(items, 3):
            assert ray.get(ref, timeout=60) == number
    with pytest.raises(StopIteration):
        next(items)
    _until(lambda: ray.available_resources().get("CPU") == 2.0)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_streaming_method_ends_at_its_next_item(cluster: Any, threads: int) -> None:
    ray = cluster

    @ray.remote
    class Source:
        def numbers(self) -> Any:
            for number in range(1_000_000):
                yield (number, b"x" * 150_000)  # in the arena
                time.sleep(0.005)

        def ping(self) -> str:
            return "pong"

    actor = Source.options(max_concurrency=threads).remote()
    items = actor.numbers.options(num_returns="streaming").remote()
    assert ray.get(next(items))[0] == 0
    ray.cancel(items)
    with pytest.raises(TaskCancelledError):
        for ref in items:
            ray.get(ref, timeout=60)
    assert ray.get(actor.ping.remote(), timeout=60) == "pong"


def test_a_streaming_call_of_an_async_actor_is_stopped(cluster: Any) -> None:
    ray = cluster

    @ray.remote
    class Source:
        async def numbers(self) -> Any:
            number = 0
            while True:
                yield number
                await asyncio.sleep(0.005)
                number += 1

        async def ping(self) -> str:
            return "pong"

    actor = Source.remote()
    items = actor.numbers.options(num_returns="streaming").remote()
    assert ray.get(next(items)) == 0
    ray.cancel(items)
    with pytest.raises(TaskCancelledError):
        for ref in items:
            ray.get(ref, timeout=60)
    assert ray.get(actor.ping.remote(), timeout=60) == "pong"


# ------------------------------------------------------------------------------------- all of it at once
_UNDER_CTRL_C = """
import os, random, signal, sys, threading, time
import minray as ray
from minray.engine.seam import current

armed = False
struck = 0
def handler(number, frame):
    global armed, struck
    if armed:
        armed = False
        struck += 1
        raise KeyboardInterrupt
signal.signal(signal.SIGINT, handler)
dice = random.Random(int(sys.argv[1]))
ray.init(num_cpus=2)

@ray.remote
def work(number):
    time.sleep(0.001 * (number % 3))
    return number

def fire():
    while not over:
        time.sleep(dice.random() * 0.01)
        if armed:
            os.kill(os.getpid(), signal.SIGINT)

over = False
thread = threading.Thread(target=fire)
thread.start()
refs = []
end = time.monotonic() + 2
number = 0
while time.monotonic() < end:
    mine = []
    for _ in range(20):
        mine.append((number, work.remote(number)))
        number += 1
    for _, ref in mine[::2]:
        try:
            armed = True
            ray.cancel(ref)
            armed = False
        except KeyboardInterrupt:
            ray.cancel(ref)
    refs += mine
over = True
thread.join()
for one, ref in refs:
    try:
        assert ray.get(ref, timeout=30) == one
    except ray.exceptions.TaskCancelledError:
        assert one % 2 == 0, one
core = current().core
assert not core.table and not core.held and not core.unready
print("STRUCK", struck > 0, flush=True)
ray.shutdown()
print("DONE", flush=True)
"""


def test_ctrl_c_in_the_driver_while_it_cancels_loses_nothing(tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)
    with Program(tmp_path / "program.py", _UNDER_CTRL_C, str(seed)) as program:
        out, err, code = program.end(within_s=120)
    assert (code, err, out.splitlines()) == (0, "", ["STRUCK True", "DONE"]), f"seed {seed}"


@pytest.mark.parametrize("tracing", ["1", "0"])
def test_tasks_children_and_calls_cancelled_at_random_end_once_and_leave_nothing(
    cluster_of: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracing: str
) -> None:
    monkeypatch.setenv("MINRAY_TRACING", tracing)
    ray = cluster_of(num_cpus=2)
    seed = int(os.environ.get("MINRAY_TEST_SEED", "0")) or random.randrange(1 << 30)
    print(f"MINRAY_TEST_SEED={seed}")
    dice = random.Random(seed)
    path = str(tmp_path / "ran")

    @ray.remote(max_retries=0)
    def work(key: str, rounds: int) -> str:
        _note(path, key)
        total = 0
        for step in range(rounds):
            total += step
        return key

    @ray.remote(max_retries=0, num_cpus=0.5)
    def parent(key: str, rounds: int) -> str:
        _note(path, key)
        ray.get([work.remote(f"{key}.{number}", rounds) for number in range(3)])
        return key

    @ray.remote(max_retries=0, max_calls=4)
    def limited(key: str, rounds: int) -> str:
        _note(path, key)
        return key

    @ray.remote(max_retries=0)
    def takes(key: str, value: Any) -> str:
        _note(path, key)
        return key

    class Methods:
        def call(self, key: str, rounds: int) -> str:
            _note(path, key)
            for _ in range(rounds):
                pass
            return key

    class Coroutines:
        async def call(self, key: str, rounds: int) -> str:
            _note(path, key)
            await asyncio.sleep(rounds / 1e6)
            return key

    ordered, waiting = ray.remote(Methods).remote(), ray.remote(Coroutines).remote()
    threaded = ray.remote(max_concurrency=3)(Methods).remote()
    kinds = [work, work, work, parent, limited, takes, ordered.call, threaded.call, waiting.call]
    number = 0
    for _ in range(60):
        refs: list[tuple[str, Any, Any]] = []
        for _ in range(25):
            kind, key = dice.choice(kinds), f"k{number}"
            number += 1
            argument = dice.choice((10, 1000, 20_000))
            if kind is takes and refs:
                argument = dice.choice(refs)[1]
            refs.append((key, kind.remote(key, argument), kind))
        chosen = dice.sample(refs, dice.randint(0, 20))
        for _, ref, kind in chosen:
            if dice.random() < 0.4:
                time.sleep(dice.random() * 0.003)
            ray.cancel(ref, force=kind in kinds[:6] and dice.random() < 0.02)
        cancelled = {key for key, _, _ in chosen}
        for key, ref, kind in refs:
            try:
                assert ray.get(ref, timeout=60) == key
            except TaskCancelledError:
                assert key in cancelled or kind is takes, f"seed {seed}: {key} was hit"
    ran = _lines(tmp_path / "ran")
    assert len(set(ran)) == len(ran), f"seed {seed}: some ran twice"
    core = current().core
    del ref, refs, chosen
    gc.collect()
    _until(lambda: not core.table and not core.held and not core.unready)
    _until(lambda: ray.available_resources().get("CPU") == 2.0)


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL], ids=["ignored", "default"])
def test_a_task_that_switches_the_interrupt_off_can_only_be_ended_by_force(
    cluster: Any, tmp_path: Path, handler: Any
) -> None:
    ray = cluster

    @ray.remote
    def deaf(path: str) -> None:
        signal.signal(signal.SIGINT, handler)
        Path(path).write_text(str(os.getpid()))
        time.sleep(LONG_S)

    ref = deaf.remote(str(tmp_path / "a"))
    pid = int(_until(lambda: (tmp_path / "a").exists() and (tmp_path / "a").read_text()))
    ray.cancel(ref)
    assert ray.wait([ref], timeout=0.3) == ([], [ref])
    assert not _gone(pid)
    ray.cancel(ref, force=True)
    _cancelled(ray, ref)
