"""Where is every process at this moment? `minray stack` prints the Python stacks of driver and workers."""

from __future__ import annotations

import argparse
import sys
import time

from minray.cli.observing import add_session, observed
from minray.cli.printing import age
from minray.state_api.client import StateApiClient
from minray.state_api.session import Process

_OF_RUNTIME = ("minray-pump", "minray-output")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on `parser`."""
    parser.add_argument("pid", nargs="*", type=int, metavar="PID", help="only these processes")
    parser.add_argument("--all-threads", action="store_true", help="the runtime's own threads too")
    add_session(parser)
    parser.set_defaults(timeout=5.0)


def run(arguments: argparse.Namespace) -> int:
    """Print the stacks. Returns: the exit code; 1 when a process did not answer."""
    return observed("stack", arguments, lambda client: _stack(client, arguments))


def _stack(client: StateApiClient, arguments: argparse.Namespace) -> int:
    processes = client.session.processes(client.state(arguments.timeout))
    wanted = [one for one in processes if not arguments.pid or one.pid in arguments.pid]
    for pid in set(arguments.pid) - {one.pid for one in processes}:
        print(f"minray stack: no process of this session has the pid {pid}", file=sys.stderr)
    answers, silent = client.session.inspect(wanted, "stacks", None, arguments.timeout)
    for process in wanted:
        if process in answers:
            _print(process, answers[process], arguments.all_threads)
    for sentence in silent:
        print(f"minray stack: {sentence}. A native profiler sees it: py-spy dump --pid PID", file=sys.stderr)
    return 1 if silent or not wanted else 0


def _print(process: Process, answer: dict[str, object], all_threads: bool) -> None:
    tasks = ", ".join(
        f"{name or task_id[:16]}" + (f" for {age(time.perf_counter() - since)}" if since else "")
        for task_id, name, since in answer["running"]  # type: ignore[attr-defined]
    )
    print(f"=== {process}" + (f", runs {tasks}" if tasks else "" if process.is_driver else ", idle") + " ===")
    for name, text in answer["threads"]:  # type: ignore[attr-defined]
        if all_threads or name not in _OF_RUNTIME:
            print(f"--- thread {name} ---\n{text}")
