"""Which columns does each kind of row have? Ray's, by name, so that programs and habits carry over.

A row is an object with attributes that also reads like a mapping. Columns of detail are None unless
`detail=True` (or `get_...`) asked for them; only filterable ones may stand in a filter.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, unique
from typing import Any

DEFAULT_RPC_TIMEOUT = 30
DEFAULT_LIMIT = 100
DEFAULT_LOG_LIMIT = 1000
MAX_LIMIT = 10_000
RAY_MAX_LIMIT_FROM_API_SERVER = MAX_LIMIT
RAY_MAX_LIMIT_FROM_DATA_SOURCE = MAX_LIMIT
PREDICATES = ("=", "!=")
DRIVER_TASK_ID_PREFIX = "f" * 40


@unique
class StateResource(Enum):
    """What can be listed."""

    ACTORS = "actors"
    JOBS = "jobs"
    PLACEMENT_GROUPS = "placement_groups"
    NODES = "nodes"
    WORKERS = "workers"
    TASKS = "tasks"
    OBJECTS = "objects"
    RUNTIME_ENVS = "runtime_envs"
    CLUSTER_EVENTS = "cluster_events"


@unique
class SummaryResource(Enum):
    """What can be summarized."""

    ACTORS = "actors"
    TASKS = "tasks"
    OBJECTS = "objects"


class Humanify:
    """Numbers as people read them."""

    @staticmethod
    def timestamp(x: float) -> str:
        """Milliseconds since the epoch, as local date and time."""
        return str(dt.datetime.fromtimestamp(x / 1000))  # noqa: DTZ006  (for people, in their zone)

    @staticmethod
    def memory(x: float) -> str:
        """Bytes with the unit that fits."""
        for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
            if x >= size:
                return f"{x / size:.3f} {unit}"
        return f"{x:.3f} B"

    @staticmethod
    def duration(x: float) -> str:
        """Milliseconds as hours, minutes, seconds."""
        return str(dt.timedelta(milliseconds=x))

    @staticmethod
    def events(x: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Task events with readable times."""
        return [
            {**event, "created_ms": Humanify.timestamp(event["created_ms"])}
            if "created_ms" in event
            else event
            for event in x
        ]

    @staticmethod
    def node_resources(x: dict[str, Any]) -> dict[str, Any]:
        """Resources, memory with units."""
        return {name: Humanify.memory(value) if "memory" in name else value for name, value in x.items()}


def state_column(
    *, filterable: bool, detail: bool = False, format_fn: Callable[[Any], Any] | None = None
) -> Any:
    """A field of a row."""
    return field(default=None, metadata={"detail": detail, "filterable": filterable, "format_fn": format_fn})


class StateSchema:
    """What all rows can do."""

    @classmethod
    def _fields(cls) -> tuple[dataclasses.Field[Any], ...]:
        return dataclasses.fields(cls)  # type: ignore[arg-type]

    @classmethod
    def list_columns(cls, detail: bool = True) -> list[str]:
        """The columns in order; without those of detail if not asked."""
        return [one.name for one in cls._fields() if detail or not one.metadata["detail"]]

    @classmethod
    def columns(cls) -> set[str]:
        """All columns."""
        return set(cls.list_columns())

    @classmethod
    def base_columns(cls) -> set[str]:
        """The columns that every listing fills."""
        return set(cls.list_columns(detail=False))

    @classmethod
    def detail_columns(cls) -> set[str]:
        """The columns that a detailed listing fills."""
        return set(cls.list_columns())

    @classmethod
    def filterable_columns(cls) -> set[str]:
        """The columns that a filter may name."""
        return {one.name for one in cls._fields() if one.metadata["filterable"]}

    @classmethod
    def humanify(cls, state: dict[str, Any]) -> dict[str, Any]:
        """The same row for people to read: sizes, times and durations with units."""
        shown = dict(state)
        for one in cls._fields():
            format_fn = one.metadata["format_fn"]
            if format_fn is not None and shown.get(one.name) is not None:
                shown[one.name] = format_fn(shown[one.name])
        return shown

    def asdict(self) -> dict[str, Any]:
        """The row as a dictionary."""
        return dataclasses.asdict(self)  # type: ignore[call-overload,no-any-return]

    # ---------------------------------------------------------------- like a mapping
    def __getitem__(self, key: str) -> Any:
        try:
            return getattr(self, key)
        except AttributeError:
            raise KeyError(key) from None

    def __setitem__(self, key: str, value: Any) -> None:
        setattr(self, key, value)

    def __iter__(self) -> Iterator[str]:
        return iter(self.list_columns())

    def __len__(self) -> int:
        return len(self._fields())

    def __contains__(self, key: object) -> bool:
        return key in self.columns()

    def get(self, key: str, default: Any = None) -> Any:
        """The column, or `default` when there is none of that name."""
        return getattr(self, key, default)

    def keys(self) -> list[str]:
        """The columns' names."""
        return self.list_columns()

    def values(self) -> list[Any]:
        """The columns' values."""
        return [getattr(self, name) for name in self.list_columns()]

    def items(self) -> list[tuple[str, Any]]:
        """(name, value) pairs."""
        return [(name, getattr(self, name)) for name in self.list_columns()]


_time: dict[str, Any] = {"filterable": False, "detail": True, "format_fn": Humanify.timestamp}


@dataclass
class ActorState(StateSchema):
    """An actor. state: DEPENDENCIES_UNREADY | PENDING_CREATION | ALIVE | RESTARTING | DEAD."""

    actor_id: str = state_column(filterable=True)
    class_name: str = state_column(filterable=True)
    state: str = state_column(filterable=True)
    job_id: str = state_column(filterable=True)
    name: str | None = state_column(filterable=True)
    node_id: str | None = state_column(filterable=True)
    pid: int | None = state_column(filterable=True)
    ray_namespace: str | None = state_column(filterable=True)
    serialized_runtime_env: str | None = state_column(filterable=False, detail=True)
    required_resources: dict[str, float] | None = state_column(filterable=False, detail=True)
    death_cause: dict[str, Any] | None = state_column(filterable=False, detail=True)
    is_detached: bool | None = state_column(filterable=False, detail=True)
    placement_group_id: str | None = state_column(filterable=True, detail=True)
    repr_name: str | None = state_column(filterable=True, detail=True)
    num_restarts: int = state_column(filterable=False, detail=True)
    num_restarts_due_to_lineage_reconstruction: int = state_column(filterable=False, detail=True)
    num_restarts_due_to_node_preemption: int = state_column(filterable=False, detail=True)
    call_site: str | None = state_column(filterable=False, detail=True)
    label_selector: dict[str, str] | None = state_column(filterable=False, detail=True)
    fallback_strategy: dict[str, Any] | None = state_column(filterable=False, detail=True)


@dataclass
class PlacementGroupState(StateSchema):
    """A placement group. state: PENDING | PREPARED | CREATED | REMOVED | RESCHEDULING."""

    placement_group_id: str = state_column(filterable=True)
    name: str = state_column(filterable=True)
    creator_job_id: str = state_column(filterable=True)
    state: str = state_column(filterable=True)
    bundles: list[dict[str, Any]] | None = state_column(filterable=False, detail=True)
    is_detached: bool | None = state_column(filterable=True, detail=True)
    stats: dict[str, Any] | None = state_column(filterable=False, detail=True)
    topology_strategy: dict[str, Any] | None = state_column(filterable=False, detail=True)
    topology_assignments: dict[str, Any] | None = state_column(filterable=False, detail=True)


@dataclass
class NodeState(StateSchema):
    """A node. state: ALIVE | DEAD. Usage in per cent, measured when asked: of the machine's CPUs and
    memory, and of the declared GPUs that somebody holds."""

    node_id: str = state_column(filterable=True)
    node_ip: str = state_column(filterable=True)
    is_head_node: bool = state_column(filterable=True)
    state: str = state_column(filterable=True)
    state_message: str | None = state_column(filterable=False)
    node_name: str = state_column(filterable=True)
    resources_total: dict[str, float] = state_column(filterable=False, format_fn=Humanify.node_resources)
    labels: dict[str, str] = state_column(filterable=False)
    start_time_ms: int | None = state_column(**_time)
    end_time_ms: int | None = state_column(**_time)
    cpu_usage: float | None = state_column(filterable=False)
    gpu_usage: float | None = state_column(filterable=False)
    memory_usage: float | None = state_column(filterable=False)


@dataclass
class DriverInfo(StateSchema):
    """The process of a job."""

    id: str = state_column(filterable=False)
    node_ip_address: str = state_column(filterable=False)
    pid: str = state_column(filterable=False)


@dataclass
class JobState(StateSchema):
    """A driver's work. status: RUNNING | SUCCEEDED."""

    job_id: str | None = state_column(filterable=True)
    submission_id: str | None = state_column(filterable=True)
    entrypoint: str = state_column(filterable=False)
    type: str = state_column(filterable=True)
    status: str = state_column(filterable=True)
    message: str | None = state_column(filterable=False)
    error_type: str | None = state_column(filterable=False)
    driver_info: DriverInfo | None = state_column(filterable=False)
    start_time: int | None = state_column(**_time)
    end_time: int | None = state_column(**_time)
    metadata: dict[str, str] | None = state_column(filterable=False, detail=True)
    runtime_env: dict[str, Any] | None = state_column(filterable=False, detail=True)
    driver_agent_http_address: str | None = state_column(filterable=False, detail=True)
    driver_node_id: str | None = state_column(filterable=False, detail=True)
    driver_exit_code: int | None = state_column(filterable=False, detail=True)


@dataclass
class WorkerState(StateSchema):
    """A process: a worker, or the driver. exit_type: SYSTEM_ERROR | INTENDED_SYSTEM_EXIT | USER_ERROR |
    INTENDED_USER_EXIT."""

    worker_id: str = state_column(filterable=True)
    is_alive: bool = state_column(filterable=True)
    worker_type: str = state_column(filterable=True)
    exit_type: str | None = state_column(filterable=True)
    node_id: str = state_column(filterable=True)
    ip: str = state_column(filterable=True)
    pid: int = state_column(filterable=True)
    exit_detail: str | None = state_column(filterable=False, detail=True)
    worker_launch_time_ms: int | None = state_column(**_time)
    worker_launched_time_ms: int | None = state_column(**_time)
    start_time_ms: int | None = state_column(**_time)
    end_time_ms: int | None = state_column(**_time)
    debugger_port: int | None = state_column(filterable=True, detail=True)
    num_paused_threads: int | None = state_column(filterable=True, detail=True)


@dataclass
class ClusterEventState(StateSchema):
    """Something that happened to the cluster. severity: INFO | WARNING | ERROR."""

    severity: str = state_column(filterable=True)
    time: str = state_column(filterable=False)
    source_type: str = state_column(filterable=True)
    message: str = state_column(filterable=False)
    event_id: str = state_column(filterable=True)
    custom_fields: dict[str, Any] | None = state_column(filterable=False, detail=True)


@dataclass
class TaskState(StateSchema):
    """An attempt of a task. state: PENDING_ARGS_AVAIL | PENDING_NODE_ASSIGNMENT | SUBMITTED_TO_WORKER |
    RUNNING | FINISHED | FAILED | NIL. type: NORMAL_TASK | ACTOR_CREATION_TASK | ACTOR_TASK | DRIVER_TASK."""

    task_id: str = state_column(filterable=True)
    attempt_number: int = state_column(filterable=True)
    name: str = state_column(filterable=True)
    state: str = state_column(filterable=True)
    job_id: str = state_column(filterable=True)
    actor_id: str | None = state_column(filterable=True)
    type: str = state_column(filterable=True)
    func_or_class_name: str = state_column(filterable=True)
    parent_task_id: str = state_column(filterable=True)
    node_id: str | None = state_column(filterable=True)
    worker_id: str | None = state_column(filterable=True)
    worker_pid: int | None = state_column(filterable=True)
    error_type: str | None = state_column(filterable=True)
    language: str | None = state_column(filterable=True, detail=True)
    required_resources: dict[str, float] | None = state_column(filterable=False, detail=True)
    runtime_env_info: dict[str, Any] | None = state_column(filterable=False, detail=True)
    placement_group_id: str | None = state_column(filterable=True, detail=True)
    events: list[dict[str, Any]] | None = state_column(
        filterable=False, detail=True, format_fn=Humanify.events
    )
    profiling_data: dict[str, Any] | None = state_column(filterable=False, detail=True)
    creation_time_ms: int | None = state_column(**_time)
    start_time_ms: int | None = state_column(**_time)
    end_time_ms: int | None = state_column(**_time)
    task_log_info: dict[str, Any] | None = state_column(filterable=False, detail=True)
    error_message: str | None = state_column(filterable=False, detail=True)
    is_debugger_paused: bool | None = state_column(filterable=True, detail=True)
    call_site: str | None = state_column(filterable=False, detail=True)
    label_selector: dict[str, str] | None = state_column(filterable=False, detail=True)
    fallback_strategy: dict[str, Any] | None = state_column(filterable=False, detail=True)


@dataclass
class ObjectState(StateSchema):
    """A process's reference to an object. object_size in bytes, -1 while it is not known."""

    object_id: str = state_column(filterable=True)
    object_size: int = state_column(filterable=True, format_fn=lambda x: "?" if x < 0 else Humanify.memory(x))
    task_status: str = state_column(filterable=True)
    attempt_number: int = state_column(filterable=True)
    reference_type: str = state_column(filterable=True)
    call_site: str = state_column(filterable=True)
    type: str = state_column(filterable=True)
    pid: int = state_column(filterable=True)
    ip: str = state_column(filterable=True)


@dataclass
class RuntimeEnvState(StateSchema):
    """A runtime environment that workers run in."""

    runtime_env: dict[str, Any] = state_column(filterable=True)
    success: bool = state_column(filterable=True)
    creation_time_ms: float | None = state_column(filterable=False, format_fn=Humanify.duration)
    node_id: str = state_column(filterable=True)
    ref_cnt: int | None = state_column(filterable=False, detail=True)
    error: str | None = state_column(filterable=True, detail=True)


SCHEMAS: dict[StateResource, type[StateSchema]] = {
    StateResource.ACTORS: ActorState,
    StateResource.JOBS: JobState,
    StateResource.PLACEMENT_GROUPS: PlacementGroupState,
    StateResource.NODES: NodeState,
    StateResource.WORKERS: WorkerState,
    StateResource.TASKS: TaskState,
    StateResource.OBJECTS: ObjectState,
    StateResource.RUNTIME_ENVS: RuntimeEnvState,
    StateResource.CLUSTER_EVENTS: ClusterEventState,
}
ID_COLUMNS: dict[StateResource, str] = {
    StateResource.NODES: "node_id",
    StateResource.ACTORS: "actor_id",
    StateResource.PLACEMENT_GROUPS: "placement_group_id",
    StateResource.WORKERS: "worker_id",
    StateResource.TASKS: "task_id",
    StateResource.OBJECTS: "object_id",
    StateResource.JOBS: "submission_id",
}


@dataclass
class ListApiOptions:
    """How to list. Raises: ValueError for filters and limits that cannot be meant."""

    limit: int = DEFAULT_LIMIT
    timeout: int = DEFAULT_RPC_TIMEOUT
    detail: bool = False
    filters: list[tuple[str, str, Any]] | None = None
    exclude_driver: bool = True

    def __post_init__(self) -> None:
        self.filters = list(self.filters or ())
        for one in self.filters:
            if not isinstance(one, (tuple, list)) or len(one) != 3:
                raise ValueError(
                    f"The given filter has incorrect input type, {one}. Provide (key, predicate, value) tuples."
                )
            if one[1] not in PREDICATES:
                raise ValueError(
                    f"Unsupported filter predicate {one[1]} is given. Available predicates: =, !=."
                )

    def has_conflicting_filters(self) -> bool:
        """Whether a column would have to equal two things at once; warns if so."""
        import warnings

        wanted: dict[str, Any] = {}
        for key, predicate, value in self.filters or ():
            if predicate == "=" and wanted.setdefault(key, value) != value:
                warnings.warn(
                    f"There are multiple '=' filters with the same key '{key}' but different values"
                    f"'{wanted[key]}' & '{value}'. Empty result set will be returned",
                    UserWarning,
                    stacklevel=2,
                )
                return True
        return False


@dataclass
class GetApiOptions:
    """How to get one row."""

    timeout: int = DEFAULT_RPC_TIMEOUT


@dataclass
class SummaryApiOptions:
    """How to summarize. summary_by: for tasks "func_name" (default) or "lineage"."""

    timeout: int = DEFAULT_RPC_TIMEOUT
    filters: list[tuple[str, str, Any]] | None = None
    summary_by: str | None = None
