"""How do libraries say which of their names are public? As `ray.util.annotations`: the marks, no behaviour.

Only `Deprecated(warning=True)` does something: a call warns, once a place.
"""

from __future__ import annotations

import enum
import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any


class AnnotationType(enum.Enum):
    """What a name was marked as."""

    PUBLIC_API = "PublicAPI"
    DEVELOPER_API = "DeveloperAPI"
    DEPRECATED = "Deprecated"
    UNKNOWN = "Unknown"


class RayDeprecationWarning(DeprecationWarning):
    """Something marked as deprecated was used."""


def _mark(kind: AnnotationType, args: tuple[Any, ...], wrap: Callable[[Any], Any] = lambda obj: obj) -> Any:
    def mark(obj: Any) -> Any:
        obj = wrap(obj)
        obj._annotated = getattr(obj, "__name__", None)
        obj._annotated_type = kind
        return obj

    return mark(args[0]) if len(args) == 1 and callable(args[0]) else mark


def PublicAPI(*args: Any, stability: str = "stable", api_group: str = "Others") -> Any:  # noqa: N802 (Ray's name)
    """Mark a class or function as public. Raises: ValueError for an unknown stability."""
    if stability not in ("stable", "beta", "alpha"):
        raise ValueError(f"stability must be 'stable', 'beta' or 'alpha', not {stability!r}")
    return _mark(AnnotationType.PUBLIC_API, args)


def DeveloperAPI(*args: Any, **kwargs: Any) -> Any:  # noqa: N802 (Ray's name)
    """Mark a class or function as meant for library authors."""
    return _mark(AnnotationType.DEVELOPER_API, args)


def Deprecated(*args: Any, message: str = "", warning: bool = False) -> Any:  # noqa: N802 (Ray's name)
    """Mark a class or function as going away; with `warning=True` its use says so."""

    def wrap(obj: Any) -> Any:
        text = f"{getattr(obj, '__qualname__', obj)} is deprecated. {message}".strip()
        if not warning:
            return obj
        if inspect.isclass(obj):
            construct = obj.__init__

            @functools.wraps(construct)
            def warned(self: Any, *given: Any, **named: Any) -> None:
                warnings.warn(text, RayDeprecationWarning, stacklevel=2)
                construct(self, *given, **named)

            obj.__init__ = warned  # type: ignore[method-assign]  # that is what the mark does
            return obj

        @functools.wraps(obj)
        def called(*given: Any, **named: Any) -> Any:
            warnings.warn(text, RayDeprecationWarning, stacklevel=2)
            return obj(*given, **named)

        return called

    return _mark(AnnotationType.DEPRECATED, args, wrap)
