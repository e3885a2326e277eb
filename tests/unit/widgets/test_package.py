"""Can the views be imported everywhere, and does `minray lab` start on the right notebook?"""

from __future__ import annotations

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


def test_a_copy_of_the_lessons_keeps_the_readers_answers(tmp_path: Path) -> None:
    source, target = tmp_path / "lessons", tmp_path / "mine"
    (source / "01_tasks" / "__pycache__").mkdir(parents=True)
    (source / "01_tasks" / "lesson.ipynb").write_text("new")
    (source / "01_tasks" / "checks.py").write_text("checks")
    (target / "01_tasks").mkdir(parents=True)
    (target / "01_tasks" / "lesson.ipynb").write_text("answers")
    copy_missing(source, target)
    assert (target / "01_tasks" / "lesson.ipynb").read_text() == "answers"
    assert (target / "01_tasks" / "checks.py").read_text() == "checks"
    assert not (target / "01_tasks" / "__pycache__").exists()


def test_a_checkout_is_opened_in_place_and_a_wheel_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for root in ("repository", "_content"):
        (tmp_path / root / "lessons" / "01_tasks").mkdir(parents=True)
        (tmp_path / root / "lessons" / "01_tasks" / "lesson.ipynb").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert lessons_folder(None, tmp_path / "repository") == tmp_path / "repository" / "lessons"
    assert lessons_folder(None, tmp_path / "_content") == tmp_path / "minray-lessons"
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


def test_the_timeline_script_asks_the_network_for_nothing() -> None:
    for script in (Path(minray_widgets.__file__).parent / "static").iterdir():
        text = script.read_text()
        assert (
            "http:" not in text.replace("http://www.w3.org", "")
            and "https:" not in text
            and "import(" not in text
        )
