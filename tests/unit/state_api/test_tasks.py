"""Answers of owners and executors become one row an attempt, whatever order they come in."""

from __future__ import annotations

from typing import Any

from minray.base import ids
from minray.base.events import TaskDispatched, TaskFinished, TaskRetried, TaskSubmitted
from minray.state_api import summaries
from minray.state_api.tasks import TaskTable, creation_rows

OWNER = b"o" * 16
ONE, TWO = ids.task_id_hex(OWNER, 1), ids.task_id_hex(OWNER, 2)
JOB = "01000000"


def submitted(task: str, name: str = "f", parent: str = "", actor: str = "") -> TaskSubmitted:
    return TaskSubmitted(1.0, task, name, parent, actor, ())


def sent(task: str, attempt: int = 0) -> TaskDispatched:
    return TaskDispatched(2.0, task, "w", 42, attempt)


def done(
    task: str, outcome: str = "ok", error: str = "", attempt: int = 0, worker: str = "w"
) -> TaskFinished:
    return TaskFinished(4.0, task, "f", worker, 42, 3.0, outcome, error, attempt)


def table(*events: Any) -> TaskTable:
    made = TaskTable("node")
    made.add_events(events, JOB)
    return made


def states(made: TaskTable) -> list[tuple[str, int, str]]:
    return [(row["task_id"], row["attempt_number"], row["state"]) for row in made.rows()]


def pending(number: int, state: str) -> dict[str, Any]:
    row = (number, 1.0, 7, None, state, b"", 0, 0)
    return {"functions": {7: ("f", {"CPU": 1.0})}, "pending": [row], "hidden": []}


def test_a_finished_task_has_its_whole_story() -> None:
    (row,) = table(submitted(ONE, parent=TWO), sent(ONE), done(ONE)).rows()
    assert (row["state"], row["worker_id"], row["worker_pid"], row["node_id"]) == (
        "FINISHED",
        "w",
        42,
        "node",
    )
    assert (row["name"], row["type"], row["parent_task_id"]) == ("f", "NORMAL_TASK", TWO)
    assert [event["state"] for event in row["events"]] == [
        "PENDING_ARGS_AVAIL",
        "SUBMITTED_TO_WORKER",
        "RUNNING",
        "FINISHED",
    ]
    assert row["creation_time_ms"] < row["start_time_ms"] < row["end_time_ms"]


def test_the_order_of_events_does_not_matter() -> None:
    assert states(table(done(ONE), sent(ONE), submitted(ONE))) == [(ONE, 0, "FINISHED")]


def test_a_drivers_task_has_the_driver_as_parent() -> None:
    (row,) = table(submitted(ONE)).rows()
    assert row["parent_task_id"] == "f" * 40 + JOB


def test_waiting_tasks_have_the_states_of_their_owner() -> None:
    for state in ("PENDING_ARGS_AVAIL", "PENDING_NODE_ASSIGNMENT", "SUBMITTED_TO_WORKER"):
        made = TaskTable("node")
        made.add_pending(OWNER, pending(1, state), JOB)
        (row,) = made.rows()
        assert (row["state"], row["name"], row["required_resources"]) == (state, "f", {"CPU": 1.0})


def test_what_an_executor_has_under_way_is_running_unless_its_answer_was_faster() -> None:
    made = table(submitted(ONE), sent(ONE), submitted(TWO), sent(TWO), done(TWO))
    made.add_running({"pid": 9, "running": [(ONE, "f", 2.5), (TWO, "f", 2.5)]}, "x")
    assert states(made) == [(ONE, 0, "RUNNING"), (TWO, 0, "FINISHED")]
    assert made.rows()[0]["worker_pid"] == 9


def test_a_task_without_events_is_in_no_list() -> None:
    made = TaskTable("node")
    made.add_pending(OWNER, {**pending(1, "SUBMITTED_TO_WORKER"), "hidden": [ONE]}, JOB)
    made.add_running({"pid": 9, "running": [(ONE, "f", 2.5)]}, "x")
    assert made.rows() == []


def test_each_attempt_has_a_row() -> None:
    retried = TaskRetried(3.5, ONE, "f", 1, "process 42 was killed by SIGKILL")
    made = table(submitted(ONE), sent(ONE), retried, sent(ONE, 1), done(ONE, attempt=1))
    assert states(made) == [(ONE, 0, "FAILED"), (ONE, 1, "FINISHED")]
    assert made.rows()[0]["error_type"] == "WORKER_DIED"


def test_errors_have_rays_types() -> None:
    for outcome, error, kind in (
        ("error", "ValueError: no", "TASK_EXECUTION_EXCEPTION"),
        ("lost", "WorkerCrashedError: gone", "WORKER_DIED"),
        ("lost", "ActorDiedError: gone", "ACTOR_DIED"),
        ("cancelled", "TaskCancelledError: x", "TASK_CANCELLED"),
    ):
        (row,) = table(submitted(ONE), done(ONE, outcome, error, worker="")).rows()
        assert (row["state"], row["error_type"], row["error_message"]) == ("FAILED", kind, error)


def test_a_task_of_which_only_the_end_is_known_and_no_name_is_left_out() -> None:
    made = TaskTable("node")
    made.add_events([TaskFinished(4.0, ONE, "", "w", 42, 3.0, "ok", "", 0)], JOB)
    assert made.rows() == []


def test_the_construction_of_an_actor_is_a_task() -> None:
    actor = {
        "actor_id": "a" * 32,
        "class_name": "A",
        "name": "bob",
        "state": "alive",
        "pid": 7,
        "worker_id": "w",
        "restarts": 0,
        "resources": {},
        "cause": "",
        "init_failed": False,
        "unready": False,
    }
    rows = creation_rows(
        [
            actor,
            {**actor, "state": "dead", "init_failed": True},
            {**actor, "state": "pending", "pid": 0},
            {**actor, "state": "pending", "pid": 0, "unready": True},
            {**actor, "state": "pending"},
        ],
        "node",
        JOB,
    )
    assert [row["state"] for row in rows] == [
        "FINISHED",
        "FAILED",
        "PENDING_NODE_ASSIGNMENT",
        "PENDING_ARGS_AVAIL",
        "RUNNING",
    ]
    assert rows[0]["name"] == "bob:A.__init__" and rows[0]["task_id"] == "f" * 16 + "a" * 32


def test_summaries_count_by_name_and_along_the_tree() -> None:
    made = table(submitted(ONE, "outer"), done(ONE), submitted(TWO, "leaf", parent=ONE))
    rows = made.rows()
    flat = summaries.tasks_by_function(rows)
    assert flat["total_tasks"] == 2
    assert flat["summary"]["outer"]["state_counts"] == {"FINISHED": 1}
    (root,) = summaries.tasks_by_lineage(rows)["summary"]
    assert root["name"] == "outer" and [child["name"] for child in root["children"]] == ["leaf"]
    assert root["state_counts"] == {"FINISHED": 1, "NIL": 1}
