"""How does a worker's output reach the cell that waits for it?

File descriptors 1 and 2 of a worker are its log file, so prints, C libraries and subprocesses all end
there. Before each reply the worker looks whether the file has grown and sends the new lines ahead of
the reply on the same connection: they are on screen before `get` returns. A worker that owns the task
passes on what its own workers printed in the same way. Output of idle moments (threads, constructors)
goes through the node.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from minray.base.messages import LogLines
from minray.worker.peer import Peer
from minray.worker.task_context import TaskContext, current_task
from minray.worker.wire import OUTPUT

SHIP_BYTES_MAX = 256 * 1024


class WorkerOutput:
    """Ships what this process writes to its log file."""

    def __init__(self, tell_node: Callable[[Any], None], enabled: bool) -> None:
        self._tell_node = tell_node
        self._enabled = enabled
        self._fd = -1
        self._shipped = 0
        self._lock = threading.Lock()
        self.label = "worker"
        if enabled:
            with contextlib.suppress(OSError):
                self._fd = os.open("/proc/self/fd/1", os.O_RDONLY | os.O_CLOEXEC)
                self._shipped = os.fstat(self._fd).st_size

    def grown(self) -> bool:
        """Whether there is something that nobody was sent."""
        return self._fd >= 0 and os.fstat(1).st_size > self._shipped

    def flush(self) -> None:
        """Push Python's own buffers into the file."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()

    def ship(self, peer: Peer | None, running: TaskContext | None = None) -> None:
        """Send new output to `peer` (whose task printed it), or through the node when None.

        `running`: the task that still runs on another thread; of its output only whole lines leave.
        """
        if self._fd < 0:
            return
        task = running if running is not None else current_task()
        label = task.label if task is not None else self.label
        if os.fstat(1).st_size <= self._shipped:
            return
        with self._lock:  # forwarded inside it: the pump and the main thread must not change places
            while os.fstat(1).st_size > self._shipped:
                data = os.pread(self._fd, SHIP_BYTES_MAX, self._shipped)
                if running is not None or len(data) == SHIP_BYTES_MAX:
                    data = data[: data.rfind(b"\n") + 1] or (data if len(data) == SHIP_BYTES_MAX else b"")
                if not data:
                    return
                lines = tuple(data.decode("utf-8", "replace").split("\n"))
                self.forward(LogLines(label, os.getpid(), False, lines if lines[-1] else lines[:-1]), peer)
                # Only now: who finds nothing left to ship, without the lock, may send the reply at once.
                self._shipped += len(data)

    def forward(self, message: LogLines, peer: Peer | None) -> None:
        """Pass lines on towards the driver."""
        if peer is not None and not peer.gone:
            peer.channel.send((OUTPUT, message))
        else:
            self._tell_node(message)

    def watch_idle(self, busy: Callable[[], bool]) -> None:
        """Start the thread that ships what is printed outside tasks (only once something printed)."""
        self._idle_busy = busy
        sys.stdout = _Noticing(sys.stdout, self._noticed)
        sys.stderr = _Noticing(sys.stderr, self._noticed)
        self._event = threading.Event()
        self._thread: threading.Thread | None = None

    def _noticed(self) -> None:
        if self._idle_busy():
            return  # the running task's reply takes it along
        if self._thread is None:
            self._thread = threading.Thread(target=self._ship_idle, daemon=True, name="minray-output")
            self._thread.start()
        self._event.set()

    def _ship_idle(self) -> None:
        while True:
            self._event.wait()
            time.sleep(0.02)  # let the lines of one burst travel together
            self._event.clear()
            self.flush()
            if self.grown():
                self.ship(None)


class _Noticing:
    """A text stream that tells when somebody writes to it."""

    def __init__(self, stream: Any, noticed: Callable[[], None]) -> None:
        self._stream = stream
        self._told = noticed

    def write(self, text: str) -> int:
        """Write, then tell."""
        count = self._stream.write(text)
        self._told()
        return int(count)

    def writelines(self, lines: Any) -> None:
        """Write several, then tell."""
        self._stream.writelines(lines)
        self._told()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Any:
        return iter(self._stream)
