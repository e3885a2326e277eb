"""How is the session? `minray status`: what it has, what is used, what waits and why, what failed."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from typing import Any

from minray.cli.observing import add_session, observed
from minray.cli.printing import age, cell, size, to_json
from minray.state_api import rows
from minray.state_api.client import StateApiClient
from minray.state_api.machine import usage_of_machine

RECENT_S = 600.0
FAILURES_SHOWN = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on `parser`."""
    parser.add_argument("--json", action="store_true", help="the same for a program")
    add_session(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print it. Returns: the exit code."""
    return observed("status", arguments, lambda client: _status(client, arguments))


def gathered(client: StateApiClient, timeout_s: float) -> dict[str, Any]:
    """Everything that the report says, as a dictionary."""
    state = client.state(timeout_s)
    ask = client.session.ask
    total, free = ask("cluster_resources"), ask("available_resources")
    store = ask("store")
    failures = [
        death
        for death in state["deaths"]
        if rows.exit_type_of(death) in ("SYSTEM_ERROR", "USER_ERROR")
        and state["now_s"] - death["ended_s"] < RECENT_S
    ]
    return {
        "session": client.session.config.session_dir,
        "node_id": client.session.config.node_id.hex(),
        "up_s": state["now_s"] - state["started_s"],
        "drivers": [row["pid"] for row in state["jobs"] if row["ended_s"] is None],
        "workers": dict(Counter(row["state"] for row in state["workers"])),
        "actors": dict(Counter(row["state"] for row in state["actors"])),
        "usage": {
            name: {"used": amount - free.get(name, 0), "total": amount}
            for name, amount in total.items()
            if not name.startswith(("node:", "object_store_memory"))
        },
        "object_store": {"used": store["granted_bytes"], "total": store["capacity_bytes"]},
        "machine": usage_of_machine(),
        "demands": [
            {
                "resources": row["resources"],
                "tasks": row["leases_wanted"],
                "actors": row["actors_waiting"],
                "waiting_s": row["waiting_s"],
                "reason": row["stuck"],
            }
            for row in state["demands"]
            if row["leases_wanted"] or row["actors_waiting"]
        ],
        "failures": [
            {"pid": one["pid"], "ended_s": one["ended_s"], "reason": one["reason"]}
            for one in failures[-FAILURES_SHOWN:]
        ],
    }


def _status(client: StateApiClient, arguments: argparse.Namespace) -> int:
    found = gathered(client, arguments.timeout)
    if arguments.json:
        print(to_json(found))
        return 0
    print(f"======== Status: {time.strftime('%Y-%m-%d %H:%M:%S')} ========")
    print(
        f"Session {found['session']}, up {age(found['up_s'])}, driver {', '.join(map(str, found['drivers']))}"
    )
    print("\nNode status\n" + "-" * 60)
    print(f"Active:\n 1 node {found['node_id'][:16]}")
    print(f" workers: {_counted(found['workers'])}")
    print(f" actors:  {_counted(found['actors'])}")
    machine = found["machine"]
    print(f" machine: CPU {machine['cpu_usage']:.0f} %, memory {machine['memory_usage']:.0f} % in use")
    print("Recent failures:")
    for one in found["failures"] or ():
        first, *rest = one["reason"].splitlines()
        print(f" {time.strftime('%H:%M:%S', time.localtime(one['ended_s']))} {first}")
        for line in rest:
            print(f"   {line}")
    if not found["failures"]:
        print(" (no failures)")
    print("\nResources\n" + "-" * 60)
    print("Total Usage:")
    for name, amounts in found["usage"].items():
        print(f" {_amount(name, amounts['used'])}/{_amount(name, amounts['total'])} {name}")
    store = found["object_store"]
    print(f" {size(store['used'])}/{size(store['total'])} object_store_memory")
    print("\nTotal Demands:")
    for one in found["demands"]:
        what = f"{one['tasks']} worker(s) for tasks" if one["tasks"] else ""
        actors = f"actor(s) {', '.join(one['actors'])}" if one["actors"] else ""
        print(
            f" {cell(one['resources'])}: {' and '.join(filter(None, (what, actors)))}, for {age(one['waiting_s'])}"
        )
        if one["reason"]:
            print(f"   {one['reason']}")
    if not found["demands"]:
        print(" (no resource demands)")
    return 0


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "none"


def _amount(name: str, amount: float) -> str:
    return size(amount) if name == "memory" else f"{amount:g}"
