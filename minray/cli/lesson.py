"""`minray lesson`: how does a student take a lesson, and a teacher grade it?

    list                       the lessons, their minutes and exercises
    start LESSON [FOLDER]      a copy to work in: the student's version
    run LESSON|NOTEBOOK        execute a notebook from top to bottom, outputs kept in it
    check LESSON|NOTEBOOK      the cards of a notebook, in the terminal
    release LESSON FOLDER      the student's version, to hand out
    grade LESSON NOTEBOOK...   points, with limits on time, memory and network; a JSON file for each
    report FILE...             a table of such files, and each one's cards

`check` and `grade` run the student's code in a process of its own (`minray.grading.judge`).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from minray.grading.card import number, plain_card
from minray.grading.judge import Limits, Result, grade
from minray.grading.library import Lesson, find_lesson, lessons

NOTEBOOK = "lesson.ipynb"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands on `parser`."""
    commands = parser.add_subparsers(dest="lesson_command", required=True, metavar="COMMAND")

    commands.add_parser("list", help="the lessons, their minutes and exercises")

    start = commands.add_parser("start", help="copy a lesson into a folder to work in")
    start.add_argument("lesson", help="its name, or the beginning of it (01)")
    start.add_argument("folder", nargs="?", type=Path, help="where to (default: ./LESSON)")
    start.add_argument("--force", action="store_true", help="overwrite a notebook that is there already")

    run = commands.add_parser("run", help="execute a notebook from top to bottom")
    run.add_argument("notebook", help="a notebook, its folder, or a lesson's name")

    check = commands.add_parser("check", help="check the exercises of a notebook")
    check.add_argument("notebook", help="a notebook, its folder, or a lesson's name")
    check.add_argument("--lesson", help="which lesson it is (default: from its folder's name)")

    release = commands.add_parser("release", help="write the students' version of a lesson")
    release.add_argument("lesson")
    release.add_argument("folder", type=Path)

    graded = commands.add_parser("grade", help="grade notebooks, each in a process with limits")
    graded.add_argument("lesson")
    graded.add_argument("notebooks", nargs="+", type=Path)
    graded.add_argument("--time", type=float, default=120.0, metavar="SECONDS", help="for a whole notebook")
    graded.add_argument("--memory-mb", type=int, default=1024, help="for each process")
    graded.add_argument("--network", action="store_true", help="leave the network open")
    graded.add_argument("--seed", type=int, help="draw the same arguments again (default: new ones)")
    graded.add_argument(
        "--output", type=Path, help="folder of the result files (default: beside the notebook)"
    )

    report = commands.add_parser("report", help="show result files of `grade`")
    report.add_argument("results", nargs="+", type=Path)


def run(arguments: argparse.Namespace) -> int:
    """Perform the subcommand. Returns the exit code: 1 when something is not solved, 2 for a wrong call."""
    commands = {
        "list": _list,
        "start": _start,
        "run": _run,
        "check": _check,
        "release": _release,
        "grade": _grade,
        "report": _report,
    }
    try:
        return commands[arguments.lesson_command](arguments)
    except (LookupError, OSError, ValueError) as error:
        print(
            f"minray lesson {arguments.lesson_command}: {error.args[0] if error.args else error}",
            file=sys.stderr,
        )
        return 2


def main(argv: Sequence[str] | None = None) -> int:
    """`minray lesson ...` on its own."""
    parser = argparse.ArgumentParser(prog="minray lesson", description="Take, check and grade lessons.")
    add_arguments(parser)
    return run(parser.parse_args(argv))


def _list(_: argparse.Namespace) -> int:
    for lesson in lessons():
        title, minutes = lesson.title_and_minutes()
        exercises = len(lesson.exercises())
        print(f"{lesson.name:<14} {title}   ({minutes} minutes, {exercises} exercises)")
    return 0


def _start(arguments: argparse.Namespace) -> int:
    lesson = find_lesson(arguments.lesson)
    folder = arguments.folder or Path(lesson.name)
    path = start(lesson, folder, overwrite=arguments.force)
    print(f"{path}\nopen it:  jupyter lab {path}\ncheck it: minray lesson check {folder}")
    return 0


def start(lesson: Lesson, folder: Path, *, overwrite: bool = False) -> Path:
    """Put the student's version of a lesson into `folder`; returns the notebook's path.

    Raises: FileExistsError rather than overwrite a student's work, unless told to.
    """
    path = folder / NOTEBOOK
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; --force overwrites it")
    folder.mkdir(parents=True, exist_ok=True)
    lesson.workbook().student_version().write(path)
    return path


def _notebook_of(text: str) -> Path:
    """A notebook's path, from a path, its folder, or a lesson's name with the working copy in ./NAME."""
    path = Path(text)
    if path.is_dir():
        return path / NOTEBOOK
    if path.exists():
        return path
    lesson = find_lesson(text)
    working_copy = Path(lesson.name) / NOTEBOOK
    if not working_copy.exists():
        raise FileNotFoundError(f"no {working_copy} here; `minray lesson start {lesson.name}` makes one")
    return working_copy


def _run(arguments: argparse.Namespace) -> int:
    path = _notebook_of(arguments.notebook)
    if importlib.util.find_spec("nbconvert") is None:
        raise OSError('executing a notebook needs Jupyter: pip install "minray[lab]"')
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--inplace"]
    # Widget state is megabytes, and a view draws nothing from it without its kernel.
    command += ["--ExecutePreprocessor.store_widget_state=False", str(path)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        lines = finished.stderr.strip().splitlines()
        print(f"{path}: a cell failed\n" + "\n".join(lines[-12:]))
        return 1
    print(f"{path}: every cell ran")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    path = _notebook_of(arguments.notebook)
    lesson = find_lesson(arguments.lesson or path.resolve().parent.name)
    # A student's own machine: the limits of `grade` would only be in the way.
    result = grade(lesson, path, Limits(time_s=300, memory_mb=8192, network=True, hidden=False), seed=1)
    print(_cards(result))
    return 0 if all(report.solved for report in result.reports) and result.outcome == "judged" else 1


def _release(arguments: argparse.Namespace) -> int:
    lesson = find_lesson(arguments.lesson)
    print(start(lesson, arguments.folder, overwrite=True))
    return 0


def _grade(arguments: argparse.Namespace) -> int:
    lesson = find_lesson(arguments.lesson)
    limits = Limits(time_s=arguments.time, memory_mb=arguments.memory_mb, network=arguments.network)
    for notebook in arguments.notebooks:
        path = notebook / NOTEBOOK if notebook.is_dir() else notebook
        result = grade(lesson, path, limits, arguments.seed)
        target = _result_path(path, arguments.output)
        target.write_text(json.dumps(result.as_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{_row(result)}  -> {target}")
    return 0


def _result_path(notebook: Path, output: Path | None) -> Path:
    if output is None:
        return notebook.with_suffix(".result.json")
    output.mkdir(parents=True, exist_ok=True)
    # Submissions are often called lesson.ipynb, each in its student's folder.
    return output / f"{notebook.resolve().parent.name}-{notebook.stem}.result.json"


def _report(arguments: argparse.Namespace) -> int:
    results = [Result.from_json(json.loads(path.read_text(encoding="utf-8"))) for path in arguments.results]
    for result in results:
        print(_row(result))
    for result in results:
        print(f"\n{result.submission}\n{_cards(result)}")
    return 0


def _row(result: Result) -> str:
    return f"{number(result.score):>5} of {number(result.points):<5} {result.outcome:<9} {result.submission}"


def _cards(result: Result) -> str:
    parts = [plain_card(report) for report in result.reports]
    parts += [f"note: {note}" for note in result.notes]
    return "\n\n".join(parts)
