"""What is left in a notebook that ran without a browser? Pictures, and no widget state."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from tests.browser.lab_session import REPOSITORY, notebook

nbformat = pytest.importorskip("nbformat", reason="the dev extra is not installed")
pytest.importorskip("nbclient", reason="the dev extra is not installed")
pytest.importorskip("anywidget", reason="the lab extra is not installed")

pytestmark = [pytest.mark.notebooks, pytest.mark.cluster, pytest.mark.timeout(180)]

CELLS = [
    "import minray as ray\nfrom minray.widgets import PredictView, TimelineView\nray.init(num_cpus=2)\n"
    "@ray.remote\ndef work(x):\n    return x",
    "view = TimelineView()\nview",
    "ray.get([work.remote(n) for n in range(6)])",
    "x = 1",
    "guess = PredictView('How many?', unit='tasks', high=20)\nguess",
    "guess.answer = 6\nguess.reveal(len(view.spans())).words",
    "%load_ext minray.widgets\n%minray status",
    "%minray timeline",
    "%minray objects",
    "import threading\nray.shutdown()\nview.close()",
    "sorted(t.name for t in threading.enumerate() if t.name == 'minray-timeline')",
]


# In a process of its own: the client's event loop stays open for as long as its process lives.
EXECUTE = """
import sys, nbclient, nbformat
made = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(made, timeout=90, kernel_name="python3", store_widget_state=False).execute()
nbformat.write(made, sys.argv[1])
"""


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("headless") / "own.ipynb"
    path.write_text(notebook(*CELLS))
    packages = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "widgets")])
    environment = {**os.environ, "PYTHONPATH": packages}
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE, str(path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return nbformat.read(path, as_version=4)


def texts(cell: Any) -> str:
    return "".join(
        output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in cell.outputs
    )


def test_the_picture_of_an_earlier_cell_shows_what_a_later_cell_did(executed: Any) -> None:
    [output] = executed.cells[1].outputs
    assert 'alt="Timeline of tasks: 6 finished' in output.data["text/html"]
    assert "image/svg+xml;base64," in output.data["text/html"]


def test_the_plain_text_of_a_view_is_always_the_same(executed: Any) -> None:
    assert executed.cells[1].outputs[0].data["text/plain"] == "<TimelineView>"
    assert executed.cells[4].outputs[0].data["text/plain"] == "<PredictView>"


def test_the_notebook_carries_no_widget_state(executed: Any) -> None:
    assert "widgets" not in executed.metadata


def test_a_prediction_made_by_code_is_judged(executed: Any) -> None:
    assert "Right: it was 6 tasks." in texts(executed.cells[5])
    assert "Predicted: 6 tasks" in executed.cells[4].outputs[0].data["text/html"]


def test_the_magics_answer(executed: Any) -> None:
    assert texts(executed.cells[6]) == "minray: CPU 2 of 2 free\n"
    for index in (7, 8):
        assert "image/svg+xml" in executed.cells[index].outputs[0].data["text/html"]


def test_what_was_closed_runs_no_thread(executed: Any) -> None:
    assert texts(executed.cells[10]).count("minray-timeline") <= 1  # the magic's own view still waits
