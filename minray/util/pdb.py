"""How does one debug a task that runs in another process? `breakpoint()` in it waits for a debugger.

    task:      breakpoint()      ──► listens on a socket of the session folder, says so in the driver's output
    you:       minray debug      ──► connects: pdb's prompt, in a terminal; `connect()` does it in a notebook

The socket has mode 0600 in a folder of mode 0700. As `ray.util.pdb` (Ray listens on TCP). The task keeps
its CPU while it waits. `continue` and the end of the connection let it run on, `quit` ends it with
`bdb.BdbQuit`. In the driver `set_trace` is the standard library's.
"""

from __future__ import annotations

import contextlib
import json
import os
import pdb  # noqa: T100 (this is the debugger)
import secrets
import socket
import sys
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

from minray.engine.seam import slot

KEY = b"breakpoint:"
_PROMPT = "(Pdb) "


class _RemotePdb(pdb.Pdb):
    """pdb over one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._stream = connection.makefile(
            "rw", encoding="utf-8", errors="replace", newline="\n", buffering=1
        )
        self._connection = connection
        super().__init__(stdin=self._stream, stdout=self._stream, nosigint=True)
        self.prompt = _PROMPT
        self.use_rawinput = False

    def do_continue(self, arg: str) -> bool | None:
        """Run on; the connection stays only while breakpoints are set."""
        if not self.get_all_breaks():
            self._close()
        return super().do_continue(arg)

    do_c = do_cont = do_continue

    def do_quit(self, arg: str) -> bool | None:
        """End the task."""
        self._close()
        return super().do_quit(arg)

    do_q = do_exit = do_quit

    def do_EOF(self, arg: str) -> bool | None:  # noqa: N802 (the name that cmd looks for)
        """The debugger went away: run on."""
        self.clear_all_breaks()
        return self.do_continue(arg)

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()
            self._connection.shutdown(socket.SHUT_RDWR)
            self._connection.close()
        self.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (pdb may still print)


def set_trace(frame: FrameType | None = None) -> None:
    """Wait for a debugger at the caller's line. `breakpoint()` in a task comes here."""
    frame = frame or sys._getframe(1)
    if _in_driver():
        pdb.Pdb().set_trace(frame)
        return
    with _announced(frame, "") as connection:
        debugger = _RemotePdb(connection)
    debugger.set_trace(frame)


def post_mortem(trace: TracebackType | None = None) -> None:
    """Wait for a debugger where the exception that is being handled was raised.

    Raises: ValueError outside an `except` block, unless a traceback is given.
    """
    error = sys.exc_info()[1]
    trace = trace or (error.__traceback__ if error is not None else None)
    if trace is None:
        raise ValueError("A valid traceback must be passed if no exception is being handled")
    if _in_driver():
        pdb.post_mortem(trace)
        return
    last = trace
    while last.tb_next is not None:
        last = last.tb_next
    with _announced(last.tb_frame, f"{type(error).__name__}: {error}") as connection:
        debugger = _RemotePdb(connection)
    debugger.reset()
    debugger.interaction(None, trace)


def _in_driver() -> bool:
    engine = slot.engine
    return engine is None or not engine.running().task_id


@contextlib.contextmanager
def _announced(frame: FrameType, error: str) -> Iterator[socket.socket]:
    """Listen, tell everybody, and wait for one connection."""
    engine = slot.engine
    running = engine.running()
    name = secrets.token_hex(4)
    path = os.path.join(engine.core.config.session_dir, f"debug-{name}.sock")
    where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        mask = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(mask)
        listener.listen(1)
        row = {
            "id": name,
            "task": running.task_name,
            "pid": os.getpid(),
            "where": where,
            "error": error,
            "socket": path,
        }
        engine.ask("kv_put", (KEY + name.encode(), json.dumps(row).encode(), True))
        why = f" after {error}" if error else ""
        sys.stderr.write(
            f"{running.task_name} (pid {os.getpid()}) waits for a debugger at {where}{why}. Attach with `minray debug` "
            "in a terminal, or minray.util.pdb.connect() in a notebook.\n"
        )
        sys.stderr.flush()
        try:
            connection, _ = listener.accept()
        finally:
            engine.ask("kv_del", KEY + name.encode())
            os.unlink(path)
    yield connection


def breakpoints() -> list[dict[str, Any]]:
    """What waits for a debugger: rows with id, task, pid, where ("file:line"), error."""
    engine = slot.engine
    if engine is None:
        raise RuntimeError("minray is not initialized: nothing waits for a debugger here.")
    found = [engine.ask("kv_get", key) for key in sorted(engine.ask("kv_keys", KEY))]
    return [json.loads(blob) for blob in found if blob is not None]


def connect(
    breakpoint_id: str = "",
    read_line: Callable[[str], str] = input,
    write: Callable[[str], Any] = sys.stdout.write,
) -> None:
    """Debug what waits: the only one, or the one with that id. Returns when it runs on.

    Raises: ValueError when none waits, or several do and none was named.
    """
    waiting = breakpoints()
    chosen = [row for row in waiting if row["id"].startswith(breakpoint_id)]
    if len(chosen) != 1:
        shown = "\n".join(
            f"  {row['id']}  {row['task']} (pid {row['pid']}) at {row['where']}" for row in waiting
        )
        raise ValueError(
            f"Name one of the breakpoints:\n{shown}" if waiting else "Nothing waits for a debugger."
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(chosen[0]["socket"])
        _converse(connection, read_line, write)


def _converse(
    connection: socket.socket, read_line: Callable[[str], str], write: Callable[[str], Any]
) -> None:
    said = b""
    while True:
        try:
            part = connection.recv(4096)
        except ConnectionResetError:
            part = b""
        if not part:
            write(said.decode(errors="replace"))
            return
        said += part
        if said.endswith(_PROMPT.encode()):
            write(said[: -len(_PROMPT)].decode(errors="replace"))
            said = b""
            try:
                line = read_line(_PROMPT)
            except EOFError:
                return
            try:
                connection.sendall(line.encode() + b"\n")
            except OSError:
                return
