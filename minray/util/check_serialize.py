"""Which part of a value is to blame when it cannot be sent to another process?

A function drags along what it refers to: globals, closure variables, defaults; an object its
attributes, a container its items. The search follows these from the value downwards as long as a
child fails too; the last one that fails is the culprit.

    train ─► global 'model' ─► attribute 'lock': cannot pickle '_thread.lock' object
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

import cloudpickle

_CHILDREN_MAX = 1000  # of one value; a list of a million locks is understood from the first


@dataclass(frozen=True, eq=False)
class FailureTuple:
    """One culprit: `obj` cannot be pickled; `path` leads to it; `parent` refers to it."""

    obj: Any
    path: tuple[str, ...]
    parent: Any

    @property
    def name(self) -> str:
        """What the parent calls it."""
        return self.path[-1]

    def __repr__(self) -> str:
        path = " -> ".join(self.path)
        return f"FailTuple({self.name} [path={path}, obj={self.obj!r}, parent={self.parent!r}])"


def inspect_serializability(
    base_obj: Any, name: str | None = None, depth: int = 3, print_file: IO[str] | None = None
) -> tuple[bool, set[FailureTuple]]:
    """Find what in `base_obj` cannot be sent to another process, and print it as a tree.

    Args:
        base_obj: anything: a function, a class, a value.
        name: what to call it in the output.
        depth: how many references deep to look.
        print_file: where to print; stdout if None.

    Returns: (whether it can be sent, the culprits).
    """
    name = name or getattr(base_obj, "__qualname__", None) or _short(base_obj)
    title = f"Checking Serializability of {_short(base_obj)}"
    rule = "=" * min(len(title), 80)
    lines = [rule, title, rule]
    failures: set[FailureTuple] = set()
    reason = _why_not(base_obj)
    if reason is None:
        lines.append(f"{name}: can be sent")
    else:
        lines.append(f"{name}: cannot be sent: {reason}")
        _search(base_obj, base_obj, (name,), depth, {id(base_obj)}, failures, lines)
        lines.append(rule)
        lines.append("To blame:")
        lines += [f"    {' -> '.join(f.path)}: {_short(f.obj)}" for f in failures]
        lines.append(
            "Make it inside the task or the actor's __init__ instead, pass the data that it was made from, "
            "or tell how it travels with minray.util.register_serializer."
        )
    lines.append(rule)
    print("\n".join(lines), file=print_file or sys.stdout)
    return reason is None, failures


def _search(
    value: Any,
    parent: Any,
    path: tuple[str, ...],
    depth: int,
    seen: set[int],
    failures: set[FailureTuple],
    lines: list[str],
) -> None:
    found = False
    if depth > 0:
        for count, (name, child) in enumerate(_children(value)):
            if count >= _CHILDREN_MAX:
                break
            if id(child) in seen:
                continue
            reason = _why_not(child)
            if reason is not None:
                seen.add(id(child))
                found = True
                lines.append(f"{'    ' * len(path)}{name} = {_short(child)}: {reason}")
                _search(child, value, (*path, name), depth - 1, seen, failures, lines)
    if not found:
        failures.add(FailureTuple(value, path, parent))


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    """What `value` refers to and would be sent along with it."""
    if inspect.ismethod(value):
        yield "__self__", value.__self__
        yield "__func__", value.__func__
    elif inspect.isfunction(value):
        variables = inspect.getclosurevars(value)
        yield from variables.nonlocals.items()
        yield from variables.globals.items()
        for index, default in enumerate(value.__defaults__ or ()):
            yield f"default {index}", default
        yield from (value.__kwdefaults__ or {}).items()
    elif isinstance(value, type):
        yield from ((n, m) for n, m in vars(value).items() if n not in ("__dict__", "__weakref__"))
    elif isinstance(value, Mapping):
        for key, item in list(value.items()):
            yield f"key {_short(key)}", key
            yield f"[{_short(key)}]", item
    elif isinstance(value, list | tuple | set | frozenset):
        for index, item in enumerate(value):
            yield f"[{index}]", item
    else:
        yield from list(getattr(value, "__dict__", {}).items())
        for base in type(value).__mro__:
            slots = base.__dict__.get("__slots__", ())
            for slot in (slots,) if isinstance(slots, str) else slots:
                if hasattr(value, slot):
                    yield slot, getattr(value, slot)


def _why_not(value: Any) -> str | None:
    """None when `value` can be pickled, else the reason."""
    try:
        cloudpickle.dumps(value)
    except Exception as error:  # a user's __reduce__ may raise anything; this is what we look for
        return str(error) or type(error).__name__
    return None


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # a user's __repr__ may raise anything
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 100 else text[:97] + "..."
