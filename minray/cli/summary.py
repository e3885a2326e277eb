"""How many are there, by name and state? `minray summary tasks`, `actors`, `objects`."""

from __future__ import annotations

import argparse
from typing import Any

from minray.cli.observing import add_session, observed, parsed_filter
from minray.cli.printing import add_format, cell, print_rows, size, to_json, to_yaml
from minray.state_api.client import StateApiClient
from minray.state_api.schema import SummaryApiOptions, SummaryResource


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on `parser`."""
    parser.add_argument("resource", choices=[one.value for one in SummaryResource], metavar="RESOURCE",
                        help="tasks, actors or objects")  # fmt: skip
    parser.add_argument(
        "-f", "--filter", action="append", default=[], metavar="KEY=VALUE", help="count only these"
    )
    parser.add_argument("--by-lineage", action="store_true", help="tasks as a tree of who submitted whom")
    add_format(parser)
    add_session(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the counts. Returns: the exit code."""
    return observed("summary", arguments, lambda client: _summary(client, arguments))


def _summary(client: StateApiClient, arguments: argparse.Namespace) -> int:
    options = SummaryApiOptions(
        arguments.timeout,
        [parsed_filter(text) for text in arguments.filter],
        "lineage" if arguments.by_lineage else None,
    )
    found = client.summary(
        SummaryResource(arguments.resource), options=options, raise_on_missing_output=False, _explain=True
    )["cluster"]
    if arguments.format in ("json", "yaml"):
        print(to_json(found) if arguments.format == "json" else to_yaml(found))
        return 0
    totals = {name.replace("_", " "): value for name, value in found.items() if name.startswith("total")}
    print(", ".join(f"{name}: {cell(value)}" for name, value in totals.items()))
    summary = found["summary"]
    if arguments.resource == "tasks" and arguments.by_lineage:
        _print_tree(summary, 0)
    elif arguments.resource == "objects":
        rows = [
            {"call_site": name, **group, "size": size(group["total_size_mb"] * 2**20)}
            for name, group in summary.items()
        ]
        print_rows(
            rows,
            [
                "call_site",
                "total_objects",
                "size",
                "total_num_workers",
                "ref_type_counts",
                "task_state_counts",
            ],
        )
    else:
        rows = [{"name": name, **group} for name, group in summary.items()]
        rows.sort(key=lambda row: -sum(row["state_counts"].values()))
        print_rows(
            rows,
            ["name", "type", "state_counts"] if arguments.resource == "tasks" else ["name", "state_counts"],
        )
    return 0


def _print_tree(nodes: list[dict[str, Any]], depth: int) -> None:
    for node in nodes:
        count = len(node["children"]) if node["type"] == "GROUP" else 1
        times = f" x{count}" if count > 1 else ""
        print(f"{'  ' * depth}{node['name']}{times}  {cell(node['state_counts'])}")
        below = node["children"]
        if node["type"] == "GROUP":
            below = [child for one in below for child in one["children"]]
        _print_tree(below, depth + 1)
