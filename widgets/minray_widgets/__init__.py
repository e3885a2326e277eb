"""What can a notebook watch of minray? The views, and `show()`, which opens the usual one.

    from minray.widgets import ObjectStoreView, TimelineView, PredictView

The models, frames and pictures (`timeline_model`, `object_store_model`, `frame`, `svg`, ...) need no
Jupyter; the views need the `lab` extra, which is asked for only when one of them is named.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minray_widgets.magics import load_ipython_extension
    from minray_widgets.object_store_view import ObjectStoreView
    from minray_widgets.predict_view import PredictView
    from minray_widgets.shown import show
    from minray_widgets.timeline_view import TimelineView

__all__ = ["ObjectStoreView", "PredictView", "TimelineView", "load_ipython_extension", "show"]

_HOMES = {
    "ObjectStoreView": "minray_widgets.object_store_view",
    "PredictView": "minray_widgets.predict_view",
    "TimelineView": "minray_widgets.timeline_view",
    "load_ipython_extension": "minray_widgets.magics",
    "show": "minray_widgets.shown",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(home), name)
    except ModuleNotFoundError as error:
        if error.name not in ("anywidget", "ipywidgets", "traitlets", "IPython"):
            raise
        raise ImportError(
            f"minray.widgets.{name} needs {error.name}: pip install 'minray[lab]'", name=error.name
        ) from error
