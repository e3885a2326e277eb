"""How do actors compute with one another's arrays, all at once?

    class Worker:
        def step(self):
            collective.allreduce(self.gradient, group_name="workers")   # in place, the sum over all workers

    workers = [Worker.remote() for _ in range(4)]
    collective.create_collective_group(workers, 4, [0, 1, 2, 3], backend="gloo", group_name="workers")
    minray.get([worker.step.remote() for worker in workers])

The names are those of `ray.util.collective`, the tensors numpy arrays and torch tensors in main memory. There are
no GPUs here: the backend "gloo" (or "torch_gloo") is a group of our own that moves data through the node's shared
memory (collective_group/shared_memory_group.py), and what needs NCCL says so.
"""

from __future__ import annotations

from minray.util.collective.backend_registry import register_collective_backend
from minray.util.collective.collective import (
    allgather,
    allreduce,
    barrier,
    broadcast,
    create_collective_group,
    destroy_collective_group,
    get_collective_group_size,
    get_group_handle,
    get_rank,
    gloo_available,
    init_collective_group,
    is_backend_available,
    is_group_initialized,
    nccl_available,
    recv,
    reduce,
    reducescatter,
    send,
)
from minray.util.collective.multigpu import (
    allgather_multigpu,
    allreduce_multigpu,
    broadcast_multigpu,
    recv_multigpu,
    reduce_multigpu,
    reducescatter_multigpu,
    send_multigpu,
)
from minray.util.collective.types import Backend, ReduceOp

__all__ = [
    "Backend",
    "ReduceOp",
    "allgather",
    "allgather_multigpu",
    "allreduce",
    "allreduce_multigpu",
    "barrier",
    "broadcast",
    "broadcast_multigpu",
    "create_collective_group",
    "destroy_collective_group",
    "get_collective_group_size",
    "get_group_handle",
    "get_rank",
    "gloo_available",
    "init_collective_group",
    "is_backend_available",
    "is_group_initialized",
    "nccl_available",
    "recv",
    "recv_multigpu",
    "reduce",
    "reduce_multigpu",
    "reducescatter",
    "reducescatter_multigpu",
    "register_collective_backend",
    "send",
    "send_multigpu",
]
