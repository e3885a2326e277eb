"""How do events reach the lease table, and its commands the processes?

The node's shell: it owns the loop, the connections, the zygote and the arena, turns messages and
deaths into events, and performs commands. It decides nothing; `raylet.state` and `gcs.state` do.
Events of one batch are gathered, and the table settles once after it.
"""

from __future__ import annotations

import os
import pickle
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from minray.base.config import SessionConfig
from minray.base.messages import (
    Ask,
    CreateActor,
    EventsShipped,
    EventsWanted,
    Hello,
    LeaseDemand,
    LeaseReturned,
    LogLines,
    ModulesWanted,
    RetireRefused,
    RetireWorker,
    Shape,
    Shutdown,
    WatchActor,
    Welcome,
    WorkerBlocked,
    WorkerDied,
    WorkerUnblocked,
)
from minray.raylet.clients import OBSERVER, Client, Connections
from minray.raylet.deaths import DeathNotices, story_of
from minray.raylet.event_loop import EventLoop, monotonic_s
from minray.raylet.state import commands
from minray.raylet.state.demand import Placement
from minray.raylet.state.leases import LeaseTable
from minray.raylet.store import StoreShell
from minray.raylet.zygote import worker_log_path
from minray.raylet.zygote_link import WorkerExit, ZygoteLink
from minray.rpc.channel import Channel

EXIT_PATIENCE_S = 5.0
DISCONNECTED_PATIENCE_S = 1.0
RECONNECT_S = 0.1
OF_OBSERVERS = frozenset(
    "state nodes store cluster_resources available_resources named_actors actor_info".split()
)
DEATHS_KEPT = 1000
FORWARD_BACKLOG_MAX = 2_000
"""Log lines and events for a driver that does not read are dropped beyond so many packets."""


class Gcs(Protocol):
    """The cluster-wide side, in this process."""

    handlers: dict[type, Callable[[bytes, Any], None]]
    questions: dict[str, Callable[[bytes, Any], Any]]

    def actor_placed(
        self, actor_id: bytes, worker_id: bytes, address: str, pid: int, gpu_ids: tuple[int, ...]
    ) -> None:
        """A worker is reserved for the actor."""

    def placement_refused(self, actor_id: bytes, reason: str) -> None:
        """No worker will come."""

    def worker_died(self, worker_id: bytes, story: str) -> None:
        """A worker's process is gone."""

    def client_gone(self, client_id: bytes, who: str) -> None:
        """A driver or worker is gone."""

    def driver_joined(self, worker_id: bytes, pid: int) -> int:
        """A driver connected. Returns its job id."""


class NodeShell:
    """One node: raylet with its connections. Implements the port of the GCS."""

    def __init__(
        self,
        config: SessionConfig,
        loop: EventLoop,
        listener: socket.socket,
        leases: LeaseTable,
        store: StoreShell,
        fork_zygote: Callable[[], tuple[socket.socket, int]],
        first_driver_gone: Callable[[str], None],
    ) -> None:
        self.config = config
        self.loop = loop
        self.leases = leases
        self.store = store
        self.zygote = ZygoteLink(loop, fork_zygote, self._worker_exited)
        self.connections = Connections(loop, listener, config.token, self)
        self.clients = self.connections.clients
        self._first_driver_gone = first_driver_gone
        self._ordered_deaths: dict[bytes, str] = {}
        self.notices = DeathNotices(loop, self.broadcast, lambda: len(self.clients))
        self.deaths: deque[dict[str, Any]] = deque(maxlen=DEATHS_KEPT)
        self._submitters: set[bytes] = set()  # who may have recorded tasks of its own that nobody was told
        self._callers: set[bytes] = set()  # who may call actors at any time
        self.gcs: Gcs
        table = leases
        self.handlers: dict[type, Callable[[bytes, Any], None]] = {
            LeaseDemand: lambda c, m: table.demand_changed(c, m.shape, m.wanted, monotonic_s()),
            LeaseReturned: lambda c, m: table.lease_returned(c, m, monotonic_s()),
            WorkerBlocked: lambda c, m: table.worker_blocked(c),
            WorkerUnblocked: lambda c, m: table.worker_unblocked(c),
            ModulesWanted: lambda c, m: self.zygote.preload(m.modules),
            RetireRefused: lambda c, m: table.retire_refused(c, monotonic_s()),
            **store.handlers,
            LogLines: self._forward,
            EventsShipped: self._events_shipped,
            EventsWanted: self._to_workers,
        }
        self.questions: dict[str, Callable[[bytes, Any], Any]] = {
            **store.questions,
            "cluster_resources": lambda c, _: table.capacity.in_units(),
            "available_resources": lambda c, _: table.available.in_units(),
            "nodes": lambda c, _: [self._node_row()],
            "state": lambda c, _: {"workers": self._worker_rows()},
        }
        store.wire(self.send, lambda: list(self.clients), loop.call_later)
        self._commands: dict[type, Callable[[Any], None]] = {
            commands.Send: lambda c: self.send(c.client_id, c.message),
            commands.StartWorkers: lambda c: self.zygote.start(c.worker_ids),
            commands.KillWorker: self._perform_kill,
            commands.AskToRetire: lambda c: self.send(c.worker_id, RetireWorker()),
            commands.ActorPlaced: lambda c: self.gcs.actor_placed(*c),
            commands.PlacementRefused: lambda c: self.gcs.placement_refused(*c),
        }

    def use_gcs(self, gcs: Gcs) -> None:
        """Wire the cluster-wide side in."""
        self.gcs = gcs
        self.handlers.update(gcs.handlers)
        self.questions.update(gcs.questions)

    def after_batch(self, now_s: float) -> float | None:
        """Let the table decide; returns its next deadline. For `EventLoop.run`."""
        deadline_s = self.leases.next_deadline_s()
        due = deadline_s is not None and deadline_s <= now_s
        orders = self.leases.tick(now_s) if due else self.leases.settle(now_s)
        for order in orders:
            self._commands[type(order)](order)
        if orders:  # performing may have changed rows (a refused actor drops its claims)
            return self.after_batch(now_s)
        return self.leases.next_deadline_s()

    # ------------------------------------------------------------ clients, as their listener
    def joined(self, hello: Hello, channel: Channel) -> Client | None:
        """A proven driver or worker. Workers that nobody ordered are refused."""
        now_s = monotonic_s()
        old = self.clients.get(hello.worker_id)
        if hello.role == "worker":
            if old is not None or not self.leases.worker_connected(
                hello.worker_id, hello.pid, hello.address, now_s
            ):
                return None
            self.zygote.connected(hello.worker_id, hello.pid)
            client = Client(hello, channel)
        elif old is None:
            client = Client(hello, channel)
            self._watch_driver(client)
        else:  # it lost its connection and came back in time: all that it holds is still its own
            client = old
            self.loop.unwatch(old.channel.fd)
            old.channel.close()
            client.channel = channel
        self.clients[hello.worker_id] = client
        self.leases.client_joined(hello.worker_id)
        welcome = Welcome(
            self.config.node_id,
            0 if hello.role == "worker" else self.gcs.driver_joined(hello.worker_id, hello.pid),
            os.getpid(),
            self.zygote.zygote_pid,
            self.leases.capacity.in_units(),
            self.config.arena_bytes,
        )
        if hello.role == "worker":
            channel.send(welcome)
        else:  # the first packet on this socket, so there is room for it
            socket.send_fds(channel.sock, [b"W" + pickle.dumps(welcome, 5)], [self.store.arena_fd])
        return client

    def heard(self, client: Client, message: Any) -> None:
        """Dispatch by class."""
        if type(message) is LeaseDemand:
            self._submitters.add(client.worker_id)
        elif type(message) is CreateActor or type(message) is WatchActor:
            self._callers.add(client.worker_id)
        handler = self.handlers.get(type(message))
        if handler is None:
            print(f"{client.who} sent {type(message).__name__}, which no node understands", file=sys.stderr)
            return
        handler(client.worker_id, message)

    def asked(self, client: Client, ask: Ask) -> Any:
        """Answer a synchronous question."""
        if ask.what == "create_actor":
            self._callers.add(client.worker_id)
        if client.role == OBSERVER and ask.what not in OF_OBSERVERS:
            raise PermissionError(f"an observer may not ask {ask.what!r}")
        question = self.questions.get(ask.what)
        if question is None:
            raise KeyError(f"no node can answer {ask.what!r}")
        return question(client.worker_id, ask.argument)

    def disconnected(self, client: Client) -> None:
        """A worker: its death will be reported, or we cause it. A driver: it may come back at once."""
        if client.role == "worker":
            self.leases.worker_lost(client.worker_id, monotonic_s())
            self.loop.call_later(DISCONNECTED_PATIENCE_S, lambda: self.zygote.kill(client.worker_id))
            return
        ended = client.channel

        def gone_unless_back() -> None:
            if client.channel is ended:
                self._driver_gone(client)

        self.loop.call_later(RECONNECT_S, gone_unless_back)

    def send(self, client_id: bytes, message: Any) -> None:
        """Send to a driver or worker; nothing happens if it is gone."""
        client = self.clients.get(client_id)
        if client is not None:
            client.channel.send(message)

    def broadcast(self, message: Any, but: bytes = b"") -> None:
        """Send to every driver and worker."""
        payload = pickle.dumps(message, 5)
        for client in self.clients.values():
            if client.worker_id != but:
                client.channel.send_bytes(payload)

    def _forward(self, client_id: bytes, message: Any) -> None:
        payload = pickle.dumps(message, 5)
        for client in self.clients.values():
            if client.role == "driver" and client.worker_id != client_id:
                if len(client.channel.outbox) < FORWARD_BACKLOG_MAX:
                    client.channel.send_bytes(payload)

    def _events_shipped(self, client_id: bytes, message: Any) -> None:
        self._forward(client_id, message)
        if client_id in self._submitters and not self.leases.has_leases(client_id):
            self._submitters.discard(client_id)  # until it asks again, there is nothing new of its own

    def _worker_rows(self) -> list[dict[str, Any]]:
        return [
            {"worker_id": client.worker_id.hex(), "pid": client.pid, "role": client.role}
            for client in self.clients.values()
            if client.role == "worker"
        ]

    def _to_workers(self, client_id: bytes, message: Any) -> None:
        payload = pickle.dumps(message, 5)
        for client in self.clients.values():
            if client.role == "worker" and len(client.channel.outbox) < FORWARD_BACKLOG_MAX:
                client.channel.send_bytes(payload)

    # ----------------------------------------------------------------------------------- drivers
    def _watch_driver(self, client: Client) -> None:
        # EOF is not enough: a child that user code forked from the driver keeps our socket open.
        try:
            client.pidfd = os.pidfd_open(client.pid)
        except OSError:  # an old kernel, or another pid namespace: then EOF must do
            return
        self.loop.watch(client.pidfd, lambda _: self._driver_gone(client))

    def _driver_gone(self, client: Client) -> None:
        if self.clients.get(client.worker_id) is not client:
            return
        if client.pidfd >= 0:
            self.loop.unwatch(client.pidfd)
            os.close(client.pidfd)
        if client.pid == self.config.driver_pid:
            self._first_driver_gone(f"its {client.who} ended")
            return
        self._client_gone(client)

    def _client_gone(self, client: Client) -> None:
        self.connections.forget(client)
        self.leases.client_gone(client.worker_id, client.who, monotonic_s())
        self.gcs.client_gone(client.worker_id, client.who)
        self.store.client_died(client.worker_id)

    # ----------------------------------------------------------------------------------- workers
    def _worker_exited(
        self, worker_id: bytes, pid: int, how: WorkerExit, why_not_started: str, one_of_many: bool
    ) -> None:
        ordered = self._ordered_deaths.pop(worker_id, "")
        story = why_not_started or story_of(pid, how, ordered, worker_log_path(self.config, worker_id))
        was = self.leases.pool.get(worker_id)
        self.deaths.append(
            {
                "worker_id": worker_id.hex(),
                "pid": pid,
                "state": was.state if was is not None else "",
                "started_s": time.time() - (monotonic_s() - was.started_s) if was is not None else 0.0,
                "ended_s": time.time(),
                "exit_code": how.code,
                "signal": how.signal,
                "ordered": ordered,
                "reason": story,
            }
        )
        known = self.leases.worker_died(worker_id, story, monotonic_s(), one_of_many)
        self.gcs.worker_died(worker_id, story)
        client = self.clients.get(worker_id)
        submitted = worker_id in self._submitters or worker_id in self._callers
        self._submitters.discard(worker_id)
        self._callers.discard(worker_id)
        self._remove_file(self.config.peer_socket(worker_id))
        if client is None:
            return
        self._client_gone(client)
        if known:  # an idle worker that goes unseen wakes nobody
            self.notices.tell(WorkerDied(worker_id, pid, how.code, how.signal, story, submitted))

    def _remove_file(self, path: str) -> None:
        try:
            os.unlink(path)
        except OSError:
            pass

    def _perform_kill(self, command: commands.KillWorker) -> None:
        self._ordered_deaths.setdefault(command.worker_id, command.reason)
        self.zygote.kill(command.worker_id)

    # ------------------------------------------------------------------------- port for the GCS
    def place_actor(
        self, owner_id: bytes, actor_id: bytes, label: str, placement: Shape, held: Shape
    ) -> None:
        """Find a worker for an actor."""
        self.leases.placement_wanted(owner_id, placement, Placement(actor_id, label, held), monotonic_s())

    def drop_placement(self, actor_id: bytes) -> None:
        """Stop looking."""
        self.leases.placement_dropped(actor_id)

    def settle_actor(self, actor_id: bytes) -> None:
        """Its constructor returned."""
        self.leases.actor_settled(actor_id)

    def kill_worker(self, worker_id: bytes, reason: str) -> None:
        """SIGKILL, now: the table hears of it as of any death."""
        self._ordered_deaths.setdefault(worker_id, reason)
        self.leases.worker_lost(worker_id, monotonic_s())
        self.zygote.kill(worker_id)

    def expect_exit(self, worker_id: bytes) -> None:
        """It said that it exits; help it if it does not."""
        self.leases.worker_lost(worker_id, monotonic_s())
        self.loop.call_later(EXIT_PATIENCE_S, lambda: self.zygote.kill(worker_id))

    # --------------------------------------------------------------------------------- questions
    def _node_row(self) -> dict[str, Any]:
        hostname = os.uname().nodename
        return {
            "NodeID": self.config.node_id.hex(),
            "Alive": True,
            "alive": True,
            "NodeManagerAddress": "127.0.0.1",
            "NodeManagerHostname": hostname,
            "NodeManagerPort": 0,
            "ObjectManagerPort": 0,
            "ObjectStoreSocketName": "",
            "RayletSocketName": self.config.node_socket,
            "MetricsExportPort": 0,
            "NodeName": "127.0.0.1",
            "DeathReason": 0,
            "DeathReasonMessage": "",
            "Resources": self.leases.capacity.in_units(),
            "Labels": dict(self.config.labels),
        }

    def say_goodbye(self, reason: str) -> None:
        """The cluster ends: tell attached drivers. Workers are killed, not told."""
        for client in self.clients.values():
            if client.role == "driver":
                client.channel.send(Shutdown(reason))
