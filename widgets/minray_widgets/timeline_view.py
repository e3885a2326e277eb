"""Which worker ran which task when? A live Gantt chart, one lane per worker process.

The model (`timeline_model`) places the bars, `static/timeline.js` draws them; how they get there while
a cell still runs is `live_view`'s business.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from minray_widgets.frame import timeline_frame
from minray_widgets.live_view import EventSource, LiveView, current_engine, module_of
from minray_widgets.svg import describe, timeline_svg
from minray_widgets.timeline_model import NameFilter, TimelineModel
from minray_widgets.timeline_table import Span

_STATIC = Path(__file__).parent / "static"


class TimelineView(LiveView):
    """A live Gantt chart of tasks, one lane per worker process.

    As a context manager it shows what happens inside the block, and only that:

        with TimelineView() as view:
            minray.get([f.remote(i) for i in range(8)])
        view.spans()

    Args:
        filter: a name, a pattern ("load*") or a predicate on task names. None shows all.
        max_tasks: tasks drawn one by one; older ones are drawn as blocks.
        history: also show what happened in the hour before this view was made.
        engine: where events come from; by default whatever engine this process uses at the time.
    """

    _esm = module_of("timeline.js")
    _css = _STATIC / "live.css"
    _thread_name = "minray-timeline"
    _model: TimelineModel

    def __init__(
        self,
        filter: NameFilter = None,
        *,
        max_tasks: int = 5_000,
        history: bool = False,
        engine: Callable[[], EventSource | None] = current_engine,
    ) -> None:
        self._options = {"max_tasks": max_tasks, "accept": filter}
        super().__init__(history=history, engine=engine)

    def spans(self) -> list[Span]:
        """Every attempt at a task that this view has seen, by submission."""
        self.refresh()
        with self._lock:
            return self._model.spans()

    def critical_path(self) -> list[Span]:
        """The chain of tasks that decided how long the whole took, first to last."""
        self.refresh()
        with self._lock:
            by_row = {(s.task_id, s.attempt): s for s in self._model.spans()}
            rows = self._model.critical_path()
            keys = [(self._model.task_ids[row], self._model.attempt[row]) for row in rows]
            return [by_row[key] for key in keys if key in by_row]

    def _new_model(self, origin_s: float) -> TimelineModel:
        return TimelineModel(origin_s, **self._options)  # type: ignore[arg-type]

    def _frame(self, now_s: float, extra: dict[str, Any]) -> bytes:
        return timeline_frame(self._model, now_s, extra)

    def _svg(self, width: int = 900) -> str:
        return timeline_svg(self._model, width)

    def _words(self) -> str:
        return describe(self._model)

    def _picture_version(self) -> Any:
        # What the eye would see: a cell in which nothing of ours happened must not redraw the output.
        with self._lock:
            model = self._model
            return model.newest_tick, len(model.lanes), len(model.call_start), *model.counts().values()
