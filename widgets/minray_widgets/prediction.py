"""Was the prediction right? The rules of a prediction, without a widget.

    open ──answer──► open ──commit──► committed ──reveal──► revealed
      └───────────────reveal (nothing was predicted)───────────┘

An answer is checked when it is given, may change until it is committed, and never after: a reader who
sees what happened cannot have predicted it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

KINDS = ("choice", "number", "ordering")


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a prediction compares with what happened. score: 0.0 to 1.0, None if nothing was predicted."""

    score: float | None
    words: str


def checked_answer(kind: str, answer: Any, options: Sequence[str]) -> Any:
    """The answer in its normal form.

    Raises: ValueError that says what an answer of this kind looks like.
    """
    if kind == "number":
        if isinstance(answer, bool) or not isinstance(answer, int | float) or not math.isfinite(answer):
            raise ValueError(f"{answer!r} is no answer here: give a number")
        return float(answer)
    if kind == "choice":
        if answer not in options:
            raise ValueError(f"{answer!r} is not among the choices {list(options)}")
        return answer
    given = list(answer) if isinstance(answer, list | tuple) else answer
    if not isinstance(given, list) or sorted(map(str, given)) != sorted(options):
        raise ValueError(f"{answer!r} is not an order of {list(options)}: name each exactly once")
    return [str(item) for item in given]


def judge(kind: str, answer: Any, actual: Any, tolerance: float, unit: str = "") -> Verdict:
    """Compare. Numbers are right within `tolerance` (a share of the actual value)."""
    if answer is None:
        return Verdict(None, f"Nothing was predicted. It was {told(kind, actual, unit)}.")
    if kind == "number":
        miss = abs(answer - actual)
        allowed = abs(actual) * tolerance
        if miss <= allowed:
            return Verdict(1.0, f"Right: it was {told(kind, actual, unit)}.")
        times = f", {answer / actual:.1f} times as much" if actual and answer / actual >= 2 else ""
        return Verdict(
            0.0, f"It was {told(kind, actual, unit)}; predicted was {told(kind, answer, unit)}{times}."
        )
    if kind == "choice":
        if answer == actual:
            return Verdict(1.0, f"Right: {actual}.")
        return Verdict(0.0, f"It was {actual}, not {answer}.")
    pairs = [(a, b) for i, a in enumerate(actual) for b in actual[i + 1 :]]
    kept = sum(answer.index(a) < answer.index(b) for a, b in pairs)
    score = kept / len(pairs) if pairs else 1.0
    if score == 1.0:
        return Verdict(1.0, f"Right: {told(kind, actual)}.")
    return Verdict(score, f"It was {told(kind, actual)}; {kept} of {len(pairs)} pairs were in this order.")


def told(kind: str, value: Any, unit: str = "") -> str:
    """A value in words."""
    if kind == "number":
        return f"{value:.3g}{' ' if unit else ''}{unit}"
    return ", then ".join(value) if kind == "ordering" else str(value)
