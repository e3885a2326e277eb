"""Is a prediction made before the fact, and judged fairly?"""

from __future__ import annotations

import pytest

from minray_widgets.prediction import judge

pytest.importorskip("anywidget", reason="the lab extra is not installed")

from minray_widgets import PredictView


def test_an_order_earns_its_right_pairs() -> None:
    verdict = judge("ordering", ["b", "a", "c"], ["a", "b", "c"], 0.2)
    assert verdict.score == pytest.approx(2 / 3) and "2 of 3 pairs" in verdict.words


def test_a_number_is_right_within_its_tolerance() -> None:
    assert judge("number", 1.1, 1.0, 0.2, "s").score == 1.0
    wrong = judge("number", 4.0, 1.0, 0.2, "s")
    assert wrong.score == 0.0 and wrong.words == "It was 1 s; predicted was 4 s, 4.0 times as much."


def test_nothing_predicted_is_not_wrong() -> None:
    assert judge("choice", None, "a", 0.2).score is None


def test_an_answer_from_code_commits() -> None:
    view = PredictView("Which?", options=["a", "b"])
    view.answer = "a"
    assert view.committed and view.answer == "a" and view.correct is None
    assert view.reveal("b").score == 0.0 and view.correct is False


def test_a_committed_answer_cannot_change() -> None:
    view = PredictView("Which?", options=["a", "b"])
    view.answer = "a"
    view.answer = "a"  # the same cell run again
    with pytest.raises(RuntimeError, match="committed already"):
        view.answer = "b"


def test_what_is_known_cannot_be_predicted() -> None:
    view = PredictView("How long?", unit="s")
    view.reveal(2)
    with pytest.raises(RuntimeError, match="known already"):
        view.answer = 2
    assert view.correct is None


@pytest.mark.parametrize(
    ("options", "kind", "answer"),
    [(["a", "b"], None, "c"), (["a", "b"], "ordering", ["a", "a"]), (None, None, "soon"), (None, None, True)],
)
def test_what_is_no_answer_is_refused(options, kind, answer) -> None:
    view = PredictView("?", options=options, kind=kind)
    with pytest.raises(ValueError, match="no answer|not among|no order|is not an order"):
        view.answer = answer


def test_the_browsers_commit_is_the_answer() -> None:
    view = PredictView("In which order?", options=["a", "b"], kind="ordering")
    view.set_state({"draft": ["b", "a"], "committed": True})
    assert view.answer == ["b", "a"]


def test_a_browser_that_commits_nonsense_may_choose_again() -> None:
    view = PredictView("Which?", options=["a", "b"])
    view.set_state({"draft": "x", "committed": True})
    assert view.answer is None and view.committed is False


def test_check_reads_the_actual_value_off_the_run() -> None:
    view = PredictView("How many?", unit="workers", measure=lambda run: len(set(run)))
    view.answer = 2
    assert view.check(["w1", "w2", "w1"]).score == 1.0


def test_a_question_must_fit_its_kind() -> None:
    with pytest.raises(ValueError, match="needs options"):
        PredictView("?", kind="ordering")
    with pytest.raises(ValueError, match="has no options"):
        PredictView("?", options=["a"], kind="number")
    with pytest.raises(ValueError, match="not one of"):
        PredictView("?", kind="guess")


def test_the_picture_says_what_was_predicted_and_what_happened() -> None:
    view = PredictView("<b>Which</b>?", options=["a", "b"])
    view.answer = "a"
    view.reveal("b", "It is shorter.")
    html = view._repr_mimebundle_()["text/html"]
    assert "&lt;b&gt;Which" in html and "a <em>(predicted)</em>" in html and "b <em>(happened)</em>" in html
    assert "It is shorter." in html and repr(view) == "<PredictView>"
