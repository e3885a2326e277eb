"""Do tasks with `enable_task_events=False` leave no events, and all others theirs?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import minray as ray

pytestmark = pytest.mark.cluster


@pytest.fixture
def cluster() -> Iterator[None]:
    ray.init(num_cpus=2, log_to_driver=False)
    yield
    ray.shutdown()


def names(run: Any) -> set[str]:
    return {event.name for event in run.events if hasattr(event, "task_id") and getattr(event, "name", "")}


def test_functions_actors_and_methods_can_be_silent(cluster: None) -> None:
    @ray.remote
    def loud() -> int:
        return 1

    @ray.remote(enable_task_events=False)
    def silent() -> int:
        return ray.get(loud.options(name="child").remote())

    @ray.remote
    class Actor:
        def said(self) -> int:
            return 2

        @ray.method(enable_task_events=False)
        def unsaid(self) -> int:
            return 3

    @ray.remote(enable_task_events=False)
    class Silent:
        def unsaid(self) -> int:
            return 4

        @ray.method(enable_task_events=True)
        def said(self) -> int:
            return 5

    with ray.record() as run:
        actor, other = Actor.remote(), Silent.remote()
        refs = [loud.remote(), silent.remote(), loud.options(name="off", enable_task_events=False).remote()]
        refs += [actor.said.remote(), actor.unsaid.remote(), other.unsaid.remote(), other.said.remote()]
        refs += [actor.said.options(enable_task_events=False).remote()]
        assert ray.get(refs) == [1, 1, 1, 2, 3, 4, 5, 2]
    seen = {name.rpartition(">.")[2] for name in names(run)}
    assert {"loud", "child", "Actor.said", "Silent.said"} <= seen
    assert not {"silent", "off", "Actor.unsaid", "Silent.unsaid"} & seen
    assert (
        sum(type(event).__name__ == "TaskFinished" and event.name == "Actor.said" for event in run.events)
        == 1
    )
