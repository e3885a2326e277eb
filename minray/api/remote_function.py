"""What is `f` after `@remote`?

A `RemoteFunction`: calling it is refused, `f.remote(...)` submits a task, `f.options(...)` is the same
function under other rules. The function is pickled at the first call, and looked at again when code
may have changed (a new cell, a reload), so an edited helper is used by the next call.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

from minray.api.options import TaskOptions, parse_task_options
from minray.api.placement import check_wishes
from minray.api.returns import check_override, check_returns, returns_of, yields
from minray.api.teaching import warn_large_code
from minray.base.resources import in_environment
from minray.engine.seam import FunctionSpec, slot
from minray.serialization import functions as code


class RemoteFunction:
    """A function whose calls are tasks. Made by `@remote`."""

    def __init__(self, function: Callable[..., Any], options: TaskOptions) -> None:
        self._function = function
        self._options = options
        self._yields = yields(function)
        self._engine: Any = None
        self._submit: Any = None
        self._epoch = -1
        self._blob = b""
        self._fits, self._least, self._most = argument_check(function)
        self._name = options.name or getattr(function, "__qualname__", None) or repr(function)
        functools.update_wrapper(self, function, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Refused: a task is submitted by `.remote()`. Raises: TypeError that says so."""
        raise TypeError(
            f"Remote functions cannot be called directly. Instead of running '{self._name}()', "
            f"try '{self._name}.remote()'."
        )

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Submit a task. Returns its ObjectRef (a list for num_returns > 1, None for 0, an ObjectRefGenerator
        if it yields) at once.

        Raises: TypeError when the arguments do not fit the function or cannot be pickled.
        """
        if kwargs or not self._least <= len(args) <= self._most:
            self._fits(args, kwargs)
        if self._engine is not slot.engine or self._epoch != code.epoch or slot.engine is None:
            self._prepare()
        return self._submit(args, kwargs)

    def options(self, **overrides: Any) -> RemoteFunction:
        """The same function with other options, for example `f.options(num_cpus=2).remote()`."""
        merged = self._options.merge(overrides)
        check_returns(overrides, self._yields, stacklevel=3)
        check_override(overrides, "task", "@ray.remote")
        twin = RemoteFunction(self._function, merged)
        twin._blob, twin._epoch = self._blob, -1
        return twin

    def bind(self, *args: Any, **kwargs: Any) -> Any:
        """A task to be submitted later, in a graph (`minray.dag`)."""
        from minray.dag import FunctionNode

        return FunctionNode(self, args, kwargs, self._options.given)

    def _prepare(self) -> None:
        engine = slot.engine
        if engine is None:
            from minray.api.init import auto_init

            engine = auto_init()
        if not self._blob or self._epoch != code.epoch:
            self._epoch = code.epoch
            self._blob = code.dump_code(self._function)
            warn_large_code(f"The remote function {self._name}", len(self._blob))
        options = self._options
        check_wishes(options, engine)
        environment_key, environment = engine.environment(options.runtime_env)
        spec = FunctionSpec(
            self._name,
            self._blob,
            in_environment(options.shape, environment_key),
            options.max_retries,
            options.retry_exceptions,
            returns_of(options.given, self._yields),
            environment,
            options.max_calls,
        )
        self._submit = engine.prepare(spec)
        if not options.enable_task_events:
            self._submit = engine.untraced(self._submit)
        self._engine = engine

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._function, self._options)

    def __repr__(self) -> str:
        return f"<remote function {self._name}>"


def _rebuild(function: Callable[..., Any], options: TaskOptions) -> RemoteFunction:
    return RemoteFunction(function, options)


def make_remote_function(function: Callable[..., Any], given: Mapping[str, Any]) -> RemoteFunction:
    """`@remote` on a function. Raises: ValueError, TypeError for bad options."""
    check_returns(given, yields(function), stacklevel=4)
    return RemoteFunction(function, parse_task_options(given))


ArgumentCheck = tuple[Callable[[tuple[Any, ...], dict[str, Any]], None], int, int]


def argument_check(function: Any, skip_first: bool = False) -> ArgumentCheck:
    """(check, least, most): `check(args, kwargs)` raises TypeError as a direct call would; a call with
    between `least` and `most` positional arguments and no others needs none.

    Plain positional calls cost a comparison; `Signature.bind` (2 us) only when something is unusual.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return (lambda args, kwargs: None), 0, sys.maxsize
    parameters = list(signature.parameters.values())
    if skip_first and parameters and parameters[0].kind in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):
        parameters = parameters[1:]
        signature = signature.replace(parameters=parameters)
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    least = sum(1 for p in positional if p.default is p.empty)
    most = sys.maxsize if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(positional)
    needs_keywords = any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters)
    bind = signature.bind

    def check(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(str(error)) from None

    return check, sys.maxsize if needs_keywords else least, most
