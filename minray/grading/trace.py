"""What did the program do, told from its events alone?

Every question here is a pure function of a recorded trace: no clock, no cluster, no wall time. A
student on a slow laptop and a grader on a fast server get the same answer, because the answer is
about order and overlap, never about seconds.

    t ──►   submit f ── submit f ── get            "2 submitted before the first get"
              └─ run ───────┐                      "overlap 2"
                    └─ run ─┴──┐

A trace is a sequence of `minray.base.events` records in order of time: a run that `minray.record()` kept or
`minray.load_run()` read, or what `trace_recorder` makes.
"The driver" is the process that calls `get` and never runs a task. A `get` that finds all its results
there has nothing to wait for and may go unrecorded: ask about waiting, not about calls of `get`. A
task is matched by its name or by the last part of it: "f" finds "make.<locals>.f", "add" finds
"Counter.add".
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

from minray.base.events import (
    Event,
    GetCalled,
    ObjectFreed,
    ObjectPut,
    TaskDispatched,
    TaskFinished,
    TaskRetried,
    TaskSubmitted,
)

Trace = Sequence[Event]


def has_name(recorded: str, name: str | None) -> bool:
    """Is `recorded` the task that a reader calls `name`? None matches every task."""
    return name is None or recorded == name or recorded.endswith("." + name)


def without_stragglers(trace: Trace) -> tuple[Event, ...]:
    """The trace without tasks that were submitted before it began: an earlier cell's, still running."""
    ours = {event.task_id for event in trace if isinstance(event, TaskSubmitted)}
    of_tasks = (TaskDispatched, TaskFinished, TaskRetried)
    return tuple(event for event in trace if not isinstance(event, of_tasks) or event.task_id in ours)


def tasks_named(trace: Trace, name: str | None = None) -> tuple[TaskFinished, ...]:
    """Every finished run of the task `name`: one for each attempt, in order of their end."""
    runs = [event for event in trace if isinstance(event, TaskFinished) and has_name(event.name, name)]
    return tuple(sorted(runs, key=lambda run: run.time_s))


def submissions(trace: Trace, name: str | None = None) -> tuple[TaskSubmitted, ...]:
    """Every submission of the task `name`, in the order of submission."""
    found = [event for event in trace if isinstance(event, TaskSubmitted) and has_name(event.name, name)]
    return tuple(sorted(found, key=lambda event: event.time_s))


def max_overlap(trace: Trace, name: str | None = None) -> int:
    """How many runs of `name` were under way at the same instant, at most?

    A run that starts at the instant another one ends does not overlap it.
    """
    edges: list[tuple[float, int]] = []
    for run in tasks_named(trace, name):
        edges += [(run.started_s, 1), (run.time_s, -1)]
    return peak_of(edges)


def peak_of(edges: list[tuple[float, int]]) -> int:
    """The highest count: each edge is an instant, and +1 for a start or -1 for an end."""
    peak = now = 0
    for _, change in sorted(edges):  # at one instant, ends (-1) come before starts (+1)
        now += change
        peak = max(peak, now)
    return peak


def max_waiting(trace: Trace, name: str | None = None) -> int:
    """How many tasks `name` were submitted and had not begun, at most? How long the queue grew."""
    edges = [(event.time_s, 1) for event in submissions(trace, name)]
    begun: dict[str, float] = {}
    for run in tasks_named(trace, name):
        begun[run.task_id] = min(run.started_s, begun.get(run.task_id, run.started_s))
    return peak_of(edges + [(started_s, -1) for started_s in begun.values()])


def order(
    trace: Trace, name: str | None = None, by: Literal["submitted", "started", "finished"] = "finished"
) -> tuple[str, ...]:
    """The ids of the tasks `name`, in the order in which they were submitted, started or finished.

    A retried task counts with its last attempt.
    """
    if by == "submitted":
        return tuple(event.task_id for event in submissions(trace, name))
    last: dict[str, float] = {}
    for run in tasks_named(trace, name):
        last[run.task_id] = run.started_s if by == "started" else run.time_s
    return tuple(sorted(last, key=lambda task_id: last[task_id]))


def driver_gets(trace: Trace, what: str | None = None) -> tuple[GetCalled, ...]:
    """The driver's calls of `get` and `wait` (or of `what` only), in the order of the calls."""
    executors = {event.worker_id for event in trace if isinstance(event, (TaskDispatched, TaskFinished))}
    found = [
        event
        for event in trace
        if isinstance(event, GetCalled)
        and event.worker_id not in executors
        and (what is None or event.what == what)
    ]
    return tuple(sorted(found, key=lambda event: event.started_s))


def driver_submissions(trace: Trace, name: str | None = None) -> tuple[TaskSubmitted, ...]:
    """The submissions that the driver itself made, not a task on its behalf."""
    return tuple(event for event in submissions(trace, name) if not event.parent_id)


def submitted_before_first_get(trace: Trace, name: str | None = None) -> int:
    """How many tasks `name` had the driver submitted when it first asked for a result?"""
    gets = driver_gets(trace)
    first_s = gets[0].started_s if gets else float("inf")
    return sum(event.time_s <= first_s for event in driver_submissions(trace, name))


def get_in_loop(trace: Trace, name: str | None = None) -> bool:
    """Did the driver wait for each task before it submitted the next one?

    The pattern: submit one, wait for it, submit one, wait for it. A wait counts when at least one
    result was not there yet, when exactly one submission came before it, and when another
    submission comes after it. Twice is a loop.
    """
    steps: list[tuple[float, bool]] = [(event.time_s, True) for event in driver_submissions(trace, name)]
    steps += [(event.started_s, False) for event in driver_gets(trace) if event.ready < event.count]
    singles = since_wait = 0
    candidate = False
    for _, is_submission in sorted(steps):
        if is_submission:
            singles += candidate  # the wait before us stood between two submissions
            candidate = False
            since_wait += 1
        else:
            candidate = since_wait == 1
            since_wait = 0
    return singles >= 2


def waited_for_unready(trace: Trace) -> int:
    """How many of the driver's `get` calls asked for a result that was not there yet?"""
    return sum(event.ready < event.count for event in driver_gets(trace, "get"))


_RETURN_DIGITS = 8  # an object's id is its task's id and these: the number of the return value


def producer_of(object_id: str, tasks: Collection[str]) -> str | None:
    """The id of the task whose (first) return value this object is, if it is among `tasks`."""
    task_id = object_id[:-_RETURN_DIGITS]
    return task_id if task_id in tasks else None


def fetched_by_driver(trace: Trace, name: str | None = None) -> frozenset[str]:
    """The ids of the tasks `name` whose results the driver took with `get`.

    A record holds at most 64 object ids, so this is exact for up to 64 references a call.
    """
    tasks = {event.task_id for event in submissions(trace, name)}
    objects = {object_id for event in driver_gets(trace, "get") for object_id in event.object_ids}
    found = (producer_of(object_id, tasks) for object_id in objects)
    return frozenset(task_id for task_id in found if task_id is not None)


def depth(trace: Trace, name: str | None = None) -> int:
    """The longest chain of tasks `name` in which one takes the result of the one before as a reference."""
    level: dict[str, int] = {}
    for event in submissions(trace, name):
        makers = (producer_of(object_id, level) for object_id in event.argument_ids)
        level[event.task_id] = 1 + max((level[maker] for maker in makers if maker is not None), default=0)
    return max(level.values(), default=0)


def puts_of_size(trace: Trace, at_least: int, at_most: int | None = None) -> tuple[ObjectPut, ...]:
    """The `put` calls that stored between `at_least` and `at_most` bytes."""
    return tuple(
        event
        for event in trace
        if isinstance(event, ObjectPut)
        and event.kind == "put"
        and event.size_bytes >= at_least
        and (at_most is None or event.size_bytes <= at_most)
    )


def stored(trace: Trace, at_least: int = 0, kind: str | None = None) -> tuple[ObjectPut, ...]:
    """Every large object that was stored, of `at_least` bytes; kind: "put", "result" or "argument"."""
    return tuple(
        event
        for event in trace
        if isinstance(event, ObjectPut) and event.size_bytes >= at_least and kind in (None, event.kind)
    )


def still_stored(trace: Trace, at_least: int = 0) -> tuple[ObjectPut, ...]:
    """Those of the stored objects that nobody had let go of when the trace ended."""
    freed = {event.object_id for event in trace if isinstance(event, ObjectFreed)}
    return tuple(event for event in stored(trace, at_least) if event.object_id not in freed)


def most_stored(trace: Trace, at_least: int = 0) -> int:
    """How many large objects were stored at the same instant, at most?"""
    ours = {event.object_id: event.time_s for event in stored(trace, at_least)}
    ends = [event for event in trace if isinstance(event, ObjectFreed) and event.object_id in ours]
    return peak_of([(time_s, 1) for time_s in ours.values()] + [(event.time_s, -1) for event in ends])


def retried(trace: Trace, name: str | None = None) -> tuple[TaskRetried, ...]:
    """Every retry of the task `name`."""
    return tuple(event for event in trace if isinstance(event, TaskRetried) and has_name(event.name, name))


def processes_of(trace: Trace, name: str | None = None) -> frozenset[int]:
    """The pids of the worker processes that ran the task `name`."""
    return frozenset(run.pid for run in tasks_named(trace, name))
