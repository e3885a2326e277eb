"""How does a task or an actor get environment variables of its own (`runtime_env={"env_vars": ...}`)?

They travel with the code. A task sets them while it runs and puts back what was there, because the
next task of that worker may be another's. An actor has its process to itself: its variables are set
when its class is unpickled, before the modules that the class needs are imported.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any


def variables_of(runtime_env: Mapping[str, Any] | None) -> dict[str, str]:
    """The environment variables that `runtime_env` asks for."""
    return {str(key): str(value) for key, value in ((runtime_env or {}).get("env_vars") or {}).items()}


def task_code(function: Callable[..., Any], runtime_env: Mapping[str, Any] | None) -> Callable[..., Any]:
    """`function`, wrapped only if it wants variables."""
    variables = variables_of(runtime_env)
    return _TaskCode(variables, function) if variables else function


def actor_code(cls: type, runtime_env: Mapping[str, Any] | None) -> Any:
    """What to pickle so that `cls` is unpickled with its variables set."""
    variables = variables_of(runtime_env)
    return _ActorCode(variables, cls) if variables else cls


class _TaskCode:
    def __init__(self, variables: dict[str, str], function: Callable[..., Any]) -> None:
        self._variables = variables
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        before = {key: os.environ.get(key) for key in self._variables}
        os.environ.update(self._variables)
        try:
            return self._function(*args, **kwargs)
        finally:
            for key, value in before.items():
                if value is None:
                    os.environ.pop(key, None)
                else:
                    os.environ[key] = value


class _ActorCode:
    def __init__(self, variables: dict[str, str], cls: type) -> None:
        self._variables = variables
        self._cls = cls

    def __reduce__(self) -> tuple[Any, ...]:
        # Arguments are unpickled in order: the variables are set before the class loads.
        return _last, (_Variables(self._variables), self._cls)


class _Variables:
    def __init__(self, variables: dict[str, str]) -> None:
        self._variables = variables

    def __reduce__(self) -> tuple[Any, ...]:
        return _set_variables, (self._variables,)


def _set_variables(variables: dict[str, str]) -> None:
    os.environ.update(variables)


def _last(_: None, cls: type) -> type:
    return cls
