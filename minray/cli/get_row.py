"""What is known of one thing? `minray get tasks ID`, with the first digits of its id or all of them."""

from __future__ import annotations

import argparse
import sys

from minray.cli.observing import add_session, observed, resource_named
from minray.cli.printing import add_format, print_rows, to_json, to_yaml
from minray.state_api.client import StateApiClient
from minray.state_api.schema import ID_COLUMNS, MAX_LIMIT, ListApiOptions, StateResource


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on `parser`."""
    parser.add_argument("resource", metavar="RESOURCE", help="tasks, actors, objects, workers, nodes or jobs")
    parser.add_argument("id", metavar="ID", help="its id, or digits that only its id begins with")
    add_format(parser)
    add_session(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the row. Returns: the exit code; 1 when there is none."""
    return observed("get", arguments, lambda client: _get(client, arguments))


def _get(client: StateApiClient, arguments: argparse.Namespace) -> int:
    resource = resource_named(arguments.resource)
    if resource not in ID_COLUMNS:
        raise ValueError(f"{arguments.resource} have no ids to get them by; `minray list` shows them.")
    column = "job_id" if resource is StateResource.JOBS else ID_COLUMNS[resource]
    options = ListApiOptions(MAX_LIMIT, arguments.timeout, True)
    rows = [
        row for row in client.list(resource, options, False, True) if row[column].startswith(arguments.id)
    ]
    names = {row[column] for row in rows}
    if not rows:
        print(
            f"minray get: no {arguments.resource} with an id that begins with {arguments.id}", file=sys.stderr
        )
        return 1
    if len(names) > 1:
        shown = ", ".join(sorted(names)[:5])
        print(f"minray get: {len(names)} ids begin with {arguments.id}: {shown}, ...", file=sys.stderr)
        return 1
    found = [row.humanify(row.asdict()) for row in rows]
    if arguments.format == "json":
        plain = [row.asdict() for row in rows]
        print(to_json(plain if len(plain) > 1 else plain[0]))
    elif arguments.format == "table":
        print_rows(found, rows[0].list_columns())
    else:
        print("\n---\n".join(to_yaml(row) for row in found))
    return 0
