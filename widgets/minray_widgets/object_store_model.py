"""Which blocks does a stream of events draw in a node's memory?

Events of `minray.base.events` go in, columns come out: one row per large object, and a log of what
happened to each, so that the page can show any earlier moment.

    ObjectPut ──► in memory ──last reference went──► freed
                   │      └──owner died, runtime ended──► lost
          spilled  ▼
                  on disk   read from there by whom it may concern (restored), freed or lost in the end

Who reads it: a process that borrowed it (ObjectBorrowed), and a worker while a task that has it among
its arguments is there (TaskDispatched to TaskFinished). Who wants it: tasks from their submission to
their end. Events of several processes arrive in batches, so any order is taken; what is known of an
object before its ObjectPut is kept aside until that comes.

Not thread-safe: the view holds a lock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from minray.base.events import (
    ActorChangedState,
    Event,
    ObjectBorrowed,
    ObjectFreed,
    ObjectPut,
    ObjectRestored,
    ObjectReturned,
    ObjectSpilled,
    TaskDispatched,
    TaskFinished,
    TaskSubmitted,
    WorkerChanged,
)
from minray_widgets.object_store_table import DRIVER, KIB, Live, ObjectStoreTable, Process, Reader
from minray_widgets.palette import Change, Fate
from minray_widgets.timeline_table import OPEN

_OWNER_DIGITS = 32  # an object's id begins with its owner's worker id,
_TASK_DIGITS = 48  # then comes its task's number, and at last the number of the return value
_MARKS_MAX = 500
_NAMES_MAX = 50_000


class ObjectStoreModel(ObjectStoreTable):
    """A table of objects that follows events: `apply` them, then read the table."""

    def __init__(self, origin_s: float, max_objects: int = 2_000, driver_pid: int = 0) -> None:
        super().__init__(origin_s, max_objects, driver_pid)
        self._handlers: dict[str, Callable[[Any], None]] = {
            "ObjectPut": self._put,
            "ObjectFreed": self._freed,
            "ObjectBorrowed": self._borrowed,
            "ObjectReturned": self._returned,
            "ObjectSpilled": self._spilled,
            "ObjectRestored": self._restored,
            "TaskSubmitted": self._submitted,
            "TaskDispatched": self._dispatched,
            "TaskFinished": self._finished,
            "ActorChangedState": self._actor_changed,
            "WorkerChanged": self._worker_changed,
        }

    # --- events in ------------------------------------------------------------------------------
    def apply(self, events: Sequence[Event]) -> None:
        """Take in events, in any order. Objects stored before the origin are history and left out."""
        handlers = self._handlers
        for event in events:
            handler = handlers.get(type(event).__name__)
            if handler is not None:
                handler(event)
        if events:
            self.revision += 1
        if len(self.put) > self.max_objects:
            self._fold()

    def mark(self, time_s: float, label: str) -> None:
        """A cell began. A mark with nothing after it is replaced."""
        if self.marks and self.marks[-1][0] > self.newest_tick:
            self.marks.pop()
        self.marks.append((self.tick(time_s), label))
        del self.marks[:-_MARKS_MAX]
        self.revision += 1

    def runtime_ended(self, time_s: float) -> None:
        """The engine is gone, and its memory with it."""
        for row in list(self.live):
            self._end(row, self.tick(time_s), Fate.RUNTIME_ENDED)
        for process in self.processes:
            process.alive = False
        for table in (self._row_of, self._early, self._process_of, self._task_names, self._readers):
            table.clear()
        self.revision += 1

    def busy(self) -> bool:
        """Is a reading task under way?"""
        return bool(self._readers)

    # --- objects ----------------------------------------------------------------------------------
    def _put(self, event: ObjectPut) -> None:
        if (
            event.time_s < self.origin_s
            or event.where not in ("shared", "disk")
            or event.object_id in self._row_of
        ):
            return
        result = event.kind == "result"
        name = self._task_names.get(event.object_id[:_TASK_DIGITS], "task") if result else event.kind
        row, tick = len(self.put), self.tick(event.time_s)
        size = max(1, -(-event.size_bytes // KIB))
        self.put.append(tick)
        self.freed.append(OPEN)
        self.size.append(size)
        on_disk = event.where == "disk"  # there was no room for it from the start
        self.disk.append(on_disk)
        self.place.append(0 if on_disk else self._places.take(size))
        self.count.append(1)
        self.number.append(_number_of(event.object_id))
        self.owner.append(self._process(event.object_id[:_OWNER_DIGITS]))
        self.writer.append(self._process(event.worker_id))
        self.name.append(self._string(name))
        self.fate.append(Fate.ALIVE)
        self.object_ids.append(event.object_id)
        self._extent.append(size)
        self._exact.append(event.size_bytes)
        self._row_of[event.object_id] = row
        self.live[row] = Live()
        (self.on_disk if on_disk else self.in_memory).add(tick, size)
        self.puts += 1
        self.put_bytes += event.size_bytes
        if result:
            self.small_results = max(0, self.small_results - 1)
        self._happened(tick)
        for early in self._early.pop(event.object_id, ()):
            self._handlers[type(early).__name__](early)
        for reader in self._readers.values():
            for object_id in reader.object_ids:
                if object_id == event.object_id:
                    self._wanted(row, tick, 1)
                    if reader.process >= 0:
                        self._reads(row, tick, reader.process, 1)

    def _freed(self, event: ObjectFreed) -> None:
        row = self._row(event)
        if row is not None:
            self._end(row, self.tick(event.time_s), Fate.FREED, event.size_bytes)
            self._row_of.pop(event.object_id, None)

    def _end(self, row: int, tick: int, fate: Fate, size_bytes: int = 0) -> None:
        live = self.live.get(row)
        if live is None:
            return
        size = self.size[row]
        if fate == Fate.FREED and self.count[row] > 1:  # one of many in a block
            part = min(size - 1, max(1, -(-size_bytes // KIB)))
            self.count[row] -= 1
            self.dropped += 1
            self.size[row] -= part
            self.in_memory.add(tick, -part)
            self._happened(tick)
            return
        (self.on_disk if self.disk[row] else self.in_memory).add(tick, -size)
        if not self.disk[row]:
            self._places.give(self.place[row], self._extent[row])
        for process, times in live.readers.items():
            for _ in range(times):
                self._log(tick, row, Change.RETURNED, process)
        self.freed[row] = max(tick, self.put[row])
        self.fate[row] = fate
        del self.live[row]
        if self.object_ids[row]:
            self._row_of.pop(self.object_ids[row], None)
        else:
            self._row_of = {object_id: r for object_id, r in self._row_of.items() if r != row}
        self._happened(tick)

    def _borrowed(self, event: ObjectBorrowed) -> None:
        row = self._row(event)
        if row is not None:
            self._reads(row, self.tick(event.time_s), self._process(event.worker_id, event.pid), 1)

    def _returned(self, event: ObjectReturned) -> None:
        row = self._row(event)
        if row is not None:
            self._reads(row, self.tick(event.time_s), self._process(event.worker_id, event.pid), -1)

    def _spilled(self, event: ObjectSpilled) -> None:
        row = self._row(event)
        if row is not None and not self.disk[row] and self.count[row] == 1:
            tick = self.tick(event.time_s)
            self.disk[row] = 1
            self.in_memory.add(tick, -self.size[row])
            self.on_disk.add(tick, self.size[row])
            self._places.give(self.place[row], self._extent[row])
            self._log(tick, row, Change.SPILLED, self.place[row])

    def _restored(self, event: ObjectRestored) -> None:
        row = self._row(event)
        if row is not None:
            self.restored += 1
            self._log(self.tick(event.time_s), row, Change.RESTORED, self._process(event.worker_id))

    def _row(self, event: Any) -> int | None:
        """The row that an event is about; an event that came too early is kept."""
        row = self._row_of.get(event.object_id)
        if row is None and event.time_s >= self.origin_s:
            if len(self._early) >= self.max_objects:  # the oldest came not too early but too late
                del self._early[next(iter(self._early))]
            self._early.setdefault(event.object_id, []).append(event)
        return row

    def _reads(self, row: int, tick: int, process: int, change: int) -> None:
        live = self.live.get(row)
        if live is None or (change < 0 and live.readers[process] <= 0):
            return
        live.readers[process] += change
        if not live.readers[process]:
            del live.readers[process]
        self._log(tick, row, Change.BORROWED if change > 0 else Change.RETURNED, process)

    def _wanted(self, row: int, tick: int, change: int) -> None:
        live = self.live.get(row)
        if live is not None:
            live.wanted = max(0, live.wanted + change)
            self._log(tick, row, Change.WANTED if change > 0 else Change.UNWANTED, 0)

    # --- tasks ------------------------------------------------------------------------------------
    def _submitted(self, event: TaskSubmitted) -> None:
        if len(self._task_names) > _NAMES_MAX:
            self._task_names.clear()
        self._task_names[event.task_id] = event.name
        if event.argument_ids and event.task_id not in self._readers:
            self._readers[event.task_id] = Reader(event.argument_ids)
            for object_id in event.argument_ids:
                row = self._row_of.get(object_id)
                if row is not None:
                    self._wanted(row, self.tick(event.time_s), 1)

    def _dispatched(self, event: TaskDispatched) -> None:
        process = self._process(event.worker_id, event.pid)
        reader = self._readers.get(event.task_id)
        if reader is not None and reader.process != process:
            self._moved(reader, process, self.tick(event.time_s))

    def _moved(self, reader: Reader, process: int, tick: int) -> None:
        """The task left its worker and is now at `process` (-1: at none)."""
        for object_id in reader.object_ids:
            row = self._row_of.get(object_id)
            if row is not None:
                if reader.process >= 0:
                    self._reads(row, tick, reader.process, -1)
                if process >= 0:
                    self._reads(row, tick, process, 1)
        reader.process = process

    def _finished(self, event: TaskFinished) -> None:
        if event.worker_id:
            self._process(event.worker_id, event.pid)
        if event.outcome == "ok" and event.time_s >= self.origin_s:
            self.small_results += 1  # until an ObjectPut tells that it was a large one
        reader = self._readers.pop(event.task_id, None)
        if reader is not None:
            tick = self.tick(event.time_s)
            self._moved(reader, -1, tick)
            for object_id in reader.object_ids:
                row = self._row_of.get(object_id)
                if row is not None:
                    self._wanted(row, tick, -1)

    # --- processes --------------------------------------------------------------------------------
    def _actor_changed(self, event: ActorChangedState) -> None:
        if event.state == "alive" and event.worker_id:
            self.processes[self._process(event.worker_id, event.pid)].label = event.class_name

    def _worker_changed(self, event: WorkerChanged) -> None:
        index = self._process(event.worker_id, event.pid)
        if not event.alive:
            self.processes[index].alive = False
            tick = self.tick(event.time_s)
            for row in [row for row in self.live if self.owner[row] == index]:
                self._end(row, tick, Fate.OWNER_DIED)
            for row, live in self.live.items():
                for _ in range(live.readers.get(index, 0)):
                    self._reads(row, tick, index, -1)

    def _process(self, worker_id: str, pid: int = 0) -> int:
        index = self._process_of.get(worker_id)
        if index is None:
            index = self._process_of[worker_id] = len(self.processes)
            self.processes.append(Process(label=DRIVER))
        process = self.processes[index]
        if pid and not process.pid:
            process.pid = pid
            if pid != self.driver_pid:  # the driver is in no event of workers, and knows itself
                process.label = ""
        return index


def _number_of(object_id: str) -> int:
    """The small number by which a picture calls it."""
    try:
        return int(object_id[_OWNER_DIGITS:_TASK_DIGITS], 16) & 0xFFFF_FFFF
    except ValueError:
        return 0
