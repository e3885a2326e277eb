"""Which view answers "what is my program doing?" One call opens it."""

from __future__ import annotations

from typing import Any

from minray_widgets.picture import shell
from minray_widgets.timeline_view import TimelineView


def show(**options: Any) -> TimelineView:
    """Display a live timeline of this process's tasks from now on, and return it.

    Args:
        **options: those of `TimelineView`.
    """
    view = TimelineView(**options)
    if shell() is not None:
        view._ipython_display_()
    return view
