"""Do names of backends, checks of arguments and the words for disagreement hold without a cluster?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minray.util import collective
from minray.util.collective.backend_registry import find_backend
from minray.util.collective.collective_group.base_collective_group import BaseGroup
from minray.util.collective.collective_group.shared_memory_group import SharedMemoryGroup, Tensor
from minray.util.collective.rendezvous import disagreement, ranks_text
from minray.util.collective.types import Backend


def test_backends_go_by_rays_names() -> None:
    assert Backend("gloo") == Backend("torch_gloo") == "GLOO"
    assert Backend("nccl") == "NCCL"
    with pytest.raises(ValueError, match="Only NCCL and GLOO"):
        Backend("mpi")


def test_gloo_is_there_and_nccl_is_not() -> None:
    assert collective.gloo_available() and collective.is_backend_available("torch_gloo")
    assert not collective.nccl_available()
    assert find_backend("gloo") is SharedMemoryGroup
    with pytest.raises(ValueError, match="needs GPUs"):
        find_backend("nccl")


def test_only_groups_can_be_registered_and_only_once() -> None:
    with pytest.raises(TypeError, match="BaseGroup"):
        collective.register_collective_backend("ODD", dict)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="already registered"):
        collective.register_collective_backend("gloo", SharedMemoryGroup)


def test_a_backend_must_offer_every_operation() -> None:
    class Half(BaseGroup):
        def barrier(self, barrier_options: Any = None) -> None: ...

    with pytest.raises(TypeError, match="abstract"):
        Half(1, 0, "g")  # type: ignore[abstract]


def test_the_driver_is_in_no_group() -> None:
    for call in (
        lambda: collective.init_collective_group(1, 0, "gloo"),
        lambda: collective.allreduce(np.zeros(1)),
        collective.barrier,
        collective.get_rank,
        collective.destroy_collective_group,
    ):
        with pytest.raises(RuntimeError, match="inside a Ray actor or task"):
            call()
    assert not collective.is_group_initialized("default")


@pytest.mark.parametrize("name", [name for name in collective.__all__ if name.endswith("_multigpu")])
def test_calls_for_several_gpus_are_refused(name: str) -> None:
    with pytest.raises(RuntimeError, match="Multigpu calls requires NCCL"):
        getattr(collective, name)([np.zeros(1)])


def test_only_arrays_and_tensors_are_taken() -> None:
    with pytest.raises(RuntimeError, match="Unrecognized tensor type"):
        collective.allreduce([1, 2])
    with pytest.raises(RuntimeError, match="must be a list of tensors"):
        collective.allgather(np.zeros(1), np.zeros(1))  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="empty list"):
        collective.reducescatter(np.zeros(1), [])


def test_disagreement_names_who_said_what() -> None:
    same = ("barrier", "nothing")
    assert disagreement({0: same, 1: same}) == ""
    text = disagreement({2: ("allreduce(SUM)", "float32[3]"), 0: same, 1: same})
    assert "ranks 0, 1 called barrier" in text and "rank 2 called allreduce(SUM) of float32[3]" in text
    assert ranks_text([3]) == "rank 3"


def test_a_tensor_is_read_and_written_in_place() -> None:
    array = np.arange(6.0).reshape(2, 3)
    tensor = Tensor(array, written=True)
    tensor.flat += 1
    tensor.finish()
    assert array[1, 2] == 6.0


def test_what_is_not_contiguous_is_written_back() -> None:
    array = np.arange(6.0).reshape(2, 3)
    tensor = Tensor(array.T, written=True)
    tensor.flat[:] = 7.0
    tensor.finish()
    assert (array == 7.0).all()


def test_a_result_into_read_only_memory_is_refused() -> None:
    array = np.zeros(3)
    array.flags.writeable = False
    Tensor(array, written=False)
    with pytest.raises(ValueError, match="read-only"):
        Tensor(array, written=True)


def test_torch_tensors_share_their_memory_and_bfloat16_is_copied_back() -> None:
    torch = pytest.importorskip("torch")
    for kind in (torch.float32, torch.bfloat16, torch.int64, torch.float16):
        plain = torch.ones(4, dtype=kind)
        tensor = Tensor(plain, written=True)
        assert tensor.text == f"{str(kind).removeprefix('torch.')}[4]"
        tensor.flat += 2
        tensor.finish()
        assert plain.tolist() == [3, 3, 3, 3]
