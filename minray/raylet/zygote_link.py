"""How does the node order workers, and learn how they ended?

The node's side of `minray.raylet.zygote`. A zygote that dies is replaced; its workers live on as
orphans, so from then on their deaths are seen through pidfds, without exit codes.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable

from minray.raylet.event_loop import READ, WRITE, EventLoop
from minray.rpc.channel import RECEIVE_BYTES, Channel


class WorkerExit:
    """How a process ended; both None when nobody could tell."""

    __slots__ = ("code", "signal")

    def __init__(self, status: int | None) -> None:
        self.code: int | None = None
        self.signal = 0
        if status is not None:
            if os.WIFSIGNALED(status):
                self.signal = os.WTERMSIG(status)
            else:
                self.code = os.WEXITSTATUS(status)


class ZygoteLink:
    """Forks, watches and replaces the zygote."""

    def __init__(
        self,
        loop: EventLoop,
        fork_zygote: Callable[[], tuple[socket.socket, int]],
        on_exit: Callable[[bytes, int, WorkerExit, str, bool], None],
    ) -> None:
        self._loop = loop
        self._fork_zygote = fork_zygote
        # (worker id, pid, how, why it never started or "", whether that was said of another already)
        self._on_exit = on_exit
        self._ordered: set[bytes] = set()
        self._preloaded: dict[str, None] = {}
        self._worker_of: dict[int, bytes] = {}  # forked and alive, by pid
        self.pid_of: dict[bytes, int] = {}
        self._pidfds: dict[bytes, int] = {}  # orphans of an earlier zygote
        self._buffer = bytearray(RECEIVE_BYTES)
        self._view = memoryview(self._buffer)
        self.channel: Channel
        self.zygote_pid = 0

    def adopt(self, sock: socket.socket, pid: int) -> None:
        """Use this zygote from now on."""
        self.channel = Channel(sock)
        self.zygote_pid = pid
        self.channel.on_backlog = lambda channel: self._loop.change(channel.fd, READ | WRITE)
        self._loop.watch(self.channel.fd, self._on_ready)
        if self._preloaded:  # an earlier zygote knew them
            self.channel.send(("preload", tuple(self._preloaded)))

    def preload(self, modules: tuple[str, ...]) -> None:
        """Have workers that are forked from now on share these modules."""
        new = tuple(name for name in modules if name not in self._preloaded)
        if new:
            self._preloaded.update(dict.fromkeys(new))
            self.channel.send(("preload", new))

    def start(self, worker_ids: tuple[bytes, ...]) -> None:
        """Order workers with these ids."""
        self._ordered.update(worker_ids)
        self.channel.send(("fork", worker_ids))

    def connected(self, worker_id: bytes, pid: int) -> None:
        """The worker runs: by its own word or the zygote's, whichever comes first. A zygote that is
        killed right after a fork never says so."""
        if worker_id in self._ordered:
            self._ordered.remove(worker_id)
            self._worker_of[pid] = worker_id
            self.pid_of[worker_id] = pid

    def kill(self, worker_id: bytes) -> None:
        """SIGKILL, if it has been forked and not been reaped."""
        pid = self.pid_of.get(worker_id)
        if pid is not None:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def _on_ready(self, events: int) -> None:
        if events & WRITE and self.channel.flush():
            self._loop.change(self.channel.fd, READ)
        try:
            messages = self.channel.receive_all(self._buffer, self._view, 256)
        except EOFError:
            self._zygote_died()
            return
        for kind, subject, detail in messages:
            if kind == "forked":
                self.connected(subject, detail)
            elif kind == "exited":
                worker_id = self._worker_of.get(subject)
                if worker_id is not None:
                    self._gone(worker_id, WorkerExit(detail), "")
            else:
                self._ordered.discard(subject)
                self._on_exit(subject, 0, WorkerExit(None), detail, False)

    def _gone(self, worker_id: bytes, how: WorkerExit, why: str) -> None:
        pid = self.pid_of.pop(worker_id)
        del self._worker_of[pid]
        self._on_exit(worker_id, pid, how, why, False)

    def _zygote_died(self) -> None:
        self._loop.unwatch(self.channel.fd)
        self.channel.close()
        try:
            os.kill(self.zygote_pid, signal.SIGKILL)
            os.waitpid(self.zygote_pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        self.adopt(*self._fork_zygote())
        for worker_id in list(self._worker_of.values()):
            if worker_id not in self._pidfds:
                self._watch_orphan(worker_id)
        lost, self._ordered = self._ordered, set()
        for said_before, worker_id in enumerate(lost):  # one death, however many were ordered
            why = "the zygote died before it was forked"
            self._on_exit(worker_id, 0, WorkerExit(None), why, bool(said_before))

    def _watch_orphan(self, worker_id: bytes) -> None:
        try:
            pidfd = os.pidfd_open(self.pid_of[worker_id])
        except ProcessLookupError:
            self._gone(worker_id, WorkerExit(None), "")
            return
        self._pidfds[worker_id] = pidfd
        self._loop.watch(pidfd, lambda _: self._orphan_gone(worker_id))

    def _orphan_gone(self, worker_id: bytes) -> None:
        pidfd = self._pidfds.pop(worker_id)
        self._loop.unwatch(pidfd)
        os.close(pidfd)
        self._gone(worker_id, WorkerExit(None), "")

    def end(self, patience_s: float) -> None:
        """Kill all workers, let the zygote reap them and go. For the node's last moments."""
        for worker_id in list(self.pid_of):
            self.kill(worker_id)
        self.channel.send(("end", (), ()))
        import time

        give_up_s = time.monotonic() + patience_s
        try:
            while os.waitpid(self.zygote_pid, os.WNOHANG)[0] == 0:
                if time.monotonic() > give_up_s:
                    os.kill(self.zygote_pid, signal.SIGKILL)
                    os.waitpid(self.zygote_pid, 0)
                    return
                self.channel.flush()
                time.sleep(0.002)
        except (ProcessLookupError, ChildProcessError):
            pass
