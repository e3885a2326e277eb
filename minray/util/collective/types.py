"""What do collective calls say to a backend? Its name, the operation, the root, the peer.

A backend of a user's own (`register_collective_backend`) receives these, so they are Ray's by name and field.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

unset_timeout_ms = timedelta(milliseconds=-1)


class Backend:
    """`Backend("gloo")` is the canonical name of a backend. Raises: ValueError for one that nobody knows."""

    NCCL = "NCCL"
    GLOO = "GLOO"
    UNRECOGNIZED = "unrecognized"

    def __new__(cls, name: str) -> str:  # type: ignore[misc] # noqa: D102 - Ray's spelling: a call that gives a name
        upper = name.upper()
        if upper == "TORCH_GLOO":
            return cls.GLOO
        if upper == "UNRECOGNIZED" or not isinstance(getattr(cls, upper, None), str):
            raise ValueError(f"Unrecognized backend: '{name}'. Only NCCL and GLOO are supported")
        return str(getattr(cls, upper))


class ReduceOp(Enum):
    """How the tensors of all ranks become one."""

    SUM = 0
    PRODUCT = 1
    MIN = 2
    MAX = 3


@dataclass
class AllReduceOptions:
    """Of `allreduce`."""

    reduceOp: ReduceOp = ReduceOp.SUM  # noqa: N815 - Ray's name
    timeout_ms: timedelta = unset_timeout_ms


@dataclass
class BarrierOptions:
    """Of `barrier`."""

    timeout_ms: timedelta = unset_timeout_ms


@dataclass
class ReduceOptions:
    """Of `reduce`."""

    reduceOp: ReduceOp = ReduceOp.SUM  # noqa: N815 - Ray's name
    root_rank: int = 0
    root_tensor: int = 0
    timeout_ms: timedelta = unset_timeout_ms


@dataclass
class AllGatherOptions:
    """Of `allgather`."""

    timeout_ms: timedelta = unset_timeout_ms


@dataclass
class BroadcastOptions:
    """Of `broadcast`."""

    root_rank: int = 0
    root_tensor: int = 0
    timeout_ms: timedelta = unset_timeout_ms


@dataclass
class ReduceScatterOptions:
    """Of `reducescatter`."""

    reduceOp: ReduceOp = ReduceOp.SUM  # noqa: N815 - Ray's name
    timeout_ms: timedelta = unset_timeout_ms


@dataclass
class SendOptions:
    """Of `send`."""

    dst_rank: int = 0
    dst_gpu_index: int = 0
    n_elements: int = 0
    timeout_ms: timedelta = unset_timeout_ms


@dataclass
class RecvOptions:
    """Of `recv`."""

    src_rank: int = 0
    src_gpu_index: int = 0
    n_elements: int = 0
    unset_timeout_ms: timedelta = unset_timeout_ms
