"""Does a lesson do what it promises, and can its checks fail? The same questions to every lesson.

    solved                full marks
    student's copy        no exercise is solved
    one hole              blanking one solution fails that exercise and no other
    mutants               each known-wrong solution fails the cases that it names
    nbval                 the notebook runs, and the marked cells give their stored output

`class TestLesson01(Promises)` in a module of its own asks them about one lesson. Solutions and mutants run
in this process on one cluster: a kernel for each would take minutes.
"""

from __future__ import annotations

import json
import os
import pydoc
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from minray.cli.lesson import main
from minray.grading.build import build, differences, is_checked
from minray.grading.exercise import Exercise, Report
from minray.grading.judge import Limits, grade
from minray.grading.library import Lesson, find_lesson
from minray.grading.workbook import Workbook, blank_solutions, source_of
from minray.grading.workbook import grade_id as grade_id_of

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def failed(report: Report, why: bool = False) -> list[str]:
    """The titles of the cases that did not pass, and the reasons on demand."""
    return [case.title + why * f": {case.message}" for case in report.cases if not case.passed]


def submission(lesson: Lesson, folder: Path, **solutions: str) -> Path:
    """A copy of the solved lesson with these solution cells replaced."""
    copy = Workbook.read(lesson.notebook)
    for cell in copy.code():
        if grade_id_of(cell) in solutions:
            cell["source"] = solutions[grade_id_of(cell)]
    path = folder / "submitted.ipynb"
    copy.write(path)
    return path


def pythonpath() -> dict[str, str]:
    """This environment, with the packages of this checkout."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "widgets")])}


ON_RAY = """
import json, sys
from minray.grading.library import find_lesson
from minray.grading.workbook import is_setup, is_solution, source_of

lesson = find_lesson(sys.argv[1])
namespace = {"__name__": "__main__"}
for cell in lesson.workbook().code():
    if is_setup(cell) or is_solution(cell):
        exec(source_of(cell).replace('ENGINE = "minray"', 'ENGINE = "ray"'), namespace)
assert namespace["ray"].__name__ == "ray"
for exercise in lesson.exercises().values():
    report = exercise.check(namespace[exercise.function], namespace["ray"])
    print(json.dumps({case.title: case.passed for case in report.cases}))
"""

Fresh = Callable[[], dict[str, Any]]  # see `conftest.setup`


class Promises:
    """The questions. A subclass names its lesson."""

    LESSON: ClassVar[Lesson]
    EXERCISES: ClassVar[dict[str, Exercise]]
    MUTANTS: ClassVar[list[Path]]

    def __init_subclass__(cls, lesson: str) -> None:
        cls.LESSON = find_lesson(lesson)
        cls.EXERCISES = cls.LESSON.exercises()
        cls.MUTANTS = sorted((cls.LESSON.folder / "mutants").glob("*.py"))

    def code(self) -> list[dict[str, Any]]:
        return self.LESSON.workbook().code()

    def check(self, name: str, namespace: dict[str, Any]) -> Report:
        exercise = self.EXERCISES[name]
        return exercise.check(namespace[exercise.function], namespace["ray"])

    # -------------------------------------------------------------------------- the files agree
    def test_the_notebook_is_in_sync_with_its_source(self) -> None:
        found = differences(build(self.LESSON), self.LESSON.workbook())
        assert not found, f"run: python -m minray.grading.build lessons/{self.LESSON.name}\n" + "\n".join(
            found
        )

    def test_every_promise_of_an_output_reached_the_notebook(self) -> None:
        promised = (self.LESSON.folder / "lesson.py").read_text().count("# NBVAL_CHECK_OUTPUT")
        assert promised == sum(is_checked(cell) for cell in self.code()) >= 8

    def test_every_checked_cell_has_a_stored_output(self) -> None:
        checked = [cell for cell in self.code() if is_checked(cell)]
        assert [cell["id"] for cell in checked if not cell["outputs"]] == []

    def test_no_other_output_is_stored_but_pictures(self) -> None:
        for cell in self.code():
            picture = "picture" in cell["metadata"].get("tags", [])
            assert picture or is_checked(cell) or not cell["outputs"], source_of(cell)
        assert (
            "widget-view" not in self.LESSON.notebook.read_text()
            and "widgets" not in self.LESSON.workbook().content["metadata"]
        )

    def test_a_picture_of_the_view_is_stored_for_readers_without_a_kernel(self) -> None:
        pictures = [cell for cell in self.code() if "picture" in cell["metadata"].get("tags", [])]
        assert len(pictures) >= 2
        assert all("image/svg+xml" in str(cell["outputs"]) for cell in pictures)

    def test_nothing_on_the_page_needs_the_network(self) -> None:
        assert not re.findall(r"https?://(?!www\.w3\.org/)[^\s\"')]+", self.LESSON.notebook.read_text())

    def test_every_symbol_that_the_lesson_names_exists(self) -> None:
        cells = self.LESSON.workbook().cells
        text = "\n".join(source_of(cell) for cell in cells if cell["cell_type"] == "markdown")
        symbols = set(re.findall(r"`(minray\.[\w.]+)`", text))
        assert len(symbols) >= 4
        assert [name for name in sorted(symbols) if pydoc.locate(name) is None] == []

    def test_every_exercise_has_two_hints_and_its_mutants(self) -> None:
        for name, exercise in self.EXERCISES.items():
            assert len(exercise.hints) == 2
            assert sum(path.stem.startswith(name + "_") for path in self.MUTANTS) >= 6
            assert {name, f"{name}-check"} <= {grade_id_of(cell) for cell in self.code()}

    def test_it_is_found_by_the_beginning_of_its_name(self) -> None:
        assert find_lesson(self.LESSON.name[:2]) == self.LESSON
        with pytest.raises(LookupError, match=self.LESSON.name):
            find_lesson("99")

    # ------------------------------------------------------------------------ the checks can fail
    @pytest.mark.cluster
    def test_the_solutions_earn_every_point(self, setup: Fresh) -> None:
        namespace = setup()
        for name, source in self.LESSON.workbook().solutions().items():
            exec(source, namespace)
            assert failed(self.check(name, namespace), why=True) == []

    @pytest.mark.cluster
    def test_the_students_copy_solves_no_exercise(self, setup: Fresh) -> None:
        namespace = setup()
        for name, source in self.LESSON.workbook().student_version().solutions().items():
            exec(source, namespace)
            report = self.check(name, namespace)
            assert report.score == 0 and not report.solved

    @pytest.mark.cluster
    def test_one_blanked_solution_fails_that_exercise_and_no_other(self, setup: Fresh, hole: str) -> None:
        namespace = setup()
        for name, source in self.LESSON.workbook().solutions().items():
            exec(blank_solutions(source) if name == hole else source, namespace)
        reports = [self.check(name, namespace) for name in self.EXERCISES]
        unsolved = {report.exercise: failed(report, why=True) for report in reports if not report.solved}
        assert list(unsolved) == [hole], unsolved

    @pytest.mark.cluster
    def test_a_known_wrong_solution_fails_where_it_says(self, setup: Fresh, mutant: Path) -> None:
        namespace = setup()
        exec(mutant.read_text(), namespace)
        report = self.check(mutant.stem.split("_", 1)[0], namespace)
        assert namespace["FAILS"] and set(namespace["FAILS"]) <= set(failed(report)), report

    # ---------------------------------------------------------------------------- grading, for real
    @pytest.mark.cluster
    def test_the_solved_lesson_earns_every_point_under_the_graders_limits(self, tmp_path: Path) -> None:
        result = grade(self.LESSON, submission(self.LESSON, tmp_path), Limits(time_s=60))
        assert [failed(report) for report in result.reports] == [[] for _ in self.EXERCISES], result
        assert result.outcome == "judged" and result.score == result.points

    def test_a_student_can_list_start_and_check(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["list"]) == 0
        assert self.LESSON.name in capsys.readouterr().out
        folder = tmp_path / self.LESSON.name
        assert main(["start", self.LESSON.name[:2], str(folder)]) == 0
        assert main(["start", self.LESSON.name[:2], str(folder)]) == 2, "a student's work is not overwritten"
        assert "your code here" in (folder / "lesson.ipynb").read_text()
        capsys.readouterr()
        assert main(["check", str(folder)]) == 1
        out = capsys.readouterr().out
        assert "Exercise 1" in out and "✘" in out and "Traceback" not in out

    def test_nbgrader_reads_the_points_of_every_check_from_its_card(self) -> None:
        utils = pytest.importorskip("nbgrader.utils", reason="the teach extra is not installed")
        nbformat = pytest.importorskip("nbformat")
        notebook = nbformat.read(self.LESSON.notebook, as_version=4)
        checks = [cell for cell in notebook.cells if utils.is_grade(cell)]
        points = [
            sum(case.points for case in exercise.cases if not case.hidden)
            for exercise in self.EXERCISES.values()
        ]
        assert [utils.determine_grade(cell) for cell in checks] == [(each, each) for each in points]

    # --------------------------------------------------------------------------------------- nbval
    @pytest.mark.slow
    @pytest.mark.cluster
    def test_the_notebook_runs_and_gives_its_stored_outputs(self, tmp_path: Path) -> None:
        settings = tmp_path / "pytest.ini"
        settings.write_text("[pytest]\n")  # the kernel's warnings are not ours to judge
        command = [sys.executable, "-m", "pytest", "-q", "-c", str(settings), "-p", "no:cacheprovider"]
        command += ["--nbval-lax", "--nbval-current-env", "--nbval-sanitize-with", str(HERE / "sanitize.cfg")]
        command += [str(self.LESSON.notebook)]
        ran = subprocess.run(
            command, capture_output=True, text=True, env=pythonpath(), cwd=tmp_path, check=False
        )
        assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
        assert f"{len(self.code())} passed" in ran.stdout, "every code cell is a test of its own"

    # ------------------------------------------------------------------------------------ real Ray
    @pytest.mark.parity
    @pytest.mark.slow
    def test_the_same_solutions_pass_on_real_ray(self, ray_python: str, tmp_path: Path) -> None:
        script = tmp_path / "on_ray.py"
        script.write_text(ON_RAY)
        ran = subprocess.run(
            [ray_python, str(script), self.LESSON.name],
            capture_output=True,
            text=True,
            env=pythonpath(),
            cwd=tmp_path,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr[-3000:]
        reports = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
        assert len(reports) == len(self.EXERCISES)
        for exercise, cases in zip(self.EXERCISES.values(), reports):
            expected = {c.title: None if c.reads_trace else True for c in exercise.cases if not c.hidden}
            assert cases == expected
