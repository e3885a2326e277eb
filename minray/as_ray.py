"""How does a program written for Ray run on minray, unchanged?

`import ray` and `import ray.anything` are answered by a finder that stands first on `sys.meta_path`: it
imports `minray.anything` and hands out the same module object under the other name.

    import ray.util.queue  ──► finder ──► minray.util.queue   (one module, two entries in sys.modules)
    from ray import tune   ──► there is no minray.tune ──► ImportError that says so

It reaches everywhere a program does:

    the driver          `minray run script.py`, `%load_ext minray.as_ray`, or `minray.as_ray.install()`
    workers             the session's record says so (`SessionConfig.as_ray`); they install it at their start
    child processes     `MINRAY_AS_RAY=1`, and a folder on PYTHONPATH whose `sitecustomize` installs it at
                        the first `import ray` (and runs the `sitecustomize` that it hides)

`ray.__version__` is `RAY_VERSION` while the aliases are installed, and so is `minray.__version__`, for it
is one module: libraries compare it with the least Ray that they support, and ours would fail them all.
The part after "+" tells the two apart. `uninstall()` puts a real Ray back that was imported before.
A Python started with `-I` or `-E` ignores PYTHONPATH and so does not see the aliases.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import MutableMapping, Sequence
from types import ModuleType
from typing import Any

import minray

RAY_VERSION = "2.60.0+minray"
FLAG = "MINRAY_AS_RAY"
SITE_DIR = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_site")

_ELSEWHERE = {"ray.cloudpickle": "cloudpickle"}
_LIBRARIES = {
    "ray.data": "Ray Data",
    "ray.train": "Ray Train",
    "ray.tune": "Ray Tune",
    "ray.serve": "Ray Serve",
    "ray.job_submission": "job submission",
    "ray.dashboard": "the dashboard",
    "ray.cluster_utils": "clusters of many nodes on one machine",
    "ray.autoscaler": "the autoscaler",
}
_own_version: str | None = None
_real_ray: dict[str, ModuleType] = {}
_own_environment: dict[str, str | None] = {}


class _AliasLoader(importlib.abc.Loader):
    """Hands out a module that exists, and leaves its identity (`__spec__`) as it was."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self._spec = module.__spec__

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        # The import system has just written the alias's spec into the module; reload, pickling and
        # relative imports go by the real one.
        module.__spec__ = self._spec


class _RayFinder(importlib.abc.MetaPathFinder):
    """First on the path: answers every `ray` and `ray.*`, so that a real Ray is never reached."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "ray" and not fullname.startswith("ray."):
            return None
        module = _counterpart(fullname)
        spec = importlib.machinery.ModuleSpec(
            fullname, _AliasLoader(module), origin=module.__file__, is_package=hasattr(module, "__path__")
        )
        spec.submodule_search_locations = getattr(module, "__path__", None)
        return spec


class _MissingFinder(importlib.abc.MetaPathFinder):
    """Last on the path: `from ray import tune` ends here, as a search for `minray.tune`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        alias = "ray" + fullname.removeprefix("minray")
        if fullname.startswith("minray.") and _is_module_of_ray(alias):
            raise _missing(alias)
        return None


_finder = _RayFinder()
_missing_finder = _MissingFinder()


def _counterpart(fullname: str) -> ModuleType:
    """The module of minray that stands for Ray's `fullname`. Raises: ModuleNotFoundError that says more."""
    name = _ELSEWHERE.get(fullname, "minray" + fullname.removeprefix("ray"))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise  # the module exists; something that it needs does not
        parent, _, child = name.rpartition(".")
        attribute = getattr(sys.modules.get(parent), child, None)
        if isinstance(attribute, ModuleType):
            return attribute
        raise _missing(fullname) from None


def _is_module_of_ray(name: str) -> bool:
    return any(
        name == known or name.startswith(known + ".") for known in (*_LIBRARIES, "ray.rllib", "ray.util")
    )


def _missing(fullname: str) -> ModuleNotFoundError:
    ours = "minray" + fullname.removeprefix("ray")
    if fullname == "ray.rllib" or fullname.startswith("ray.rllib."):
        text = f"minray does not offer RLlib ({fullname}); a program that needs it needs Ray itself"
    else:
        library = next(
            (text for name, text in _LIBRARIES.items() if f"{fullname}.".startswith(name + ".")), ""
        )
        what = f": {library} is not part of this version" if library else ""
        text = f"minray has no module {ours} yet (asked for as {fullname}){what}"
    return ModuleNotFoundError(text, name=fullname)


# --- on and off -------------------------------------------------------------------------------
def install() -> None:
    """From now on `ray` means minray in this process. A second call does nothing."""
    global _own_version
    if is_installed():
        return
    for name in [n for n in sys.modules if n == "ray" or n.startswith("ray.")]:
        _real_ray[name] = sys.modules.pop(name)
    sys.meta_path.insert(0, _finder)
    sys.meta_path.append(_missing_finder)
    _own_version = getattr(minray, "__version__", None)
    minray.__version__ = RAY_VERSION
    importlib.invalidate_caches()


def uninstall() -> None:
    """Undo `install()`: `import ray` finds a real Ray again, the very one that was imported before."""
    if not is_installed():
        return
    sys.meta_path.remove(_finder)
    sys.meta_path.remove(_missing_finder)
    for name in [n for n in sys.modules if n == "ray" or n.startswith("ray.")]:
        del sys.modules[name]
    sys.modules.update(_real_ray)
    _real_ray.clear()
    if _own_version is not None:
        minray.__version__ = _own_version
    importlib.invalidate_caches()


def is_installed() -> bool:
    """Whether `import ray` means minray in this process."""
    return _finder in sys.meta_path


def child_environment(environ: MutableMapping[str, str]) -> None:
    """Change `environ` so that Python processes started with it see the aliases too."""
    environ[FLAG] = "1"
    rest = [part for part in environ.get("PYTHONPATH", "").split(os.pathsep) if part and part != SITE_DIR]
    environ["PYTHONPATH"] = os.pathsep.join([SITE_DIR, *rest])


# --- notebooks --------------------------------------------------------------------------------
def load_ipython_extension(shell: Any) -> None:
    """`%load_ext minray.as_ray`: for this kernel, its workers, and the shell commands of its cells."""
    install()
    for name in (FLAG, "PYTHONPATH"):
        _own_environment.setdefault(name, os.environ.get(name))
    child_environment(os.environ)
    notes = []
    known = shell.user_ns.get("ray")
    if isinstance(known, ModuleType) and known is not minray:
        notes.append(
            "The name `ray` in this notebook still means the Ray imported before: run `import ray` again."
        )
    if minray.is_initialized():
        notes.append(
            "The running cluster began without the aliases: call `ray.shutdown()`, then `ray.init()`."
        )
    if notes:
        sys.stdout.write("\n".join(notes) + "\n")


def unload_ipython_extension(shell: Any) -> None:
    """`%unload_ext minray.as_ray`: everything as before."""
    uninstall()
    for name, value in _own_environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    _own_environment.clear()
    if shell.user_ns.get("ray") is minray:
        sys.stdout.write("The name `ray` in this notebook still means minray: run `import ray` again.\n")
