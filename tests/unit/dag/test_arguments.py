"""Are nodes found wherever they stand, and is everything else left alone?"""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import pytest

from minray.dag import DAGNode, InputNode, MultiOutputNode
from minray.dag.arguments import nodes_in, with_values
from minray.dag.dag_node import sorted_nodes

Point = namedtuple("Point", "x y")


@dataclass
class Box:
    content: Any


class Add(DAGNode):
    def __init__(self, *args: Any) -> None:
        super().__init__(args, {}, {})
        self.calls = 0

    def _call(self, args: Any, kwargs: Any, values: Any, given: Any) -> Any:
        self.calls += 1
        return sum(args)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda node: [node],
        lambda node: (1, node),
        lambda node: {"key": [node]},
        lambda node: {node: 1},
        lambda node: {node},
        lambda node: Point(node, 2),
        lambda node: Box(Box(node)),
        lambda node: [Box({"a": (node,)})],
    ],
)
def test_a_node_is_found_and_replaced_in_any_container(wrap: Any) -> None:
    node = Add(1)
    value = wrap(node)
    assert nodes_in(value) == [node]
    assert with_values(value, {id(node): "result"}) == wrap("result")
    assert nodes_in(value) == [node]  # the graph itself is unchanged


def test_what_holds_no_node_is_the_same_object() -> None:
    node, rest = Add(1), {"large": [1, 2, 3]}
    replaced = with_values([node, rest], {id(node): 5})
    assert replaced == [5, rest] and replaced[1] is rest


def test_arguments_that_contain_themselves_are_no_trap() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert nodes_in(loop) == []
    assert with_values(loop, {}) is loop


def test_each_node_is_called_once_after_those_it_needs() -> None:
    shared = Add(1, 2)
    end = Add(shared, Add(shared, 10))
    assert end.execute() == 3 + 13
    assert shared.calls == 1
    assert sorted_nodes(end)[0] is shared and sorted_nodes(end)[-1] is end


def test_a_long_chain_does_not_exhaust_the_stack() -> None:
    node = Add(0)
    for _ in range(5000):
        node = Add(node, 1)
    assert node.execute() == 5000


def test_the_input_is_the_one_argument_or_all_of_them() -> None:
    with InputNode() as x:
        one, both, named = Add(x), Add(x[0], x[1]), Add(x.a, x["b"])
    assert one.execute(3) == 3
    assert both.execute(3, 4) == both.execute([3, 4]) == 7
    assert named.execute(a=3, b=4) == 7
    assert MultiOutputNode([one, one]).execute(3) == [3, 3]


def test_an_input_outside_its_context_or_a_second_one_is_refused() -> None:
    with pytest.raises(AssertionError, match="context manager"):
        Add(InputNode()).execute(1)
    with InputNode() as one, InputNode() as other, pytest.raises(AssertionError, match="one unique"):
        Add(one, other).execute(1)


def test_apply_recursive_leaves_the_graph_as_it_was() -> None:
    inner = Add(1)
    end = Add(inner, 2)
    names = end.apply_recursive(lambda node: (type(node).__name__, node.get_args()))
    assert names == ("Add", (("Add", (1,)), 2))
    assert end.get_args() == (inner, 2)


def test_a_printed_graph_shows_its_calls() -> None:
    text = str(Add(Add(1), 2))
    assert text.count("(Add, ") == 2 and "args" in text
