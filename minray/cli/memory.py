"""Who keeps which object alive, and how full is shared memory? `minray memory`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from minray.cli.observing import add_session, observed
from minray.cli.printing import print_rows, size
from minray.state_api.client import StateApiClient
from minray.state_api.schema import MAX_LIMIT, ListApiOptions, StateResource

_SORTS = {"PID": "pid", "OBJECT_SIZE": "object_size", "REFERENCE_TYPE": "reference_type"}
_GROUPS = {"NODE_ADDRESS": "ip", "STACK_TRACE": "call_site", "PID": "pid", "OWNER": "owner"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on `parser`."""
    parser.add_argument(
        "--group-by", choices=_GROUPS, default="NODE_ADDRESS", type=str.upper, help="one table each"
    )
    parser.add_argument(
        "--sort-by", choices=_SORTS, default="OBJECT_SIZE", type=str.upper, help="ascending, sizes descending"
    )
    parser.add_argument(
        "--units", choices=("B", "KB", "MB", "GB"), default="", type=str.upper, help="of sizes"
    )
    parser.add_argument(
        "--stats-only", action="store_true", help="the store's figures without the references"
    )
    parser.add_argument("-n", "--num-entries", type=int, default=None, help="rows of each group at most")
    add_session(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print references and the store's figures. Returns: the exit code."""
    return observed("memory", arguments, lambda client: _memory(client, arguments))


def _memory(client: StateApiClient, arguments: argparse.Namespace) -> int:
    if not arguments.stats_only:
        options = ListApiOptions(MAX_LIMIT, arguments.timeout)
        rows = client.list(StateResource.OBJECTS, options, raise_on_missing_output=False, _explain=True)
        _print_references([row.asdict() for row in rows], arguments)
        print()
    _print_store(client, arguments)
    return 0


def _print_references(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    column = _GROUPS[arguments.group_by]
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        row["owner"] = row["object_id"][:32]
        groups.setdefault(str(row[column]), []).append(row)
    for name, group in groups.items():
        order = _SORTS[arguments.sort_by]
        group.sort(key=lambda row: -row[order] if order == "object_size" else row[order])
        known = sum({row["object_id"]: max(0, row["object_size"]) for row in group}.values())
        kinds: dict[str, int] = {}
        for row in group:
            kinds[row["reference_type"]] = kinds.get(row["reference_type"], 0) + 1
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        shown = [
            {**row, "size": "?" if row["object_size"] < 0 else size(row["object_size"], arguments.units)}
            for row in group
        ]
        title = (
            f"{arguments.group_by.lower().replace('_', ' ')} {name}: {size(known, arguments.units)} in {told}"
        )
        columns = "pid type size reference_type task_status object_id".split()
        if not sys.stdout.isatty():
            columns = "ip pid type call_site task_status attempt_number size reference_type object_id".split()
        print_rows(shown[: arguments.num_entries], columns, title)
    if not groups:
        print("No references to objects in the session.")


def _print_store(client: StateApiClient, arguments: argparse.Namespace) -> None:
    store = client.session.ask("store", timeout_s=arguments.timeout)
    state = client.state(arguments.timeout)
    pids = {row["worker_id"]: (row["pid"], "driver") for row in state["jobs"]}
    pids |= {row["worker_id"]: (row["pid"], "worker") for row in state["workers"]}
    capacity, granted = store["capacity_bytes"], store["granted_bytes"]
    share = 100 * granted / capacity if capacity else 0
    print(
        f"Object store: {size(granted, arguments.units)} of {size(capacity, arguments.units)} handed out "
        f"({share:.1f} %)"
    )
    for name, value in store.items():
        if name.endswith("_bytes") and name not in ("capacity_bytes", "granted_bytes"):
            print(f"  {name.removesuffix('_bytes').replace('_', ' ')}: {size(value, arguments.units)}")
    for worker_id, count in sorted(store["clients"].items(), key=lambda item: -item[1]):
        worker = worker_id.hex() if isinstance(worker_id, bytes) else str(worker_id)
        pid, kind = pids.get(worker, (0, "ended worker"))
        print(f"  {kind} {pid or worker[:8]}: {size(count, arguments.units)}")
