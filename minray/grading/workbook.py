"""What in a notebook is the lesson's, and what is the student's?

nbgrader's cell metadata answers it, and its format is our format:

    solution   the student writes here, between ### BEGIN SOLUTION and ### END SOLUTION
    grade      a check: its last value is a number of points
    neither    text, demonstrations, and the cells tagged "setup", on which the others build

Three notebooks come from one: the teacher's (complete), the student's (regions blanked, hidden tests
and outputs removed), and the *program* that is graded: the teacher's setup cells, the student's
solution cells, and whatever cells the student added. The student's copy of a test cell is never run.

Cell ids join the two notebooks. They are derived from the grade id or from the cell's text, so they
are the same in every copy of one edition of a lesson. Plain JSON: no nbformat needed to take a lesson.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STUB = "...  # your code here"
SETUP_TAG = "setup"
_SOLUTION = re.compile(
    r"^([ \t]*)### BEGIN SOLUTION\n.*?^[ \t]*### END SOLUTION[ \t]*$", re.MULTILINE | re.DOTALL
)
_HIDDEN = re.compile(
    r"^[ \t]*### BEGIN HIDDEN TESTS\n.*?^[ \t]*### END HIDDEN TESTS[ \t]*(?:\n|\Z)", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class ProgramCell:
    """One cell to run for grading. optional: a student's own cell, whose failure costs nothing by itself."""

    id: str
    source: str
    optional: bool


class Workbook:
    """A notebook, as its JSON."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content

    @classmethod
    def read(cls, path: Path) -> Workbook:
        """Read an .ipynb file.

        Raises: ValueError when it is not a notebook.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            content["cells"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a notebook: {error}") from None
        return cls(content)

    def write(self, path: Path) -> None:
        """Write an .ipynb file, as Jupyter would."""
        path.write_text(json.dumps(self.content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @property
    def cells(self) -> list[dict[str, Any]]:
        """The cells, as JSON objects."""
        cells: list[dict[str, Any]] = self.content["cells"]
        return cells

    def first_text(self) -> str:
        """The first markdown cell."""
        return next((source_of(cell) for cell in self.cells if cell["cell_type"] == "markdown"), "")

    def code(self) -> list[dict[str, Any]]:
        """The code cells."""
        return [cell for cell in self.cells if cell["cell_type"] == "code"]

    def solutions(self) -> dict[str, str]:
        """The solution cells' text by grade id."""
        return {grade_id(cell): source_of(cell) for cell in self.code() if is_solution(cell)}

    def with_ids(self) -> Workbook:
        """The same notebook with an id on each cell that says what the cell is."""
        made = copy.deepcopy(self.content)
        used: dict[str, int] = {}
        for cell in made["cells"]:
            name = grade_id(cell) or "c-" + hashlib.sha256(source_of(cell).encode()).hexdigest()[:10]
            used[name] = used.get(name, 0) + 1
            cell["id"] = name if used[name] == 1 else f"{name}-{used[name]}"
        return Workbook(made)

    def student_version(self) -> Workbook:
        """Solution regions blanked, hidden tests removed, no outputs."""
        made = copy.deepcopy(self.content)
        for cell in made["cells"]:
            if cell["cell_type"] != "code":
                continue
            text = source_of(cell)
            text = blank_solutions(text) if is_solution(cell) else strip_hidden_tests(text)
            cell["source"] = text.splitlines(keepends=True)
            cell["outputs"] = []
            cell["execution_count"] = None
        return Workbook(made)

    def program(self, submitted: Workbook) -> list[ProgramCell]:
        """What is run to grade `submitted` against this, the teacher's notebook."""
        ours = {str(cell.get("id")) for cell in self.cells}
        written = submitted.solutions()
        added: dict[str, list[ProgramCell]] = {}  # by the id of the cell of ours that stands before them
        before = ""
        for cell in submitted.cells:
            if str(cell.get("id")) in ours or is_solution(cell):
                before = str(cell.get("id"))
            elif cell["cell_type"] == "code" and not is_check(cell):
                own = ProgramCell(str(cell.get("id")), source_of(cell), True)
                added.setdefault(before, []).append(own)
        program = added.pop("", [])
        for cell in self.cells:
            if is_solution(cell) and grade_id(cell) in written:
                program.append(ProgramCell(grade_id(cell), written[grade_id(cell)], False))
            elif is_setup(cell):
                program.append(ProgramCell(str(cell["id"]), source_of(cell), False))
            program += added.pop(str(cell.get("id")), [])
        return program


def source_of(cell: dict[str, Any]) -> str:
    """The cell's text; in the file it is a list of lines or one string."""
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)


def _nbgrader(cell: dict[str, Any]) -> dict[str, Any]:
    found = cell.get("metadata", {}).get("nbgrader", {})
    return found if isinstance(found, dict) else {}


def grade_id(cell: dict[str, Any]) -> str:
    """The cell's nbgrader id, or ""."""
    return str(_nbgrader(cell).get("grade_id", ""))


def is_solution(cell: dict[str, Any]) -> bool:
    """Does the student write here?"""
    return bool(_nbgrader(cell).get("solution"))


def is_check(cell: dict[str, Any]) -> bool:
    """Does this cell give points?"""
    return bool(_nbgrader(cell).get("grade"))


def is_setup(cell: dict[str, Any]) -> bool:
    """Do the solutions build on this cell?"""
    return cell["cell_type"] == "code" and SETUP_TAG in cell.get("metadata", {}).get("tags", [])


def blank_solutions(text: str) -> str:
    """Every solution region replaced by one line that runs and does nothing."""
    return _SOLUTION.sub(lambda region: region.group(1) + STUB, text)


def strip_hidden_tests(text: str) -> str:
    """Without the regions between ### BEGIN HIDDEN TESTS and ### END HIDDEN TESTS."""
    return _HIDDEN.sub("", text)
