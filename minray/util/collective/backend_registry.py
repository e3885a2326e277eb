"""Which backends are there? "GLOO", and what a program registers, in each process that uses it."""

from __future__ import annotations

from minray.util.collective import types
from minray.util.collective.collective_group.base_collective_group import BaseGroup

_backends: dict[str, type[BaseGroup]] = {}


def register_collective_backend(name: str, group_cls: type[BaseGroup]) -> None:
    """Make `backend=name` mean `group_cls`; to be called in the driver and in every actor of such a group.

    Raises: TypeError when it is no BaseGroup, ValueError when the name is taken.
    """
    if not issubclass(group_cls, BaseGroup):
        raise TypeError(f"{group_cls} is not a subclass of BaseGroup")
    upper = name.upper()
    if upper in _backends:
        raise ValueError(f"Backend {upper} already registered")
    _backends[upper] = group_cls
    if not hasattr(types.Backend, upper):
        setattr(types.Backend, upper, upper)


def canonical(name: str) -> str:
    """The name that a backend is registered by: Ray calls its own gloo "torch_gloo" in places."""
    upper = name.upper()
    return "GLOO" if upper == "TORCH_GLOO" else upper


def find_backend(name: str) -> type[BaseGroup]:
    """The class of a backend. Raises: ValueError that says what there is."""
    group_cls = _backends.get(canonical(name))
    if group_cls is None:
        hint = " (it needs GPUs; there are none here)" if name.upper() == "NCCL" else ""
        raise ValueError(
            f"Backend {name.upper()} not registered{hint}. There are: {', '.join(sorted(_backends))}."
        )
    return group_cls


def is_usable(name: str) -> bool:
    """Whether a backend is registered and says that it can work."""
    group_cls = _backends.get(canonical(name))
    return group_cls is not None and bool(group_cls.check_backend_availability())
