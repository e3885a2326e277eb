"""How does a torch tensor travel?

As its bytes, out of band, instead of torch's own stream (ten times slower). The reader gets a private
copy: a tensor cannot be marked read-only, and a write must never reach an object in the store. With
MINRAY_TORCH_ZERO_COPY=1 it gets a tensor over the store's own pages, for programs that only read.

Only plain dense CPU tensors that fill their storage go this way; all others (views of larger
storages, GPU, sparse, quantized, subclasses) keep torch's own way.
"""

from __future__ import annotations

import copyreg
import os
import warnings
from pickle import PickleBuffer
from typing import Any

_registered = False


def register(torch: Any) -> None:
    """Teach pickle about `torch.Tensor` (once a process, when torch is there)."""
    global _registered
    if not _registered:
        _registered = True
        copyreg.pickle(torch.Tensor, lambda tensor: _reduce(torch, tensor))


def _reduce(torch: Any, tensor: Any) -> Any:
    plain = (
        tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and tensor.is_contiguous()
        and not tensor.is_quantized
        and (not tensor.requires_grad or tensor.is_leaf)
        and tensor.numel() > 0
        and tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
        and not tensor.is_conj()
        and not tensor.is_neg()
    )
    if not plain:
        return tensor.__reduce_ex__(5)
    raw = tensor.detach().reshape(-1).view(torch.uint8).numpy()
    dtype = str(tensor.dtype).removeprefix("torch.")
    return _rebuild, (PickleBuffer(raw), dtype, tuple(tensor.shape), tensor.requires_grad)


def _rebuild(raw: Any, dtype: str, shape: tuple[int, ...], requires_grad: bool) -> Any:
    import torch

    register(torch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of a buffer that is not writable: that is the point
        flat = torch.frombuffer(memoryview(raw), dtype=torch.uint8)
    if os.environ.get("MINRAY_TORCH_ZERO_COPY", "0") not in ("1", "true", "on"):
        flat = flat.clone()
    tensor = flat.view(getattr(torch, dtype)).reshape(shape)
    return tensor.requires_grad_() if requires_grad else tensor
