"""Which output did the session's processes leave, and how does one read along?

The node writes `node.log`, each worker one file of standard output and errors together. Files go with
their session; of a task there is the file of the worker that ran it.
"""

from __future__ import annotations

import fnmatch
import os
import re
import time
from collections.abc import Iterator
from typing import Any

from minray.state_api.client import StateApiClient
from minray.state_api.errors import RayStateApiException
from minray.state_api.schema import GetApiOptions, StateResource

CHUNK_BYTES = 1 << 16
FOLLOW_S = 0.2
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_GROUPS = (("worker_out", "worker-"), ("raylet", "node"))


def list_files(log_dir: str, pattern: str = "*") -> dict[str, list[str]]:
    """The files by who wrote them: "worker_out", "raylet", "internal"."""
    found: dict[str, list[str]] = {}
    try:
        names = sorted(os.listdir(log_dir))
    except OSError:
        names = []
    for name in names:
        if fnmatch.fnmatch(name, pattern):
            group = next((group for group, prefix in _GROUPS if name.startswith(prefix)), "internal")
            found.setdefault(group, []).append(name)
    return found


def file_of(
    client: StateApiClient,
    filename: str | None = None,
    actor_id: str | None = None,
    task_id: str | None = None,
    pid: int | None = None,
    worker_id: str | None = None,
    timeout: int = 30,
) -> str:
    """The path of the file that is meant. Raises: RayStateApiException when there is none, ValueError."""
    log_dir = client.session.log_dir
    if filename is not None:
        path = os.path.join(log_dir, filename)
        if os.path.dirname(os.path.relpath(path, log_dir)) or not os.path.isfile(path):
            names = [name for group in list_files(log_dir).values() for name in group]
            raise RayStateApiException(f"There is no log file {filename!r}. There are: {', '.join(names)}.")
        return path
    if task_id is not None:
        task = client.get(StateResource.TASKS, task_id, GetApiOptions(timeout))
        if task is None or not task["worker_id"]:
            raise RayStateApiException(
                f"The task {task_id} is not known, or has not been sent to a worker yet."
            )
        worker_id = task["worker_id"]
    elif actor_id is not None:
        actor = client.get(StateResource.ACTORS, actor_id, GetApiOptions(timeout))
        if actor is None or not actor["pid"]:
            raise RayStateApiException(f"The actor {actor_id} is not known, or has no process yet.")
        pid = actor["pid"]
    if worker_id is None and pid is not None:
        worker_id = _worker_with(client, pid, timeout)
    if worker_id is None:
        raise ValueError("say which log: filename, actor_id, task_id, pid or worker_id")
    # As the node names it: see minray.raylet.zygote.worker_log_path.
    known = [name for name in list_files(log_dir).get("worker_out", ()) if worker_id[:16] in name]
    if not known:
        raise RayStateApiException(f"The worker {worker_id} has left no log file.")
    return os.path.join(log_dir, known[0])


def _worker_with(client: StateApiClient, pid: int, timeout: float) -> str:
    state = client.state(timeout)
    for row in [*state["workers"], *reversed(state["deaths"])]:
        if row["pid"] == pid:
            return str(row["worker_id"])
    raise RayStateApiException(f"No worker of this session has or had the pid {pid}.")


def read_log(
    path: str,
    tail: int = -1,
    follow: bool = False,
    interval_s: float | None = None,
    filter_ansi_code: bool = False,
    encoding: str | None = "utf-8",
    errors: str = "strict",
) -> Iterator[Any]:
    """Chunks of the file, from its start or its last `tail` lines; `follow`: without end, until it is gone."""
    with open(path, "rb") as file:
        if tail >= 0:
            _seek_tail(file, tail)
        while True:
            chunk = file.read(CHUNK_BYTES)
            if chunk:
                chunk += (
                    file.readline() if not chunk.endswith(b"\n") else b""
                )  # whole lines: no split character
                yield _shown(chunk, filter_ansi_code, encoding, errors)
            elif not follow or not os.path.exists(path):
                return
            else:
                time.sleep(interval_s or FOLLOW_S)


def _shown(chunk: bytes, filter_ansi_code: bool, encoding: str | None, errors: str) -> Any:
    if encoding is None:
        return chunk
    text = chunk.decode(encoding, errors)
    return _ANSI.sub("", text) if filter_ansi_code else text


def _seek_tail(file: Any, lines: int) -> None:
    position = file.seek(0, os.SEEK_END)
    tail = b""
    while position > 0 and tail.count(b"\n") <= lines:
        step = min(CHUNK_BYTES, position)
        position -= step
        file.seek(position)
        tail = file.read(step) + tail
    cut = tail.splitlines(keepends=True)[-lines:] if lines else []
    file.seek(-sum(map(len, cut)), os.SEEK_END)
