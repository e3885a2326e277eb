"""How many points does this submission earn, whatever it tries?

The judge runs none of the student's code. It starts a process that does (`submission.py`), sends it
arguments, and judges what comes back with the teacher's copy of the exercises:

    teacher's notebook + checks.py ─┐
    student's solution cells ───────┼─► program ─► submission process ─► values, traces ─► judge ─► result
    random seed ────────────────────┘

So a test cell that the student edited is not used, a checker that the student's code patches is
patched in the wrong process, and a printed score is a line in a log. What is left to a cheat is to
compute the right values and to forge a whole trace within the time of the call; events outside that
time are dropped.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import minray
from minray.grading.exercise import Attempt, CaseResult, Exercise, Report, Trial, one_line
from minray.grading.library import Lesson
from minray.grading.wire import decode_trace, receive, send
from minray.grading.workbook import ProgramCell, Workbook

_GOODBYE_S = 5.0


@dataclass(frozen=True)
class Limits:
    """What one submission may use."""

    time_s: float = 120.0
    memory_mb: int = 1024
    network: bool = False
    hidden: bool = True  # ask the hidden cases too


@dataclass(frozen=True)
class Result:
    """What came of one submission. `outcome`: "judged", "timed out" or "died"."""

    lesson: str
    submission: str
    seed: int
    outcome: str
    reports: tuple[Report, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def score(self) -> float:
        """All points."""
        return sum(report.score for report in self.reports)

    @property
    def points(self) -> float:
        """All points that could be had."""
        return sum(report.points for report in self.reports)

    def as_json(self) -> dict[str, Any]:
        """The result file's content; `from_json` reads it."""
        reports = [
            {**dataclasses.asdict(report), "score": report.score, "points": report.points}
            for report in self.reports
        ]
        own = {
            "lesson": self.lesson,
            "submission": self.submission,
            "seed": self.seed,
            "outcome": self.outcome,
        }
        totals = {"score": self.score, "points": self.points}
        return {**own, **totals, "notes": list(self.notes), "reports": reports}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Result:
        """A result that `as_json` wrote."""
        reports = tuple(
            Report(
                row["exercise"],
                row["title"],
                tuple(CaseResult(**case) for case in row["cases"]),
                tuple(row["hints"]),
            )
            for row in data["reports"]
        )
        return cls(
            data["lesson"], data["submission"], data["seed"], data["outcome"], reports, tuple(data["notes"])
        )


class SubmissionLost(Exception):
    """The submission's process died, hung or answered nonsense: nothing more comes from it."""


class Submission:
    """The process that runs one student's program. A context manager: leaving it ends the process."""

    def __init__(self, lesson: Lesson, program: list[ProgramCell], limits: Limits) -> None:
        self._lesson = lesson
        self._program = program
        self._limits = limits
        self.failures: dict[str, str] = {}
        self.network = ""

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="minray-grade-")
        self._deadline_s = time.monotonic() + self._limits.time_s
        self._socket, theirs = socket.socketpair()
        package = str(Path(minray.__file__).resolve().parent.parent)
        kept = {key: os.environ[key] for key in ("PATH", "LANG", "LC_ALL", "TMPDIR") if key in os.environ}
        environment = {
            **kept,
            "HOME": self._folder.name,
            "PYTHONPATH": package,
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        with theirs, open(Path(self._folder.name) / "output.log", "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "minray.grading.submission", str(theirs.fileno())],
                cwd=self._folder.name,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()  # the submission reads the end, shuts its cluster down and exits
        try:
            self._process.wait(timeout=_GOODBYE_S)
        except subprocess.TimeoutExpired:
            pass
        try:
            # Also when it has exited: it may have left children in its group.
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        self._folder.cleanup()

    def start(self) -> None:
        """Have the cells run.

        Raises: SubmissionLost.
        """
        answer = self._ask(
            {
                "cells": [dataclasses.asdict(cell) for cell in self._program],
                "checks": str(self._lesson.checks),
                "memory_bytes": self._limits.memory_mb * 2**20,
                "cpu_s": int(self._limits.time_s) + 5,  # the wall clock decides; this ends what escaped it
                "network": self._limits.network,
            }
        )
        failures = answer.get("failures")
        if isinstance(failures, dict):
            self.failures = {str(cell): str(reason) for cell, reason in failures.items()}
        self.network = str(answer.get("network", ""))

    def attempt(self, exercise: Exercise, trial: Trial, seed: int) -> Attempt:
        """Have the student's function called once.

        Raises: SubmissionLost.
        """
        arguments = exercise.arguments(trial, seed)
        asked_s = time.perf_counter()
        answer = self._ask({"exercise": exercise.id, "trial": trial.name, "arguments": arguments})
        answered_s = time.perf_counter()
        trace = None
        if answer.get("trace") is not None:
            try:
                events = decode_trace(answer["trace"])
            except ValueError as error:
                raise SubmissionLost(f"its trace cannot be read: {one_line(error)}") from None
            # One clock for all processes of a machine: what happened, happened between these two.
            trace = tuple(event for event in events if asked_s <= event.time_s <= answered_s)
        return Attempt(arguments, answer.get("value"), one_line(str(answer.get("error", ""))), trace)

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        nonce = secrets.token_hex(16)
        remaining_s = self._deadline_s - time.monotonic()
        try:
            if remaining_s <= 0:
                raise TimeoutError
            self._socket.settimeout(remaining_s)
            send(self._socket, {"nonce": nonce, **question})
            answer = receive(self._socket)
        except TimeoutError:
            raise SubmissionLost(f"it took more than {self._limits.time_s:g} s") from None
        except (EOFError, OSError):
            raise SubmissionLost(f"its process ended{self._exit_reason()}") from None
        except ValueError as error:
            raise SubmissionLost(f"its answer cannot be read: {one_line(error)}") from None
        if not secrets.compare_digest(str(answer.get("nonce", "")), nonce):
            raise SubmissionLost("something other than the answer came through the judge's socket")
        return answer

    def _exit_reason(self) -> str:
        try:
            code = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return ""
        if code < 0:
            return f" by signal {signal.Signals(-code).name}"
        return f" with exit code {code}"


def grade(lesson: Lesson, submitted: Path, limits: Limits | None = None, seed: int | None = None) -> Result:
    """Grade one notebook. Never raises for what the student's code does."""
    limits = limits or Limits()
    seed = secrets.randbelow(2**31) if seed is None else seed
    exercises = lesson.exercises()
    notes: list[str] = []
    outcome = "judged"
    attempts: dict[str, dict[str, Attempt]] = {name: {} for name in exercises}
    try:
        program = lesson.workbook().program(Workbook.read(submitted))
    except (ValueError, OSError) as error:
        program, outcome = [], "died"
        notes.append(one_line(error))
    if program:
        with Submission(lesson, program, limits) as submission:
            try:
                submission.start()
                for name, exercise in exercises.items():
                    for trial in exercise.trials(limits.hidden):
                        attempts[name][trial.name] = submission.attempt(exercise, trial, seed)
            except SubmissionLost as loss:
                outcome = "timed out" if "more than" in str(loss) else "died"
                notes.append(str(loss))
            notes += [f"cell {cell}: {reason}" for cell, reason in submission.failures.items()]
            if submission.network and not limits.network:
                notes.append(f"the network was not limited: {submission.network}")
    reports = tuple(exercises[name].judge(made, limits.hidden) for name, made in attempts.items())
    return Result(lesson.name, str(submitted), seed, outcome, reports, tuple(notes))
