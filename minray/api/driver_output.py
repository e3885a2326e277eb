"""How do workers' lines look in the driver's terminal or cell?

As in Ray: `(f pid=123) text`, in the order in which each worker wrote them. The same line from several
workers is printed once; the others are counted and reported after a second.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

from minray.base.messages import LogLines

REPEAT_WINDOW_S = 1.0


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
                seen = self._first.get(text)
                if seen is not None and seen[0] != lines.pid and now - seen[1] < REPEAT_WINDOW_S and text.strip():
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
