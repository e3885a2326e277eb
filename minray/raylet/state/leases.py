"""Leases: which client may use which worker, and what does that cost?

A client says how many workers of a shape it wants beyond those that it has (`LeaseDemand`); the
table grants them one by one while resources and an idle worker are there, and asks for workers
while resources are there but no worker is. Actors wait in the same queues for the start (their
*placement*) and keep a smaller part (*held*) once their constructor has returned.

    demand ──resources and worker──► lease ──returned──► worker idle, resources back
                                       │ blocked in get: its CPU (nothing else) is lent to others
                                       └ worker or client died: worker gone, resources back

A task that wakes from get takes its CPU back at once, even if that over-subscribes the node for a
while: `available` may be negative inside, and nothing is granted from it until it is positive.

Events are methods; they change rows only. `settle` then decides and returns the commands. Pure: time
comes in as an argument. Lease stealing between nodes and placement groups are not here yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from minray.base.messages import CapacityWanted, LeaseGranted, LeaseReturned, Shape
from minray.base.resources import GpuSet, ResourceSet, environment_of
from minray.raylet.state import stuck
from minray.raylet.state.commands import (
    ActorPlaced,
    AskToRetire,
    Command,
    KillWorker,
    PlacementRefused,
    Send,
    StartWorkers,
)
from minray.raylet.state.demand import Demand, Placement
from minray.raylet.state.workers import Worker, WorkerPool

ACTOR_PREFETCH = 8
"""Workers started ahead while actors are constructed one after the other (the CPU is the queue)."""
START_BURST_MIN = 8
START_PAUSE_S = 1.0
START_FAILURES_BEFORE_PAUSE = 3


class Lease:
    """A worker in use, by a client's tasks or as an actor."""

    __slots__ = ("lease_id", "client_id", "shape", "worker_id", "gpus", "placement", "settled")

    def __init__(
        self, lease_id: int, client_id: bytes, shape: Shape, worker_id: bytes, placement: Placement | None
    ) -> None:
        self.lease_id = lease_id
        self.client_id = client_id
        self.shape = shape  # what it holds now
        self.worker_id = worker_id
        self.gpus: tuple[tuple[int, int], ...] = ()
        self.placement = placement  # None: tasks
        self.settled = placement is None  # an actor settles when its constructor returned


class LeaseTable:
    """All leases of a node. Not thread-safe: the node's loop owns it."""

    def __init__(
        self,
        capacity: Shape,
        *,
        max_workers: int,
        prestart: int,
        idle_worker_s: float,
        new_worker_id: Callable[[], bytes],
    ) -> None:
        self.capacity = ResourceSet(capacity)
        self.available = ResourceSet(capacity)
        self.gpus = GpuSet(self.capacity.get("GPU"))
        self.max_workers = max_workers
        self.pool = WorkerPool(idle_worker_s)
        self.demand = Demand()
        self.leases: dict[int, Lease] = {}
        self.clients: dict[bytes, dict[Shape, int]] = {}  # leases (not actors) by shape
        self.by_actor: dict[bytes, Lease] = {}
        self.start_failures = 0
        self.start_error = ""
        self._new_worker_id = new_worker_id
        self._prestart = prestart
        self._next_lease_id = 1
        self._blocks = 0
        self._crowd = 4 + 2 * self.capacity.get("CPU") // 10_000
        self._constructing = 0  # actors that are placed and not settled
        self._hungry: set[bytes] = set()
        self._reserved: Shape | None = None
        self._reserved_until_s = 0.0
        self._paused_until_s = stuck.NEVER  # NEVER: starting workers is not paused
        self._out: list[Command] = []

    # -------------------------------------------------------------------------- events: clients
    def client_joined(self, client_id: bytes) -> None:
        """A driver or worker connected."""
        self.clients.setdefault(client_id, {})

    def client_gone(self, client_id: bytes, who: str, now_s: float) -> None:
        """Its process died. What it leased may be running its tasks: those workers go with it."""
        self.clients.pop(client_id, None)
        self._hungry.discard(client_id)
        self.demand.forget_client(client_id)
        for lease in list(self.leases.values()):
            if lease.client_id == client_id and lease.placement is None:
                lease.client_id = b""  # nobody's, until its worker is really gone
                self._kill(lease.worker_id, f"its owner, {who}, ended", now_s)

    def has_leases(self, client_id: bytes) -> bool:
        """Whether tasks of the client may be under way."""
        return any(lease.client_id == client_id for lease in self.leases.values())

    def demand_changed(self, client_id: bytes, shape: Shape, wanted: int, now_s: float) -> None:
        """LeaseDemand. Late words of the dead are ignored."""
        if client_id in self.clients:
            self.demand.set_tasks(client_id, shape, wanted, now_s)

    def lease_returned(self, client_id: bytes, returned: LeaseReturned, now_s: float) -> None:
        """An unknown lease is one whose worker died at the same time."""
        lease = self.leases.get(returned.lease_id)
        if lease is None or lease.client_id != client_id or lease.placement is not None:
            return
        worker = self.pool.workers[lease.worker_id]
        if returned.broken:
            self._kill(lease.worker_id, "its owner gave it up", now_s)
        elif worker.state == "leased":
            self._end(lease, worker)
            self.pool.release(worker, now_s)
            if returned.retired:
                self.pool.doom(worker, now_s)

    # --------------------------------------------------------------------------- events: actors
    def placement_wanted(self, client_id: bytes, shape: Shape, placement: Placement, now_s: float) -> None:
        """An actor waits for `shape` and a worker."""
        self.demand.add_placement(client_id, shape, placement, now_s)

    def placement_dropped(self, actor_id: bytes) -> None:
        """It need not be placed any more."""
        self.demand.drop_placement(actor_id)

    def actor_settled(self, actor_id: bytes) -> None:
        """Its constructor returned: what was only for the start is free again."""
        lease = self.by_actor.get(actor_id)
        if lease is None or lease.settled:
            return
        assert lease.placement is not None
        lease.settled = True
        self._constructing -= 1
        worker = self.pool.workers[lease.worker_id]
        self._return_resources(lease, worker)
        lease.shape = lease.placement.held
        self.available.subtract(lease.shape)
        # The visible ids were told to the process already: keep as many of them as it holds.
        kept, wanted = [], dict(lease.shape).get("GPU", 0)
        for gpu, amount in lease.gpus:
            share = min(amount, wanted)
            wanted -= share
            if share:
                self.gpus.free[gpu] -= share
                kept.append((gpu, share))
        lease.gpus = tuple(kept)
        if worker.blocked:
            self._lend(lease, worker)

    # -------------------------------------------------------------------------- events: workers
    def prestart(self, now_s: float) -> None:
        """The node begins: have the first workers ready before anybody asks."""
        self._order(min(self._prestart, self.max_workers), now_s)

    def worker_connected(self, worker_id: bytes, pid: int, address: str, now_s: float) -> bool:
        """It said hello. False: not ours, refuse it."""
        if not self.pool.connected(worker_id, pid, address, now_s):
            return False
        self.start_failures = 0
        return True

    def worker_lost(self, worker_id: bytes, now_s: float) -> None:
        """Its connection ended; its death will be reported. No more grants meanwhile."""
        worker = self.pool.get(worker_id)
        if worker is not None and worker.state != "doomed":
            self.pool.doom(worker, now_s)

    def worker_died(self, worker_id: bytes, story: str, now_s: float, one_of_many: bool = False) -> bool:
        """Its process is gone. Returns whether anybody may have heard of it. one_of_many: its end has been counted
        already (workers that never started because the zygote died are one failure to start, however many)."""
        worker = self.pool.died(worker_id)
        if worker is None:
            return False
        if worker.state == "starting" and not one_of_many:
            self.start_failures += 1
            self.start_error = story
            if self.start_failures >= START_FAILURES_BEFORE_PAUSE:
                self._paused_until_s = now_s + START_PAUSE_S
        lease = self.leases.get(worker.lease_id)
        if lease is not None:
            self._end(lease, worker)
        return worker.used

    def kill_worker(self, worker_id: bytes, reason: str, now_s: float) -> None:
        """Somebody outside (the actor table) wants it dead."""
        self._kill(worker_id, reason, now_s)

    def retire_refused(self, worker_id: bytes, now_s: float) -> None:
        """An idle worker stays: its objects are still wanted."""
        self.pool.retire_refused(worker_id, now_s)

    def worker_blocked(self, worker_id: bytes) -> None:
        """Its task waits in get: lend its CPU. Memory, GPUs and custom resources stay in use."""
        worker = self.pool.get(worker_id)
        if worker is None or worker.blocked or worker.state not in ("leased", "actor"):
            return
        self._blocks += 1
        worker.blocked = self._blocks
        self._lend(self.leases[worker.lease_id], worker)

    def worker_unblocked(self, worker_id: bytes) -> None:
        """It runs on, and its CPU is in use again, if need be beyond what there is."""
        worker = self.pool.get(worker_id)
        if worker is not None and worker.blocked:
            self.available.subtract((("CPU", worker.lent_cpu),))
            worker.blocked = worker.lent_cpu = 0

    # ------------------------------------------------------------------------------- bookkeeping
    def _lend(self, lease: Lease, worker: Worker) -> None:
        worker.lent_cpu = dict(lease.shape).get("CPU", 0)
        self.available.add((("CPU", worker.lent_cpu),))

    def _return_resources(self, lease: Lease, worker: Worker) -> None:
        self.available.add(lease.shape)
        self.available.subtract((("CPU", worker.lent_cpu),))  # that part was back already
        worker.lent_cpu = 0
        self.gpus.give_back(lease.gpus)

    def _end(self, lease: Lease, worker: Worker) -> None:
        self._return_resources(lease, worker)
        worker.blocked = 0
        del self.leases[lease.lease_id]
        if lease.placement is not None:
            del self.by_actor[lease.placement.actor_id]
            self._constructing -= not lease.settled
            return
        shapes = self.clients.get(lease.client_id)
        if shapes is not None:
            # An actor's settled lease changes shape, a task's never does: the key is still right.
            shapes[lease.shape] -= 1
            if not shapes[lease.shape]:
                del shapes[lease.shape]

    def _kill(self, worker_id: bytes, reason: str, now_s: float) -> None:
        worker = self.pool.get(worker_id)
        if worker is not None:
            if worker.state != "doomed":
                self.pool.doom(worker, now_s)
            self._out.append(KillWorker(worker_id, reason))

    # --------------------------------------------------------------------------------- decisions
    def settle(self, now_s: float) -> list[Command]:
        """Grant what can be granted, start what is missing, tell whom it concerns."""
        if self.demand:
            self._grant_all(now_s)
            self._start_missing(now_s)
        self._announce_hunger()
        out, self._out = self._out, []
        return out

    def tick(self, now_s: float) -> list[Command]:
        """Deadlines: idle workers, stuck demands, reservations. Then as `settle`."""
        self._out += [AskToRetire(worker.worker_id) for worker in self.pool.expire(now_s)]
        # Whatever next_deadline_s names must be gone after its time, or the node spins.
        if now_s >= self._paused_until_s:
            self._paused_until_s = stuck.NEVER
        if now_s >= self._reserved_until_s:
            self._reserved = None
        for queue in list(self.demand.queues.values()):
            for waiting in list(queue.clients.values()):
                if now_s >= stuck.check_time_s(waiting):
                    self._check_stuck(queue.shape, waiting.client_id, now_s)
        return self.settle(now_s)

    def next_deadline_s(self) -> float | None:
        """When `tick` has something to do; None: never, let the node sleep."""
        times = []
        pool_s = self.pool.next_deadline_s()
        if pool_s is not None:
            times.append(pool_s)
        queues = self.demand.queues
        for queue in queues.values():
            times += [stuck.check_time_s(waiting) for waiting in queue.clients.values()]
        if queues:
            times.append(self._paused_until_s)
        if self._reserved in queues and len(queues) > 1:
            times.append(self._reserved_until_s)
        earliest = min(times, default=stuck.NEVER)
        return None if earliest == stuck.NEVER else earliest

    def _check_stuck(self, shape: Shape, client_id: bytes, now_s: float) -> None:
        waiting = self.demand.queues[shape].clients[client_id]
        found = stuck.diagnose(self, shape)
        waiting.check_s = now_s + stuck.RECHECK_S
        if found is None:
            return
        if found.infeasible:
            waiting.check_s = stuck.NEVER  # capacity does not change
        if found.reason != waiting.reported:
            waiting.reported = found.reason
            self._out.append(Send(client_id, found))
        if found.refused:
            for placement in self.demand.refuse(shape, client_id):
                self._out.append(PlacementRefused(placement.actor_id, found.reason))

    # -- grants
    def _grant_all(self, now_s: float) -> None:
        pool, queues = self.pool, self.demand.queues
        progress = True
        while progress and pool.idle:
            progress = False
            reserved = self._reservation(now_s)
            for shape in list(queues):
                if not pool.idle:
                    break
                if self._fits_now(shape, reserved) and pool.has_idle(environment_of(shape)):
                    self._grant(shape, now_s)
                    progress = True

    def _fits_now(self, shape: Shape, reserved: Shape | None) -> bool:
        available = self.available.amounts
        kept = dict(reserved) if reserved is not None and reserved != shape else {}
        for name, amount in shape:
            if amount > available.get(name, 0) - kept.get(name, 0):
                return False
            if name == "GPU" and not self.gpus.fits(amount):
                return False
        return True

    def _grant(self, shape: Shape, now_s: float) -> None:
        client_id = self._next_client(shape)
        placement = self.demand.take(shape, client_id, now_s)
        lease_id, self._next_lease_id = self._next_lease_id, self._next_lease_id + 1
        worker = self.pool.take(now_s, lease_id, placement is not None, environment_of(shape))
        lease = self.leases[lease_id] = Lease(lease_id, client_id, shape, worker.worker_id, placement)
        self.available.subtract(shape)
        lease.gpus = self.gpus.take(dict(shape).get("GPU", 0))
        gpu_ids = tuple(gpu for gpu, _ in lease.gpus)
        if shape == self._reserved:
            self._reserved = None
        if placement is not None:
            self.by_actor[placement.actor_id] = lease
            self._constructing += 1
            self._out.append(
                ActorPlaced(placement.actor_id, worker.worker_id, worker.address, worker.pid, gpu_ids)
            )
            return
        shapes = self.clients[client_id]
        shapes[shape] = shapes.get(shape, 0) + 1
        granted = LeaseGranted(shape, lease_id, worker.worker_id, worker.address, worker.pid, gpu_ids)
        self._out.append(Send(client_id, granted))

    def _next_client(self, shape: Shape) -> bytes:
        """By turns; but once there are more workers than run, every other grant, and with more than half
        of the processes that memory allows, every grant, goes to the task that blocked last: recursion
        then goes deep before it goes wide, needs far fewer processes, and ends sooner."""
        processes = len(self.pool)
        deep = 2 * processes > self.max_workers
        if deep or (processes > self._crowd and self._next_lease_id % 2):
            rows = [self.pool.get(client_id) for client_id in self.demand.queues[shape].clients]
            blocked = [worker for worker in rows if worker is not None and worker.blocked]
            if blocked:
                return max(blocked, key=lambda worker: worker.blocked).worker_id
        return self.demand.next_client(shape)

    def _reservation(self, now_s: float) -> Shape | None:
        queues = self.demand.queues
        if self._reserved is not None and (self._reserved not in queues or now_s >= self._reserved_until_s):
            self._reserved = None
        if self._reserved is None and len(queues) > 1:
            reachable = stuck.without_permanent(self)
            late = [
                queue
                for queue in queues.values()
                if now_s >= queue.may_reserve_s
                and not self._fits_now(queue.shape, None)
                and reachable.fits(queue.shape)
            ]
            if late:
                queue = min(late, key=lambda queue: queue.since_s)
                self._reserved, self._reserved_until_s = queue.shape, now_s + queue.patience_s
                queue.may_reserve_s = self._reserved_until_s + 0.5
                queue.patience_s = min(2 * queue.patience_s, 60.0)
        return self._reserved

    # -- workers
    def _start_missing(self, now_s: float) -> None:
        if self._paused_until_s != stuck.NEVER:
            return
        left, gpus = self.available.copy(), self.gpus.copy()
        useful: dict[str, int] = {}  # workers that could run, by runtime environment
        ahead = 0
        for shape, queue in self.demand.queues.items():
            wanted = queue.total
            possible = left.times(shape, wanted)
            gpu_amount = dict(shape).get("GPU", 0)
            taken = 0
            while taken < possible and gpus.fits(gpu_amount):
                gpus.take(gpu_amount)
                left.subtract(shape)
                taken += 1
            environment = environment_of(shape)
            useful[environment] = useful.get(environment, 0) + taken
            if taken < wanted and self._constructing and self.capacity.fits(shape):
                ahead += sum(len(waiting.placements) for waiting in queue.clients.values())
        useful[""] = useful.get("", 0) + min(ahead, ACTOR_PREFETCH)
        burst = max(START_BURST_MIN, 2 * self.capacity.get("CPU") // 10_000)
        missing = min(self._lacking_workers(useful), burst) - self.pool.starting
        room = self.max_workers - len(self.pool)
        if missing > room:
            self._make_room(missing - room, useful, now_s)
        self._order(min(missing, room), now_s)

    def _lacking_workers(self, useful: dict[str, int]) -> int:
        """How many workers beyond the idle ones could run; one as forked can serve any environment."""
        idle: dict[str | None, int] = {}
        for worker in self.pool.idle:
            idle[worker.environment] = idle.get(worker.environment, 0) + 1
        lacking = sum(max(0, count - idle.get(environment, 0)) for environment, count in useful.items())
        return lacking - idle.get(None, 0)

    def _make_room(self, count: int, useful: dict[str, int], now_s: float) -> None:
        """As many processes as memory allows: idle ones of environments that nobody wants now may leave."""
        for worker in [worker for worker in self.pool.idle if not useful.get(worker.environment or "")][:count]:
            self.pool.retire(worker, now_s)
            self._out.append(AskToRetire(worker.worker_id))

    def _order(self, count: int, now_s: float) -> None:
        if count > 0:
            worker_ids = tuple(self._new_worker_id() for _ in range(count))
            self.pool.start(worker_ids, now_s)
            self._out.append(StartWorkers(worker_ids))

    # -- hunger
    def _announce_hunger(self) -> None:
        hungry = self._who_should_give() if self.demand else set()
        for client_id in hungry ^ self._hungry:
            if client_id in self.clients:
                self._out.append(Send(client_id, CapacityWanted(client_id in hungry)))
        self._hungry = hungry

    def _who_should_give(self) -> set[bytes]:
        """Clients that hold leases whose return would help somebody (or themselves, elsewhere)."""
        full = len(self.pool) >= self.max_workers and not self.pool.idle and not self.pool.starting
        unmet: list[tuple[Shape, frozenset[str], Iterable[bytes]]] = []
        for shape, queue in self.demand.queues.items():
            lacking = set(self.available.lacking(shape))
            if not self.gpus.fits(dict(shape).get("GPU", 0)):
                lacking.add("GPU")
            if (lacking or full) and self.capacity.fits(shape):
                unmet.append((shape, frozenset(lacking), queue.clients.keys()))
        return {
            client_id
            for client_id, shapes in self.clients.items()
            if any(
                (shape != held or any(other != client_id for other in waiting))
                and (full or any(name in lacking for name, _ in held))
                for held in shapes
                for shape, lacking, waiting in unmet
            )
        }

    # -------------------------------------------------------------------------------- reflection
    def check_invariants(self) -> None:
        """Assert that nothing is lost, counted twice, or promised twice."""
        self.pool.check_invariants()
        self.demand.check_invariants()
        expected, gpus = self.capacity.copy(), GpuSet(self.capacity.get("GPU"))
        counts: dict[bytes, dict[Shape, int]] = {client_id: {} for client_id in self.clients}
        for lease in self.leases.values():
            worker = self.pool.workers[lease.worker_id]
            assert worker.lease_id == lease.lease_id and worker.state in ("leased", "actor", "doomed")
            assert worker.lent_cpu == (dict(lease.shape).get("CPU", 0) if worker.blocked else 0)
            expected.subtract(lease.shape)
            expected.add((("CPU", worker.lent_cpu),))
            assert sum(amount for _, amount in lease.gpus) == dict(lease.shape).get("GPU", 0)
            for gpu, amount in lease.gpus:
                gpus.free[gpu] -= amount
            if lease.placement is None and lease.client_id in counts:
                mine = counts[lease.client_id]
                mine[lease.shape] = mine.get(lease.shape, 0) + 1
        assert counts == self.clients
        assert gpus.free == self.gpus.free and min(gpus.free, default=0) >= 0
        names = expected.amounts.keys() | self.available.amounts.keys()
        for name in names:
            assert expected.get(name) == self.available.get(name), name
            assert self.available.get(name) >= 0 or name == "CPU", name
        assert len([lease for lease in self.leases.values() if lease.placement]) == len(self.by_actor)
        assert self._constructing == sum(not lease.settled for lease in self.by_actor.values())
        assert self.pool.starting + len(self.pool.idle) <= self.max_workers
