"""What does the lesson look like while it runs? `python -m tests.browser.screenshot` writes docs/timeline.png.

The first lesson in JupyterLab, photographed while the cell is busy. Look at the picture before you commit it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.browser.lab_session import (
    REPOSITORY,
    Notebook,
    browser,
    code_cells_before,
    end_kernels,
    index_of,
    lab,
    why_not,
)

TARGET = REPOSITORY / "docs" / "timeline.png"


def photograph(target: Path) -> None:
    """Run the lesson as far as its timeline and take the picture when about half is done."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "01_tasks", "lesson.ipynb")
        with lab(Path(folder), "01") as address, browser() as chromium:
            picture = index_of(path, "view = TimelineView")
            page = chromium.new_page(viewport={"width": 1180, "height": 760}, device_scale_factor=1.5)
            lesson = Notebook.open(page, address)
            page.keyboard.press("Control+b")  # without the file browser
            for index in code_cells_before(path, picture + 1):
                lesson.run_cell(index)
                lesson.wait_idle()
            lesson.run_cell(picture + 1)
            cell = page.locator(".jp-NotebookPanel .jp-Cell").nth(picture)
            view = page.locator(".minray-timeline").last
            while int(view.get_attribute("data-finished") or 0) < 9:
                page.wait_for_timeout(50)
            cell.evaluate("cell => cell.scrollIntoView({block: 'start'})")
            page.wait_for_timeout(200)
            target.parent.mkdir(exist_ok=True)
            page.screenshot(path=str(target))
            assert lesson.is_running(picture + 1), "the cell was over before the picture was taken"
            end_kernels(address)


if __name__ == "__main__":
    if why_not():
        sys.exit(why_not())
    photograph(TARGET)
    print(TARGET)
