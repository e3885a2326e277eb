"""Is a report fair: every case asked, a broken call told once, the same arguments for the same seed?"""

from __future__ import annotations

from typing import Any

import pytest

from minray.base.events import TaskFinished
from minray.grading.exercise import Attempt, Case, Exercise, Trial, exercises_by_id, one_line

TRIAL = Trial("some number", lambda rng: rng.randrange(1000), lambda function, ray, x: function(x))
OTHER = Trial("zero", lambda rng: 0, lambda function, ray, x: function(x))


def doubled(attempt: Attempt) -> str | None:
    return None if attempt.value == 2 * attempt.arguments else f"got {attempt.value}"


def has_events(attempt: Attempt) -> str | None:
    return None if attempt.trace else "no events"


DOUBLE = Exercise(
    "double",
    "Double it",
    "double",
    (
        Case("doubles", TRIAL, doubled, points=2),
        Case("doubles zero", OTHER, doubled),
        Case("is traced", TRIAL, has_events, reads_trace=True),
        Case("secret", TRIAL, doubled, hidden=True),
    ),
    ("weak", "strong"),
)
EVENT = TaskFinished(1, "a", "f", "w", 1, 0, "ok", "", 0)


def attempts(
    value: Any, error: str = "", trace: tuple[TaskFinished, ...] | None = (EVENT,)
) -> dict[str, Attempt]:
    return {"some number": Attempt(21, value, error, trace), "zero": Attempt(0, 0, "", trace)}


def test_a_solution_earns_every_point() -> None:
    report = DOUBLE.judge(attempts(42))
    assert (report.score, report.points, report.solved) == (4, 4, True)


def test_a_wrong_value_earns_the_points_of_the_other_cases() -> None:
    report = DOUBLE.judge(attempts(41))
    assert (report.score, report.solved) == (2, False)
    assert [case.message for case in report.cases] == ["got 41", "", ""]


def test_hidden_cases_are_asked_only_when_grading() -> None:
    assert len(DOUBLE.judge(attempts(42)).cases) == 3
    assert DOUBLE.judge(attempts(42), hidden=True).cases[-1].title == "secret"


def test_a_broken_call_is_told_once_and_fails_every_case_on_it() -> None:
    report = DOUBLE.judge(attempts(None, "it raised ValueError: no"))
    assert [case.passed for case in report.cases] == [False, True, False]
    assert [case.message for case in report.cases] == ["it raised ValueError: no", "", ""]


def test_a_function_that_is_not_written_yet_is_told_so_once() -> None:
    report = DOUBLE.judge({"some number": Attempt(21, None, "", (EVENT,)), "zero": Attempt(0, None, "", ())})
    assert report.score == 0
    assert [bool(case.message) for case in report.cases] == [True, False, False]
    assert "returned None" in report.cases[0].message


def test_a_call_may_be_meant_to_return_nothing() -> None:
    silent = Trial("t", lambda rng: 0, lambda function, ray, x: function(x), returns_value=False)
    exercise = Exercise("e", "E", "f", (Case("c", silent, lambda attempt: None),))
    assert exercise.judge({"t": Attempt(0, None, "", ())}).score == 1


def test_without_a_trace_a_trace_case_is_neither_passed_nor_failed() -> None:
    report = DOUBLE.judge(attempts(42, trace=None))
    assert report.cases[2].passed is None and report.score == 3 and report.solved


def test_an_attempt_that_was_never_made_earns_nothing() -> None:
    assert DOUBLE.judge({}).score == 0


def test_a_value_of_an_unexpected_shape_is_one_clean_line() -> None:
    report = DOUBLE.judge({**attempts(42), "zero": Attempt("x", [], "", ())})
    crashed = Exercise("e", "E", "f", (Case("c", TRIAL, lambda a: a.value["missing"]),)).judge(attempts(42))
    assert report.cases[1].passed is False
    assert crashed.cases[0].message == "TypeError: 'int' object is not subscriptable (got int)"


def test_the_same_seed_draws_the_same_arguments() -> None:
    assert DOUBLE.arguments(TRIAL, 7) == DOUBLE.arguments(TRIAL, 7)
    assert len({DOUBLE.arguments(TRIAL, seed) for seed in range(20)}) > 10


def test_check_calls_the_function_once_for_each_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minray.grading.exercise.current_source", lambda: None)
    monkeypatch.setattr("minray.grading.trace_recorder.current_source", lambda: None)
    calls: list[int] = []

    def double(x: int) -> int:
        calls.append(x)
        return 2 * x

    report = DOUBLE.check(double, None)
    assert len(calls) == 2 and report.score == 3


def test_an_exception_is_one_line_with_its_type() -> None:
    class RemoteError(Exception):
        cause = ZeroDivisionError("division by zero")

    assert one_line(ValueError("first\n\n  second  ")) == "ValueError: second"
    assert one_line(RemoteError("a long traceback")) == "ZeroDivisionError: division by zero"
    assert one_line(KeyboardInterrupt()) == "KeyboardInterrupt"
    assert len(one_line("x" * 1000)) == 200


def test_an_id_may_be_used_once() -> None:
    assert list(exercises_by_id([DOUBLE])) == ["double"]
    with pytest.raises(ValueError, match="used twice"):
        exercises_by_id([DOUBLE, DOUBLE])
