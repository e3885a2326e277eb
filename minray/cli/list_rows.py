"""What is there, in a running session? `minray list tasks`, `actors`, `objects`, ..."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from minray.cli.observing import add_session, observed, parsed_filter, resource_named
from minray.cli.printing import add_format, print_rows, to_json, to_yaml
from minray.state_api.client import StateApiClient
from minray.state_api.schema import DEFAULT_LIMIT, DRIVER_TASK_ID_PREFIX, SCHEMAS, ListApiOptions

_NARROW = {  # what a table shows without --detail: what people look for, in an order for reading
    "tasks": "task_id name state attempt_number worker_pid error_type parent_task_id",
    "actors": "actor_id class_name state name pid ray_namespace",
    "objects": "object_id object_size reference_type task_status type pid",
    "workers": "worker_id pid worker_type is_alive exit_type",
    "jobs": "job_id status type entrypoint",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on `parser`."""
    parser.add_argument(
        "resource", metavar="RESOURCE", help="tasks, actors, objects, workers, nodes, jobs, ..."
    )
    parser.add_argument(
        "-f",
        "--filter",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="or KEY!=VALUE; may be repeated",
    )
    parser.add_argument(
        "--limit", type=int, default=DEFAULT_LIMIT, help=f"rows at most (default {DEFAULT_LIMIT})"
    )
    parser.add_argument("--detail", action="store_true", help="all columns, as YAML unless a format is given")
    add_format(parser)
    add_session(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the rows. Returns: the exit code."""
    return observed("list", arguments, lambda client: _list(client, arguments))


def _list(client: StateApiClient, arguments: argparse.Namespace) -> int:
    resource = resource_named(arguments.resource)
    filters = [parsed_filter(text) for text in arguments.filter]
    options = ListApiOptions(arguments.limit, arguments.timeout, arguments.detail, filters)
    rows = client.list(resource, options, raise_on_missing_output=False, _explain=True)
    found = [
        {name: value for name, value in row.asdict().items() if name in row.list_columns(arguments.detail)}
        for row in rows
    ]
    chosen = arguments.format
    if chosen == "default" and arguments.detail:
        chosen = "yaml"
    if chosen == "json":
        print(to_json(found))
        return 0
    schema = SCHEMAS[resource]
    shown = [schema.humanify(row) for row in found]
    if chosen == "yaml":
        print(to_yaml(shown) if shown else "[]")
    elif not shown:
        print(f"No {arguments.resource} in the session" + (" that match" if filters else "") + ".")
    else:
        narrow = _NARROW.get(resource.value, "").split()
        columns = narrow if chosen == "default" and narrow else schema.list_columns(arguments.detail)
        if columns is narrow and sys.stdout.isatty():
            shown, columns = _shorter(shown, columns)
        print_rows(shown, columns, f"{len(shown)} {arguments.resource}")
    return 0


def _shorter(rows: list[dict[str, Any]], columns: list[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """For a terminal: without columns in which every row says the same nothing; the driver by its name."""
    kept = [
        column
        for column in columns
        if column in ("task_id", "name", "state") or any(row.get(column) not in (None, 0, "") for row in rows)
    ]
    by_driver = {"parent_task_id": "driver"}
    return [
        {**row, **by_driver} if str(row.get("parent_task_id")).startswith(DRIVER_TASK_ID_PREFIX) else row
        for row in rows
    ], kept
