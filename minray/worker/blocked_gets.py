"""Which calls of `get` and `wait` are blocked at this moment?

The stacks of the threads know: a thread inside `Waiting.get` has what it waits for among its local
variables. So a wait needs to note nothing about itself, and only a reader of the events, a few times a
second, pays for looking (some ten microseconds a thread).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from minray.worker.waiting import Waiting

# The functions in which a thread blocks, and the local variable that exists once it really waits.
_WAITING_IN = {
    Waiting._get_one.__code__: "poll_once",
    Waiting._get_pending.__code__: "blocked",
    Waiting.wait.__code__: "blocked",
}
IDS_MAX = 64


class BlockedGet(NamedTuple):
    """A thread of this process that waits. `code`, `instruction`: where the user's code called."""

    started_s: float
    what: str  # "get" | "wait"
    refs: tuple[tuple[bytes, int], ...]  # (owner, number), at most 64
    how_many: int
    ready: int
    code: Any
    instruction: int


def blocked_gets(core: Any) -> Iterator[BlockedGet]:
    """The waits of `core`'s process, one a thread."""
    for frame in sys._current_frames().values():
        found = _of_stack(frame, core)
        if found is not None:
            yield found


def _of_stack(frame: Any, core: Any) -> BlockedGet | None:
    while frame is not None:
        sign = _WAITING_IN.get(frame.f_code)
        if sign is not None:
            known = frame.f_locals
            if sign in known and known.get("self") is core:
                return _described(frame, known)
        frame = frame.f_back
    return None


def _described(frame: Any, known: Any) -> BlockedGet:
    what = "wait" if frame.f_code is Waiting.wait.__code__ else "get"
    refs = known["refs"] if "refs" in known else (known["ref"],)
    ready = known.get("ready")
    caller: Any = frame
    while caller is not None and caller.f_globals.get("__name__", "").startswith("minray."):
        caller = caller.f_back
    return BlockedGet(
        known["started"],
        what,
        tuple((ref.owner, ref.n) for ref in refs[:IDS_MAX]),
        len(refs),
        max(0, ready) if type(ready) is int else 0,
        None if caller is None else caller.f_code,
        0 if caller is None else caller.f_lasti,
    )
