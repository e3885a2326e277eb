"""What do we tell about a death? One sentence with pid, exit code or signal, and the last log lines."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from minray.base.messages import WorkerDied, WorkersDied
from minray.raylet.event_loop import EventLoop, monotonic_s
from minray.raylet.zygote_link import WorkerExit

LOG_LINES = 10
GATHER_S = 0.01
GATHER_PER_CLIENT_S = 0.0005  # telling wakes them all: a crowd is told less often
_TAIL_BYTES = 8 << 10
_HINTS = {
    signal.SIGKILL: "minray did not send it: the kernel's out-of-memory killer does, and so may a person",
    signal.SIGSEGV: "native code crashed",
    signal.SIGABRT: "native code gave up",
    signal.SIGBUS: "memory behind a mapping is gone: the machine's memory or shared memory is full",
}


def last_log_lines(path: str, count: int = LOG_LINES) -> list[str]:
    """The last lines that a process wrote, none when there is no file. After a native crash: the first
    lines of its traceback, which begins with the innermost call."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - _TAIL_BYTES))
            tail = file.read(_TAIL_BYTES)
    except OSError:
        return []
    lines = tail.decode("utf-8", "replace").splitlines()
    for at in range(len(lines) - 1, -1, -1):
        if lines[at].startswith("Fatal Python error"):
            return [line for line in lines[at : at + count + 1] if line]
    return lines[-count:]


def signal_name(number: int) -> str:
    """ "SIGKILL", or "signal 34"."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def story_of(pid: int, how: WorkerExit, ordered: str, log_path: str) -> str:
    """`ordered` is why we killed it, "" when we did not."""
    if ordered:
        return f"process {pid} was killed because {ordered}"
    if how.signal:
        sentence = f"process {pid} was killed by {signal_name(how.signal)}"
        hint = _HINTS.get(signal.Signals(how.signal)) if how.signal in _KNOWN else None
        if hint:
            sentence += f" ({hint})"
    elif how.code is not None:
        sentence = f"process {pid} exited with code {how.code}"
    else:
        sentence = f"process {pid} ended (how is not known: the process that could tell died too)"
    lines = last_log_lines(log_path)
    if lines:
        sentence += ". Its last output:\n" + "\n".join(f"  | {line}" for line in lines)
    return sentence


_KNOWN = frozenset(signal.Signals)


class DeathNotices:
    """Tells every client of deaths: one at once, those that follow within moments together.

    A thousand actors that are killed at once would otherwise be a million messages.
    """

    def __init__(
        self, loop: EventLoop, broadcast: Callable[[Any], None], clients: Callable[[], int]
    ) -> None:
        self._loop = loop
        self._broadcast = broadcast
        self._clients = clients  # how many there are
        self._untold: list[WorkerDied] = []
        self._told_s = 0.0

    def tell(self, died: WorkerDied) -> None:
        """A worker died."""
        gather_s = GATHER_S + GATHER_PER_CLIENT_S * self._clients()
        if not self._untold and monotonic_s() - self._told_s >= gather_s:
            self._told_s = monotonic_s()
            self._broadcast(died)
            return
        self._untold.append(died)
        if len(self._untold) == 1:
            self._loop.call_later(gather_s, self._tell_all)

    def _tell_all(self) -> None:
        deaths, self._untold = tuple(self._untold), []
        self._told_s = monotonic_s()
        self._broadcast(deaths[0] if len(deaths) == 1 else WorkersDied(deaths))
