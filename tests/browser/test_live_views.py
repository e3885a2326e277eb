"""Does a lesson move on the page while its cell still runs? In a real JupyterLab, in a real Chromium."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.lab_session import (
    Notebook,
    browser,
    code_cells_before,
    end_kernels,
    index_of,
    lab,
    notebook,
    why_not,
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "-"),
]

OWN = [
    "import time, minray as ray\nfrom minray.widgets import PredictView, TimelineView\nray.init(num_cpus=2)",
    "@ray.remote\ndef work(s):\n    time.sleep(s)\n    return s\n"
    "with TimelineView() as view:\n    ray.get([work.remote(0.3) for _ in range(8)])",
    "with TimelineView() as many:\n    for _ in range(4):\n        ray.get([work.remote(0.0005) for _ in range(600)])",
    "guess = PredictView('Which number?', options=['one', 'two'])\nguess",
    "guess.reveal('two').score",
    "lasting = TimelineView()\nlasting",
    "ray.get([work.remote(0.2) for _ in range(4)])\nray.shutdown()\nray.init(num_cpus=2)\n"
    "ray.get([work.remote(0.1) for _ in range(3)])\nlen(lasting.spans())",
    "ray.shutdown()",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A notebook of our own; `minray lab` puts the student's copies of the lessons beside it."""
    folder = tmp_path_factory.mktemp("lessons")
    (folder / "00_own").mkdir()
    (folder / "00_own" / "lesson.ipynb").write_text(notebook(*OWN))
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """A JupyterLab on that folder."""
    with lab(folder, "01") as url:
        yield url


@pytest.fixture
def chromium() -> Iterator[Any]:
    """A browser of its own for each test: it starts helper processes whenever it likes, which then count as left."""
    with browser() as running:
        yield running


@pytest.fixture
def page(chromium: Any, address: str) -> Iterator[Any]:
    """A fresh page; an error in its scripts fails the test. Its kernels end with it."""
    context = chromium.new_context(viewport={"width": 1280, "height": 1000}, accept_downloads=True)
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    context.close()
    end_kernels(address)
    assert [error for error in errors if "minray" in error or "timeline" in error or "objects" in error] == []


def shown(view: Any) -> dict[str, str]:
    """What a view says about itself on its root element."""
    return {key: str(value) for key, value in view.evaluate("e => ({...e.dataset})").items()}


def eventually(page: Any, check: Callable[[], bool], claim: str) -> None:
    """Wait until the page has drawn what is claimed; two cores may be busy with other things."""
    for _ in range(100):
        if check():
            return
        page.wait_for_timeout(100)
    raise AssertionError(claim)


def open_own(page: Any, address: str) -> Notebook:
    return Notebook.open(page, address.replace("01_tasks", "00_own") + "&reset")


def test_the_lessons_timeline_draws_while_the_cell_is_busy(
    page: Any, address: str, folder: Path, tmp_path: Path
) -> None:
    lesson = Notebook.open(page, address)
    path = folder / "01_tasks" / "lesson.ipynb"
    picture = index_of(path, "view = TimelineView")
    for index in code_cells_before(path, picture + 1):
        lesson.run_cell(index)
        lesson.wait_idle()
    view = page.locator(".minray-timeline")
    view.wait_for()
    before = int(shown(view)["frames"]) if "frames" in shown(view) else 0
    lesson.run_cell(picture + 1)
    seen: list[dict[str, str]] = []
    states: set[str] = set()
    while lesson.is_running(picture + 1):
        now = shown(view)
        states.add(lesson.status())
        if lesson.is_running(picture + 1):  # after the look, too: what we saw was drawn before the end
            seen.append(now)
        page.wait_for_timeout(200)
    drawn = [look for look in seen if int(look.get("frames", 0)) > before and int(look.get("bars", 0)) > 0]
    assert len({look["frames"] for look in drawn}) > 5, seen
    assert len({look["finished"] for look in drawn}) > 2, "bars finished one after the other"
    assert any(int(look["running"]) > 0 for look in drawn)
    assert "busy" in states
    assert {look["mode"] for look in drawn} <= {"subshell", "receive-only", "connecting"}
    lesson.wait_idle()
    eventually(page, lambda: shown(view)["finished"] == "16" and shown(view)["running"] == "0", "all dishes")
    page.screenshot(path=str(tmp_path / "lesson.png"))


def test_the_object_store_draws_while_the_cell_is_busy_and_plays_it_back(
    page: Any, address: str, folder: Path, tmp_path: Path
) -> None:
    lesson = Notebook.open(page, address.replace("01_tasks", "02_objects") + "&reset")
    path = folder / "02_objects" / "lesson.ipynb"
    picture = index_of(path, "full = ObjectStoreView")
    for index in code_cells_before(path, index_of(path, "guess = PredictView") + 1):
        lesson.run_cell(index)
        lesson.wait_idle()
    lesson.run_cell(picture)
    lesson.wait_idle()
    view = page.locator(".minray-objects").last
    view.wait_for()
    lesson.run_cell(picture + 1)
    seen: list[dict[str, str]] = []
    while lesson.is_running(picture + 1):
        now = shown(view)
        if lesson.is_running(picture + 1):  # after the look, too: what we saw was drawn before the end
            seen.append(now)
        page.wait_for_timeout(200)
    assert len({look.get("puts") for look in seen}) > 3, "one after the other was stored while the cell ran"
    assert {look.get("mode", "connecting") for look in seen} <= {"subshell", "receive-only", "connecting"}
    lesson.wait_idle()
    eventually(
        page, lambda: shown(view)["puts"] == "14" and int(shown(view)["disk"]) >= 4, "some went to disk"
    )
    rows = view.locator(".mo-table tbody tr")
    eventually(page, lambda: rows.count() == 14, "the table holds what the picture shows")
    assert "on disk" in rows.first.inner_text() and "driver" in rows.first.inner_text()
    slider = view.locator("input[type=range]")
    slider.focus()
    for _ in range(3):
        page.keyboard.press("PageDown")  # a tenth of the time each
    eventually(page, lambda: shown(view)["moment"] == "past", "the slider goes back in time")
    before = int(shown(view)["blocks"])
    page.keyboard.press("Home")
    eventually(page, lambda: int(shown(view)["blocks"]) < before, "at the beginning, less was there")
    view.locator("canvas[role]").focus()
    for _ in range(100):  # how many steps lie before the first block depends on the machine
        if int(shown(view)["blocks"]):
            break
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(50)
    page.keyboard.press("]")
    view.locator(".mt-tip").wait_for()
    assert "20.0 MB" in view.locator(".mt-tip").inner_text()
    page.keyboard.press("l")
    eventually(page, lambda: shown(view)["moment"] == "now", "and back to now")
    view.screenshot(path=str(tmp_path / "objects.png"))


def test_where_the_kernel_cannot_hear_the_page_the_view_draws_all_the_same(
    chromium: Any, tmp_path: Path
) -> None:
    (tmp_path / "00_own").mkdir()
    (tmp_path / "00_own" / "lesson.ipynb").write_text(notebook(*OWN))
    with lab(tmp_path, "00", subshells=False) as address:
        context = chromium.new_context(viewport={"width": 1280, "height": 1000})
        page = context.new_page()
        own = Notebook.open(page, address)
        own.run_cell(0)
        own.wait_idle()
        looks: list[dict[str, str]] = []
        own.run_cell(1)
        while own.is_running(1):
            view = page.locator(".minray-timeline")
            now = shown(view) if view.count() else {}
            if own.is_running(1):
                looks.append(now)
            page.wait_for_timeout(100)
        drawn = [look for look in looks if int(look.get("bars", 0)) > 0]
        assert len({look["seq"] for look in drawn}) >= 2, looks
        assert {look["mode"] for look in drawn} <= {"receive-only", "connecting"}
        own.wait_idle()
        eventually(page, lambda: shown(page.locator(".minray-timeline"))["finished"] == "8", "all in the end")
        context.close()
        end_kernels(address)


def test_views_work_by_hand_and_by_keyboard(page: Any, address: str) -> None:
    own = open_own(page, address)
    for index in (0, 1):
        own.run_cell(index)
        own.wait_idle()
    view = page.locator(".minray-timeline").first
    canvas = view.locator("canvas[role]")
    assert "8 finished" in canvas.get_attribute("aria-label")
    canvas.focus()
    page.keyboard.press("]")
    view.locator(".mt-tip").wait_for()
    assert "ran for" in view.locator(".mt-tip").inner_text()
    page.keyboard.press("Escape")
    bars = int(shown(view)["drawnBars"])
    for key in "+++++":
        page.keyboard.press(key)
    eventually(page, lambda: int(shown(view)["drawnBars"]) < bars, "zoomed in, fewer bars are in sight")
    page.keyboard.press("f")
    page.keyboard.press("c")
    eventually(page, lambda: int(shown(view)["drawnBars"]) == bars, "fitted, all bars are in sight")
    eventually(
        page,
        lambda: "Critical path: 4 tasks" in view.locator(".mt-note").inner_text(),
        "four in a row on 2 workers",
    )
    with page.expect_download() as download:
        view.locator("button[data-do=export]").click()
    trace = json.loads(Path(download.value.path()).read_text())
    assert sum(event.get("cat") == "task" for event in trace["traceEvents"]) == 8

    own.run_cell(3)
    own.wait_idle()
    prediction = page.locator(".minray-predict")
    prediction.locator("input[value=one]").focus()
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    page.wait_for_selector(".minray-predict[data-state=committed]")
    own.run_cell(4)
    own.wait_idle()
    page.wait_for_selector(".minray-predict[data-state=revealed]")
    assert "It was two, not one." in prediction.locator(".mp-result").inner_text()


def test_thousands_of_bars_the_dark_theme_a_reload_and_a_new_runtime(
    page: Any, address: str, tmp_path: Path
) -> None:
    own = open_own(page, address)
    for index in (0, 1, 2):
        own.run_cell(index)
        own.wait_idle()
    many = page.locator(".minray-timeline").nth(1)
    eventually(page, lambda: shown(many).get("finished") == "2400", "every task")
    page.locator("text=Settings").click()
    page.locator("text=Theme").first.hover()
    page.locator("text=JupyterLab Dark").first.click()
    page.wait_for_selector("body[data-jp-theme-light=false]", state="attached")
    eventually(page, lambda: shown(many)["dark"] == "true", "the view follows the theme")
    many.screenshot(path=str(tmp_path / "many-dark.png"))

    own.run_cell(5)
    own.wait_idle()
    own.run_cell(6)
    own.wait_idle()
    assert "\n7" in own.outputs().replace("\\n", "\n"), "both runtimes' tasks, in one view"
    page.keyboard.press("Control+s")
    page.wait_for_timeout(500)
    page.reload()
    again = Notebook.open(page, page.url)
    page.locator(".minray-timeline").first.wait_for(timeout=30_000)
    page.wait_for_timeout(500)
    assert shown(page.locator(".minray-timeline").first)["finished"] == "8", (
        "a reloaded page asks for the picture"
    )
    again.run_cell(7)
    again.wait_idle()
