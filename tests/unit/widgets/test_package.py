"""Can the views be imported everywhere, and does `minray lab` start on the right notebook?"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import minray_widgets
from minray.cli.lab import copy_missing, lessons_folder, notebook_of, server_command


def test_importing_the_names_imports_no_jupyter() -> None:
    code = (
        "import sys, minray.widgets, minray_widgets\n"
        "bad = {'anywidget', 'ipywidgets', 'IPython', 'traitlets', 'numpy'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_missing_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['anywidget'] = None\n"
        "import minray.widgets\n"
        "try: minray.widgets.TimelineView\n"
        "except ImportError as e: assert \"pip install 'minray[lab]'\" in str(e), e\n"
        "else: raise SystemExit('no error')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_every_public_name_is_there() -> None:
    pytest.importorskip("anywidget", reason="the lab extra is not installed")
    import minray.widgets

    assert minray.widgets.__all__ == minray_widgets.__all__
    for name in minray_widgets.__all__:
        assert getattr(minray.widgets, name) is getattr(minray_widgets, name)
    with pytest.raises(AttributeError):
        _ = minray.widgets.no_such_view


def lesson_in(folder: Path, cell: str) -> None:
    """A notebook of one solution cell."""
    folder.mkdir(parents=True)
    metadata = {"nbgrader": {"grade_id": "f", "solution": True, "grade": False}}
    made = {"cell_type": "code", "metadata": metadata, "source": cell, "outputs": [], "execution_count": 1}
    content = {"cells": [made], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (folder / "lesson.ipynb").write_text(json.dumps(content))


SOLVED = "### BEGIN SOLUTION\nanswer = 42\n### END SOLUTION\n"


def test_a_copy_of_the_lessons_keeps_the_readers_answers(tmp_path: Path) -> None:
    source, target = tmp_path / "lessons", tmp_path / "mine"
    lesson_in(source / "01_tasks", SOLVED)
    lesson_in(target / "01_tasks", "my own answer")
    copy_missing(source, target)
    assert "my own answer" in (target / "01_tasks" / "lesson.ipynb").read_text()


def test_a_student_gets_the_lesson_without_what_gives_it_away(tmp_path: Path) -> None:
    source, target = tmp_path / "lessons", tmp_path / "mine"
    lesson_in(source / "01_tasks", SOLVED)
    for name in ("lesson.py", "checks.py", "mutants/wrong.py", "__pycache__/checks.pyc", "data/table.csv"):
        (source / "01_tasks" / name).parent.mkdir(exist_ok=True)
        (source / "01_tasks" / name).write_text("answer = 42")
    copy_missing(source, target)
    files = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert files == {"01_tasks/lesson.ipynb", "01_tasks/data/table.csv"}
    text = (target / "01_tasks" / "lesson.ipynb").read_text()
    assert "42" not in text and "your code here" in text


def test_the_reader_works_on_a_copy_beside_the_checkout_and_beside_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lesson_in(tmp_path / "repository" / "lessons" / "01_tasks", SOLVED)
    monkeypatch.chdir(tmp_path)
    assert lessons_folder(None, tmp_path / "repository") == tmp_path / "minray-lessons"
    assert lessons_folder(tmp_path / "else", tmp_path / "repository") == tmp_path / "else"
    assert (tmp_path / "minray-lessons" / "01_tasks" / "lesson.ipynb").exists()


def test_a_lesson_is_found_by_the_beginning_of_its_name(tmp_path: Path) -> None:
    for name in ("01_tasks", "02_objects"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lesson.ipynb").write_text("{}")
    assert notebook_of(tmp_path, "") == "01_tasks/lesson.ipynb"
    assert notebook_of(tmp_path, "02") == "02_objects/lesson.ipynb"
    assert notebook_of(tmp_path, "lessons/02_objects/lesson.ipynb") == "02_objects/lesson.ipynb"
    with pytest.raises(FileNotFoundError, match="there are: 01_tasks, 02_objects"):
        notebook_of(tmp_path, "99")


def test_the_server_listens_here_only_and_its_token_is_on_no_command_line(tmp_path: Path) -> None:
    command = server_command(tmp_path, "01_tasks/lesson.ipynb", 8888)
    assert "--ServerApp.ip=127.0.0.1" in command
    assert not any("token" in word.lower() for word in command)


def test_no_script_asks_the_network_for_anything() -> None:
    for script in (Path(minray_widgets.__file__).parent / "static").iterdir():
        text = script.read_text()
        assert (
            "http:" not in text.replace("http://www.w3.org", "")
            and "https:" not in text
            and "import(" not in text
        )
