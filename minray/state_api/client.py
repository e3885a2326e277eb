"""How is a question about the state answered? Ask whoever knows, make rows, filter, sort, cut, warn.

Every call asks anew; nothing is cached, nothing is kept open. What a process cannot answer in time is
missing from the result, and is told: as an error (`raise_on_missing_output`) or as a warning.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minray.base.events import Event
from minray.state_api import rows, summaries
from minray.state_api.errors import RayStateApiException
from minray.state_api.filters import matching
from minray.state_api.schema import (
    ID_COLUMNS,
    MAX_LIMIT,
    SCHEMAS,
    GetApiOptions,
    Humanify,
    ListApiOptions,
    StateResource,
    StateSchema,
    SummaryApiOptions,
    SummaryResource,
)
from minray.state_api.session import Session, find_session
from minray.state_api.tasks import TaskTable, creation_rows
from minray.worker.inspection import events_of

RECORDED_MAX = 200_000  # tasks
_HISTORY = ("FINISHED", "FAILED", "NIL")


@dataclass
class Found:
    """Rows before filtering, and what is known to be missing."""

    rows: list[dict[str, Any]]
    total: int = 0  # that there are
    silent: list[str] = field(default_factory=list)  # who did not answer

    def __post_init__(self) -> None:
        self.total = max(self.total, len(self.rows))


class StateApiClient:
    """Lists, gets and summarizes what a session holds. Raises: ConnectionError when there is none."""

    def __init__(
        self,
        address: str | None = None,
        cookies: Mapping[str, Any] | None = None,
        headers: Mapping[str, Any] | None = None,
    ) -> None:
        self.session: Session = find_session(address)
        self._sources: dict[StateResource, Callable[[float, bool], Found]] = {
            StateResource.ACTORS: self._actors,
            StateResource.JOBS: self._jobs,
            StateResource.PLACEMENT_GROUPS: lambda timeout_s, detail: Found([]),
            StateResource.NODES: self._nodes,
            StateResource.WORKERS: self._workers,
            StateResource.TASKS: self._tasks,
            StateResource.OBJECTS: self._objects,
            StateResource.RUNTIME_ENVS: self._environments,
            StateResource.CLUSTER_EVENTS: self._events,
        }

    # ---------------------------------------------------------------- the three verbs
    def list(
        self,
        resource: StateResource,
        options: ListApiOptions,
        raise_on_missing_output: bool,
        _explain: bool = False,
    ) -> list[Any]:
        """Rows that match. Raises: RayStateApiException, ServerUnavailable, ValueError."""
        if options.has_conflicting_filters():
            return []
        if options.limit > MAX_LIMIT:
            raise RayStateApiException(
                f"Given limit {options.limit} exceeds the supported limit {MAX_LIMIT}. Use a lower limit."
            )
        if options.limit < 0:
            raise RayStateApiException(f"Given limit {options.limit} is negative.")
        found = self._sources[resource](max(0.1, options.timeout), options.detail)
        schema = SCHEMAS[resource]
        try:
            kept = matching(found.rows, options.filters or (), schema)
        except ValueError as error:
            raise RayStateApiException(str(error)) from None
        if raise_on_missing_output:
            _complain(resource, found, options)
        shown = kept[: options.limit]
        if _explain:
            _warn(resource, found, len(kept), len(shown))
        return [_row(schema, one, options.detail) for one in shown]

    def get(self, resource: StateResource, id: str, options: GetApiOptions, _explain: bool = False) -> Any:
        """The row with that id, None when there is none; of objects, a list of rows."""
        if resource not in ID_COLUMNS:
            raise ValueError(f"Can't get {resource.name} by id.")
        column = ID_COLUMNS[resource]
        if resource is StateResource.JOBS and not id.startswith("raysubmit_"):
            column = "job_id"
        found = self.list(
            resource,
            ListApiOptions(MAX_LIMIT, options.timeout, True, [(column, "=", id)], exclude_driver=False),
            raise_on_missing_output=False,
            _explain=_explain,
        )
        if not found:
            return None
        return found if resource is StateResource.OBJECTS else found[-1]  # of a task: its last attempt

    def summary(
        self,
        resource: SummaryResource,
        *,
        options: SummaryApiOptions,
        raise_on_missing_output: bool,
        _explain: bool = False,
    ) -> dict[str, Any]:
        """{"cluster": counts}."""
        listed = self.list(
            StateResource(resource.value),
            ListApiOptions(MAX_LIMIT, options.timeout, True, options.filters),
            raise_on_missing_output=raise_on_missing_output,
            _explain=_explain,
        )
        if resource is SummaryResource.ACTORS:
            made = summaries.actors_by_class(listed)
        elif resource is SummaryResource.OBJECTS:
            made = summaries.objects_by_call_site(listed)
        elif options.summary_by == "lineage":
            made = summaries.tasks_by_lineage(listed)
        else:
            made = summaries.tasks_by_function(listed)
        return {"cluster": made}

    # ---------------------------------------------------------------- who knows
    def state(self, timeout_s: float = 30.0) -> dict[str, Any]:
        """The node's tables as they are."""
        return self.session.ask("state", timeout_s=timeout_s)  # type: ignore[no-any-return]

    def recorded_events(self, timeout_s: float) -> Sequence[Event]:
        """All that the session's processes have recorded and still have, in order of time."""
        processes = self.session.processes(self.state(timeout_s))
        answers, silent = self.session.inspect(processes, "recorded", RECORDED_MAX, timeout_s)
        for sentence in silent:
            warnings.warn(f"The events are incomplete: {sentence}", stacklevel=3)
        told = (event for answer in answers.values() if answer is not None for event in events_of(answer))
        return sorted(dict.fromkeys(told), key=lambda event: event.time_s)  # what was shipped is told twice

    @property
    def _node_id(self) -> str:
        return self.session.config.node_id.hex()

    def _actors(self, timeout_s: float, detail: bool) -> Found:
        found = rows.actor_rows(self.state(timeout_s), self._node_id)
        return Found(sorted(found, key=lambda row: str(row["actor_id"])))

    def _workers(self, timeout_s: float, detail: bool) -> Found:
        found = rows.worker_rows(self.state(timeout_s), self._node_id)
        return Found(sorted(found, key=lambda row: str(row["worker_id"])))

    def _nodes(self, timeout_s: float, detail: bool) -> Found:
        state = self.state(timeout_s)
        nodes = self.session.ask("nodes", timeout_s=timeout_s)
        from minray.state_api.machine import usage_of_machine

        usage = {**usage_of_machine(), "gpu_usage": rows.gpu_usage(nodes[0], state)}
        return Found(rows.node_rows(nodes, state, usage))

    def _jobs(self, timeout_s: float, detail: bool) -> Found:
        from minray.state_api.machine import command_line

        state = self.state(timeout_s)
        lines = {row["pid"]: command_line(row["pid"]) for row in state["jobs"]}
        return Found(rows.job_rows(state, self._node_id, lines))

    def _environments(self, timeout_s: float, detail: bool) -> Found:
        return Found(rows.environment_rows(self.state(timeout_s), self._node_id))

    def _events(self, timeout_s: float, detail: bool) -> Found:
        return Found(rows.event_rows(self.state(timeout_s), Humanify.timestamp))

    def _tasks(self, timeout_s: float, detail: bool) -> Found:
        state = self.state(timeout_s)
        processes = self.session.processes(state)
        answers, silent = self.session.inspect(processes, "tasks", MAX_LIMIT, timeout_s)
        table = TaskTable(self._node_id)
        missing = 0
        for process, answer in answers.items():
            job_id = rows.job_of(process.worker_id.hex(), state)
            if answer["recorded"] is not None:
                table.add_events(events_of(answer["recorded"]), job_id)
                missing += answer["recorded"]["lost"]
            missing += answer["pending_total"] - len(answer["pending"])
        for process, answer in answers.items():
            table.add_pending(process.worker_id, answer, rows.job_of(process.worker_id.hex(), state))
        for process, answer in answers.items():
            table.add_running(answer, process.worker_id.hex())
        found = table.rows() + creation_rows(state["actors"], self._node_id, rows.job_hex(1))
        return Found(found, len(found) + missing, silent)

    def _objects(self, timeout_s: float, detail: bool) -> Found:
        processes = self.session.processes(self.state(timeout_s))
        answers, silent = self.session.inspect(processes, "objects", MAX_LIMIT, timeout_s)
        found = rows.object_rows(list(answers.items()))
        found.sort(key=lambda row: (str(row["object_id"]), int(row["pid"])))
        missing = sum(answer["total"] - len(answer["rows"]) for answer in answers.values())
        return Found(found, len(found) + missing, silent)


def _row(schema: type[StateSchema], values: Mapping[str, Any], detail: bool) -> StateSchema:
    return schema(**{name: values.get(name) for name in schema.list_columns(detail)})


def _complain(resource: StateResource, found: Found, options: ListApiOptions) -> None:
    if found.silent:
        raise RayStateApiException(
            f"Failed to retrieve all {resource.value} from the cluster because they are not reachable due to query "
            f"failures to the data sources: {'; '.join(found.silent)}. To avoid raising an exception and allow "
            "having missing output, set `raise_on_missing_output=False`. "
        )
    asks_history = not any(
        key == "state" and how == "=" and str(value).upper() not in _HISTORY
        for key, how, value in options.filters or ()
    )  # what has not ended is never cut: who asks for that only misses nothing
    if found.total != len(found.rows) and asks_history:
        raise RayStateApiException(
            f"Failed to retrieve all {found.total} {resource.value} from the cluster because they are not reachable "
            f"due to data truncation. It happens when the returned data is too large (> {len(found.rows)}) "
            "To avoid raising an exception and allow having missing output, set `raise_on_missing_output=False`. "
        )


def _warn(resource: StateResource, found: Found, matched: int, shown: int) -> None:
    if found.silent:
        warnings.warn(
            f"The returned data may contain incomplete result. {'; '.join(found.silent)}", stacklevel=4
        )
    if found.total > len(found.rows):
        warnings.warn(
            f"The returned data may contain incomplete result. {len(found.rows)} ({found.total} total from the "
            f"cluster) {resource.value} are retrieved from the data source. {found.total - len(found.rows)} entries "
            "have been truncated.",
            stacklevel=4,
        )
    if matched > shown:
        warnings.warn(
            f"Limit last {shown} entries (Total {matched}). Use `--filter` to reduce the amount of data to return or "
            "setting a higher limit with `--limit` to see all data. ",
            stacklevel=4,
        )
