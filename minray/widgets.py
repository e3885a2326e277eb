"""Where are the notebook views? In `minray_widgets`, of the same wheel; these are their public names.

Nothing of Jupyter is imported before a view is named, so `import minray.widgets` works without the
`lab` extra and says what to install when it is missed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minray_widgets import ObjectStoreView, PredictView, TimelineView, load_ipython_extension, show

__all__ = ["ObjectStoreView", "PredictView", "TimelineView", "load_ipython_extension", "show"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import minray_widgets

    return getattr(minray_widgets, name)
