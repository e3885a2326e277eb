"""What is known of a node's large objects? One row per object, and a log of what happened to each.

The table that `object_store_model` fills. Sizes and places are KiB, times ticks of 10 us since the
origin. Past `max_objects` rows the oldest freed ones are dropped, then neighbours are drawn as one block.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from minray.base.events import Event
from minray_widgets.object_places import Places
from minray_widgets.palette import Change, Fate
from minray_widgets.queue_curve import QueueCurve
from minray_widgets.timeline_table import OPEN, TICKS_PER_S, nice_step

KIB = 1024
DRIVER = "driver"
_LOG_MAX = 6_000
_EXTENT_MIN_BYTES = 12_000_000
LINES = 6  # of memory in the picture, as of text on a page


@dataclass(slots=True)
class Process:
    """One process that owns, writes or reads objects."""

    pid: int = 0  # 0: no event has told it, as happens to the driver's
    label: str = ""
    alive: bool = True

    @property
    def name(self) -> str:
        """How a picture calls it."""
        return self.label if self.label == DRIVER or not self.pid else f"{self.label or 'worker'} {self.pid}"


@dataclass(slots=True)
class Reader:
    """A task that takes objects as arguments and is not over."""

    object_ids: tuple[str, ...]
    process: int = -1  # the worker that has it, -1: none yet


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One large object, as the view knows it. Times are seconds of `time.perf_counter()`."""

    object_id: str
    name: str  # "put", "argument", or the task that returned it
    size_bytes: int
    state: str  # "memory" | "disk" | "freed" | "lost"
    owner: str
    readers: tuple[str, ...]
    wanted_by: int  # tasks that have it among their arguments and are not over
    put_s: float
    freed_s: float | None


@dataclass(slots=True)
class Live:
    """What is known of an object now."""

    readers: Counter[int] = field(default_factory=Counter)
    wanted: int = 0


class ObjectStoreTable:
    """The columns and what can be read off them. Rows are numbers; folding renumbers them."""

    def __init__(self, origin_s: float, max_objects: int = 2_000, driver_pid: int = 0) -> None:
        if max_objects < 10:
            raise ValueError(f"max_objects={max_objects}: the picture keeps at least 10 objects")
        self.origin_s = origin_s
        self.max_objects = max_objects
        self.driver_pid = driver_pid
        self.capacity_bytes = 0  # 0: not known
        self.revision = 0
        self.lost_events = 0
        self.newest_tick = 0
        self.small_results = 0  # results that travelled inside the reply: no block, no event of their own
        self.dropped = 0  # freed objects that have no row any more
        self.restored = 0  # how often bytes were read from disk
        self.puts = 0
        self.put_bytes = 0
        self.strings: list[str] = [""]
        self.processes: list[Process] = []
        self.marks: list[tuple[int, str]] = []
        self.in_memory, self.on_disk = QueueCurve(), QueueCurve()
        self.put, self.freed, self.place, self.size, self.count, self.number = (array("I") for _ in range(6))
        self.owner, self.writer, self.name, self.fate, self.disk = (array("H") for _ in range(5))
        self.object_ids: list[str] = []
        self.live: dict[int, Live] = {}  # rows that are not freed
        self.log_tick, self.log_row, self.log_who = array("I"), array("I"), array("I")
        self.log_what = array("H")  # who: a process, or of what was spilled, its place before
        self._places = Places()
        self._extent: list[int] = []  # KiB of a row's place: of a block of many, more than its size
        self._exact: list[int] = []  # bytes
        self._row_of: dict[str, int] = {}
        self._early: dict[str, list[Event]] = {}  # told before the object itself
        self._string_index = {"": 0}
        self._process_of: dict[str, int] = {}
        self._task_names: dict[str, str] = {}
        self._readers: dict[str, Reader] = {}

    def tick(self, time_s: float) -> int:
        """Seconds of the clock as ticks since the origin, clamped to what a column holds."""
        return max(0, min(OPEN - 1, int((time_s - self.origin_s) * TICKS_PER_S)))

    def _string(self, text: str) -> int:
        index = self._string_index.get(text)
        if index is None:
            if len(self.strings) > 4_000:
                return 0
            index = self._string_index[text] = len(self.strings)
            self.strings.append(text)
        return index

    def _happened(self, tick: int) -> None:
        self.newest_tick = max(self.newest_tick, tick)

    def _log(self, tick: int, row: int, what: Change, who: int) -> None:
        if len(self.log_tick) >= _LOG_MAX:
            for column in (self.log_tick, self.log_row, self.log_what, self.log_who):
                del column[: _LOG_MAX // 4]
        self.log_tick.append(tick)
        self.log_row.append(row)
        self.log_what.append(what)
        self.log_who.append(who)
        self._happened(tick)

    @property
    def extent_kib(self) -> float:
        """How much of the memory is drawn: `LINES` lines of a round number of bytes."""
        line = nice_step(max(self._places.end * KIB, _EXTENT_MIN_BYTES) / LINES)
        return LINES * line / KIB

    def counts(self) -> dict[str, int]:
        """How many objects are where, and how many bytes."""
        memory = [row for row in self.live if not self.disk[row]]
        disk = [row for row in self.live if self.disk[row]]
        return {
            "memory": sum(self.count[row] for row in memory),
            "memoryBytes": sum(self.size[row] for row in memory) * KIB,
            "disk": sum(self.count[row] for row in disk),
            "diskBytes": sum(self.size[row] for row in disk) * KIB,
            "freed": self.dropped + sum(fate == Fate.FREED for fate in self.fate),
            "lost": sum(fate in (Fate.OWNER_DIED, Fate.RUNTIME_ENDED) for fate in self.fate),
            "restored": self.restored,
            "small": self.small_results,
            "puts": self.puts,
            "putBytes": self.put_bytes,
        }

    def state_of(self, row: int) -> str:
        """Where it is now: "memory" | "disk" | "freed" | "lost"."""
        if row in self.live:
            return "disk" if self.disk[row] else "memory"
        return "freed" if self.fate[row] == Fate.FREED else "lost"

    def objects(self) -> list[StoredObject]:
        """Every object that still has a row of its own, in the order in which they were stored."""

        def seconds(tick: int) -> float:
            return self.origin_s + tick / TICKS_PER_S

        found = []
        for row in range(len(self.put)):
            if not self.object_ids[row]:
                continue
            live = self.live.get(row) or Live()
            found.append(
                StoredObject(
                    object_id=self.object_ids[row],
                    name=self.strings[self.name[row]],
                    size_bytes=self._exact[row],
                    state=self.state_of(row),
                    owner=self.processes[self.owner[row]].name,
                    readers=tuple(sorted(self.processes[process].name for process in live.readers)),
                    wanted_by=live.wanted,
                    put_s=seconds(self.put[row]),
                    freed_s=None if self.freed[row] == OPEN else seconds(self.freed[row]),
                )
            )
        return sorted(found, key=lambda stored: stored.put_s)

    # --- folding --------------------------------------------------------------------------------
    def _fold(self) -> None:
        """Drop the older freed rows; if that is not enough, draw neighbours as one block. Renumber."""
        target = self.max_objects * 3 // 4
        over = sorted(
            (row for row in range(len(self.put)) if row not in self.live), key=lambda r: self.freed[r]
        )
        drop = set(over[: max(0, len(self.put) - target)])
        self.dropped += sum(self.fate[row] == Fate.FREED for row in drop)
        if len(self.put) - len(drop) > target:
            drop |= self._merge(target // 2)
        self._renumber([row for row in range(len(self.put)) if row not in drop])

    def _merge(self, blocks: int) -> set[int]:
        """Join neighbours in memory until about `blocks` are left; returns the rows that are no more."""
        rows = sorted((r for r in self.live if not self.disk[r]), key=lambda r: self.place[r])
        each = -(-len(rows) // max(1, blocks))
        groups: list[list[int]] = []
        end = -1
        for row in rows:
            if self.place[row] != end or len(groups[-1]) == each:  # a hole lies between, or enough
                groups.append([])
            groups[-1].append(row)
            end = self.place[row] + self._extent[row]
        gone: set[int] = set()
        for group in groups:
            first, *rest = group
            if not rest:
                continue
            for row in rest:
                self.size[first] += self.size[row]
                self._extent[first] += self._extent[row]
                self._exact[first] += self._exact[row]
                self.count[first] += self.count[row]
                del self.live[row]
                gone.add(row)
            self.live[first] = Live()
            self.object_ids[first] = ""
            names = {self.name[row] for row in group}
            self.name[first] = names.pop() if len(names) == 1 else self._string("objects")
        return gone

    def _renumber(self, keep: list[int]) -> None:
        new = {old: position for position, old in enumerate(keep)}
        merged = dict(new)
        blocks = sorted(
            (self.place[row], row) for row in keep if row in self.live and not self.object_ids[row]
        )
        for row in set(self._row_of.values()):
            if row not in new:  # it lies in a block of many
                block = next(b for place, b in reversed(blocks) if place <= self.place[row])
                merged[row] = new[block]
        self._row_of = {object_id: merged[row] for object_id, row in self._row_of.items()}
        self.live = {new[row]: live for row, live in self.live.items()}
        logged = [at for at, row in enumerate(self.log_row) if row in new and self.object_ids[row]]
        self.log_row = array("I", [new[self.log_row[at]] for at in logged])
        self.log_tick = array("I", [self.log_tick[at] for at in logged])
        self.log_what = array("H", [self.log_what[at] for at in logged])
        self.log_who = array("I", [self.log_who[at] for at in logged])
        for column in (
            "put",
            "freed",
            "place",
            "size",
            "count",
            "number",
            "owner",
            "writer",
            "name",
            "fate",
            "disk",
        ):
            old: array[int] = getattr(self, column)
            setattr(self, column, array(old.typecode, [old[row] for row in keep]))
        self.object_ids = [self.object_ids[row] for row in keep]
        self._extent = [self._extent[row] for row in keep]
        self._exact = [self._exact[row] for row in keep]

    def check_invariants(self) -> None:
        """Assert what must hold between any two events."""
        rows = len(self.put)
        columns: tuple[Sequence[Any], ...] = (self.freed, self.place, self.size, self.count, self.number)
        columns += (
            self.owner,
            self.writer,
            self.name,
            self.fate,
            self.disk,
            self.object_ids,
            self._extent,
            self._exact,
        )
        assert all(len(column) == rows for column in columns)
        self._places.check_invariants()
        taken = sorted((self.place[r], self._extent[r]) for r in self.live if not self.disk[r])
        for (place, extent), (following, _) in pairwise(taken):
            assert place + extent <= following, "two blocks overlap"
        for row in range(rows):
            assert (self.freed[row] == OPEN) == (row in self.live) == (self.fate[row] == Fate.ALIVE)
        assert all(row in self.live for row in self._row_of.values())
        assert all(row < rows for row in self.log_row)
