"""What do many rows amount to? Counts by function, class or call site, in Ray's shapes. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

Rows = Iterable[Mapping[str, Any]]
_TOTALS = {"NORMAL_TASK": "total_tasks", "ACTOR_TASK": "total_actor_tasks"}


def tasks_by_function(tasks: Rows) -> dict[str, Any]:
    """States counted by the tasks' names."""
    summary: dict[str, dict[str, Any]] = {}
    totals = {"total_tasks": 0, "total_actor_tasks": 0, "total_actor_scheduled": 0}
    for task in tasks:
        name = task["name"] or task["func_or_class_name"]
        group = summary.setdefault(
            name, {"func_or_class_name": name, "type": task["type"], "state_counts": {}}
        )
        _count(group["state_counts"], task["state"])
        totals[_TOTALS.get(task["type"], "total_actor_scheduled")] += 1
    return {"summary": summary, **totals, "summary_by": "func_name"}


def tasks_by_lineage(tasks: Rows) -> dict[str, Any]:
    """States counted along the tree of who submitted whom; siblings of one name are one group."""
    rows = list(tasks)
    by_id = {task["task_id"]: task for task in rows}
    children: dict[str, list[Mapping[str, Any]]] = {}
    for task in rows:
        parent = task["parent_task_id"]
        children.setdefault(parent if parent in by_id else "", []).append(task)
    flat = tasks_by_function(rows)
    return {**flat, "summary": _groups(children, ""), "summary_by": "lineage"}


def _groups(children: Mapping[str, list[Mapping[str, Any]]], parent: str) -> list[dict[str, Any]]:
    nodes: dict[str, list[dict[str, Any]]] = {}
    for task in children.get(parent, ()):
        below = _groups(children, task["task_id"])
        counts = Counter({task["state"]: 1})
        for group in below:
            counts.update(group["state_counts"])
        nodes.setdefault(task["name"], []).append(
            {
                "name": task["name"],
                "key": task["task_id"],
                "type": task["type"],
                "timestamp": task.get("creation_time_ms"),
                "state_counts": dict(counts),
                "children": below,
                "link": {"type": "task", "id": task["task_id"]},
            }
        )
    return [_merged(name, group) for name, group in nodes.items()]


def _merged(name: str, group: list[dict[str, Any]]) -> dict[str, Any]:
    if len(group) == 1:
        return group[0]
    counts: Counter[str] = Counter()
    for node in group:
        counts.update(node["state_counts"])
    times = [node["timestamp"] for node in group if node["timestamp"]]
    return {
        "name": name,
        "key": name,
        "type": "GROUP",
        "timestamp": min(times, default=None),
        "state_counts": dict(counts),
        "children": group,
        "link": None,
    }


def actors_by_class(actors: Rows) -> dict[str, Any]:
    """States counted by class."""
    summary: dict[str, dict[str, Any]] = {}
    total = 0
    for actor in actors:
        name = actor["class_name"]
        _count(
            summary.setdefault(name, {"class_name": name, "state_counts": {}})["state_counts"], actor["state"]
        )
        total += 1
    return {"summary": summary, "total_actors": total, "summary_by": "class"}


def objects_by_call_site(objects: Rows) -> dict[str, Any]:
    """Numbers and sizes by call site (which nobody records: one group, "disabled")."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in objects:
        groups.setdefault(row["call_site"], []).append(row)
    summary = {name: _objects(rows) for name, rows in groups.items()}
    return {
        "summary": summary,
        "total_objects": sum(group["total_objects"] for group in summary.values()),
        "total_size_mb": sum(group["total_size_mb"] for group in summary.values()),
        "callsite_enabled": bool(groups) and "disabled" not in groups,
        "summary_by": "callsite",
    }


def _objects(rows: list[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "total_objects": len(rows),
        "total_size_mb": sum(max(0, row["object_size"]) for row in rows) / 2**20,
        "total_num_workers": len({row["pid"] for row in rows}),
        "total_num_nodes": len({row["ip"] for row in rows}),
        "task_state_counts": dict(Counter(row["task_status"] for row in rows)),
        "task_attempt_number_counts": dict(Counter(str(row["attempt_number"]) for row in rows)),
        "ref_type_counts": dict(Counter(row["reference_type"] for row in rows)),
    }


def _count(counts: dict[str, int], state: str) -> None:
    counts[state] = counts.get(state, 0) + 1
