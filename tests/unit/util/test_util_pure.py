"""Do the parts of minray.util that need no cluster keep their promises?"""

from __future__ import annotations

import asyncio
import copyreg
import io
import pickle
import threading
from typing import Any

import cloudpickle
import pytest

from minray.util import inspect_serializability, register_serializer
from minray.util.queue import _QueueActor
from minray.util.scheduling_strategies import (
    DoesNotExist,
    Exists,
    In,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    NotIn,
    PlacementGroupSchedulingStrategy,
)
from minray.util.serialization import deregister_serializer

LOCK = threading.Lock()


class Model:
    def __init__(self) -> None:
        self.weights = [1, 2]
        self.guard = {"lock": threading.Lock()}


def report(value: Any, **options: Any) -> tuple[bool, Any, str]:
    out = io.StringIO()
    fine, failures = inspect_serializability(value, print_file=out, **options)
    return fine, failures, out.getvalue()


def test_a_value_that_can_be_sent_has_no_culprit() -> None:
    fine, failures, text = report([1, {"a": (2, 3)}], name="numbers")
    assert (fine, failures) == (True, set())
    assert "numbers: can be sent" in text


def test_the_culprit_is_found_below_attributes_and_containers() -> None:
    fine, failures, text = report(Model(), name="model")
    assert not fine
    (culprit,) = failures
    assert culprit.path == ("model", "guard", "['lock']")
    assert culprit.name == "['lock']"
    assert isinstance(culprit.obj, type(LOCK))
    assert "To blame" in text
    assert "model -> guard -> ['lock']" in text
    assert "FailTuple" in repr(culprit)


def test_the_culprit_is_found_in_closures_globals_and_defaults() -> None:
    model = Model()

    def closes_over() -> Any:
        return model.weights

    def uses_global() -> Any:
        return LOCK.locked()

    uses_global.__module__ = "__main__"  # cloudpickle sends globals only of what goes by value

    def by_default(lock: Any = LOCK) -> Any:
        return lock

    paths = []
    for function in (closes_over, by_default):
        fine, failures, _ = report(function, name="f", depth=5)
        assert not fine
        paths += [culprit.path for culprit in failures]
    assert ("f", "model", "guard", "['lock']") in paths
    assert ("f", "default 0") in paths


def test_depth_bounds_the_search() -> None:
    _, failures, _ = report(Model(), name="model", depth=1)
    assert [culprit.path for culprit in failures] == [("model", "guard")]


def test_cycles_end() -> None:
    loop: list[Any] = [LOCK]
    loop.append(loop)
    fine, failures, _ = report(loop, name="loop", depth=50)
    assert not fine
    assert len(failures) == 1


class Connection:
    def __init__(self, url: str) -> None:
        self.url = url
        self.lock = threading.Lock()


def test_a_registered_serializer_is_used_by_both_picklers_until_it_is_removed() -> None:
    connection = Connection("db://x")
    register_serializer(Connection, serializer=lambda c: c.url, deserializer=Connection)
    try:
        assert pickle.loads(pickle.dumps(connection)).url == "db://x"
        assert pickle.loads(cloudpickle.dumps([connection]))[0].url == "db://x"
    finally:
        deregister_serializer(Connection)
    assert Connection not in copyreg.dispatch_table
    deregister_serializer(Connection)
    with pytest.raises(TypeError):
        pickle.dumps(connection)


def test_node_affinity_wants_a_node_id() -> None:
    node_id = "ab" * 28
    assert NodeAffinitySchedulingStrategy(node_id, soft=False).node_id == node_id
    assert NodeAffinitySchedulingStrategy(bytes.fromhex(node_id), soft=True).soft
    for wrong in ("", "xyz", "00" * 28, "ab"):
        with pytest.raises(ValueError, match="Invalid node_id"):
            NodeAffinitySchedulingStrategy(wrong, soft=True)
    with pytest.raises(ValueError, match="_spill_on_unavailable"):
        NodeAffinitySchedulingStrategy(node_id, soft=False, _spill_on_unavailable=True)


def test_placement_groups_are_refused_plainly() -> None:
    assert PlacementGroupSchedulingStrategy(None).placement_group is None
    with pytest.raises(ValueError, match="does not offer placement groups"):
        PlacementGroupSchedulingStrategy(object())


def test_node_labels_are_checked_and_matched() -> None:
    strategy = NodeLabelSchedulingStrategy(
        {"zone": In("a", "b"), "disk": Exists(), "old": DoesNotExist(), "kind": NotIn("spot")}
    )
    assert strategy.unmet({"zone": "a", "disk": "1"}) == []
    assert strategy.unmet({"zone": "c", "old": "1", "kind": "spot"}) == ["zone", "disk", "old", "kind"]
    for wrong in ({}, {"zone": "a"}, {1: In("a")}, ["zone"]):
        with pytest.raises(ValueError, match="must be|cannot both be empty"):
            NodeLabelSchedulingStrategy(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one"):
        In()


def test_the_queue_actor_answers_without_waiting_when_it_can() -> None:
    async def scenario() -> None:
        queue = _QueueActor(2)
        assert await queue.get(0) == (False, None)
        assert await queue.put("a", 0)
        assert await queue.put("b", None)
        assert not await queue.put("c", 0)
        assert await queue.put_batch(["c"]) == 0
        assert await queue.get_batch(3) == (False, 2)
        assert await queue.get_batch(2) == (True, ["a", "b"])
        assert await queue.put_batch(["c", "d"]) is None
        assert await queue.qsize() == 2

    asyncio.run(scenario())


def test_waiting_gets_are_served_in_order() -> None:
    async def scenario() -> None:
        queue = _QueueActor(0)
        waiting = [asyncio.ensure_future(queue.get(None)) for _ in range(2)]
        await asyncio.sleep(0)
        await queue.put(1, None)
        await queue.put(2, None)
        assert await asyncio.gather(*waiting) == [(True, 1), (True, 2)]

    asyncio.run(scenario())
