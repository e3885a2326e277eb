"""How do processes of one node reduce their arrays, when all of them can read the same memory?

Each rank stores what the others need of it once, in shared memory, and everybody reads that in place. A large
reduction is a reduce-scatter followed by an allgather (R. Rabenseifner, "Optimization of Collective Reduction
Operations", ICCS 2004): rank i reduces the i-th part of the array for all, so the work is spread evenly, and each
rank writes the array about twice, whatever the number of ranks. There, parts travel along a hypercube or a ring
because a link carries one message at a time; through shared memory every rank reads the parts of all others
directly, as in shared-memory MPI (R. Graham, G. Shipman, "MPI Support for Multi-Core Architectures: Optimized
Shared Memory Collectives", EuroPVM/MPI 2008).

    rank 0:  [ a0 | a1 ]    puts a1         reads b0, a0 += b0, puts a0         reads b1' ─► [ s0 | s1 ]
    rank 1:  [ b0 | b1 ]    puts b0         reads a1, b1 += a1, puts b1         reads a0' ─► [ s0 | s1 ]
                                     meet                              meet

Small arrays travel with the message to the meeting, and every rank reduces all of them, in the order of ranks.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

import minray
from minray.util.collective import types
from minray.util.collective.collective_group.base_collective_group import BaseGroup
from minray.util.collective.rendezvous import DEFAULT_TIMEOUT_MS, NAME_PREFIX, Rendezvous

INLINE_BYTES = 128 << 10  # so much travels with the message
KEPT_BYTES = 1 << 20  # so much may stay in shared memory until the next operation
SLACK_S = 5.0  # the rendezvous' answer comes later than its own timeout, on a loaded machine
_REDUCE: dict[types.ReduceOp, Any] = {
    types.ReduceOp.SUM: np.add,
    types.ReduceOp.PRODUCT: np.multiply,
    types.ReduceOp.MIN: np.minimum,
    types.ReduceOp.MAX: np.maximum,
}


class Tensor:
    """One array of the caller, as a flat numpy array to read from and to write to."""

    def __init__(self, tensor: Any, written: bool) -> None:
        """`written`: the caller expects a result in it. Raises: ValueError when it is read-only."""
        self._tensor = tensor
        self._is_torch = not isinstance(tensor, np.ndarray)
        if self._is_torch:
            tensor = _as_numpy(tensor)
        if written and not tensor.flags.writeable:
            raise ValueError(
                "This array is read-only (it lies in the object store), and the result is written into it: pass "
                "a copy, `array.copy()`."
            )
        self.text = (
            f"{str(getattr(self._tensor, 'dtype', tensor.dtype)).removeprefix('torch.')}{list(tensor.shape)}"
        )
        self._array = tensor
        self.flat: np.ndarray[Any, Any] = np.ascontiguousarray(tensor).reshape(-1)

    def finish(self) -> None:
        """The result stands in `flat`: have it stand in the caller's tensor."""
        if not np.shares_memory(self.flat, self._array):
            self._array[...] = self.flat.reshape(self._array.shape)
        if self._is_torch and self._array.dtype == np.float32 and self._tensor.element_size() == 2:
            torch = sys.modules["torch"]
            self._tensor.copy_(torch.from_numpy(self._array))


def _as_numpy(tensor: Any) -> np.ndarray[Any, Any]:
    if tensor.device.type != "cpu":
        raise ValueError(
            f"a tensor on {tensor.device}: groups of this backend work in main memory; use tensor.cpu()"
        )
    plain = tensor.detach()
    if str(plain.dtype) == "torch.bfloat16":  # numpy has no such numbers; to float32 and back is exact
        plain = plain.float()
    return plain.numpy()  # type: ignore[no-any-return]


class SharedMemoryGroup(BaseGroup):
    """Membership in a group whose data moves through the node's shared memory. One thread at a time."""

    def __init__(self, world_size: int, rank: int, group_name: str, gloo_timeout: int | None = None) -> None:
        super().__init__(world_size, rank, group_name)
        self._timeout_s = (gloo_timeout or DEFAULT_TIMEOUT_MS) / 1000
        self._everybody = tuple(range(world_size))
        self._counts: dict[Any, int] = {}  # meetings so far: of all, and of each pair
        self._rendezvous: Any = None
        # What the others may still read: told to be done by their coming to the next meeting.
        self._shared: list[Any] = []
        self._kept: dict[Any, list[Any]] = {}
        self._join()

    # ------------------------------------------------------------- membership
    def _join(self) -> None:
        name = NAME_PREFIX + self._group_name
        deadline = time.monotonic() + self._timeout_s
        options = {"name": name, "get_if_exists": True, "lifetime": "detached", "num_cpus": 0}
        while True:
            try:
                actor = minray.remote(Rendezvous).options(**options).remote(name)
                call = actor.join.remote(self._rank, self._world_size, os.getpid(), self._timeout_s)
                error, again = minray.get(call, timeout=self._timeout_s + SLACK_S)
            except (minray.exceptions.RayActorError, ValueError):
                error, again = None, True  # the group of that name that was here before is just ending
            if not again:
                break
            if time.monotonic() > deadline:
                error = (
                    f"The earlier group {self._group_name!r} does not end: some member has not destroyed it."
                )
                break
            time.sleep(0.01)
        if error:
            raise error
        self._rendezvous = actor

    def destroy_group(self) -> None:
        """Leave; the last one to leave ends the rendezvous."""
        actor, self._rendezvous = self._rendezvous, None
        try:
            if actor is not None and minray.get(actor.leave.remote(self._rank), timeout=SLACK_S):
                minray.kill(actor)
        except minray.exceptions.RayError:
            pass  # it has ended already: all others died

    @classmethod
    def backend(cls) -> Any:
        """The backend's name: what programs ask for when they have no GPU."""
        return types.Backend.GLOO

    @classmethod
    def check_backend_availability(cls) -> bool:
        """Always: shared memory is what minray runs on."""
        return True

    # ------------------------------------------------------------- meeting
    def _meet(
        self, what: str, tensor: str, payload: Any, members: Sequence[int] | None = None
    ) -> dict[int, Any]:
        """Come with `payload`. Returns what each member brought. Raises: what the rendezvous says."""
        if self._rendezvous is None:
            raise RuntimeError(f"The group {self._group_name!r} was destroyed in this process.")
        members = self._everybody if members is None else members
        number = self._counts[members] = self._counts.get(members, 0) + 1
        call = self._rendezvous.meet.remote(
            (members, number), members, self._rank, (what, tensor), payload, self._timeout_s
        )
        try:
            error, brought = minray.get(call, timeout=self._timeout_s + SLACK_S)
        except minray.exceptions.RayActorError as lost:
            raise RuntimeError(f"The rendezvous of the group {self._group_name!r} is gone: {lost}") from lost
        if error:
            raise error
        self._kept[members], self._shared = self._shared, []
        return brought  # type: ignore[no-any-return]

    def _end(self, size_bytes: int, members: Sequence[int] | None = None) -> None:
        """After an operation: much that was shared goes at once, so all say that they have read it."""
        if size_bytes > KEPT_BYTES:
            self._meet("the end of the operation", "the same", None, members)

    def _share(self, arrays: list[np.ndarray[Any, Any]]) -> Any:
        """What to bring so that others can read these: themselves, or where they lie."""
        if sum(array.nbytes for array in arrays) <= INLINE_BYTES:
            return arrays
        return self._store(arrays)

    def _store(self, arrays: list[np.ndarray[Any, Any]]) -> list[Any]:
        ref = minray.put(arrays)
        self._shared.append(ref)
        return [ref]  # in a list: an argument of its own would be resolved on arrival

    @staticmethod
    def _read(brought: dict[int, Any], ranks: Sequence[int]) -> list[list[np.ndarray[Any, Any]]]:
        """What these ranks brought, in place. All at once: while we wait for one we answer the others."""
        parts = [brought[rank] for rank in ranks]
        refs = [part[0] for part in parts if isinstance(part[0], minray.ObjectRef)]
        values = iter(minray.get(refs) if refs else ())
        return [next(values) if isinstance(part[0], minray.ObjectRef) else part for part in parts]

    def _others(self) -> list[int]:
        """The other ranks, each rank beginning with its neighbour: not all read from the same one at a time."""
        return [(self._rank + i) % self._world_size for i in range(1, self._world_size)]

    # ------------------------------------------------------------- reductions
    def allreduce(self, tensor: Any, allreduce_options: Any = None) -> None:
        """All ranks get the reduction over all ranks, in place."""
        operation = _operation(allreduce_options)
        mine = Tensor(tensor[0], written=True)
        what = f"allreduce({operation.name})"
        if mine.flat.nbytes <= INLINE_BYTES:
            self._reduce_small(what, mine.text, mine.flat, operation)
        else:
            self._reduce_parts(what, mine.text, mine.flat, operation)
            self._gather_parts(what, mine.text, mine.flat)
            self._end(mine.flat.nbytes)
        mine.finish()

    def reduce(self, tensor: Any, reduce_options: Any = None) -> None:
        """One rank gets the reduction over all ranks, in place; the tensors of the others stay as they are."""
        options = reduce_options or types.ReduceOptions()
        operation, root = _operation(options), options.root_rank
        mine = Tensor(tensor[0], written=self._rank == root)
        what = f"reduce({operation.name}, to rank {root})"
        flat = mine.flat if self._rank == root else mine.flat.copy()
        if flat.nbytes <= INLINE_BYTES:
            self._reduce_small(what, mine.text, flat, operation)
        else:
            self._reduce_parts(what, mine.text, flat, operation)
            self._gather_parts(what, mine.text, flat, only=root)
            self._end(flat.nbytes)
        if self._rank == root:
            mine.finish()

    def _reduce_small(
        self, what: str, text: str, flat: np.ndarray[Any, Any], operation: types.ReduceOp
    ) -> None:
        brought = self._meet(what, text, [flat])
        total = brought[0][0].copy()
        for rank in range(1, self._world_size):
            _reduce(operation, total, brought[rank][0])
        flat[:] = total

    def _parts(self, flat: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        bounds = [flat.size * i // self._world_size for i in range(self._world_size + 1)]
        return [flat[bounds[i] : bounds[i + 1]] for i in self._everybody]

    def _reduce_parts(
        self, what: str, text: str, flat: np.ndarray[Any, Any], operation: types.ReduceOp
    ) -> None:
        """Afterwards our own part of `flat` holds the reduction over all ranks."""
        parts = self._parts(flat)
        own = parts[self._rank]
        parts[self._rank] = own[:0]  # nobody needs it
        brought = self._meet(what, text, self._store(parts))
        for theirs in self._read(brought, self._others()):
            _reduce(operation, own, theirs[self._rank])

    def _gather_parts(
        self, what: str, text: str, flat: np.ndarray[Any, Any], only: int | None = None
    ) -> None:
        """Afterwards all of `flat` is reduced (at rank `only`, if given)."""
        parts = self._parts(flat)
        needed = only is None or (self._rank != only)  # the root's part is needed by nobody else
        brought = self._meet(what, text, self._store([parts[self._rank]]) if needed else None)
        if only is None or self._rank == only:
            others = self._others()
            for rank, theirs in zip(others, self._read(brought, others), strict=True):
                parts[rank][:] = theirs[0]

    def reducescatter(self, tensor: Any, tensor_list: Any, reducescatter_options: Any = None) -> None:
        """Rank i gets the reduction of the i-th tensors of all ranks."""
        operation = _operation(reducescatter_options)
        target = Tensor(tensor[0], written=True)
        parts = [Tensor(one, written=False) for one in tensor_list[0]]
        if target.text != parts[self._rank].text:
            raise ValueError(
                f"Output tensor is {target.text}, but tensor {self._rank} of the list is {parts[self._rank].text}"
            )
        share = self._share([part.flat[: 0 if i == self._rank else None] for i, part in enumerate(parts)])
        text = ", ".join(part.text for part in parts)
        brought = self._meet(f"reducescatter({operation.name})", text, share)
        total = parts[self._rank].flat.copy()
        for theirs in self._read(brought, self._others()):
            _reduce(operation, total, theirs[self._rank])
        target.flat[:] = total
        target.finish()
        self._end(sum(part.flat.nbytes for part in parts))

    # ------------------------------------------------------------- copies
    def broadcast(self, tensor: Any, broadcast_options: Any = None) -> None:
        """All ranks get the tensor of one rank, in place."""
        root = (broadcast_options or types.BroadcastOptions()).root_rank
        mine = Tensor(tensor[0], written=self._rank != root)
        share = self._share([mine.flat]) if self._rank == root else None
        brought = self._meet(f"broadcast(from rank {root})", mine.text, share)
        if self._rank != root:
            mine.flat[:] = self._read(brought, [root])[0][0]
            mine.finish()
        self._end(mine.flat.nbytes)

    def allgather(self, tensor_list: Any, tensor: Any, allgather_options: Any = None) -> None:
        """All ranks get the tensors of all ranks."""
        mine = Tensor(tensor[0], written=False)
        targets = [Tensor(one, written=True) for one in tensor_list[0]]
        wrong = [target.text for target in targets if target.text != mine.text]
        if wrong:
            raise ValueError(
                f"The tensor to be gathered is {mine.text}, but the list has room for {wrong[0]}"
            )
        brought = self._meet("allgather", mine.text, self._share([mine.flat]))
        others = self._others()
        targets[self._rank].flat[:] = mine.flat
        for rank, theirs in zip(others, self._read(brought, others), strict=True):
            targets[rank].flat[:] = theirs[0]
        for target in targets:
            target.finish()
        self._end(mine.flat.nbytes)

    def barrier(self, barrier_options: Any = None) -> None:
        """Wait until all ranks are here."""
        self._meet("barrier", "nothing", None)

    def send(self, tensor: Any, send_options: Any) -> None:
        """Give a tensor to one rank; returns when it was taken."""
        mine = Tensor(tensor[0], written=False)
        pair = (self._rank, send_options.dst_rank)
        self._meet(_transfer(*pair), mine.text, self._share([mine.flat]), pair)
        self._end(mine.flat.nbytes, pair)

    def recv(self, tensor: Any, recv_options: Any) -> None:
        """Take a tensor from one rank, in place."""
        mine = Tensor(tensor[0], written=True)
        pair = (recv_options.src_rank, self._rank)
        brought = self._meet(_transfer(*pair), mine.text, None, pair)
        mine.flat[:] = self._read(brought, pair[:1])[0][0]
        mine.finish()
        self._end(mine.flat.nbytes, pair)


def _reduce(operation: types.ReduceOp, total: np.ndarray[Any, Any], part: np.ndarray[Any, Any]) -> None:
    with np.errstate(all="ignore"):  # an infinity is a result here, as in every other backend
        _REDUCE[operation](total, part, out=total)


def _transfer(source: int, target: int) -> str:
    return f"send and recv (from rank {source} to rank {target})"


def _operation(options: Any) -> types.ReduceOp:
    operation: types.ReduceOp = types.ReduceOp.SUM if options is None else options.reduceOp
    if operation not in _REDUCE:
        raise ValueError(f"{operation!r} is no reduction; there are {', '.join(map(str, _REDUCE))}")
    return operation
