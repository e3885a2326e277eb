"""What does a core worker consist of? The tables that its parts share, declared in one place.

The parts (submission, replies, leases, actor calls, borrowing, waiting) are mixins over this state:
one object on the hot path costs one attribute load where composition costs two.

Locks: `flush_lock` guards queues and leases; the loop's leadership guards everything that applies
messages. Order: leadership, then flush_lock. `table` and the deques rely on single bytecode
operations.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from minray.base.config import SessionConfig
from minray.base.messages import Shape, WorkerDied
from minray.rpc.loop import Loop
from minray.worker.call_rules import RetryRules
from minray.worker.functions import FunctionRecord
from minray.worker.object_ref import ObjectRef
from minray.worker.peer import Peer
from minray.worker.recorder import Recorder
from minray.worker.state.habits import HabitWatch
from minray.worker.store import StoreClient


class Lease:
    """A worker that the node lent us for tasks of one shape."""

    __slots__ = (
        "group",
        "peer",
        "lease_id",
        "in_flight",
        "estimate_us",
        "batches",
        "head_left",
        "returned",
        "blocked",
        "draining",
        "granted_s",
        "progress_s",
        "asked_back",
        "retired",
    )

    def __init__(self, group: TaskGroup, peer: Peer, lease_id: int, now: float) -> None:
        self.group = group
        self.peer = peer
        self.lease_id = lease_id
        self.in_flight = 0
        self.estimate_us = 0.0
        self.batches: deque[list[Any]] = deque()  # what was sent, oldest first (for its death)
        self.head_left = 0  # tasks of the first batch not answered yet
        self.returned: set[int] = set()  # taken back from it
        self.blocked = False
        self.draining = False
        self.granted_s = now
        self.progress_s = now
        self.asked_back = False
        self.retired = False  # its worker ends after what runs there now (`max_calls`)


class TaskGroup:
    """The queue of one resource shape and the workers leased for it.

    Keyed by shape, never by function: two functions with leases of their own deadlock each other.
    """

    __slots__ = (
        "shape",
        "queue",
        "leases",
        "average_us",
        "wanted",
        "last_flush_s",
        "max_leases",
        "stuck",
        "is_actor",
        "environment",
    )

    def __init__(self, shape: Shape, max_leases: int) -> None:
        self.shape = shape
        self.queue: deque[tuple[int, Any, Any]] = deque()
        self.leases: list[Lease] = []
        self.average_us: dict[int, float] = {}  # per function: moving average of its run time
        self.wanted = 0
        self.last_flush_s = 0.0
        self.max_leases = max_leases
        self.stuck: str = ""
        self.is_actor = False
        self.environment: Any = None  # what a worker must set up for these tasks (a prepared runtime_env)


class CoreState:
    """Shared state of the mixins; see the module's head."""

    config: SessionConfig
    worker_id: bytes
    is_driver: bool
    job_id: int
    loop: Loop
    store: StoreClient
    recorder: Recorder | None
    cluster_resources: dict[str, float]

    def __init__(self) -> None:
        self.numbers = itertools.count(1)
        self.table: dict[int, ObjectRef[Any]] = {}  # own objects that are pending or known elsewhere
        self.held: dict[int, tuple[Any, ...]] = {}  # task -> what its arguments keep alive
        self.multi: dict[int, list[ObjectRef[Any]]] = {}  # task -> its further return values
        self.handing_out: dict[int, Any] = {}  # the same, until `.remote()` has returned them
        self.streams: dict[int, Any] = {}  # task -> Stream, of the generators under way
        self.attempts: dict[int, int] = {}
        self.call_rules = RetryRules()
        self.cancelled: dict[int, bool] = {}  # task -> by force; forgotten now and then, never reused
        self.revoked: set[int] = set()  # actor calls that were sent and then cancelled
        self.unready: dict[int, list[Any]] = {}  # task -> [(argument not ready, its callback), ...]
        self.untold: set[Any] = set()  # contexts of tasks here that are cancelled and do not know it yet
        self.child_of: dict[int, Any] = {}  # task -> context of the concurrent actor's call that made it
        self.errors: dict[int, str] = {}  # task -> one line, for the events
        self.functions: dict[int, FunctionRecord] = {}
        self.groups: dict[Shape, TaskGroup] = {}
        self.peers: dict[bytes, Peer] = {}
        self.leases_by_id: dict[int, Lease] = {}
        self.actors: dict[bytes, Any] = {}
        self.dropped: deque[tuple[bytes, int]] = deque()  # borrowed handles that died
        self.deaths: dict[bytes, WorkerDied] = {}
        self.awaiting_cause: dict[bytes, list[Any]] = {}
        self.hungry = False
        self.corked = False  # something may wait in a queue for its flush
        self.flush_lock = threading.RLock()
        self.waiter_lock = threading.Lock()
        self.dispatch: dict[int, Callable[[Peer, Any], None]] = {}
        self.closed = False
        self._parent: Any = None  # the task context of the last submission
        self._first_child = 0  # the first number that it submitted
        self.executor: Any = None
        self.habits = HabitWatch()
        self.environment: Mapping[str, Any] = {}  # the runtime_env that this worker serves, beyond the job's

    if TYPE_CHECKING:  # what one part offers to the others; each is defined in exactly one of them

        def peer_for(self, worker_id: bytes) -> Peer: ...
        def attach(self, worker_id: bytes, address: str, pid: int) -> Peer: ...
        def flush(self, group: TaskGroup) -> None: ...
        def kick(self, group: TaskGroup, now: float) -> None: ...
        def complete(self, number: int, state: int, value: Any) -> None: ...
        def fail_task(self, number: int, error: BaseException, outcome: str = ...) -> None: ...
        def end_cancelled(self, number: int, how: str = ...) -> None: ...
        def forget_children(self) -> None: ...
        def revoke_answers(self, peer: Peer, message: Any) -> Any: ...
        def refused_calls(self, calls: Any, numbers: Any) -> None: ...
        def task_lost(
            self, task: Any, requeue: Callable[[Any], None], error: Callable[[], BaseException]
        ) -> None: ...
        def tell_node(self, message: Any) -> None: ...
        def warn(self, key: str, text: str) -> None: ...
        def ask_node(self, what: str, argument: Any = None) -> Any: ...
        def pin(self, part: Any) -> None: ...
        def unpin(self, part: Any) -> None: ...
        def note_end(self, ended: Any) -> None: ...
        def note_events_of_dead(self, died: WorkerDied) -> None: ...
        def note_stored(self, ref: ObjectRef[Any], form: Any, kind: str) -> None: ...
        def note_freed(self, number: int, size: int) -> None: ...
        def note_borrowed(self, peer: Peer, ref: ObjectRef[Any]) -> None: ...
        def note_returned(self, peer: Peer, ref: ObjectRef[Any] | None) -> None: ...
        def open_block(self, ref: Any, stored: Any, holder: Any, known: Any) -> tuple[Any, list[Any]]: ...
        def error_of(self, ref: Any) -> BaseException: ...
        def _step(self, ref: Any, deadline: float | None) -> None: ...
        def _collect(self) -> None: ...
        def clear_after(self, worker_id: bytes) -> None: ...
        def on_ready(self, ref: ObjectRef[Any], callback: Callable[[], Any]) -> None: ...
        def fetch(self, ref: Any) -> None: ...
        def note_parent(self, number: int) -> None: ...
        def _give_back(self, lease: Lease, broken: bool = False) -> None: ...
        def _lease_idle(self, lease: Lease) -> None: ...
        def _count_retry(self, number: int, name: str, reason: str) -> None: ...
        def _settle(self, ref: ObjectRef[Any], state: int, value: Any) -> None: ...
        def when_cause_known(self, worker_id: bytes, then: Callable[[], None]) -> None: ...
        def fetch_all(self, refs: Any) -> None: ...
        def attempts_of(self, numbers: Any) -> dict[int, int]: ...
        def pack(self, args: Any, kwargs: Any, returns: Any) -> Any: ...
        def adopt(self, form: Any, refs: Any, ref: Any, kind: str = ...) -> ObjectRef[Any]: ...
        def accept_form(self, peer: Peer | None, state: int, form: Any, owner_ref: Any) -> Any: ...
        def drop_holds(self, peer: Peer) -> None: ...
        def free_ended(self) -> None: ...
        def flush_all(self) -> None: ...
        def actor_lost(self, peer: Peer) -> None: ...
        def resume_lost(self, worker_id: bytes) -> None: ...
        def worker_end_text(self, worker_id: bytes) -> str: ...
        def value_of(self, ref: ObjectRef[Any]) -> Any: ...
        def register_borrows(self, made: list[Any], anchor: Any, via: Peer | None) -> list[int]: ...
        def _export(self, peer: Peer, function: int) -> None: ...
        def _send_frames(self, peer: Peer, batch: list[Any]) -> None: ...
        def _note_dispatch(self, peer: Peer, batch: list[Any], functions: set[Any], actor: Any) -> None: ...
        def _register(self, *arguments: Any) -> None: ...
        def when_ready(self, ref: Any, payload: Any, dependencies: Any, send: Any) -> None: ...
        def returned_refs(self, ref: Any, returns: Any) -> Any: ...
        def send_tasks(self, lease: Lease, batch: list[Any]) -> None: ...
        def _demand(self, group: TaskGroup) -> None: ...
        def open_stream(self, ref: ObjectRef[Any], rules: Any) -> Any: ...
        def generated(self, peer: Peer, ref: ObjectRef[Any], state: int, form: Any) -> None: ...
        def replayed(self, task: Any) -> Any: ...
        def stop_abandoned(self) -> None: ...
        def _get_pending(self, refs: Any, timeout_s: float | None) -> None: ...
        def _watch(self, ref: Any, done: Callable[[], None]) -> None: ...
        def _glance(self) -> None: ...
        def _stalled(self, lease: Lease) -> bool: ...
