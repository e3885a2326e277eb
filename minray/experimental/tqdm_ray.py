"""How does a progress bar in a task show in the driver, beside those of other tasks?

    from ray.experimental.tqdm_ray import tqdm
    for row in tqdm(rows, desc="rows"): ...

In a task each bar writes its state, at most ten times a second, as one line of output with a mark; the
driver's output (`minray.api.driver_output`) takes these lines out and redraws one line a bar. In the
driver itself it is an ordinary bar. As `ray.experimental.tqdm_ray`; `print` between bars needs no
`safe_print` here, because lines of output and bars come through the same door.
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Sized
from typing import Any, Self

from minray.api.driver_output import PROGRESS_MARK, draw_progress
from minray.engine.seam import slot

EVERY_S = 0.1


def safe_print(*args: Any, **kwargs: Any) -> None:
    """`print`."""
    print(*args, **kwargs)  # noqa: T201 (it is what the function is for)


class tqdm:  # noqa: N801 (the name that programs use)
    """A bar over an iterable, or moved by `update`. `total` in units; without it only a count is shown."""

    def __init__(
        self,
        iterable: Iterable[Any] | None = None,
        desc: str | None = None,
        total: int | None = None,
        unit: str | None = None,
        position: int | None = None,
        flush_interval_s: float | None = None,
        **ignored: Any,
    ) -> None:
        self._iterable = iterable
        if total is None and isinstance(iterable, Sized):
            total = len(iterable)
        self._state: dict[str, Any] = {
            "uuid": uuid.uuid4().hex, "desc": desc or "", "total": total, "unit": unit or "it", "x": 0, "closed": False,
            "pid": os.getpid(), "started_s": time.time(),
        }  # fmt: skip
        self._every_s = EVERY_S if flush_interval_s is None else flush_interval_s
        self._shown_s = 0.0
        self._show()

    @property
    def n(self) -> int:
        """Units done."""
        return int(self._state["x"])

    @property
    def total(self) -> int | None:
        """Units in all."""
        return self._state["total"]  # type: ignore[no-any-return]

    def set_description(self, desc: str) -> None:
        """The text before the bar."""
        self._state["desc"] = desc
        self._show_now_and_then()

    def update(self, n: int = 1) -> None:
        """`n` units more are done."""
        self._state["x"] += n
        self._show_now_and_then()

    def refresh(self) -> None:
        """Show the state now."""
        self._show()

    def close(self) -> None:
        """The last state; the line stays."""
        if not self._state["closed"]:
            self._state["closed"] = True
            self._show()

    def __iter__(self) -> Iterator[Any]:
        if self._iterable is None:
            raise ValueError("No iterable provided")
        for item in self._iterable:
            yield item
            self.update(1)
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _show_now_and_then(self) -> None:
        if time.monotonic() - self._shown_s >= self._every_s:
            self._show()

    def _show(self) -> None:
        self._shown_s = time.monotonic()
        engine = slot.engine
        if engine is not None and engine.running().task_id:
            sys.stdout.write(PROGRESS_MARK + json.dumps(self._state) + "\n")
            sys.stdout.flush()
        else:
            draw_progress(self._state)
