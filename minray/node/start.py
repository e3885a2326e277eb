"""How does a driver get a node? One exec, one pipe, and it is ready.

The driver is never forked (its threads and locks would come along): the node is a fresh interpreter
in a session of its own, so that a terminal's Ctrl-C, which goes to a whole session group, does not
reach it or its workers.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import time

import minray
from minray.base.config import SessionConfig
from minray.base.descriptors import raise_limit
from minray.node.session_dir import process_start_time, remove_session_dir, write_session

WORKER_ENTRY = "minray.engine.worker_process:run_worker"
_COMMAND = "import sys; sys.path.insert(0, sys.argv[1]); from minray.node.process import main; main(int(sys.argv[2]))"


class NodeHandle:
    """The driver's hold on the node process that it started."""

    def __init__(self, process: subprocess.Popen[bytes], pipe: socket.socket, session_dir: str) -> None:
        self._process = process
        self._pipe = pipe
        self.session_dir = session_dir

    @property
    def pid(self) -> int:
        """Of the node process."""
        return self._process.pid

    def wait_until_ready(self, timeout_s: float = 20.0) -> None:
        """Return when the node accepts connections. If it does not, nothing is left of it.

        Raises: RuntimeError when it ends instead, TimeoutError when it hangs; both with its last words.
        """
        try:
            complaint = self._complaint(timeout_s)
            if complaint is not None:
                raise complaint
        except BaseException:
            self.stop(0.0)
            raise

    def _complaint(self, timeout_s: float) -> Exception | None:
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        try:
            said = self._pipe.recv(1 << 16) if poll.poll(timeout_s * 1000) else None
        except ConnectionError:
            said = b""
        if said == b"ready":
            return None
        log = _tail(os.path.join(self.session_dir, "logs", "node.log"))
        if said is None:
            return TimeoutError(f"the node process {self.pid} was not ready after {timeout_s} s{log}")
        words = _quoted(said.decode("utf-8", "replace")) if said else log
        code = self._process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
        return RuntimeError(f"the node process {self.pid} {how} while it started{words}")

    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def stop(self, timeout_s: float = 2.0) -> None:
        """End the cluster: ask, then kill; no process and no folder is left. Idempotent."""
        try:
            self._pipe.send(b"stop", socket.MSG_NOSIGNAL)
        except OSError:  # it is gone already
            pass
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._pipe.close()
        # Normally gone: the node removes it, and if the node was killed, its zygote does.
        remove_session_dir(self.session_dir)


def start_node(
    config: SessionConfig, *, timeout_s: float = 20.0, worker_entry: str = WORKER_ENTRY
) -> NodeHandle:
    """Start a node process for `config` and wait until it accepts connections.

    Raises: RuntimeError when it ends instead, TimeoutError when it hangs; both with its last words.
    """
    handle = begin_node(config, worker_entry=worker_entry)
    handle.wait_until_ready(timeout_s)
    return handle


def begin_node(config: SessionConfig, *, worker_entry: str = WORKER_ENTRY) -> NodeHandle:
    """Start a node process and return at once: the caller has imports of its own to do meanwhile, and
    then calls `wait_until_ready`. Raises: OSError when no process can be started."""
    write_session(config)
    ours, its = socket.socketpair()
    root = os.path.dirname(os.path.dirname(os.path.abspath(minray.__file__)))
    log_path = os.path.join(config.log_dir, "node.log")
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        raise_limit()  # the node inherits it
        process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, root, str(its.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[its.fileno()],
            start_new_session=True,
        )
    except BaseException:
        ours.close()
        remove_session_dir(config.session_dir)
        raise
    finally:
        os.close(log)
        its.close()
    handle = NodeHandle(process, ours, config.session_dir)
    payload = pickle.dumps((config, worker_entry), 5)
    try:
        ours.sendall(len(payload).to_bytes(4, "little") + payload)
    except BrokenPipeError:
        pass  # it ended already: wait_until_ready says how
    except BaseException:
        handle.stop(0.0)
        raise
    return handle


def _tail(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return _quoted(file.read().decode("utf-8", "replace"))
    except OSError:
        return ""


def _quoted(text: str) -> str:
    lines = text.splitlines()[-15:]
    return "; its last output:\n" + "\n".join(f"  | {line}" for line in lines) if lines else ""


def wait_until_gone(pid: int, timeout_s: float) -> bool:
    """Whether the process ended (or is a zombie) in time. For shutdown checks and tests."""
    give_up_s = time.monotonic() + timeout_s
    while process_start_time(pid) is not None:
        if time.monotonic() > give_up_s:
            return False
        time.sleep(0.005)
    return True
