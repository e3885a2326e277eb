"""Which habits of a program cost it the most?

Pure counters over what the owner sees anyway. Each finding is reported once; who shows it, and how,
is the shell's business.

    get in a loop   20 gets at one line, each for the only task under way, a second lost in all, 5 ms each
    tiny tasks      10,000 tasks of one function that ran for less than 100 us on average
"""

from __future__ import annotations

from collections.abc import Hashable
from types import CodeType

LONE_GETS = 20
LONE_WAIT_S = 1.0
LONE_MEAN_S = 0.005
TINY_TASKS = 10_000
TINY_US = 100.0
LESSON = "`minray lesson start 01_tasks` explains it."


class HabitWatch:
    """One owner's counters. Not thread-safe: a lost count costs nothing."""

    def __init__(self) -> None:
        self._gets: dict[Hashable, tuple[int, float]] = {}
        self._tasks: dict[str, int] = {}
        self._told: set[Hashable] = set()

    def lone_get(self, place: tuple[CodeType, int], waited_s: float) -> str:
        """A get at `place` (code, instruction) waited for the only task under way. Returns the finding or ""."""
        count, lost_s = self._gets.get(place, (0, 0.0))
        self._gets[place] = count, lost_s = count + 1, lost_s + waited_s
        if count < LONE_GETS or lost_s < max(LONE_WAIT_S, count * LONE_MEAN_S) or place in self._told:
            return ""
        self._told.add(place)
        file, line = place[0].co_filename, line_of(*place)
        return (
            f"get() is called in a loop ({file}:{line}), each time for a task that was only just submitted: the "
            f"tasks run one after the other ({lost_s:.1f} s so far). Submit all first, keep the references in a "
            f"list, and get the list once. {LESSON}"
        )

    def tasks_done(self, name: str, count: int, mean_us: float) -> str:
        """`count` more tasks of `name` ended; their mean run time. Returns the finding or ""."""
        total = self._tasks[name] = self._tasks.get(name, 0) + count
        if total < TINY_TASKS or mean_us >= TINY_US or name in self._told:
            return ""
        self._told.add(name)
        return (
            f"{total:,} tasks of {name} ran for about {mean_us:.0f} us each: sending them costs more than running "
            f"them. Give each task a batch of items. {LESSON}"
        )


def line_of(code: CodeType, instruction: int) -> int:
    """The line of the instruction at this offset. Looked up late: it takes a scan of the line table."""
    lines = (line for start, end, line in code.co_lines() if start <= instruction < end and line is not None)
    return next(lines, code.co_firstlineno)
