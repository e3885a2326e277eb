"""How do workers' lines look in the driver's terminal or cell?

As in Ray: `(f pid=123) text`, in the order in which each worker wrote them. The same line from several
workers is printed once; the others are counted and reported after a second. A line that begins with
`PROGRESS_MARK` is the state of a bar (`minray.experimental.tqdm_ray`): it is drawn, not printed.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

from minray.base.messages import LogLines

REPEAT_WINDOW_S = 1.0
PROGRESS_MARK = "__minray_progress__:"
BAR_WIDTH = 30


class DriverOutput:
    """Prints `LogLines`, collapsing repeats."""

    def __init__(self, call_later: Any, enabled: bool = True) -> None:
        self._enabled = enabled
        self._call_later = call_later
        self._first: dict[str, tuple[int, float]] = {}  # text -> (pid of the first, when)
        self._repeats: dict[str, tuple[str, int, int]] = {}  # text -> (label, last pid, count)
        self._lock = threading.Lock()
        self._armed = False

    def show(self, lines: LogLines) -> None:
        """Print now."""
        if not self._enabled:
            return
        shown: list[str] = []
        now = time.monotonic()
        with self._lock:
            for text in lines.lines:
                if text.startswith(PROGRESS_MARK):
                    draw_progress(json.loads(text[len(PROGRESS_MARK) :]))
                    continue
                seen = self._first.get(text)
                if (
                    seen is not None
                    and seen[0] != lines.pid
                    and now - seen[1] < REPEAT_WINDOW_S
                    and text.strip()
                ):
                    count = self._repeats.get(text, ("", 0, 0))[2] + 1
                    self._repeats[text] = (lines.label, lines.pid, count)
                    continue
                self._first[text] = (lines.pid, now)
                shown.append(f"({lines.label} pid={lines.pid}) {text}\n")
            if len(self._first) > 2000:
                self._first.clear()
            arm = bool(self._repeats) and not self._armed
            self._armed = self._armed or arm
        if shown:
            self._write("".join(shown))
        if arm:
            self._call_later(REPEAT_WINDOW_S, self.report_repeats)

    def report_repeats(self) -> None:
        """Say how often what was repeated."""
        with self._lock:
            repeats, self._repeats = self._repeats, {}
            self._armed = False
        lines = [
            f"({label} pid={pid}) {text} [repeated {count}x across workers]\n"
            for text, (label, pid, count) in repeats.items()
        ]
        if lines and self._enabled:
            self._write("".join(lines))

    @staticmethod
    def _write(text: str) -> None:
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except (ValueError, OSError):
            pass  # the driver closed its own stdout


_drawn: dict[str, str] = {}  # bars that are not closed, by their ids: the line that is shown
_drawing = threading.Lock()  # the program's own bars and those of tasks are drawn by different threads


def draw_progress(state: dict[str, Any]) -> None:
    """Show a bar's state: on a terminal the bars' lines are redrawn in place, elsewhere (a file, a
    notebook's cell without a terminal) only the first and the last state of each is printed."""
    line = progress_line(state)
    out = sys.stderr
    with _drawing:
        above, known = len(_drawn), state["uuid"] in _drawn
        if state["closed"]:
            _drawn.pop(state["uuid"], None)
        else:
            _drawn[state["uuid"]] = line
        try:
            if out.isatty():
                if above:
                    out.write(f"\x1b[{above}F\x1b[J")  # up to the first bar's line, and clear
                last = [line] if state["closed"] else []
                out.write("".join(f"{shown}\n" for shown in [*last, *_drawn.values()]))
            elif state["closed"] or not known:
                out.write(line + "\n")
            out.flush()
        except (ValueError, OSError):
            pass  # the driver closed its own stderr


def progress_line(state: dict[str, Any]) -> str:
    """ "rows: 40 % |############                  | 4/10 it, 2.0 s (pid 7)"."""
    done, total = state["x"], state["total"]
    label = f"{state['desc']}: " if state["desc"] else ""
    seconds = max(0.0, time.time() - state["started_s"])
    tail = f"{seconds:.1f} s (pid {state['pid']})"
    if not total:
        return f"{label}{done} {state['unit']}, {tail}"
    share = min(1.0, done / total)
    bar = "#" * round(share * BAR_WIDTH)
    return f"{label}{share:4.0%} |{bar:<{BAR_WIDTH}}| {done}/{total} {state['unit']}, {tail}"
