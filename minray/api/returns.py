"""Does a call give one value, several, or items one by one?

    num_returns  not named   1; of a generator function "streaming"
                 0, 1, 2 ..  that many values (a generator's first ones)
                 "streaming" an ObjectRefGenerator, at once
                 "dynamic"   one reference; its value is a collection of references, at the end

What does not fit the function is refused where it is written: a function without `yield` gives no items.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

from minray.worker.wire import Yields


class RayDeprecationWarning(DeprecationWarning):
    """What Ray will drop in a later version."""


def yields(function: Any) -> bool:
    """Whether `function` is a generator function, plain or async."""
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def check_returns(given: Mapping[str, Any], generator: bool, stacklevel: int) -> None:
    """Check `num_returns` as named in an option list.

    Raises: ValueError when items are asked of a function that does not yield.
    """
    asked = given.get("num_returns")
    if asked == "dynamic":
        warnings.warn(
            "num_returns='dynamic' is deprecated and will be removed in a future Ray release. Use "
            "num_returns='streaming' instead.",
            RayDeprecationWarning,
            stacklevel=stacklevel,
        )
    if asked in ("dynamic", "streaming") and not generator:
        raise ValueError(
            f"num_returns='{asked}' can only be used with generator functions (functions that use 'yield'). "
            "The decorated function is not a generator function."
        )


def check_override(overrides: Mapping[str, Any], what: str, instead: str) -> None:
    """`_num_objects_per_yield` belongs to the function, not to a call of it. Raises: ValueError."""
    if "_num_objects_per_yield" in overrides:
        raise ValueError(
            f"_num_objects_per_yield cannot be overridden per {what} call. Use {instead}(_num_objects_per_yield=...) "
            "instead."
        )


def returns_of(given: Mapping[str, Any], generator: bool) -> int | Yields:
    """What the calls of a function or method with these options give."""
    asked = given.get("num_returns")
    if asked is None:
        asked = "streaming" if generator else 1
    if isinstance(asked, int):
        return asked
    window = given.get("_generator_backpressure_num_objects") or 0
    return Yields(asked == "dynamic", max(0, window), given.get("_num_objects_per_yield") or 1)
