"""What becomes of the calls for several GPUs in one process? They are refused, as by Ray without cupy and NCCL."""

from __future__ import annotations

from typing import Any, NoReturn


def _refuse(instead: str) -> NoReturn:
    raise RuntimeError(
        f"Multigpu calls requires NCCL and Cupy. There are no GPU groups in minray: `{instead}` takes numpy arrays "
        "and torch tensors in main memory."
    )


def allreduce_multigpu(*args: Any, **kwargs: Any) -> None:
    """Refused. Raises: RuntimeError."""
    _refuse("allreduce")


def reduce_multigpu(*args: Any, **kwargs: Any) -> None:
    """Refused. Raises: RuntimeError."""
    _refuse("reduce")


def broadcast_multigpu(*args: Any, **kwargs: Any) -> None:
    """Refused. Raises: RuntimeError."""
    _refuse("broadcast")


def allgather_multigpu(*args: Any, **kwargs: Any) -> None:
    """Refused. Raises: RuntimeError."""
    _refuse("allgather")


def reducescatter_multigpu(*args: Any, **kwargs: Any) -> None:
    """Refused. Raises: RuntimeError."""
    _refuse("reducescatter")


def send_multigpu(*args: Any, **kwargs: Any) -> None:
    """Refused. Raises: RuntimeError."""
    _refuse("send")


def recv_multigpu(*args: Any, **kwargs: Any) -> None:
    """Refused. Raises: RuntimeError."""
    _refuse("recv")
