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

SCHEMA_VERSION = 2
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
    """A large value was stored, where: "shared" (memory) or "disk" (there was no room). Its owner is the
    first 32 digits of its id.

    kind: "put" (by `put`), "result" (a task returned it) or "argument" (a large argument of a call, kept
    until the call is done). worker_id: the process that wrote the bytes. Small values leave no event.
    """

    time_s: float
    object_id: str
    size_bytes: int
    where: str
    worker_id: str
    kind: str = "put"


@dataclass(frozen=True, slots=True)
class ObjectFreed:
    """Nobody refers to the bytes any more: their memory is free."""

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


@dataclass(frozen=True, slots=True)
class GetStarted:
    """A `get` or `wait` was found blocked since time_s: its GetCalled (same worker, started_s == time_s) is
    still to come. Told only when somebody read the events meanwhile, so that waiting itself costs nothing.
    """

    time_s: float
    what: str
    object_ids: tuple[str, ...]  # at most 64
    count: int
    ready: int
    caller: str
    worker_id: str


@dataclass(frozen=True, slots=True)
class ObjectBorrowed:
    """Process `worker_id` holds a handle on the shared-memory object: it may read the bytes in place.

    Told by the owner, for processes that keep it beyond a call. While a task runs, its worker reads the
    objects among its `argument_ids` without such a handle.
    """

    time_s: float
    object_id: str
    worker_id: str
    pid: int


@dataclass(frozen=True, slots=True)
class ObjectReturned:
    """Process `worker_id` dropped its last handle on the object, or ended."""

    time_s: float
    object_id: str
    worker_id: str
    pid: int


@dataclass(frozen=True, slots=True)
class EventsLost:
    """About `count` records of process `worker_id` reach no reader (0: nobody knows how many)."""

    time_s: float
    worker_id: str
    count: int
    why: str


@dataclass(frozen=True, slots=True)
class ObjectSpilled:
    """The owner wrote the bytes to disk in `seconds`; their block is free. `worker_id`: the writer.

    An object for which there was no room from the start is written by the process that made it.
    """

    time_s: float
    object_id: str
    size_bytes: int
    seconds: float
    path: str
    worker_id: str


@dataclass(frozen=True, slots=True)
class ObjectRestored:
    """Process `worker_id` has the bytes of a spilled object in its memory again, after `seconds`."""

    time_s: float
    object_id: str
    size_bytes: int
    seconds: float
    path: str
    worker_id: str


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
    | GetStarted
    | ObjectBorrowed
    | ObjectReturned
    | EventsLost
    | ObjectSpilled
    | ObjectRestored
)


@dataclass(frozen=True, slots=True)
class EventPage:
    """What a reader gets: the events after its cursor, the next cursor, how many it missed."""

    events: tuple[Event, ...]
    cursor: int
    lost: int
