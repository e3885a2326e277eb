"""What happened? One typed, versioned event schema for every process.

Views, `timeline()`, trace checks and the state API read these records and nothing else, so a
recorded run can be replayed and graded without the cluster. Times are `time.perf_counter()` seconds
(CLOCK_MONOTONIC: one clock for every process of a machine); `EPOCH_OFFSET_S` turns them into
wall-clock time. On the hot path nothing of this is built: the recorder keeps compact batches and
decodes them into these records when somebody reads (`minray.worker.recorder`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

SCHEMA_VERSION = 1
EPOCH_OFFSET_S = time.time() - time.perf_counter()


@dataclass(frozen=True, slots=True)
class TaskSubmitted:
    """`f.remote(...)` returned. parent_id "" in the driver's own code; actor_id "" for plain tasks."""

    time_s: float
    task_id: str
    name: str  # "f" or "Counter.add"
    parent_id: str
    actor_id: str
    argument_ids: tuple[str, ...]  # object ids (hex) among its arguments


@dataclass(frozen=True, slots=True)
class TaskDispatched:
    """The owner sent it to a leased worker: it runs there, or waits for the one before it."""

    time_s: float
    task_id: str
    worker_id: str
    pid: int
    attempt: int


@dataclass(frozen=True, slots=True)
class TaskFinished:
    """It ran from started_s to time_s on that worker. outcome: "ok" | "error" | "lost" | "cancelled"."""

    time_s: float
    task_id: str
    name: str
    worker_id: str
    pid: int
    started_s: float
    outcome: str
    error: str  # "" or the exception's type and message, one line
    attempt: int


@dataclass(frozen=True, slots=True)
class TaskRetried:
    """Its worker died, or its exception is one of retry_exceptions: it is queued again."""

    time_s: float
    task_id: str
    name: str
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class ObjectPut:
    """`put` stored a value. where: "inline" | "shared"."""

    time_s: float
    object_id: str
    size_bytes: int
    where: str
    worker_id: str


@dataclass(frozen=True, slots=True)
class ObjectFreed:
    """Nobody refers to the bytes any more."""

    time_s: float
    object_id: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class GetCalled:
    """`get` or `wait` (what) on `count` references returned at time_s after started_s.

    ready: how many were there already when it was called; caller: "file:line" of the call.
    """

    time_s: float
    started_s: float
    what: str
    object_ids: tuple[str, ...]  # at most 64
    count: int
    ready: int
    caller: str
    worker_id: str


@dataclass(frozen=True, slots=True)
class ActorChangedState:
    """state: "pending" | "alive" | "restarting" | "dead"."""

    time_s: float
    actor_id: str
    class_name: str
    state: str
    worker_id: str
    pid: int
    cause: str


@dataclass(frozen=True, slots=True)
class LeaseChanged:
    """A worker was leased to (granted=True) or given back by `owner_id`."""

    time_s: float
    lease_id: int
    worker_id: str
    pid: int
    owner_id: str
    shape: str  # "CPU:1"
    granted: bool


@dataclass(frozen=True, slots=True)
class WorkerChanged:
    """A worker process was seen first (alive=True) or died."""

    time_s: float
    worker_id: str
    pid: int
    alive: bool
    reason: str


Event = (
    TaskSubmitted
    | TaskDispatched
    | TaskFinished
    | TaskRetried
    | ObjectPut
    | ObjectFreed
    | GetCalled
    | ActorChangedState
    | LeaseChanged
    | WorkerChanged
)


@dataclass(frozen=True, slots=True)
class EventPage:
    """What a reader gets: the events after its cursor, the next cursor, how many it missed."""

    events: tuple[Event, ...]
    cursor: int
    lost: int
