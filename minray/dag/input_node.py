"""What stands for the arguments of `execute`? The `InputNode`, and parts of it.

    with InputNode() as x:
        graph = add.bind(x[0], x.rate)
    graph.execute(3, rate=4)

With exactly one positional argument the input is that argument; otherwise it is a `DAGInputData` of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from minray.dag.dag_node import DAGNode, sorted_nodes

_ONLY_IN_CONTEXT = (
    "InputNode is a singleton instance that should be only used in context manager for dag building and execution. "
    "See the docstring of class InputNode for examples."
)


class DAGInputData:
    """Several arguments of `execute`: by index, by key and as attributes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._args = list(args)
        self._kwargs = kwargs

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, int):
            return self._args[key]
        if isinstance(key, str):
            return self._kwargs[key]
        raise ValueError("Please only use int index or str as first-level key to access fields of dag input.")

    def __repr__(self) -> str:
        shown = [repr(part) for part in self._args] + [
            f"{key}={value!r}" for key, value in self._kwargs.items()
        ]
        return f"DAGInputData({', '.join(shown)})"


def given_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the input of an execution is."""
    return args[0] if len(args) == 1 and not kwargs else DAGInputData(*args, **kwargs)


class InputNode(DAGNode):
    """The argument of a graph. Use it as a context manager; a graph has one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if args or kwargs:
            raise ValueError("InputNode should not take any args or kwargs.")
        super().__init__((), {}, {})
        self._used = False

    def __enter__(self) -> Self:
        self._used = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def _call(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], values: Mapping[int, Any], given: Any
    ) -> Any:
        return given

    def __getitem__(self, key: int | str) -> InputAttributeNode:
        return InputAttributeNode(self, key, by_item=True)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "remote":
            return super().__getattr__(name)
        return InputAttributeNode(self, name, by_item=False)

    def _body(self) -> str:
        return "the input"


class InputAttributeNode(DAGNode):
    """A part of the input: `x[0]`, `x["key"]`, `x.name`, and parts of these."""

    def __init__(self, whole: DAGNode, key: int | str, by_item: bool) -> None:
        super().__init__((whole,), {}, {})
        self._key = key
        self._by_item = by_item

    def _call(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], values: Mapping[int, Any], given: Any
    ) -> Any:
        (whole,) = args
        if self._by_item or isinstance(whole, DAGInputData):
            return whole[self._key]
        return getattr(whole, str(self._key))

    def _body(self) -> str:
        return f"input[{self._key!r}]" if self._by_item else f"input.{self._key}"


def check_inputs(end: DAGNode) -> None:
    """Raises: AssertionError for two inputs in one graph, or one that was never entered."""
    inputs = [node for node in sorted_nodes(end) if isinstance(node, InputNode)]
    assert all(node._used for node in inputs), _ONLY_IN_CONTEXT
    assert len(inputs) <= 1, "Each DAG should only have one unique InputNode."
