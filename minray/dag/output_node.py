"""How does a graph have several results? `MultiOutputNode([a, b]).execute()` is a list of references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minray.dag.dag_node import DAGNode


class MultiOutputNode(DAGNode):
    """The end of a graph with several results."""

    def __init__(self, args: DAGNode | Sequence[DAGNode]) -> None:
        outputs = list(args) if isinstance(args, list | tuple) else [args]
        if not all(isinstance(node, DAGNode) for node in outputs):
            raise ValueError(f"MultiOutputNode takes nodes, got {outputs!r}")
        super().__init__((outputs,), {}, {})

    def _call(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], values: Mapping[int, Any], given: Any
    ) -> Any:
        return args[0]
