"""Is this function a solution, and if not, what is the first thing to look at?

    Exercise ── trials ──► Attempt (value, error, trace) ── cases ──► CaseResult ──► Report ──► Score

A *trial* is one call of the student's function with random but seeded arguments. A *case* is one
question about one trial: about its value, or about its trace. Several cases share a trial, so the
function runs once for all of them. The split is also the line between two processes in
`minray lesson grade`: a trial's `call` runs where the student's code runs; its `arguments` and every
case's `judge` run in the judge, which the student's code cannot reach.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from minray.base.events import Event
from minray.grading.trace import without_stragglers
from minray.grading.trace_recorder import current_source, traced
from minray.grading.wire import plain

NOTEBOOK_SEED = 1  # the card of a solved exercise is the same in every run of the notebook
_LINE_CHARS_MAX = 200


@dataclass(frozen=True)
class Trial:
    """One call. `arguments(rng)` is plain data; `call(function, ray, arguments)` returns plain data.

    A call that returns None is taken for one that was not written yet, unless `returns_value` is False.
    """

    name: str
    arguments: Callable[[random.Random], Any]
    call: Callable[[Callable[..., Any], Any, Any], Any]
    returns_value: bool = True


@dataclass(frozen=True)
class Attempt:
    """What came of a trial. error: "" or one line; trace: None where nothing was recorded."""

    arguments: Any
    value: Any
    error: str
    trace: tuple[Event, ...] | None


@dataclass(frozen=True)
class Case:
    """One question. `judge` returns None when all is well, or the reason in one line."""

    title: str
    trial: Trial
    judge: Callable[[Attempt], str | None]
    points: float = 1.0
    reads_trace: bool = False
    hidden: bool = False  # only `minray lesson grade` asks it


@dataclass(frozen=True)
class CaseResult:
    """passed: None when it could not be judged here (a trace case on real Ray)."""

    title: str
    passed: bool | None
    points: float
    message: str
    hidden: bool = False


@dataclass(frozen=True)
class Report:
    """One exercise, judged."""

    exercise: str
    title: str
    cases: tuple[CaseResult, ...]
    hints: tuple[str, ...] = ()

    @property
    def score(self) -> float:
        """The points of the cases that passed."""
        return sum(case.points for case in self.cases if case.passed)

    @property
    def points(self) -> float:
        """The points that could be had."""
        return sum(case.points for case in self.cases)

    @property
    def solved(self) -> bool:
        """Did every case that was judged pass?"""
        return all(case.passed is not False for case in self.cases)


@dataclass(frozen=True)
class Exercise:
    """A function to write, the cases that judge it, and hints from weak to strong."""

    id: str
    title: str
    function: str  # its name in the notebook
    cases: tuple[Case, ...]
    hints: tuple[str, ...] = field(default=())

    def trials(self, hidden: bool = False) -> tuple[Trial, ...]:
        """The trials of the visible cases (or of all), each once, in order."""
        return tuple(dict.fromkeys(case.trial for case in self.cases if hidden or not case.hidden))

    def arguments(self, trial: Trial, seed: int) -> Any:
        """This trial's arguments: the same for the same seed, whatever else was drawn before."""
        return trial.arguments(random.Random(f"{seed}/{self.id}/{trial.name}"))

    def check(self, function: Callable[..., Any], ray: Any, seed: int = NOTEBOOK_SEED) -> Report:
        """Run the visible trials in this process and judge them."""
        attempts = {}
        for trial in self.trials():
            attempts[trial.name] = run_trial(trial, function, ray, self.arguments(trial, seed))
        return self.judge(attempts)

    def judge(self, attempts: dict[str, Attempt], hidden: bool = False) -> Report:
        """Ask every case about its attempt. Pure: the attempts may come from another process."""
        results = tuple(self._results(attempts, hidden))
        return Report(self.id, self.title, results, self.hints)

    def _results(self, attempts: dict[str, Attempt], hidden: bool) -> Iterator[CaseResult]:
        told: set[str] = set()
        for case in self.cases:
            if case.hidden and not hidden:
                continue
            attempt = attempts.get(case.trial.name)
            passed: bool | None = False
            problem = _broken(case.trial, attempt)
            # One broken call fails several cases, one engine lacks every trace; say why once.
            if problem:
                message = "" if problem in told else problem
                told.add(problem)
            else:
                passed, message = _ask(case, attempt)
            if passed is None:
                message = "" if message in told else message
                told.add(message)
            yield CaseResult(case.title, passed, case.points, message, case.hidden)


def _broken(trial: Trial, attempt: Attempt | None) -> str:
    """Why there is nothing to judge, or ""."""
    if attempt is None:
        return "it was not reached"
    if attempt.error:
        return attempt.error
    if attempt.value is None and trial.returns_value:
        return "the function returned None: is it written, and is there a `return`?"
    return ""


def _ask(case: Case, attempt: Attempt | None) -> tuple[bool | None, str]:
    assert attempt is not None  # _broken was asked first
    if case.reads_trace and attempt.trace is None:
        return None, "it needs minray's event trace"
    try:
        reason = case.judge(attempt)
    except Exception as error:  # a value of an unexpected shape: the student's failure, not a crash
        reason = f"{one_line(error)} (got {type(attempt.value).__name__})"
    return reason is None, one_line(reason or "")


def run_trial(trial: Trial, function: Callable[..., Any], ray: Any, arguments: Any) -> Attempt:
    """Call the student's function once and record what happened. Never raises but for Ctrl-C."""
    error_line, value = "", None
    recorded = current_source() is not None
    with traced() as trace:
        try:
            value = plain(trial.call(function, ray, arguments))
        except Exception as error:  # whatever the student's code raises is one line on the card
            error_line = f"it raised {one_line(error)}"
    return Attempt(arguments, value, error_line, without_stragglers(trace) if recorded else None)


def one_line(problem: BaseException | str) -> str:
    """An exception or a text on one line. A task's error is told by its cause, not by its traceback."""
    if isinstance(problem, BaseException):
        cause = getattr(problem, "cause", None)
        shown = cause if isinstance(cause, BaseException) else problem
        lines = [line.strip() for line in str(shown).splitlines() if line.strip()]
        text = f"{type(shown).__name__}: {lines[-1]}" if lines else type(shown).__name__
    else:
        text = " ".join(problem.split())
    return text if len(text) <= _LINE_CHARS_MAX else text[: _LINE_CHARS_MAX - 3] + "..."


def exercises_by_id(exercises: Sequence[Exercise]) -> dict[str, Exercise]:
    """The exercises by id.

    Raises: ValueError for an id, or a trial's name within an exercise, that is used twice.
    """
    found: dict[str, Exercise] = {}
    for exercise in exercises:
        names = [trial.name for trial in exercise.trials(hidden=True)]
        if exercise.id in found or len(set(names)) < len(names):
            raise ValueError(f"exercise {exercise.id!r}: an id or a trial's name is used twice")
        found[exercise.id] = exercise
    return found
