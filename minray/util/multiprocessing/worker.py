"""What runs in a pool's process? An actor that works off one chunk of calls at a time.

An exception travels as in the standard library: as itself, with the worker's traceback as its cause.
"""

from __future__ import annotations

import pickle
import types
from collections.abc import Callable, Iterable
from typing import Any

from minray.util.multiprocessing.namespaces import Namespaces

FUNCTIONS_MAX = 64
APPLY, MAP, STARMAP, RAISE = "apply", "map", "starmap", "raise"


class PoolActor:
    """One process of a pool."""

    def __init__(self, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
        self._namespaces = Namespaces()
        self._last: tuple[int, Any] = (0, None)
        self._functions: dict[bytes, Any] = {}  # as they came -> ready to be called
        if initializer is not None:
            self._namespaces.settle(initializer)(*initargs)

    def run(self, function: Any, how: str, calls: Any, token: int) -> tuple[bool, Any]:
        """Work off one chunk; `function` and `calls` may have come as bytes. `token`: see `kept`; 0 for none.

        Returns: (True, the value, or the list of values), or (False, the exception that ended it).
        """
        self._last = (0, None)
        result = self._run(function, how, calls)
        if token:
            self._last = token, result
        return result

    def kept(self, token: int) -> tuple[bool, Any] | None:
        """The result of the chunk with this token, if it was the last one; None: it was never begun."""
        return self._last[1] if self._last[0] == token else None

    def _run(self, function: Any, how: str, calls: Any) -> tuple[bool, Any]:
        if type(function) is bytes:
            function = self._functions.get(function) or self._unpack(function)
        else:
            function = self._namespaces.settle(function)
        if type(calls) is bytes:
            calls = pickle.loads(calls)
        try:
            return True, _run(function, how, calls)
        except Exception as error:
            from multiprocessing import pool

            trace = _without_this_frame(error.__traceback__)
            return False, pool.ExceptionWithTraceback(error, trace)  # type: ignore[attr-defined]

    def _unpack(self, blob: bytes) -> Any:
        function = self._namespaces.settle(pickle.loads(blob))
        if isinstance(
            function, types.FunctionType
        ):  # anything else may have a state, and comes fresh each time
            while len(self._functions) >= FUNCTIONS_MAX:
                self._functions.pop(next(iter(self._functions)))
            self._functions[blob] = function
        return function


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
