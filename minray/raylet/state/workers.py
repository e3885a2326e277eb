"""Which worker processes exist, and which of them is free?

    starting ──connected──► idle ──take──► leased | actor ──release──► idle
                             │ ▲ refused                    (an actor's worker is never released: it dies)
                     idle too long
                             ▼ │
                          retiring ──exit──► gone          any ──doom──► doomed ──exit──► gone

The idle list is a stack: the worker used last is warm, and those below it grow old and are given
back. A worker serves one runtime environment from its first lease on, because a process cannot be made
as new. Retiring is a request: a worker whose objects are still wanted refuses. Pure: no clock, no forks.
"""

from __future__ import annotations

from collections.abc import Iterable

RETIRE_PATIENCE_S = 5.0
"""A worker that neither exits nor refuses after this long counts as idle again."""


class Worker:
    """One worker process."""

    __slots__ = (
        "worker_id", "state", "pid", "address", "since_s", "started_s", "lease_id", "blocked", "lent_cpu", "used",
        "environment",
    )  # fmt: skip

    def __init__(self, worker_id: bytes, now_s: float) -> None:
        self.worker_id = worker_id
        self.state = "starting"  # | "idle" | "leased" | "actor" | "retiring" | "doomed"
        self.pid = 0
        self.address = ""
        self.since_s = now_s  # of the present state
        self.started_s = now_s
        self.lease_id = 0
        self.used = False  # somebody may have heard of it
        self.blocked = 0  # its task waits in get: a number that grows from block to block, else 0
        self.lent_cpu = 0  # ten-thousandths of CPU lent to others meanwhile
        self.environment: str | None = None  # the runtime environment that it serves; None: as forked

    def __repr__(self) -> str:
        return f"<worker {self.worker_id.hex()[:8]} {self.state} pid={self.pid} lease={self.lease_id}>"


class WorkerPool:
    """Every worker that may still run. Not thread-safe: the node's loop owns it."""

    def __init__(self, idle_worker_s: float) -> None:
        self.idle_worker_s = idle_worker_s
        self.workers: dict[bytes, Worker] = {}
        self.idle: list[Worker] = []  # the last one was used last
        self.starting = 0
        self.retiring: set[Worker] = set()

    def __len__(self) -> int:
        return len(self.workers)

    def get(self, worker_id: bytes) -> Worker | None:
        """The worker, if it may still run."""
        return self.workers.get(worker_id)

    def start(self, worker_ids: Iterable[bytes], now_s: float) -> None:
        """These were ordered from the zygote."""
        for worker_id in worker_ids:
            assert worker_id not in self.workers
            self.workers[worker_id] = Worker(worker_id, now_s)
            self.starting += 1

    def connected(self, worker_id: bytes, pid: int, address: str, now_s: float) -> bool:
        """A started worker said hello. False when nobody ordered it (or it was doomed meanwhile)."""
        worker = self.workers.get(worker_id)
        if worker is None or worker.state != "starting":
            return False
        worker.pid, worker.address = pid, address
        self.starting -= 1
        self._become_idle(worker, now_s)
        return True

    def has_idle(self, environment: str) -> bool:
        """Whether an idle worker can serve that runtime environment."""
        return any(worker.environment in (None, environment) for worker in self.idle)

    def take(self, now_s: float, lease_id: int, is_actor: bool, environment: str = "") -> Worker:
        """The fitting idle worker that was used last, now leased. There must be one."""
        fitting = [worker for worker in self.idle if worker.environment in (None, environment)]
        worker = next((worker for worker in reversed(fitting) if worker.environment is not None), fitting[-1])
        self.idle.remove(worker)
        worker.environment = environment
        worker.state = "actor" if is_actor else "leased"
        worker.since_s = now_s
        worker.used = True
        worker.lease_id = lease_id
        return worker

    def release(self, worker: Worker, now_s: float) -> None:
        """Its lease ended and nothing runs there."""
        assert worker.state == "leased"
        worker.lease_id, worker.blocked, worker.lent_cpu = 0, 0, 0
        self._become_idle(worker, now_s)

    def _become_idle(self, worker: Worker, now_s: float) -> None:
        worker.state, worker.since_s = "idle", now_s
        self.idle.append(worker)

    def doom(self, worker: Worker, now_s: float) -> None:
        """It is being killed, or its connection ended: no more grants, we wait for its exit."""
        if worker.state == "idle":
            self.idle.remove(worker)
        elif worker.state == "starting":
            self.starting -= 1
        self.retiring.discard(worker)
        worker.state, worker.since_s = "doomed", now_s

    def died(self, worker_id: bytes) -> Worker | None:
        """Its process is gone. Returns the row as it was."""
        worker = self.workers.pop(worker_id, None)
        if worker is None:
            return None
        if worker.state == "idle":
            self.idle.remove(worker)
        elif worker.state == "starting":
            self.starting -= 1
        self.retiring.discard(worker)
        return worker

    def expire(self, now_s: float) -> list[Worker]:
        """Idle ones whose time is over become retiring; returns them. Deaf retiring ones become idle."""
        # Compared exactly as next_deadline_s computes: a rounding apart would be a busy loop.
        for worker in [w for w in self.retiring if w.since_s + RETIRE_PATIENCE_S <= now_s]:
            self._stays(worker, now_s)
        old = [worker for worker in self.idle if worker.since_s + self.idle_worker_s <= now_s]
        for worker in old:
            self.retire(worker, now_s)
        return old

    def retire(self, worker: Worker, now_s: float) -> None:
        """The idle worker is asked to leave."""
        self.idle.remove(worker)
        worker.state, worker.since_s = "retiring", now_s
        self.retiring.add(worker)

    def retire_refused(self, worker_id: bytes, now_s: float) -> None:
        """It holds objects that somebody still wants; it stays, and is asked again later."""
        worker = self.workers.get(worker_id)
        if worker is not None and worker.state == "retiring":
            self._stays(worker, now_s)

    def _stays(self, worker: Worker, now_s: float) -> None:
        self.retiring.remove(worker)
        worker.state, worker.since_s = "idle", now_s
        self.idle.insert(0, worker)  # used last, if at all

    def next_deadline_s(self) -> float | None:
        """When `expire` has something to do, None when never."""
        times = [worker.since_s + self.idle_worker_s for worker in self.idle]
        times += [worker.since_s + RETIRE_PATIENCE_S for worker in self.retiring]
        return min(times, default=None)

    def check_invariants(self) -> None:
        """Assert that the list and the count agree with the rows."""
        idle = [worker for worker in self.workers.values() if worker.state == "idle"]
        assert len(self.idle) == len(idle) and all(worker.state == "idle" for worker in self.idle)
        assert self.starting == sum(worker.state == "starting" for worker in self.workers.values())
        assert self.retiring == {worker for worker in self.workers.values() if worker.state == "retiring"}
        for worker in self.workers.values():
            assert (worker.lease_id != 0) or worker.state not in ("leased", "actor"), worker
            assert worker.lease_id == 0 or worker.state in ("leased", "actor", "doomed"), worker
            assert not worker.blocked or worker.lease_id, worker
            assert worker.lent_cpu == 0 or worker.blocked, worker
