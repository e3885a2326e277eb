"""How does an exception travel?

As bytes that every process can read: a task's error goes apart into its origin, its cause and a
description, so that a cause whose class is unknown here still tells its story.
"""

from __future__ import annotations

import pickle
from typing import Any

from minray.base.errors import RayTaskError, pack_task_error, unpack_task_error


def dump_error(error: BaseException) -> bytes:
    """Any exception -> bytes. Never raises."""
    if isinstance(error, RayTaskError):
        return pack_task_error(error, _dumps)
    try:
        return _dumps(error)
    except Exception:
        return pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"), 5)


def load_error(data: bytes) -> BaseException:
    """Bytes -> the exception; a task's error as a plain RayTaskError. Never raises."""
    try:
        found = pickle.loads(data)
        if isinstance(found, tuple):
            return unpack_task_error(data, pickle.loads)
    except Exception as trouble:
        return RuntimeError(f"an exception that cannot be read here: {trouble!r}")
    return found if isinstance(found, BaseException) else RuntimeError(str(found))


def _dumps(value: Any) -> bytes:
    try:
        stream = pickle.dumps(value, 5)
        if b"__main__" not in stream:
            return stream
    except Exception:
        pass  # cloudpickle decides
    import cloudpickle

    return bytes(cloudpickle.dumps(value, 5))
