"""How does a program say itself how its objects travel?

A registered class is pickled as `deserializer(serializer(instance))`, by everything in this process
that pickles. Register it in each process that sends instances; who receives them need not.
"""

from __future__ import annotations

import copyreg
from collections.abc import Callable
from typing import Any


def register_serializer(
    cls: type[Any], *, serializer: Callable[[Any], Any], deserializer: Callable[[Any], Any]
) -> None:
    """From now on instances of exactly `cls` travel as what `serializer` makes of them."""

    def reduce(instance: Any) -> tuple[Callable[[Any], Any], tuple[Any]]:
        return deserializer, (serializer(instance),)

    # Both pickle and cloudpickle consult this table, and the first of them that succeeds is used.
    copyreg.dispatch_table[cls] = reduce


def deregister_serializer(cls: type[Any]) -> None:
    """Forget what `register_serializer` was told of `cls`; nothing happens if it was told nothing."""
    copyreg.dispatch_table.pop(cls, None)
