"""Do strategies and labels decide on a real cluster where a task may run?"""

from __future__ import annotations

from typing import Any

import pytest

import minray
from minray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

pytestmark = [pytest.mark.cluster, pytest.mark.minray(num_cpus=1, labels={"zone": "a"})]


@minray.remote
def one() -> int:
    return 1


@minray.remote
class Idle:
    def ping(self) -> int:
        return 1


def test_wishes_that_this_node_meets_are_granted_and_others_refused(minray_cluster: Any) -> None:
    here = minray.nodes()[0]["NodeID"]
    on_it = NodeAffinitySchedulingStrategy(here, soft=False)
    assert minray.get(one.options(scheduling_strategy=on_it).remote()) == 1
    assert minray.get(Idle.options(label_selector={"zone": "a"}).remote().ping.remote()) == 1
    gone = NodeAffinitySchedulingStrategy("12" * 28, soft=False)
    with pytest.raises(minray.exceptions.TaskUnschedulableError):
        one.options(scheduling_strategy=gone).remote()
    with pytest.raises(minray.exceptions.ActorUnschedulableError):
        Idle.options(label_selector={"zone": "!a"}).remote()
