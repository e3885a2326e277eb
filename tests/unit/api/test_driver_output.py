"""How do lines and bars of workers look in the driver?"""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from minray.api.driver_output import PROGRESS_MARK, DriverOutput, draw_progress, progress_line
from minray.base.messages import LogLines


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def state(**changes: Any) -> dict[str, Any]:
    return {
        "uuid": "a",
        "desc": "rows",
        "total": 10,
        "unit": "it",
        "x": 4,
        "closed": False,
        "pid": 7,
        "started_s": 0.0,
    } | changes


def test_a_bar_shows_its_share_and_its_process() -> None:
    line = progress_line(state())
    assert line.startswith("rows:  40% |############") and "4/10 it" in line and "(pid 7)" in line
    assert "9 it" in progress_line(state(total=None, x=9))
    assert "100%" in progress_line(state(x=12))


def test_a_terminal_redraws_bars_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    draw_progress(state())
    draw_progress(state(uuid="b", desc="other"))
    draw_progress(state(x=5))
    assert "\x1b[2F" in terminal.getvalue()  # up over both lines
    draw_progress(state(x=10, closed=True))
    draw_progress(state(uuid="b", closed=True))
    terminal.seek(0)
    terminal.truncate()
    draw_progress(state(uuid="c", closed=True))
    assert "\x1b" not in terminal.getvalue()  # nothing is left to redraw


def test_a_file_gets_the_first_and_the_last_state(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr("sys.stderr", out)
    for done in range(1, 10):
        draw_progress(state(x=done))
    draw_progress(state(x=10, closed=True))
    assert [line.count("it,") for line in out.getvalue().splitlines()] == [1, 1]


def test_a_bars_line_is_drawn_and_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    output = DriverOutput(lambda delay, call: None)
    marked = PROGRESS_MARK + json.dumps(state(closed=True))
    output.show(LogLines("f", 7, False, ("before", marked, "after")))
    printed = capsys.readouterr()
    assert printed.out == "(f pid=7) before\n(f pid=7) after\n"
    assert "rows:" in printed.err
