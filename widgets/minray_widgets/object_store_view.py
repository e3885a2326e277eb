"""Which large values lie in shared memory, who owns them, and who reads them?

The model (`object_store_model`) keeps the blocks, `static/objects.js` draws them and plays back what
happened; how they get there while a cell still runs is `live_view`'s business.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minray_widgets.live_view import EventSource, LiveView, current_engine, module_of
from minray_widgets.object_store_frame import object_store_frame
from minray_widgets.object_store_model import ObjectStoreModel
from minray_widgets.object_store_svg import describe_objects, object_store_svg
from minray_widgets.object_store_table import StoredObject

_STATIC = Path(__file__).parent / "static"


class ObjectStoreView(LiveView):
    """The node's shared memory, live: each large object as a block, from `put` to its end.

    As a context manager it shows what happens inside the block, and only that:

        with ObjectStoreView() as view:
            ref = minray.put(array)
        view.objects()

    Args:
        max_objects: blocks drawn one by one; beyond, freed ones go and neighbours are drawn as one.
        history: also show what happened in the hour before this view was made.
        engine: where events come from; by default whatever engine this process uses at the time.
    """

    _esm = module_of("objects.js")
    _css = _STATIC / "live.css"
    _thread_name = "minray-objects"
    _model: ObjectStoreModel

    def __init__(
        self,
        *,
        max_objects: int = 2_000,
        history: bool = False,
        engine: Callable[[], EventSource | None] = current_engine,
    ) -> None:
        self._max_objects = max_objects
        super().__init__(history=history, engine=engine)

    def objects(self) -> list[StoredObject]:
        """Every large object that this view has seen, in the order in which they were stored."""
        self.refresh()
        with self._lock:
            return self._model.objects()

    def counts(self) -> dict[str, int]:
        """How many objects are in memory, on disk, freed, lost, and how many bytes."""
        self.refresh()
        with self._lock:
            return self._model.counts()

    def _new_model(self, origin_s: float) -> ObjectStoreModel:
        return ObjectStoreModel(origin_s, self._max_objects, os.getpid())

    def _found(self, engine: EventSource) -> None:
        # How large the memory is stands in no event: a runtime is asked once.
        ask = getattr(engine, "ask", None)
        if ask is not None:
            self._model.capacity_bytes = int(ask("cluster_resources").get("object_store_memory", 0))

    def _frame(self, now_s: float, extra: dict[str, Any]) -> bytes:
        return object_store_frame(self._model, now_s, extra)

    def _svg(self, width: int = 900) -> str:
        return object_store_svg(self._model, width)

    def _words(self) -> str:
        return describe_objects(self._model)

    def _picture_version(self) -> Any:
        with self._lock:
            model = self._model
            return model.newest_tick, model.puts, *model.counts().values()
