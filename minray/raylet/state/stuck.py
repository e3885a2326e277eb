"""Why does nothing happen? The sentence that a waiting client gets after two seconds.

Three ways to wait in vain: the node never had as much (infeasible); it has, but actors and blocked
tasks hold it and nothing that runs will give it back; or no process is left to run it, because every
worker is blocked and the memory allows no more (refused). Plain queueing behind running tasks is
none of them and is not reported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minray.base.messages import DemandStuck, Shape
from minray.base.resources import GpuSet, ResourceSet, describe, missing_sentence

if TYPE_CHECKING:
    from minray.raylet.state.demand import Waiting
    from minray.raylet.state.leases import Lease, LeaseTable

FIRST_CHECK_S = 2.0
RECHECK_S = 2.0
NEVER = float("inf")
START_FAILURES_BEFORE_REFUSAL = 5
_HOLDERS_NAMED = 3


def check_time_s(waiting: Waiting) -> float:
    """When to look at this demand next."""
    return waiting.since_s + FIRST_CHECK_S if waiting.check_s is None else waiting.check_s


def permanently_held(table: LeaseTable, lease: Lease) -> Shape:
    """The part of a lease that no end of a running task returns: an actor's own resources, and all
    but the CPU of a task that waits in get."""
    if lease.placement is not None:
        held = lease.placement.held
    elif table.pool.workers[lease.worker_id].blocked:
        held = lease.shape
    else:
        return ()
    if table.pool.workers[lease.worker_id].blocked:
        held = tuple(part for part in held if part[0] != "CPU")
    return held


def without_permanent(table: LeaseTable) -> ResourceSet:
    """What will be free when every running, unblocked task has ended."""
    left = table.capacity.copy()
    for lease in table.leases.values():
        left.subtract(permanently_held(table, lease))
    return left


def diagnose(table: LeaseTable, shape: Shape) -> DemandStuck | None:
    """What to tell somebody who waits for `shape`, None while waiting is normal."""
    whole_gpus = GpuSet(table.capacity.get("GPU"))
    if not table.capacity.fits(shape) or not whole_gpus.fits(dict(shape).get("GPU", 0)):
        reason = missing_sentence(shape, table.capacity.amounts)
        return DemandStuck(shape, reason, infeasible=True, refused=False)
    if table.available.fits(shape):
        reason = _no_process(table)
        return DemandStuck(shape, reason, infeasible=False, refused=True) if reason else None
    left = without_permanent(table)
    lacking = left.lacking(shape)
    if not lacking:
        return None
    wanted = tuple(part for part in shape if part[0] in lacking)
    free = tuple((name, max(0, left.get(name))) for name in lacking)
    reason = f"needs {describe(wanted)}; only {describe(free)} can become free: {_holders(table, lacking)}"
    return DemandStuck(shape, reason, infeasible=False, refused=False)


def _no_process(table: LeaseTable) -> str:
    """Why no worker will come although the resources are there; "" when one may still come."""
    pool = table.pool
    if table.start_failures >= START_FAILURES_BEFORE_REFUSAL:
        return f"worker processes die while they start: {table.start_error}"
    if len(pool) < table.max_workers or pool.idle:
        return ""
    running = [worker for worker in pool.workers.values() if worker.state != "actor" and not worker.blocked]
    if running:  # one that runs, starts or goes will make room
        return ""
    actors = sum(worker.state == "actor" for worker in pool.workers.values())
    blocked = len(pool) - actors
    allowed = f"{table.max_workers} worker processes that this node's memory and open files (ulimit -n) allow"
    if not blocked:
        return f"all {allowed} are taken, {actors} an actor each: end some of them, or raise max_workers"
    return (
        f"all {allowed} are taken: {blocked} hold a task that waits in get, {actors} an actor, so none is left to "
        f"run what they wait for. Return references instead of waiting for them inside tasks, or raise max_workers"
    )


def _holders(table: LeaseTable, names: tuple[str, ...]) -> str:
    sentences = []
    for lease in table.leases.values():
        held = tuple(part for part in permanently_held(table, lease) if part[0] in names)
        if held:
            pid = table.pool.workers[lease.worker_id].pid
            who = "a task that waits in get" if lease.placement is None else f"actor {lease.placement.label}"
            sentences.append(f"{who} (pid {pid}) holds {describe(held)}")
    named, more = sentences[:_HOLDERS_NAMED], len(sentences) - _HOLDERS_NAMED
    return ", ".join(named) + (f", and {more} more" if more > 0 else "")
