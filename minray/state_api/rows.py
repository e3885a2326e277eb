"""How do the node's and the processes' answers become rows of everything but tasks? Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from minray.state_api.schema import DriverInfo

NODE_IP = "127.0.0.1"
_ACTOR_STATES = {
    "pending": "PENDING_CREATION",
    "alive": "ALIVE",
    "restarting": "RESTARTING",
    "dead": "DEAD",
}
_DELIBERATE = (0, None)


def job_hex(number: int) -> str:
    """A job's id as Ray writes it."""
    return (number or 1).to_bytes(4, "little").hex()


def job_of(owner_id: str, state: Mapping[str, Any]) -> str:
    """The job that a driver is; a worker's work counts for the session's first job."""
    for row in state["jobs"]:
        if row["worker_id"] == owner_id:
            return job_hex(row["job_id"])
    return job_hex(1)


def actor_rows(state: Mapping[str, Any], node_id: str) -> list[dict[str, Any]]:
    """Rows of actors, the dead ones that the node remembers included."""
    return [
        {
            "actor_id": row["actor_id"],
            "class_name": row["class_name"],
            "state": "DEPENDENCIES_UNREADY" if row["unready"] else _ACTOR_STATES[row["state"]],
            "job_id": job_of(row["owner_id"], state),
            "name": row["name"],
            "node_id": node_id if row["pid"] else None,
            "pid": row["pid"],
            "ray_namespace": row["namespace"],
            "serialized_runtime_env": "{}",
            "required_resources": row["resources"],
            "death_cause": _death_cause(row),
            "is_detached": row["detached"],
            "placement_group_id": None,
            "repr_name": "",
            "num_restarts": row["restarts"],
            "num_restarts_due_to_lineage_reconstruction": 0,
            "num_restarts_due_to_node_preemption": 0,
            "call_site": None,
            "label_selector": {},
            "fallback_strategy": None,
        }
        for row in state["actors"]
    ]


def _death_cause(row: Mapping[str, Any]) -> dict[str, Any] | None:
    if row["state"] != "dead":
        return None
    kind = "creation_task_failure_context" if row["init_failed"] else "actor_died_error_context"
    return {kind: {"error_message": row["cause"], "pid": row["pid"], "class_name": row["class_name"]}}


def worker_rows(state: Mapping[str, Any], node_id: str) -> list[dict[str, Any]]:
    """Rows of processes: drivers and workers, alive and dead."""
    now_s = state["now_s"]
    rows = []
    for row in state["jobs"]:
        ended_s = row["ended_s"]
        exit_type = None if ended_s is None else "INTENDED_USER_EXIT"
        started_ms = int(row["started_s"] * 1000)
        rows.append(
            _worker(row, node_id, "DRIVER", ended_s is None, exit_type, started_ms, ended_s, "driver ended")
        )
    for row in state["workers"]:
        started_ms = int((now_s - row["age_s"]) * 1000)
        rows.append(_worker(row, node_id, "WORKER", True, None, started_ms, None, ""))
    for row in state["deaths"]:
        started_ms = int(row["started_s"] * 1000)
        rows.append(
            _worker(
                row, node_id, "WORKER", False, exit_type_of(row), started_ms, row["ended_s"], row["reason"]
            )
        )
    return rows


def _worker(
    row: Mapping[str, Any],
    node_id: str,
    kind: str,
    is_alive: bool,
    exit_type: str | None,
    started_ms: int,
    ended_s: float | None,
    detail: str,
) -> dict[str, Any]:
    return {
        "worker_id": row["worker_id"],
        "is_alive": is_alive,
        "worker_type": kind,
        "exit_type": exit_type,
        "node_id": node_id,
        "ip": NODE_IP,
        "pid": row["pid"],
        "exit_detail": None if is_alive else detail,
        "worker_launch_time_ms": started_ms,
        "worker_launched_time_ms": started_ms,
        "start_time_ms": started_ms,
        "end_time_ms": 0 if ended_s is None else int(ended_s * 1000),
    }


def exit_type_of(death: Mapping[str, Any]) -> str:
    """Whose wish was it that the worker ended?"""
    if "minray.kill" in death["ordered"] or "last handle" in death["ordered"]:
        return "INTENDED_USER_EXIT"
    if death["ordered"]:
        return "USER_ERROR" if "constructor" in death["ordered"] else "INTENDED_SYSTEM_EXIT"
    if death["signal"]:
        return "SYSTEM_ERROR"
    if death["exit_code"] in _DELIBERATE:
        return "INTENDED_USER_EXIT" if death["state"] == "actor" else "INTENDED_SYSTEM_EXIT"
    return "USER_ERROR"


def node_rows(
    nodes: Iterable[Mapping[str, Any]], state: Mapping[str, Any], usage: Mapping[str, float | None]
) -> list[dict[str, Any]]:
    """Rows of nodes: the one that there is."""
    return [
        {
            "node_id": node["NodeID"],
            "node_ip": node["NodeManagerAddress"],
            "is_head_node": True,
            "state": "ALIVE" if node["Alive"] else "DEAD",
            "state_message": None,
            "node_name": node["NodeName"],
            "resources_total": node["Resources"],
            "labels": node["Labels"],
            "start_time_ms": int(state["started_s"] * 1000),
            "end_time_ms": 0,
            **usage,
        }
        for node in nodes
    ]


def gpu_usage(node: Mapping[str, Any], state: Mapping[str, Any]) -> float | None:
    """Per cent of the declared GPUs that somebody holds; None without GPUs."""
    total = node["Resources"].get("GPU", 0)
    held = sum(lease["resources"].get("GPU", 0) for lease in state["leases"])
    return round(100 * held / total, 1) if total else None


def job_rows(state: Mapping[str, Any], node_id: str, entrypoints: Mapping[int, str]) -> list[dict[str, Any]]:
    """Rows of drivers' work; `entrypoints`: command lines by pid."""
    return [
        {
            "job_id": job_hex(row["job_id"]),
            "submission_id": None,
            "entrypoint": entrypoints.get(row["pid"], ""),
            "type": "DRIVER",
            "status": "RUNNING" if row["ended_s"] is None else "SUCCEEDED",
            "message": None,
            "error_type": None,
            "driver_info": DriverInfo(job_hex(row["job_id"]), NODE_IP, str(row["pid"])),
            "start_time": int(row["started_s"] * 1000),
            "end_time": 0 if row["ended_s"] is None else int(row["ended_s"] * 1000),
            "metadata": {},
            "runtime_env": {},
            "driver_node_id": node_id,
        }
        for row in state["jobs"]
    ]


def object_rows(answers: Iterable[tuple[Any, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Rows of references: (process, its answer) pairs. What an owner knows of an object, its size and its
    task, stands in its borrowers' rows too; a row without a reference of its own is left out."""
    known: dict[str, tuple[int, str]] = {}
    for process, answer in answers:
        owner = process.worker_id.hex()
        for object_id, size, status, _, _, _ in answer["rows"]:
            if object_id.startswith(owner):
                known[object_id] = size, status
    rows = []
    for process, answer in answers:
        for object_id, size, status, attempt, kind, _ in answer["rows"]:
            if not kind:
                continue
            owned_size, owned_status = known.get(object_id, (size, status))
            rows.append(
                {
                    "object_id": object_id,
                    "object_size": size if size >= 0 else owned_size,
                    "task_status": owned_status if status == "NIL" and kind != "ACTOR_HANDLE" else status,
                    "attempt_number": attempt,
                    "reference_type": kind,
                    "call_site": "disabled",
                    "type": "DRIVER" if process.is_driver else "WORKER",
                    "pid": answer["pid"],
                    "ip": NODE_IP,
                }
            )
    return rows


def environment_rows(state: Mapping[str, Any], node_id: str) -> list[dict[str, Any]]:
    """Rows of the runtime environments in which workers run."""
    counts: dict[str, int] = {}
    for worker in state["workers"]:
        if name := worker.get("environment"):
            counts[name] = counts.get(name, 0) + 1
    return [
        {
            "runtime_env": _environment(name),
            "success": True,
            "creation_time_ms": None,
            "node_id": node_id,
            "ref_cnt": count,
            "error": None,
        }
        for name, count in counts.items()
    ]


def _environment(name: str) -> dict[str, Any]:
    try:
        found = json.loads(name)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"key": name}


def event_rows(state: Mapping[str, Any], shown_time: Any) -> list[dict[str, Any]]:
    """Rows of what befell the cluster: deaths that nobody wished, demands that cannot be met."""
    rows = []
    for death in state["deaths"]:
        kind = exit_type_of(death)
        if kind == "INTENDED_SYSTEM_EXIT":
            continue
        rows.append(
            {
                "severity": "ERROR" if kind in ("SYSTEM_ERROR", "USER_ERROR") else "INFO",
                "time": shown_time(death["ended_s"] * 1000),
                "source_type": "RAYLET",
                "message": death["reason"],
                "event_id": f"death-{death['worker_id']}",
                "custom_fields": {"pid": death["pid"], "worker_id": death["worker_id"], "exit_type": kind},
            }
        )
    for demand in state["demands"]:
        if demand["stuck"]:
            rows.append(
                {
                    "severity": "WARNING",
                    "time": shown_time((state["now_s"] - demand["waiting_s"]) * 1000),
                    "source_type": "RAYLET",
                    "message": demand["stuck"] if isinstance(demand["stuck"], str) else "a demand waits",
                    "event_id": f"demand-{demand['client_id']}-{sorted(demand['resources'].items())}",
                    "custom_fields": {"resources": demand["resources"], "tasks": demand["leases_wanted"]},
                }
            )
    return rows
