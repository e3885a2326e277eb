"""How does a test drive a lesson in a real browser? One JupyterLab, one page, both gone at the end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHROMIUM = "/usr/bin/chromium"
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
REPOSITORY = Path(__file__).resolve().parents[2]


def why_not() -> str:
    """Why no browser test can run here, "" if one can."""
    if not os.path.exists(CHROMIUM):
        return f"NO BROWSER TESTS: {CHROMIUM} is missing (apt-get install chromium)"
    for module in ("playwright", "jupyterlab", "anywidget"):
        try:
            __import__(module)
        except ImportError:
            return f"NO BROWSER TESTS: {module} is missing (pip install 'minray[dev,lab]')"
    return ""


def notebook(*cells: str) -> str:
    """The text of a notebook with these code cells ("# %% md" first: a text cell)."""
    made = []
    for i, source in enumerate(cells):
        cell: dict[str, Any] = {"id": f"c{i}", "metadata": {}, "source": source, "cell_type": "code"}
        if source.startswith("# %% md\n"):
            cell |= {"cell_type": "markdown", "source": source[8:]}
        else:
            cell |= {"execution_count": None, "outputs": []}
        made.append(cell)
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return json.dumps({"cells": made, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5})


@contextmanager
def lab(folder: Path, lesson: str = "", subshells: bool = True) -> Iterator[str]:
    """`minray lab` on `folder`. Yields its address, token included; ends the server and its kernels.

    Without `subshells`, a page's messages wait for the end of the cell, as with older kernels.
    """
    with tempfile.TemporaryDirectory(prefix="minray-lab-") as private:
        # A user's own Jupyter settings, and the leftovers of other runs, stay out of it.
        environment = dict(os.environ)
        for name in (
            "JUPYTER_CONFIG_DIR",
            "JUPYTER_DATA_DIR",
            "JUPYTER_RUNTIME_DIR",
            "JUPYTERLAB_SETTINGS_DIR",
        ):
            environment[name] = os.path.join(private, name.lower())
        # All cells stay in the page, so that a test finds them; a reader's JupyterLab drops those out of sight.
        settings = Path(environment["JUPYTERLAB_SETTINGS_DIR"], "@jupyterlab")
        _write(settings / "notebook-extension" / "tracker.jupyterlab-settings", {"windowingMode": "none"})
        if not subshells:
            kernels = settings / "apputils-extension" / "kernels-settings.jupyterlab-settings"
            _write(kernels, {"commsOverSubshells": "disabled"})
        environment["IPYTHONDIR"] = os.path.join(private, "ipython")
        environment["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "widgets")])
        command = [
            sys.executable,
            "-c",
            "import sys; from minray.cli.lab import main; sys.exit(main(sys.argv[1:]))",
        ]
        server = subprocess.Popen(
            [
                *command,
                *([lesson] if lesson else []),
                "--no-browser",
                "--port",
                "0",
                "--copy-to",
                str(folder),
            ],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            start_new_session=True,
        )
        try:
            yield _address(server)
        finally:
            server.terminate()
            try:
                server.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()
            assert server.stdout is not None
            server.stdout.close()


def _write(path: Path, settings: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings))


def _address(server: subprocess.Popen[str]) -> str:
    assert server.stdout is not None
    for line in server.stdout:
        found = re.search(r"http://127\.0\.0\.1:\S+", line)
        if found:
            return found.group()
    raise AssertionError(f"minray lab ended with {server.wait()} before it printed an address")


def end_kernels(address: str) -> None:
    """Shut every kernel of this JupyterLab down, and with it what it started."""
    root, token = address.split("/lab", 1)[0], address.split("token=")[1]
    headers = {"Authorization": f"token {token}"}
    with urllib.request.urlopen(
        urllib.request.Request(f"{root}/api/sessions", headers=headers), timeout=20
    ) as reply:
        sessions = json.loads(reply.read())
    for session in sessions:
        request = urllib.request.Request(
            f"{root}/api/sessions/{session['id']}", headers=headers, method="DELETE"
        )
        urllib.request.urlopen(request, timeout=20).close()


@contextmanager
def browser() -> Iterator[Any]:
    """A Chromium; nothing of it is left afterwards."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS)
        try:
            yield chromium
        finally:
            chromium.close()


@dataclass
class Notebook:
    """An open notebook, and what a reader does with it."""

    page: Any

    @classmethod
    def open(cls, page: Any, url: str) -> Notebook:
        """Open a lesson's address and wait for an idle kernel."""
        page.goto(url)
        page.wait_for_selector(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell", timeout=60_000)
        page.wait_for_selector(
            '.jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook-ExecutionIndicator[data-status="idle"]',
            timeout=60_000,
        )
        return cls(page)

    def run_cell(self, index: int) -> None:
        """Run one cell; returns as soon as it has begun."""
        from playwright.sync_api import Error

        panel = self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
        prompt = panel.locator(".jp-Cell").nth(index).locator(".jp-InputPrompt").first
        before = prompt.inner_text()
        end = time.monotonic() + 30
        while time.monotonic() < end:
            # A page that is still settling replaces its cells, or swallows the first click.
            try:
                prompt.click(timeout=5_000)
                self.page.keyboard.press("Escape")
                self.page.keyboard.press("Control+Enter")
                for _ in range(20):
                    if prompt.inner_text() != before:
                        return
                    self.page.wait_for_timeout(50)
            except Error:
                self.page.wait_for_timeout(200)
        picture = os.path.join(tempfile.gettempdir(), "minray-browser-stuck.png")
        self.page.screenshot(path=picture)
        raise AssertionError(f"cell {index} did not start; the page: {picture}")

    def status(self) -> str:
        """The kernel, as JupyterLab shows it: "idle" | "busy" | ..."""
        indicator = self.page.locator(
            ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook-ExecutionIndicator"
        ).first
        return str(indicator.get_attribute("data-status"))

    def is_running(self, index: int) -> bool:
        """Is this cell being executed? (The kernel's own indicator also shows what its subshells do.)"""
        prompt = (
            self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell")
            .nth(index)
            .locator(".jp-InputPrompt")
        )
        return "*" in prompt.first.inner_text()

    def wait_idle(self, timeout_s: float = 60.0) -> None:
        """Until no cell runs and none waits."""
        end = time.monotonic() + timeout_s
        calm = 0
        while calm < 3:
            if time.monotonic() >= end:
                picture = os.path.join(tempfile.gettempdir(), "minray-browser-stuck.png")
                self.page.screenshot(path=picture)
                prompts = self.page.locator(".jp-InputPrompt").all_inner_texts()
                raise AssertionError(f"the kernel is {self.status()} after {timeout_s} s: {prompts}; the page: {picture}")
            calm = calm + 1 if self.status() == "idle" and not self.page.locator("text='[*]:'").count() else 0
            self.page.wait_for_timeout(100)

    def outputs(self) -> str:
        """The text of all outputs."""
        return str(
            self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-OutputArea").all_inner_texts()
        )


def index_of(path: Path, text: str) -> int:
    """The first code cell of the notebook at `path` that contains `text`."""
    cells = json.loads(path.read_text())["cells"]
    found = (
        i for i, cell in enumerate(cells) if cell["cell_type"] == "code" and text in "".join(cell["source"])
    )
    return next(found)


def code_cells_before(path: Path, index: int) -> list[int]:
    """The code cells among the first `index` cells of the notebook at `path`."""
    cells = json.loads(path.read_text())["cells"]
    return [at for at, cell in enumerate(cells[:index]) if cell["cell_type"] == "code"]
