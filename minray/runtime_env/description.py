"""What may a `runtime_env` say, and when do two of them mean the same environment?

    env_vars                    set before the worker imports anything for the task
    working_dir                 a folder or archive; the worker runs in a copy of it, which is on sys.path
    py_modules                  folders, files, wheels or imported modules, importable in the worker
    excludes                    patterns (as in .gitignore) of what is not copied
    worker_process_setup_hook   called once in the worker before its first task
    pip, uv                     checked against what is installed here; nothing is ever installed
    config                      taken, without effect: nothing here takes minutes to set up

A worker serves one environment for its whole life, because `os.environ` and `sys.modules` cannot be put
back. A task without one inherits that of the task that submits it; one with both merges them: variables
by name, everything else whole.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

_KNOWN = frozenset(
    "env_vars working_dir py_modules excludes worker_process_setup_hook pip uv conda container image_uri py_executable "
    "config java_jars nsight rocprof_sys".split()
)
_NOT_HERE = {
    "conda": "conda environments",
    "container": "containers",
    "image_uri": "container images",
    "py_executable": "another Python executable",
}


class RuntimeEnvConfig(dict[str, Any]):
    """Options of the set-up itself. `setup_timeout_seconds` in seconds; without effect here."""

    def __init__(
        self,
        setup_timeout_seconds: int = 600,
        eager_install: bool = True,
        log_files: list[str] | None = None,
    ) -> None:
        if not isinstance(setup_timeout_seconds, int):
            raise TypeError(f"setup_timeout_seconds must be of type int, got: {type(setup_timeout_seconds)}")
        if setup_timeout_seconds <= 0 and setup_timeout_seconds != -1:
            raise ValueError(
                f"setup_timeout_seconds must be greater than zero or equals to -1, got: {setup_timeout_seconds}"
            )
        if not isinstance(eager_install, bool):
            raise TypeError(f"eager_install must be a boolean. got {type(eager_install)}")
        super().__init__(
            setup_timeout_seconds=setup_timeout_seconds,
            eager_install=eager_install,
            log_files=log_files or [],
        )


class RuntimeEnv(dict[str, Any]):
    """A checked `runtime_env`: a dictionary that holds only what was named.

    Raises: TypeError and ValueError for impossible values.
    """

    def __init__(
        self,
        *,
        py_modules: Sequence[str | ModuleType] | None = None,
        working_dir: str | None = None,
        pip: Any = None,
        uv: Any = None,
        conda: Any = None,
        container: Any = None,
        image_uri: str | None = None,
        env_vars: Mapping[str, str] | None = None,
        worker_process_setup_hook: Callable[[], Any] | str | None = None,
        config: Mapping[str, Any] | None = None,
        excludes: Sequence[str] | None = None,
        _validate: bool = True,
        **others: Any,
    ) -> None:
        given = {
            "py_modules": py_modules, "working_dir": working_dir, "pip": pip, "uv": uv, "conda": conda,
            "container": container, "image_uri": image_uri, "env_vars": env_vars,
            "worker_process_setup_hook": worker_process_setup_hook, "config": config, "excludes": excludes, **others,
        }  # fmt: skip
        super().__init__({name: value for name, value in given.items() if value is not None})
        if _validate:
            check(self)

    def to_dict(self) -> dict[str, Any]:
        """A plain dictionary of it."""
        return dict(self)

    def serialize(self) -> str:
        """JSON, sorted by key."""
        return json.dumps(self, sort_keys=True)

    @classmethod
    def deserialize(cls, serialized: str) -> RuntimeEnv:
        """The reverse of `serialize`."""
        return cls(**json.loads(serialized), _validate=False)

    def env_vars(self) -> dict[str, str]:
        """Its environment variables."""
        return dict(self.get("env_vars") or {})

    def working_dir(self) -> str:
        """Its working folder, "" when it names none."""
        return str(self.get("working_dir") or "")

    def py_modules(self) -> list[Any]:
        """Its modules."""
        return list(self.get("py_modules") or [])

    def has_working_dir(self) -> bool:
        """Whether it names a working folder."""
        return bool(self.get("working_dir"))

    def has_pip(self) -> bool:
        """Whether it names packages for pip."""
        return bool(self.get("pip"))


def check(given: Mapping[str, Any]) -> None:
    """Refuse what cannot be meant. Raises: TypeError, ValueError.

    A field that minray cannot provide (conda, containers) is a ValueError that names it; a field that
    nobody knows is a warning, as in Ray.
    """
    for name in given:
        if name in _NOT_HERE:
            raise ValueError(
                f"runtime_env[{name!r}]: minray runs tasks in the Python that runs the driver; {_NOT_HERE[name]} are "
                "not offered. Start the driver in the environment that the tasks need."
            )
        if name not in _KNOWN and not name.startswith("_"):
            warnings.warn(
                f"The following unknown entries in the runtime_env dictionary are ignored: {name}",
                stacklevel=5,
            )
    variables = given.get("env_vars")
    if variables is not None:
        if not isinstance(variables, Mapping):
            raise TypeError(f"runtime_env['env_vars'] must be of type Dict[str, str], got {type(variables)}")
        for key, value in variables.items():
            for what, part in (("key", key), ("value", value)):
                if not isinstance(part, str):
                    raise TypeError(
                        f"runtime_env['env_vars'] must be of type Dict[str, str], but the {what} {part!r} is of type "
                        f"{type(part)}"
                    )
    folder = given.get("working_dir")
    if folder is not None and not isinstance(folder, str):
        raise TypeError(f"`working_dir` must be a string, got {type(folder)}.")
    for name in ("py_modules", "excludes"):
        parts = given.get(name)
        allowed = (str, ModuleType) if name == "py_modules" else (str,)
        if parts is not None and (
            not isinstance(parts, list | tuple) or not all(isinstance(part, allowed) for part in parts)
        ):
            raise TypeError(f"`{name}` must be a list of strings, got {type(parts)}.")
    hook = given.get("worker_process_setup_hook")
    if hook is not None and not callable(hook) and not isinstance(hook, str):
        raise TypeError(
            f"worker_process_setup_hook must be a function or its 'module.name', got {type(hook)}"
        )


def merged(parent: Mapping[str, Any], own: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a task gets that names `own` and is submitted from `parent`."""
    result = dict(parent)
    for name, value in (own or {}).items():
        if name == "env_vars":
            result[name] = {**(parent.get(name) or {}), **(value or {})}
        elif value is not None:
            result[name] = value
    return {name: value for name, value in result.items() if value not in ({}, [], None)}


def key_of(prepared: Mapping[str, Any]) -> str:
    """A short name of a prepared environment (strings, lists and dictionaries only): equal ones share workers."""
    canonical = json.dumps(prepared, sort_keys=True).encode()
    return hashlib.sha256(canonical).hexdigest()[:16]
