"""How does a worker start in milliseconds? It is forked from a process that has imported everything.

The zygote is forked from the node before that has threads, imports what workers need, freezes the
heap (so that garbage collection does not copy shared pages) and then forks on request. It reaps its
children and reports how they ended. It is idle in poll otherwise.

    node ──fork [ids]──► zygote ──fork──► worker        zygote ──forked id pid, exited pid status──► node

The end of the node is seen three ways: the kernel kills every worker through the life pipe, whose
only write end the node holds; the zygote reads EOF, kills its children, and removes the session
folder, because nobody else is left to do it.
"""

from __future__ import annotations

import errno
import faulthandler
import fcntl
import gc
import importlib
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from minray.base.boot import WorkerBoot
from minray.base.config import SessionConfig
from minray.base.cpu_threads import cpu_threads
from minray.rpc.channel import RECEIVE_BYTES, Channel

_F_SETSIG = getattr(fcntl, "F_SETSIG", 10)
END_PATIENCE_S = 1.0


def worker_log_path(config: SessionConfig, worker_id: bytes) -> str:
    """Where the worker's output goes."""
    return os.path.join(config.log_dir, f"worker-{worker_id.hex()[:16]}.log")


def set_process_name(name: str) -> None:
    """What ps and top show (15 characters)."""
    try:
        with open("/proc/self/comm", "w") as file:
            file.write(name)
    except OSError:  # cosmetic, and absent outside Linux
        pass


class Zygote:
    """The process that forks workers."""

    def __init__(
        self, link: Channel, config: SessionConfig, entry: str, arena_fd: int, life_fd: int,
        remove_session: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.link = link
        self.config = config
        self.entry = entry
        self.arena_fd = arena_fd
        self.life_fd = life_fd
        self.remove_session = remove_session
        self.children: set[int] = set()
        self.wake_read, self.wake_write = -1, -1

    def run(self) -> NoReturn:
        """Serve until the node ends."""
        set_process_name("minray-zygote")
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # A handler that does nothing, for the byte that it writes into the pipe: reaping happens in
        # the loop, never between two lines of a fork.
        self.wake_read, self.wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._preload()
        gc.collect()
        gc.freeze()
        try:
            self._serve()
        except EOFError:
            pass
        except BaseException:
            traceback.print_exc()
        self._end()

    def _preload(self) -> None:
        config = self.config
        if config.working_dir:
            try:
                os.chdir(config.working_dir)
            except OSError as error:
                print(f"the working folder {config.working_dir} is gone: {error}", file=sys.stderr)
        if config.sys_path:
            sys.path[:] = config.sys_path
        sys.argv = [config.main_path]  # not ours: libraries look for options there
        cpu_threads.begin()
        os.environ.setdefault("PYTHONBREAKPOINT", "minray.util.pdb.set_trace")  # a worker has no terminal
        self._import(("cloudpickle", *config.preload, self.entry.partition(":")[0]))

    def _import(self, names: tuple[str, ...]) -> None:
        for name in names:
            try:
                importlib.import_module(name)
            except Exception:
                # Each worker that needs it will fail on its own and say so in its own log.
                print(f"preloading {name} failed:", file=sys.stderr)
                traceback.print_exc()
        sys.stderr.flush()

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self.wake_read, select.POLLIN)
        buffer = bytearray(RECEIVE_BYTES)
        view = memoryview(buffer)
        while True:
            poll.register(self.link.fd, select.POLLIN | (select.POLLOUT if self.link.outbox else 0))
            for fd, _ in poll.poll():
                if fd == self.wake_read:
                    self._reap()
            self.link.flush()
            message = self.link.receive_into(buffer, view)
            if message is not None:
                if message[0] == "end":
                    return
                if message[0] == "preload":
                    self._import(message[1])
                    gc.collect()
                    gc.freeze()
                    continue
                for worker_id in message[1]:
                    self._fork(worker_id)

    def _reap(self) -> None:
        try:
            os.read(self.wake_read, 4096)
        except BlockingIOError:
            pass
        while self.children:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.children.discard(pid)
            self.link.send(("exited", pid, status))

    def _fork(self, worker_id: bytes) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            pid = os.fork()
        except OSError as error:
            what = "the machine allows no more processes or memory" if error.errno in _FULL else "fork failed"
            self.link.send(("failed", worker_id, f"{what}: {error}"))
            return
        if pid == 0:
            self._become_worker(worker_id)
        self.children.add(pid)
        self.link.send(("forked", worker_id, pid))

    def _become_worker(self, worker_id: bytes) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for fd in (self.wake_read, self.wake_write):
                os.close(fd)
            self.link.close()
            self.children.clear()
            die_with_node(self.life_fd)
            set_process_name("minray-worker")
            log_path = worker_log_path(self.config, worker_id)
            redirect_output(log_path)
            faulthandler.enable(all_threads=False)  # a native crash leaves the Python line in the log
            reseed_generators()
            module, _, function = self.entry.partition(":")
            run_worker: Callable[[WorkerBoot], Any] = getattr(importlib.import_module(module), function)
            run_worker(WorkerBoot(self.config, worker_id, self.arena_fd, log_path))
            code = 0
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code & 0xFF)

    def _end(self) -> NoReturn:
        """The node is gone, or asks for the end: nobody survives, nothing is left."""
        signal.set_wakeup_fd(-1)
        for pid in self.children:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        give_up_s = time.monotonic() + END_PATIENCE_S
        while self.children and time.monotonic() < give_up_s:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid:
                self.children.discard(pid)
            else:
                time.sleep(0.002)
        self.remove_session(self.config.session_dir)
        os._exit(0)


_FULL = (errno.EAGAIN, errno.ENOMEM)


def die_with_node(life_fd: int) -> None:
    """Have the kernel SIGKILL this process when the last write end of the pipe closes.

    Opened anew, because signal-driven I/O belongs to an open file, and ours is shared by all forks.
    """
    fd = os.open(f"/proc/self/fd/{life_fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(fd, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    os.close(life_fd)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if poll.poll(0):  # it closed before we listened
        os._exit(1)


def redirect_output(log_path: str) -> None:
    """stdin empty; stdout and stderr into the worker's file, line by line, for subprocesses too."""
    null = os.open(os.devnull, os.O_RDWR)
    try:
        log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError:  # disk full or folder gone: run without a log rather than not at all
        log = null
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    for fd in {null, log}:
        if fd > 2:
            os.close(fd)
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", errors="replace", closefd=False)  # type: ignore[misc]
    for name, fd in (("stdout", 1), ("stderr", 2)):
        errors = "backslashreplace" if name == "stderr" else "replace"
        stream = open(fd, "w", buffering=1, encoding="utf-8", errors=errors, closefd=False)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def reseed_generators() -> None:
    """All forks would draw the same numbers. CPython reseeds `random` after a fork, numpy does not."""
    generators = sys.modules.get("numpy.random")
    if generators is not None:
        generators.seed()
