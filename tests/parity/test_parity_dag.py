"""Graphs of calls (`bind`, `execute`), as both engines have them."""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest

ENGINE = os.environ.get("MINRAY_PARITY_ENGINE", "minray")
ray: Any = importlib.import_module(ENGINE)
dag: Any = importlib.import_module(f"{ENGINE}.dag")

pytestmark = pytest.mark.usefixtures("cluster")


def parts() -> tuple[Any, Any, Any]:
    @ray.remote
    def add(a: Any, b: Any) -> Any:
        return a + b

    @ray.remote
    def show(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    @ray.remote(num_cpus=0)
    class Counter:
        def __init__(self, start: int) -> None:
            self.total = start

        def inc(self, by: int = 1) -> int:
            self.total += by
            return self.total

    return add, show, Counter


def test_a_graph_is_executed_as_often_as_one_likes() -> None:
    add, _, _ = parts()
    node = add.bind(1, add.bind(2, 3))
    assert [ray.get(node.execute()) for _ in range(3)] == [6, 6, 6]


def test_binding_alone_runs_nothing() -> None:
    add, _, _ = parts()
    assert isinstance(add.bind(1, "not a number"), dag.FunctionNode)


def test_nodes_in_containers_become_references() -> None:
    add, show, _ = parts()
    (found,), named = ray.get(show.bind([add.bind(1, 1)], key={"k": add.bind(2, 2)}).execute())
    assert isinstance(found[0], ray.ObjectRef) and ray.get(found[0]) == 2
    assert ray.get(named["key"]["k"]) == 4


def test_the_input_is_filled_in() -> None:
    add, show, _ = parts()
    with dag.InputNode() as x:
        twice, both, named = add.bind(x, x), add.bind(x[0], x[1]), add.bind(x.a, x.b)
        whole = show.bind(x, k=x)
    assert ray.get(twice.execute(5)) == 10
    assert ray.get(both.execute(5, 6)) == 11
    assert ray.get(both.execute([5, 6])) == 11
    assert ray.get(named.execute(a=5, b=6)) == 11
    assert ray.get(whole.execute(5)) == ((5,), {"k": 5})


def test_extra_arguments_of_a_graph_without_input_are_ignored() -> None:
    add, _, _ = parts()
    assert ray.get(add.bind(1, 2).execute(99)) == 3


def test_an_attribute_of_a_plain_input_must_be_there() -> None:
    add, _, _ = parts()
    with dag.InputNode() as x:
        node = add.bind(x.a, 1)
    with pytest.raises(AttributeError):
        node.execute({"a": 1})


def test_a_class_node_gives_an_actor_and_its_methods_run_in_order() -> None:
    add, _, counter = parts()
    node = counter.bind(10)
    assert isinstance(node.execute(), ray.actor.ActorHandle)
    assert ray.get(node.inc.bind(5).execute()) == 15
    one, two = node.inc.bind(), node.inc.bind(2)
    assert ray.get(add.bind(one, two).execute()) == 16 + 18


def test_methods_of_a_living_actor_can_be_bound() -> None:
    add, _, counter = parts()
    handle = counter.remote(100)
    assert ray.get(handle.inc.bind(1).execute()) == 101
    assert ray.get(handle.inc.bind(add.bind(1, 1)).execute()) == 103


def test_an_actor_can_be_an_argument_and_take_results() -> None:
    add, show, counter = parts()
    (handle,), _ = ray.get(show.bind(counter.bind(1)).execute())
    assert ray.get(handle.inc.remote()) == 2
    with dag.InputNode() as x:
        node = counter.bind(add.bind(1, 2)).inc.bind(x)
    assert ray.get(node.execute(10)) == 13


def test_a_shared_node_is_called_once_an_execution() -> None:
    _, show, counter = parts()
    handle = counter.remote(0)
    shared = handle.inc.bind()
    assert ray.get(show.bind(shared, shared).execute()) == ((1, 1), {})
    assert ray.get(show.bind(shared, shared).execute()) == ((2, 2), {})


def test_several_outputs_are_a_list_of_references() -> None:
    add, _, _ = parts()
    refs = dag.MultiOutputNode([add.bind(1, 2), add.bind(3, 4)]).execute()
    assert isinstance(refs, list) and ray.get(refs) == [3, 7]


def test_options_are_kept() -> None:
    add, _, counter = parts()
    assert ray.get(add.options(num_cpus=0).bind(1, 2).execute()) == 3
    assert ray.get(counter.options(name="bound").bind(1).inc.bind().execute()) == 2

    @ray.remote(num_returns=2)
    def pair() -> tuple[int, int]:
        return 1, 2

    assert ray.get(pair.bind().execute()) == [1, 2]


def test_an_error_in_a_graph_is_the_tasks() -> None:
    add, _, _ = parts()
    with pytest.raises(TypeError):
        ray.get(add.bind(add.bind(1, "x"), 1).execute())


def test_what_only_makes_sense_later_is_refused_now() -> None:
    add, _, counter = parts()
    with pytest.raises(AttributeError, match="execute"):
        add.bind(1, 2).remote()
    with pytest.raises(ValueError, match="Invalid type of object refs"):
        ray.get(add.bind(1, 2))
    with pytest.raises(AttributeError, match="bind"):
        counter.bind(1).inc.remote()
    with pytest.raises(AttributeError, match="nope"):
        counter.bind(1).nope.bind()
    with pytest.raises(AssertionError, match="context manager"):
        add.bind(dag.InputNode(), 1).execute(3)
    with dag.InputNode() as one, dag.InputNode() as other, pytest.raises(AssertionError, match="one unique"):
        add.bind(one, other).execute(3)


def test_a_graph_can_be_looked_at() -> None:
    add, _, _ = parts()
    inner = add.bind(2, 3)
    node = add.bind(1, inner)
    assert node.get_args() == (1, inner) and node.get_kwargs() == {}
    assert len(node.get_stable_uuid()) == 32
    assert "FunctionNode" in str(node)


def test_a_graph_can_be_pickled() -> None:
    add, _, _ = parts()
    pickle = importlib.import_module("cloudpickle")
    assert ray.get(pickle.loads(pickle.dumps(add.bind(1, add.bind(1, 1)))).execute()) == 3


def test_a_compiled_graph_keeps_its_actors() -> None:
    _, _, counter = parts()
    handle = counter.remote(0)
    with dag.InputNode() as x:
        compiled = handle.inc.bind(x).experimental_compile()
    assert [ray.get(compiled.execute(by)) for by in (1, 2, 3)] == [1, 3, 6]
    compiled.teardown()
