"""Do the questions about a trace have the right answers, on traces small enough to draw?"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from minray.base.events import (
    Event,
    GetCalled,
    ObjectPut,
    TaskDispatched,
    TaskFinished,
    TaskRetried,
    TaskSubmitted,
)
from minray.grading import trace as t

DRIVER, WORKER = "d" * 32, "e" * 32


def object_of(task: str) -> str:
    return task + "00000001"


def submit(
    at: float, task: str, name: str = "f", takes: Sequence[str] = (), parent: str = ""
) -> TaskSubmitted:
    return TaskSubmitted(at, task, name, parent, "", tuple(object_of(other) for other in takes))


def run(start: float, end: float, task: str, name: str = "f", attempt: int = 0) -> TaskFinished:
    return TaskFinished(end, task, name, WORKER, 100, start, "ok", "", attempt)


def get(at: float, *tasks: str, ready: int = 0, until: float | None = None, by: str = DRIVER) -> GetCalled:
    ids = tuple(object_of(task) for task in tasks)
    return GetCalled(at if until is None else until, at, "get", ids, len(tasks), ready, "cell:1", by)


def wait(at: float, *tasks: str) -> GetCalled:
    return GetCalled(
        at, at, "wait", tuple(object_of(task) for task in tasks), len(tasks), 0, "cell:1", DRIVER
    )


def test_overlap_counts_the_runs_under_way_at_one_instant() -> None:
    assert t.max_overlap([run(0, 3, "a"), run(1, 2, "b"), run(1.5, 4, "c"), run(5, 6, "d")], "f") == 3


def test_back_to_back_runs_do_not_overlap() -> None:
    assert t.max_overlap([run(0, 1, "a"), run(1, 2, "b")], "f") == 1


def test_overlap_of_nothing_is_zero() -> None:
    assert t.max_overlap([], "f") == 0


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20)), max_size=30))
def test_overlap_equals_the_count_at_the_busiest_instant(spans: list[tuple[int, int]]) -> None:
    runs = [run(start, start + length, str(i)) for i, (start, length) in enumerate(spans)]
    busiest = max((sum(s <= at < s + n for s, n in spans) for at in range(80)), default=0)
    assert t.max_overlap(runs) == busiest


def test_the_queue_is_what_was_submitted_and_has_not_begun() -> None:
    trace = [
        submit(0, "a"),
        submit(1, "b"),
        submit(2, "c"),
        run(0.5, 3, "a"),
        run(3, 4, "b"),
        run(5, 6, "b", attempt=1),
    ]
    assert t.max_waiting(trace, "f") == 2 and t.max_waiting([], "f") == 0


def test_a_task_is_found_by_the_last_part_of_its_name() -> None:
    trace = [run(0, 1, "a", "make.<locals>.f"), run(0, 1, "b", "Counter.add"), run(0, 1, "c", "off")]
    assert [len(t.tasks_named(trace, name)) for name in ("f", "add", "Counter.add", "off", None)] == [
        1,
        1,
        1,
        1,
        3,
    ]


def test_order_follows_the_last_attempt() -> None:
    trace = [submit(0, "a"), submit(1, "b"), run(2, 3, "a"), run(2, 4, "b"), run(5, 6, "a", attempt=1)]
    assert t.order(trace, "f", by="submitted") == ("a", "b")
    assert t.order(trace, "f", by="finished") == ("b", "a")
    assert t.order(trace, "f", by="started") == ("b", "a")


def loop(rounds: int, ready: int = 0) -> list[Event]:
    made: list[Event] = []
    for i in range(rounds):
        made += [submit(i, str(i)), get(i + 0.5, str(i), ready=ready)]
    return made


def test_submit_wait_submit_wait_is_a_get_in_a_loop() -> None:
    assert t.get_in_loop(loop(4), "f")


def test_submit_all_then_get_one_by_one_is_no_get_in_a_loop() -> None:
    trace = [submit(i, str(i)) for i in range(4)] + [get(10 + i, str(i)) for i in range(4)]
    assert not t.get_in_loop(trace, "f")


def test_a_get_of_what_is_ready_does_not_make_a_loop() -> None:
    assert not t.get_in_loop(loop(4, ready=1), "f")


def test_one_wait_between_two_submissions_is_not_yet_a_loop() -> None:
    assert not t.get_in_loop(
        [submit(0, "a"), get(1, "a"), submit(2, "b"), submit(3, "c"), get(4, "b", "c")], "f"
    )


def test_a_workers_get_in_a_loop_is_not_the_drivers() -> None:
    ran_there = [TaskDispatched(0, "p", WORKER, 100, 0)]
    inside = [submit(i, str(i), parent="p") for i in range(4)]
    gets = [get(i + 0.5, str(i), by=WORKER) for i in range(4)]
    trace = [*ran_there, *inside, *gets]
    assert not t.get_in_loop(trace) and t.driver_gets(trace) == () and t.driver_submissions(trace) == ()


def test_submitted_before_first_get_stops_at_the_call_not_at_its_return() -> None:
    trace = [submit(0, "a"), submit(1, "b"), get(2, "a", until=9), submit(3, "c")]
    assert t.submitted_before_first_get(trace, "f") == 2


def test_without_a_get_everything_was_submitted_before_it() -> None:
    assert t.submitted_before_first_get([submit(0, "a"), submit(1, "b")], "f") == 2


def test_fetched_are_the_tasks_whose_objects_the_driver_got() -> None:
    trace = [submit(0, "a1"), submit(1, "b2", "g"), get(2, "a1"), wait(3, "b2")]
    assert t.fetched_by_driver(trace, "f") == {"a1"} and t.fetched_by_driver(trace, "g") == frozenset()


def test_waited_for_unready_ignores_wait_and_ready_gets() -> None:
    assert t.waited_for_unready([get(0, "a", ready=1), get(1, "b"), wait(2, "c")]) == 1


def test_a_chain_is_as_deep_as_it_is_long_and_a_tree_is_not() -> None:
    chain = [submit(0, "aa"), submit(1, "bb", takes=["aa"]), submit(2, "cc", takes=["bb"])]
    tree = [submit(0, "aa"), submit(1, "bb"), submit(2, "cc", takes=["aa", "bb"])]
    assert (t.depth(chain), t.depth(tree), t.depth([])) == (3, 2, 0)


def test_a_put_is_not_a_link_of_a_chain() -> None:
    assert t.depth([TaskSubmitted(0, "aa", "f", "", "", ("77" * 28,))]) == 1


def test_puts_are_found_by_size() -> None:
    puts = [ObjectPut(0, "o", size, "shared", DRIVER) for size in (10, 1000, 10**6)]
    assert [p.size_bytes for p in t.puts_of_size(puts, 1000)] == [1000, 10**6]
    assert [p.size_bytes for p in t.puts_of_size(puts, 10, at_most=1000)] == [10, 1000]


def test_retries_and_processes_are_those_of_the_named_task() -> None:
    trace = [TaskRetried(0, "a", "f", 1, "worker died"), TaskRetried(0, "b", "g", 1, "x"), run(0, 1, "a")]
    assert [r.task_id for r in t.retried(trace, "f")] == ["a"] and t.processes_of(trace, "f") == {100}


def test_a_task_of_an_earlier_cell_is_no_part_of_this_story() -> None:
    late = [run(0, 5, "old"), TaskDispatched(0, "old", WORKER, 1, 0), TaskRetried(0, "old", "f", 1, "x")]
    ours = [submit(1, "a"), run(2, 3, "a"), get(2, "a")]
    assert t.without_stragglers([*late, *ours]) == tuple(ours)
