"""Where is an actor in its life, who asks to know, and what ends it?

    created ──► pending ──placed, BecomeActor, ActorReady──► alive
                  │  ▲                                        │ its process dies and restarts remain
                  │  └───────────── restarting ◄──────────────┘
                  ▼                                            ▼
                 dead   (constructor failed, killed, owner ended, out of scope, exited, no restarts left)

The table decides and names the cause in one sentence; the raylet finds the worker. An actor without
lifetime="detached" ends with its owner, the process that created it. A name is free again as soon as
its actor is dead or has said that it exits. Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from minray.base.messages import ActorChanged, BecomeActor, CreateActor, DrainActor
from minray.base.resources import amounts_of

TOMBSTONES_MAX = 10_000
"""Dead actors that can still be asked about; the oldest are forgotten."""


# ------------------------------------------------------------------------------------ commands
class Tell(NamedTuple):
    """Send `message` to the client or worker."""

    client_id: bytes
    message: Any


class Place(NamedTuple):
    """Find resources and a worker for it."""

    actor_id: bytes
    owner_id: bytes
    creation: CreateActor


class DropPlacement(NamedTuple):
    """It need not be placed any more."""

    actor_id: bytes


class Settle(NamedTuple):
    """Its constructor returned: keep only what it holds."""

    actor_id: bytes


class Kill(NamedTuple):
    """SIGKILL its worker; the death is reported back."""

    worker_id: bytes
    reason: str


class ExpectExit(NamedTuple):
    """Its worker said that it exits; kill it if it does not."""

    worker_id: bytes


ActorCommand = Tell | Place | DropPlacement | Settle | Kill | ExpectExit


class Actor:
    """One row. Once its end is decided while its process still runs, `ending` holds the cause, and
    `is_final` says that no restart follows."""

    __slots__ = (
        "creation", "owner_id", "state", "worker_id", "address", "pid", "incarnation", "gpu_ids",
        "ending", "is_final", "error", "killed_for_good", "out_of_scope", "cause", "watchers",
    )  # fmt: skip

    def __init__(self, creation: CreateActor, owner_id: bytes) -> None:
        self.creation = creation
        self.owner_id = owner_id
        self.state = "pending"  # | "alive" | "restarting" | "dead"
        self.worker_id = b""
        self.address = ""
        self.pid = 0
        self.incarnation = 0
        self.gpu_ids: tuple[int, ...] = ()
        self.ending = ""
        self.is_final = False
        self.error = b""
        self.killed_for_good = False
        self.out_of_scope = False
        self.cause = ""
        self.watchers: set[bytes] = set()


class ActorTable:
    """All actors of the cluster. Not thread-safe: the node's loop owns it."""

    def __init__(self) -> None:
        self.actors: dict[bytes, Actor] = {}
        self.names: dict[tuple[str, str], bytes] = {}  # (namespace, name) -> actor id
        self._by_worker: dict[bytes, bytes] = {}
        self._by_owner: dict[bytes, set[bytes]] = {}
        self._watching: dict[bytes, set[bytes]] = {}  # client -> actors
        self._dead: deque[bytes] = deque()

    # ---------------------------------------------------------------------------------- events
    def created(self, creation: CreateActor, owner_id: bytes) -> tuple[str, list[ActorCommand]]:
        """A client creates an actor. Returns: the conflict as a sentence ("" when none), commands."""
        if creation.name:
            key = (creation.namespace, creation.name)
            if key in self.names:
                return (
                    f"the name {creation.name!r} (namespace {creation.namespace!r}) is already taken by an "
                    f"actor of class {self.actors[self.names[key]].creation.class_name}; use another name, or get that "
                    f"actor: get_actor({creation.name!r}, namespace={creation.namespace!r})",
                    [],
                )
            self.names[key] = creation.actor_id
        self.actors[creation.actor_id] = Actor(creation, owner_id)
        self._by_owner.setdefault(owner_id, set()).add(creation.actor_id)
        return "", [Place(creation.actor_id, owner_id, creation)] if creation.spec else []

    def arguments(self, client_id: bytes, actor_id: bytes, spec: bytes, error: bytes) -> list[ActorCommand]:
        """ActorArguments from its owner, for an actor that was created without a spec."""
        actor = self.actors.get(actor_id)
        if actor is None or actor.state != "pending" or actor.owner_id != client_id or actor.creation.spec:
            return []
        if error:
            actor.error = error
            name = actor.creation.class_name
            return self._die(actor, f"an argument of the constructor of actor {name} failed")
        actor.creation = actor.creation._replace(spec=spec)
        return [Place(actor_id, actor.owner_id, actor.creation)]

    def placed(
        self, actor_id: bytes, worker_id: bytes, address: str, pid: int, gpu_ids: tuple[int, ...]
    ) -> list[ActorCommand]:
        """The raylet found a worker."""
        actor = self.actors.get(actor_id)
        if actor is None or actor.state == "dead":
            return [Kill(worker_id, "its actor was killed before it was built")]
        actor.worker_id, actor.address, actor.pid, actor.gpu_ids = worker_id, address, pid, gpu_ids
        self._by_worker[worker_id] = actor_id
        return [Tell(worker_id, BecomeActor(actor_id, actor.incarnation, actor.creation.spec, gpu_ids))]

    def placement_refused(self, actor_id: bytes, reason: str) -> list[ActorCommand]:
        """There will be no worker for it."""
        actor = self.actors.get(actor_id)
        if actor is None or actor.state == "dead":
            return []
        return self._die(actor, f"actor {actor.creation.class_name} could not be placed: {reason}")

    def ready(self, worker_id: bytes, actor_id: bytes) -> list[ActorCommand]:
        """ActorReady."""
        actor = self._on(worker_id, actor_id)
        if actor is None or actor.state not in ("pending", "restarting"):
            return []
        actor.state, actor.cause = "alive", ""
        if actor.creation.max_restarts == 0:
            # It is never built again: arguments of a constructor may be megabytes.
            actor.creation = actor.creation._replace(spec=b"")
        commands: list[ActorCommand] = [Settle(actor_id), *self._news(actor)]
        if actor.out_of_scope:
            commands.append(Tell(worker_id, DrainActor(actor_id)))
        return commands

    def init_failed(self, worker_id: bytes, actor_id: bytes, error: bytes) -> list[ActorCommand]:
        """ActorInitFailed: dead, without restart; the worker's globals may be half built, so it goes."""
        actor = self._on(worker_id, actor_id)
        if actor is None or actor.state == "dead":
            return []
        actor.error = error
        name = actor.creation.class_name
        cause = f"the constructor of actor {name} (pid {actor.pid}) raised an exception"
        return [*self._die(actor, cause), Kill(worker_id, "its actor's constructor failed")]

    def exiting(self, worker_id: bytes, actor_id: bytes, reason: str) -> list[ActorCommand]:
        """ActorExiting: a deliberate end. Announced when the process is gone and its replies are out."""
        actor = self._on(worker_id, actor_id)
        if actor is None or actor.state == "dead":
            return []
        actor.is_final = True
        actor.ending = actor.ending or f"actor {actor.creation.class_name} (pid {actor.pid}) ended: {reason}"
        self._free_name(actor)
        return [ExpectExit(worker_id)]

    def handles_gone(self, client_id: bytes, actor_id: bytes) -> list[ActorCommand]:
        """ActorOutOfScope from its owner. A detached actor stays."""
        actor = self.actors.get(actor_id)
        if actor is None or actor.state == "dead" or actor.creation.detached or actor.owner_id != client_id:
            return []
        actor.out_of_scope = True
        if actor.state == "alive":
            return [Tell(actor.worker_id, DrainActor(actor_id))]
        return []  # it drains once it is ready: calls may wait for it

    def kill_asked(self, actor_id: bytes, no_restart: bool) -> list[ActorCommand]:
        """KillActor, by anybody who has a handle."""
        actor = self.actors.get(actor_id)
        if actor is None or actor.state == "dead":
            return []
        if no_restart:
            actor.killed_for_good = True
        elif actor.state != "alive":
            return []  # it is being built anyway
        return self._end(actor, "it was killed by minray.kill", is_final=no_restart)

    def client_gone(self, client_id: bytes, who: str) -> list[ActorCommand]:
        """A process died: what it owned goes too, unless detached; it watches nothing any more."""
        commands: list[ActorCommand] = []
        for actor_id in self._by_owner.pop(client_id, ()):
            actor = self.actors.get(actor_id)
            if actor is not None and actor.state != "dead" and not actor.creation.detached:
                commands += self._end(actor, f"its owner, {who}, ended", is_final=True)
        for actor_id in self._watching.pop(client_id, ()):
            actor = self.actors.get(actor_id)
            if actor is not None:
                actor.watchers.discard(client_id)
        return commands

    def worker_died(self, worker_id: bytes, story: str) -> list[ActorCommand]:
        """Its process is gone; `story` says how. Restart or death follows."""
        actor_id = self._by_worker.pop(worker_id, None)
        actor = None if actor_id is None else self.actors[actor_id]
        if actor is None or actor.state == "dead":
            return []
        name = actor.creation.class_name
        cause = actor.ending if actor.ending else f"actor {name} (pid {actor.pid}) died: {story}"
        restarts = actor.creation.max_restarts
        if actor.is_final or actor.out_of_scope or (restarts != -1 and actor.incarnation >= restarts):
            return self._die(actor, cause)
        actor.incarnation += 1
        actor.state, actor.cause, actor.ending = "restarting", cause, ""
        actor.worker_id, actor.address, actor.pid, actor.gpu_ids = b"", "", 0, ()
        return [*self._news(actor), Place(actor.creation.actor_id, actor.owner_id, actor.creation)]

    def watched(self, client_id: bytes, actor_id: bytes) -> list[ActorCommand]:
        """WatchActor: the present state now, changes later."""
        actor = self.actors.get(actor_id)
        if actor is not None and actor.state != "dead":
            actor.watchers.add(client_id)
            self._watching.setdefault(client_id, set()).add(actor_id)
        return [Tell(client_id, self.describe(actor_id))]

    # --------------------------------------------------------------------------------- helpers
    def _on(self, worker_id: bytes, actor_id: bytes) -> Actor | None:
        """The actor, if it is that worker's: words of an earlier incarnation do not count."""
        actor = self.actors.get(actor_id)
        return actor if actor is not None and actor.worker_id == worker_id else None

    def _end(self, actor: Actor, why: str, is_final: bool) -> list[ActorCommand]:
        """Kill its worker, now or never to come. The last decision made names the cause."""
        name = actor.creation.class_name
        if not actor.worker_id:
            news = self._die(actor, f"actor {name} ended before it was built: {why}")
            return [DropPlacement(actor.creation.actor_id), *news]
        if not actor.is_final:
            actor.ending = f"actor {name} (pid {actor.pid}) ended: {why}"
            actor.is_final = is_final
        if is_final:
            self._free_name(actor)
        return [Kill(actor.worker_id, why)]

    def _die(self, actor: Actor, cause: str) -> list[ActorCommand]:
        actor.state, actor.cause, actor.ending = "dead", cause, ""
        self._by_worker.pop(actor.worker_id, None)
        self._free_name(actor)
        news = self._news(actor)
        for watcher in actor.watchers:
            self._watching[watcher].discard(actor.creation.actor_id)
        actor.watchers.clear()
        actor_id = actor.creation.actor_id
        owned = self._by_owner.get(actor.owner_id)
        if owned is not None:
            owned.discard(actor_id)
            if not owned:
                del self._by_owner[actor.owner_id]
        actor.creation = actor.creation._replace(spec=b"", handle_info=b"")
        self._dead.append(actor_id)
        if len(self._dead) > TOMBSTONES_MAX:
            del self.actors[self._dead.popleft()]
        return news

    def _free_name(self, actor: Actor) -> None:
        key = (actor.creation.namespace, actor.creation.name)
        if self.names.get(key) == actor.creation.actor_id:
            del self.names[key]

    def _news(self, actor: Actor) -> list[ActorCommand]:
        change = self.describe(actor.creation.actor_id)
        return [Tell(watcher, change) for watcher in actor.watchers]

    # --------------------------------------------------------------------------------- queries
    def describe(self, actor_id: bytes) -> ActorChanged:
        """Its present state; an unknown actor is dead."""
        actor = self.actors.get(actor_id)
        if actor is None:
            cause = "no such actor is known: it ended long ago, or belongs to another cluster"
            return ActorChanged(actor_id, "dead", b"", "", 0, 0, cause, b"", False)
        alive = actor.state == "alive"
        return ActorChanged(
            actor_id,
            actor.state,
            actor.worker_id if alive else b"",
            actor.address if alive else "",
            actor.pid,
            actor.incarnation,
            actor.cause,
            actor.error,
            actor.killed_for_good,
        )

    def by_name(self, name: str, namespace: str) -> tuple[bytes, bytes] | None:
        """(actor id, handle info) of a living named actor."""
        actor_id = self.names.get((namespace, name))
        return None if actor_id is None else (actor_id, self.actors[actor_id].creation.handle_info)

    def named(self, namespace: str | None) -> list[tuple[str, str]]:
        """(name, namespace) of all living named actors, sorted; None: in every namespace."""
        return sorted((name, ns) for ns, name in self.names if namespace is None or ns == namespace)

    def rows(self) -> list[dict[str, Any]]:
        """For the state API."""
        return [
            {
                "actor_id": actor_id.hex(),
                "class_name": actor.creation.class_name,
                "name": actor.creation.name,
                "namespace": actor.creation.namespace,
                "state": actor.state,
                "worker_id": actor.worker_id.hex(),
                "pid": actor.pid,
                "restarts": actor.incarnation,
                "cause": actor.cause,
                "detached": actor.creation.detached,
                "owner_id": actor.owner_id.hex(),
                "resources": amounts_of(actor.creation.held),
                "killed": actor.killed_for_good,
                "init_failed": bool(actor.error),
                "unready": actor.state == "pending" and not actor.creation.spec,
            }
            for actor_id, actor in self.actors.items()
        ]

    def check_invariants(self) -> None:
        """Assert that the indexes agree with the rows."""
        for (namespace, name), actor_id in self.names.items():
            creation = self.actors[actor_id].creation
            assert (creation.namespace, creation.name) == (namespace, name)
            assert self.actors[actor_id].state != "dead"
        for worker_id, actor_id in self._by_worker.items():
            actor = self.actors[actor_id]
            assert actor.worker_id == worker_id and actor.state != "dead"
        for actor in self.actors.values():
            assert (actor.state == "dead") <= (not actor.watchers)
            assert actor.state != "alive" or actor.worker_id in self._by_worker
            assert actor.creation.max_restarts == -1 or actor.incarnation <= actor.creation.max_restarts
        assert sum(actor.state == "dead" for actor in self.actors.values()) == len(self._dead)
