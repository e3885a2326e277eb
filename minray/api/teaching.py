"""Which habits cost the most, and how is a program told?

A few warnings, each once a process, each with the lesson that explains it. They go through
`warnings`, so that a program can silence or count them.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

LESSONS = "https://github.com/minray/minray/tree/main/lessons"


class TeachingWarning(UserWarning):
    """minray noticed a pattern that usually costs speed or memory."""


_said: set[str] = set()
_gets: dict[tuple[str, int], int] = {}


def say_once(key: str, text: str, lesson: str) -> None:
    """Warn, once a process, with a link to the lesson."""
    if key not in _said:
        _said.add(key)
        warnings.warn(f"{text}\n  Why, and what to do instead: {lesson}", TeachingWarning, stacklevel=4)


def warn_large_closure(name: str, size_bytes: int) -> None:
    """A function that carries a lot of data with it."""
    if size_bytes >= 10_000_000:
        say_once(
            f"closure:{name}",
            f"The remote function {name} carries {size_bytes / 1e6:.0f} MB with it (a large object among its globals "
            "or closure), sent to every worker. Put the object into the store once, `ref = put(obj)`, and pass `ref`.",
            f"{LESSONS}/04_patterns",
        )


def note_get(value: Any) -> None:
    """Someone called get on something that is not a reference (the caller raises)."""


def note_waited_get(engine: Any) -> None:
    """A get right after its own submit, again and again at one line, makes a parallel program serial."""
    frame = sys._getframe(2)
    place = (frame.f_code.co_filename, frame.f_lineno)
    count = _gets[place] = _gets.get(place, 0) + 1
    if count == 20:
        say_once(
            f"get:{place}",
            f"get() is called in a loop at {place[0]}:{place[1]}, each time for a task that was only just submitted: "
            "the tasks run one after the other. Submit all, keep the references in a list, and get the list once.",
            f"{LESSONS}/01_tasks",
        )


def note_tiny_tasks(name: str, count: int, mean_us: float) -> None:
    """Very many very short tasks."""
    say_once(
        f"tiny:{name}",
        f"{count:,} tasks of {name} ran for {mean_us:.0f} us each: sending them costs more than running them. Give "
        "each task a batch of items.",
        f"{LESSONS}/04_patterns",
    )


def reset() -> None:
    """Forget what was said (a new session)."""
    _said.clear()
    _gets.clear()
