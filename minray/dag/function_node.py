"""What does `f.bind(...)` give? A call of a remote function, to be made later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minray.dag.dag_node import DAGNode


class FunctionNode(DAGNode):
    """A task to be submitted. `function` is the remote function with its options."""

    def __init__(
        self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], options: Mapping[str, Any]
    ) -> None:
        super().__init__(args, kwargs, options)
        self._function = function

    def _call(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], values: Mapping[int, Any], given: Any
    ) -> Any:
        return self._function.remote(*args, **kwargs)

    def _body(self) -> str:
        return repr(self._function)
