"""Do groups of actors compute what they should, on small and large arrays, and never wait for the dead?"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import minray
from minray.util import collective
from minray.util.collective import ReduceOp

pytestmark = pytest.mark.cluster
SIZES = [5, 40_001, 400_001]  # with the message; in shared memory; much, and not divisible


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[None]:
    minray.init(num_cpus=4)
    yield
    minray.shutdown()


@minray.remote
class Worker:
    """Calls anything of `collective`, or a function with its rank."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def init(self, world_size: int, group: str = "default", timeout_ms: int = 60_000) -> int:
        collective.init_collective_group(world_size, self.rank, "gloo", group, timeout_ms)
        return collective.get_rank(group)

    def do(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(self.rank, *args)

    def pid(self) -> int:
        return os.getpid()


@pytest.fixture
def crew(shared_cluster: None) -> Iterator[Callable[..., list[Any]]]:
    made: list[Any] = []

    def start(count: int, **options: Any) -> list[Any]:
        workers = [Worker.remote(rank) for rank in range(count)]
        made.extend(workers)
        assert minray.get([w.init.remote(count, **options) for w in workers]) == list(range(count))
        return workers

    yield start
    for worker in made:
        minray.kill(worker)
    end = time.monotonic() + 60
    while minray.util.list_named_actors() and time.monotonic() < end:
        time.sleep(0.01)
    assert not minray.util.list_named_actors()  # no group outlives its members


def all_do(workers: list[Any], function: Callable[..., Any], *args: Any) -> list[Any]:
    return minray.get([w.do.remote(function, *args) for w in workers], timeout=60)  # type: ignore[no-any-return]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_allreduce_in_place(crew: Any, world_size: int) -> None:
    workers = crew(world_size)

    def reduced(rank: int, size: int, op: ReduceOp) -> Any:
        array = np.arange(size, dtype=np.float64) + rank + 1
        collective.allreduce(array, op=op)
        return array

    functions = {
        ReduceOp.SUM: sum,
        ReduceOp.MIN: min,
        ReduceOp.MAX: max,
        ReduceOp.PRODUCT: lambda x: np.prod(list(x), 0),
    }
    for size in SIZES:
        parts = [np.arange(size, dtype=np.float64) + rank + 1 for rank in range(world_size)]
        for op, function in functions.items():
            expected = (
                function(parts)
                if op in (ReduceOp.SUM, ReduceOp.PRODUCT)
                else (parts[0] if op is ReduceOp.MIN else parts[-1])
            )
            for result in all_do(workers, reduced, size, op):
                np.testing.assert_allclose(result, expected)


def test_every_operation_on_small_and_large_arrays(crew: Any) -> None:
    workers = crew(3)

    def everything(rank: int, size: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        array = np.full(size, float(rank + 1))
        collective.reduce(array, dst_rank=2)
        found["reduce"] = (array[0], array[-1])
        array = np.full(size, float(rank))
        collective.broadcast(array, src_rank=1)
        found["broadcast"] = (array[0], array[-1])
        room = [np.zeros(size) for _ in range(3)]
        collective.allgather(room, np.full(size, float(rank)))
        found["allgather"] = [one[-1] for one in room]
        mine = np.zeros(size)
        parts = [np.full(size, 10.0 * i + rank) for i in range(3)]
        collective.reducescatter(mine, parts)
        found["reducescatter"] = (mine[0], mine[-1])
        assert [part[0] for part in parts] == [rank, 10.0 + rank, 20.0 + rank]  # left as they were
        array = np.full(size, float(rank))
        if rank == 0:
            collective.send(array, 2)
        elif rank == 2:
            collective.recv(array, 0)
        found["sendrecv"] = array[-1]
        collective.barrier()
        return found

    for size in SIZES:
        results = all_do(workers, everything, size)
        assert [r["reduce"] for r in results] == [(1, 1), (2, 2), (6, 6)]
        assert [r["broadcast"] for r in results] == [(1, 1)] * 3
        assert [r["allgather"] for r in results] == [[0, 1, 2]] * 3
        assert [r["reducescatter"] for r in results] == [(3, 3), (33, 33), (63, 63)]
        assert [r["sendrecv"] for r in results] == [0, 1, 0]


def test_torch_tensors_and_other_types(crew: Any) -> None:
    pytest.importorskip("torch")
    workers = crew(2)

    def tensors(rank: int) -> Any:
        import torch

        found = []
        for kind in (torch.float32, torch.int64, torch.bfloat16):
            tensor = torch.full((300, 100), rank + 1, dtype=kind)
            collective.allreduce(tensor)
            found.append(tensor[299, 99].item())
        turned = torch.zeros(100, 300).T
        collective.broadcast(turned if rank else torch.ones(300, 100), 0)
        found.append(turned.sum().item() if rank else 30_000.0)
        whole = np.full((7, 5), rank + 1, dtype=np.int16)[:, ::2]
        collective.allreduce(whole)
        return [*found, int(whole.sum())]

    assert all_do(workers, tensors) == [[3, 3, 3, 30_000.0, 63]] * 2


def test_a_declared_group_is_joined_at_the_first_operation(crew: Any, shared_cluster: None) -> None:
    workers = [Worker.remote(rank) for rank in range(2)]
    collective.create_collective_group(workers, 2, [1, 0], "gloo", "declared")
    with pytest.raises(RuntimeError, match="twice"):
        collective.create_collective_group(workers, 2, [0, 1], "gloo", "declared")

    def ranks(_: int) -> Any:
        before = collective.get_rank("declared"), collective.is_group_initialized("declared")
        array = np.ones(1)
        collective.allreduce(array, "declared")
        size = collective.get_collective_group_size("declared")
        return before, collective.get_rank("declared"), size, array[0]

    assert all_do(workers, ranks) == [((-1, False), 1, 2, 2.0), ((-1, False), 0, 2, 2.0)]
    all_do(workers, lambda _: collective.destroy_collective_group("declared"))


def test_groups_are_kept_apart_and_may_be_made_again(crew: Any) -> None:
    workers = crew(2)
    assert minray.get([w.init.remote(2, "other") for w in workers]) == [0, 1]

    def both(rank: int) -> list[float]:
        a, b = np.full(2, 1.0 + rank), np.full(3, 10.0 + rank)
        collective.allreduce(a, "default")
        collective.allreduce(b, "other")
        return [a[0], b[0]]

    assert all_do(workers, both) == [[3.0, 21.0]] * 2
    for _ in range(3):
        all_do(workers, lambda _: collective.destroy_collective_group("other"))
        assert all_do(workers, lambda _: collective.get_rank("other")) == [-1, -1]
        assert minray.get([w.init.remote(2, "other") for w in workers]) == [0, 1]
    assert all_do(workers, both) == [[3.0, 21.0]] * 2


def test_tasks_may_form_a_group(shared_cluster: None) -> None:
    @minray.remote
    def member(rank: int) -> float:
        collective.init_collective_group(2, rank, "torch_gloo", "tasks")
        array = np.full(4, rank + 1.0)
        collective.allreduce(array, "tasks")
        collective.destroy_collective_group("tasks")
        return float(array[0])

    assert minray.get([member.remote(rank) for rank in range(2)], timeout=60) == [3.0, 3.0]


# ------------------------------------------------------------------ what goes wrong
def test_disagreement_is_told_to_all_with_ranks_and_shapes(crew: Any) -> None:
    workers = crew(2)

    def disagree(rank: int) -> str:
        with pytest.raises(ValueError) as caught:
            collective.allreduce(np.zeros(3 + rank, dtype=np.float32))
        return str(caught.value)

    for text in all_do(workers, disagree):
        assert (
            "rank 0 called allreduce(SUM) of float32[3]; rank 1 called allreduce(SUM) of float32[4]" in text
        )


def test_a_missing_rank_is_named(crew: Any) -> None:
    workers = crew(3, timeout_ms=300)

    def wait(rank: int) -> str:
        with pytest.raises(TimeoutError) as caught:
            collective.barrier()
        return str(caught.value)

    for text in minray.get([w.do.remote(wait) for w in workers[:2]], timeout=60):
        assert "Rank 2 did not come to barrier within 0.3 s" in text


def test_who_does_not_join_is_named(shared_cluster: None) -> None:
    worker = Worker.remote(0)
    with pytest.raises(TimeoutError, match="Ranks 1, 2 did not come to join within"):
        minray.get(worker.init.remote(3, "alone", 300), timeout=60)
    minray.kill(worker)


def test_a_dead_member_ends_the_others_with_an_error(crew: Any) -> None:
    workers = crew(3)

    def wait(rank: int) -> str:
        with pytest.raises(RuntimeError) as caught:
            collective.allreduce(np.zeros(400_000))
        return str(caught.value)

    pid = minray.get(workers[1].pid.remote())
    waiting = [workers[rank].do.remote(wait) for rank in (0, 2)]
    os.kill(pid, signal.SIGKILL)
    for text in minray.get(waiting, timeout=60):
        assert f"Rank 1 of the group (process {pid}) died" in text


def test_a_member_that_left_is_named(crew: Any) -> None:
    workers = crew(2)
    all_do(workers[:1], lambda _: collective.destroy_collective_group())

    def wait(rank: int) -> str:
        with pytest.raises(RuntimeError) as caught:
            collective.barrier()
        return str(caught.value)

    assert "Rank 0 has left the group" in all_do(workers[1:], wait)[0]


def test_wrong_numbers_are_refused_where_they_are_written(crew: Any) -> None:
    workers = crew(2)

    def refused(rank: int) -> None:
        with pytest.raises(RuntimeError, match="a second time"):
            collective.init_collective_group(2, rank, "gloo")
        with pytest.raises(ValueError, match="must be less than world size"):
            collective.broadcast(np.zeros(1), 2)
        with pytest.raises(ValueError, match="negative"):
            collective.reduce(np.zeros(1), -1)
        with pytest.raises(RuntimeError, match="is self"):
            collective.send(np.zeros(1), rank)
        with pytest.raises(RuntimeError, match="equal to world_size"):
            collective.allgather([np.zeros(1)], np.zeros(1))
        with pytest.raises(RuntimeError, match="not initialized in the process"):
            collective.barrier("unknown")
        with pytest.raises(ValueError, match="NCCL not registered"):
            collective.init_collective_group(2, rank, group_name="gpu")

    all_do(workers, refused)
    with pytest.raises(RuntimeError, match="permutation"):
        collective.create_collective_group(workers, 2, [0, 0], "gloo", "bad")
    with pytest.raises(RuntimeError, match="one rank"):
        collective.create_collective_group(workers, 2, [0], "gloo", "bad")
    with pytest.raises(RuntimeError, match="not registered"):
        collective.create_collective_group(workers, 2, [0, 1], "nccl", "bad")


def test_an_array_in_shared_memory_is_not_written_into(crew: Any) -> None:
    workers = crew(1)

    def reduce_argument(rank: int, array: Any) -> None:
        with pytest.raises(ValueError, match="read-only"):
            collective.allreduce(array)

    minray.get(workers[0].do.remote(reduce_argument, minray.put(np.ones(400_000))), timeout=60)
