"""Is a result a number to nbgrader, and a card that says no more than it should?"""

from __future__ import annotations

import pickle

from minray.grading.card import Score, html_card, plain_card
from minray.grading.exercise import CaseResult, Report

HALF = Report(
    "e",
    "Sum <it> up",
    (
        CaseResult("is right", True, 1.5, ""),
        CaseResult("is fast", False, 1, "2 < 3"),
        CaseResult("is traced", None, 1, ""),
    ),
    ("think", "think harder"),
)
FULL = Report("e", "Sum it up", (CaseResult("is right", True, 2, ""),), ("think",))


def test_a_score_is_a_float_whose_repr_is_the_number() -> None:
    assert (float(Score(HALF)), repr(Score(HALF)), str(Score(FULL))) == (1.5, "1.5", "2")


def test_nbgrader_reads_the_number_that_ipython_prints() -> None:
    from IPython.core.interactiveshell import InteractiveShell

    data, _ = InteractiveShell().display_formatter.format(Score(HALF))
    assert float(data["text/plain"]) == 1.5
    assert "Sum &lt;it&gt; up" in data["text/html"]


def test_a_score_survives_pickling() -> None:
    assert pickle.loads(pickle.dumps(Score(HALF))).report == HALF


def test_the_terminal_card_has_a_line_for_each_case_and_the_first_hint_only() -> None:
    assert plain_card(HALF).splitlines() == [
        "Sum <it> up: 1.5 of 3.5",
        "  ✔ is right",
        "  ✘ is fast: 2 < 3",
        "  – is traced",
        "  hint: think",
    ]


def test_the_stronger_hint_lies_inside_the_first() -> None:
    html = html_card(HALF)
    assert html.count("<details") == 2 and html.index("think<details") < html.index("think harder")


def test_a_solved_exercise_shows_no_hint() -> None:
    assert "<details" not in html_card(FULL) and "hint" not in plain_card(FULL)


def test_what_a_student_prints_cannot_become_markup() -> None:
    evil = Report("e", "t", (CaseResult("c", False, 1, "<script>alert(1)</script>"),))
    assert "<script>" not in html_card(evil)


def test_the_card_is_the_same_every_time() -> None:
    assert html_card(HALF) == html_card(Report(HALF.exercise, HALF.title, HALF.cases, HALF.hints))
