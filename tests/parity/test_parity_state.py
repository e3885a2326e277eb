"""The state API: the same program has the same rows, states, counts and errors on both engines."""

from __future__ import annotations

import importlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """As for the other modules, and with the dashboard, which answers for the state in real Ray."""
    engine = importlib.import_module(os.environ.get("MINRAY_PARITY_ENGINE", "minray"))
    context = engine.init(
        num_cpus=4, namespace="parity", log_to_driver=False, include_dashboard=True, logging_level="ERROR"
    )
    os.environ["RAY_ADDRESS"] = context.address_info["gcs_address"]  # real Ray may find others' clusters
    yield engine
    del os.environ["RAY_ADDRESS"]
    engine.shutdown()


@pytest.fixture
def state(cluster: Any) -> Any:
    return importlib.import_module(f"{cluster.__name__}.util.state")


@pytest.fixture
def gate(tmp_path: Path) -> Any:
    """A file: tasks wait until it is there, at the latest at the end of the test."""
    path = tmp_path / "gate"
    yield str(path)
    path.touch()


def _until(what: Callable[[], Any]) -> Any:
    give_up = time.monotonic() + 60.0
    while not (found := what()):
        assert time.monotonic() < give_up, "it did not come to that"
        time.sleep(0.1)
    return found


def _waiting(cluster: Any) -> Any:
    @cluster.remote
    def state_waits(path: str, *others: Any) -> None:
        while not os.path.exists(path):
            time.sleep(0.01)

    return state_waits


def _states(state: Any, name: str) -> Counter[str]:
    """Attempts by state; the name as the engines agree on it, without its <locals>."""
    return Counter(row.state for row in state.list_tasks(limit=1000) if row.name.endswith(name))


def test_waiting_running_and_ended_tasks_have_their_states(cluster: Any, state: Any, gate: str) -> None:
    waits = _waiting(cluster)
    running = waits.remote(gate)
    waiting = waits.options(num_cpus=100).remote(gate)
    dependent = waits.remote(gate, running)

    @cluster.remote(max_retries=0)
    def state_fails() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cluster.get(state_fails.remote())
    wanted = {
        running.task_id().hex(): "RUNNING",
        waiting.task_id().hex(): "PENDING_NODE_ASSIGNMENT",
        dependent.task_id().hex(): "PENDING_ARGS_AVAIL",
    }

    def seen() -> dict[str, str]:
        return {row.task_id: row.state for row in state.list_tasks(limit=1000) if row.task_id in wanted}

    _until(lambda: seen() == wanted)
    _until(lambda: _states(state, "state_fails") == {"FAILED": 1})
    (failed,) = [row for row in state.list_tasks(detail=True, limit=1000) if row.name.endswith("state_fails")]
    assert failed.error_type == "TASK_EXECUTION_EXCEPTION" and "ValueError" in failed.error_message
    assert (failed.type, failed.language, failed.attempt_number) == ("NORMAL_TASK", "PYTHON", 0)
    assert failed.required_resources == {"CPU": 1.0}
    assert failed.creation_time_ms <= failed.start_time_ms <= failed.end_time_ms
    Path(gate).touch()
    cluster.get(dependent)
    _until(lambda: seen()[dependent.task_id().hex()] == "FINISHED")
    cluster.cancel(waiting)


def test_nested_tasks_name_their_parent(cluster: Any, state: Any) -> None:
    @cluster.remote
    def state_child() -> int:
        return 1

    @cluster.remote
    def state_parent() -> Any:
        return cluster.get([state_child.remote(), state_child.remote()])

    ref = state_parent.remote()
    cluster.get(ref)
    children = _until(
        lambda: (
            [
                row
                for row in state.list_tasks(limit=1000)
                if row.name.endswith("state_child") and row.state == "FINISHED"
            ][1:]
            and [row for row in state.list_tasks(limit=1000) if row.name.endswith("state_child")]
        )
    )
    assert {row.parent_task_id for row in children} == {ref.task_id().hex()}
    parent = state.get_task(ref.task_id().hex())
    assert parent.parent_task_id == "f" * 40 + cluster.get_runtime_context().get_job_id()


def test_actors_and_their_calls(cluster: Any, state: Any) -> None:
    @cluster.remote
    class StateActor:
        def pid(self) -> int:
            return os.getpid()

    actor = StateActor.options(name="state-bob").remote()
    pid = cluster.get(actor.pid.remote())
    (row,) = state.list_actors(filters=[("name", "=", "state-bob")], detail=True)
    assert (row.state, row.pid, row.ray_namespace, row.is_detached) == ("ALIVE", pid, "parity", False)
    assert row.class_name.endswith("StateActor") and row.num_restarts == 0 and row.death_cause is None
    assert state.get_actor(row.actor_id).pid == pid
    assert state.get_actor("0" * 32) is None
    calls = _until(lambda: state.list_tasks(filters=[("actor_id", "=", row.actor_id)], limit=1000)[1:])
    assert len(calls) == 1
    both = state.list_tasks(filters=[("actor_id", "=", row.actor_id)], limit=1000)
    assert {task.type for task in both} == {"ACTOR_TASK", "ACTOR_CREATION_TASK"}
    assert {task.name.rpartition(".")[2] for task in both} == {"pid", "__init__"}
    cluster.kill(actor)
    dead = _until(
        lambda: state.list_actors(filters=[("actor_id", "=", row.actor_id), ("state", "=", "dead")])
    )
    assert dead[0].state == "DEAD" and state.get_actor(row.actor_id).death_cause


def test_an_actor_waits_for_its_arguments_or_for_a_place(cluster: Any, state: Any, gate: str) -> None:
    @cluster.remote
    class StateLate:
        def __init__(self, value: Any = None) -> None:
            self.value = value

        def ready(self) -> bool:
            return True

    def seen(name: str) -> str:
        rows = state.list_actors(filters=[("name", "=", name)], limit=1000)
        return rows[0].state if rows else ""

    late = StateLate.options(name="state-late").remote(_waiting(cluster).remote(gate))
    wide = StateLate.options(name="state-wide", num_cpus=100).remote()
    _until(lambda: (seen("state-late"), seen("state-wide")) == ("DEPENDENCIES_UNREADY", "PENDING_CREATION"))
    Path(gate).touch()
    assert cluster.get(late.ready.remote())
    assert seen("state-late") == "ALIVE"
    cluster.kill(wide)
    _until(lambda: seen("state-wide") == "DEAD")


def test_objects_say_why_they_live(cluster: Any, state: Any, gate: str) -> None:
    large = cluster.put(b"x" * 1_000_000)
    pending = _waiting(cluster).remote(gate)
    held = _waiting(cluster).remote(gate, pending)
    rows = {row.object_id: row for row in state.list_objects(limit=1000)}
    one = rows[large.hex()]
    assert (one.reference_type, one.task_status, one.type) == ("LOCAL_REFERENCE", "FINISHED", "DRIVER")
    assert 1_000_000 <= one.object_size < 1_001_000 and one.pid == os.getpid()
    assert rows[pending.hex()].reference_type == "USED_BY_PENDING_TASK"
    assert rows[pending.hex()].object_size == -1
    assert rows[held.hex()].task_status == "PENDING_ARGS_AVAIL"
    assert [row.object_id for row in state.get_objects(large.hex())] == [large.hex()]
    assert not state.get_objects("0" * 56)
    Path(gate).touch()
    cluster.get(held)


def test_the_driver_its_node_its_job_and_its_workers(cluster: Any, state: Any) -> None:
    cluster.get(_waiting(cluster).remote("/"))
    context = cluster.get_runtime_context()
    (node,) = state.list_nodes(detail=True)
    assert (node.node_id, node.state, node.is_head_node) == (context.get_node_id(), "ALIVE", True)
    assert node.resources_total["CPU"] == 4.0 and state.get_node(node.node_id).node_ip == node.node_ip
    jobs = state.list_jobs(filters=[("job_id", "=", context.get_job_id())])
    assert [(job.type, job.status) for job in jobs] == [("DRIVER", "RUNNING")]
    assert jobs[0].driver_info.pid == str(os.getpid())
    # Real Ray counts what a filter left out as cut off, and raises without this.
    partly = {"raise_on_missing_output": False}
    alive = ("is_alive", "=", "True")
    (driver,) = state.list_workers(filters=[("worker_type", "=", "DRIVER"), alive], **partly)
    assert driver.pid == os.getpid() and driver.node_id == node.node_id
    assert state.list_workers(filters=[("worker_type", "=", "WORKER"), ("is_alive", "=", True)], **partly)
    assert state.get_worker(driver.worker_id).pid == os.getpid()
    assert state.list_placement_groups() == [] and state.get_placement_group("0" * 36) is None


def test_a_worker_that_was_killed_is_remembered(cluster: Any, state: Any) -> None:
    @cluster.remote(max_retries=0)
    def dies() -> None:
        os.kill(os.getpid(), 9)

    with pytest.raises(cluster.exceptions.WorkerCrashedError):
        cluster.get(dies.remote())
    wanted = [("exit_type", "=", "SYSTEM_ERROR"), ("is_alive", "=", False)]
    _until(lambda: state.list_workers(filters=wanted, raise_on_missing_output=False))
    row = _until(lambda: [one for one in state.list_tasks(limit=1000) if one.name.endswith("dies")])[0]
    _until(lambda: state.get_task(row.task_id).error_type == "WORKER_DIED")


def test_summaries_have_rays_shapes(cluster: Any, state: Any) -> None:
    @cluster.remote
    def state_counted() -> None:
        pass

    cluster.get([state_counted.remote() for _ in range(5)])

    def counts() -> dict[str, int]:
        groups = state.summarize_tasks()["cluster"]["summary"]
        return next((one["state_counts"] for name, one in groups.items() if "state_counted" in name), {})

    _until(lambda: counts() == {"FINISHED": 5})
    tasks = state.summarize_tasks()["cluster"]
    assert {"summary", "total_tasks", "total_actor_tasks", "total_actor_scheduled", "summary_by"} <= set(
        tasks
    )
    assert tasks["summary_by"] == "func_name" and tasks["total_tasks"] >= 5
    actors, objects = state.summarize_actors()["cluster"], state.summarize_objects()["cluster"]
    assert actors["summary_by"] == "class" and actors["total_actors"] == len(state.list_actors(limit=1000))
    assert objects["summary_by"] == "callsite" and objects["callsite_enabled"] is False


def test_rows_read_like_objects_and_mappings(cluster: Any, state: Any) -> None:
    cluster.get(_waiting(cluster).remote("/"))
    row = state.list_tasks(limit=1)[0]
    assert row["task_id"] == row.task_id == row.get("task_id") == row.asdict()["task_id"]
    assert row.get("nothing", 3) == 3 and row.events is None


def test_limits_cut_and_large_ones_are_refused(cluster: Any, state: Any) -> None:
    cluster.get([_waiting(cluster).remote("/") for _ in range(3)])
    _until(lambda: len(state.list_tasks()) >= 3)
    assert len(state.list_tasks(limit=2)) == 2 and state.list_tasks(limit=0) == []
    for bad in (10**6, -1):
        with pytest.raises(state.exception.RayStateApiException):
            state.list_tasks(limit=bad)


def test_bad_filters_are_refused(cluster: Any, state: Any) -> None:
    cluster.get(_waiting(cluster).remote("/"))
    _until(state.list_tasks)
    with pytest.raises(state.exception.RayStateApiException, match="statez is not supported"):
        state.list_tasks(filters=[("statez", "=", "x")])
    with pytest.raises(state.exception.RayStateApiException, match="Failed to convert a value abc"):
        state.list_tasks(filters=[("worker_pid", "=", "abc")])
    with pytest.raises(ValueError, match="Unsupported filter predicate >"):
        state.list_tasks(filters=[("state", ">", "x")])
    with pytest.raises(ValueError, match="filter"):
        state.list_tasks(filters=[("state", "=")])
    with pytest.warns(UserWarning, match="multiple '=' filters"):
        assert state.list_tasks(filters=[("state", "=", "a"), ("state", "=", "b")]) == []


def test_filters_ignore_case_and_can_exclude(cluster: Any, state: Any) -> None:
    cluster.get(_waiting(cluster).remote("/"))
    _until(lambda: state.list_tasks(filters=[("state", "=", "finished")]))
    assert {row.state for row in state.list_tasks(filters=[("state", "=", "Finished")])} == {"FINISHED"}
    others = state.list_tasks(filters=[("state", "!=", "FINISHED")], limit=1000)
    assert "FINISHED" not in {row.state for row in others}


def test_a_task_may_look_at_the_cluster_it_runs_in(cluster: Any, state: Any) -> None:
    module = state.__name__

    @cluster.remote
    def looks() -> tuple[int, list[str]]:
        inner = importlib.import_module(module)
        running = inner.list_tasks(filters=[("state", "=", "RUNNING")], limit=1000)
        return len(inner.list_nodes()), [row.name.rpartition(".")[2] for row in running]

    nodes, running = cluster.get(looks.remote())
    assert nodes == 1 and (running == ["looks"] or cluster.__name__ == "ray")


def test_the_names_are_where_programs_import_them_from(cluster: Any, state: Any) -> None:
    schema = importlib.import_module(f"{state.__name__}.common")
    assert schema.TaskState.base_columns() >= {"task_id", "state", "name", "attempt_number", "worker_pid"}
    assert schema.DEFAULT_LIMIT == 100 and schema.StateResource.TASKS.value == "tasks"
    errors = importlib.import_module(f"{state.__name__}.exception")
    assert issubclass(errors.ServerUnavailable, errors.RayStateApiException)
    for name in "api list_logs get_log list_cluster_events list_runtime_envs StateApiClient".split():
        assert hasattr(state, name)


def test_logs_of_a_worker_hold_what_it_printed(cluster: Any, state: Any) -> None:
    @cluster.remote
    def prints() -> int:
        print("a line of the state tests", flush=True)
        return os.getpid()

    pid = cluster.get(prints.remote())
    node_id = cluster.get_runtime_context().get_node_id()
    files = state.list_logs(node_id=node_id)
    assert files["worker_out"]
    found = _until(
        lambda: [
            text for text in state.get_log(pid=pid, node_id=node_id) if "a line of the state tests" in text
        ]
    )
    assert found
    with pytest.raises(ValueError, match="provided"):
        next(state.get_log())


def test_a_task_without_task_events_is_not_listed(cluster: Any, state: Any) -> None:
    @cluster.remote(enable_task_events=False)
    def state_untold() -> None:
        pass

    @cluster.remote
    def state_told() -> None:
        pass

    cluster.get([state_untold.remote(), state_told.remote()])
    _until(lambda: _states(state, "state_told") == {"FINISHED": 1})
    assert not _states(state, "state_untold")
