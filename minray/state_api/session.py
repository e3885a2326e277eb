"""Which session is asked, and how do all of its processes answer at once?

An observer needs the session's folder and its token, no more: the same code serves the driver, a task, and
a command in another terminal. It asks the node what there is, then every process for what only that one
knows, side by side and within one deadline. Who does not answer is named, and the rest still counts.
"""

from __future__ import annotations

import os
import pickle
import select
import time
from typing import Any

from minray.base.config import SessionConfig, read_environment
from minray.base.messages import Ask, Hello
from minray.engine import seam
from minray.node.session_dir import find_live_sessions, read_session
from minray.rpc.channel import RECEIVE_BYTES, Channel, connect
from minray.state_api.errors import ServerUnavailable

INSPECT, INSPECTED = 35, 36  # as in minray.worker.wire
_UNREACHABLE_STATES = ("starting", "doomed")
NO_SESSION = (
    "Could not find any running Ray instance. Please specify the one to connect to by setting the `--address` "
    "flag or `RAY_ADDRESS` environment variable. Nothing of yours runs on this machine: start a program that "
    "calls minray.init(), or say its session folder (init() returns it as `session_dir`)."
)


class Process:
    """A driver or worker of the session."""

    __slots__ = ("worker_id", "pid", "is_driver")

    def __init__(self, worker_id: bytes, pid: int, is_driver: bool) -> None:
        self.worker_id = worker_id
        self.pid = pid
        self.is_driver = is_driver

    def __repr__(self) -> str:
        return f"{'driver' if self.is_driver else 'worker'} {self.pid}"


class Session:
    """A running session, seen from outside. Connects for each question and keeps nothing open."""

    def __init__(self, config: SessionConfig) -> None:
        self.config = config

    @property
    def log_dir(self) -> str:
        """Where its processes' output lies."""
        return self.config.log_dir

    # ---------------------------------------------------------------- the node
    def ask(self, what: str, argument: Any = None, timeout_s: float = 30.0) -> Any:
        """A question to the node. Raises: ServerUnavailable."""
        try:
            channel = connect(self.config.node_socket, self.config.token, _hello())
        except OSError as error:
            raise ServerUnavailable(
                f"The session {self.config.session_dir} does not answer: {error}. Its program has ended."
            ) from None
        try:
            answer = channel.ask(Ask(what, argument), timeout_s)
        except EOFError:
            raise ServerUnavailable(f"The session {self.config.session_dir} is ending.") from None
        except OSError as error:
            raise ServerUnavailable(
                f"The node of {self.config.session_dir} did not answer within {timeout_s:g} s: {error}"
            ) from None
        finally:
            channel.close()
        if answer.error:
            raise ServerUnavailable(answer.error)
        return answer.value

    # ---------------------------------------------------------------- the processes
    def processes(self, state: dict[str, Any]) -> list[Process]:
        """Drivers and workers, by the node's answer to "state"."""
        drivers = [
            Process(bytes.fromhex(row["worker_id"]), row["pid"], True)
            for row in state["jobs"]
            if row["ended_s"] is None
        ]
        workers = [
            Process(bytes.fromhex(row["worker_id"]), row["pid"], False)
            for row in state["workers"]
            if row["state"] not in _UNREACHABLE_STATES
        ]
        return drivers + workers

    def inspect(
        self, processes: list[Process], what: str, argument: Any, timeout_s: float
    ) -> tuple[dict[Process, Any], list[str]]:
        """(answers by process, a sentence for each that gave none)."""
        answers: dict[Process, Any] = {}
        silent: list[str] = []
        engine = seam.current_or_none()
        own = engine.process_id() if engine is not None else b""
        waiting: dict[int, tuple[Process, Channel]] = {}
        poll = select.poll()
        deadline = time.monotonic() + timeout_s
        for process in processes:
            if process.worker_id == own and engine is not None:
                answers[process] = engine.inspect(what, argument)
                continue
            try:
                channel = connect(self.config.peer_socket(process.worker_id), self.config.token, _hello())
            except OSError:
                continue  # it has just ended: it is no part of the session any more
            channel.send((INSPECT, process.pid, what, argument))
            waiting[channel.fd] = process, channel
            poll.register(channel.fd, select.POLLIN)
        buffer = bytearray(RECEIVE_BYTES)
        view = memoryview(buffer)
        try:
            while waiting and (left := deadline - time.monotonic()) > 0:
                for fd, _ in poll.poll(left * 1000):
                    process, channel = waiting[fd]
                    try:
                        message = channel.receive_into(buffer, view)
                    except (EOFError, pickle.UnpicklingError):
                        message = (INSPECTED, 0, None, "it ended meanwhile")
                    if message is None:
                        continue
                    if message[3]:
                        silent.append(f"{process}: {message[3]}")
                    else:
                        answers[process] = message[2]
                    poll.unregister(fd)
                    del waiting[fd]
                    channel.close()
        finally:
            for _, channel in waiting.values():
                channel.close()
        silent += [
            f"{process} did not answer within {timeout_s:g} s (native code holds its interpreter's lock, or it is "
            "stopped)"
            for process, _ in waiting.values()
        ]
        return answers, silent


def _hello() -> Hello:
    return Hello("observer", os.urandom(16), os.getpid(), "")


def _answering(path: str) -> Session | None:
    """The session, unless it is just ending."""
    try:
        session = Session(read_session(path))
        session.ask("cluster_resources", timeout_s=5.0)
    except (OSError, ServerUnavailable):
        return None
    return session


def find_session(address: str | None = None) -> Session:
    """The session at `address`: a session folder; None: this process's own, else MINRAY_ADDRESS, else the
    newest of this user; "auto": the newest. Raises: ConnectionError."""
    engine = seam.current_or_none()
    if address is None and engine is not None:
        return Session(engine.session())
    environment = read_environment()
    address = address or environment.address or "auto"
    if address in ("auto", "local"):
        if engine is not None:
            return Session(engine.session())
        for found in find_live_sessions(environment.temp_dir):
            session = _answering(found.path)
            if session is not None:
                return session
        raise ConnectionError(NO_SESSION)
    try:
        return Session(read_session(address))
    except OSError as error:
        raise ConnectionError(
            f"{address!r} is no running session ({error}). Leave the address out to ask the newest one of yours."
        ) from None
