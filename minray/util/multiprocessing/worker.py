"""What runs in a pool's process? An actor that works off one chunk of calls at a time.

An exception travels as in the standard library: as itself, with the worker's traceback as its cause.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from minray.util.multiprocessing.namespaces import Namespaces

APPLY, MAP, STARMAP, RAISE = "apply", "map", "starmap", "raise"


class PoolActor:
    """One process of a pool."""

    def __init__(self, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
        self._namespaces = Namespaces()
        if initializer is not None:
            self._namespaces.settle(initializer)(*initargs)

    def run(self, function: Callable[..., Any], how: str, calls: Any) -> tuple[bool, Any]:
        """Work off one chunk.

        Returns: (True, the value, or the list of values), or (False, the exception that ended it).
        """
        try:
            return True, _run(self._namespaces.settle(function), how, calls)
        except Exception as error:
            from multiprocessing import pool

            trace = _without_this_frame(error.__traceback__)
            return False, pool.ExceptionWithTraceback(error, trace)  # type: ignore[attr-defined]


def _run(function: Callable[..., Any], how: str, calls: Any) -> Any:
    if how == APPLY:
        args, kwargs = calls
        return function(*args, **kwargs)
    if how == STARMAP:
        return [function(*one) for one in calls]
    items: Iterable[Any] = calls
    return [function(one) for one in items]


def _without_this_frame(traceback: Any) -> Any:
    """The traceback from the user's own code on, if it got that far."""
    inner = traceback
    while inner is not None and inner.tb_frame.f_code.co_filename == __file__:
        inner = inner.tb_next
    return inner or traceback
