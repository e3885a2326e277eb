"""Which function asks for which rows? Ray's signatures over one client.

Common arguments: `address` (a session folder, "auto", None for this program's own session), `filters`
[(column, "=" or "!=", value), ...], `limit`, `timeout` in seconds, `detail` (all columns),
`raise_on_missing_output` (an error instead of a result with gaps). All raise RayStateApiException, and
ConnectionError where no session runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from minray.state_api.client import StateApiClient
from minray.state_api.logs import file_of, list_files, read_log
from minray.state_api.schema import (
    DEFAULT_LIMIT,
    DEFAULT_RPC_TIMEOUT,
    ActorState,
    ClusterEventState,
    GetApiOptions,
    JobState,
    ListApiOptions,
    NodeState,
    ObjectState,
    PlacementGroupState,
    RuntimeEnvState,
    StateResource,
    SummaryApiOptions,
    SummaryResource,
    TaskState,
    WorkerState,
)

Filters = list[tuple[str, str, Any]] | None


def list_actors(
    address: str | None = None,
    filters: Filters = None,
    limit: int = DEFAULT_LIMIT,
    timeout: int = DEFAULT_RPC_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[ActorState]:
    """Actors, the dead ones that are remembered included."""
    options = ListApiOptions(limit, timeout, detail, filters)
    return StateApiClient(address).list(StateResource.ACTORS, options, raise_on_missing_output, _explain)


def list_placement_groups(
    address: str | None = None,
    filters: Filters = None,
    limit: int = DEFAULT_LIMIT,
    timeout: int = DEFAULT_RPC_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[PlacementGroupState]:
    """Placement groups."""
    options = ListApiOptions(limit, timeout, detail, filters)
    return StateApiClient(address).list(
        StateResource.PLACEMENT_GROUPS, options, raise_on_missing_output, _explain
    )


def list_nodes(
    address: str | None = None,
    filters: Filters = None,
    limit: int = DEFAULT_LIMIT,
    timeout: int = DEFAULT_RPC_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[NodeState]:
    """Nodes, and how busy they are."""
    options = ListApiOptions(limit, timeout, detail, filters)
    return StateApiClient(address).list(StateResource.NODES, options, raise_on_missing_output, _explain)


def list_jobs(
    address: str | None = None,
    filters: Filters = None,
    limit: int = DEFAULT_LIMIT,
    timeout: int = DEFAULT_RPC_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[JobState]:
    """Drivers, the ended ones included."""
    options = ListApiOptions(limit, timeout, detail, filters)
    return StateApiClient(address).list(StateResource.JOBS, options, raise_on_missing_output, _explain)


def list_workers(
    address: str | None = None,
    filters: Filters = None,
    limit: int = DEFAULT_LIMIT,
    timeout: int = DEFAULT_RPC_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[WorkerState]:
    """Processes, the dead ones that are remembered included."""
    options = ListApiOptions(limit, timeout, detail, filters)
    return StateApiClient(address).list(StateResource.WORKERS, options, raise_on_missing_output, _explain)


def list_tasks(
    address: str | None = None,
    filters: Filters = None,
    limit: int = DEFAULT_LIMIT,
    timeout: int = DEFAULT_RPC_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[TaskState]:
    """Attempts of tasks of all owners, and constructions of actors."""
    options = ListApiOptions(limit, timeout, detail, filters)
    return StateApiClient(address).list(StateResource.TASKS, options, raise_on_missing_output, _explain)


def list_objects(
    address: str | None = None,
    filters: Filters = None,
    limit: int = DEFAULT_LIMIT,
    timeout: int = DEFAULT_RPC_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[ObjectState]:
    """References to objects, one row a process that holds some."""
    options = ListApiOptions(limit, timeout, detail, filters)
    return StateApiClient(address).list(StateResource.OBJECTS, options, raise_on_missing_output, _explain)


def list_runtime_envs(
    address: str | None = None,
    filters: Filters = None,
    limit: int = DEFAULT_LIMIT,
    timeout: int = DEFAULT_RPC_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[RuntimeEnvState]:
    """Runtime environments in which workers run."""
    options = ListApiOptions(limit, timeout, detail, filters)
    return StateApiClient(address).list(
        StateResource.RUNTIME_ENVS, options, raise_on_missing_output, _explain
    )


def list_cluster_events(
    address: str | None = None,
    filters: Filters = None,
    limit: int = DEFAULT_LIMIT,
    timeout: int = DEFAULT_RPC_TIMEOUT,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[ClusterEventState]:
    """Deaths that nobody wished, demands that cannot be met."""
    options = ListApiOptions(limit, timeout, detail, filters)
    return StateApiClient(address).list(
        StateResource.CLUSTER_EVENTS, options, raise_on_missing_output, _explain
    )


def get_actor(
    id: str, address: str | None = None, timeout: int = DEFAULT_RPC_TIMEOUT, _explain: bool = False
) -> ActorState | None:
    """The actor, None when it is not known."""
    found = StateApiClient(address).get(StateResource.ACTORS, id, GetApiOptions(timeout), _explain)
    return found  # type: ignore[no-any-return]


def get_placement_group(
    id: str, address: str | None = None, timeout: int = DEFAULT_RPC_TIMEOUT, _explain: bool = False
) -> PlacementGroupState | None:
    """The placement group, None when it is not known."""
    found = StateApiClient(address).get(StateResource.PLACEMENT_GROUPS, id, GetApiOptions(timeout), _explain)
    return found  # type: ignore[no-any-return]


def get_node(
    id: str, address: str | None = None, timeout: int = DEFAULT_RPC_TIMEOUT, _explain: bool = False
) -> NodeState | None:
    """The node, None when it is not known."""
    found = StateApiClient(address).get(StateResource.NODES, id, GetApiOptions(timeout), _explain)
    return found  # type: ignore[no-any-return]


def get_worker(
    id: str, address: str | None = None, timeout: int = DEFAULT_RPC_TIMEOUT, _explain: bool = False
) -> WorkerState | None:
    """The process, None when it is not known."""
    found = StateApiClient(address).get(StateResource.WORKERS, id, GetApiOptions(timeout), _explain)
    return found  # type: ignore[no-any-return]


def get_job(
    id: str, address: str | None = None, timeout: int = DEFAULT_RPC_TIMEOUT, _explain: bool = False
) -> JobState | None:
    """The job, None when it is not known."""
    found = StateApiClient(address).get(StateResource.JOBS, id, GetApiOptions(timeout), _explain)
    return found  # type: ignore[no-any-return]


def get_task(
    id: Any, address: str | None = None, timeout: int = DEFAULT_RPC_TIMEOUT, _explain: bool = False
) -> TaskState | None:
    """The task's last attempt, None when it is not known. `id`: a task's id, or a reference to its result."""
    wanted = id if isinstance(id, str) else id.task_id().hex()
    found = StateApiClient(address).get(StateResource.TASKS, wanted, GetApiOptions(timeout), _explain)
    return found  # type: ignore[no-any-return]


def get_objects(
    id: str, address: str | None = None, timeout: int = DEFAULT_RPC_TIMEOUT, _explain: bool = False
) -> list[ObjectState] | None:
    """The references to the object, a row for each process."""
    found = StateApiClient(address).get(StateResource.OBJECTS, id, GetApiOptions(timeout), _explain)
    return found  # type: ignore[no-any-return]


def summarize_tasks(
    address: str | None = None,
    timeout: int = DEFAULT_RPC_TIMEOUT,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> dict[str, Any]:
    """Tasks counted by function and state. Under the key "cluster"."""
    return StateApiClient(address).summary(
        SummaryResource.TASKS,
        options=SummaryApiOptions(timeout),
        raise_on_missing_output=raise_on_missing_output,
        _explain=_explain,
    )


def summarize_actors(
    address: str | None = None,
    timeout: int = DEFAULT_RPC_TIMEOUT,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> dict[str, Any]:
    """Actors counted by class and state. Under the key "cluster"."""
    return StateApiClient(address).summary(
        SummaryResource.ACTORS,
        options=SummaryApiOptions(timeout),
        raise_on_missing_output=raise_on_missing_output,
        _explain=_explain,
    )


def summarize_objects(
    address: str | None = None,
    timeout: int = DEFAULT_RPC_TIMEOUT,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> dict[str, Any]:
    """Objects counted and sized, by call site. Under the key "cluster"."""
    return StateApiClient(address).summary(
        SummaryResource.OBJECTS,
        options=SummaryApiOptions(timeout),
        raise_on_missing_output=raise_on_missing_output,
        _explain=_explain,
    )


def list_logs(
    address: str | None = None,
    node_id: str | None = None,
    node_ip: str | None = None,
    glob_filter: str | None = None,
    timeout: int = DEFAULT_RPC_TIMEOUT,
) -> dict[str, list[str]]:
    """Log files by who wrote them. There is one node, so `node_id` and `node_ip` may be left out."""
    return list_files(StateApiClient(address).session.log_dir, glob_filter or "*")


def get_log(
    address: str | None = None,
    node_id: str | None = None,
    node_ip: str | None = None,
    filename: str | None = None,
    actor_id: str | None = None,
    task_id: str | None = None,
    pid: int | None = None,
    follow: bool = False,
    tail: int = -1,
    timeout: int = DEFAULT_RPC_TIMEOUT,
    suffix: str = "out",
    encoding: str | None = "utf-8",
    errors: str = "strict",
    submission_id: str | None = None,
    attempt_number: int = 0,
    _interval: float | None = None,
    filter_ansi_code: bool = False,
) -> Iterator[Any]:
    """Chunks of a log: of a file, or of the worker that an actor, a task or a pid names.

    A worker writes output and errors into one file, so `suffix` only has to be "out" or "err". `tail`: its
    last lines only, -1 all; `follow`: go on as it grows. Raises: ValueError, RayStateApiException.
    """
    if suffix not in ("out", "err"):
        raise ValueError(f"Invalid suffix: {suffix}. Must be one of 'out' or 'err'.")
    if filename is None and actor_id is None and task_id is None and pid is None:
        raise ValueError(
            "None of actor_id, task_id, pid, submission_id or filename is provided. At least one of them is "
            "required to fetch logs."
        )
    path = file_of(StateApiClient(address), filename, actor_id, task_id, pid, timeout=timeout)
    yield from read_log(path, tail, follow, _interval, filter_ansi_code, encoding, errors)
