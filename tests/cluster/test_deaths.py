"""kill -9 of anything: what was lost says so, what was promised is done again, nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minray.engine.seam import current
from tests.chaos.program import Program

pytestmark = [pytest.mark.cluster, pytest.mark.chaos]


def _until(what: Callable[[], Any], within_s: float = 20.0) -> Any:
    give_up = time.monotonic() + within_s
    while not (found := what()):
        assert time.monotonic() < give_up, "it did not come to that"
        time.sleep(0.01)
    return found


def _kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _zygote_of(node_pid: int) -> int:
    children = Path(f"/proc/{node_pid}/task/{node_pid}/children").read_text().split()
    return next(int(pid) for pid in children if "zygote" in Path(f"/proc/{pid}/comm").read_text())


# -------------------------------------------------------------------------------------------- workers
def test_a_crash_is_reported_with_its_cause_and_last_words(cluster: Any) -> None:
    ray = cluster

    @ray.remote(max_retries=0)
    def killed() -> None:
        _kill_self()

    @ray.remote(max_retries=0)
    def left() -> None:
        print("last words", flush=True)
        os._exit(7)

    @ray.remote(max_retries=0)
    def crashed() -> None:
        import ctypes

        ctypes.string_at(0)

    with pytest.raises(ray.exceptions.WorkerCrashedError, match="SIGKILL"):
        ray.get(killed.remote())
    with pytest.raises(ray.exceptions.WorkerCrashedError, match="(?s)exited with code 7.*last words"):
        ray.get(left.remote())
    with pytest.raises(ray.exceptions.WorkerCrashedError, match="SIGSEGV"):
        ray.get(crashed.remote())


def test_a_task_is_run_again_as_often_as_promised(cluster: Any, tmp_path: Path) -> None:
    ray = cluster

    @ray.remote
    def dies(times: int, path: str) -> int:
        with open(path, "a") as file:
            file.write("x")
        attempts = os.path.getsize(path)
        if attempts <= times:
            _kill_self()
        return attempts

    assert ray.get(dies.remote(1, str(tmp_path / "a"))) == 2
    assert ray.get(dies.remote(3, str(tmp_path / "b"))) == 4  # the default is three retries
    with pytest.raises(ray.exceptions.WorkerCrashedError, match="3 times"):
        ray.get(dies.options(max_retries=2).remote(99, str(tmp_path / "c")))
    assert (tmp_path / "c").stat().st_size == 3
    assert ray.get(dies.options(max_retries=-1).remote(6, str(tmp_path / "d"))) == 7


def test_only_the_task_that_ran_pays_for_its_workers_death(cluster: Any) -> None:
    ray = cluster

    @ray.remote(max_retries=0)
    def work(x: int) -> int:
        if x % 9 == 4:
            _kill_self()
        return x

    refs = [work.remote(x) for x in range(90)]
    outcomes: list[Any] = []
    for ref in refs:
        try:
            outcomes.append(ray.get(ref))
        except ray.exceptions.WorkerCrashedError:
            outcomes.append("lost")
    assert outcomes == ["lost" if x % 9 == 4 else x for x in range(90)]
    _until(lambda: ray.available_resources().get("CPU") == 2)


def test_a_shape_whose_workers_always_die_holds_up_nobody_else(cluster_of: Callable[..., Any]) -> None:
    ray = cluster_of(num_cpus=2, resources={"cursed": 1})

    @ray.remote(resources={"cursed": 1}, max_retries=5)
    def dies() -> None:
        _kill_self()

    @ray.remote
    def fine(x: int) -> int:
        return x

    doomed = [dies.remote() for _ in range(3)]
    assert ray.get([fine.remote(x) for x in range(200)]) == list(range(200))
    for ref in doomed:
        with pytest.raises(ray.exceptions.WorkerCrashedError):
            ray.get(ref)
    _until(lambda: ray.available_resources() == ray.cluster_resources())


def test_arguments_and_results_outlive_the_worker_that_read_them(cluster: Any, tmp_path: Path) -> None:
    ray = cluster
    data = ray.put(np.arange(300_000))

    @ray.remote(max_retries=1)
    def total(array: Any, nested: list[Any], path: str) -> int:
        if not os.path.exists(path):
            Path(path).touch()
            _kill_self()
        return int(array.sum() + ray.get(nested[0]).sum())

    expected = 2 * int(np.arange(300_000).sum())
    assert ray.get(total.remote(data, [data], str(tmp_path / "once"))) == expected
    assert int(ray.get(data).sum()) * 2 == expected


# --------------------------------------------------------------------------------------------- owners
def test_objects_of_a_dead_owner_are_errors_and_its_views_stay_whole(cluster_of: Callable[..., Any]) -> None:
    ray = cluster_of(num_cpus=2, object_store_memory=64 << 20)

    class Owner:
        def make(self) -> list[Any]:
            @ray.remote
            def never() -> None:
                time.sleep(600)

            self.kept = [
                ray.put(5),
                never.remote(),
                ray.put(np.ones(200_000)),
                ray.put(np.full(200_000, 7.0)),
            ]
            return self.kept

        def pid(self) -> int:
            return os.getpid()

    @ray.remote
    def read(refs: list[Any]) -> Any:
        return ray.get(refs[0])

    @ray.remote
    def take(value: Any) -> Any:
        return value

    owner = ray.remote(Owner).remote()
    small, pending, unread, array_ref = ray.get(owner.make.remote())
    view = ray.get(array_ref)
    os.kill(ray.get(owner.pid.remote()), signal.SIGKILL)
    for ref in (small, pending, unread):
        with pytest.raises(ray.exceptions.OwnerDiedError):
            ray.get(ref, timeout=30)
        with pytest.raises(ray.exceptions.OwnerDiedError):
            ray.get(read.remote([ref]), timeout=30)
        with pytest.raises(ray.exceptions.OwnerDiedError):
            ray.get(take.remote(ref), timeout=30)
    for _ in range(40):  # churn: nothing may be written into what we still look at
        ray.put(np.zeros(200_000))
    assert (view == 7.0).all()


def test_whoever_waits_for_an_owner_hears_of_its_death(cluster: Any) -> None:
    ray = cluster

    class Owner:
        def make(self) -> list[Any]:
            return [ray.remote(lambda: time.sleep(600)).remote()]

        def die(self) -> None:
            _kill_self()

    owner = ray.remote(Owner).remote()
    (pending,) = ray.get(owner.make.remote())
    future = pending.future()

    @ray.remote
    def waits(refs: list[Any]) -> Any:
        return ray.get(refs[0])

    waiting = waits.options(num_cpus=0).remote([pending])
    ready, _ = ray.wait([pending], timeout=0.05)
    assert ready == []
    owner.die.remote()
    assert ray.wait([pending], timeout=30)[0] == [pending]
    with pytest.raises(ray.exceptions.OwnerDiedError):
        future.result(timeout=30)
    with pytest.raises(ray.exceptions.OwnerDiedError):
        ray.get(waiting, timeout=30)


# --------------------------------------------------------------------------------------------- actors
def test_calls_queued_behind_an_actors_death_fail_and_those_before_it_do_not(cluster: Any) -> None:
    ray = cluster

    @ray.remote
    class Mortal:
        def say(self, x: int) -> int:
            return x

        def die(self) -> None:
            os._exit(3)

    mortal = Mortal.remote()
    before = [mortal.say.remote(x) for x in range(20)]
    refs = [mortal.die.remote(), *[mortal.say.remote(x) for x in range(20)]]
    assert ray.get(before) == list(range(20))
    for ref in refs:
        with pytest.raises(ray.exceptions.ActorDiedError, match="exited with code 3"):
            ray.get(ref, timeout=30)
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(mortal.say.remote(1), timeout=30)


def test_an_actor_restarts_and_repeats_calls_as_often_as_promised(cluster: Any, tmp_path: Path) -> None:
    ray = cluster

    @ray.remote(max_restarts=2, max_task_retries=2)
    class Mortal:
        def __init__(self) -> None:
            self.calls = 0

        def say(self, path: str) -> tuple[int, int]:
            self.calls += 1
            with open(path, "a") as file:
                file.write("x")
            if os.path.getsize(path) < 3:
                _kill_self()
            return os.getpid(), self.calls

    mortal = Mortal.remote()
    pid, calls = ray.get(mortal.say.remote(str(tmp_path / "a")), timeout=60)
    assert calls == 1 and (tmp_path / "a").stat().st_size == 3  # a new life begins from the constructor
    os.kill(pid, signal.SIGKILL)  # the third death: no restart is left
    with pytest.raises(ray.exceptions.ActorDiedError):
        for _ in range(1000):
            ray.get(mortal.say.remote(str(tmp_path / "a")), timeout=60)


# ------------------------------------------------------------------------------------ zygote and node
def test_the_zygotes_death_costs_no_worker_and_no_task(cluster: Any) -> None:
    ray = cluster
    core = current().core

    @ray.remote
    def pid() -> int:
        return os.getpid()

    @ray.remote
    class Living:
        def pid(self) -> int:
            return os.getpid()

    actor = Living.remote()
    actor_pid = ray.get(actor.pid.remote())
    old = ray.get(pid.remote())
    zygote = _zygote_of(core.node_pid)
    os.kill(zygote, signal.SIGKILL)
    assert ray.get(actor.pid.remote(), timeout=30) == actor_pid
    assert ray.get([pid.remote() for _ in range(50)], timeout=30)
    os.kill(old, signal.SIGKILL)  # its replacement comes from a new zygote
    assert ray.get([pid.remote() for _ in range(50)], timeout=30)
    others = [Living.remote() for _ in range(4)]
    assert len(set(ray.get([other.pid.remote() for other in others], timeout=30))) == 4
    assert _until(lambda: _zygote_of(core.node_pid)) != zygote


def test_after_the_nodes_death_everything_fails_and_nothing_hangs(cluster: Any) -> None:
    ray = cluster
    core = current().core

    @ray.remote
    def nap(s: float) -> int:
        time.sleep(s)
        return os.getpid()

    @ray.remote
    class Napper:
        def nap(self, s: float) -> int:
            time.sleep(s)
            return os.getpid()

    kept = ray.put([1, 2])
    napper = Napper.remote()
    workers = [ray.get(napper.nap.remote(0)), ray.get(nap.remote(0))]
    pending = [nap.remote(600), napper.nap.remote(600), nap.options(num_cpus=99).remote(0)]
    future = pending[0].future()
    folder = core.config.session_dir
    os.kill(core.node_pid, signal.SIGKILL)
    for ref in pending:
        with pytest.raises(ray.exceptions.LocalRayletDiedError):
            ray.get(ref, timeout=30)
    with pytest.raises(ray.exceptions.LocalRayletDiedError):
        future.result(timeout=30)
    for later in (lambda: nap.remote(0), lambda: napper.nap.remote(0), lambda: Napper.remote().nap.remote(0)):
        with pytest.raises(ray.exceptions.LocalRayletDiedError):
            ray.get(later(), timeout=30)
    assert ray.wait([nap.remote(0)], timeout=30)[0]
    with pytest.raises(ray.exceptions.LocalRayletDiedError):
        ray.available_resources()
    assert ray.get(kept) == [1, 2]
    _until(lambda: not os.path.exists(folder))
    for pid in workers:
        _until(lambda pid=pid: not os.path.exists(f"/proc/{pid}"))  # type: ignore[misc]
    ray.shutdown()
    ray.init(num_cpus=1)  # and a new cluster is as good as ever
    assert ray.get(nap.remote(0))


_DRIVER = """
import os, sys, time
import numpy as np
import minray as ray
from minray.engine.seam import current
ray.init(num_cpus=2)

@ray.remote
def pid():
    return os.getpid()

@ray.remote
def nested():
    return ray.get(nap.options(num_cpus=0).remote(600))

@ray.remote
def nap(s):
    time.sleep(s)

@ray.remote(lifetime="detached", name="stays")
class Napper:
    def nap(self, s):
        time.sleep(s)
    def pid(self):
        return os.getpid()

data = ray.put(np.ones(1_000_000))
napper = Napper.remote()
pids = {ray.get(pid.remote()), ray.get(napper.pid.remote())}
refs = [nap.remote(600), nested.remote(), napper.nap.remote(600)]
core = current().core
time.sleep(0.3)
pids |= {row["pid"] for row in current().ask("state")["workers"]}
print("READY", core.node_pid, core.config.session_dir, *pids, flush=True)
if "fork" in sys.argv:
    if os.fork() == 0:  # a child of the user's keeps our sockets open
        print("CHILD", os.getpid(), flush=True)
        time.sleep(600)
ray.get(refs)
"""


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "exit", "fork"])
def test_a_driver_that_dies_leaves_no_process_and_no_file(tmp_path: Path, how: str) -> None:
    source = _DRIVER + ("\n" if how != "exit" else "")
    if how == "exit":
        source = source.replace("ray.get(refs)", "os._exit(5)")
    with Program(tmp_path / "driver.py", source, how) as program:
        node, folder, *workers = program.line("READY").split()
        child = int(program.line("CHILD")) if how == "fork" else 0
        if how != "exit":
            program.signal(signal.SIGTERM if how == "SIGTERM" else signal.SIGKILL)
        program.process.wait(30)
        began = time.monotonic()
        pids = [int(node), _or_zero(node), *map(int, workers)]
        _until(lambda: not any(pid and os.path.exists(f"/proc/{pid}") for pid in pids))
        _until(lambda: not os.path.exists(folder))
        assert time.monotonic() - began < 10  # two seconds are promised; the machine may be busy
        if child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
    assert not list(Path("/dev/shm").glob("*minray*"))


def _or_zero(node: str) -> int:
    try:
        return _zygote_of(int(node))
    except (OSError, StopIteration):
        return 0
