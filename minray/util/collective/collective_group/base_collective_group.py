"""What must a backend offer? A class derived from `BaseGroup`, one instance for each group and process.

Tensors arrive wrapped in a list, as in Ray, whose lists hold one tensor for each GPU of the process.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from minray.util.collective import types


class BaseGroup(ABC):
    """One process's membership in a group."""

    def __init__(self, world_size: int, rank: int, group_name: str) -> None:
        self._world_size = world_size
        self._rank = rank
        self._group_name = group_name

    @property
    def rank(self) -> int:
        """The rank of this process."""
        return self._rank

    @property
    def world_size(self) -> int:
        """How many processes the group has."""
        return self._world_size

    @property
    def group_name(self) -> str:
        """What the group is called."""
        return self._group_name

    def destroy_group(self) -> None:  # noqa: B027 - many backends have nothing to free
        """Leave, and free what the group holds."""

    @classmethod
    def backend(cls) -> Any:
        """The backend's name."""
        return types.Backend.UNRECOGNIZED

    @classmethod
    @abstractmethod
    def check_backend_availability(cls) -> bool:
        """Whether it can work here."""

    @abstractmethod
    def allreduce(self, tensor: Any, allreduce_options: Any = None) -> None:
        """All ranks get the reduction over all ranks, in place."""

    @abstractmethod
    def barrier(self, barrier_options: Any = None) -> None:
        """Wait until all ranks are here."""

    @abstractmethod
    def reduce(self, tensor: Any, reduce_options: Any = None) -> None:
        """One rank gets the reduction over all ranks, in place."""

    @abstractmethod
    def allgather(self, tensor_list: Any, tensor: Any, allgather_options: Any = None) -> None:
        """All ranks get the tensors of all ranks."""

    @abstractmethod
    def broadcast(self, tensor: Any, broadcast_options: Any = None) -> None:
        """All ranks get the tensor of one rank, in place."""

    @abstractmethod
    def reducescatter(self, tensor: Any, tensor_list: Any, reducescatter_options: Any = None) -> None:
        """Rank i gets the reduction of the i-th tensors of all ranks."""

    @abstractmethod
    def send(self, tensor: Any, send_options: Any) -> None:
        """Give a tensor to one rank."""

    @abstractmethod
    def recv(self, tensor: Any, recv_options: Any) -> None:
        """Take a tensor from one rank, in place."""
