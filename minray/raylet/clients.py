"""Who is connected, and is it who it says it is?

    accepted ──token in time──► authenticated ──► a client's channel, or its channel for questions
        └─ wrong token, garbage, or nothing within 5 s: closed

A client has one asynchronous connection (role "driver" or "worker") and may have a second one for
synchronous questions ("driver-ask", "worker-ask") with the same worker id.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from socket import socket
from typing import Any, Protocol

from minray.base.messages import Answer, Ask, Hello
from minray.raylet.event_loop import READ, WRITE, EventLoop, Timer
from minray.rpc.channel import RECEIVE_BYTES, Channel, ConnectionRefused, accept, authenticate

HANDSHAKE_S = 5.0
HALF_OPEN_MAX = 256
ROLES = ("driver", "worker")
ASK_ROLES = ("driver-ask", "worker-ask")
OBSERVER = "observer"  # asks questions that change nothing, and is no client


class Client:
    """A connected driver or worker."""

    __slots__ = ("worker_id", "role", "pid", "address", "channel", "asking", "pidfd")

    def __init__(self, hello: Hello, channel: Channel) -> None:
        self.worker_id = hello.worker_id
        self.role = hello.role
        self.pid = hello.pid
        self.address = hello.address
        self.channel = channel
        self.asking: set[Channel] = set()
        self.pidfd = -1  # drivers: their processes are not our children's children

    @property
    def who(self) -> str:
        """For sentences."""
        return f"{self.role} {self.pid}"


class ClientListener(Protocol):
    """What the shell does with connections."""

    def joined(self, hello: Hello, channel: Channel) -> Client | None:
        """A proven client introduces itself. None: it is not wanted, close."""

    def heard(self, client: Client, message: Any) -> None:
        """A message arrived."""

    def asked(self, client: Client, ask: Ask) -> Any:
        """A question arrived; the value goes into the Answer, an exception into its error."""

    def disconnected(self, client: Client) -> None:
        """Its asynchronous connection ended."""


class Connections:
    """Accepts, authenticates, reads and flushes."""

    def __init__(self, loop: EventLoop, listener: socket, token: bytes, shell: ClientListener) -> None:
        self._loop = loop
        self._listener = listener
        self._token = token
        self._shell = shell
        self._half_open: dict[int, tuple[socket, Timer]] = {}
        self._buffer = bytearray(RECEIVE_BYTES)
        self._view = memoryview(self._buffer)
        self.clients: dict[bytes, Client] = {}
        loop.watch(listener.fileno(), self._accept)

    # -------------------------------------------------------------------------- new connections
    def _accept(self, _events: int) -> None:
        while (sock := accept(self._listener)) is not None:
            if len(self._half_open) >= HALF_OPEN_MAX:
                sock.close()
                continue
            fd = sock.fileno()
            timer = self._loop.call_later(HANDSHAKE_S, lambda fd=fd: self._drop_half_open(fd))  # type: ignore[misc]
            self._half_open[fd] = (sock, timer)
            self._loop.watch(fd, lambda _, fd=fd: self._prove(fd))  # type: ignore[misc]
            self._prove(fd)  # the handshake is usually there already

    def _drop_half_open(self, fd: int) -> None:
        sock, timer = self._half_open.pop(fd)
        timer.cancel()
        self._loop.unwatch(fd)
        sock.close()

    def _prove(self, fd: int) -> None:
        if fd not in self._half_open:
            return
        sock, timer = self._half_open[fd]
        try:
            channel = authenticate(sock, self._token)
        except ConnectionRefused as refusal:
            print(f"refused: {refusal}", file=sys.stderr)
            self._drop_half_open(fd)
            return
        if channel is None:
            return
        timer.cancel()
        del self._half_open[fd]
        self._loop.unwatch(fd)
        if not self._introduce(channel):
            channel.close()

    def _introduce(self, channel: Channel) -> bool:
        hello = channel.peer
        assert hello is not None
        if hello.role in ASK_ROLES:
            known = self.clients.get(hello.worker_id)
            if known is None:
                return False
            asker: Client = known
            asker.asking.add(channel)
            self._watch(channel, lambda _: self._read_questions(asker, channel))
            return True
        if hello.role == OBSERVER:
            observer = Client(hello, channel)
            self._watch(channel, lambda _: self._read_questions(observer, channel))
            return True
        if hello.role not in ROLES:
            return False
        client = self._shell.joined(hello, channel)
        if client is None:
            return False
        self._watch(channel, lambda events: self._read(client, channel, events))
        return True

    def _watch(self, channel: Channel, callback: Callable[[int], None]) -> None:
        channel.on_backlog = lambda channel: self._loop.change(channel.fd, READ | WRITE)
        self._loop.watch(channel.fd, callback, READ | WRITE if channel.outbox else READ)

    # ------------------------------------------------------------------------------ established
    def _read(self, client: Client, channel: Channel, events: int) -> None:
        if events & WRITE and channel.flush():
            self._loop.change(channel.fd, READ)
        if events != WRITE:
            self._hear(client, channel)

    def _hear(self, client: Client, channel: Channel) -> bool:
        """Apply a batch of what has arrived; whether there was any."""
        messages = self._receive(channel)
        if messages is None:
            self._close(channel)
            if client.channel is channel:
                self._shell.disconnected(client)
            return False
        for message in messages:
            try:
                self._shell.heard(client, message)
            except Exception:  # one odd message must not lose those behind it
                traceback.print_exc()
        return bool(messages)

    def _read_questions(self, client: Client, channel: Channel) -> None:
        channel.flush()
        if not channel.outbox:
            self._loop.change(channel.fd, READ)
        messages = self._receive(channel)
        if messages is None:
            client.asking.discard(channel)
            self._close(channel)
            return
        # Two connections, one order: what the client told before it asked is applied before the answer.
        told = client.channel
        while told is not channel and not told.closed and self._hear(client, told):
            pass
        for ask in messages:
            try:
                answer = Answer(self._shell.asked(client, ask), "")
            except Exception as error:
                traceback.print_exc()
                answer = Answer(None, f"{type(error).__name__}: {error}")
            channel.send(answer)

    def _receive(self, channel: Channel) -> list[Any] | None:
        try:
            return channel.receive_all(self._buffer, self._view)
        except EOFError:
            return None
        except Exception:  # what cannot be unpickled: the peer is broken, its messages are lost
            traceback.print_exc()
            return None

    def _close(self, channel: Channel) -> None:
        if channel.closed:
            return  # its number may belong to another connection by now, which must stay watched
        self._loop.unwatch(channel.fd)
        channel.close()

    def forget(self, client: Client) -> None:
        """Close all of its connections."""
        self._close(client.channel)
        for channel in client.asking:
            self._close(channel)
        client.asking.clear()
        if self.clients.get(client.worker_id) is client:
            del self.clients[client.worker_id]
