"""What do you think will happen? Asked before the cell runs, answered over the prediction after it.

    prediction = PredictView("Which one ends first?", options=["slow", "quick"])   # the reader commits
    with TimelineView() as view:
        ...
    prediction.reveal(view.spans()[0].name, "The scheduler takes them in order.")  # what happened
    prediction.check(view)      # or: let `measure` read it off the run

The rules are in `prediction`. Without a browser, `prediction.answer = "quick"` commits from code. A
reader who did not predict is told what happened all the same: nothing here stops a notebook that runs
from top to bottom.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import traitlets

from minray_widgets.picture import PicturedWidget, shell
from minray_widgets.prediction import KINDS, Verdict, checked_answer, judge, told

_STATIC = Path(__file__).parent / "static"


class PredictView(PicturedWidget):
    """One question, one committed answer, then the truth.

    Args:
        question: what will happen?
        options: the choices, or the things to put in order. None asks for a number.
        kind: "choice", "ordering" or "number"; by default a choice among options, else a number.
        unit: of a number: "s", "workers", ...
        low: of a number, where the slider begins.
        high: of a number, where it ends.
        tolerance: a number is right within this share of the actual value.
        measure: reads the actual value off what `check` is given.
        explanation: shown with the answer.
    """

    _esm = _STATIC / "predict.js"
    _css = _STATIC / "predict.css"
    # What the browser shows. Only `draft` and `committed` are written by it.
    state = traitlets.Dict().tag(sync=True)
    draft = traitlets.Any(None, allow_none=True).tag(sync=True)
    committed = traitlets.Bool(False).tag(sync=True)
    _shell: Any = None

    def __init__(
        self,
        question: str,
        options: Sequence[str] | None = None,
        *,
        kind: str | None = None,
        unit: str = "",
        low: float = 0.0,
        high: float = 10.0,
        tolerance: float = 0.2,
        measure: Callable[[Any], Any] | None = None,
        explanation: str = "",
    ) -> None:
        kind = kind or ("choice" if options else "number")
        if kind not in KINDS:
            raise ValueError(f"kind={kind!r} is not one of {KINDS}")
        if (kind != "number") != bool(options):
            raise ValueError(f"kind={kind!r} {'needs options' if kind != 'number' else 'has no options'}")
        if high <= low:
            raise ValueError(f"high={high} must be above low={low}")
        self._question, self._kind, self._unit, self._tolerance = question, kind, unit, tolerance
        self._options = [str(option) for option in options or ()]
        self._limits = (low, high)
        self._measure, self._explanation = measure, explanation
        self._locked: Any = None
        self._actual: Any = None
        self._verdict: Verdict | None = None
        super().__init__(state=self._browser_state())
        self.observe(self._browser_committed, "committed")
        self._shell = shell()
        if self._shell is not None:
            self._shell.events.register("post_run_cell", self._cell_ended)

    # --- for readers and for code -------------------------------------------------------------
    @property
    def answer(self) -> Any:
        """The committed prediction, None before. Setting it commits.

        Raises: ValueError if it is no answer to the question, RuntimeError if one was committed already.
        """
        return self._locked

    @answer.setter
    def answer(self, value: Any) -> None:
        value = checked_answer(self._kind, value, self._options)
        if self._verdict is not None:
            raise RuntimeError("what happened is known already: it cannot be predicted any more")
        if self._locked is not None and value != self._locked:
            raise RuntimeError(f"{told(self._kind, self._locked, self._unit)} was committed already")
        self._locked = value
        self.draft = value
        self.committed = True
        self.state = self._browser_state()

    @property
    def correct(self) -> bool | None:
        """Was it right? None before the answer is revealed, and if nothing was predicted."""
        score = self.score
        return None if score is None else score == 1.0

    @property
    def score(self) -> float | None:
        """0.0 to 1.0: the share of an order's pairs that are right; 0 or 1 for the other kinds."""
        return None if self._verdict is None else self._verdict.score

    def reveal(self, actual: Any, explanation: str = "") -> Verdict:
        """Draw what happened over the prediction.

        Raises: ValueError if `actual` could not have been an answer.
        """
        self._actual = checked_answer(self._kind, actual, self._options)
        self._verdict = judge(self._kind, self._locked, self._actual, self._tolerance, self._unit)
        self._explanation = explanation or self._explanation
        self.state = self._browser_state()
        self.store_picture()
        return self._verdict

    def check(self, run: Any) -> Verdict:
        """Reveal what `measure` reads off a run: a view, a trace, whatever it was written for."""
        if self._measure is None:
            raise ValueError("this prediction has no `measure`: call reveal(actual)")
        return self.reveal(self._measure(run))

    # --- the browser --------------------------------------------------------------------------
    def _browser_committed(self, change: Any) -> None:
        if not change["new"] or self._locked is not None:
            return
        try:
            self.answer = self.draft
        except (ValueError, RuntimeError):  # a page out of date, or a foreign one: let it choose again
            self.committed = False
            self.state = self._browser_state()

    def _browser_state(self) -> dict[str, Any]:
        verdict = self._verdict
        return {
            "question": self._question,
            "kind": self._kind,
            "options": self._options,
            "unit": self._unit,
            "low": self._limits[0],
            "high": self._limits[1],
            "answer": self._locked,
            "revealed": verdict is not None,
            "actual": self._actual,
            "score": None if verdict is None else verdict.score,
            "words": "" if verdict is None else verdict.words,
            "explanation": self._explanation if verdict is not None else "",
        }

    def _cell_ended(self, result: Any = None) -> None:
        self.store_picture()

    def close(self) -> None:
        """Remove the widget from the page."""
        if self._shell is not None:
            self._shell.events.unregister("post_run_cell", self._cell_ended)
            self._shell = None
        super().close()

    def _picture_version(self) -> tuple[str, bool]:
        return (str(self._locked), self._verdict is not None)

    def _picture(self) -> str:
        lines = [f"<p><strong>Predict:</strong> {escape(self._question)}</p>"]
        if self._options:
            lines.append(
                "<ul>" + "".join(f"<li>{escape(o)}{self._mark(o)}</li>" for o in self._options) + "</ul>"
            )
        if self._locked is not None:
            lines.append(f"<p>Predicted: {escape(told(self._kind, self._locked, self._unit))}</p>")
        if self._verdict is not None:
            lines.append(f"<p>{escape(self._verdict.words)} {escape(self._explanation)}</p>")
        return f"<div>{''.join(lines)}</div>"

    def _mark(self, option: str) -> str:
        if self._kind != "choice":
            return ""
        marks = [
            *(["predicted"] if option == self._locked else []),
            *(["happened"] if self._verdict is not None and option == self._actual else []),
        ]
        return f" <em>({', '.join(marks)})</em>" if marks else ""
