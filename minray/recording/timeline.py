"""How do recorded events become a Chrome/Perfetto trace?

One row a worker process, one slice a task from its start to its end, the wait of the caller's `get`
on the driver's row. Times in microseconds, as the format wants them. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from minray.base.events import (
    EPOCH_OFFSET_S,
    ActorChangedState,
    Event,
    GetCalled,
    TaskFinished,
    TaskRetried,
    TaskSubmitted,
    WorkerChanged,
)

_COLOURS = {"ok": "good", "error": "bad", "lost": "terrible", "cancelled": "grey"}


def chrome_trace(events: Iterable[Event]) -> list[dict[str, Any]]:
    """Trace events ("X" slices, "i" instants, "M" names) of the recorded ones."""
    trace: list[dict[str, Any]] = []
    rows: dict[str, int] = {}
    submitted: dict[str, float] = {}
    for event in events:
        if isinstance(event, TaskSubmitted):
            submitted[event.task_id] = event.time_s
        elif isinstance(event, TaskFinished):
            _row(trace, rows, event.worker_id, event.pid, "worker")
            waited_s = event.started_s - submitted.pop(event.task_id, event.started_s)
            trace.append(
                {
                    "ph": "X",
                    "cat": "task",
                    "name": event.name,
                    "pid": "node",
                    "tid": event.pid,
                    "ts": _micros(event.started_s),
                    "dur": max(0.0, (event.time_s - event.started_s) * 1e6),
                    "cname": _COLOURS[event.outcome],
                    "args": {
                        "task_id": event.task_id,
                        "outcome": event.outcome,
                        "error": event.error,
                        "attempt": event.attempt,
                        "waited_ms": round(waited_s * 1e3, 3),
                    },
                }
            )
        elif isinstance(event, GetCalled):
            trace.append(
                {
                    "ph": "X",
                    "cat": event.what,
                    "name": f"{event.what}({event.count})",
                    "pid": "node",
                    "tid": f"waits in {event.worker_id[:8]}",
                    "ts": _micros(event.started_s),
                    "dur": (event.time_s - event.started_s) * 1e6,
                    "args": {"caller": event.caller, "ready": event.ready},
                }
            )
        elif isinstance(event, (TaskRetried, WorkerChanged, ActorChangedState)):
            trace.append(
                {
                    "ph": "i",
                    "s": "g",
                    "cat": type(event).__name__,
                    "name": _instant(event),
                    "pid": "node",
                    "tid": getattr(event, "pid", 0),
                    "ts": _micros(event.time_s),
                }
            )
    return trace


def _row(trace: list[dict[str, Any]], rows: dict[str, int], worker_id: str, pid: int, kind: str) -> None:
    if worker_id not in rows:
        rows[worker_id] = pid
        name = {"name": f"{kind} {pid}"}
        trace.append({"ph": "M", "name": "thread_name", "pid": "node", "tid": pid, "args": name})


def _instant(event: TaskRetried | WorkerChanged | ActorChangedState) -> str:
    if isinstance(event, TaskRetried):
        return f"retry {event.name} #{event.attempt}"
    if isinstance(event, WorkerChanged):
        return f"worker {event.pid} {'started' if event.alive else 'died'}"
    return f"{event.class_name} {event.state}"


def _micros(time_s: float) -> float:
    return (time_s + EPOCH_OFFSET_S) * 1e6
