"""Who asks about the state is answered from another process, while everybody is busy, and without being noticed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minray as ray
from minray.engine.seam import current
from minray.state_api.client import StateApiClient
from minray.state_api.session import Session
from minray.util import state

pytestmark = [pytest.mark.cluster]


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    ray.init(num_cpus=2, num_gpus=1)
    yield
    ray.shutdown()


def _until(what: Callable[[], Any]) -> Any:
    give_up = time.monotonic() + 30.0
    while not (found := what()):
        assert time.monotonic() < give_up, "it did not come to that"
        time.sleep(0.02)
    return found


def _environment() -> dict[str, str]:
    return {**os.environ, "MINRAY_ADDRESS": current().session().session_dir}


def _elsewhere(expression: str) -> Any:
    """The value of an expression over `state`, computed in another process."""
    script = f"import json; from minray.util import state; print(json.dumps({expression}))"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=_environment()
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_another_process_sees_the_drivers_tasks_while_the_driver_computes(tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    @ray.remote
    def waits(path: str) -> None:
        while not os.path.exists(path):
            time.sleep(0.01)

    ref = waits.remote(str(gate))
    script = (
        "import json; from minray.util import state; "
        "print(json.dumps([(t.name, t.state) for t in state.list_tasks(limit=1000)]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=_environment()
    )
    give_up = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < give_up:
        sum(range(1000))  # the main thread neither reads nor sleeps
    assert process.stdout is not None
    rows = json.loads(process.stdout.read())
    process.stdout.close()
    gate.touch()
    ray.get(ref)
    assert [shown for name, shown in rows if name.endswith("waits")] == ["RUNNING"]


def test_a_worker_that_burns_its_cpu_answers_too() -> None:
    @ray.remote
    def burns(path: str) -> None:
        while not os.path.exists(path):
            sum(range(1000))

    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "gate")
        ref = burns.remote(path)
        (row,) = _until(lambda: state.list_tasks(filters=[("state", "=", "RUNNING")], detail=True))
        assert row.task_id == ref.task_id().hex() and row.worker_pid
        assert _until(lambda: state.get_task(ref).start_time_ms)
        Path(path).touch()
        ray.get(ref)


def test_nested_tasks_are_listed_by_their_owners_also_when_those_are_gone() -> None:
    @ray.remote
    def leaf_of_boss(value: int) -> int:
        return value

    @ray.remote
    class Boss:
        def work(self) -> int:
            return sum(ray.get([leaf_of_boss.remote(1) for _ in range(3)]))

    def leaves() -> list[str]:
        return [row.state for row in state.list_tasks(limit=5000) if row.name.endswith("leaf_of_boss")]

    boss = Boss.remote()
    ray.get(boss.work.remote())
    assert leaves() == ["FINISHED"] * 3
    actor_id = state.list_actors(filters=[("class_name", "=", "Boss"), ("state", "=", "ALIVE")])
    boss_id = (actor_id or [row for row in state.list_actors() if row.class_name.endswith("Boss")])[
        0
    ].actor_id
    del boss
    _until(lambda: state.get_actor(boss_id).state == "DEAD")
    assert leaves() == ["FINISHED"] * 3


def test_a_retried_task_has_a_row_for_each_attempt(tmp_path: Path) -> None:
    @ray.remote(max_retries=2)
    def dies_once(flag: str) -> int:
        if not os.path.exists(flag):
            Path(flag).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return 1

    ref = dies_once.remote(str(tmp_path / "flag"))
    assert ray.get(ref) == 1
    rows = state.list_tasks(filters=[("task_id", "=", ref.task_id().hex())], detail=True)
    assert [(row.attempt_number, row.state, row.error_type) for row in rows] == [
        (0, "FAILED", "WORKER_DIED"),
        (1, "FINISHED", None),
    ]
    assert state.get_task(ref).attempt_number == 1
    events = state.list_cluster_events(filters=[("severity", "=", "ERROR")])
    assert any("SIGKILL" in event.message for event in events)


def test_a_task_whose_argument_failed_is_listed_as_failed() -> None:
    @ray.remote
    def raises() -> None:
        raise ValueError("no")

    @ray.remote
    def needs(value: Any) -> None:
        return None

    ref = needs.remote(raises.remote())
    with pytest.raises(ValueError, match="no"):
        ray.get(ref)
    row = state.get_task(ref)
    assert (row.state, row.name.rpartition(".")[2]) == ("FAILED", "needs")
    assert "ValueError" in row.error_message


def test_concurrent_actors_have_several_calls_running() -> None:
    @ray.remote
    class Threads:
        def stay(self, path: str) -> None:
            while not os.path.exists(path):
                time.sleep(0.01)

    @ray.remote
    class Async:
        async def stay(self, path: str) -> None:
            import asyncio

            while not os.path.exists(path):  # noqa: ASYNC110, ASYNC240
                await asyncio.sleep(0.01)

    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "gate")
        threads, coroutines = Threads.options(max_concurrency=2).remote(), Async.remote()
        refs = [threads.stay.remote(path) for _ in range(3)] + [
            coroutines.stay.remote(path) for _ in range(3)
        ]

        def counted() -> Counter[tuple[str, str]]:
            rows = state.list_tasks(filters=[("func_or_class_name", "!=", "x")], limit=5000)
            return Counter((row.name.split(".")[-2], row.state) for row in rows if row.name.endswith("stay"))

        wanted = {("Threads", "RUNNING"): 2, ("Threads", "SUBMITTED_TO_WORKER"): 1, ("Async", "RUNNING"): 3}
        _until(lambda: counted() == wanted)
        Path(path).touch()
        ray.get(refs)


def test_an_array_that_outlives_its_reference_is_pinned() -> None:
    ref = ray.put(np.ones(200_000))
    object_id = ref.hex()
    assert state.get_objects(object_id)[0].reference_type == "LOCAL_REFERENCE"
    array = ray.get(ref)
    assert state.get_objects(object_id)[0].reference_type == "PINNED_IN_MEMORY"
    del ref
    (row,) = state.get_objects(object_id)
    assert row.reference_type == "PINNED_IN_MEMORY" and row.object_size >= array.nbytes
    del array, row
    _until(lambda: state.get_objects(object_id) is None)


def test_an_object_inside_an_object_and_one_that_an_actor_holds() -> None:
    @ray.remote
    class Holder:
        def hold(self, refs: list[Any]) -> int:
            self.refs = refs
            return os.getpid()

    inner = ray.put(np.ones(200_000))
    outer = ray.put([inner])
    inner_id = inner.hex()
    holder = Holder.remote()
    pid = ray.get(holder.hold.remote([inner]))
    del inner
    rows = {row.pid: row for row in state.get_objects(inner_id)}
    assert rows[os.getpid()].reference_type == "CAPTURED_IN_OBJECT"
    assert rows[pid].reference_type == "LOCAL_REFERENCE" and rows[pid].type == "WORKER"
    assert rows[pid].object_size == rows[os.getpid()].object_size > 1_600_000
    assert outer.hex() in {row.object_id for row in state.list_objects()}


def test_nodes_say_how_busy_they_are() -> None:
    @ray.remote(num_gpus=1)
    class Gpu:
        def ready(self) -> bool:
            return True

    gpu = Gpu.remote()
    assert ray.get(gpu.ready.remote())
    (node,) = state.list_nodes(detail=True)
    assert node.gpu_usage == 100.0 and 0 <= node.cpu_usage <= 100 and 0 < node.memory_usage <= 100
    assert state.list_nodes()[0].gpu_usage == 100.0  # without detail too: programs print it


def test_looking_leaves_no_trace_in_the_session() -> None:
    core = current().core
    channels, peers = len(core.loop.channels), set(core.peers)
    jobs = len(state.list_jobs())
    for _ in range(3):
        assert (
            _elsewhere("[len(state.list_tasks()), len(state.list_objects()), len(state.list_jobs())]")[2]
            == jobs
        )
    assert set(core.peers) <= peers
    _until(lambda: len(core.loop.channels) <= channels)


def test_an_observer_may_not_change_anything() -> None:
    session = Session(current().session())
    for question in ("kv_put", "create_actor", "slab"):
        with pytest.raises(state.ServerUnavailable, match="may not ask"):
            session.ask(question, None)


def test_a_stopped_process_is_named_and_the_others_still_count() -> None:
    @ray.remote
    class Sleeper:
        def pid(self) -> int:
            return os.getpid()

    sleeper = Sleeper.remote()
    pid = ray.get(sleeper.pid.remote())
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(state.RayStateApiException, match=f"worker {pid} did not answer within 1 s"):
            state.list_tasks(timeout=1)
        with pytest.warns(UserWarning, match=f"worker {pid} did not answer"):
            rows = state.list_tasks(timeout=1, raise_on_missing_output=False, _explain=True, limit=5000)
        assert any(row.name.endswith("Sleeper.pid") for row in rows)
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_long_history_is_cut_and_said_to_be_and_what_waits_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    @ray.remote
    def small() -> None:
        return None

    ray.get([small.remote() for _ in range(300)])
    monkeypatch.setattr("minray.state_api.client.MAX_LIMIT", 100)
    with pytest.raises(state.RayStateApiException, match="data truncation"):
        state.list_tasks()
    assert state.list_tasks(filters=[("state", "=", "RUNNING")]) == []
    assert state.list_tasks(raise_on_missing_output=False)


def test_an_address_names_a_session_and_a_wrong_one_says_what_to_do(tmp_path: Path) -> None:
    client = StateApiClient(current().session().session_dir)
    assert client.state()["workers"]
    with pytest.raises(ConnectionError, match="no running session"):
        StateApiClient(str(tmp_path))


def test_get_log_finds_the_file_of_an_actor_and_of_a_task() -> None:
    @ray.remote
    class Printer:
        def say(self, text: str) -> None:
            print(text, flush=True)

    printer = Printer.remote()
    ref = printer.say.remote("first words")
    ray.get(ref)
    ray.get(printer.say.remote("last words"))
    row = state.get_task(ref)
    assert "first words" in "".join(state.get_log(actor_id=row.actor_id))
    assert "".join(state.get_log(task_id=row.task_id, tail=1)).strip() == "last words"
    (name,) = [name for name in state.list_logs()["worker_out"] if row.worker_id[:16] in name]
    assert "last words" in "".join(state.get_log(filename=name))
    for bad in ("../session.pickle", "nothing.log"):
        with pytest.raises(state.RayStateApiException, match="no log file"):
            list(state.get_log(filename=bad))


def test_the_stacks_of_all_threads_main_first() -> None:
    answer = current().inspect("stacks", None)
    assert answer["pid"] == os.getpid()
    name, text = answer["threads"][0]
    assert name == "MainThread" and "test_the_stacks_of_all_threads_main_first" in text
    assert "minray-pump" in [name for name, _ in answer["threads"]]
