"""Where in the picture of a node's memory does an object lie?

An event says how large an object is, not where it lies: that is the allocator's own affair. So the
picture keeps places of its own, first fit: a block stays where it is while it lives, and what was freed
leaves a hole for the next one, as in any memory.

    |##1##|##2##|  free 2, put 3, 4   |##1##|#3#|  |####4####|
"""

from __future__ import annotations

from bisect import bisect_left, insort


class Places:
    """First-fit places along a line; units are the caller's."""

    def __init__(self) -> None:
        self.end = 0  # beyond it, nothing was ever placed
        self._holes: list[tuple[int, int]] = []  # (start, end), by start, never touching

    def take(self, size: int) -> int:
        """A place for `size` units."""
        for index, (start, end) in enumerate(self._holes):
            if end - start >= size:
                if end - start == size:
                    del self._holes[index]
                else:
                    self._holes[index] = (start + size, end)
                return start
        start = self.end
        if self._holes and self._holes[-1][1] == start:
            start = self._holes.pop()[0]
        self.end = start + size
        return start

    def give(self, start: int, size: int) -> None:
        """Free a place that was taken."""
        end = start + size
        index = bisect_left(self._holes, (start, start))
        if index < len(self._holes) and self._holes[index][0] == end:
            end = self._holes.pop(index)[1]
        if index and self._holes[index - 1][1] == start:
            start = self._holes.pop(index - 1)[0]
        insort(self._holes, (start, end))

    def check_invariants(self) -> None:
        """Assert that holes are in order, apart, and within what was placed."""
        ends = [0, *(end for _, end in self._holes)]
        for (start, end), before in zip(self._holes, ends):
            assert before <= start < end <= self.end
            assert before < start or before == 0
