"""What makes a process a member of the cluster?

A `CoreWorker`: the same object in the driver and in every worker, for every process owns objects and
submits tasks. It joins the parts (submission, replies, actor calls, borrowing, waiting) to the
sockets: one connection to the node for events, one for questions, one per peer, and a listening
socket on which peers find it.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import threading
import weakref
from collections.abc import Callable
from typing import Any

from minray.base.config import SessionConfig
from minray.base.errors import LocalRayletDiedError, RaySystemError
from minray.base.messages import (
    ActorChanged,
    Answer,
    Ask,
    CapacityWanted,
    DemandStuck,
    EventsShipped,
    EventsWanted,
    Hello,
    LeaseGranted,
    LogLines,
    OrphansFound,
    RoomWanted,
    Shutdown,
    SlabReturned,
    SpillOrdered,
    StoreTrim,
    Welcome,
    WorkerDied,
    WorkersDied,
)
from minray.object_store.arena import Arena
from minray.object_store.spill_files import SpillFiles
from minray.rpc.channel import Channel, ConnectionRefused, accept, authenticate, connect, listen
from minray.rpc.loop import TICK_S, Loop
from minray.serialization import values
from minray.worker import object_ref, wire
from minray.worker.actor_calls import ActorSide
from minray.worker.actor_creation import ActorCreation
from minray.worker.blocked_gets import blocked_gets
from minray.worker.borrowing import Borrowing
from minray.worker.cancellation import Cancellation
from minray.worker.deaths import Deaths
from minray.worker.event_sharing import EventSharing
from minray.worker.functions import FunctionRecord
from minray.worker.generators import Generators
from minray.worker.inspection import Inspection
from minray.worker.interrupts import interrupts
from minray.worker.leasing import Leasing
from minray.worker.object_events import ObjectEvents
from minray.worker.peer import Peer
from minray.worker.recorder import Recorder
from minray.worker.replies import Replies
from minray.worker.spilling import Spilling
from minray.worker.store import StoreClient
from minray.worker.submission import Submission
from minray.worker.waiting import Waiting


class CoreWorker(
    Submission,
    Replies,
    Leasing,
    Deaths,
    ActorCreation,
    ActorSide,
    Generators,
    Borrowing,
    Waiting,
    ObjectEvents,
    EventSharing,
    Spilling,
    Cancellation,
    Inspection,
):
    """One process's membership. Made by `join`."""

    def __init__(self, config: SessionConfig, worker_id: bytes, is_driver: bool) -> None:
        super().__init__()
        self.config = config
        self.worker_id = worker_id
        self.is_driver = is_driver
        self.job_id = 1
        self.node_pid = 0
        self.cluster_resources = dict(config.resources)
        self.loop = Loop(self._on_tick, self._on_channel_end)
        self.recorder = Recorder(worker_id) if config.tracing else None
        if self.recorder is not None:
            self.recorder.table = self.table
            self.recorder.next_number = lambda: int(repr(self.numbers)[6:-1])  # "count(7)": looks, does not take
            self.recorder.function_name = lambda number: self.functions[number].name
            self.recorder.blocked = lambda: blocked_gets(self)
        self.on_log: Callable[[LogLines], None] = lambda lines: None
        self.on_warning: Callable[[str, str], None] = lambda key, text: None
        self.on_shutdown: Callable[[str], None] = lambda reason: None
        self.node_messages: dict[type, Callable[[Any], None]] = {
            LeaseGranted: self.on_granted,
            CapacityWanted: lambda message: self.on_hungry(message.hungry),
            DemandStuck: self.on_stuck,
            ActorChanged: self.on_actor_changed,
            WorkerDied: self.on_worker_died,
            WorkersDied: lambda message: self.on_workers_died(message.deaths),
            StoreTrim: self.on_store_trim,
            RoomWanted: self.on_room_wanted,
            SpillOrdered: self.on_spill_ordered,
            OrphansFound: self.on_orphans_found,
            LogLines: lambda message: self.on_log(message),
            EventsShipped: self.merge_events,
            EventsWanted: lambda message: self.ship_events(message.token),
            Shutdown: self._node_ended,
        }
        self.dispatch = {
            wire.REPLY: self.on_reply,
            wire.RETURNED: self.on_returned,
            wire.UNBLOCKED: self.on_unblocked,
            wire.OUTPUT: lambda peer, message: self.on_log(message[1]),
            wire.FETCH: self.on_fetch,
            wire.VALUE: self.on_value,
            wire.BORROW: self.on_borrow,
            wire.BORROWED: self.on_borrowed,
            wire.UNBORROW: self.on_unborrow,
            wire.FREE: self.on_free,
            wire.RELEASE: self.on_release,
            wire.ITEMS: self.on_items,
            wire.CANCEL: self.on_cancel,
            wire.LEAVING: self.on_leaving,
        }
        self.address = config.peer_socket(worker_id)
        self._listener: socket.socket | None = None
        self._unproven: dict[int, socket.socket] = {}
        self._node: Channel | None = None
        self._question: Channel | None = None
        self._ask_line: Callable[[], Channel]
        self._question_lock = threading.Lock()
        self.node_lost = ""
        self._nudge_armed = False

    # ---------------------------------------------------------------- joining
    def join(self, arena_fd: int | None = None) -> Welcome:
        """Connect to the node. A driver receives the arena's descriptor; a worker passes its own."""
        role = "driver" if self.is_driver else "worker"
        hello = Hello(role, self.worker_id, os.getpid(), self.address)
        self._listener = listen(self.address)
        self.loop.add_reader(self._listener.fileno(), self._accept)
        path, token = self.config.node_socket, self.config.token
        self._node = node = connect(path, token, hello)
        welcome, arena_fd = self._welcome(node, arena_fd)
        self._ask_line = lambda: connect(path, token, hello._replace(role=f"{role}-ask"))
        self._question = self._ask_line()
        self.node_pid = welcome.node_pid
        self.job_id = welcome.job_id
        self.cluster_resources = dict(welcome.cluster_resources)
        node.handler = self._on_node_message
        self.loop.add(node)
        arena = Arena(arena_fd, welcome.arena_bytes, self.worker_id, self._request_slab, self._return_slabs)
        # Goes with the arena and not at close(): a late writer must not meet its number in other use.
        weakref.finalize(arena, os.close, arena_fd).atexit = False
        self.store = StoreClient(
            arena,
            self.worker_id,
            self.config.inline_limit_bytes,
            lambda: self.ask_node("store"),
            self._collect,
            SpillFiles(self.config.spill_dir, self.worker_id, self.config.spill_disk_share),
        )
        self.begin_spilling()
        values.list_envelope = _list_envelope
        object_ref.core = self
        if self.is_driver:
            interrupts.wake_fd = self.loop.wake_fd
            self.loop.on_wake = self._on_wake
        self.loop.start_pump()
        return welcome

    def _welcome(self, node: Channel, arena_fd: int | None) -> tuple[Welcome, int]:
        node.sock.settimeout(10.0)
        try:
            if arena_fd is None:
                data, fds, _, _ = socket.recv_fds(node.sock, 65536, 1)
                if not fds:
                    raise RaySystemError("the node did not pass its shared memory")
                arena_fd = fds[0]
            else:
                data = node.sock.recv(65536)
        except TimeoutError:
            raise RaySystemError(
                "the node process does not answer; see logs/node.log in the session folder"
            ) from None
        finally:
            node.sock.setblocking(False)
        if not data:
            raise ConnectionRefused("the node closed the connection during the handshake")
        return pickle.loads(data[1:]), arena_fd

    def close(self) -> None:
        """Leave the cluster: sockets closed, the reference layer switched off."""
        self.closed = True  # first: who begins to wait from here on looks at it (`Waiting.future_of`)
        self.fail_awaited()
        if object_ref.core is self:
            object_ref.core = None
        interrupts.wake_fd = -1
        self.loop.stop()
        self.end_spilling()
        if hasattr(self, "store"):
            self.store.close()
        for sock in [*self._unproven.values(), self._listener]:
            if sock is not None:
                sock.close()
        for channel in (self._node, self._question):
            if channel is not None:
                channel.close()
        with contextlib.suppress(OSError):
            os.unlink(self.address)

    # ---------------------------------------------------------------- the node
    def tell_node(self, message: Any) -> None:
        """Send the node a message; nothing happens when it is gone."""
        node = self._node
        if node is not None and not node.closed:
            node.send(message)

    def ask_node(self, what: str, argument: Any = None) -> Any:
        """Ask the node a question. Raises: LocalRayletDiedError, RaySystemError with its complaint."""
        with self._question_lock:
            channel = self._question
            if channel is None or self.closed or self.node_lost:
                raise LocalRayletDiedError
            try:
                if channel.closed:
                    channel = self._question = self._ask_line()
                answer: Answer = channel.ask(Ask(what, argument), timeout_s=30.0)
            except (EOFError, OSError) as error:
                channel.close()
                raise LocalRayletDiedError from error
            except BaseException:  # a signal handler of the program's own raised: the answer would meet the next ask
                channel.close()
                raise
        if answer.error:
            raise RaySystemError(answer.error)
        return answer.value

    def _on_node_message(self, _: Channel, message: Any) -> None:
        handler = self.node_messages.get(type(message))
        if handler is not None:
            handler(message)

    def _node_ended(self, message: Shutdown) -> None:
        self.node_lost = message.reason or "the cluster was shut down"
        self._fail_everything()
        self.on_shutdown(self.node_lost)

    def fail_awaited(self) -> None:
        """Who waits for a future, not in `get`, would never hear that the cluster has ended."""
        for number, ref in list(self.table.items()):
            if ref.w and ref.task is not None:
                self.fail_task(number, LocalRayletDiedError("The cluster was shut down before the task had ended."))

    def _how_the_node_ended(self) -> str:
        return (
            f"{self.node_lost or 'the node process died'} (pid {self.node_pid}): every worker, actor and object of the "
            "session went with it. Call shutdown(), then init() again."
        )

    def _fail_everything(self) -> None:
        with self.flush_lock:
            for waiting in [*self.groups.values(), *self.actors.values()]:
                waiting.queue.clear()
        for number, ref in list(self.table.items()):
            if ref.task is not None:
                self.fail_task(number, LocalRayletDiedError(self._how_the_node_ended()))
        for peer in list(self.peers.values()):
            self.drop_holds(peer)

    # ---------------------------------------------------------------- peers
    def peer_for(self, worker_id: bytes) -> Peer:
        """The connection to a process, made now if need be. Raises: OSError when it is gone."""
        peer = self.peers.get(worker_id)
        if peer is not None:
            return peer
        if worker_id in self.deaths:
            raise ConnectionError(self.worker_end_text(worker_id))
        return self.attach(worker_id, self.config.peer_socket(worker_id), 0)

    def attach(self, worker_id: bytes, address: str, pid: int) -> Peer:
        """Like `peer_for`, with the address known."""
        peer = self.peers.get(worker_id)
        if peer is not None:
            peer.pid = peer.pid or pid
            return peer
        hello = Hello("peer", self.worker_id, os.getpid(), self.address)
        channel = connect(address, self.config.token, hello)
        return self._add_peer(worker_id, address, pid, channel)

    def _add_peer(self, worker_id: bytes, address: str, pid: int, channel: Channel) -> Peer:
        peer = Peer(worker_id, address, pid, channel)
        channel.tag = peer
        channel.handler = self._on_peer_message
        known = self.peers.setdefault(worker_id, peer)
        if known is not peer:
            # Both connected at the same time: handles are counted by process, not by connection.
            peer.holds, peer.fetching = known.holds, known.fetching
        self.loop.add(channel)
        return peer

    def _on_peer_message(self, channel: Channel, message: Any) -> None:
        handler = self.dispatch.get(message[0])
        if handler is not None:
            handler(channel.tag, message)

    def _accept(self) -> None:
        assert self._listener is not None
        while (sock := accept(self._listener)) is not None:
            self._unproven[sock.fileno()] = sock
            self.loop.add_reader(sock.fileno(), lambda sock=sock: self._prove(sock))  # type: ignore[misc]
            self.loop.call_later(5.0, lambda sock=sock: self._expire(sock))  # type: ignore[misc]

    def _prove(self, sock: socket.socket) -> None:
        fd = sock.fileno()
        try:
            channel = authenticate(sock, self.config.token)
        except ConnectionRefused:
            self.loop.remove_reader(fd)
            self._unproven.pop(fd, None)
            return
        if channel is None:
            return
        self.loop.remove_reader(fd)
        self._unproven.pop(fd, None)
        assert channel.peer is not None
        hello = channel.peer
        if hello.role == "observer":
            channel.handler = self.on_inspect
            self.loop.add(channel)
            return
        self._add_peer(hello.worker_id, hello.address, hello.pid, channel)

    def _expire(self, sock: socket.socket) -> None:
        fd = sock.fileno()
        if fd >= 0 and self._unproven.get(fd) is sock:  # half open: never said who it is
            self.loop.remove_reader(fd)
            del self._unproven[fd]
            sock.close()

    def _on_channel_end(self, channel: Channel) -> None:
        if channel is self._node:
            if not self.closed and not self.node_lost:
                self.node_lost = "the node process died"
                self._fail_everything()
                self.on_shutdown(self.node_lost)
            return
        if isinstance(channel.tag, Peer):
            self.on_peer_gone(channel.tag)

    # ---------------------------------------------------------------- duties
    def flush_all(self) -> None:
        """Send everything that is corked."""
        self.corked = False
        if self.node_lost:
            self._fail_everything()
        for group in list(self.groups.values()):
            if group.queue:
                self.flush(group)
        self.flush_actors()

    def _on_wake(self) -> None:
        """An interrupt was noted: if the main thread has not raised it in a tick, it will not by itself."""
        if interrupts.pending and not self._nudge_armed and threading.get_ident() != interrupts.main_ident:
            self._nudge_armed = True
            self.loop.call_later(TICK_S, self._nudge)

    def _nudge(self) -> None:
        self._nudge_armed = False
        interrupts.nudge()

    def _on_tick(self) -> bool:
        if self.node_lost:
            self._fail_everything()
        again = self.check_stalls()
        again = self.flush_actors() or again
        self._collect()
        return again

    def _collect(self) -> None:
        if self.dropped:
            self.send_drops()
        if self.abandoned:
            self.stop_abandoned()
        if self.store.ended:
            self.free_ended()
        self.store.readers.drain()
        self.store.files.unmap_ended()
        self.tell_spilled()

    # ---------------------------------------------------------------- functions
    def add_function(self, record: FunctionRecord) -> None:
        """Make a function known under its number."""
        self.functions[record.number] = record

    def warn(self, key: str, text: str) -> None:
        """A warning that teaches, once a key."""
        self.on_warning(key, text)

    # ---------------------------------------------------------------- store
    def _request_slab(self, size_bytes: int) -> tuple[int, int] | None:
        granted = self.ask_node("slab", size_bytes)
        return None if granted is None else (granted[0], granted[1])

    def _return_slabs(self, slabs: list[tuple[int, int]]) -> None:
        self.tell_node(SlabReturned(tuple(slabs)))


def _list_envelope(items: list[Any]) -> Any:
    """An exact list of one owner's references, wrapped; any other list as it is."""
    first = items[0]
    kind = type(first)
    if kind is not object_ref.ObjectRef and kind is not object_ref.BorrowedRef:
        return items
    owner = first.owner
    for item in items:
        if type(item) is not kind or item.owner != owner:
            return items
    return object_ref.RefListEnvelope(items)
