"""Which nodes stand among the arguments of a call, and what do the arguments look like with their results?

Nodes may lie in lists, tuples, dictionaries and sets, and in the attributes of plain objects of the user's
own classes. What holds no node is passed on as it is, so large arrays are neither copied nor looked into.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minray.dag.dag_node import DAGNode

_LEAVES = (int, float, bool, str, bytes, type(None), complex, range, slice)
_LIBRARIES = ("minray", "ray", "numpy", "pandas", "pyarrow", "torch", "builtins")


def nodes_in(value: Any) -> list[DAGNode]:
    """Every node inside `value`, once, in order of appearance."""
    found: dict[int, DAGNode] = {}
    _find(value, found, set())
    return list(found.values())


def with_values(value: Any, values: Mapping[int, Any]) -> Any:
    """`value` with `values[id(node)]` in place of each node. Parts without nodes are the same objects."""
    return _replace(value, values)


def _parts(value: Any) -> Iterable[Any]:
    """What to look into; nothing for a leaf."""
    kind = type(value)
    if kind in (list, set, frozenset) or isinstance(value, tuple):
        return value  # type: ignore[no-any-return]
    if kind is dict:
        return [*value.keys(), *value.values()]
    return vars(value).values() if _is_plain_object(value) else ()


def _is_plain_object(value: Any) -> bool:
    """An instance whose state is its `__dict__`, of a class of the user's own."""
    kind = type(value)
    return (
        hasattr(value, "__dict__")
        and not isinstance(value, type)
        and not callable(value)
        and kind.__module__.partition(".")[0] not in _LIBRARIES
        and all(getattr(kind, name) is getattr(object, name) for name in ("__reduce__", "__reduce_ex__"))
    )


def _find(value: Any, found: dict[int, DAGNode], seen: set[int]) -> None:
    from minray.dag.dag_node import DAGNode

    if isinstance(value, DAGNode):
        found.setdefault(id(value), value)
    elif type(value) not in _LEAVES and id(value) not in seen:
        seen.add(id(value))
        for part in _parts(value):
            _find(part, found, seen)


def _replace(value: Any, values: Mapping[int, Any]) -> Any:
    from minray.dag.dag_node import DAGNode

    if isinstance(value, DAGNode):
        return values[id(value)]
    kind = type(value)
    if kind in _LEAVES or not nodes_in(value):
        return value
    if kind in (list, tuple, set, frozenset):
        return kind(_replace(part, values) for part in value)
    if kind is dict:
        return {_replace(key, values): _replace(part, values) for key, part in value.items()}
    if isinstance(value, tuple):  # a named one
        return kind(*(_replace(part, values) for part in value))
    twin = copy.copy(value)
    for name, part in vars(value).items():
        setattr(twin, name, _replace(part, values))
    return twin
