"""What is one call of a graph that has not been made yet?

    add.bind(1, mul.bind(2, 3))        FunctionNode(add) ──argument──► FunctionNode(mul)

A node keeps its arguments, in which other nodes may stand anywhere. `execute` walks the graph from here,
makes each call once, however many others use its result, and returns at once: results travel between the
calls as references. No node is changed by its execution; a graph may be executed any number of times.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

from minray.dag.arguments import nodes_in, with_values

if TYPE_CHECKING:
    from minray.dag.compiled import CompiledDAG


class DAGNode:
    """A call to be made. Subclasses say which, in `_call`."""

    def __init__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        self._bound_args = args
        self._bound_kwargs = dict(kwargs)
        self._bound_options = dict(options)
        self._stable_uuid = uuid.uuid4().hex

    # ---------------------------------------------------------------- looking
    def get_args(self) -> tuple[Any, ...]:
        """The bound positional arguments, nodes included."""
        return self._bound_args

    def get_kwargs(self) -> dict[str, Any]:
        """The bound keyword arguments, nodes included."""
        return dict(self._bound_kwargs)

    def get_options(self) -> dict[str, Any]:
        """What `.options()` was given before `.bind()`."""
        return dict(self._bound_options)

    def get_stable_uuid(self) -> str:
        """32 hexadecimal digits, kept by copies."""
        return self._stable_uuid

    def _upstream(self) -> list[DAGNode]:
        """The nodes that this one needs, each once, in order of their appearance."""
        return nodes_in((self._bound_args, self._bound_kwargs))

    # ---------------------------------------------------------------- running
    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Make the calls of the graph that ends here. Returns this node's reference (an actor handle for a
        class node, a list for `MultiOutputNode`) at once.

        The arguments are what the graph's `InputNode` stands for.
        """
        from minray.dag.input_node import check_inputs, given_input

        check_inputs(self)
        values: dict[int, Any] = {}
        given = given_input(args, kwargs)
        for node in sorted_nodes(self):
            node._run(values, given)
        return values[id(self)]

    def _run(self, values: dict[int, Any], given: Any) -> None:
        """Make this node's call; `values` has the results that it needs, and gets its own."""
        args, kwargs = with_values((self._bound_args, self._bound_kwargs), values)
        values[id(self)] = self._call(args, kwargs, values, given)

    def _call(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], values: Mapping[int, Any], given: Any
    ) -> Any:
        """Make this node's own call; its arguments are ready."""
        raise TypeError(f"{type(self).__name__} has nothing to execute")

    def experimental_compile(self, **options: Any) -> CompiledDAG:
        """The graph with its actors made once, for many executions. Options of Ray's channels have no
        effect: results pass through shared memory here anyway."""
        from minray.dag.compiled import CompiledDAG

        return CompiledDAG(self)

    # ---------------------------------------------------------------- changing
    def apply_recursive(self, function: Callable[[DAGNode], Any]) -> Any:
        """`function` of a copy of each node, those that it needs first; returns the result for this one."""
        results: dict[int, Any] = {}
        for node in sorted_nodes(self):
            results[id(node)] = function(node._copy_with(results))
        return results[id(self)]

    def _copy_with(self, replaced: Mapping[int, Any]) -> Self:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin._bound_args, twin._bound_kwargs = with_values((self._bound_args, self._bound_kwargs), replaced)
        return twin

    # ---------------------------------------------------------------- as an object
    def _body(self) -> str:
        return type(self).__name__

    def __str__(self) -> str:
        lines = [f"({type(self).__name__}, {self._stable_uuid})(", f"    body={self._body()}"]
        for label, shown in (
            ("args", self._bound_args),
            ("kwargs", self._bound_kwargs),
            ("options", self._bound_options),
        ):
            parts = shown.items() if isinstance(shown, dict) else enumerate(shown)
            text = "\n".join(f"{key}: {value}" if label != "args" else str(value) for key, value in parts)
            lines += [f"    {label}:", *(f"        {line}" for line in text.splitlines())] if text else []
        return "\n".join([*lines, ")"])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._body()}>"

    def __getattr__(self, name: str) -> Any:
        if name == "remote":
            raise AttributeError(
                f".remote() cannot be used on {type(self)}. To execute the task graph for this node, use .execute()."
            )
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")


def sorted_nodes(end: DAGNode) -> list[DAGNode]:
    """Every node of the graph that ends here, each after those that it needs.

    Without recursion: a chain may be longer than Python's stack.
    """
    done: dict[int, DAGNode] = {}
    stack = [end]
    while stack:
        missing = [node for node in stack[-1]._upstream() if id(node) not in done]
        if missing:
            stack.extend(reversed(missing))
        else:
            node = stack.pop()
            done[id(node)] = node
    return list(done.values())
