"""Memory is short: which objects go to disk?

A policy chooses among the candidates that the owners offer: none of them is being read. It sees
frozen facts and answers with a choice; the node asks it (`raylet.state.room`), the owners act.

    too little is free           the least recently used, until enough bytes are named
    enough is free, in pieces    whatever lies in the run of slabs that is cheapest to empty

Replace it by any object with a `choose` of the same shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Candidate:
    """An object that could be spilled now. `start`: of its block in the arena, header included."""

    owner: bytes
    start: int
    total_bytes: int
    used_s: float  # when it was last stored, read or sent


@dataclass(frozen=True, slots=True)
class Room:
    """What is wanted, and how the arena looks.

    `run_bytes`: somebody needs as much in one piece. `amount_bytes`: spill at least that much, so that
    not every object costs a round. `in_pieces`: so much is free already, or was freed by the last round, that
    the trouble is where it lies. `live_by_slab`: bytes of live blocks in each granted slab (by its offset).
    """

    run_bytes: int
    amount_bytes: int
    slab_bytes: int
    slab_count: int
    in_pieces: bool = False
    live_by_slab: Mapping[int, int] = field(default_factory=dict)

    @property
    def free_bytes(self) -> int:
        """Wherever it lies, in however small pieces."""
        return self.slab_bytes * self.slab_count - sum(self.live_by_slab.values())


class SpillPolicy(Protocol):
    """Pure: same candidates, same room, same choice."""

    def choose(self, candidates: Sequence[Candidate], room: Room) -> Sequence[Candidate]:
        """Those to be written to disk, in this order; empty when spilling does not help."""


class LeastRecentlyUsed:
    """Ray's order: what was used longest ago goes first."""

    def choose(self, candidates: Sequence[Candidate], room: Room) -> Sequence[Candidate]:
        """See `SpillPolicy`."""
        if room.in_pieces:
            return cheapest_run(candidates, room)
        chosen: list[Candidate] = []
        found = 0
        wanted = max(room.run_bytes, room.amount_bytes)
        for candidate in sorted(candidates, key=lambda one: (one.used_s, one.start)):
            if found >= wanted:
                break
            chosen.append(candidate)
            found += candidate.total_bytes
        return chosen


def cheapest_run(candidates: Sequence[Candidate], room: Room) -> list[Candidate]:
    """The candidates in that run of slabs whose emptying moves the fewest bytes and makes `run_bytes` free.

    A run qualifies when nothing but candidates lives in it. Linear in slabs and candidates.
    """
    slab_bytes = room.slab_bytes
    wanted = max(1, -(-room.run_bytes // slab_bytes))
    movable = [0] * room.slab_count  # bytes of candidates in each slab
    within: list[list[Candidate]] = [[] for _ in range(room.slab_count)]
    for candidate in candidates:
        at, end = candidate.start, candidate.start + candidate.total_bytes
        while at < end:
            slab = at // slab_bytes
            part = min(end, (slab + 1) * slab_bytes) - at
            movable[slab] += part
            within[slab].append(candidate)
            at += part
    best: tuple[int, float, int] | None = None
    length = moved = 0
    for slab in range(room.slab_count):
        if room.live_by_slab.get(slab * slab_bytes, 0) > movable[slab]:
            length = moved = 0  # somebody reads something here
            continue
        length += 1
        moved += movable[slab]
        if length > wanted:
            moved -= movable[slab - wanted]
        if length >= wanted:
            first = slab - wanted + 1
            newest = max((one.used_s for one in within[first]), default=0.0)
            if best is None or (moved, newest) < best[:2]:
                best = (moved, newest, first)
    if best is None:
        return []
    chosen = {one.start: one for slab in range(best[2], best[2] + wanted) for one in within[slab]}
    return sorted(chosen.values(), key=lambda one: one.start)
