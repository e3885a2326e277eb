"""Are wishes about nodes checked against the nodes that there are?"""

from __future__ import annotations

from typing import Any

import pytest

from minray.api.options import parse_actor_options, parse_task_options
from minray.api.placement import check_wishes, refusal
from minray.exceptions import ActorUnschedulableError, TaskUnschedulableError
from minray.util.scheduling_strategies import In, NodeAffinitySchedulingStrategy, NodeLabelSchedulingStrategy

HERE, ELSEWHERE = "ab" * 28, "cd" * 28
NODES = [{"NodeID": HERE, "Labels": {"zone": "a"}}]


class Engine:
    asked = 0

    def ask(self, what: str) -> list[dict[str, Any]]:
        assert what == "nodes"
        self.asked += 1
        return NODES


def test_strategies_and_selectors_that_a_node_meets_are_granted() -> None:
    assert refusal(None, {"zone": "in(a, b)"}, NODES) == ""
    assert refusal(NodeAffinitySchedulingStrategy(HERE, soft=False), None, NODES) == ""
    assert refusal(NodeAffinitySchedulingStrategy(ELSEWHERE, soft=True), None, NODES) == ""
    assert refusal(NodeLabelSchedulingStrategy({"zone": In("a")}), None, NODES) == ""


def test_what_no_node_meets_is_refused_with_the_reason() -> None:
    assert ELSEWHERE in refusal(NodeAffinitySchedulingStrategy(ELSEWHERE, soft=False), None, NODES)
    assert "zone=b" in refusal(None, {"zone": "b"}, NODES)
    assert "zone" in refusal(NodeLabelSchedulingStrategy({"zone": In("b")}), None, NODES)
    assert "no node" in refusal(None, None, [])


def test_tasks_and_actors_are_refused_by_their_own_error() -> None:
    away = {"scheduling_strategy": NodeAffinitySchedulingStrategy(ELSEWHERE, soft=False)}
    with pytest.raises(TaskUnschedulableError):
        check_wishes(parse_task_options(away), Engine())
    with pytest.raises(ActorUnschedulableError):
        check_wishes(parse_actor_options({"label_selector": {"zone": "b"}}), Engine())


def test_nodes_are_asked_for_only_when_it_matters() -> None:
    engine = Engine()
    check_wishes(parse_task_options({"scheduling_strategy": "SPREAD", "num_cpus": 2}), engine)
    assert engine.asked == 0
