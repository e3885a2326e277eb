"""How does a function get to a worker, and when is it sent again?

By value, through cloudpickle, once per connection. A module of the working directory (or one that
exists only in this process) is pickled by value too: the worker may have imported an older version
of it, or may not find it at all. Everything installed is referred to by name.

`epoch` counts the moments at which code may have changed: each notebook cell, each reload. A
`RemoteFunction` that sees a new epoch pickles itself again and is exported again only if the bytes
differ, so a helper redefined in a cell is used by the next call.
"""

from __future__ import annotations

import os
import pickle
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

epoch = 0
_installed_roots = tuple(
    os.path.realpath(path) + os.sep
    for path in {sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    if path
)
_scanned: tuple[int, str, tuple[ModuleType, ...]] = (-1, "", ())


def new_epoch(*_: Any) -> None:
    """Code may have changed: the next call of each remote function looks again."""
    global epoch
    epoch += 1


class _ReloadWatch:
    """A finder that finds nothing, but hears of every `importlib.reload` (and so of `%autoreload`): only
    there is `target`, the module to be executed again, given."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        """Called by the import system."""
        if target is not None:
            new_epoch()


def watch_reloads() -> None:
    """From now on a reload is a new epoch."""
    if not any(isinstance(finder, _ReloadWatch) for finder in sys.meta_path):
        sys.meta_path.insert(0, _ReloadWatch())


def dump_code(value: Any) -> bytes:
    """Pickle a function or class by value, with the modules of the working directory.

    Raises: TypeError that names the function and hints at `inspect_serializability`.
    """
    import cloudpickle

    try:
        with _by_value(cloudpickle):
            return bytes(cloudpickle.dumps(value, 5))
    except Exception:
        pass  # a module that holds a lock or a file cannot go by value: by name then
    try:
        return bytes(cloudpickle.dumps(value, 5))
    except Exception as error:
        name = getattr(value, "__qualname__", repr(value))
        raise TypeError(
            f"Could not serialize {name}: {error}\nIt is sent to workers with everything that it refers to; "
            f"`minray.util.inspect_serializability({name})` shows which part is to blame."
        ) from error


def load_code(blob: bytes) -> Any:
    """The function or class again."""
    return pickle.loads(blob)


@contextmanager
def _by_value(cloudpickle: ModuleType) -> Iterator[None]:
    modules = [m for m in local_modules() if m.__name__ not in cloudpickle.list_registry_pickle_by_value()]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def local_modules() -> tuple[ModuleType, ...]:
    """Modules of the working directory and modules without a file that only this process has."""
    global _scanned
    here = os.getcwd()
    if _scanned[0] == len(sys.modules) and _scanned[1] == here:
        return _scanned[2]
    root = os.path.realpath(here) + os.sep
    found = tuple(m for name, m in list(sys.modules.items()) if _is_local(name, m, root))
    _scanned = (len(sys.modules), here, found)
    return found


def _is_local(name: str, module: Any, root: str) -> bool:
    if not isinstance(module, ModuleType) or name in ("__main__", "__mp_main__") or name != module.__name__:
        return False
    if name.partition(".")[0] in ("minray", "minray_widgets", "conftest", "ray"):
        return False
    path = getattr(module, "__file__", None)
    if path is None:
        # No file, no loader: made by hand, so nobody else can import it.
        return getattr(module, "__spec__", None) is None and name not in sys.builtin_module_names
    real = os.path.realpath(path)
    return real.startswith(root) and not real.startswith(_installed_roots) and "site-packages" not in real
