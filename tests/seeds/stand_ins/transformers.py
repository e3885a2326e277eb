"""Stands in for transformers: its pipelines load their models from the network."""

from __future__ import annotations

from collections.abc import Callable


def pipeline(task: str, model: str | None = None) -> Callable[[str], list[dict[str, object]]]:
    assert task == "sentiment-analysis"

    def classify(text: str) -> list[dict[str, object]]:
        bad = any(word in text.lower() for word in ("terrible", "bad"))
        return [{"label": "NEGATIVE" if bad else "POSITIVE", "score": 0.99}]

    return classify
