"""How many tasks waited for a start, at any moment?

    +1 submitted, -1 started:   0 ▁▂▄█▆▄▂▁ 0

The curve keeps sums of changes per time step, not the tasks, so it takes them in any order and stays
small; its resolution halves as the program runs on.
"""

from __future__ import annotations

from array import array

_POINTS_MAX = 1_024


class QueueCurve:
    """How many tasks waited for a start, over time. Points may arrive in any order.

    Changes are summed per time step; the step doubles whenever there are too many of them.
    """

    def __init__(self) -> None:
        self._step = 16
        self._changes: dict[int, int] = {}

    def add(self, tick: int, change: int) -> None:
        """One task more (+1) or fewer (-1) waits from `tick` on."""
        at = tick // self._step
        self._changes[at] = self._changes.get(at, 0) + change
        if len(self._changes) > _POINTS_MAX:
            self._step *= 2
            halved: dict[int, int] = {}
            for old, sum_ in self._changes.items():
                halved[old // 2] = halved.get(old // 2, 0) + sum_
            self._changes = halved

    def points(self) -> tuple[array[int], array[int]]:
        """(ticks, counts): from each tick on, that many waited."""
        ticks, counts, waiting = array("I"), array("I"), 0
        for at, change in sorted(self._changes.items()):
            if change:
                waiting += change
                ticks.append(at * self._step)
                counts.append(max(0, waiting))
        return ticks, counts
