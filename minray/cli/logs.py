"""What did the processes of a session print? `minray logs`: which files there are, and what is in them."""

from __future__ import annotations

import argparse
import os
import sys

from minray.cli.observing import add_session, observed
from minray.cli.printing import print_rows, size
from minray.state_api.client import StateApiClient
from minray.state_api.logs import file_of, list_files, read_log

_KINDS = ("cluster", "actor", "task", "worker")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on `parser`."""
    parser.add_argument(
        "what", nargs="*", metavar="FILE", help="a file or pattern; or Ray's `actor`, `task`, `worker` before --id"
    )
    parser.add_argument("--id", default=None, help="of the actor, task or worker")
    parser.add_argument("--actor-id", "-a", default=None, help="the log of the actor's process")
    parser.add_argument("--task-id", default=None, help="the log of the worker that ran the task")
    parser.add_argument("--pid", type=int, default=None, help="the log of the worker with this process id")
    parser.add_argument("-f", "--follow", action="store_true", help="go on as it grows, until Ctrl-C")
    parser.add_argument("--tail", type=int, default=100, help="last lines only (default 100; -1: all)")
    parser.add_argument(
        "--err", action="store_true", help="errors: a worker's file holds output and errors alike"
    )
    add_session(parser)


def run(arguments: argparse.Namespace) -> int:
    """List or print. Returns: the exit code."""
    return observed("logs", arguments, lambda client: _logs(client, arguments))


def _logs(client: StateApiClient, arguments: argparse.Namespace) -> int:
    words = list(arguments.what)
    kind = words.pop(0) if words and words[0] in _KINDS else ""
    if len(words) > 1:
        raise ValueError(f"one file or pattern at a time, not {' '.join(words)}")
    ids = {
        "actor_id": arguments.actor_id or (arguments.id if kind == "actor" else None),
        "task_id": arguments.task_id or (arguments.id if kind == "task" else None),
        "worker_id": arguments.id if kind in ("worker", "") else None,
    }
    if arguments.pid is not None or any(ids.values()):
        path = file_of(client, pid=arguments.pid, timeout=arguments.timeout, **ids)
    else:
        files = list_files(client.session.log_dir, words[0] if words else "*")
        names = [name for group in files.values() for name in group]
        if len(names) != 1 or not words:
            return _list(client, files, words)
        path = os.path.join(client.session.log_dir, names[0])
    for chunk in read_log(path, arguments.tail, arguments.follow, encoding="utf-8", errors="replace"):
        sys.stdout.write(chunk)
        sys.stdout.flush()
    return 0


def _list(client: StateApiClient, files: dict[str, list[str]], words: list[str]) -> int:
    if not files:
        print(f"minray logs: no log file matches {words[0] if words else '*'!r}", file=sys.stderr)
        return 1
    state = client.state()
    pids = {row["worker_id"][:16]: row["pid"] for row in [*state["workers"], *state["deaths"]]}
    actors = {row["worker_id"][:16]: row["class_name"] for row in state["actors"] if row["worker_id"]}
    rows = []
    for group, names in files.items():
        for name in names:
            worker = name.removeprefix("worker-").removesuffix(".log")
            count = os.stat(os.path.join(client.session.log_dir, name)).st_size
            rows.append(
                {
                    "file": name,
                    "of": group,
                    "size": size(count),
                    "pid": pids.get(worker),
                    "actor": actors.get(worker),
                }
            )
    print_rows(rows, ["file", "of", "size", "pid", "actor"], client.session.log_dir)
    return 0
