"""Who answers for what the whole cluster knows: actors, names, jobs, the key-value table?

The shell of `gcs.state`: it turns messages into events of the tables and performs their commands
through a port. The port is the raylet of the same process today; nothing here knows that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from minray.base.messages import (
    ActorArguments,
    ActorExiting,
    ActorInitFailed,
    ActorOutOfScope,
    ActorReady,
    CreateActor,
    KillActor,
    Shape,
    WatchActor,
)
from minray.base.resources import larger_of
from minray.gcs.state.actors import (
    ActorCommand,
    ActorTable,
    DropPlacement,
    ExpectExit,
    Kill,
    Place,
    Settle,
    Tell,
)
from minray.gcs.state.jobs import JobTable
from minray.gcs.state.kv import KeyValueTable


class RayletPort(Protocol):
    """What the actor table needs from the side that has workers and connections."""

    def send(self, client_id: bytes, message: Any) -> None:
        """Send to a driver or worker; nothing happens if it is gone."""

    def place_actor(
        self, owner_id: bytes, actor_id: bytes, label: str, placement: Shape, held: Shape
    ) -> None:
        """Find a worker; the answer is `actor_placed` or `placement_refused`."""

    def drop_placement(self, actor_id: bytes) -> None:
        """Stop looking."""

    def settle_actor(self, actor_id: bytes) -> None:
        """The constructor returned."""

    def kill_worker(self, worker_id: bytes, reason: str) -> None:
        """SIGKILL."""

    def expect_exit(self, worker_id: bytes) -> None:
        """Kill the worker unless it exits by itself within seconds."""


class GcsService:
    """Cluster-wide tables behind messages. Not thread-safe: the node's loop owns it."""

    def __init__(self, port: RayletPort) -> None:
        self.port = port
        self.actors = ActorTable()
        self.jobs = JobTable()
        self.kv = KeyValueTable()
        actors, perform = self.actors, self._perform
        self.handlers: dict[type, Callable[[bytes, Any], None]] = {
            CreateActor: lambda client, m: self._create(client, m),
            ActorArguments: lambda client, m: perform(actors.arguments(client, *m)),
            ActorReady: lambda client, m: perform(actors.ready(client, m.actor_id)),
            ActorInitFailed: lambda client, m: perform(actors.init_failed(client, m.actor_id, m.error)),
            ActorExiting: lambda client, m: perform(actors.exiting(client, m.actor_id, m.reason)),
            ActorOutOfScope: lambda client, m: perform(actors.handles_gone(client, m.actor_id)),
            KillActor: lambda client, m: perform(actors.kill_asked(m.actor_id, m.no_restart)),
            WatchActor: lambda client, m: perform(actors.watched(client, m.actor_id)),
        }
        self.questions: dict[str, Callable[[bytes, Any], Any]] = {
            "create_actor": self._ask_create,
            "actor_by_name": lambda client, argument: actors.by_name(*argument),
            "named_actors": lambda client, namespace: actors.named(namespace),
            "actor_info": lambda client, actor_id: actors.describe(actor_id),
            "kv_put": lambda client, argument: self.kv.put(*argument),
            "kv_get": lambda client, key: self.kv.get(key),
            "kv_del": lambda client, key: self.kv.delete(key),
            "kv_keys": lambda client, prefix: self.kv.keys(prefix),
        }
        self._commands: dict[type, Callable[[Any], None]] = {
            Tell: lambda c: port.send(c.client_id, c.message),
            Place: self._place,
            DropPlacement: lambda c: port.drop_placement(c.actor_id),
            Settle: lambda c: port.settle_actor(c.actor_id),
            Kill: lambda c: port.kill_worker(c.worker_id, c.reason),
            ExpectExit: lambda c: port.expect_exit(c.worker_id),
        }

    def _perform(self, commands: list[ActorCommand]) -> None:
        for command in commands:
            self._commands[type(command)](command)

    def _place(self, command: Place) -> None:
        creation = command.creation
        placement = larger_of(creation.placement, creation.held)
        self.port.place_actor(
            command.owner_id, command.actor_id, creation.class_name, placement, creation.held
        )

    def _create(self, client_id: bytes, creation: CreateActor) -> None:
        # Unnamed actors have no conflicts. A named one that was not asked for stays unknown, and
        # whoever watches it is told that it is dead.
        self._ask_create(client_id, creation)

    def _ask_create(self, client_id: bytes, creation: CreateActor) -> str:
        conflict, commands = self.actors.created(creation, client_id)
        self._perform(commands)
        return conflict

    # ------------------------------------------------------------------- from the raylet's side
    def driver_joined(self, worker_id: bytes, pid: int) -> int:
        """A driver connected. Returns its job id."""
        return self.jobs.joined(worker_id, pid, time.time())

    def actor_placed(
        self, actor_id: bytes, worker_id: bytes, address: str, pid: int, gpu_ids: tuple[int, ...]
    ) -> None:
        """A worker is reserved for the actor."""
        self._perform(self.actors.placed(actor_id, worker_id, address, pid, gpu_ids))

    def placement_refused(self, actor_id: bytes, reason: str) -> None:
        """No worker will come."""
        self._perform(self.actors.placement_refused(actor_id, reason))

    def worker_died(self, worker_id: bytes, story: str) -> None:
        """A worker's process is gone."""
        self._perform(self.actors.worker_died(worker_id, story))

    def client_gone(self, client_id: bytes, who: str) -> None:
        """A driver or worker is gone, as an owner and as a watcher."""
        self.jobs.ended(client_id, time.time())
        self._perform(self.actors.client_gone(client_id, who))
