"""What is gained by `experimental_compile`? The actors are made once, and the graph is walked once.

Real Ray allocates channels between the actors and bypasses its scheduler; here a call to an actor is one
frame and large values lie in shared memory already, so a compiled graph is an ordinary one, prepared.
"""

from __future__ import annotations

from typing import Any

from minray.dag.class_node import ClassMethodNode, ClassNode
from minray.dag.dag_node import DAGNode, sorted_nodes
from minray.dag.input_node import check_inputs, given_input


class CompiledDAG:
    """A graph ready for many executions. Made by `node.experimental_compile()`."""

    def __init__(self, end: DAGNode) -> None:
        check_inputs(end)
        self._end = end
        self._torn_down = False
        self._actors: dict[int, Any] = {}
        nodes = sorted_nodes(end)
        self._steps = [node for node in nodes if not isinstance(node, ClassNode)]
        for node in nodes:
            if isinstance(node, ClassNode):
                node._run(self._actors, None)

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Run the graph once. Returns its reference (a list of them for `MultiOutputNode`).

        Raises: RuntimeError after `teardown`.
        """
        if self._torn_down:
            raise RuntimeError("This compiled graph was torn down; compile it again.")
        given = given_input(args, kwargs)
        values = dict(self._actors)
        for node in self._steps:
            node._run(values, given)
        return values[id(self._end)]

    async def execute_async(self, *args: Any, **kwargs: Any) -> Any:
        """The same, awaited."""
        return self.execute(*args, **kwargs)

    def teardown(self, kill_actors: bool = False) -> None:
        """Let go of the graph's own actors; those that it was given live on unless `kill_actors`."""
        self._torn_down = True
        self._actors.clear()
        if kill_actors:
            handles = [node._actor for node in self._steps if isinstance(node, ClassMethodNode)]
            for handle in {handle for handle in handles if not isinstance(handle, DAGNode)}:
                handle.__ray_terminate__.remote()
