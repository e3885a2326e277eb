"""Which bars does a stream of events draw, and on which lane?

Events of `minray.base.events` go in, columns come out: one row per attempt at a task, one lane per
worker process, lane 0 for the driver's own `get` and `wait` calls. States only move forward:

    QUEUED ──dispatched──► WAITING ──first in its lane──► RUNNING ──finished──► FINISHED | ...
    (no row yet)           (a row)                            └──retried──► RETRIED, and QUEUED again

No event says "started": a worker reports the start with the result. Until then the first unfinished
task of a lane counts as running since the one before it ended; the exact times replace the guess.
Events may come out of order (a result before its submission was read); every handler allows that.

Queued tasks have no row: a curve counts them, so a frame stays small however many wait. Past
`max_tasks` rows the oldest finished ones of each lane are folded into PACKED rows. Times are ticks of
10 microseconds since the model's origin: 32 bits last 11 hours. Not thread-safe: the view holds a lock.
"""

from __future__ import annotations

import fnmatch
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from minray.base.events import (
    ActorChangedState,
    Event,
    GetCalled,
    TaskDispatched,
    TaskFinished,
    TaskRetried,
    TaskSubmitted,
    WorkerChanged,
)
from minray_widgets.palette import State
from minray_widgets.queue_curve import QueueCurve

TICKS_PER_S = 100_000
OPEN = 0xFFFF_FFFF  # "has not happened yet" in a tick column; "none" in `pred` (stored + 1, so 0 there)
NO_LANE = 0xFFFF
DRIVER_LANE = 0
_STRINGS_MAX = 4_000  # distinct names and notes kept; later ones read "…"
_CALLS_MAX = 2_000
_MARKS_MAX = 500
_FLOOD = 2_000  # a page of so many events is taken in by the short way
_OUTCOMES = {"ok": State.FINISHED, "error": State.FAILED, "lost": State.LOST, "cancelled": State.CANCELLED}
_LIVE = (State.WAITING, State.RUNNING)

NameFilter = str | Callable[[str], bool] | None


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
class _Queued:
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


class TimelineModel:
    """The table of bars. `apply` events, then read the columns, `spans()` or `critical_path()`."""

    def __init__(self, origin_s: float, max_tasks: int = 5_000, accept: NameFilter = None) -> None:
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
        self._queued: dict[str, _Queued] = {}
        self._row_of: dict[str, int] = {}  # the newest attempt of each task of this runtime
        self._arguments: dict[int, tuple[str, ...]] = {}
        self._parents: dict[int, str] = {}
        self._id_lengths: set[int] = set()
        self._accept = _as_predicate(accept)
        self._refused: set[str] = set()
        self._handlers: dict[type, Callable[..., None]] = {
            TaskSubmitted: self._submitted,
            TaskDispatched: self._dispatched,
            TaskFinished: self._finished,
            TaskRetried: self._retried,
            GetCalled: self._get_called,
            ActorChangedState: self._actor_changed,
            WorkerChanged: self._worker_changed,
        }

    # --- events in ------------------------------------------------------------------------------
    def apply(self, events: Sequence[Event]) -> None:
        """Take in events, in any order. Those before the origin are history and are left out."""
        whole = _whole_stories(events) if len(events) >= _FLOOD else {}
        origin_s = self.origin_s
        for event in events:
            kind = type(event)
            if event.time_s < origin_s and kind not in _ABOUT_WORKERS:
                continue
            if whole and kind in _OF_A_TASK:
                story = whole.get(event.task_id)  # type: ignore[union-attr]
                if story is not None and story[0].time_s >= origin_s:
                    if kind is TaskFinished:
                        self._told_whole(*story)
                    continue
            handler = self._handlers.get(kind)
            if handler is not None:
                handler(event)
        if events:
            self.revision += 1
        if len(self.start) - sum(len(lane.pending) for lane in self.lanes) > self.max_tasks:
            self._fold()

    def mark(self, time_s: float, label: str) -> None:
        """A vertical line: a cell began, a runtime started. A mark with no task after it is replaced."""
        if self.marks and self.marks[-1][0] > self.newest_tick:
            self.marks.pop()
        self.marks.append((self.tick(time_s), label))
        del self.marks[:-_MARKS_MAX]
        self.revision += 1

    def runtime_ended(self, time_s: float) -> None:
        """The engine is gone: what was not over is lost, and task ids may be used anew."""
        tick = self.tick(time_s)
        why = "the runtime was shut down"
        for task_id, task in list(self._queued.items()):
            self._close(self._start_row(task_id, task), tick, State.LOST, why)
        for row in [row for row, state in enumerate(self.state) if state in _LIVE]:
            self._close(row, tick, State.LOST, why)
        for lane in self.lanes[1:]:
            lane.alive = False
            lane.pending.clear()
        self._row_of.clear()
        self._lane_of.clear()
        self._id_lengths.clear()
        self._arguments.clear()
        self._parents.clear()
        self._refused.clear()
        self.revision += 1

    def tick(self, time_s: float) -> int:
        """Seconds of the clock as ticks since the origin, clamped to what a column holds."""
        return max(0, min(OPEN - 1, int((time_s - self.origin_s) * TICKS_PER_S)))

    def _submitted(self, event: TaskSubmitted) -> None:
        if not self._accept(event.name):
            self._refused.add(event.task_id)
            return
        tick = self.tick(event.time_s)
        row = self._row_of.get(event.task_id)
        self.queue.add(tick, 1)
        self._id_lengths.add(len(event.task_id))
        self.newest_tick = max(self.newest_tick, tick)
        if row is None:
            self._queued[event.task_id] = _Queued(
                self._string(event.name), tick, 0, event.argument_ids, event.parent_id
            )
            return
        # Its dispatch or its result was read first: complete the row.
        self._describe(row, _Queued(self._string(event.name), tick, 0, event.argument_ids, event.parent_id))
        if self._left_queue[row]:
            self.queue.add(self.start[row], -1)
        if self.state[row] not in _LIVE:
            self.pred[row] = self._binding_predecessor(row)

    def _dispatched(self, event: TaskDispatched) -> None:
        task = self._queued.get(event.task_id)
        if task is not None:
            if event.attempt < task.attempt:
                return  # news of the attempt before
            row = self._start_row(event.task_id, task)
        elif event.task_id in self._row_of:
            row = self._row_of[event.task_id]
            if self.state[row] not in _LIVE or event.attempt < self.attempt[row]:
                return
        elif event.task_id in self._refused:
            return
        else:
            row = self._new_row(event.task_id, event.attempt)
        tick = self.tick(event.time_s)
        self._leave_lane(row, tick)  # it may have been taken back from another worker
        index = self._lane(event.worker_id, event.pid)
        self.attempt[row] = event.attempt
        self.lane[row] = index
        self.state[row] = State.WAITING
        self.start[row] = OPEN
        self.lanes[index].pending[row] = None
        self._run_first(index, tick)

    def _finished(self, event: TaskFinished) -> None:
        task = self._queued.get(event.task_id)
        if task is not None and event.attempt >= task.attempt:
            row = self._start_row(event.task_id, task)
        elif event.task_id in self._row_of:
            row = self._row_of[event.task_id]
        elif event.task_id in self._refused or not self._accept(event.name):
            return
        else:
            row = self._new_row(event.task_id, event.attempt)
        if self.state[row] not in _LIVE:
            return
        if not self.name[row]:
            self.name[row] = self._string(event.name)
        if event.worker_id:
            index = self._lane(event.worker_id, event.pid)
            if index != self.lane[row]:
                self._leave_lane(row, self.tick(event.time_s))
                self.lane[row] = index
        self.attempt[row] = event.attempt
        if event.started_s > 0.0:
            self.start[row] = self.tick(event.started_s)
        self._close(row, self.tick(event.time_s), _OUTCOMES.get(event.outcome, State.FAILED), event.error)

    def _retried(self, event: TaskRetried) -> None:
        row = self._row_of.get(event.task_id)
        if row is None or event.task_id in self._queued:
            return
        tick = self.tick(event.time_s)
        if self.state[row] in _LIVE:
            self._close(row, tick, State.RETRIED, event.reason)
        elif self.state[row] in (State.FAILED, State.LOST):
            self.state[row] = State.RETRIED
        attempt = max(event.attempt, self.attempt[row] + 1)
        arguments, parent = self._arguments.get(row, ()), self._parents.get(row, "")
        self._queued[event.task_id] = _Queued(self.name[row], tick, attempt, arguments, parent, retry_of=row)
        self.queue.add(tick, 1)

    def _told_whole(self, submitted: TaskSubmitted, finished: TaskFinished) -> None:
        """Submission and end of a task that nothing is known of yet: its row at once, a third of the work."""
        task_id = finished.task_id
        if not self._accept(submitted.name):
            self._refused.add(task_id)
            return
        index = self._lane(finished.worker_id, finished.pid)
        lane = self.lanes[index]
        submit, start, end = map(self.tick, (submitted.time_s, finished.started_s, finished.time_s))
        row = len(self.start)
        self.start.append(min(start, end))
        self.end.append(end)
        self.submit.append(submit)
        self.name.append(self._string(submitted.name))
        self.lane.append(index)
        self.state.append(_OUTCOMES.get(finished.outcome, State.FAILED))
        self.note.append(self._string(finished.error))
        self.args.append(min(len(submitted.argument_ids), 0xFFFF))
        self.attempt.append(min(finished.attempt, 0xFFFF))
        self.pred.append(0)
        self.task_ids.append(task_id)
        self._left_queue.append(1)
        self._row_of[task_id] = row
        if submitted.argument_ids:
            self._arguments[row] = submitted.argument_ids
        if submitted.parent_id:
            self._parents[row] = submitted.parent_id
        self._id_lengths.add(len(task_id))
        self.queue.add(submit, 1)
        self.queue.add(start, -1)
        previous = lane.last_row
        if previous is None or self.end[previous] <= end:
            lane.last_row = row
        lane.free_at = max(lane.free_at, end)
        self.newest_tick = max(self.newest_tick, end)
        self.pred[row] = self._binding_predecessor(row, previous)

    def _get_called(self, event: GetCalled) -> None:
        index = self._lane_of.get(event.worker_id, DRIVER_LANE)
        tick = self.tick(event.time_s)
        rows = [row for row in map(self._producer, event.object_ids) if row is not None]
        if self._refused and not rows and not any(map(self._is_queued, event.object_ids)):
            return  # it is about tasks that the filter keeps out
        self.newest_tick = max(self.newest_tick, tick)
        self.call_start.append(self.tick(event.started_s))
        self.call_end.append(tick)
        self.call_count.append(min(event.count, OPEN - 1))
        self.call_lane.append(index)
        self.call_what.append(self._string(f"{event.what} · {event.caller}" if event.caller else event.what))
        ended = [(self.end[row], row) for row in rows if self.end[row] != OPEN]
        if ended and index == DRIVER_LANE:
            self._releases.append((tick, max(ended)[1]))
            del self._releases[:-_CALLS_MAX]
        if len(self.call_start) > _CALLS_MAX:
            for column in (self.call_start, self.call_end, self.call_count, self.call_lane, self.call_what):
                del column[: _CALLS_MAX // 2]

    def _actor_changed(self, event: ActorChangedState) -> None:
        if event.state == "alive" and event.worker_id:
            self.lanes[self._lane(event.worker_id, event.pid)].label = event.class_name

    def _worker_changed(self, event: WorkerChanged) -> None:
        if event.alive:
            self._lane(event.worker_id, event.pid)
        elif event.worker_id in self._lane_of:
            self.lanes[self._lane_of[event.worker_id]].alive = False

    # --- rows -----------------------------------------------------------------------------------
    def _new_row(self, task_id: str, attempt: int) -> int:
        row = len(self.start)
        for column in (self.start, self.end, self.submit):
            column.append(OPEN)
        for column in (self.pred, self.note, self.args, self.name):
            column.append(0)
        self.state.append(State.WAITING)
        self.lane.append(NO_LANE)
        self.attempt.append(min(attempt, 0xFFFF))
        self.task_ids.append(task_id)
        self._left_queue.append(0)
        self._row_of[task_id] = row
        self._id_lengths.add(len(task_id))
        return row

    def _start_row(self, task_id: str, task: _Queued) -> int:
        """A queued task gets its row."""
        del self._queued[task_id]
        row = self._new_row(task_id, task.attempt)
        self._describe(row, task)
        return row

    def _describe(self, row: int, task: _Queued) -> None:
        self.name[row] = task.name
        self.submit[row] = task.submit
        self.args[row] = min(len(task.argument_ids), 0xFFFF)
        if task.argument_ids:
            self._arguments[row] = task.argument_ids
        if task.parent_id:
            self._parents[row] = task.parent_id
        if task.retry_of is not None:
            self.pred[row] = task.retry_of + 1  # the attempt before is what it had to wait for

    def _close(self, row: int, tick: int, state: State, note: str) -> None:
        index = self.lane[row]
        previous = self.lanes[index].last_row if index != NO_LANE else None
        self.end[row] = tick
        self.start[row] = min(self.start[row], tick)  # OPEN is the largest number
        self.state[row] = state
        self.note[row] = self._string(note)
        self.newest_tick = max(self.newest_tick, tick)
        self._leave_queue(row)
        if index == NO_LANE:
            return
        lane = self.lanes[index]
        self._leave_lane(row, tick)
        if previous is None or self.end[previous] <= tick:
            lane.last_row = row
        lane.free_at = max(lane.free_at, tick)
        if not self.pred[row]:
            self.pred[row] = self._binding_predecessor(row, previous)

    def _leave_queue(self, row: int) -> None:
        if not self._left_queue[row]:
            self._left_queue[row] = 1
            if self.submit[row] != OPEN:
                self.queue.add(self.start[row], -1)

    def _leave_lane(self, row: int, tick: int) -> None:
        index = self.lane[row]
        if index == NO_LANE:
            return
        self.lanes[index].pending.pop(row, None)
        self._run_first(index, tick)

    def _run_first(self, index: int, tick: int) -> None:
        lane = self.lanes[index]
        row = next(iter(lane.pending), None)
        if row is not None and self.state[row] == State.WAITING:
            self.state[row] = State.RUNNING
            self.start[row] = max(tick, lane.free_at)
            self._leave_queue(row)

    def _lane(self, worker_id: str, pid: int) -> int:
        index = self._lane_of.get(worker_id)
        if index is None:
            index = self._lane_of[worker_id] = len(self.lanes)
            self.lanes.append(Lane(pid, ""))
        return index

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
        over = [r for r in range(len(self.start)) if self.state[r] not in _LIVE]
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
            assert (self.end[row] == OPEN) == (state in _LIVE)
            assert self.lane[row] == NO_LANE or self.lane[row] < len(self.lanes)
            assert state != State.QUEUED
            if state == State.RUNNING:
                assert self.start[row] != OPEN
            if self.end[row] != OPEN and self.start[row] != OPEN:
                assert self.start[row] <= self.end[row]
            assert self.pred[row] <= rows and self.pred[row] != row + 1
        for index, lane in enumerate(self.lanes):
            assert all(self.lane[row] == index and self.state[row] in _LIVE for row in lane.pending)
            running = [row for row in lane.pending if self.state[row] == State.RUNNING]
            assert bool(running) == bool(lane.pending) and len(running) <= 1


_ABOUT_WORKERS = (WorkerChanged, ActorChangedState)
_OF_A_TASK = (TaskSubmitted, TaskDispatched, TaskFinished)


def _whole_stories(events: Sequence[Event]) -> dict[str, tuple[TaskSubmitted, TaskFinished]]:
    """Tasks whose first attempt was submitted, ran and ended within these events, and that was all."""
    submitted = {event.task_id: event for event in events if type(event) is TaskSubmitted}
    stories: dict[str, tuple[TaskSubmitted, TaskFinished]] = {}
    for event in events:
        if type(event) is TaskFinished:
            begin = submitted.get(event.task_id)
            if begin is not None and event.worker_id and not event.attempt:
                stories[event.task_id] = (begin, event)
        elif type(event) is TaskRetried:
            submitted.pop(event.task_id, None)
            stories.pop(event.task_id, None)
    return stories


def _as_predicate(accept: NameFilter) -> Callable[[str], bool]:
    if accept is None:
        return lambda name: True
    if isinstance(accept, str):
        return lambda name: fnmatch.fnmatchcase(name, accept)
    return accept
