"""Who gets in, and who is shown the door? Real sockets, a pretend shell, no processes."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from minray.base.messages import Answer, Ask, Hello, WorkerBlocked
from minray.raylet import clients as module
from minray.raylet.clients import Client, Connections
from minray.raylet.event_loop import EventLoop
from minray.rpc import channel as rpc

TOKEN = b"t" * 32
HELLO = Hello("driver", b"d" * 16, os.getpid(), "")


class Shell:
    """Remembers everything."""

    def __init__(self, loop: EventLoop) -> None:
        self.loop = loop
        self.connections: Connections
        self.heard_messages: list[Any] = []
        self.gone: list[bytes] = []

    def joined(self, hello: Hello, channel: rpc.Channel) -> Client | None:
        if hello.role == "worker":
            return None
        client = self.connections.clients[hello.worker_id] = Client(hello, channel)
        self.loop.stop()
        return client

    def heard(self, client: Client, message: Any) -> None:
        self.heard_messages.append(message)
        self.loop.stop()
        if message == "odd":
            raise ValueError("odd")

    def asked(self, client: Client, ask: Ask) -> Any:
        self.loop.stop()
        return 10 // ask.argument

    def disconnected(self, client: Client) -> None:
        self.gone.append(client.worker_id)
        self.loop.stop()


class Door:
    """A listening node side and what connects to it."""

    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, "n.sock")
        self.loop = EventLoop()
        self.listener = rpc.listen(self.path)
        self.shell = Shell(self.loop)
        self.connections = self.shell.connections = Connections(self.loop, self.listener, TOKEN, self.shell)
        self.opened: list[Any] = [self.listener]

    def connect(self, hello: Hello = HELLO, token: bytes = TOKEN) -> rpc.Channel:
        channel = rpc.connect(self.path, token, hello)
        self.opened.append(channel)
        return channel

    def serve(self, limit_s: float = 5.0) -> None:
        """Until the shell saw something (or the limit, a safety net)."""
        self.loop.running = True
        timer = self.loop.call_later(limit_s, self.loop.stop)
        self.loop.run(lambda now_s: None)
        timer.cancel()


@pytest.fixture
def door() -> Iterator[Door]:
    with tempfile.TemporaryDirectory(prefix="mr", dir="/tmp") as folder:
        door = Door(folder)
        yield door
        for client in list(door.connections.clients.values()):
            door.connections.forget(client)
        for opened in door.opened:
            opened.close()
        door.loop.close()


def is_closed(channel: rpc.Channel) -> bool:
    channel.sock.settimeout(5.0)
    return channel.sock.recv(100) == b""


def test_a_client_is_heard_asked_and_missed(door: Door) -> None:
    channel = door.connect()
    door.serve()
    channel.send(WorkerBlocked())
    door.serve()
    assert door.shell.heard_messages == [WorkerBlocked()]
    asking = door.connect(HELLO._replace(role="driver-ask"))
    asking.send(Ask("divide", 5))
    door.serve()
    buffer = bytearray(rpc.RECEIVE_BYTES)
    assert asking.receive_into(buffer, memoryview(buffer)) == Answer(2, "")
    channel.close()
    door.serve()
    assert door.shell.gone == [HELLO.worker_id]


def test_a_failing_question_is_answered_with_its_error(
    door: Door, capsys: pytest.CaptureFixture[str]
) -> None:
    door.connect()
    door.serve()
    asking = door.connect(HELLO._replace(role="driver-ask"))
    asking.send(Ask("divide", 0))
    door.serve()
    buffer = bytearray(rpc.RECEIVE_BYTES)
    answer = asking.receive_into(buffer, memoryview(buffer))
    assert answer.value is None and "ZeroDivisionError" in answer.error
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_what_a_client_told_before_it_asked_is_applied_first(door: Door) -> None:
    channel = door.connect()
    door.serve()
    asking = door.connect(HELLO._replace(role="driver-ask"))
    door.loop.call_later(0.0, door.loop.stop)
    door.serve()  # both connections are in
    asking.send(Ask("divide", 1))
    channel.send("told")
    door.serve()
    assert door.shell.heard_messages == ["told"]


@pytest.mark.parametrize(
    "hello",
    [
        HELLO._replace(role="guest"),
        HELLO._replace(role="worker"),  # the pretend shell ordered none
        HELLO._replace(role="driver-ask", worker_id=b"x" * 16),  # questions of a stranger
    ],
    ids=lambda hello: hello.role,
)
def test_the_unwanted_are_closed(door: Door, hello: Hello) -> None:
    channel = door.connect(hello)
    door.loop.call_later(0.02, door.loop.stop)
    door.serve()
    assert is_closed(channel)


def test_a_wrong_token_is_closed_and_noted(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    channel = door.connect(token=b"w" * 32)
    door.loop.call_later(0.02, door.loop.stop)
    door.serve()
    assert is_closed(channel) and "refused" in capsys.readouterr().err


def test_whoever_says_nothing_is_closed_after_a_while(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HANDSHAKE_S", 0.005)
    silent = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    silent.connect(door.path)
    door.loop.call_later(0.03, door.loop.stop)
    door.serve()
    silent.settimeout(5.0)
    assert silent.recv(1) == b""
    silent.close()


def test_half_open_connections_are_bounded(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HALF_OPEN_MAX", 2)
    silent = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(3)]
    for sock in silent:
        sock.connect(door.path)
    door.loop.call_later(0.02, door.loop.stop)
    door.serve()
    silent[2].settimeout(5.0)
    assert silent[2].recv(1) == b""
    for sock in silent:
        sock.close()
    door.loop.call_later(0.02, door.loop.stop)
    door.serve()  # the node sees the others go


def test_one_odd_message_does_not_lose_those_behind_it(
    door: Door, capsys: pytest.CaptureFixture[str]
) -> None:
    channel = door.connect()
    door.serve()
    channel.send("odd")
    channel.send("fine")
    door.serve()
    assert door.shell.heard_messages == ["odd", "fine"]
    assert "ValueError: odd" in capsys.readouterr().err


def test_an_observer_asks_without_becoming_a_client(door: Door) -> None:
    observer = door.connect(Hello("observer", b"o" * 16, os.getpid(), ""))
    observer.send(Ask("divide", 5))
    door.serve()
    buffer = bytearray(rpc.RECEIVE_BYTES)
    assert observer.receive_into(buffer, memoryview(buffer)) == Answer(2, "")
    assert door.connections.clients == {} and door.shell.heard_messages == [] and door.shell.gone == []
    observer.close()
    door.serve(0.1)
    assert door.shell.gone == []
