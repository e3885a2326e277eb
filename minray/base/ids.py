"""What names a thing in the cluster?

Workers, actors and nodes carry random bytes. An object is (owner's worker id, number): the owner
counts its objects, so making an id costs one `next()` and no randomness; the hexadecimal form that
users see is put together only when somebody asks.
"""

from __future__ import annotations

import os

WORKER_ID_BYTES = 16
ACTOR_ID_BYTES = 16
NODE_ID_BYTES = 28
OBJECT_ID_BYTES = 28
NIL_TASK = "f" * 48
NIL_OWNER = b"\xff" * WORKER_ID_BYTES
NIL_NUMBER = (1 << 64) - 1


def new_worker_id() -> bytes:
    """16 random bytes."""
    return os.urandom(WORKER_ID_BYTES)


def new_actor_id() -> bytes:
    """16 random bytes."""
    return os.urandom(ACTOR_ID_BYTES)


def object_id_bytes(owner: bytes, number: int) -> bytes:
    """28 bytes: owner (16), number (8, big endian), 00000001."""
    if owner == NIL_OWNER:
        return b"\xff" * OBJECT_ID_BYTES
    return owner + number.to_bytes(8, "big") + b"\x00\x00\x00\x01"


def object_id_hex(owner: bytes, number: int) -> str:
    """56 hexadecimal digits, as in Ray."""
    return object_id_bytes(owner, number).hex()


def task_id_hex(owner: bytes, number: int) -> str:
    """48 hexadecimal digits: the task whose first return value is object `number` of `owner`."""
    return (owner + number.to_bytes(8, "big")).hex()


class _HexId:
    """Bytes with Ray's accessors. Equal by value, usable as a key."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def hex(self) -> str:
        """The id in hexadecimal digits."""
        return self._raw.hex()

    def binary(self) -> bytes:
        """The id's bytes."""
        return self._raw

    def is_nil(self) -> bool:
        """Whether it names nothing."""
        return not self._raw.strip(b"\xff")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._raw == self._raw

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._raw))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._raw.hex()})"


class ActorID(_HexId):
    """Names an actor for its whole life, restarts included."""


class NodeID(_HexId):
    """Names a node."""


class WorkerID(_HexId):
    """Names a process that owns or executes."""


class TaskID(_HexId):
    """Names a task: its owner and its number there."""


class JobID(_HexId):
    """Names a driver's work."""


class UniqueID(_HexId):
    """Names anything else."""


class FunctionID(_HexId):
    """Names a remote function's code."""


class ActorClassID(_HexId):
    """Names an actor class's code."""


class PlacementGroupID(_HexId):
    """Names a placement group."""


class ClusterID(_HexId):
    """Names a cluster."""
