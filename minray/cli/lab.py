"""`minray lab`: how does one command bring a reader into a running lesson?

JupyterLab starts on the lessons, on this machine only (127.0.0.1, with a token), and the address of
the lesson is printed; a browser opens where there is one. Works without a display and as root, so
the same command serves a laptop, a container and a Binder.

The reader works on a copy in a folder of their own (`./minray-lessons`), the student's version: without
the solutions, the checks and the wrong answers that the lessons' own tests use. Files that are there
already are kept: they hold somebody's answers.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import quote

from minray.content import content_root
from minray.grading.workbook import Workbook

_START_S_MAX = 60.0
DEFAULT_FOLDER = "minray-lessons"
NOTEBOOK = "lesson.ipynb"
TEACHERS_OWN = ("lesson.py", "checks.py", "mutants", "README.md")


def add_parser(subparsers: Any) -> None:
    """Declare `minray lab`."""
    parser = subparsers.add_parser(
        "lab", help="open JupyterLab on the lessons", description="Open the lessons in JupyterLab."
    )
    add_arguments(parser)
    parser.set_defaults(run=run)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments on `parser`."""
    parser.add_argument("lesson", nargs="?", default="", help="its name or the beginning of it (default: 01)")
    parser.add_argument("--port", type=int, default=8888, help="the first port to try; 0: any free one")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    parser.add_argument("--copy-to", type=Path, metavar="DIR", help="work on a copy of the lessons in DIR")


def run(arguments: argparse.Namespace) -> int:
    """Perform the command. Returns: the exit status."""
    if importlib.util.find_spec("jupyterlab") is None or importlib.util.find_spec("anywidget") is None:
        print("minray lab needs JupyterLab and the widgets: pip install 'minray[lab]'", file=sys.stderr)
        return 1
    try:
        folder = lessons_folder(arguments.copy_to)
        notebook = notebook_of(folder, arguments.lesson)
    except FileNotFoundError as error:
        print(f"minray lab: {error}", file=sys.stderr)
        return 1
    return _serve(folder, notebook, arguments.port, browser=not arguments.no_browser)


def main(argv: Sequence[str] | None = None) -> int:
    """`minray lab` on its own."""
    parser = argparse.ArgumentParser(prog="minray lab", description="Open the lessons in JupyterLab.")
    add_arguments(parser)
    return run(parser.parse_args(argv))


def lessons_folder(copy_to: Path | None, source: Path | None = None) -> Path:
    """The folder to work in: a copy of the lessons that belongs to the reader.

    Raises: FileNotFoundError if there are no lessons.
    """
    root = content_root() if source is None else source
    target = Path.cwd() / DEFAULT_FOLDER if copy_to is None else copy_to
    copy_missing(root / "lessons", target)
    return target.resolve()


def copy_missing(source: Path, target: Path) -> None:
    """Copy what a student needs of each lesson, but never over a file that is there."""
    for path in sorted(source.rglob("*")):
        inside = path.relative_to(source)
        if any(part.startswith((".", "__pycache__")) or part in TEACHERS_OWN for part in inside.parts):
            continue
        copy = target / inside
        if path.is_dir():
            copy.mkdir(parents=True, exist_ok=True)
        elif not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            if path.name == NOTEBOOK:
                Workbook.read(path).student_version().write(copy)
            else:
                shutil.copy2(path, copy)


def notebook_of(folder: Path, lesson: str) -> str:
    """The notebook to open, relative to `folder`. No name: the first lesson.

    Raises: FileNotFoundError that lists what there is.
    """
    names = sorted(path.parent.name for path in folder.glob("*/lesson.ipynb"))
    wanted = Path(lesson).parent.name if lesson.endswith(".ipynb") else Path(lesson).name
    for name in names:
        if name == wanted or name.startswith(wanted or names[0]):
            return f"{name}/lesson.ipynb"
    raise FileNotFoundError(f"no lesson {lesson!r} in {folder}; there are: {', '.join(names) or 'none'}")


def server_command(folder: Path, notebook: str, port: int) -> list[str]:
    """The command line of the server. The token is not on it: every user of a machine sees those."""
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=50",
        "--ServerApp.open_browser=False",
        f"--ServerApp.root_dir={folder}",
        f"--LabApp.default_url=/lab/tree/{quote(notebook)}",
        # Lessons work offline: no news, no look for updates.
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--Application.log_level=ERROR",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--ServerApp.allow_root=True")
    return command


def _serve(folder: Path, notebook: str, port: int, *, browser: bool) -> int:
    with tempfile.TemporaryDirectory(prefix="minray-lab-") as private:
        return _serve_with(Path(private), folder, notebook, port, browser=browser)


def _serve_with(private: Path, folder: Path, notebook: str, port: int, *, browser: bool) -> int:
    environment = dict(os.environ)
    # Jupyter merges every folder on this path: the reader's own settings stay as they are.
    settings = private / "labconfig" / "page_config.json"
    settings.parent.mkdir()
    settings.write_text('{"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": true}}')
    others = environment.get("JUPYTER_CONFIG_PATH")
    environment["JUPYTER_CONFIG_PATH"] = str(private) + (os.pathsep + others if others else "")
    environment["JUPYTER_TOKEN"] = secrets.token_hex(24)
    # Tools that kernels call by name (nbgrader's among them) are those of this environment.
    environment["PATH"] = os.path.dirname(sys.executable) + os.pathsep + environment.get("PATH", os.defpath)
    log = private / "jupyter.log"
    with log.open("wb") as sink:
        command = server_command(folder, notebook, port)
        server = subprocess.Popen(command, env=environment, stdout=sink, stderr=sink)

    def stop(_: int, __: FrameType | None) -> None:
        server.terminate()

    # One Ctrl-C ends it, kernels included. The terminal signals the server too, which would ask
    # whether it is meant; the TERM that follows answers.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    info = _wait_until_up(server)
    if info is None:
        if server.poll() is None:
            server.kill()
        print(log.read_text(errors="replace")[-4000:], file=sys.stderr)
        print("minray lab: JupyterLab did not start; its own words are above", file=sys.stderr)
        return 1
    url = f"{info['url']}lab/tree/{quote(notebook)}?token={environment['JUPYTER_TOKEN']}"
    print(f"\n  The lesson: {url}\n  Folder:     {folder}\n  Ctrl-C ends it.\n", flush=True)
    if browser and _has_display():
        webbrowser.open(url)
    status = server.wait()
    return 0 if status in (0, -signal.SIGTERM, -signal.SIGINT) else status


def _wait_until_up(server: subprocess.Popen[bytes]) -> dict[str, Any] | None:
    """What the server wrote about itself once it listens, None if it never does."""
    from jupyter_core.paths import jupyter_runtime_dir

    path = Path(jupyter_runtime_dir()) / f"jpserver-{server.pid}.json"
    deadline = time.monotonic() + _START_S_MAX
    while server.poll() is None and time.monotonic() < deadline:
        try:
            info: dict[str, Any] = json.loads(path.read_text())
            return info
        except (FileNotFoundError, json.JSONDecodeError):
            time.sleep(0.05)
    return None


def _has_display() -> bool:
    """Would a browser open a window here, and not take over the terminal?"""
    if sys.platform == "darwin":
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
