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
from collections.abc import Callable, Sequence

from minray.base.events import (
    ActorChangedState,
    Event,
    GetCalled,
    GetStarted,
    TaskDispatched,
    TaskFinished,
    TaskRetried,
    TaskSubmitted,
    WorkerChanged,
)
from minray_widgets.palette import State
from minray_widgets.timeline_table import LIVE, NO_LANE, OPEN, Lane, Queued, TimelineTable

DRIVER_LANE = 0
_CALLS_MAX = 2_000
_MARKS_MAX = 500
_FLOOD = 2_000  # a page of so many events is taken in by the short way
_OUTCOMES = {"ok": State.FINISHED, "error": State.FAILED, "lost": State.LOST, "cancelled": State.CANCELLED}

NameFilter = str | Callable[[str], bool] | None


class TimelineModel(TimelineTable):
    """A table of bars that follows events: `apply` them, then read the table."""

    def __init__(self, origin_s: float, max_tasks: int = 5_000, accept: NameFilter = None) -> None:
        super().__init__(origin_s, max_tasks)
        self._accept = _as_predicate(accept)
        self._refused: set[str] = set()
        self._open_calls: set[tuple[int, int]] = set()  # (lane, start) of the calls that still block
        self._handlers: dict[type, Callable[..., None]] = {
            TaskSubmitted: self._submitted,
            TaskDispatched: self._dispatched,
            TaskFinished: self._finished,
            TaskRetried: self._retried,
            GetStarted: self._get_started,
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

    def busy(self) -> bool:
        """Does a task run, wait at a worker, or a `get` block?"""
        return bool(self._open_calls) or any(lane.pending for lane in self.lanes)

    def runtime_ended(self, time_s: float) -> None:
        """The engine is gone: what was not over is lost, and task ids may be used anew."""
        tick = self.tick(time_s)
        why = "the runtime was shut down"
        for task_id, task in list(self._queued.items()):
            self._close(self._start_row(task_id, task), tick, State.LOST, why)
        for row in [row for row, state in enumerate(self.state) if state in LIVE]:
            self._close(row, tick, State.LOST, why)
        self.call_end = array("I", [tick if end == OPEN else end for end in self.call_end])
        self._open_calls.clear()
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
            self._queued[event.task_id] = Queued(
                self._string(event.name), tick, 0, event.argument_ids, event.parent_id
            )
            return
        # Its dispatch or its result was read first: complete the row.
        self._describe(row, Queued(self._string(event.name), tick, 0, event.argument_ids, event.parent_id))
        if self._left_queue[row]:
            self.queue.add(self.start[row], -1)
        if self.state[row] not in LIVE:
            self.pred[row] = self._binding_predecessor(row)

    def _dispatched(self, event: TaskDispatched) -> None:
        task = self._queued.get(event.task_id)
        if task is not None:
            if event.attempt < task.attempt:
                return  # news of the attempt before
            row = self._start_row(event.task_id, task)
        elif event.task_id in self._row_of:
            row = self._row_of[event.task_id]
            if self.state[row] not in LIVE or event.attempt < self.attempt[row]:
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
        if self.state[row] not in LIVE:
            return
        if not self.name[row]:
            self.name[row] = self._string(event.name)
        if event.worker_id:
            index = self._lane(event.worker_id, event.pid)
            if index != self.lane[row]:
                self._leave_lane(row, self.tick(event.time_s))
                self.lane[row] = index
        self.attempt[row] = event.attempt
        if event.worker_id and event.started_s > 0.0:  # a lost attempt reports no start: the guess stays
            self.start[row] = self.tick(event.started_s)
        self._close(row, self.tick(event.time_s), _OUTCOMES.get(event.outcome, State.FAILED), event.error)

    def _retried(self, event: TaskRetried) -> None:
        row = self._row_of.get(event.task_id)
        if row is None or event.task_id in self._queued:
            return
        tick = self.tick(event.time_s)
        if self.state[row] in LIVE:
            self._close(row, tick, State.RETRIED, event.reason)
        elif self.state[row] in (State.FAILED, State.LOST):
            self.state[row] = State.RETRIED
        attempt = max(event.attempt, self.attempt[row] + 1)
        arguments, parent = self._arguments.get(row, ()), self._parents.get(row, "")
        self._queued[event.task_id] = Queued(self.name[row], tick, attempt, arguments, parent, retry_of=row)
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

    def _get_started(self, event: GetStarted) -> None:
        if not self._is_about_others(event):
            self._open_calls.add(self._new_call(event, self.tick(event.time_s)))

    def _is_about_others(self, event: GetStarted | GetCalled) -> bool:
        """Does the filter keep all of its tasks out?"""
        if not self._refused:
            return False
        ids = event.object_ids
        return not any(self._producer(each) is not None or self._is_queued(each) for each in ids)

    def _new_call(self, event: GetStarted | GetCalled, started: int) -> tuple[int, int]:
        index = self._lane_of.get(event.worker_id, DRIVER_LANE)
        self.call_start.append(started)
        self.call_end.append(OPEN)
        self.call_count.append(min(event.count, OPEN - 1))
        self.call_lane.append(index)
        self.call_what.append(self._string(f"{event.what} · {event.caller}" if event.caller else event.what))
        return index, started

    def _get_called(self, event: GetCalled) -> None:
        if self._is_about_others(event):
            return
        tick, started = self.tick(event.time_s), self.tick(event.started_s)
        index = self._lane_of.get(event.worker_id, DRIVER_LANE)
        if (index, started) not in self._open_calls:
            self._new_call(event, started)
        self._open_calls.discard((index, started))
        for call in range(len(self.call_start) - 1, -1, -1):
            if self.call_end[call] == OPEN and (self.call_lane[call], self.call_start[call]) == (
                index,
                started,
            ):
                self.call_end[call] = tick
                break
        rows = [row for row in map(self._producer, event.object_ids) if row is not None]
        self.newest_tick = max(self.newest_tick, tick)
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

    def _start_row(self, task_id: str, task: Queued) -> int:
        """A queued task gets its row."""
        del self._queued[task_id]
        row = self._new_row(task_id, task.attempt)
        self._describe(row, task)
        return row

    def _describe(self, row: int, task: Queued) -> None:
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
