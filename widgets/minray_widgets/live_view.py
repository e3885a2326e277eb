"""How does a view come to move on the page while the cell still runs?

    engine ──events(cursor)──► sampler thread ──► model ──frame──► browser (static/live.js and the view's own)
                                   ▲                                  │
                                   └──────────── credits ◄────────────┘

The main thread is busy with the user's cell, so a thread of its own asks the engine for new events,
at most 20 times a second and never for more than a fifth of its time. Each frame is the whole picture;
it costs one credit, and the browser gives credits back as it draws. Whether they arrive while a cell
runs depends on the kernel (ipykernel 7 hears comms on a subshell thread), so it is observed,
not assumed, and the view's corner says what was found:

    connecting ──credit on another thread──► subshell
        └───────credit on the main thread──► receive-only    frames go out by the clock, 10 a second

The thread ends when the runtime is shut down, the view closed, the cell interrupted, or nothing has
happened for a while; the next cell starts it again, and a new runtime is simply followed.

A view of its own (`TimelineView`, `ObjectStoreView`) gives the model and says how it is drawn.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import traitlets

from minray.base.events import Event, EventPage
from minray_widgets.picture import PicturedWidget, shell
from minray_widgets.svg import svg_as_html

_STATIC = Path(__file__).parent / "static"
_PERIOD_S = 0.05
_IDLE_PERIOD_S = 0.5
_RECEIVE_ONLY_PERIOD_S = 0.1
_HEARTBEAT_S = 1.0  # a frame goes out this often even without a credit, and while a task runs
_QUIET_S = 10.0  # in a notebook the thread ends after this long without news; the next cell starts it
_CREDITS = 8  # frames on their way: at 20 Hz the browser pays four at a time
_HISTORY_S = 3_600.0
_EVENTS_MAX = 200_000
_SHORT_PAST = 10_000  # events
_FLOOD = 5_000  # events: reading so many takes about a twentieth of a second
_FLOOD_PATIENCE_S = 3.0


class EventSource(Protocol):
    """What a view needs of an engine."""

    def events(self, cursor: int) -> EventPage:
        """The events after `cursor`."""

    def events_ahead(self, cursor: int) -> tuple[int, int]:
        """(the cursor of this moment, about how many events lie between)."""


def current_engine() -> EventSource | None:
    """This process's engine, None while minray is not initialised."""
    from minray.engine import seam

    return seam.current_or_none()


class LiveModel(Protocol):
    """What a view draws: events in, a table out. Not thread-safe, the view holds a lock."""

    origin_s: float
    revision: int  # changes when the table does
    lost_events: int

    def apply(self, events: Sequence[Event]) -> None:
        """Take in events, in any order."""

    def mark(self, time_s: float, label: str) -> None:
        """A cell began."""

    def runtime_ended(self, time_s: float) -> None:
        """The engine is gone."""

    def busy(self) -> bool:
        """Is something under way, so that the picture changes without an event?"""


def module_of(name: str) -> str:
    """The text of a view's ES module: what all views share, then its own. (A widget is one module; the
    parts share one scope.)"""
    return "".join((_STATIC / part).read_text(encoding="utf-8") for part in ("live.js", name))


class LiveView(PicturedWidget):
    """A view that follows an engine. Subclasses give the model and how it is drawn."""

    key = traitlets.Unicode().tag(sync=True)
    _status = "closed"  # until __init__ is through, there is nothing to close
    _thread_name = "minray-view"

    def __init__(self, *, history: bool, engine: Callable[[], EventSource | None]) -> None:
        self._lock = threading.RLock()  # the model, the cursor and the events
        self._send_lock = threading.Lock()  # one frame after the other
        self._find_engine = engine
        self._history = history
        self._begin_window()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._hidden = False
        self._mode = "connecting"
        self._credits = _CREDITS
        self._seq = 0
        self._sent_at_s = 0.0
        self._shell = shell()
        super().__init__(key=uuid.uuid4().hex)
        self.on_msg(self._heard)
        self._go_live()

    # --- what a subclass gives ------------------------------------------------------------------
    def _new_model(self, origin_s: float) -> LiveModel:
        raise TypeError(f"{type(self).__name__} has no model")

    def _frame(self, now_s: float, extra: dict[str, Any]) -> bytes:
        """The model as one message; `extra` joins its header. Called with the lock held."""
        raise TypeError(f"{type(self).__name__} has no frame")

    def _svg(self, width: int = 900) -> str:
        """The model as a picture. Called with the lock held."""
        raise TypeError(f"{type(self).__name__} has no picture")

    def _words(self) -> str:
        """The model in a sentence, for those who do not see the picture. Called with the lock held."""
        return repr(self)

    def _found(self, engine: EventSource) -> None:
        """A runtime was found, the first one or a new one."""

    # --- for readers ------------------------------------------------------------------------------
    @property
    def events(self) -> list[Event]:
        """The records that this view has seen, oldest first (the newest 200,000)."""
        self.refresh()
        with self._lock:
            return list(self._events)

    def snapshot(self, width: int = 900) -> str:
        """The picture now, as the text of an SVG."""
        self.refresh()
        with self._lock:
            return self._svg(width)

    def refresh(self) -> None:
        """Take in what the engine knows by now and draw it, without waiting for the thread."""
        if self._status == "live":
            self._sample()
            self._publish(force=True)

    def close(self) -> None:
        """Stop watching and remove the widget from the page."""
        self._stop("closed")
        self._status = "closed"
        super().close()

    def __enter__(self) -> Self:
        if self._status == "closed":
            raise RuntimeError("this view was closed: make a new one")
        if self._status == "done":  # the cell was run again: the view shows the new run
            self._begin_window()
            self._go_live()
        if self._shell is not None and not self._display_ids:
            self._ipython_display_()
        self._ensure_thread()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sample()
        self._stop("done")
        self.store_picture()

    def _begin_window(self) -> None:
        with self._lock:
            self._model = self._new_model(time.perf_counter() - (_HISTORY_S if self._history else 0.0))
            self._events: deque[Event] = deque(maxlen=_EVENTS_MAX)
            self._source: EventSource | None = None
            self._cursor = 0
            self._followed = False  # has a runtime been found already?
            self._sent_revision = -1
            self._last_end = 0
            self._flooded_since_s = 0.0

    def _go_live(self) -> None:
        self._status = "live"  # then "done" or "closed"
        if self._shell is not None:
            self._shell.events.register("pre_run_cell", self._cell_began)
            self._shell.events.register("post_run_cell", self._cell_ended)
            self._model.mark(time.perf_counter(), f"cell {self._shell.execution_count}")
        self._sample()  # now, not when the thread gets to it: this finds the place where reading begins
        self._ensure_thread()

    # --- what the notebook does -------------------------------------------------------------------
    def _cell_began(self, info: Any = None) -> None:
        with self._lock:
            if self._shell is not None:
                self._model.mark(time.perf_counter(), f"cell {self._shell.execution_count}")
        self._ensure_thread()

    def _cell_ended(self, result: Any = None) -> None:
        if self._hidden:
            return  # its output is gone: a cell that is run ten times leaves ten views behind
        self.refresh()
        self.store_picture()
        if isinstance(getattr(result, "error_in_exec", None), KeyboardInterrupt):
            self._end_thread()

    def _heard(self, _: Any, content: dict[str, Any], __: list[bytes]) -> None:
        """A message of the browser; on a subshell this runs beside the user's cell."""
        kind = content.get("kind")
        if kind == "credit":
            if threading.current_thread() is not threading.main_thread():
                self._mode = "subshell"
            elif self._mode == "connecting":
                self._mode = "receive-only"
            self._credits = min(_CREDITS, self._credits + int(content.get("count", 1)))
        elif kind == "hidden":
            self._hidden = True
        elif kind in ("hello", "shown"):
            self._hidden = False
            self._credits = _CREDITS
            self._publish(force=True)
            self._ensure_thread()

    def _stop(self, status: str) -> None:
        if self._status != "live":
            return
        self._status = status
        self._end_thread()
        if self._shell is not None:
            self._shell.events.unregister("pre_run_cell", self._cell_began)
            self._shell.events.unregister("post_run_cell", self._cell_ended)
        self._publish(force=True)

    # --- the thread -------------------------------------------------------------------------------
    def _ensure_thread(self) -> None:
        with self._lock:
            if self._status != "live" or self._hidden or self._thread is not None:
                return
            self._wake.clear()
            self._thread = threading.Thread(target=self._watch, name=self._thread_name, daemon=True)
            self._thread.start()

    def _end_thread(self) -> None:
        with self._lock:
            thread, self._thread = self._thread, None
            self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=2.0)

    def _watch(self) -> None:
        me = threading.current_thread()
        wake = self._wake
        news_at_s = time.perf_counter()
        while self._thread is me:
            began_s = time.perf_counter()
            if self._flooded(began_s):
                wake.wait(_PERIOD_S)
                continue
            if self._sample():
                news_at_s = began_s
            self._publish()
            now_s = time.perf_counter()
            quiet_s = now_s - news_at_s
            over = self._hidden or (quiet_s > _QUIET_S and not self._busy())
            # In a plain interpreter no cell would start the thread again: it waits, at 2 Hz.
            if over and self._shell is not None:
                break
            period_s = _PERIOD_S if quiet_s < 2.0 or self._busy() else _IDLE_PERIOD_S
            # At most a fifth of the time: watching must not slow down what is watched.
            wake.wait(max(period_s - (now_s - began_s), 4 * (now_s - began_s)))
        with self._lock:
            if self._thread is me:
                self._thread = None

    def _flooded(self, now_s: float) -> bool:
        """Do events pour in faster than anybody could draw them? Then reading waits for a pause.

        Reading and placing the events of a tiny task takes longer than running it; done while the
        flood lasts, it would slow down what it shows. The end of the cell reads everything anyway.
        """
        with self._lock:
            engine = self._source
            if engine is None:
                return False
            end, waiting = engine.events_ahead(self._cursor)
            grows, self._last_end = end != self._last_end, end
            if waiting < _FLOOD or not grows:
                self._flooded_since_s = 0.0
                return False
            self._flooded_since_s = self._flooded_since_s or now_s
            return now_s - self._flooded_since_s < _FLOOD_PATIENCE_S

    def _busy(self) -> bool:
        with self._lock:
            return self._source is not None and self._model.busy()

    def _sample(self) -> bool:
        """Read the engine's new events into the model. Returns: was there anything new?"""
        with self._lock:
            engine = self._find_engine()
            before = self._model.revision
            if engine is not self._source:
                if self._source is not None:
                    # The runtime that we knew is gone; what it still tells is the end of the story.
                    try:
                        self._take(self._source.events(self._cursor))
                    except Exception:  # a closed engine may refuse in its own way: its story is then over
                        pass
                    self._model.runtime_ended(time.perf_counter())
                self._source, self._cursor = engine, self._first_cursor(engine)
                if engine is not None:
                    self._found(engine)
            if engine is not None:
                try:
                    self._take(engine.events(self._cursor))
                except Exception:  # it is being shut down just now; the next round sees it gone
                    pass
            return self._model.revision != before

    def _first_cursor(self, engine: EventSource | None) -> int:
        """Where to begin to read: a runtime older than this view may have a long past."""
        if engine is None or self._history or self._followed:
            return 0
        self._followed = True
        end, waiting = engine.events_ahead(0)
        # A short past is read all the same, for the names of tasks that are still on their way.
        return end if waiting > _SHORT_PAST else 0

    def _take(self, page: EventPage) -> None:
        self._cursor = page.cursor
        if self._events or self._history:
            self._model.lost_events += page.lost
        fresh = [event for event in page.events if event.time_s >= self._model.origin_s]
        self._events.extend(fresh)
        self._model.apply(page.events)

    # --- to the browser ---------------------------------------------------------------------------
    def _publish(self, force: bool = False) -> None:
        """Send a frame if there is something new and the browser can take it."""
        with self._send_lock:
            now_s = time.perf_counter()
            since_s = now_s - self._sent_at_s
            changed = self._model.revision != self._sent_revision
            if not force:
                if not changed and not (self._busy() and since_s >= _HEARTBEAT_S / 2):
                    return
                if self._mode == "receive-only":
                    allowed = since_s >= _RECEIVE_ONLY_PERIOD_S
                else:
                    allowed = self._credits > 0 or since_s >= _HEARTBEAT_S
                if not allowed:
                    return
            with self._lock:
                self._sent_revision = self._model.revision
                self._seq += 1
                extra = {"seq": self._seq, "mode": self._mode, "status": self._status}
                frame = self._frame(now_s, extra)
            self._sent_at_s = now_s
            self._credits = max(0, self._credits - 1)
            if self.comm is not None:
                self.send({"kind": "frame"}, [frame])

    def _picture(self) -> str:
        with self._lock:
            return svg_as_html(self._svg(), self._words())
