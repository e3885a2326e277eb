"""Who waits for which resources, and whose turn is it?

Queues are by resource shape, never by function: two functions of one shape cannot deadlock each
other over leases. Two rotations keep it fair: a shape that got something goes behind the other
shapes, and among the clients of a shape the next is the one whose last grant is longest ago (its
place is remembered while it wants nothing, so that returning and asking again gains no turn).

    (CPU:1)        driver: 40 tasks, worker a: 2 tasks      ← next: driver, then a, then driver, ...
    (CPU:1,GPU:1)  driver: actor Trainer

A large shape would starve among small ones (two CPUs are never free at once while one-CPU tasks
come and go). So a shape that has waited for `RESERVE_AFTER_S` may reserve what becomes free, for a
limited time that doubles at each attempt: a reservation that cannot succeed must not stop the rest.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from minray.base.messages import Shape

RESERVE_AFTER_S = 0.5
FIRST_PATIENCE_S = 5.0
LONGEST_PATIENCE_S = 60.0


class Placement(NamedTuple):
    """An actor that waits for its worker."""

    actor_id: bytes
    label: str  # its class, for sentences
    held: Shape  # what it keeps once its constructor has returned


class Waiting:
    """What one client wants of one shape."""

    __slots__ = ("client_id", "tasks", "placements", "since_s", "reported", "check_s")

    def __init__(self, client_id: bytes, now_s: float) -> None:
        self.client_id = client_id
        self.tasks = 0
        self.placements: deque[Placement] = deque()
        self.since_s = now_s  # of the first wish, or of the last grant
        self.reported = ""  # the reason that the client was told last
        self.check_s: float | None = None  # when to look whether it is stuck; set by the lease table

    @property
    def total(self) -> int:
        """Leases and actors together."""
        return self.tasks + len(self.placements)


class ShapeQueue:
    """Everybody who waits for one shape."""

    __slots__ = ("shape", "clients", "since_s", "patience_s", "may_reserve_s")

    def __init__(self, shape: Shape, now_s: float) -> None:
        self.shape = shape
        self.clients: dict[bytes, Waiting] = {}
        self.since_s = now_s
        self.patience_s = FIRST_PATIENCE_S
        self.may_reserve_s = now_s + RESERVE_AFTER_S

    @property
    def total(self) -> int:
        """How many leases and actors of this shape are wanted."""
        return sum(waiting.total for waiting in self.clients.values())


class Demand:
    """All queues. Not thread-safe: the node's loop owns it."""

    def __init__(self) -> None:
        self.queues: dict[Shape, ShapeQueue] = {}  # the first shape is next
        self._placed_in: dict[bytes, tuple[Shape, bytes]] = {}  # actor id -> shape, client
        self._served: dict[bytes, int] = {}  # client -> number of its last grant
        self._grants = 0

    def __bool__(self) -> bool:
        return bool(self.queues)

    def _waiting(self, client_id: bytes, shape: Shape, now_s: float) -> Waiting:
        queue = self.queues.get(shape)
        if queue is None:
            queue = self.queues[shape] = ShapeQueue(shape, now_s)
        waiting = queue.clients.get(client_id)
        if waiting is None:
            waiting = queue.clients[client_id] = Waiting(client_id, now_s)
        return waiting

    def set_tasks(self, client_id: bytes, shape: Shape, wanted: int, now_s: float) -> None:
        """The client now wants `wanted` leases of `shape` (absolute)."""
        if wanted <= 0:
            queue = self.queues.get(shape)
            waiting = None if queue is None else queue.clients.get(client_id)
            if waiting is not None:
                waiting.tasks = 0
                self._tidy(shape, client_id)
            return
        self._waiting(client_id, shape, now_s).tasks = wanted

    def add_placement(self, client_id: bytes, shape: Shape, placement: Placement, now_s: float) -> None:
        """An actor of the client waits for a worker."""
        assert placement.actor_id not in self._placed_in
        self._waiting(client_id, shape, now_s).placements.append(placement)
        self._placed_in[placement.actor_id] = (shape, client_id)

    def drop_placement(self, actor_id: bytes) -> None:
        """The actor was killed before it was placed. Unknown ids are fine."""
        place = self._placed_in.pop(actor_id, None)
        if place is None:
            return
        shape, client_id = place
        waiting = self.queues[shape].clients[client_id]
        waiting.placements = deque(p for p in waiting.placements if p.actor_id != actor_id)
        self._tidy(shape, client_id)

    def next_client(self, shape: Shape) -> bytes:
        """Whose turn it is."""
        return min(self.queues[shape].clients, key=lambda client_id: self._served.get(client_id, 0))

    def take(self, shape: Shape, client_id: bytes, now_s: float) -> Placement | None:
        """The client gets one of the shape: an actor first, else (None) a lease. Turns move on."""
        queue = self.queues.pop(shape)
        self._grants += 1
        self._served[client_id] = self._grants
        waiting = queue.clients.pop(client_id)
        placement = None
        if waiting.placements:
            placement = waiting.placements.popleft()
            del self._placed_in[placement.actor_id]
        else:
            waiting.tasks -= 1
        waiting.since_s, waiting.check_s, waiting.reported = now_s, None, ""
        if waiting.total:
            queue.clients[client_id] = waiting
        if queue.clients:
            queue.since_s, queue.patience_s = now_s, FIRST_PATIENCE_S
            queue.may_reserve_s = now_s + RESERVE_AFTER_S
            self.queues[shape] = queue  # behind the other shapes
        return placement

    def refuse(self, shape: Shape, client_id: bytes) -> list[Placement]:
        """Drop what the client wants of the shape; returns its actors that will not be placed."""
        waiting = self.queues[shape].clients[client_id]
        waiting.tasks = 0
        dropped = list(waiting.placements)
        for placement in dropped:
            del self._placed_in[placement.actor_id]
        waiting.placements.clear()
        self._tidy(shape, client_id)
        return dropped

    def forget_client(self, client_id: bytes) -> None:
        """It is gone, and so are its wishes for leases. Its actors wait on: the GCS knows which of
        them are detached and drops the others one by one."""
        self._served.pop(client_id, None)
        for shape, queue in list(self.queues.items()):
            waiting = queue.clients.get(client_id)
            if waiting is not None:
                waiting.tasks = 0
                self._tidy(shape, client_id)

    def _tidy(self, shape: Shape, client_id: bytes) -> None:
        queue = self.queues[shape]
        if not queue.clients[client_id].total:
            del queue.clients[client_id]
            if not queue.clients:
                del self.queues[shape]

    def check_invariants(self) -> None:
        """Assert that no empty row is left and that the index of actors is right."""
        index = {}
        for shape, queue in self.queues.items():
            assert queue.shape == shape and queue.clients
            for client_id, waiting in queue.clients.items():
                assert waiting.client_id == client_id and waiting.total > 0 and waiting.tasks >= 0
                for placement in waiting.placements:
                    index[placement.actor_id] = (shape, client_id)
        assert index == self._placed_in
