"""Which events happened while this block ran? `record()`, to look at later, save, or hand to a grader.

    with minray.record() as run:             run = minray.record()     # across the cells of a notebook
        program()                            run.start() ... run.stop()
    run.events

Each recording reads the events from a cursor of its own, so recordings nest and views go on polling. At
the end every worker is asked for what it recorded; one that does not answer, and records that fell out of
a ring, make the run incomplete, which it says.
"""

from __future__ import annotations

import time
import weakref
from typing import Any, Self

from minray.base.events import Event
from minray.engine.seam import slot
from minray.recording.run import Run
from minray.recording.run_file import RunHeader

GATHER_S = 2.0  # for workers whose native code lets nobody else run
_under_way: weakref.WeakSet[Recording]


class Recording(Run):
    """A run that grows between `start` and `stop`; afterwards it is like a loaded one."""

    def __init__(self) -> None:
        super().__init__()
        self._found: list[Event] = []
        self._engine: Any = None
        self._cursor = 0
        self._lost = 0
        self._gaps: list[str] = []
        self._started_s = 0.0
        self._recording = False

    # ---------------------------------------------------------------- start and stop
    def start(self) -> Self:
        """Record from now on. Raises: RuntimeError when it was started before."""
        if self._started_s:
            raise RuntimeError("a recording is started once: call minray.record() for another one")
        self._started_s = time.perf_counter()
        self._recording = True
        if slot.engine is not None:  # else the block will call init(): all of that is ours
            self._engine = slot.engine
            self._cursor = self._engine.mark_events()
        _under_way.add(self)
        return self

    def stop(self) -> Self:
        """Record no more; waits shortly for what workers have not told. Harmless twice."""
        if self._recording:
            self._take_all()
            self._finish()
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _finish(self) -> None:
        self._recording = False
        _under_way.discard(self)
        self._found.sort(key=lambda event: event.time_s)
        self._events = tuple(self._found)
        self._header = RunHeader(
            self._started_s, time.perf_counter(), self._lost, tuple(dict.fromkeys(self._gaps))
        )
        self._engine, self._found = None, []

    def leave_engine(self) -> None:
        """The cluster ends; the recording may go on with the next one."""
        self._engine, self._cursor = None, 0

    # ---------------------------------------------------------------- reading
    def _take_all(self) -> None:
        engine = self._engine or slot.engine
        if engine is None:
            return
        try:
            missing = engine.gather_events(GATHER_S)
        except Exception as error:  # the cluster died under us: what this process knows is still there
            self._gaps.append(f"the workers could not be asked for their events: {error}")
            missing = []
        for worker_id in missing:
            self._gaps.append(f"worker {worker_id[:8]} did not answer within {GATHER_S:g} s")
        self._take()
        if not engine.traces():
            self._gaps.append("tracing is off (MINRAY_TRACING=0): nothing is recorded")
        elif not engine.sees_all_events():
            self._gaps.append("recorded inside a task: events of this process only")

    def _take(self) -> None:
        if self._engine is None:
            self._engine = slot.engine
        if self._engine is None:
            return
        page = self._engine.events(self._cursor)
        self._cursor = page.cursor
        # Workers tell now what they recorded before we began.
        began = self._started_s
        self._found.extend(event for event in page.events if event.time_s >= began)
        if page.lost:
            self._lost += page.lost
            self._gaps.append(f"the event log overflowed before it was read ({page.lost} entries)")

    @property
    def events(self) -> tuple[Event, ...]:
        """Typed records, in order of time; while it records, those that have come so far."""
        if self._recording:
            self._take()
            return tuple(sorted(self._found, key=lambda event: event.time_s))
        return self._events

    def __repr__(self) -> str:
        if self._recording:
            return f"<Run under way for {time.perf_counter() - self._started_s:.3f} s; stop() ends it>"
        if not self._started_s:
            return "<Run not started: use `with minray.record() as run:` or run.start()>"
        return super().__repr__()

    def _repr_html_(self) -> str:
        if self._recording or not self._started_s:
            import html

            return f"<code>{html.escape(repr(self))}</code>"
        return super()._repr_html_()


_under_way = weakref.WeakSet()


def record() -> Recording:
    """A recording of what happens in a block: `with minray.record() as run: ...`, then `run.events`.

    Works across cells with `run = minray.record().start()` and `run.stop()`. The run stays readable after
    `shutdown()`; `run.complete` says whether anything is missing.
    """
    return Recording()


def finish_recordings() -> None:
    """The cluster is about to end: recordings under way take what is there now."""
    for recording in list(_under_way):
        recording._take_all()
        recording.leave_engine()
