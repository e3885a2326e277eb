"""Are the actors of a group started, called and ended together?"""

from __future__ import annotations

from typing import Any

import pytest

import minray
from minray.util.actor_group import ActorGroup

pytestmark = [pytest.mark.cluster, pytest.mark.minray(num_cpus=3)]


class Counter:
    def __init__(self, start: int = 0) -> None:
        self.value = start

    def add(self, n: int) -> int:
        self.value += n
        return self.value


class Described(Counter):
    def get_actor_metadata(self) -> str:
        return f"starts at {self.value}"


def test_a_call_reaches_every_actor(minray_cluster: Any) -> None:
    group = ActorGroup(Counter, num_actors=2, init_kwargs={"start": 5})
    assert minray.get(group.add.remote(1)) == [6, 6]
    assert len(group) == 2
    assert minray.get(group[0].actor.add.remote(1)) == 7
    with pytest.raises(TypeError, match=r"object\.add\.remote"):
        group.add(1)
    group.add_actors(1)
    assert minray.get(group.add.remote(1)) == [8, 7, 6]
    group.remove_actors([0, 1])
    assert minray.get(group.add.remote(1)) == [7]
    with pytest.raises(RuntimeError, match="already been started"):
        group.start()


@pytest.mark.parametrize("patience_s", [0, 30])
def test_a_group_ends_and_starts_again(minray_cluster: Any, patience_s: float) -> None:
    group = ActorGroup(Described, 2, init_args=(3,))
    assert group.actor_metadata == ["starts at 3"] * 2
    group.shutdown(patience_s)
    with pytest.raises(RuntimeError, match="shutdown"):
        group.add.remote(1)
    group.start()
    assert minray.get(group.add.remote(1)) == [4, 4]


def test_impossible_groups_are_refused(minray_cluster: Any) -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        ActorGroup(Counter, 0)
    with pytest.raises(ValueError, match="not be negative"):
        ActorGroup(Counter, 1, num_cpus_per_actor=-1)
