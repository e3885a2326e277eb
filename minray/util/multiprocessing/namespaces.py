"""Where do the globals of a script's functions live in a pool's process?

A function of a script or a notebook travels by value, with the globals that it refers to, and each arrival would
have a namespace of its own. But an initializer that sets a global, and a function that reads it, are the usual way
to give each process of a pool a connection or a model:

    def start(path):                      Pool(initializer=start, initargs=("a.db",))
        global database
        database = open_database(path)

    def look_up(key):                     pool.map(look_up, keys)
        return database[key]

So functions that came from one module share one namespace here. What the process assigned stays; everything else
is as the latest arrival says. (In Ray such globals are lost.) Functions of importable modules need none of this.
"""

from __future__ import annotations

import builtins
import functools
import sys
import types
from typing import Any


class Namespaces:
    """The shared namespaces of one process, by the name of the module that the functions come from."""

    def __init__(self) -> None:
        self._spaces: dict[str, dict[str, Any]] = {}
        self._arrived: dict[str, dict[str, Any]] = {}  # what we put there: anything else was assigned here

    def settle(self, function: Any) -> Any:
        """The same function, at home in the namespace of its module."""
        if isinstance(function, functools.partial):
            return functools.partial(self.settle(function.func), *function.args, **function.keywords)
        inner = function.__func__ if isinstance(function, types.MethodType) else function
        if not isinstance(inner, types.FunctionType) or _is_imported(inner):
            return function
        came_with = inner.__globals__
        home = self._spaces.get(inner.__module__)
        if home is came_with:
            return function
        if home is None:
            home = self._spaces[inner.__module__] = {"__name__": inner.__module__, "__builtins__": builtins}
        move = _Move(came_with, home)
        if isinstance(function, types.MethodType):
            move.value(type(function.__self__))
            moved: Any = types.MethodType(move.value(inner), function.__self__)
        else:
            moved = move.value(inner)
        arrived = self._arrived.setdefault(inner.__module__, {})
        for name, value in list(came_with.items()):
            if name in home and (name.startswith("__") or home[name] is not arrived.get(name, arrived)):
                continue  # assigned by code that ran here
            home[name] = arrived[name] = move.value(value)
        return moved


def _is_imported(function: types.FunctionType) -> bool:
    module = sys.modules.get(function.__module__)
    return module is not None and function.__globals__ is vars(module)


class _Move:
    """Takes functions, and classes with their methods, from one namespace to another."""

    def __init__(self, came_with: dict[str, Any], home: dict[str, Any]) -> None:
        self._came_with = came_with
        self._home = home
        self._moved: dict[int, Any] = {}

    def value(self, value: Any) -> Any:
        """What stands for `value` in the new namespace."""
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, staticmethod | classmethod):
            return type(value)(self.value(value.__func__))
        if isinstance(value, type) and id(value) not in self._moved:
            self._moved[id(value)] = value
            for name, member in list(vars(value).items()):
                moved = self.value(member) if not isinstance(member, type) else member
                if moved is not member:
                    setattr(value, name, moved)
        return value

    def _function(self, function: types.FunctionType) -> types.FunctionType:
        if function.__globals__ is not self._came_with:
            return function
        known: types.FunctionType | None = self._moved.get(id(function))
        if known is not None:
            return known
        moved = types.FunctionType(
            function.__code__, self._home, function.__name__, function.__defaults__, function.__closure__
        )
        self._moved[id(function)] = moved
        moved.__kwdefaults__ = function.__kwdefaults__
        moved.__qualname__ = function.__qualname__
        moved.__module__ = function.__module__
        moved.__doc__ = function.__doc__
        moved.__dict__.update({k: self.value(v) for k, v in function.__dict__.items()})
        for cell in function.__closure__ or ():
            try:
                content = cell.cell_contents
            except ValueError:
                continue  # empty: a name that is bound later
            if isinstance(content, types.FunctionType):  # what a decorator wraps
                cell.cell_contents = self.value(content)
        return moved
