"""Does each notebook hold what its reader should have?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from minray.grading.workbook import ProgramCell, Workbook, blank_solutions, strip_hidden_tests

SOLVED = """def f(x):
    y = x
    ### BEGIN SOLUTION
    y = 2 * x
    return y
    ### END SOLUTION
"""


def code(
    source: str, tags: list[str] | None = None, grade: str = "", solution: bool = False
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"tags": tags} if tags else {}
    if grade:
        metadata["nbgrader"] = {"grade_id": grade, "solution": solution, "grade": not solution}
    return {
        "cell_type": "code",
        "metadata": metadata,
        "source": source,
        "outputs": ["old"],
        "execution_count": 3,
    }


def text(source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def notebook(*cells: dict[str, Any]) -> Workbook:
    return Workbook({"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).with_ids()


TEACHER = notebook(
    text("# Title"),
    code("import time", ["setup"]),
    code("show()"),
    code(SOLVED, grade="double", solution=True),
    code("check(f)\n### BEGIN HIDDEN TESTS\nassert f(3) == 6\n### END HIDDEN TESTS\n", grade="double-check"),
)


def test_a_solution_region_becomes_one_line_at_its_own_depth() -> None:
    assert blank_solutions(SOLVED) == "def f(x):\n    y = x\n    ...  # your code here\n"


def test_every_region_is_blanked_on_its_own() -> None:
    twice = SOLVED + SOLVED
    assert blank_solutions(twice).count("your code here") == 2 and "SOLUTION" not in blank_solutions(twice)


def test_hidden_tests_vanish_with_their_marks() -> None:
    assert strip_hidden_tests("a\n### BEGIN HIDDEN TESTS\nb\n### END HIDDEN TESTS\nc\n") == "a\nc\n"


def test_the_students_copy_has_no_solution_no_hidden_test_and_no_output() -> None:
    student = TEACHER.student_version()
    everything = str(student.content)
    assert "2 * x" not in everything and "f(3) == 6" not in everything and "old" not in everything
    assert "2 * x" in str(TEACHER.content), "the teacher's copy is left as it was"


def test_the_students_copy_still_compiles() -> None:
    for cell in TEACHER.student_version().code():
        compile("".join(cell["source"]), "cell", "exec")


def test_ids_are_the_same_in_every_copy_and_different_from_one_another() -> None:
    again = TEACHER.student_version()
    ids = [cell["id"] for cell in TEACHER.cells]
    assert ids == [cell["id"] for cell in again.cells] and len(set(ids)) == len(ids)
    assert "double" in ids and "double-check" in ids
    same = notebook(code("x"), code("x"))
    assert len({cell["id"] for cell in same.cells}) == 2


def test_the_graded_program_is_setup_and_solutions_and_the_students_own_cells() -> None:
    student = TEACHER.student_version()
    student.cells[3]["source"] = "def f(x): return x + x"
    student.cells[1]["source"] = "import time as tampered"
    student.cells[4]["source"] = "print('score: 100')"
    own = code("def helper(): pass") | {"id": "mine"}
    student.cells.insert(3, own)
    assert TEACHER.program(student) == [
        ProgramCell(str(TEACHER.cells[1]["id"]), "import time", False),
        ProgramCell("mine", "def helper(): pass", True),
        ProgramCell("double", "def f(x): return x + x", False),
    ]


def test_a_deleted_setup_cell_runs_all_the_same() -> None:
    student = TEACHER.student_version()
    del student.cells[:3]
    assert TEACHER.program(student)[0].source == "import time"


def test_a_deleted_solution_is_simply_missing() -> None:
    student = TEACHER.student_version()
    del student.cells[3]
    assert [cell.id for cell in TEACHER.program(student)] == [TEACHER.cells[1]["id"]]


def test_what_is_no_notebook_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "essay.ipynb"
    path.write_text("dear teacher")
    with pytest.raises(ValueError, match=r"essay.ipynb is not a notebook"):
        Workbook.read(path)


def test_a_notebook_is_read_as_it_was_written(tmp_path: Path) -> None:
    TEACHER.write(tmp_path / "x.ipynb")
    assert Workbook.read(tmp_path / "x.ipynb").content == TEACHER.content
    assert TEACHER.first_text() == "# Title" and list(TEACHER.solutions()) == ["double"]
