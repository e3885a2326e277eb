"""What does a cheat earn? Nothing; and an honest solution earns its points under the same limits.

A tiny lesson of one exercise, without a cluster: what is tested here is the judge, its process and its
limits. The lesson's own exercises are graded in `test_lesson_01.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from minray.cli.lesson import main
from minray.grading.judge import Limits, Result, grade
from minray.grading.library import Lesson
from minray.grading.workbook import Workbook

pytestmark = pytest.mark.notebooks

CHECKS = """
from minray.grading.exercise import Case, Exercise, Trial

TRIAL = Trial("numbers", lambda rng: [rng.randrange(1000) for _ in range(5)], lambda f, ray, xs: f(xs))
SECRET = Trial("nothing", lambda rng: [], lambda f, ray, xs: f(xs))

def right(attempt):
    return None if attempt.value == [2 * x for x in attempt.arguments] else f"got {attempt.value}"

def ran_as_tasks(attempt):
    return None if attempt.trace else "no task ran"

EXERCISES = (Exercise("double", "Double", "double_all", (
    Case("doubles", TRIAL, right, points=3),
    Case("runs as tasks", TRIAL, ran_as_tasks, reads_trace=True),
    Case("nothing", SECRET, right, hidden=True),
)),)
"""
SOLUTION = (
    "def double_all(xs):\n    ### BEGIN SOLUTION\n    return [2 * x for x in xs]\n    ### END SOLUTION\n"
)


def cell(source: str, grade_id: str = "", tags: tuple[str, ...] = ()) -> dict[str, Any]:
    metadata: dict[str, Any] = {"tags": list(tags)}
    if grade_id:
        solution = not grade_id.endswith("-check")
        metadata["nbgrader"] = {"grade_id": grade_id, "solution": solution, "grade": not solution}
    return {
        "cell_type": "code",
        "metadata": metadata,
        "source": source,
        "outputs": [],
        "execution_count": None,
    }


@pytest.fixture
def lesson(tmp_path: Path) -> Lesson:
    (tmp_path / "checks.py").write_text(CHECKS)
    cells = [
        cell("ray = None", tags=("setup",)),
        cell(SOLUTION, "double"),
        cell('check("double", double_all)', "double-check"),
    ]
    content = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    Workbook(content).with_ids().write(tmp_path / "lesson.ipynb")
    return Lesson("tiny", tmp_path)


def graded(lesson: Lesson, solution: str, *, limits: Limits | None = None, **more: str) -> Result:
    """Grade a copy with this text in the solution cell; `check` replaces the test cell's, `own` is added."""
    copy = lesson.workbook().student_version()
    copy.cells[1]["source"] = solution
    copy.cells[2]["source"] = more.get("check", copy.cells[2]["source"])
    if "own" in more:
        copy.cells.insert(1, cell(more["own"]) | {"id": "own"})
    path = lesson.folder / "submitted.ipynb"
    copy.write(path)
    return grade(lesson, path, limits or Limits(time_s=30), seed=5)


def test_an_honest_solution_earns_its_points(lesson: Lesson) -> None:
    result = graded(lesson, SOLUTION)
    assert (result.score, result.outcome, result.notes) == (4, "judged", ())
    assert [case.passed for case in result.reports[0].cases] == [True, None, True]


def test_the_students_copy_earns_nothing(lesson: Lesson) -> None:
    copy = lesson.workbook().student_version()
    copy.write(lesson.folder / "student.ipynb")
    assert grade(lesson, lesson.folder / "student.ipynb", Limits(time_s=30)).score == 0


PATCHES = """
import minray.grading.exercise as exercise, minray.grading.judge as judge, minray.grading.card as card
exercise.Exercise.judge = lambda self, *a, **k: (_ for _ in ()).throw(SystemExit(0))
exercise.Report.score = property(lambda self: 100.0)
exercise.Case.judge = lambda attempt: None
exercise._ask = lambda *a: (True, "")
judge.grade = lambda *a, **k: 100
card.Score.__new__ = lambda cls, report: 100.0
def double_all(xs): return None
"""
EQUALS_EVERYTHING = """
class Anything(list):
    def __eq__(self, other): return True
    __ne__ = __hash__ = None
def double_all(xs): return Anything([0])
"""
PRINTS = "print('score: 100'); print('{\"score\": 100}')\ndef double_all(xs): print('score: 100')\n"
WRITES_TO_THE_JUDGE = """
import json, os, struct
frame = json.dumps({"nonce": "", "value": [], "error": "", "trace": None, "score": 100}).encode()
for fd in range(3, 30):
    try: os.write(fd, struct.pack("!I", len(frame)) + frame)
    except OSError: pass
def double_all(xs): return None
"""
EXITS = "import os\ndef double_all(xs): os._exit(0)\n"
SENDS_NONSENSE = (
    "import os\nfor fd in range(3, 30):\n    try: os.write(fd, b'\\xff' * 64)\n    except OSError: pass\n"
)
RAISES_EXIT = "def double_all(xs): raise SystemExit('score: 100')\n"
CHEATS = {
    "patches the checker": PATCHES,
    "equals everything": EQUALS_EVERYTHING,
    "prints a score": PRINTS,
    "writes to the judge": WRITES_TO_THE_JUDGE,
    "sends nonsense": SENDS_NONSENSE,
    "exits": EXITS,
    "raises SystemExit": RAISES_EXIT,
    "is empty": "",
    "is no Python": "def double_all(xs:",
}


@pytest.mark.parametrize("how", CHEATS)
def test_a_cheat_earns_nothing(lesson: Lesson, how: str) -> None:
    result = graded(lesson, CHEATS[how])
    assert result.score == 0 and result.points == 5
    told = [case.message for case in result.reports[0].cases if case.message]
    assert told and all("\n" not in line for line in told), "a failure is one clean line"


def test_a_tampered_test_cell_is_not_used(lesson: Lesson) -> None:
    result = graded(lesson, "def double_all(xs): return 0", check="print('score: 100')\n100.0")
    assert result.score == 0


def test_a_solution_that_knows_the_notebooks_numbers_earns_nothing(lesson: Lesson) -> None:
    exercise = lesson.exercises()["double"]
    known = [2 * x for x in exercise.arguments(exercise.trials()[0], 1)]
    assert graded(lesson, f"def double_all(xs): return {known}").score == 0


def test_a_students_own_cell_is_run_and_may_fail(lesson: Lesson) -> None:
    helped = "def double_all(xs): return [twice(x) for x in xs]"
    assert graded(lesson, helped, own="def twice(x): return 2 * x").score == 4
    failed = graded(lesson, SOLUTION, own="%timeit x")
    assert failed.score == 4 and "cell own: SyntaxError" in failed.notes[0]


def test_an_endless_loop_ends_at_the_limit(lesson: Lesson) -> None:
    result = graded(lesson, "def double_all(xs):\n    while True: pass\n", limits=Limits(time_s=2))
    assert (result.score, result.outcome) == (0, "timed out") and result.notes == ("it took more than 2 s",)


def test_memory_ends_at_the_limit(lesson: Lesson) -> None:
    hungry = "def double_all(xs):\n    hoard = bytearray(600 * 2**20)\n    return [2 * x for x in xs]\n"
    result = graded(lesson, hungry, limits=Limits(time_s=30, memory_mb=300))
    assert result.score == 0 and "MemoryError" in result.reports[0].cases[0].message


NETWORK = """
import socket
def double_all(xs):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(2)
        socket.create_connection(server.getsockname(), timeout=2).close()
    return [2 * x for x in xs]
"""


def test_there_is_no_network_unless_the_teacher_opens_it(lesson: Lesson) -> None:
    closed = graded(lesson, NETWORK)
    if any("network was not limited" in note for note in closed.notes):
        pytest.skip(f"this kernel gives no network namespace: {closed.notes}")
    assert closed.score == 0 and "OSError" in closed.reports[0].cases[0].message
    assert graded(lesson, NETWORK, limits=Limits(time_s=30, network=True)).score == 4


def test_a_result_file_holds_everything_the_report_shows(
    lesson: Lesson, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("minray.cli.lesson.find_lesson", lambda name: lesson)
    graded(lesson, "def double_all(xs): return xs")
    submitted = str(lesson.folder / "submitted.ipynb")
    assert main(["grade", "tiny", submitted, "--seed", "3", "--output", str(lesson.folder / "out")]) == 0
    (path,) = (lesson.folder / "out").iterdir()
    stored = json.loads(path.read_text())
    assert stored["points"] == 5 and stored["seed"] == 3
    assert json.loads(json.dumps(Result.from_json(stored).as_json())) == stored
    assert main(["report", str(path)]) == 0
    assert "✘ doubles: got" in capsys.readouterr().out


def test_an_essay_is_graded_zero_with_the_reason(lesson: Lesson) -> None:
    path = lesson.folder / "essay.ipynb"
    path.write_text("Dear teacher,")
    result = grade(lesson, path)
    assert result.score == 0 and "not a notebook" in result.notes[0]
