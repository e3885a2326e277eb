"""What is left of a widget where no kernel runs?

A notebook on GitHub, in nbviewer or in an exported page has no widget, only stored outputs. So a view
is displayed as a bundle of three: the live widget, a `text/html` picture of what it shows, and a
plain text that never changes. When a cell ends, the stored picture is brought up to date in place;
widget state itself (megabytes, and blank without a kernel) is never stored.
"""

from __future__ import annotations

import uuid
from typing import Any

import anywidget

_WIDGET_TYPE = "application/vnd.jupyter.widget-view+json"


def shell() -> Any | None:
    """The running IPython shell, None in a plain interpreter."""
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    return get_ipython()  # type: ignore[no-untyped-call, unused-ignore]


class PicturedWidget(anywidget.AnyWidget):
    """An anywidget that leaves a picture. Subclasses give `_picture` and bump `_picture_version`."""

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self._display_ids: list[str] = []
        self._picture_stored: Any = None

    def _picture(self) -> str:
        """The HTML that stands for the widget now."""
        raise TypeError(f"{type(self).__name__} has no picture")

    def _picture_version(self) -> Any:
        """Changes when the picture does."""
        return None

    def __repr__(self) -> str:
        # No address, no pid, no count: notebooks compare stored outputs.
        return f"<{type(self).__name__}>"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = {"text/plain": repr(self), "text/html": self._picture()}
        if self._view_name is not None:
            bundle[_WIDGET_TYPE] = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return bundle

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display_id = uuid.uuid4().hex
        self._picture_stored = self._picture_version()
        display(self._repr_mimebundle_(), raw=True, display_id=display_id)
        self._display_ids.append(display_id)
        del self._display_ids[:-4]

    def store_picture(self) -> None:
        """Bring the picture in this widget's displayed outputs up to date."""
        version = self._picture_version()
        if not self._display_ids or version == self._picture_stored:
            return
        from IPython.display import update_display

        self._picture_stored = version
        bundle = self._repr_mimebundle_()
        for display_id in self._display_ids:
            update_display(bundle, display_id=display_id, raw=True)
