"""How do a value and a trace travel to the judge without trusting the sender?

The judge never unpickles what a submission sends: unpickling runs code. Values become plain JSON
data here (a tuple is a list, an array is nested lists, anything else is its type's name), and events
become `["TaskSubmitted", {...}]` pairs that are rebuilt from a fixed table of classes. The notebook
check sends its values through `plain` too, so that both checks judge the same thing.

A frame is four bytes of length and then JSON.
"""

from __future__ import annotations

import dataclasses
import json
import socket
import struct
from collections.abc import Sequence
from typing import Any, get_args

from minray.base.events import Event

EVENT_CLASSES: dict[str, type[Any]] = {cls.__name__: cls for cls in get_args(Event)}
FRAME_BYTES_MAX = 64 * 2**20
_DEPTH_MAX = 40


def plain(value: object, depth: int = 0) -> Any:
    """`value` as JSON data; what has no such form becomes `{"type": its type's name}`."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return _builtin(value)
    if depth >= _DEPTH_MAX:
        return {"type": "too deeply nested"}
    if isinstance(value, (list, tuple)):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    to_list = getattr(value, "tolist", None)  # numpy arrays and scalars, without importing numpy
    if callable(to_list) and type(value).__module__ == "numpy":
        return plain(to_list(), depth + 1)
    return {"type": type(value).__name__}


def _builtin(value: bool | float | str | None) -> bool | float | str | None:
    """Strip subclasses (numpy.float64, enums, a student's own int) to the built-in type."""
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return None


def describe(value: object) -> str:
    """How a card writes a plain value: short, on one line."""
    if isinstance(value, dict) and set(value) == {"type"}:
        return f"a value of type {value['type']}"
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:77] + "..."


def encode_trace(trace: Sequence[Event]) -> list[list[Any]]:
    """The records as JSON data."""
    return [[type(event).__name__, dataclasses.asdict(event)] for event in trace]


def decode_trace(rows: Sequence[Any]) -> tuple[Event, ...]:
    """The records again.

    Raises: ValueError when a row is not one of our records.
    """
    found: list[Event] = []
    for row in rows:
        try:
            name, fields = row
            cls = EVENT_CLASSES[name]
            # JSON knows no tuple; the records hold tuples of ids.
            event = cls(**{key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()})
            float(event.time_s)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise ValueError(f"not an event: {type(error).__name__}: {error}") from None
        found.append(event)
    return tuple(found)


def send(sock: socket.socket, message: dict[str, Any]) -> None:
    """Write one frame."""
    data = json.dumps(message).encode()
    sock.sendall(struct.pack("!I", len(data)) + data)


def receive(sock: socket.socket) -> dict[str, Any]:
    """Read one frame.

    Raises: EOFError when the other side is gone; ValueError when it sends nonsense; TimeoutError.
    """
    (size,) = struct.unpack("!I", _exactly(sock, 4))
    if size > FRAME_BYTES_MAX:
        raise ValueError(f"a frame of {size} bytes; the limit is {FRAME_BYTES_MAX}")
    message = json.loads(_exactly(sock, size))
    if not isinstance(message, dict):
        raise ValueError("a frame that is not an object")
    return message


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = sock.recv(min(2**16, size - len(data)))
        if not part:
            raise EOFError("the other side closed the connection")
        data += part
    return bytes(data)


__all__ = ["EVENT_CLASSES", "decode_trace", "describe", "encode_trace", "plain", "receive", "send"]
