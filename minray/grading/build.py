"""How does `lesson.ipynb` come out of `lesson.py`?

    python -m minray.grading.build lessons/01_tasks            # build and execute
    python -m minray.grading.build lessons/01_tasks --check    # are the two in sync?

The source is jupytext's percent format, with marks on a cell:

    # %% exercise="squares"    the student writes here (nbgrader's solution cell)
    # %% check="squares"       a check; its points are those of the exercise in checks.py
    # %% tags=["picture"]      keep the static picture that this cell ends with
    # %% jupyter={"source_hidden": true}    fold the code: it holds the answers

A line `# NBVAL_CHECK_OUTPUT` promises a cell's output; the notebook carries it as nbval's tag, where it does
not stand in a student's way. Outputs are kept where they are promised or are a picture, and nowhere else:
a time or a process id in the repository would be news with every build. Widget state is never stored.
A maintainer's tool: it needs jupytext and nbclient, students need neither.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minray.grading.library import Lesson
from minray.grading.workbook import Workbook, source_of

CHECKED_MARK = "# NBVAL_CHECK_OUTPUT\n"
CHECKED_TAG = "nbval-check-output"
PICTURE_TAG = "picture"
CELL_TIMEOUT_S = 60
_KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def build(lesson: Lesson) -> Workbook:
    """The notebook without outputs, as `lesson.py` and `checks.py` say it."""
    import jupytext

    text = (lesson.folder / "lesson.py").read_text(encoding="utf-8")
    parsed = jupytext.reads(text, fmt="py:percent")
    exercises = lesson.exercises()
    cells = []
    for cell in parsed.cells:
        marks = dict(cell.metadata)
        metadata: dict[str, Any] = {}
        tags = list(marks.get("tags", []))
        source = cell.source
        if source.startswith(CHECKED_MARK):
            source = source.removeprefix(CHECKED_MARK)
            tags.append(CHECKED_TAG)
        if tags:
            metadata["tags"] = tags
        if "jupyter" in marks:
            metadata["jupyter"] = marks["jupyter"]
        if name := marks.get("exercise"):
            metadata["nbgrader"] = _nbgrader(name, solution=True)
        if name := marks.get("check"):
            points = sum(case.points for case in exercises[name].cases if not case.hidden)
            metadata["nbgrader"] = _nbgrader(f"{name}-check", solution=False) | {"points": points}
        made = {"cell_type": cell.cell_type, "metadata": metadata}
        if cell.cell_type == "code":
            made |= {"execution_count": None, "outputs": []}
        cells.append(made | {"source": source.splitlines(keepends=True)})
    metadata = {"kernelspec": _KERNEL, "language_info": {"name": "python"}}
    content = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return Workbook(content).with_ids()


def _nbgrader(name: str, *, solution: bool) -> dict[str, Any]:
    return {
        "grade": not solution,
        "grade_id": name,
        "locked": not solution,
        "schema_version": 3,
        "solution": solution,
        "task": False,
    }


def execute(built: Workbook, folder: Path) -> Workbook:
    """Run every cell in a fresh kernel; returns the notebook with all its outputs.

    Raises: nbclient.exceptions.CellExecutionError.
    """
    import nbclient
    import nbformat

    notebook = nbformat.reads(json.dumps(built.content), as_version=nbformat.NO_CONVERT)
    client = nbclient.NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_S,
        kernel_name="python3",
        store_widget_state=False,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    return Workbook(json.loads(nbformat.writes(notebook, version=nbformat.NO_CONVERT)))


def keep_promised_outputs(executed: Workbook) -> Workbook:
    """Drop every output but those of checked cells and pictures, and all widget state."""
    executed.content["metadata"] = {"kernelspec": _KERNEL, "language_info": {"name": "python"}}
    for cell in executed.code():
        cell["metadata"].pop("execution", None)
        picture = PICTURE_TAG in cell["metadata"].get("tags", [])
        if not picture and not is_checked(cell):
            cell["outputs"] = []
        for output in cell["outputs"]:
            if "data" in output:
                output["data"].pop("application/vnd.jupyter.widget-view+json", None)
    return executed


def is_checked(cell: dict[str, Any]) -> bool:
    """Does this cell promise its output?"""
    return CHECKED_TAG in cell["metadata"].get("tags", [])


def differences(built: Workbook, stored: Workbook) -> list[str]:
    """How the stored notebook differs from its source, outputs aside; one line for each cell."""
    found = []
    if len(built.cells) != len(stored.cells):
        found.append(f"{len(built.cells)} cells in lesson.py, {len(stored.cells)} in lesson.ipynb")
    for number, (ours, theirs) in enumerate(zip(built.cells, stored.cells)):
        found += [
            f"cell {number}: {key} is {theirs[key]!r}, not {ours[key]!r}"
            for key in ("id", "cell_type", "metadata")
            if ours[key] != theirs[key]
        ]
        if source_of(ours) != source_of(theirs):
            found.append(f"cell {number} ({ours['id']}): the text differs")
    return found


def main(arguments: Sequence[str]) -> int:
    """The command."""
    folder = Path(next(argument for argument in arguments if not argument.startswith("-"))).resolve()
    lesson = Lesson(folder.name, folder)
    built = build(lesson)
    if "--check" in arguments:
        found = differences(built, lesson.workbook())
        sys.stdout.write("".join(line + "\n" for line in found))
        return bool(found)
    if not lesson.notebook.exists():
        built.write(lesson.notebook)  # a lesson's own checks find it by its notebook
    keep_promised_outputs(execute(built, folder)).write(lesson.notebook)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
