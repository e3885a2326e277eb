"""A lease table with a pretend node around it: orders become workers when a test says so."""

from __future__ import annotations

import itertools
from typing import Any

from minray.base.messages import CapacityWanted, DemandStuck, LeaseGranted, LeaseReturned, Shape
from minray.base.resources import shape_of
from minray.raylet.state.commands import (
    ActorPlaced,
    AskToRetire,
    KillWorker,
    PlacementRefused,
    Send,
    StartWorkers,
)
from minray.raylet.state.demand import Placement
from minray.raylet.state.leases import LeaseTable

CPU = shape_of({"CPU": 1})
TWO_CPUS = shape_of({"CPU": 2})
GPU = shape_of({"GPU": 1})
BOTH = shape_of({"CPU": 1, "GPU": 1})
NOTHING: Shape = ()


class World:
    """Performs commands at once, except that workers connect when `connect` is called."""

    def __init__(
        self, *, max_workers: int = 64, prestart: int = 0, idle_worker_s: float = 60.0, **amounts: float
    ) -> None:
        numbers = itertools.count(1)
        self.table = LeaseTable(
            shape_of(amounts or {"CPU": 2}),
            max_workers=max_workers,
            prestart=prestart,
            idle_worker_s=idle_worker_s,
            new_worker_id=lambda: b"worker-%d" % next(numbers),
        )
        self.now_s = 100.0
        self.ordered: list[bytes] = []
        self.doomed: list[tuple[bytes, str]] = []
        self.retired: list[bytes] = []
        self.grants: list[tuple[bytes, LeaseGranted]] = []
        self.placed: list[ActorPlaced] = []
        self.refused: list[PlacementRefused] = []
        self.stuck: list[tuple[bytes, DemandStuck]] = []
        self.hungry: dict[bytes, bool] = {}
        self._pids = itertools.count(1000)

    def client(self, *names: bytes) -> None:
        for name in names:
            self.table.client_joined(name)

    def settle(self) -> None:
        self._perform(self.table.settle(self.now_s))

    def pass_time(self, seconds: float) -> None:
        """Run every deadline on the way."""
        end_s = self.now_s + seconds
        while (deadline_s := self.table.next_deadline_s()) is not None and deadline_s <= end_s:
            self.now_s = max(self.now_s, deadline_s)
            self._perform(self.table.tick(self.now_s))
            after_s = self.table.next_deadline_s()
            assert after_s is None or after_s > self.now_s, "the node would spin"
        self.now_s = end_s
        self.settle()

    def _perform(self, commands: list[Any]) -> None:
        for command in commands:
            if isinstance(command, StartWorkers):
                self.ordered += command.worker_ids
            elif isinstance(command, KillWorker):
                self.doomed.append((command.worker_id, command.reason))
            elif isinstance(command, AskToRetire):
                self.retired.append(command.worker_id)
            elif isinstance(command, ActorPlaced):
                self.placed.append(command)
            elif isinstance(command, PlacementRefused):
                self.refused.append(command)
            else:
                assert isinstance(command, Send)
                message = command.message
                if isinstance(message, LeaseGranted):
                    self.grants.append((command.client_id, message))
                elif isinstance(message, CapacityWanted):
                    assert self.hungry.get(command.client_id, False) != message.hungry, "said twice"
                    self.hungry[command.client_id] = message.hungry
                else:
                    self.stuck.append((command.client_id, message))
        self.table.check_invariants()

    def connect(self, count: int | None = None) -> list[bytes]:
        """The first `count` ordered workers (default all) say hello."""
        ready = self.ordered[:count]
        del self.ordered[:count]
        for worker_id in ready:
            assert self.table.worker_connected(worker_id, next(self._pids), worker_id.decode(), self.now_s)
            self.table.client_joined(worker_id)
        self.settle()
        return ready

    def demand(self, client: bytes, shape: Shape, wanted: int) -> None:
        self.table.demand_changed(client, shape, wanted, self.now_s)
        self.settle()

    def place(self, client: bytes, actor_id: bytes, placement: Shape, held: Shape = ()) -> None:
        self.table.placement_wanted(client, placement, Placement(actor_id, "Counter", held), self.now_s)
        self.settle()

    def give(self, client: bytes, lease_id: int, broken: bool = False, retired: bool = False) -> None:
        self.table.lease_returned(client, LeaseReturned(lease_id, broken, retired), self.now_s)
        self.settle()

    def die(self, worker_id: bytes, story: str = "it crashed", one_of_many: bool = False) -> None:
        if worker_id in self.ordered:
            self.ordered.remove(worker_id)
        self.table.worker_died(worker_id, story, self.now_s, one_of_many)
        self.table.client_gone(worker_id, "worker 1", self.now_s)
        self.settle()

    def block(self, worker_id: bytes) -> None:
        self.table.worker_blocked(worker_id)
        self.settle()

    def unblock(self, worker_id: bytes) -> None:
        self.table.worker_unblocked(worker_id)
        self.settle()

    def granted_to(self, client: bytes) -> list[LeaseGranted]:
        return [grant for name, grant in self.grants if name == client]

    @property
    def available(self) -> dict[str, float]:
        return self.table.available.in_units()
