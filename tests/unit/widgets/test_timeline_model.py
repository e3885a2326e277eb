"""Does the model draw the bars that the events tell of?"""

from __future__ import annotations

import random

import pytest

from minray.base.events import GetCalled, TaskDispatched, TaskFinished, TaskRetried, TaskSubmitted
from minray_widgets.palette import State
from minray_widgets.timeline_model import TimelineModel
from minray_widgets.timeline_table import NO_LANE, OPEN, TICKS_PER_S
from tests.unit.widgets.fake_engine import script


def fresh(**options) -> TimelineModel:
    return TimelineModel(origin_s=100.0, **options)


def submitted(t, task, name="f", parent="", args=()):
    return TaskSubmitted(100 + t, task, name, parent, "", tuple(args))


def dispatched(t, task, worker="w0", attempt=0):
    return TaskDispatched(100 + t, task, worker, 40 + int(worker[1:]), attempt)


def finished(t, task, start, worker="w0", outcome="ok", attempt=0, error=""):
    return TaskFinished(
        100 + t, task, "f", worker, 40 + int(worker[1:]), 100 + start, outcome, error, attempt
    )


def states(model: TimelineModel) -> list[str]:
    return [span.state for span in model.spans()]


def test_a_task_goes_from_queued_to_running_to_finished() -> None:
    model = fresh()
    model.apply([submitted(1, "a1")])
    assert states(model) == ["queued"] and model.counts()["queued"] == 1
    model.apply([dispatched(2, "a1")])
    assert states(model) == ["running"]
    model.apply([finished(5, "a1", 3)])
    [span] = model.spans()
    assert (span.state, span.pid, span.duration_s, span.wait_s) == (
        "finished",
        40,
        pytest.approx(2),
        pytest.approx(2),
    )
    model.check_invariants()


def test_a_second_task_on_a_worker_waits_until_the_first_is_over() -> None:
    model = fresh()
    model.apply([submitted(0, "a1"), submitted(0, "a2"), dispatched(1, "a1"), dispatched(1, "a2")])
    assert states(model) == ["running", "waiting"]
    model.apply([finished(4, "a1", 1)])
    assert states(model) == ["finished", "running"]
    assert model.start[1] == 4 * TICKS_PER_S
    model.check_invariants()


def test_a_task_taken_back_moves_to_the_other_worker_and_its_old_lane_runs_on() -> None:
    model = fresh()
    model.apply([submitted(0, t) for t in ("a1", "a2")])
    model.apply([dispatched(1, "a1"), dispatched(1, "a2"), dispatched(2, "a2", "w1")])
    assert states(model) == ["running", "running"]
    assert [span.pid for span in model.spans()] == [40, 41]
    assert model.queue.points()[1][-1] == 0
    model.check_invariants()


def test_a_result_read_before_its_submission_gives_the_same_bar() -> None:
    story = [submitted(0, "a1", args=["b100000001"]), dispatched(1, "a1"), finished(4, "a1", 2)]
    in_order, reverse = fresh(), fresh()
    in_order.apply(story)
    reverse.apply(story[::-1])
    assert in_order.spans() == reverse.spans()
    assert list(in_order.queue.points()[1]) == list(reverse.queue.points()[1]) == [1, 0]


@pytest.mark.parametrize("seed", range(8))
def test_any_order_of_events_ends_in_the_same_states(seed: int) -> None:
    events = script(tasks=60, workers=3, troubles=False)
    expected = fresh()
    expected.apply(events)
    shuffled = events[:]
    random.Random(seed).shuffle(shuffled)
    model = fresh()
    for event in shuffled:
        model.apply([event])
        model.check_invariants()
    assert [(s.task_id, s.state, s.ended_s) for s in model.spans()] == [
        (s.task_id, s.state, s.ended_s) for s in expected.spans()
    ]


def test_a_lost_attempt_is_drawn_as_retried_and_the_next_one_follows_it() -> None:
    model = fresh()
    model.apply(
        [submitted(0, "a1"), dispatched(1, "a1"), finished(2, "a1", 1, outcome="lost", error="killed")]
    )
    assert states(model) == ["lost"]
    model.apply([TaskRetried(102, "a1", "f", 1, "killed")])
    assert states(model) == ["retried", "queued"]
    model.apply([dispatched(3, "a1", "w1", attempt=1), finished(5, "a1", 3, "w1", attempt=1)])
    assert states(model) == ["retried", "finished"]
    assert model.critical_path() == [0, 1]
    model.check_invariants()


def test_a_retry_announced_without_a_result_closes_the_attempt() -> None:
    model = fresh()
    model.apply([submitted(0, "a1"), dispatched(1, "a1"), TaskRetried(102, "a1", "f", 1, "worker died")])
    assert states(model) == ["retried", "queued"]
    assert model.spans()[0].note == "worker died"


def test_an_attempt_that_was_lost_is_drawn_from_its_dispatch_to_its_end() -> None:
    model = fresh()
    model.apply([submitted(0, "a1"), dispatched(1, "a1")])
    model.apply([TaskFinished(103, "a1", "f", "", 0, 103, "lost", "WorkerCrashedError: gone", 0)])
    [span] = model.spans()
    assert (span.state, span.pid, span.duration_s) == ("lost", 40, pytest.approx(2))


def test_a_failure_keeps_its_one_line_reason() -> None:
    model = fresh()
    model.apply([submitted(0, "a1"), finished(2, "a1", 1, outcome="error", error="ValueError: odd")])
    assert [(s.state, s.note) for s in model.spans()] == [("failed", "ValueError: odd")]


def test_a_task_cancelled_in_the_queue_has_no_worker() -> None:
    model = fresh()
    model.apply([submitted(0, "a1"), TaskFinished(102, "a1", "f", "", 0, 0.0, "cancelled", "", 0)])
    assert model.lane[0] == NO_LANE
    assert model.counts()["cancelled"] == 1 and model.counts()["queued"] == 0
    model.check_invariants()


def test_events_before_the_origin_are_history() -> None:
    model = fresh()
    model.apply([TaskFinished(99.0, "a1", "f", "w0", 40, 98.0, "ok", "", 0)])
    assert model.spans() == []


def test_a_filter_keeps_other_tasks_out_of_every_count() -> None:
    model = fresh(accept="score*")
    model.apply(
        [submitted(0, "a1", "load"), submitted(0, "a2", "score"), dispatched(1, "a1"), dispatched(1, "a2")]
    )
    assert [span.name for span in model.spans()] == ["score"]


def test_a_get_of_tasks_that_the_filter_keeps_out_is_not_drawn() -> None:
    model = fresh(accept="score")
    model.apply([submitted(0, "a1", "load"), submitted(0, "a2", "score")])
    model.apply([GetCalled(101, 100, "get", ("a100000001",), 1, 0, "x:1", "driver")])
    model.apply([GetCalled(102, 100, "get", ("a200000001",), 1, 0, "x:2", "driver")])
    assert [model.strings[what] for what in model.call_what] == ["get · x:2"]


def test_the_end_of_the_runtime_loses_what_was_not_over_and_frees_the_ids() -> None:
    model = fresh()
    model.apply([submitted(0, "a1"), submitted(0, "a2"), dispatched(1, "a1")])
    model.runtime_ended(103.0)
    assert states(model) == ["lost", "lost"]
    model.apply([submitted(5, "a1"), dispatched(6, "a1"), finished(7, "a1", 6)])
    assert states(model) == ["lost", "lost", "finished"]
    model.check_invariants()


def test_the_critical_path_follows_arguments_and_busy_workers() -> None:
    model = fresh()
    model.apply(
        [submitted(0, "a1"), submitted(0, "a2"), submitted(0, "a3"), submitted(0, "a4", args=["a300000001"])]
    )
    model.apply([dispatched(0, "a1"), dispatched(0, "a2", "w1"), finished(1, "a2", 0, "w1")])
    model.apply([dispatched(1, "a3", "w1"), finished(5, "a3", 1, "w1"), finished(2, "a1", 0)])
    model.apply([dispatched(5, "a4"), finished(6, "a4", 5)])
    # a4 waited for its argument a3, which waited for its worker, which ran a2 first.
    assert [model.task_ids[row] for row in model.critical_path()] == ["a2", "a3", "a4"]


def test_the_critical_path_passes_through_the_get_that_held_the_driver_up() -> None:
    model = fresh()
    model.apply([submitted(0, "a1"), dispatched(0, "a1"), finished(3, "a1", 0)])
    model.apply([GetCalled(103.1, 100.1, "get", ("a100000001",), 1, 0, "x.py:1", "driver")])
    model.apply([submitted(3.2, "a2"), dispatched(3.2, "a2", "w1"), finished(4, "a2", 3.3, "w1")])
    assert [model.task_ids[row] for row in model.critical_path()] == ["a1", "a2"]


def test_a_nested_task_hangs_on_its_parent() -> None:
    model = fresh()
    model.apply(
        [submitted(0, "a1"), dispatched(0, "a1"), submitted(1, "a2", parent="a1"), dispatched(1, "a2", "w1")]
    )
    model.apply([finished(3, "a2", 1.1, "w1"), finished(2, "a1", 0)])
    assert [model.task_ids[row] for row in model.critical_path()] == ["a1", "a2"]


def test_a_flood_taken_in_at_once_tells_the_same_as_one_event_after_the_other() -> None:
    events = script(tasks=900, workers=3, mean_s=0.01)
    one_by_one, at_once = fresh(), fresh()
    for event in events:
        one_by_one.apply([event])
    at_once.apply(events)
    at_once.check_invariants()
    assert at_once.spans() == one_by_one.spans()
    assert at_once.counts() == one_by_one.counts()
    assert [at_once.task_ids[r] for r in at_once.critical_path()] == [
        one_by_one.task_ids[r] for r in one_by_one.critical_path()
    ]


def test_past_its_limit_the_model_folds_old_tasks_and_forgets_none() -> None:
    model = fresh(max_tasks=500)
    events = script(tasks=6_000, workers=4, mean_s=0.01, seed=3)
    for at in range(0, len(events), 997):
        model.apply(events[at : at + 997])
        model.check_invariants()
    assert len(model.start) <= 500 + 997
    packed = sum(model.submit[row] for row, state in enumerate(model.state) if state == State.PACKED)
    alone = sum(1 for state in model.state if state != State.PACKED)
    attempts = sum(type(event) is TaskFinished for event in events)
    assert packed + alone == attempts == sum(model.counts().values())


def test_a_queue_of_any_length_needs_no_rows() -> None:
    model = fresh()
    model.apply([submitted(n * 1e-5, f"{n:08x}") for n in range(20_000)])
    ticks, counts = model.queue.points()
    assert len(model.start) == 0 and counts[-1] == 20_000 and len(ticks) <= 1_024


def test_names_beyond_the_table_are_abbreviated() -> None:
    model = fresh()
    model.apply([submitted(0, f"{n:08x}", f"f{n}") for n in range(5_000)])
    assert len(model.strings) == 4_000 and model.strings[-1] == "…"


def test_a_mark_with_nothing_after_it_is_replaced() -> None:
    model = fresh()
    model.mark(101, "cell 1")
    model.mark(102, "cell 2")
    model.apply([submitted(3, "a1")])
    model.mark(104, "cell 3")
    assert [label for _, label in model.marks] == ["cell 2", "cell 3"]


def test_an_open_bar_has_no_end() -> None:
    model = fresh()
    model.apply([submitted(0, "a1"), dispatched(1, "a1")])
    assert model.end[0] == OPEN and model.spans()[0].duration_s is None
