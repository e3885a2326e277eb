"""What does a worker still say when its own code ends the process?

Answers of fast calls wait for a fraction of a millisecond to share a frame. When the next call ends the process,
`os._exit`, `os.abort` or a signal to itself, they would be lost with it, though they are finished: so
these functions send them first. (A native crash or somebody else's SIGKILL still takes what the last
fraction of a millisecond finished; an actor that was built again answers each call before the next.)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NoReturn


def install(speak: Callable[[], None]) -> None:
    """Have `speak` called before this process, not a child forked from it, ends by its own will."""
    us = os.getpid()
    exit_now, abort, kill = os._exit, os.abort, os.kill

    def speak_first() -> None:
        if os.getpid() == us:
            try:
                speak()
            except BaseException:
                pass  # whatever is wrong, the process wants to end

    def _exit(status: Any) -> NoReturn:
        speak_first()
        exit_now(status)

    def abort_(*args: Any) -> NoReturn:
        speak_first()
        abort(*args)

    def kill_(pid: int, signal: int, /) -> None:
        if pid == us and signal:
            speak_first()
        kill(pid, signal)

    for name, function, original in (("_exit", _exit, exit_now), ("abort", abort_, abort), ("kill", kill_, kill)):
        function.__name__ = function.__qualname__ = name
        function.__doc__ = original.__doc__
        setattr(os, name, function)
