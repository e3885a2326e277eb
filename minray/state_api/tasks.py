"""How do the owners' answers become rows of tasks? One row an attempt, with Ray's states.

An owner knows what it submitted, sent and got back; only the executing process knows what runs:

    PENDING_ARGS_AVAIL ─► PENDING_NODE_ASSIGNMENT ─► SUBMITTED_TO_WORKER ─► RUNNING ─► FINISHED | FAILED
          owner                  owner                     owner            executor        owner

Pure: from answers of `minray.worker.inspection` to dictionaries.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from minray.base import ids
from minray.base.events import (
    EPOCH_OFFSET_S,
    Event,
    TaskDispatched,
    TaskFinished,
    TaskRetried,
    TaskSubmitted,
)
from minray.state_api.schema import DRIVER_TASK_ID_PREFIX

NORMAL, ACTOR_TASK, CREATION = "NORMAL_TASK", "ACTOR_TASK", "ACTOR_CREATION_TASK"
_ENDED = ("FINISHED", "FAILED")
_RAISED = re.compile(r"\w+\(")  # an exception's repr; else the story of a death
_ERROR_TYPES = {
    "WorkerCrashedError": "WORKER_DIED",
    "ActorDiedError": "ACTOR_DIED",
    "ActorUnavailableError": "ACTOR_UNAVAILABLE",
    "TaskCancelledError": "TASK_CANCELLED",
    "OwnerDiedError": "OWNER_DIED",
    "ObjectLostError": "OBJECT_LOST",
    "LocalRayletDiedError": "LOCAL_RAYLET_DIED",
    "RuntimeEnvSetupError": "RUNTIME_ENV_SETUP_FAILED",
    "TaskUnschedulableError": "TASK_UNSCHEDULABLE_ERROR",
    "ActorUnschedulableError": "ACTOR_UNSCHEDULABLE_ERROR",
    "OutOfMemoryError": "OUT_OF_MEMORY",
}


class TaskTable:
    """Rows that grow from answers; the order of the answers does not matter."""

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self._tasks: dict[str, dict[str, Any]] = {}  # what all attempts share
        self._attempts: dict[tuple[str, int], dict[str, Any]] = {}
        self._hidden: set[str] = set()  # enable_task_events=False: they are in no list
        self._resources: dict[tuple[str, str], dict[str, float]] = {}  # (owner, name) -> amounts

    # ---------------------------------------------------------------- taking answers in
    def add_events(self, events: Iterable[Event], job_id: str) -> None:
        """What an owner recorded."""
        for event in events:
            if isinstance(event, TaskSubmitted):
                task = self._task(event.task_id, event.name, job_id)
                task["parent_task_id"] = event.parent_id
                task["creation_s"] = event.time_s
                task["actor_id"] = event.actor_id or None
                self._attempt(event.task_id, 0)
            elif isinstance(event, TaskDispatched):
                attempt = self._attempt(event.task_id, event.attempt)
                attempt.setdefault("state", "SUBMITTED_TO_WORKER")
                attempt.update(worker_id=event.worker_id, worker_pid=event.pid, sent_s=event.time_s)
            elif isinstance(event, TaskFinished):
                self._finished(event, job_id)
            elif isinstance(event, TaskRetried):
                self._task(event.task_id, event.name, job_id)
                before = self._attempt(event.task_id, event.attempt - 1)
                before.update(state="FAILED", end_s=event.time_s, error_message=event.reason)
                before["error_type"] = (
                    "TASK_EXECUTION_EXCEPTION" if _RAISED.match(event.reason) else "WORKER_DIED"
                )

    def _finished(self, event: TaskFinished, job_id: str) -> None:
        self._task(event.task_id, event.name, job_id)
        ok = event.outcome == "ok"
        attempt = self._attempt(event.task_id, event.attempt)
        attempt.update(state="FINISHED" if ok else "FAILED", end_s=event.time_s)
        if event.worker_id:
            attempt.update(worker_id=event.worker_id, worker_pid=event.pid, start_s=event.started_s)
        if not ok:
            attempt["error_message"] = event.error
            attempt["error_type"] = _error_type(event)

    def add_pending(self, owner: bytes, answer: Mapping[str, Any], job_id: str) -> None:
        """What an owner has no answer for yet."""
        functions = answer["functions"]
        self._hidden.update(answer["hidden"])
        for number, submitted_s, function, actor, state, worker_id, pid, attempt_number in answer["pending"]:
            task_id = ids.task_id_hex(owner, number)
            if task_id in self._hidden or (function == "__init__" and actor is None):
                continue  # a constructor that waits for its arguments: the actor table tells of it
            name = functions[function][0] if type(function) is int else _method_name(actor, function)
            task = self._task(task_id, name, job_id)
            if submitted_s:
                task.setdefault("creation_s", submitted_s)
            if type(actor) is tuple:
                task["actor_id"] = actor[1].hex()
            attempt = self._attempt(task_id, attempt_number)
            attempt["state"] = state
            if worker_id:
                attempt.update(worker_id=worker_id.hex(), worker_pid=pid)
        for name, amounts in functions.values():
            self._resources[owner.hex(), name] = amounts

    def add_running(self, answer: Mapping[str, Any], worker_id: str) -> None:
        """What an executing process has under way."""
        for task_id, name, since_s in answer["running"]:
            if task_id not in self._tasks:
                if not name or task_id in self._hidden:
                    continue
                self._task(task_id, name, "")
            numbers = [number for one, number in self._attempts if one == task_id] or [0]
            attempt = self._attempt(task_id, max(numbers))
            if attempt.get("state") in _ENDED:
                continue  # its answer was faster than our question
            attempt.update(state="RUNNING", worker_id=worker_id, worker_pid=answer["pid"])
            if since_s:
                attempt["start_s"] = since_s

    def _task(self, task_id: str, name: str, job_id: str) -> dict[str, Any]:
        task = self._tasks.setdefault(task_id, {"name": name, "job_id": job_id})
        if name and not task["name"]:
            task["name"] = name
        return task

    def _attempt(self, task_id: str, number: int) -> dict[str, Any]:
        return self._attempts.setdefault((task_id, number), {})

    # ---------------------------------------------------------------- rows
    def rows(self) -> list[dict[str, Any]]:
        """One a known attempt, sorted by task: that is by owner, in the order of submission."""
        found = []
        for (task_id, number), attempt in sorted(self._attempts.items()):
            task = self._tasks.get(task_id)
            if task is None or not task["name"]:
                continue  # the rest of its story fell out of the log
            if number == 0 and not attempt and (task_id, 1) in self._attempts:
                attempt["state"] = "FAILED"
            found.append(self._row(task_id, number, task, attempt))
        return found

    def _row(
        self, task_id: str, number: int, task: dict[str, Any], attempt: dict[str, Any]
    ) -> dict[str, Any]:
        actor_id = task.get("actor_id")
        job_id = task["job_id"]
        parent = task.get("parent_task_id") or DRIVER_TASK_ID_PREFIX + job_id
        placed = attempt.get("worker_id")
        creation = _ms(task.get("creation_s"))
        start, end = _ms(attempt.get("start_s")), _ms(attempt.get("end_s"))
        state = attempt.get("state", "NIL")
        return {
            "task_id": task_id,
            "attempt_number": number,
            "name": task["name"],
            "state": state,
            "job_id": job_id,
            "actor_id": actor_id,
            "type": ACTOR_TASK if actor_id else NORMAL,
            "func_or_class_name": task["name"],
            "parent_task_id": parent,
            "node_id": self._node_id if placed else None,
            "worker_id": placed,
            "worker_pid": attempt.get("worker_pid"),
            "error_type": attempt.get("error_type"),
            "language": "PYTHON",
            "required_resources": self._resources.get((task_id[:32], task["name"]), {}),
            "runtime_env_info": {"serialized_runtime_env": "{}"},
            "placement_group_id": None,
            "events": _story(creation, _ms(attempt.get("sent_s")), start, end, state),
            "profiling_data": {},
            "creation_time_ms": creation,
            "start_time_ms": start,
            "end_time_ms": end,
            "task_log_info": {"stdout_file": f"worker-{placed}.log"} if placed else None,
            "error_message": attempt.get("error_message"),
            "label_selector": {},
        }


def creation_rows(actors: Iterable[dict[str, Any]], node_id: str, job_id: str) -> list[dict[str, Any]]:
    """Ray lists the construction of an actor as a task; here the node's actor table tells of it."""
    states = {"pending": "PENDING_NODE_ASSIGNMENT", "restarting": "PENDING_NODE_ASSIGNMENT"}
    found = []
    for actor in actors:
        failed = actor["init_failed"] or (actor["state"] == "dead" and not actor["pid"])
        state = "FAILED" if failed else states.get(actor["state"], "FINISHED")
        if actor["unready"]:
            state = "PENDING_ARGS_AVAIL"
        elif state == "PENDING_NODE_ASSIGNMENT" and actor["pid"]:
            state = "RUNNING"
        name = f"{actor['class_name']}.__init__"
        found.append(
            {
                "task_id": "f" * 16 + actor["actor_id"],
                "attempt_number": actor["restarts"],
                "name": f"{actor['name']}:{name}" if actor["name"] else name,
                "state": state,
                "job_id": job_id,
                "actor_id": actor["actor_id"],
                "type": CREATION,
                "func_or_class_name": name,
                "parent_task_id": DRIVER_TASK_ID_PREFIX + job_id,
                "node_id": node_id if actor["pid"] else None,
                "worker_id": actor["worker_id"] or None,
                "worker_pid": actor["pid"] or None,
                "error_type": "ACTOR_CREATION_FAILED" if failed else None,
                "language": "PYTHON",
                "required_resources": actor["resources"],
                "error_message": actor["cause"] if failed else None,
                "label_selector": {},
            }
        )
    return found


def _error_type(event: TaskFinished) -> str:
    if event.outcome == "cancelled":
        return "TASK_CANCELLED"
    known = _ERROR_TYPES.get(event.error.partition(":")[0])
    return known or ("WORKER_DIED" if event.outcome == "lost" else "TASK_EXECUTION_EXCEPTION")


def _method_name(actor: Any, function: str) -> str:
    return f"{actor[0]}.{function}" if type(actor) is tuple else str(function)


def _ms(time_s: float | None) -> int | None:
    return None if not time_s else int((time_s + EPOCH_OFFSET_S) * 1000)


def _story(
    creation: int | None, sent: int | None, start: int | None, end: int | None, state: str
) -> list[dict[str, Any]]:
    told = [("PENDING_ARGS_AVAIL", creation), ("SUBMITTED_TO_WORKER", sent), ("RUNNING", start)]
    if end is not None:
        told.append((state, end))
    return [{"state": name, "created_ms": when} for name, when in told if when is not None]
