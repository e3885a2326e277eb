"""Which lessons are there, and which exercises does one have?

A lesson is a folder: `lesson.ipynb` (what students open), `checks.py` (its exercises: the teacher's
copy), `mutants/` (known-wrong solutions, for our own tests). `checks.py` is loaded from its path under
a name of its own, never from the notebook's working folder: there a student could put another one.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minray.content import lessons_dir
from minray.grading.card import Score
from minray.grading.exercise import NOTEBOOK_SEED, Exercise, exercises_by_id
from minray.grading.workbook import Workbook


@dataclass(frozen=True)
class Lesson:
    """One lesson's folder, opened."""

    name: str
    folder: Path

    @property
    def notebook(self) -> Path:
        """The teacher's notebook, solutions included."""
        return self.folder / "lesson.ipynb"

    @property
    def checks(self) -> Path:
        """The module that holds the exercises; a lesson without exercises has none."""
        return self.folder / "checks.py"

    def workbook(self) -> Workbook:
        """The teacher's notebook, read."""
        return Workbook.read(self.notebook)

    def exercises(self) -> dict[str, Exercise]:
        """The exercises by id, in the order of the lesson."""
        return load_exercises(self.checks) if self.checks.exists() else {}

    def title_and_minutes(self) -> tuple[str, int]:
        """From the notebook's first text: its headline, and "N minutes" (0 when it does not say)."""
        text = self.workbook().first_text()
        headline = next((line.lstrip("# ") for line in text.splitlines() if line.startswith("#")), self.name)
        minutes = re.search(r"(\d+) minutes", text)
        return headline, int(minutes.group(1)) if minutes else 0


def lessons() -> list[Lesson]:
    """Every lesson that is installed, in order."""
    return [
        Lesson(folder.name, folder)
        for folder in sorted(lessons_dir().iterdir())
        if (folder / "lesson.ipynb").exists()
    ]


def find_lesson(name: str) -> Lesson:
    """The lesson `name`: its folder's name, or the beginning of it ("01").

    Raises: LookupError that lists the lessons when none or several fit.
    """
    available = lessons()
    found = [lesson for lesson in available if lesson.name == name]
    found = found or [lesson for lesson in available if lesson.name.startswith(name)]
    if len(found) != 1:
        names = ", ".join(lesson.name for lesson in available) or "none"
        raise LookupError(
            f"{'no' if not found else 'more than one'} lesson is called {name!r}; there are: {names}"
        )
    return found[0]


def load_exercises(path: Path) -> dict[str, Exercise]:
    """Run a `checks.py` and return its `EXERCISES` by id."""
    name = f"minray_checks_{path.resolve().parent.name}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"no exercises at {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and tracebacks look the module up
    spec.loader.exec_module(module)
    return exercises_by_id(module.EXERCISES)


def checker(lesson: str, ray: Any) -> Callable[[str, Callable[..., Any]], Score]:
    """What judges a notebook's solutions: `check = ...`, then `check("squares", square_all)` in a cell.

    `ray` is the module that the lesson runs on: minray, or Ray itself (then trace cases are not judged).
    """
    exercises = find_lesson(lesson).exercises()

    def check(exercise: str, function: Callable[..., Any], seed: int = NOTEBOOK_SEED) -> Score:
        """Judge `function` as a solution of `exercise`: a number, drawn as a card."""
        if exercise not in exercises:
            raise LookupError(f"{lesson} has no exercise {exercise!r}; it has: {', '.join(exercises)}")
        return Score(exercises[exercise].check(function, ray, seed))

    return check
