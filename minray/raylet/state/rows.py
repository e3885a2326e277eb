"""What would somebody see who looks at the raylet now? Plain rows for the state API and the views."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minray.base.resources import amounts_of

if TYPE_CHECKING:
    from minray.raylet.state.leases import LeaseTable


def worker_rows(table: LeaseTable, now_s: float) -> list[dict[str, Any]]:
    """One row a worker process."""
    return [
        {
            "worker_id": worker.worker_id.hex(),
            "pid": worker.pid,
            "state": worker.state,
            "for_s": now_s - worker.since_s,
            "age_s": now_s - worker.started_s,
            "lease_id": worker.lease_id,
            "blocked": bool(worker.blocked),
            "environment": worker.environment,
        }
        for worker in table.pool.workers.values()
    ]


def lease_rows(table: LeaseTable) -> list[dict[str, Any]]:
    """One row a lease, the workers of actors included."""
    return [
        {
            "lease_id": lease.lease_id,
            "client_id": lease.client_id.hex(),
            "worker_id": lease.worker_id.hex(),
            "pid": table.pool.workers[lease.worker_id].pid,
            "resources": amounts_of(lease.shape),
            "gpu_ids": [gpu for gpu, _ in lease.gpus],
            "actor_id": lease.placement.actor_id.hex() if lease.placement is not None else "",
        }
        for lease in table.leases.values()
    ]


def demand_rows(table: LeaseTable, now_s: float) -> list[dict[str, Any]]:
    """One row for each shape that a client waits for."""
    return [
        {
            "client_id": waiting.client_id.hex(),
            "resources": amounts_of(shape),
            "leases_wanted": waiting.tasks,
            "actors_waiting": [placement.label for placement in waiting.placements],
            "waiting_s": now_s - waiting.since_s,
            "stuck": waiting.reported,
        }
        for shape, queue in table.demand.queues.items()
        for waiting in queue.clients.values()
    ]
