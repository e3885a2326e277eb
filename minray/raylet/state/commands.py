"""What does the lease table order? Commands are imperative; the node's shell performs them."""

from __future__ import annotations

from typing import Any, NamedTuple


class Send(NamedTuple):
    """Send `message` to the client."""

    client_id: bytes
    message: Any


class StartWorkers(NamedTuple):
    """Fork these."""

    worker_ids: tuple[bytes, ...]


class KillWorker(NamedTuple):
    """SIGKILL it; `reason` becomes part of the story of its death."""

    worker_id: bytes
    reason: str


class AskToRetire(NamedTuple):
    """Ask the idle worker to exit unless somebody still wants its objects."""

    worker_id: bytes


class ActorPlaced(NamedTuple):
    """The actor has its worker and resources."""

    actor_id: bytes
    worker_id: bytes
    address: str
    pid: int
    gpu_ids: tuple[int, ...]


class PlacementRefused(NamedTuple):
    """The actor will not get a worker."""

    actor_id: bytes
    reason: str


Command = Send | StartWorkers | KillWorker | AskToRetire | ActorPlaced | PlacementRefused
