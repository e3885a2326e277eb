"""What does this process know of another one that it talks to directly?

One record per connection, in both roles at once: I may own tasks that run there (`lease`), it may
own tasks that run here (`functions`, `queue`, `out`), it may hold handles on my objects (`holds`),
I may wait for values of its objects (`fetching`).
"""

from __future__ import annotations

from collections import deque
from typing import Any

from minray.rpc.channel import Channel


class Peer:
    """One directly connected process."""

    __slots__ = (
        "worker_id",
        "address",
        "pid",
        "channel",
        "lease",
        "exported",
        "functions",
        "names",
        "lease_id",
        "gpu_ids",
        "shape",
        "queue",
        "out",
        "holds",
        "fetching",
        "gone",
        "free_out",
    )

    def __init__(self, worker_id: bytes, address: str, pid: int, channel: Channel) -> None:
        self.worker_id = worker_id
        self.address = address
        self.pid = pid
        self.channel = channel
        self.lease: Any = None  # Lease or ActorCalls that sends tasks there
        self.exported: set[int] = set()  # my function numbers that it knows
        self.functions: dict[int, Any] = {}  # its functions, by its numbers
        self.names: dict[int, str] = {}
        self.lease_id = 0  # the lease under which its tasks run here
        self.gpu_ids: tuple[int, ...] = ()
        self.shape: tuple[tuple[str, int], ...] = ()  # of that lease
        self.queue: deque[tuple[int, Any, Any]] = deque()  # its tasks, not started here
        self.out: deque[tuple[int, int, Any, float, float]] = deque()  # replies not sent yet
        self.holds: dict[int, list[Any]] = {}  # number of mine -> [ref, handles it holds]
        self.fetching: dict[int, list[Any]] = {}  # number of its -> my borrowed refs that wait
        self.gone = False
        self.free_out: list[int] = []  # blocks of its arena slabs that I am done with
