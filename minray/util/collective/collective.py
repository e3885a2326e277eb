"""What does an actor call to take part in a group, and how does a process know its groups?

A process joins a group when it says so (`init_collective_group`), or at its first operation, if the driver has
declared the group (`create_collective_group`). Arguments are checked here, as in Ray and with Ray's exceptions;
the work is the backend's.
"""

from __future__ import annotations

import logging
import sys
import threading
from typing import Any

import minray
from minray.engine import seam
from minray.util.collective import types
from minray.util.collective.backend_registry import (
    canonical,
    find_backend,
    is_usable,
    register_collective_backend,
)
from minray.util.collective.collective_group.base_collective_group import BaseGroup
from minray.util.collective.collective_group.shared_memory_group import SharedMemoryGroup
from minray.util.collective.rendezvous import DEFAULT_TIMEOUT_MS, NAME_PREFIX, Rendezvous

logger = logging.getLogger(__name__)
register_collective_backend("GLOO", SharedMemoryGroup)

_groups: dict[str, BaseGroup] = {}
_lock = threading.RLock()


# ------------------------------------------------------------------ backends
def nccl_available() -> bool:
    """Whether groups of GPUs are possible: not in minray."""
    return is_backend_available("NCCL")


def gloo_available() -> bool:
    """Whether groups in main memory are possible."""
    return is_backend_available("GLOO")


def is_backend_available(backend: str) -> bool:
    """Whether `backend` is registered and can work here."""
    return is_usable(backend)


# ------------------------------------------------------------------ groups
def is_group_initialized(group_name: str) -> bool:
    """Whether this process is a member of the group already."""
    with _lock:
        return group_name in _groups


def init_collective_group(
    world_size: int,
    rank: int,
    backend: str = types.Backend.NCCL,
    group_name: str = "default",
    gloo_timeout: int = DEFAULT_TIMEOUT_MS,
) -> None:
    """Make this actor or task rank `rank` of a group; returns when all `world_size` ranks are there.

    Args:
        world_size: how many processes the group has.
        rank: which of them this is, from 0.
        backend: "gloo", or one that was registered.
        group_name: what the group is called; a process may be in several.
        gloo_timeout: how many milliseconds a rank is waited for, now and in every operation.

    Raises: RuntimeError outside of actors and tasks, or when this process is in the group; ValueError for an
        unknown backend; TimeoutError that names the ranks that did not come.
    """
    _check_inside_actor()
    if not group_name:
        raise ValueError(f"group_name '{group_name}' needs to be a string.")
    with _lock:
        if group_name in _groups:
            raise RuntimeError("Trying to initialize a group a second time.")
        if not 0 <= rank < world_size:
            raise AssertionError(
                f"rank {rank} is not in a group of {world_size}: ranks go from 0 to world_size - 1"
            )
        _join(backend, world_size, rank, group_name, gloo_timeout)


def _join(backend: str, world_size: int, rank: int, group_name: str, gloo_timeout: int) -> None:
    group_cls = find_backend(backend)
    if not group_cls.check_backend_availability():
        raise RuntimeError(f"Backend {backend} is not available. Please check the installation.")
    if canonical(backend) == types.Backend.GLOO:
        _groups[group_name] = SharedMemoryGroup(world_size, rank, group_name, gloo_timeout)
    else:
        _groups[group_name] = group_cls(world_size, rank, group_name)


def create_collective_group(
    actors: list[Any],
    world_size: int,
    ranks: list[int],
    backend: str = types.Backend.NCCL,
    group_name: str = "default",
    gloo_timeout: int = DEFAULT_TIMEOUT_MS,
) -> None:
    """Declare `actors` to be a group (in the driver); each joins at its first operation.

    Raises: RuntimeError when the group exists, the numbers do not fit, or there is no such backend.
    """
    name = NAME_PREFIX + group_name
    try:
        minray.get_actor(name)
    except ValueError:
        pass  # as it should be
    else:
        raise RuntimeError("Trying to initialize a group twice.")
    if len(ranks) != len(actors):
        raise RuntimeError(
            f"Each actor should correspond to one rank. Got '{len(ranks)}' ranks but '{len(actors)}' actors"
        )
    if set(ranks) != set(range(len(ranks))):
        raise RuntimeError(f"Ranks must be a permutation from 0 to '{len(ranks)}'. Got '{ranks}'.")
    if world_size <= 0:
        raise RuntimeError(f"World size must be greater than zero. Got '{world_size}'.")
    if len(ranks) != world_size:
        raise RuntimeError(f"A group of world_size={world_size} needs as many actors, not {len(actors)}.")
    try:
        find_backend(backend)
    except ValueError as error:
        raise RuntimeError(f"{error} Please register it using register_collective_backend.") from None
    if not is_usable(backend):
        raise RuntimeError(f"Backend {backend} is registered but not available here.")
    ids = [actor._ray_actor_id.hex() for actor in actors]
    rendezvous = minray.remote(Rendezvous).options(name=name, lifetime="detached", num_cpus=0).remote(name)
    minray.get(rendezvous.declare.remote(ids, world_size, ranks, backend, gloo_timeout))


def destroy_collective_group(group_name: str = "default") -> None:
    """Leave the group; others that still use it get an error."""
    _check_inside_actor()
    with _lock:
        group = _groups.pop(group_name, None)
    if group is None:
        logger.warning("The group '%s' does not exist.", group_name)
        return
    group.destroy_group()


def get_rank(group_name: str = "default") -> int:
    """This process's rank, or -1 when it is not in the group."""
    _check_inside_actor()
    with _lock:
        return _groups[group_name].rank if group_name in _groups else -1


def get_collective_group_size(group_name: str = "default") -> int:
    """How many ranks the group has, or -1 when this process is not in it."""
    _check_inside_actor()
    with _lock:
        return _groups[group_name].world_size if group_name in _groups else -1


def get_group_handle(group_name: str = "default") -> BaseGroup:
    """This process's membership; joins a group that was declared for it.

    Raises: RuntimeError when this process is not in the group.
    """
    _check_inside_actor()
    with _lock:
        if group_name not in _groups:
            _join_declared(group_name)
        return _groups[group_name]


def _join_declared(group_name: str) -> None:
    info = None
    try:
        rendezvous = minray.get_actor(NAME_PREFIX + group_name)
        info = minray.get(rendezvous.get_info.remote())
    except (ValueError, minray.exceptions.RayActorError):
        pass  # nobody has declared it
    me = minray.get_runtime_context().get_actor_id()
    if info is None or me not in info[0]:
        raise RuntimeError(f"The collective group '{group_name}' is not initialized in the process.")
    ids, world_size, ranks, backend, gloo_timeout = info
    _join(backend, world_size, ranks[ids.index(me)], group_name, gloo_timeout)


# ------------------------------------------------------------------ operations
def allreduce(tensor: Any, group_name: str = "default", op: types.ReduceOp = types.ReduceOp.SUM) -> None:
    """Every rank's `tensor` becomes the reduction of all of them, in place."""
    _check_tensor(tensor)
    get_group_handle(group_name).allreduce([tensor], types.AllReduceOptions(op))


def barrier(group_name: str = "default") -> None:
    """Wait until every rank is here."""
    get_group_handle(group_name).barrier(types.BarrierOptions())


def reduce(
    tensor: Any, dst_rank: int = 0, group_name: str = "default", op: types.ReduceOp = types.ReduceOp.SUM
) -> None:
    """The `tensor` of rank `dst_rank` becomes the reduction of all of them, in place."""
    _check_tensor(tensor)
    group = get_group_handle(group_name)
    _check_rank(group, dst_rank)
    group.reduce([tensor], types.ReduceOptions(op, dst_rank))


def broadcast(tensor: Any, src_rank: int = 0, group_name: str = "default") -> None:
    """Every rank's `tensor` becomes that of rank `src_rank`, in place."""
    _check_tensor(tensor)
    group = get_group_handle(group_name)
    _check_rank(group, src_rank)
    group.broadcast([tensor], types.BroadcastOptions(src_rank))


def allgather(tensor_list: list[Any], tensor: Any, group_name: str = "default") -> None:
    """`tensor_list[i]` becomes the `tensor` of rank i, in place.

    Raises: RuntimeError when the list is not as long as the group.
    """
    _check_tensor(tensor)
    _check_tensors(tensor_list)
    group = get_group_handle(group_name)
    if len(tensor_list) != group.world_size:
        raise RuntimeError("The length of the tensor list operands to allgather must be equal to world_size.")
    group.allgather([tensor_list], [tensor], types.AllGatherOptions())


def reducescatter(
    tensor: Any, tensor_list: list[Any], group_name: str = "default", op: types.ReduceOp = types.ReduceOp.SUM
) -> None:
    """The `tensor` of rank i becomes the reduction of all ranks' `tensor_list[i]`, in place.

    Raises: RuntimeError when the list is not as long as the group.
    """
    _check_tensor(tensor)
    _check_tensors(tensor_list)
    group = get_group_handle(group_name)
    if len(tensor_list) != group.world_size:
        raise RuntimeError(
            "The length of the tensor list operands to reducescatter must be equal to world_size."
        )
    group.reducescatter([tensor], [tensor_list], types.ReduceScatterOptions(op))


def send(tensor: Any, dst_rank: int, group_name: str = "default") -> None:
    """Give `tensor` to rank `dst_rank`; returns when that rank has called `recv`."""
    _check_tensor(tensor)
    group = get_group_handle(group_name)
    _check_rank(group, dst_rank)
    if dst_rank == group.rank:
        raise RuntimeError(f"The destination rank '{dst_rank}' is self.")
    group.send([tensor], types.SendOptions(dst_rank))


def recv(tensor: Any, src_rank: int, group_name: str = "default") -> None:
    """`tensor` becomes what rank `src_rank` sends, in place."""
    _check_tensor(tensor)
    group = get_group_handle(group_name)
    _check_rank(group, src_rank)
    if src_rank == group.rank:
        raise RuntimeError(f"The source rank '{src_rank}' is self.")
    group.recv([tensor], types.RecvOptions(src_rank))


# ------------------------------------------------------------------ checks
def _check_inside_actor() -> None:
    engine: Any = seam.current_or_none()
    if engine is None or engine.core.is_driver:
        raise RuntimeError("The collective APIs shall be only used inside a Ray actor or task.")


def _check_tensor(tensor: Any) -> None:
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    for module, kind in ((numpy, "ndarray"), (torch, "Tensor")):
        if module is not None and isinstance(tensor, getattr(module, kind)):
            return
    raise RuntimeError(
        f"Unrecognized tensor type '{type(tensor)}'. Supported types are: np.ndarray, torch.Tensor."
    )


def _check_tensors(tensors: Any) -> None:
    if not isinstance(tensors, list):
        raise RuntimeError(f"The input must be a list of tensors. Got '{type(tensors)}'.")
    if not tensors:
        raise RuntimeError("Got an empty list of tensors.")
    for tensor in tensors:
        _check_tensor(tensor)


def _check_rank(group: BaseGroup, rank: int) -> None:
    if rank < 0:
        raise ValueError(f"rank '{rank}' is negative.")
    if rank >= group.world_size:
        raise ValueError(f"rank '{rank}' must be less than world size '{group.world_size}'")
