"""What is known of every bar, and how does it stay small?

One row per attempt at a task, kept as columns, so that a frame is a handful of memory copies; lanes,
strings and calls beside them. `timeline_model` fills the table from events; this module reads it
(`spans`, `counts`, `critical_path`) and folds it: past `max_tasks` finished rows, the oldest of each
lane become PACKED rows, which stand for many tasks and keep their number in `submit` and their busy
share in `attempt`.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from dataclasses import dataclass, field

from minray_widgets.palette import State
from minray_widgets.queue_curve import QueueCurve

TICKS_PER_S = 100_000
OPEN = 0xFFFF_FFFF  # "has not happened yet" in a tick column; "none" in `pred` (stored + 1, so 0 there)
NO_LANE = 0xFFFF
LIVE = (State.WAITING, State.RUNNING)
_STRINGS_MAX = 4_000  # distinct names and notes kept; later ones read "…"


def nice_step(raw: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below raw > 0."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next((m * power for m in (1.0, 2.0, 5.0) if m * power >= raw), 10 * power)


@dataclass(slots=True)
class Lane:
    """One worker process (or the driver, lane 0), in order of first appearance."""

    pid: int
    label: str
    alive: bool = True
    pending: dict[int, None] = field(default_factory=dict)  # rows sent here and not finished, oldest first
    last_row: int | None = None  # the row that finished here last
    free_at: int = 0  # and when


@dataclass(slots=True)
class Queued:
    """A task that no worker has yet."""

    name: int
    submit: int
    attempt: int
    argument_ids: tuple[str, ...] = ()
    parent_id: str = ""
    retry_of: int | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """One attempt at a task, in seconds of `time.perf_counter()`; end_s None while it is not over."""

    name: str
    task_id: str
    state: str
    attempt: int
    pid: int | None
    submitted_s: float | None
    started_s: float | None
    ended_s: float | None
    note: str

    @property
    def duration_s(self) -> float | None:
        """How long it ran, None while it is not over."""
        if self.started_s is None or self.ended_s is None:
            return None
        return self.ended_s - self.started_s

    @property
    def wait_s(self) -> float | None:
        """How long it waited from submission to start."""
        if self.started_s is None or self.submitted_s is None:
            return None
        return self.started_s - self.submitted_s


class TimelineTable:
    """The columns and what can be read off them. Rows are numbers; folding renumbers them."""

    def __init__(self, origin_s: float, max_tasks: int) -> None:
        if max_tasks < 10:
            raise ValueError(f"max_tasks={max_tasks}: a timeline keeps at least 10 tasks")
        self.origin_s = origin_s
        self.max_tasks = max_tasks
        self.revision = 0
        self.newest_tick = 0  # of what is known to have happened to tasks
        self.folded: dict[int, int] = {}  # state -> tasks that live on in PACKED rows only
        self.queue = QueueCurve()
        self.lost_events = 0
        self.strings: list[str] = [""]
        self.lanes: list[Lane] = [Lane(0, "driver")]
        self.marks: list[tuple[int, str]] = []
        # One row per attempt. Columns are arrays, so that encoding a frame is a handful of memcpy.
        self.start, self.end, self.submit, self.pred = (array("I") for _ in range(4))
        self.name, self.lane, self.state = (array("H") for _ in range(3))
        self.note, self.args, self.attempt = (array("H") for _ in range(3))
        self.task_ids: list[str] = []
        self._left_queue = bytearray()  # 1: the curve knows that this row has started
        self.call_start, self.call_end, self.call_count = (array("I") for _ in range(3))
        self.call_lane, self.call_what = (array("H") for _ in range(2))
        self._releases: list[tuple[int, int]] = []  # (tick, row): that row's end let a get return
        self._string_index = {"": 0}
        self._lane_of: dict[str, int] = {}
        self._queued: dict[str, Queued] = {}
        self._row_of: dict[str, int] = {}  # the newest attempt of each task of this runtime
        self._arguments: dict[int, tuple[str, ...]] = {}
        self._parents: dict[int, str] = {}
        self._id_lengths: set[int] = set()

    def tick(self, time_s: float) -> int:
        """Seconds of the clock as ticks since the origin, clamped to what a column holds."""
        return max(0, min(OPEN - 1, int((time_s - self.origin_s) * TICKS_PER_S)))

    def _string(self, text: str) -> int:
        index = self._string_index.get(text)
        if index is None:
            if len(self.strings) >= _STRINGS_MAX:
                return self._string_index.setdefault("…", len(self.strings) - 1)
            text = text if len(self.strings) < _STRINGS_MAX - 1 else "…"
            index = self._string_index[text] = len(self.strings)
            self.strings.append(text)
        return index

    # --- why did it start only then? ------------------------------------------------------------
    def _producer(self, object_id: str) -> int | None:
        """The row whose task made this object: an object's id begins with its task's."""
        for length in self._id_lengths:
            row = self._row_of.get(object_id[:length])
            if row is not None:
                return row
        return None

    def _is_queued(self, object_id: str) -> bool:
        return any(object_id[:length] in self._queued for length in self._id_lengths)

    def _binding_predecessor(self, row: int, previous: int | None = None) -> int:
        """Row + 1 of what this row waited for last, 0 for nothing.

        Candidates: the producers of its arguments, and the task before it on its worker. If it was
        submitted only after all of them, its submitter was the reason: the parent task, or the task
        whose end let the driver's `get` return.
        """
        start = self.start[row]
        candidates = [previous] if previous is not None else []
        candidates += [p for p in map(self._producer, self._arguments.get(row, ())) if p is not None]
        ended = [(self.end[c], c) for c in candidates if c != row and self.end[c] <= start]
        latest = max(ended, default=(-1, -1))
        submitted = self.submit[row]
        if submitted != OPEN and submitted > latest[0]:
            parent = self._row_of.get(self._parents.get(row, ""))
            if parent is not None and parent != row:
                return parent + 1
            at = bisect_right(self._releases, (submitted, OPEN)) - 1
            if at >= 0 and self._releases[at][1] != row:
                return self._releases[at][1] + 1
        return latest[1] + 1

    def critical_path(self) -> list[int]:
        """Rows from the first to the last finished task, each the reason why the next began no sooner."""
        over = [(end, row) for row, end in enumerate(self.end) if end != OPEN and self.lane[row] != NO_LANE]
        path: list[int] = []
        row = max(over, default=(0, -1))[1]
        seen: set[int] = set()
        while row >= 0 and row not in seen:
            seen.add(row)
            path.append(row)
            row = self.pred[row] - 1
        return path[::-1]

    # --- reading --------------------------------------------------------------------------------
    def counts(self) -> dict[str, int]:
        """How many tasks (attempts, to be exact) are in each state, by its lower-case name."""
        counts = {
            state.name.lower(): self.state.count(state) + self.folded.get(state, 0)
            for state in State
            if state != State.PACKED
        }
        counts["queued"] = len(self._queued)
        return counts

    def spans(self) -> list[Span]:
        """Every attempt that is still kept as a row of its own, by submission."""

        def seconds(tick: int) -> float | None:
            return None if tick == OPEN else self.origin_s + tick / TICKS_PER_S

        spans = [
            Span(
                name=self.strings[self.name[row]],
                task_id=self.task_ids[row],
                state=State(self.state[row]).name.lower(),
                attempt=self.attempt[row],
                pid=None if self.lane[row] == NO_LANE else self.lanes[self.lane[row]].pid,
                submitted_s=seconds(self.submit[row]),
                started_s=seconds(self.start[row]),
                ended_s=seconds(self.end[row]),
                note=self.strings[self.note[row]],
            )
            for row in range(len(self.start))
            if self.state[row] != State.PACKED
        ]
        spans += [
            Span(self.strings[q.name], task, "queued", q.attempt, None, seconds(q.submit), None, None, "")
            for task, q in self._queued.items()
        ]
        return sorted(spans, key=lambda span: (span.submitted_s or span.started_s or 0.0, span.attempt))

    # --- folding --------------------------------------------------------------------------------
    def _fold(self) -> None:
        """Replace the older finished rows by PACKED rows until half the limit is left; renumber."""
        over = [r for r in range(len(self.start)) if self.state[r] not in LIVE]
        over.sort(key=lambda r: self.end[r])
        fold = over[: len(over) - self.max_tasks // 2]
        if len(fold) < 2:
            return
        blocks_max = max(4, self.max_tasks // 8)
        extent = self.end[fold[-1]] - min(self.start[r] for r in fold)
        width = max(1, extent * len(self.lanes) // blocks_max)
        blocks: dict[tuple[int, int], list[int]] = {}
        for row in fold:
            blocks.setdefault((self.lane[row], self.start[row] // width), []).append(row)
        keep = sorted(set(range(len(self.start))).difference(fold))
        packed = [self._pack(rows) for _, rows in sorted(blocks.items())]
        for row in fold:
            if self.state[row] != State.PACKED:
                self.folded[self.state[row]] = self.folded.get(self.state[row], 0) + 1
        self._renumber(keep, packed)

    def _pack(self, rows: list[int]) -> tuple[int, int, int, int, int, int]:
        """(start, end, tasks, lane, fill, name) of the block that stands for rows of one lane."""
        start = min(self.start[r] for r in rows)
        end = max(self.end[r] for r in rows)
        busy = tasks = 0
        for row in rows:
            duration = self.end[row] - self.start[row]
            if self.state[row] == State.PACKED:
                busy += duration * self.attempt[row] // 0xFFFF
                tasks += self.submit[row]
            else:
                busy += duration
                tasks += 1
        fill = min(0xFFFF, busy * 0xFFFF // max(1, end - start))
        names = {self.name[r] for r in rows}
        name = names.pop() if len(names) == 1 else self._string("tasks")
        return start, end, tasks, self.lane[rows[0]], fill, name

    def _renumber(self, keep: list[int], packed: list[tuple[int, int, int, int, int, int]]) -> None:
        shift = len(packed)
        new = {old: shift + position for position, old in enumerate(keep)}
        self.pred = array("I", [0] * shift + [new.get(self.pred[r] - 1, -1) + 1 for r in keep])
        self.start = array("I", [p[0] for p in packed] + [self.start[r] for r in keep])
        self.end = array("I", [p[1] for p in packed] + [self.end[r] for r in keep])
        # A block keeps its number of tasks in `submit` and its busy share in `attempt`.
        self.submit = array("I", [p[2] for p in packed] + [self.submit[r] for r in keep])
        self.lane = array("H", [p[3] for p in packed] + [self.lane[r] for r in keep])
        self.attempt = array("H", [p[4] for p in packed] + [self.attempt[r] for r in keep])
        self.name = array("H", [p[5] for p in packed] + [self.name[r] for r in keep])
        self.state = array("H", [int(State.PACKED)] * shift + [self.state[r] for r in keep])
        self.note = array("H", [0] * shift + [self.note[r] for r in keep])
        self.args = array("H", [0] * shift + [self.args[r] for r in keep])
        self.task_ids = [""] * shift + [self.task_ids[r] for r in keep]
        self._left_queue = bytearray(shift) + bytearray(self._left_queue[r] for r in keep)
        self._row_of = {task: new[row] for task, row in self._row_of.items() if row in new}
        self._arguments = {new[row]: ids for row, ids in self._arguments.items() if row in new}
        self._parents = {new[row]: task for row, task in self._parents.items() if row in new}
        self._releases = [(tick, new[row]) for tick, row in self._releases if row in new]
        for task in self._queued.values():
            task.retry_of = None if task.retry_of is None else new.get(task.retry_of)
        for lane in self.lanes:
            lane.pending = {new[row]: None for row in lane.pending}
            lane.last_row = None if lane.last_row is None else new.get(lane.last_row)

    def check_invariants(self) -> None:
        """Assert what must hold between any two events."""
        rows = len(self.start)
        columns = (self.end, self.submit, self.pred, self.name, self.lane, self.state, self.note, self.args)
        assert all(len(column) == rows for column in (*columns, self.attempt, self.task_ids))
        for row in range(rows):
            state = State(self.state[row])
            assert (self.end[row] == OPEN) == (state in LIVE)
            assert self.lane[row] == NO_LANE or self.lane[row] < len(self.lanes)
            assert state != State.QUEUED
            if state == State.RUNNING:
                assert self.start[row] != OPEN
            if self.end[row] != OPEN and self.start[row] != OPEN:
                assert self.start[row] <= self.end[row]
            assert self.pred[row] <= rows and self.pred[row] != row + 1
        for index, lane in enumerate(self.lanes):
            assert all(self.lane[row] == index and self.state[row] in LIVE for row in lane.pending)
            running = [row for row in lane.pending if self.state[row] == State.RUNNING]
            assert bool(running) == bool(lane.pending) and len(running) <= 1
