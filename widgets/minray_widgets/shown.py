"""Which view does `minray.show()` open?

`show()` opens the timeline, `show("objects")` the object store; `%minray timeline` and `%minray objects`
do the same.
"""

from __future__ import annotations

from typing import Any

from minray_widgets.live_view import LiveView
from minray_widgets.object_store_view import ObjectStoreView
from minray_widgets.picture import shell
from minray_widgets.timeline_view import TimelineView

VIEWS: dict[str, type[LiveView]] = {"timeline": TimelineView, "objects": ObjectStoreView}


def show(what: str = "timeline", **options: Any) -> Any:
    """Display a live view of this process's runtime from now on, and return it.

    Args:
        what: "timeline" (tasks on their workers) or "objects" (large values in shared memory).
        **options: those of `TimelineView` or `ObjectStoreView`.

    Raises: ValueError if there is no such view.
    """
    if what not in VIEWS:
        raise ValueError(f"no view is called {what!r}; there are: {', '.join(VIEWS)}")
    view = VIEWS[what](**options)
    if shell() is not None:
        view._ipython_display_()
    return view
