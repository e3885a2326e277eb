"""What do processes say to their node, off the hot path?

Every driver and worker keeps one framed connection to its node process (raylet and GCS in one
process on a single machine). The messages on it are the NamedTuples below, pickled; the class is
the kind. Facts are in the past tense, orders in the imperative. Calls never pass here: a task costs
one frame from its owner to a leased worker and one frame back (`minray.worker.wire`).

    client ──LeaseDemand──► node ──LeaseGranted──► client ──tasks──► worker (direct)
    client ──LeaseReturned─► node
    client ──CreateActor──► node ──BecomeActor──► worker ──ActorReady──► node ──ActorChanged──► watchers

A *client* is a driver or a worker. Ids are raw bytes: worker and owner ids 16, actor ids 16,
node ids 28. Resource amounts travel as a `Shape`: sorted (name, amount) pairs, amounts in
ten-thousandths, so that equal requests are equal keys.
"""

from __future__ import annotations

from typing import Any, NamedTuple

Shape = tuple[tuple[str, int], ...]
"""Sorted ((name, ten-thousandths), ...). Names: "CPU", "GPU", "memory" (bytes), custom ones."""


# --- the handshake: the first packet is TOKEN (32 raw bytes) + pickle(Hello) --------------------
class Hello(NamedTuple):
    """Who connects. The receiver compares the token before it unpickles this."""

    role: str  # "driver" | "worker", with "-ask" for its second connection | "peer" (client to client) | "observer"
    worker_id: bytes
    pid: int
    address: str  # path of the socket on which this process listens for peers


class Welcome(NamedTuple):
    """The node accepts a client. A driver gets the arena's descriptor beside it (SCM_RIGHTS)."""

    node_id: bytes
    job_id: int  # 1, 2, ... per driver; a worker gets 0
    node_pid: int
    zygote_pid: int
    cluster_resources: dict[str, float]
    arena_bytes: int


# --- leases -----------------------------------------------------------------------------------
class LeaseDemand(NamedTuple):
    """client -> node: beyond the leases that I hold for `shape`, I want `wanted` more (absolute)."""

    shape: Shape
    wanted: int


class LeaseGranted(NamedTuple):
    """node -> client: `worker_id` is yours for tasks of `shape` until you return the lease."""

    shape: Shape
    lease_id: int
    worker_id: bytes
    address: str
    pid: int
    gpu_ids: tuple[int, ...]


class LeaseReturned(NamedTuple):
    """client -> node: the lease is given back; nothing of mine runs there.

    `broken`: kill the worker. `retired`: it ends by itself (`max_calls`), lend it to nobody.
    """

    lease_id: int
    broken: bool = False
    retired: bool = False


class CapacityWanted(NamedTuple):
    """node -> every client with leases: others wait (`hungry`) or no longer do.

    While hungry, a client returns idle leases at once, and drains and returns a busy lease that it
    has held for more than 500 ms.
    """

    hungry: bool


class WorkerBlocked(NamedTuple):
    """worker -> node: my task (or actor call) waits in get/wait: lend my CPU to others."""


class WorkerUnblocked(NamedTuple):
    """worker -> node: it runs on; the CPU is mine again (the node may be over-subscribed a while)."""


class DemandStuck(NamedTuple):
    """node -> client, about 2 s after a demand that cannot be met. Repeated only if `reason` changes.

    `infeasible`: no node could ever serve it (reason says what is missing, what there is). Otherwise
    the resources exist but are all held (reason names who holds them). `refused`: the node gives up
    (too many blocked workers for the memory); the client fails the queued tasks of the shape.
    """

    shape: Shape
    reason: str
    infeasible: bool
    refused: bool


class RetireWorker(NamedTuple):
    """node -> worker that has been idle long: exit (code 0), unless others still want your objects."""


class RetireRefused(NamedTuple):
    """worker -> node: I own objects that others refer to. The node asks again after a while."""


# --- actors -----------------------------------------------------------------------------------
class CreateActor(NamedTuple):
    """client -> node. A named actor asks by `Ask("create_actor", CreateActor)` to learn of conflicts.

    `placement` must be free for the start (default 1 CPU); `held` is kept while it lives (default
    none). `spec` is opaque to the node and handed to the worker (class, arguments, options); b"" while
    the constructor's arguments are not ready: it is known, with its name, and built when they are.
    """

    actor_id: bytes
    class_name: str
    name: str  # "" when unnamed
    namespace: str
    detached: bool
    placement: Shape
    held: Shape
    max_restarts: int  # -1: for ever
    handle_info: bytes  # opaque: what get_actor needs to build a handle (class, methods, owner)
    spec: bytes


class ModulesWanted(NamedTuple):
    """client -> node: workers to come will use these modules of ours; imported once, before they are forked."""

    modules: tuple[str, ...]


class ActorArguments(NamedTuple):
    """owner -> node: the constructor's arguments are ready, here is its `spec`; or they failed with `error`."""

    actor_id: bytes
    spec: bytes
    error: bytes


class BecomeActor(NamedTuple):
    """node -> worker: construct this actor and serve its calls. `incarnation` counts from 0."""

    actor_id: bytes
    incarnation: int
    spec: bytes
    gpu_ids: tuple[int, ...]


class ActorReady(NamedTuple):
    """worker -> node: the constructor returned."""

    actor_id: bytes


class ActorInitFailed(NamedTuple):
    """worker -> node: the constructor raised; `error` is opaque (a pickled exception)."""

    actor_id: bytes
    error: bytes


class ActorExiting(NamedTuple):
    """worker -> node: a deliberate end (exit_actor, out of scope): no restart follows."""

    actor_id: bytes
    reason: str


class ActorOutOfScope(NamedTuple):
    """owner -> node: the last handle is gone; let queued calls finish (`DrainActor`), then end."""

    actor_id: bytes


class DrainActor(NamedTuple):
    """node -> worker: finish what has arrived, then exit (the worker sends ActorExiting)."""

    actor_id: bytes


class KillActor(NamedTuple):
    """client -> node: `kill(handle, no_restart=...)`: SIGKILL, at once."""

    actor_id: bytes
    no_restart: bool


class WatchActor(NamedTuple):
    """client -> node: tell me ActorChanged now and at each change until it is dead."""

    actor_id: bytes


class ActorChanged(NamedTuple):
    """node -> watchers. state: "pending" | "alive" | "restarting" | "dead".

    `cause` (dead, restarting) is a sentence with class, pid, exit code or signal and the last log
    lines. `error` is the opaque pickled exception of a failed constructor, else b"".
    """

    actor_id: bytes
    state: str
    worker_id: bytes
    address: str
    pid: int
    incarnation: int
    cause: str
    error: bytes
    no_restart_by_kill: bool


# --- deaths, logs, events ---------------------------------------------------------------------
class WorkerDied(NamedTuple):
    """node -> every client. exit_code is None when unknown; signal 0 when none."""

    worker_id: bytes
    pid: int
    exit_code: int | None
    signal: int
    reason: str  # one sentence: what is known of the cause, with the last log lines
    submitted: bool = False  # it asked for workers or actors: there were tasks of its own


class WorkersDied(NamedTuple):
    """node -> every client: several that died within moments."""

    deaths: tuple[WorkerDied, ...]


class LogLines(NamedTuple):
    """client -> client or node -> drivers: output of `label` ("f", "Counter.add", ...)."""

    label: str
    pid: int
    is_stderr: bool
    lines: tuple[str, ...]


class EventsShipped(NamedTuple):
    """client -> node -> drivers: a batch of `minray.base.events` records, pickled.

    `sequence` counts the batches of a worker from 1, so that a gap shows. `token`: with the last batch of
    an answer, the one of its EventsWanted; -1 with the last batch that the worker will ever send; else 0.
    """

    worker_id: bytes
    batch: bytes
    sequence: int
    token: int


class EventsWanted(NamedTuple):
    """driver -> node -> workers: somebody reads; ship what was recorded since you last did.

    Events are kept where they happened until then: shipping them unasked would cost every nested
    task ten times its recording.
    """

    token: int = 0


class Shutdown(NamedTuple):
    """node -> client: the cluster ends; a worker exits at once."""

    reason: str


# --- object store -----------------------------------------------------------------------------
class SlabReturned(NamedTuple):
    """client -> node: whole slabs that hold no live block any more: (offset, size) each."""

    slabs: tuple[tuple[int, int], ...]


class OrphansFound(NamedTuple):
    """node -> owner: blocks (offset, mark) of yours whose allocator died; which of them do you not know?"""

    allocator: bytes
    blocks: tuple[tuple[int, int], ...]


class OrphansFreed(NamedTuple):
    """client -> node: blocks (offset, mark) whose allocator died and whose owner is done."""

    blocks: tuple[tuple[int, int], ...]


class StoreTrim(NamedTuple):
    """node -> every client: return empty slabs now, somebody needs `size_bytes`.

    `dead`: who died since the last one; blocks that you allocated for them can go.
    """

    size_bytes: int
    dead: tuple[bytes, ...] = ()


class RoomWanted(NamedTuple):
    """node -> every client: trim (unless you are the only requester), then say what could be spilled.

    `in_pieces`: offer everything, not only the oldest.
    """

    number: int
    amount_bytes: int
    in_pieces: bool
    requesters: tuple[bytes, ...]


class RoomOffered(NamedTuple):
    """client -> node: own objects that nobody reads: (start of the block, its bytes, last use) each.

    `live`: (slab offset, bytes of live blocks) of its slabs that hold any.
    """

    number: int
    candidates: tuple[tuple[int, int, float], ...]
    live: tuple[tuple[int, int], ...]


class SpillOrdered(NamedTuple):
    """node -> owner: write these (starts of blocks) to disk and free them."""

    number: int
    starts: tuple[int, ...]
    requesters: tuple[bytes, ...]


class ObjectsSpilled(NamedTuple):
    """owner -> node: the order is done. `error`: why some could not be written, a sentence."""

    number: int
    freed_bytes: int
    error: str


class SpillCounted(NamedTuple):
    """client -> node: what it has spilled and restored so far, and what of its objects lies on disk now."""

    spilled_objects: int
    spilled_bytes: int
    restored_objects: int
    restored_bytes: int
    disk_bytes: int


# --- synchronous questions: a second connection, one question in flight, always answered at once --
class Ask(NamedTuple):
    """client -> node. what/argument -> Answer.value:

    "slab", size_bytes            -> (offset, size), or None when the store is full (StoreTrim went out)
    "create_actor", CreateActor   -> "" or the conflict, a sentence (ValueError at the caller)
    "actor_by_name", (name, namespace) -> (actor_id, handle_info) | None
    "named_actors", namespace|None     -> list[(name, namespace)]; None: all namespaces
    "actor_info", actor_id        -> ActorChanged
    "cluster_resources", None     -> dict[str, float]
    "available_resources", None   -> dict[str, float]
    "nodes", None                 -> list[dict] with Ray's keys (NodeID, Alive, Resources, ...)
    "state", None                 -> dict: workers, leases, actors, demands, jobs (rows as dicts)
    "store", None                 -> dict: capacity_bytes, granted_bytes, clients {worker_id: bytes}, and what
                                     was spilled: spilled_objects, spilled_bytes, restored_objects, ...
    "room", (size_bytes, in_pieces)    -> number of the round that makes room
    "room_outcome", number        -> None while it lasts, then (freed_bytes, error)
    "kv_put", (key, value[, overwrite]) -> bool: the key is new; an existing one stays unless overwrite
    "kv_get", key                 -> bytes | None
    "kv_del", key                 -> bool: there was such a key
    "kv_keys", prefix             -> list[bytes]
    """

    what: str
    argument: Any


class Answer(NamedTuple):
    """node -> client. `error` is "" or a sentence."""

    value: Any
    error: str
