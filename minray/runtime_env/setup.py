"""What does a worker do to become the environment that it was leased for?

Once, before its first task. It never becomes another one: the node gives it tasks and actors of the
same environment only (`minray.raylet.state.workers`).
"""

from __future__ import annotations

import importlib
import os
import pickle
import sys
from collections.abc import Mapping
from typing import Any

from minray.base.errors import RuntimeEnvSetupError


def set_up(prepared: Mapping[str, Any]) -> None:
    """Apply a prepared environment to this process. Raises: RuntimeEnvSetupError."""
    os.environ.update(prepared.get("env_vars") or {})
    for folder in reversed(prepared.get("py_modules") or ()):
        sys.path.insert(0, folder)
    folder = prepared.get("working_dir")
    if folder:
        try:
            os.chdir(folder)
        except OSError as error:
            raise RuntimeEnvSetupError(f"the working folder {folder} is gone: {error}") from error
        sys.path.insert(0, folder)
    importlib.invalidate_caches()
    hook = prepared.get("worker_process_setup_hook")
    if hook:
        try:
            _hook(hook)()
        except BaseException as error:
            raise RuntimeEnvSetupError(
                f"worker_process_setup_hook failed: {type(error).__name__}: {error}"
            ) from error


def _hook(text: str) -> Any:
    """A function by its "module.name", or as the bytes (hexadecimal) that `prepare` made of it."""
    try:
        blob = bytes.fromhex(text)
    except ValueError:
        module, _, name = text.rpartition(".")
        return getattr(importlib.import_module(module), name)
    return pickle.loads(blob)
