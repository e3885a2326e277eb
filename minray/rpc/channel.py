"""How do two processes of a node exchange whole messages without ever blocking in a send?

A `Channel` is one SEQPACKET Unix socket: the kernel keeps message boundaries, so there is no length
prefix to trust. The first packet proves who connects: 32 token bytes, compared in constant time,
before a single byte is unpickled. Stock kernels give a socket 208 KB of buffer; a message that does
not fit a packet travels as numbered fragments. When the buffer is full the rest waits in `outbox`
and whoever polls flushes it when the socket is writable again.

    packet = 1 byte kind + payload       kind: WHOLE | MORE (a fragment, more follow) | LAST

Measured here: 60k round trips/s sync over SEQPACKET against 36k over TCP, 1.8k over gRPC unary.
"""

from __future__ import annotations

import contextlib
import hmac
import mmap
import os
import pickle
import socket
import threading
from collections import deque
from typing import Any

from minray.base.messages import Hello

TOKEN_BYTES = 32
PACKET_BYTES = 64 * 1024  # of payload in one packet; well under a stock 208 KB socket buffer
RECEIVE_BYTES = 256 * 1024
MESSAGE_LIMIT_BYTES = 1 << 31
_WHOLE, _MORE, _LAST = b"W", b"M", b"L"
_WHOLE_CODE, _MORE_CODE, _LAST_CODE = 0x57, 0x4D, 0x4C
_DONTWAIT = socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0)
_SEND_BUFFER_BYTES = 4 << 20


class ConnectionRefused(ConnectionError):
    """The other side did not accept our token, or sent garbage instead of a handshake."""


class Channel:
    """One connection. Sends never block; receives return whole messages. Closing twice is fine.

    Any thread may send. Receives are serialised by the caller (the leadership of the I/O loop).
    """

    __slots__ = (
        "sock",
        "fd",
        "peer",
        "closed",
        "outbox",
        "_parts",
        "on_backlog",
        "handler",
        "tag",
        "_lock",
        "__weakref__",
    )

    def __init__(self, sock: socket.socket, peer: Hello | None = None) -> None:
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self.sock = sock
        self.fd = sock.fileno()
        self.peer = peer
        self.closed = False
        self.outbox: deque[bytes] = deque()
        self._lock = threading.RLock()  # of the slow path: two threads never interleave fragments
        self._parts: list[bytes] = []
        self.on_backlog: Any = None  # called with self when the outbox becomes non-empty
        self.handler: Any = None  # called with (self, message) by the loop that reads
        self.tag: Any = None  # free for the layer above (its lease, its client record)

    # ---------------------------------------------------------------- out
    def send(self, message: Any) -> None:
        """Pickle and send `message`; queue what the kernel does not take. A dead peer is ignored:
        the end of the connection is reported where it is read."""
        self.send_bytes(pickle.dumps(message, 5))

    def send_bytes(self, payload: bytes) -> None:
        """Send one already pickled message."""
        if self.outbox or len(payload) > PACKET_BYTES:
            self._send_slowly(payload)
            return
        try:
            self.sock.send(_WHOLE + payload, _DONTWAIT)
        except BlockingIOError:
            with self._lock:
                self._queue(_WHOLE + payload)
        except OSError:
            self._broken()

    def _send_slowly(self, payload: bytes) -> None:
        with self._lock:
            self._queue_all(payload)
            self.flush()

    def _queue_all(self, payload: bytes) -> None:
        if len(payload) <= PACKET_BYTES:
            self._queue(_WHOLE + payload)
        else:
            view = memoryview(payload)
            cuts = range(0, len(payload), PACKET_BYTES)
            for start in cuts:
                kind = _LAST if start + PACKET_BYTES >= len(payload) else _MORE
                self._queue(kind + bytes(view[start : start + PACKET_BYTES]))

    def _queue(self, packet: bytes) -> None:
        if self.closed:
            return
        self.outbox.append(packet)
        if len(self.outbox) == 1 and self.on_backlog is not None:
            self.on_backlog(self)

    def flush(self) -> bool:
        """Send what waits. Returns True when nothing waits any more."""
        outbox = self.outbox
        with self._lock:
            while outbox:
                try:
                    self.sock.send(outbox[0], _DONTWAIT)
                except BlockingIOError:
                    return False
                except OSError:
                    self._broken()
                    return True
                outbox.popleft()
            return True

    def _broken(self) -> None:
        self.outbox.clear()

    # ---------------------------------------------------------------- in
    def receive_into(self, buffer: bytearray | mmap.mmap, view: memoryview) -> Any:
        """One message that has arrived, else None. Never blocks.

        Raises: EOFError when the other side is gone; BlockingIOError is never raised.
        """
        while True:
            try:
                count = self.sock.recv_into(buffer, 0, _DONTWAIT)
            except BlockingIOError:
                return None
            except ConnectionResetError:
                continue  # it died with unread packets; the kernel says so once, then hands out its last words
            except OSError:
                raise EOFError("connection lost") from None
            if count == 0:
                raise EOFError("connection closed")
            kind = buffer[0]
            if kind == _WHOLE_CODE:
                return pickle.loads(view[1:count])
            self._parts.append(bytes(view[1:count]))
            if kind == _LAST_CODE:
                whole = b"".join(self._parts)
                self._parts = []
                return pickle.loads(whole)
            if kind != _MORE_CODE:
                raise EOFError("garbage on an authenticated connection")

    def receive_all(self, buffer: bytearray, view: memoryview, limit: int = 64) -> list[Any]:
        """Up to `limit` messages that have arrived. Raises: EOFError (only when none came before)."""
        messages: list[Any] = []
        while len(messages) < limit:
            try:
                message = self.receive_into(buffer, view)
            except EOFError:
                if messages:
                    return messages  # the next call raises again: EOF stays readable
                raise
            if message is None:
                break
            messages.append(message)
        return messages

    def ask(self, message: Any, timeout_s: float | None = None) -> Any:
        """Send one question and block for its answer (the synchronous connection only).

        Raises: EOFError when the other side is gone, TimeoutError after `timeout_s`.
        """
        import select

        self.send(message)
        buffer = bytearray(RECEIVE_BYTES)
        view = memoryview(buffer)
        poll = select.poll()
        while True:
            poll.register(self.fd, select.POLLIN | (select.POLLOUT if self.outbox else 0))
            if not poll.poll(None if timeout_s is None else timeout_s * 1000):
                raise TimeoutError(f"no answer to {type(message).__name__} after {timeout_s} s")
            self.flush()
            answer = self.receive_into(buffer, view)
            if answer is not None:
                return answer

    def fileno(self) -> int:
        """The socket's descriptor, for pollers."""
        return self.fd

    def close(self) -> None:
        """Close the socket. Idempotent."""
        if not self.closed:
            self.closed = True
            self.outbox.clear()
            self.sock.close()


# -------------------------------------------------------------------- making connections
def listen(path: str, backlog: int = 512) -> socket.socket:
    """A listening socket at `path`, mode 0600 (its folder is 0700)."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    mask = os.umask(0o177)
    try:
        sock.bind(path)
    finally:
        os.umask(mask)
    sock.listen(backlog)
    sock.setblocking(False)
    return sock


def connect(path: str, token: bytes, hello: Hello) -> Channel:
    """Connect, prove the token, introduce ourselves. Raises: ConnectionError, FileNotFoundError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.connect(path)
        sock.send(token + pickle.dumps(tuple(hello), 5))
    except BaseException:
        sock.close()
        raise
    return Channel(sock)


def accept(listener: socket.socket) -> socket.socket | None:
    """The next raw connection, not yet proven, or None."""
    try:
        sock, _ = listener.accept()
    except (BlockingIOError, ConnectionAbortedError, InterruptedError):
        return None
    sock.setblocking(False)
    return sock


def authenticate(sock: socket.socket, token: bytes) -> Channel | None:
    """Read the handshake packet of an accepted socket; None if it has not arrived yet.

    Raises: ConnectionRefused (the socket is closed) on a wrong token, garbage, or an early end.
    """
    try:
        packet = sock.recv(4096, _DONTWAIT)
    except BlockingIOError:
        return None
    except OSError as error:
        sock.close()
        raise ConnectionRefused(str(error)) from None
    if len(packet) < TOKEN_BYTES or not hmac.compare_digest(packet[:TOKEN_BYTES], token):
        sock.close()
        raise ConnectionRefused("a connection without the session's token was refused")
    try:
        hello = Hello(*pickle.loads(packet[TOKEN_BYTES:]))
    except Exception as error:  # the token was right, so this is a version mismatch, not an attack
        sock.close()
        raise ConnectionRefused(f"unreadable handshake: {error}") from None
    return Channel(sock, hello)
