"""Stands in for torch where a seed's block touches CUDA: this machine has none.

Only what the blocks use. Tensors remember the device that they were put on.
"""

from __future__ import annotations


class device:
    def __init__(self, name: str) -> None:
        self.type = name


class _Scalar:
    def __init__(self, value: float) -> None:
        self.value = value

    def item(self) -> float:
        return self.value


class _Tensor:
    def __init__(self, data: list[float], on: device | None) -> None:
        self.data = list(data)
        self.device = on

    def to(self, on: device) -> _Tensor:
        return _Tensor(self.data, on)

    def sum(self) -> _Scalar:
        return _Scalar(sum(self.data))


def tensor(data: list[float], device: device | None = None) -> _Tensor:
    return _Tensor(data, device)


class cuda:
    @staticmethod
    def is_available() -> bool:
        return True
