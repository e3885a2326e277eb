"""How does a result look: a number to nbgrader, a card in Jupyter, text in a terminal?

`Score` is a float whose `repr` is the number, because nbgrader reads a test cell's points from the
`text/plain` of its last value. Beside it travels `text/html`: the card. Both hold no time, id or
address, so a notebook's stored output can be compared with a fresh one.
"""

from __future__ import annotations

from html import escape
from typing import Self

from minray.grading.exercise import CaseResult, Report

_MARKS = {True: "✔", False: "✘", None: "–"}
_COLOURS = {True: "#1a7f37", False: "#cf222e", None: "#6e7781"}


class Score(float):
    """The points of one check. In Jupyter it draws itself as a card; `print(score.card)` in a terminal."""

    report: Report

    def __new__(cls, report: Report) -> Self:
        """A score of `report.score` points."""
        score = super().__new__(cls, report.score)
        score.report = report
        return score

    def __repr__(self) -> str:
        return number(self.report.score)

    __str__ = __repr__

    def __reduce__(self) -> tuple[type[Score], tuple[Report]]:
        return Score, (self.report,)

    def _repr_html_(self) -> str:
        return html_card(self.report)

    @property
    def card(self) -> str:
        """The card as text."""
        return plain_card(self.report)


def number(value: float) -> str:
    """3.0 as "3", 2.5 as "2.5"."""
    return f"{value:g}"


def plain_card(report: Report) -> str:
    """The card for a terminal: a headline, a line for each case, the first hint."""
    lines = [f"{report.title}: {number(report.score)} of {number(report.points)}"]
    for case in report.cases:
        reason = f": {case.message}" if case.message else ""
        lines.append(f"  {_MARKS[case.passed]} {case.title}{reason}")
    if not report.solved and report.hints:
        lines.append(f"  hint: {report.hints[0]}")
    return "\n".join(lines)


def html_card(report: Report) -> str:
    """The card for Jupyter. It carries its own colours: no style sheet, no script, no network."""
    solved = report.solved
    share = 100 * report.score / report.points if report.points else 100
    edge = _COLOURS[True] if solved else _COLOURS[False]
    cases = "".join(_html_case(case) for case in report.cases)
    hints = "" if solved else _html_hints(report.hints)
    return (
        f'<div class="minray-card" style="border:1px solid #8885;border-left:5px solid {edge};'
        "border-radius:6px;padding:10px 14px;margin:4px 0;max-width:46em;"
        'font-family:system-ui,sans-serif;font-size:14px">'
        '<div style="display:flex;justify-content:space-between;align-items:baseline">'
        f"<b>{escape(report.title)}</b>"
        f'<span style="font-variant-numeric:tabular-nums"><b>{number(report.score)}</b>'
        f" of {number(report.points)} points</span></div>"
        '<div style="height:4px;background:#8883;border-radius:2px;margin:6px 0">'
        f'<div style="height:4px;border-radius:2px;width:{share:.0f}%;background:{edge}"></div></div>'
        f'<ul style="list-style:none;margin:0;padding:0">{cases}</ul>{hints}</div>'
    )


def _html_case(case: CaseResult) -> str:
    reason = ""
    if case.message:
        reason = f'<div style="margin-left:1.6em;opacity:.75">{escape(case.message)}</div>'
    mark = (
        f'<b style="color:{_COLOURS[case.passed]};display:inline-block;width:1.6em">{_MARKS[case.passed]}</b>'
    )
    return f'<li style="margin:2px 0">{mark}{escape(case.title)}{reason}</li>'


def _html_hints(hints: tuple[str, ...]) -> str:
    """Each hint inside the one before it: the stronger one costs another click."""
    inner = ""
    for position in range(len(hints) - 1, -1, -1):
        label = "Hint" if position == 0 else "A stronger hint"
        inner = (
            f'<details style="margin-top:6px"><summary style="cursor:pointer">{label}</summary>'
            f'<div style="margin:4px 0 0 1.6em">{escape(hints[position])}{inner}</div></details>'
        )
    return inner
