"""What a dead process said last is heard, whatever it left unread."""

from __future__ import annotations

import pickle
import socket

import pytest

from minray.rpc.channel import RECEIVE_BYTES, Channel


def test_the_last_words_of_a_process_that_died_with_unread_packets_are_heard() -> None:
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = Channel(ours)
    channel.send("never read there")
    for word in ("last", "words"):
        its.send(b"W" + pickle.dumps(word))
    its.close()  # with a packet in its buffer: the kernel reports a reset before it hands out ours
    buffer = bytearray(RECEIVE_BYTES)
    view = memoryview(buffer)
    assert [channel.receive_into(buffer, view) for _ in range(2)] == ["last", "words"]
    with pytest.raises(EOFError):
        channel.receive_into(buffer, view)
    channel.close()
