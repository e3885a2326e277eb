"""`minray.record()`: the whole of what ended in the block, workers' own tasks included, or a word on what is missing."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import minray as ray
from minray.base import events as ev
from minray.engine.seam import current
from minray.grading import trace
from minray.worker import event_sharing, recorder, submission

pytestmark = [pytest.mark.cluster]


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    ray.init(num_cpus=2)
    yield
    ray.shutdown()


@ray.remote
def leaf(value: int) -> int:
    return value + 1


@ray.remote
def parent(count: int) -> int:
    return sum(ray.get([leaf.remote(index) for index in range(count)]))


def _until(what: Callable[[], Any]) -> Any:
    give_up = time.monotonic() + 30.0
    while not (found := what()):
        assert time.monotonic() < give_up, "it did not come to that"
        time.sleep(0.01)
    return found


def _quiet() -> None:
    """No worker has tasks of its own under way, and all that they recorded is told."""
    _until(lambda: not [row for row in current().ask("state")["leases"] if not row["actor_id"]])
    current().gather_events(10.0)


def _finished(run: Any) -> Counter[str]:
    return Counter(event.name for event in run.events if isinstance(event, ev.TaskFinished))


def test_a_run_holds_every_task_of_its_block_nested_ones_included() -> None:
    ray.get(leaf.remote(0))
    with ray.record() as run:
        ray.get([parent.remote(20) for _ in range(3)])
    ray.get(leaf.remote(0))
    assert _finished(run) == {"parent": 3, "leaf": 60}
    parents = {event.task_id for event in run.events if getattr(event, "name", "") == "parent"}
    children = [event for event in run.events if isinstance(event, ev.TaskSubmitted) and event.name == "leaf"]
    assert {event.parent_id for event in children} == parents
    assert run.complete and run.lost == 0
    assert [event.time_s for event in run.events] == sorted(event.time_s for event in run.events)


def test_a_saved_run_is_the_same_run(tmp_path: Path) -> None:
    with ray.record() as run:
        ray.get(parent.remote(5))
    loaded = ray.load_run(run.save(tmp_path / "a.run.gz"))
    assert loaded.events == run.events
    assert (loaded.complete, loaded.lost, loaded.duration_s) == (True, 0, run.duration_s)
    assert repr(loaded) == repr(run)


def test_graders_ask_a_run_as_they_ask_a_trace() -> None:
    with ray.record() as run:
        ray.get([leaf.remote(index) for index in range(4)])
    assert trace.submitted_before_first_get(run, "leaf") == 4
    assert not trace.get_in_loop(run) and trace.max_overlap(run, "leaf") >= 1
    assert run[0] in run and len(run[:3]) == 3


def test_runs_nest_and_overlap_and_span_cells() -> None:
    outer = ray.record().start()
    ray.get(leaf.remote(1))
    with ray.record() as inner:
        ray.get(leaf.remote(2))
    late = ray.record().start()
    ray.get(leaf.remote(3))
    outer.stop()
    ray.get(leaf.remote(4))
    late.stop()
    assert [sum(_finished(run).values()) for run in (outer, inner, late)] == [3, 1, 2]
    assert len(outer.stop().events) == len(outer.events)
    with pytest.raises(RuntimeError, match="started once"):
        outer.start()


def test_a_run_shows_what_has_come_while_it_records() -> None:
    with ray.record() as run:
        ray.get(leaf.remote(1))
        assert _finished(run) == {"leaf": 1}
        assert "under way" in repr(run) and "under way" in run._repr_html_()
        ray.get(leaf.remote(1))
    assert _finished(run) == {"leaf": 2}


def test_other_readers_take_nothing_from_a_recording() -> None:
    cursor = current().events(0).cursor
    with ray.record() as run:
        for _ in range(5):
            ray.get(parent.remote(2))
            cursor = current().events(cursor).cursor
    assert _finished(run) == {"parent": 5, "leaf": 10}


def test_a_task_under_way_at_the_start_is_known_by_its_name(tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")

    @ray.remote
    def waits() -> None:
        while not os.path.exists(gate):
            time.sleep(0.01)

    ref = waits.remote()
    _until(lambda: len(ray.wait([ref], timeout=0.05)[1]))
    with ray.record() as run:
        Path(gate).touch()
        ray.get(ref)
    assert [name.rpartition(".")[2] for name in _finished(run)] == ["waits"]


def test_an_actor_that_ends_ships_its_own_tasks_first() -> None:
    @ray.remote
    class Boss:
        def work(self) -> int:
            return int(ray.get(leaf.remote(1)))

    _quiet()
    with ray.record() as run:
        boss = Boss.remote()
        ref = boss.work.remote()
        del boss
        ray.get(ref)
        _until(lambda: [event for event in run.events if getattr(event, "state", "") == "dead"])
    assert _finished(run)["leaf"] == 1
    assert run.complete


def test_the_death_of_a_worker_that_only_ran_tasks_loses_nothing() -> None:
    @ray.remote(max_retries=1)
    def dies(flag: str) -> int:
        if not os.path.exists(flag):
            Path(flag).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return 1

    import tempfile

    _quiet()
    with tempfile.TemporaryDirectory() as folder, ray.record() as run:
        assert ray.get(dies.remote(os.path.join(folder, "flag"))) == 1
    assert run.complete, run.gaps
    assert any(isinstance(event, ev.TaskRetried) for event in run.events)


def test_a_killed_worker_with_tasks_of_its_own_makes_the_run_incomplete() -> None:
    @ray.remote(max_retries=0)
    def dies() -> None:
        ray.get(leaf.remote(1))
        os.kill(os.getpid(), signal.SIGKILL)

    with ray.record() as run:
        with pytest.raises(ray.exceptions.WorkerCrashedError):
            ray.get(dies.remote())
    assert not run.complete
    assert "was killed before it shipped" in run.gaps[0] and "INCOMPLETE" in repr(run)


def test_a_ring_that_overflowed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "CHUNKS_MAX", 1)
    monkeypatch.setattr(recorder, "CHUNK", 50)
    monkeypatch.setattr(submission, "CHUNK", 50)
    with ray.record() as run:
        for _ in range(400):
            ray.get(leaf.remote(1))
    assert not run.complete and run.lost > 0
    assert "overflowed" in run.gaps[0]


def test_an_actor_that_cuts_its_last_events_says_how_many() -> None:
    @ray.remote
    class Boss:
        def work(self) -> None:
            event_sharing.LAST_TASKS = 10
            for _ in range(100):
                ray.get(leaf.remote(1))

    with ray.record() as run:
        boss = Boss.remote()
        ref = boss.work.remote()
        del boss
        ray.get(ref)
        _until(lambda: [event for event in run.events if getattr(event, "state", "") == "dead"])
    assert not run.complete and run.lost >= 80


def test_the_timeline_of_a_run(tmp_path: Path) -> None:
    with ray.record() as run:
        ray.get(leaf.remote(1))
    slices = [one for one in run.timeline() or [] if one["ph"] == "X" and one["name"] == "leaf"]
    assert len(slices) == 1
    run.timeline(tmp_path / "t.json")
    assert json.loads((tmp_path / "t.json").read_text()) == run.timeline()


def test_inside_a_task_a_run_holds_this_process_and_says_so() -> None:
    @ray.remote
    def recorded() -> tuple[int, bool, tuple[str, ...]]:
        with ray.record() as run:
            ray.get(leaf.remote(1))
        return sum(_finished(run).values()), run.complete, run.gaps

    count, complete, gaps = ray.get(recorded.remote())
    assert (count, complete) == (1, False) and "inside a task" in gaps[0]
