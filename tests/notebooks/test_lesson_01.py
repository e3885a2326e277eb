"""Does lesson 01 do what it promises, and can its checks fail?

    solved                full marks
    student's copy        no exercise is solved
    one hole              blanking one solution fails that exercise and no other
    mutants               each known-wrong solution fails the cases that it names
    nbval                 the notebook runs, and the marked cells give their stored output

Solutions and mutants run in this process on one cluster: a kernel for each would take minutes.
"""

from __future__ import annotations

import json
import os
import pydoc
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minray.cli.lesson import main
from minray.grading.build import build, differences, is_checked
from minray.grading.exercise import Report
from minray.grading.judge import Limits, grade
from minray.grading.library import Lesson, find_lesson
from minray.grading.workbook import Workbook, blank_solutions, is_setup, source_of
from minray.grading.workbook import grade_id as grade_id_of

pytestmark = pytest.mark.notebooks

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
LESSON = find_lesson("01_tasks")
EXERCISES = LESSON.exercises()
MUTANTS = sorted((LESSON.folder / "mutants").glob("*.py"))


# ------------------------------------------------------------------------------ the files agree
def test_the_notebook_is_in_sync_with_its_source() -> None:
    found = differences(build(LESSON), LESSON.workbook())
    assert not found, "run: python -m minray.grading.build lessons/01_tasks\n" + "\n".join(found)


def test_every_promise_of_an_output_reached_the_notebook() -> None:
    promised = (LESSON.folder / "lesson.py").read_text().count("# NBVAL_CHECK_OUTPUT")
    assert promised == sum(is_checked(cell) for cell in LESSON.workbook().code()) >= 8


def test_every_checked_cell_has_a_stored_output() -> None:
    checked = [cell for cell in LESSON.workbook().code() if is_checked(cell)]
    assert [cell["id"] for cell in checked if not cell["outputs"]] == []


def test_no_other_output_is_stored_but_pictures() -> None:
    for cell in LESSON.workbook().code():
        picture = "picture" in cell["metadata"].get("tags", [])
        assert picture or is_checked(cell) or not cell["outputs"], source_of(cell)
    assert (
        "widget-view" not in LESSON.notebook.read_text()
        and "widgets" not in LESSON.workbook().content["metadata"]
    )


def test_a_picture_of_the_view_is_stored_for_readers_without_a_kernel() -> None:
    pictures = [cell for cell in LESSON.workbook().code() if "picture" in cell["metadata"].get("tags", [])]
    assert len(pictures) >= 2
    assert all("image/svg+xml" in str(cell["outputs"]) for cell in pictures)


def test_nothing_on_the_page_needs_the_network() -> None:
    assert not re.findall(r"https?://(?!www\.w3\.org/)[^\s\"')]+", LESSON.notebook.read_text())


def test_every_symbol_that_the_lesson_names_exists() -> None:
    text = "\n".join(source_of(cell) for cell in LESSON.workbook().cells if cell["cell_type"] == "markdown")
    symbols = set(re.findall(r"`(minray\.[\w.]+)`", text))
    assert len(symbols) >= 4
    assert [name for name in sorted(symbols) if pydoc.locate(name) is None] == []


def test_every_exercise_has_two_hints_and_three_mutants() -> None:
    for name, exercise in EXERCISES.items():
        assert len(exercise.hints) == 2
        assert sum(path.stem.startswith(name + "_") for path in MUTANTS) >= 3
        assert {name, f"{name}-check"} <= {grade_id_of(cell) for cell in LESSON.workbook().code()}


# ---------------------------------------------------------------------------- the checks can fail
@pytest.fixture(scope="module")
def setup() -> Iterator[Callable[[], dict[str, Any]]]:
    """Fresh namespaces after the lesson's setup cells, all on one cluster of four declared CPUs."""
    import minray

    minray.init(num_cpus=4)

    def fresh() -> dict[str, Any]:
        namespace: dict[str, Any] = {"__name__": "__main__"}
        for cell in LESSON.workbook().code():
            if is_setup(cell):
                exec(source_of(cell), namespace)
        return namespace

    yield fresh
    minray.shutdown()


def check(name: str, namespace: dict[str, Any]) -> Report:
    exercise = EXERCISES[name]
    return exercise.check(namespace[exercise.function], namespace["ray"])


def failed(report: Report) -> list[str]:
    return [case.title for case in report.cases if not case.passed]


@pytest.mark.cluster
def test_the_solutions_earn_every_point(setup: Callable[[], dict[str, Any]]) -> None:
    namespace = setup()
    for name, source in LESSON.workbook().solutions().items():
        exec(source, namespace)
        assert failed(check(name, namespace)) == []


@pytest.mark.cluster
def test_the_students_copy_solves_no_exercise(setup: Callable[[], dict[str, Any]]) -> None:
    namespace = setup()
    for name, source in LESSON.workbook().student_version().solutions().items():
        exec(source, namespace)
        report = check(name, namespace)
        assert report.score == 0 and not report.solved


@pytest.mark.cluster
@pytest.mark.parametrize("hole", EXERCISES)
def test_one_blanked_solution_fails_that_exercise_and_no_other(
    setup: Callable[[], dict[str, Any]], hole: str
) -> None:
    namespace = setup()
    for name, source in LESSON.workbook().solutions().items():
        exec(blank_solutions(source) if name == hole else source, namespace)
    assert [name for name in EXERCISES if not check(name, namespace).solved] == [hole]


@pytest.mark.cluster
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda path: path.stem)
def test_a_known_wrong_solution_fails_where_it_says(
    setup: Callable[[], dict[str, Any]], mutant: Path
) -> None:
    namespace = setup()
    exec(mutant.read_text(), namespace)
    report = check(mutant.stem.split("_", 1)[0], namespace)
    assert set(namespace["FAILS"]) <= set(failed(report)), report


# ------------------------------------------------------------------------- grading, for real
def submission(folder: Path, **solutions: str) -> Path:
    """A copy of the solved lesson with these solution cells replaced."""
    copy = Workbook.read(LESSON.notebook)
    for cell in copy.code():
        if grade_id_of(cell) in solutions:
            cell["source"] = solutions[grade_id_of(cell)]
    path = folder / "submitted.ipynb"
    copy.write(path)
    return path


@pytest.mark.cluster
def test_the_solved_lesson_earns_every_point_under_the_graders_limits(tmp_path: Path) -> None:
    result = grade(LESSON, submission(tmp_path), Limits(time_s=60))
    assert [failed(report) for report in result.reports] == [[], [], []], result
    assert result.outcome == "judged" and result.score == result.points


FORGED = """
import minray.grading.exercise, minray.grading.trace_recorder, contextlib
from minray.base.events import TaskSubmitted, TaskFinished

@contextlib.contextmanager
def forged(*args, **options):
    yield [TaskSubmitted(1.0 + i, "a%d" % i, "slow_square", "", "", ()) for i in range(8)] + [
        TaskFinished(20.0, "a%d" % i, "slow_square", "w", 7, 10.0, "ok", "", 0) for i in range(8)]

minray.grading.exercise.traced = minray.grading.trace_recorder.traced = forged

def square_all(numbers):
    print("score: 100")
    return [x * x for x in numbers]
"""


@pytest.mark.cluster
def test_a_forged_recorder_earns_no_trace_point(tmp_path: Path) -> None:
    result = grade(LESSON, submission(tmp_path, squares=FORGED), Limits(time_s=60))
    (squares,) = [report for report in result.reports if report.exercise == "squares"]
    by_trace = {case.title for case in EXERCISES["squares"].cases if case.reads_trace}
    assert by_trace <= set(failed(squares))


def test_a_student_can_list_start_and_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    assert "01_tasks" in capsys.readouterr().out
    folder = tmp_path / "01_tasks"
    assert main(["start", "01", str(folder)]) == 0
    assert main(["start", "01", str(folder)]) == 2, "a student's work is not overwritten"
    assert "your code here" in (folder / "lesson.ipynb").read_text()
    capsys.readouterr()
    assert main(["check", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "Exercise 1" in out and "✘" in out and "Traceback" not in out


# ----------------------------------------------------------------------------------- nbgrader
def test_nbgrader_reads_the_points_of_every_check_from_its_card() -> None:
    utils = pytest.importorskip("nbgrader.utils", reason="the teach extra is not installed")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(LESSON.notebook, as_version=4)
    checks = [cell for cell in notebook.cells if utils.is_grade(cell)]
    assert [utils.determine_grade(cell) for cell in checks] == [(5, 5), (6, 6), (6, 6)]


# ------------------------------------------------------------------------------------- nbval
def _pythonpath() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "widgets")])}


@pytest.mark.slow
@pytest.mark.cluster
def test_the_notebook_runs_and_gives_its_stored_outputs(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")  # the kernel's warnings are not ours to judge
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-c",
        str(tmp_path / "pytest.ini"),
        "-p",
        "no:cacheprovider",
    ]
    command += ["--nbval-lax", "--nbval-current-env", "--nbval-sanitize-with", str(HERE / "sanitize.cfg")]
    command += [str(LESSON.notebook)]
    ran = subprocess.run(
        command, capture_output=True, text=True, env=_pythonpath(), cwd=tmp_path, check=False
    )
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    cells = len(LESSON.workbook().code())
    assert f"{cells} passed" in ran.stdout, "every code cell is a test of its own"


# ---------------------------------------------------------------------------------- real Ray
ON_RAY = """
import json, sys
from minray.grading.library import find_lesson
from minray.grading.workbook import is_setup, is_solution, source_of

lesson = find_lesson("01_tasks")
namespace = {"__name__": "__main__"}
for cell in lesson.workbook().code():
    if is_setup(cell) or is_solution(cell):
        exec(source_of(cell).replace('ENGINE = "minray"', 'ENGINE = "ray"'), namespace)
assert namespace["ray"].__name__ == "ray"
for exercise in lesson.exercises().values():
    report = exercise.check(namespace[exercise.function], namespace["ray"])
    print(json.dumps({case.title: case.passed for case in report.cases}))
"""


@pytest.mark.parity
@pytest.mark.slow
def test_the_same_solutions_pass_on_real_ray(ray_python: str, tmp_path: Path) -> None:
    script = tmp_path / "on_ray.py"
    script.write_text(ON_RAY)
    ran = subprocess.run(
        [ray_python, str(script)],
        capture_output=True,
        text=True,
        env=_pythonpath(),
        cwd=tmp_path,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    reports = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    assert len(reports) == 3
    for exercise, cases in zip(EXERCISES.values(), reports):
        expected = {c.title: None if c.reads_trace else True for c in exercise.cases if not c.hidden}
        assert cases == expected


def test_lesson_is_found_by_the_beginning_of_its_name() -> None:
    assert find_lesson("01") == LESSON == Lesson("01_tasks", LESSON.folder)
    with pytest.raises(LookupError, match="01_tasks"):
        find_lesson("99")
