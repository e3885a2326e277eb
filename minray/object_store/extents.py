"""Which free stretch of memory serves a request, and how do freed neighbours become one again?

Two levels of bins, as in TLSF (Masmano et al., 2004): every power of two is cut into four, each bin
holds the free extents of about that size, and a bitmask names the bins that are not empty. A
request looks at a few extents of its own bin, newest first, then takes from the next bin that has
any: constant time, and waste bounded by a bin's width. Boundary tags (where does a free extent
start, where does one end?) are two dicts here, so merging never reads the arena, whose pages may
not even be mapped.
"""

from __future__ import annotations

from collections.abc import Iterator

BIN_BITS = 2
"""2^2 bins per power of two."""

CANDIDATES_MAX = 16
"""How many extents of the request's own bin are tried: a limit on the time, not a guarantee."""


def bin_of(size_bytes: int) -> int:
    """Number of the bin for extents of this size (64 bytes or more); larger sizes, larger numbers."""
    exponent = size_bytes.bit_length() - 1
    return (exponent << BIN_BITS) | ((size_bytes >> (exponent - BIN_BITS)) & ((1 << BIN_BITS) - 1))


class FreeExtents:
    """The free extents of one process. No two of them touch. Not thread-safe."""

    def __init__(self) -> None:
        self._size: dict[int, int] = {}  # start: size, in the order in which they came
        self._start_of_end: dict[int, int] = {}  # end: start
        self._bins: dict[int, dict[int, None]] = {}
        self._filled = 0  # bit b: bin b is not empty

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """(start, size) of each extent, the one that changed longest ago first."""
        return iter(self._size.items())

    def __len__(self) -> int:
        return len(self._size)

    def find(self, size_bytes: int) -> int | None:
        """Start of an extent of at least `size_bytes`, which stays free; None when there is none."""
        number = bin_of(size_bytes)
        if self._filled >> number & 1:
            best, best_size = -1, 0
            sizes = self._size
            for tried, start in enumerate(reversed(self._bins[number])):
                size = sizes[start]
                if size >= size_bytes and (best < 0 or size < best_size):
                    best, best_size = start, size
                if size == size_bytes or tried == CANDIDATES_MAX:
                    break
            if best >= 0:
                return best
        larger = self._filled >> (number + 1)
        if not larger:
            return None
        lowest = (larger & -larger).bit_length() - 1
        return next(reversed(self._bins[number + 1 + lowest]))

    def size_at(self, start: int) -> int:
        """Size of the extent that starts there."""
        return self._size[start]

    def add(self, start: int, size_bytes: int) -> tuple[int, int]:
        """Memory becomes free: (start, size) of the extent that it is part of now."""
        end = start + size_bytes
        left = self._start_of_end.get(start)
        if left is not None:
            self.remove(left)
            start = left
        if end in self._size:
            end += self.remove(end)
        size_bytes = end - start
        self._size[start] = size_bytes
        self._start_of_end[end] = start
        number = bin_of(size_bytes)
        self._bins.setdefault(number, {})[start] = None
        self._filled |= 1 << number
        return start, size_bytes

    def remove(self, start: int) -> int:
        """The extent that starts there is in use: its size."""
        size_bytes = self._size.pop(start)
        del self._start_of_end[start + size_bytes]
        number = bin_of(size_bytes)
        starts = self._bins[number]
        del starts[start]
        if not starts:
            self._filled &= ~(1 << number)
        return size_bytes

    def check_invariants(self) -> None:
        """Assert that bins, mask and tags tell the same story."""
        assert {start + size: start for start, size in self._size.items()} == self._start_of_end
        binned = {start: number for number, starts in self._bins.items() for start in starts}
        assert binned == {start: bin_of(size) for start, size in self._size.items()}
        assert self._filled == sum(1 << number for number, starts in self._bins.items() if starts)
        assert not set(self._size) & set(self._start_of_end), "free extents touch"
