"""Programs as graphs: `f.bind(x)` notes a call, `node.execute()` makes all of them. As `ray.dag`."""

from minray.dag.class_node import ClassMethodNode, ClassNode
from minray.dag.compiled import CompiledDAG
from minray.dag.dag_node import DAGNode
from minray.dag.function_node import FunctionNode
from minray.dag.input_node import DAGInputData, InputAttributeNode, InputNode
from minray.dag.output_node import MultiOutputNode

__all__ = [
    "ClassMethodNode",
    "ClassNode",
    "CompiledDAG",
    "DAGInputData",
    "DAGNode",
    "FunctionNode",
    "InputAttributeNode",
    "InputNode",
    "MultiOutputNode",
]
