"""The findings about habits: once, and only when they cost something."""

from __future__ import annotations

from minray.worker.state.habits import LONE_GETS, TINY_TASKS, HabitWatch

test_code = compile("\n" * 6 + "f(x)", "cell.py", "eval")
PLACE = (test_code, 2)


def test_twenty_slow_lone_gets_at_one_line_are_one_finding() -> None:
    watch = HabitWatch()
    found = [watch.lone_get(PLACE, 0.1) for _ in range(3 * LONE_GETS)]
    assert [text for text in found if text] == [found[LONE_GETS - 1]]
    assert "cell.py:7" in found[LONE_GETS - 1]


def test_fast_lone_gets_are_no_finding() -> None:
    watch = HabitWatch()
    assert not any(watch.lone_get(PLACE, 1e-5) for _ in range(1000))


def test_gets_at_different_lines_do_not_add_up() -> None:
    watch = HabitWatch()
    assert not any(watch.lone_get((test_code, 2 * line), 0.5) for line in range(100))


def test_ten_thousand_tiny_tasks_are_one_finding_a_function() -> None:
    watch = HabitWatch()
    found = [watch.tasks_done("f", 1000, 3.0) for _ in range(30)]
    assert [index for index, text in enumerate(found) if text] == [TINY_TASKS // 1000 - 1]
    assert not watch.tasks_done("g", 1000, 3.0)


def test_many_long_tasks_are_no_finding() -> None:
    watch = HabitWatch()
    assert not any(watch.tasks_done("f", 1000, 5000.0) for _ in range(30))
