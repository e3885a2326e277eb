"""Does the table show every figure, goals only beside real Ray, and failures in words?"""

from __future__ import annotations

import argparse
import json
import sys

import pytest

from minray.bench import report, workload
from minray.bench.race import TRACED, UNTRACED, Contender, Standing
from minray.cli import microbenchmark


def standing(name: str, figures: dict[str, float], errors: dict[str, str] | None = None) -> Standing:
    contender = Contender(name, name, sys.executable, frozenset(workload.BY_KEY))
    return Standing(contender, [figures], errors or {}, "1.0", "3.11")


def test_rows_hold_figures_ratios_and_goals() -> None:
    ours = standing("minray", {"tasks_sync": 12_500.0, "init": 90.0})
    header, rows = report.table_rows([ours, standing("ray", {"tasks_sync": 500.0, "init": 3600.0})])
    assert header == ["", "unit", "minray", "ray", "×", "goal", ""]
    by_title = {row[0]: row for row in rows}
    assert by_title["tasks sync"] == ["tasks sync", "/s", "12,500", "500", "25", "20 ×", "yes"]
    assert by_title["init"][2:] == ["90", "3,600", "40", "≤ 250 ms", "yes"]


def test_a_missed_goal_is_shouted() -> None:
    ours, ray = standing("minray", {"tasks_sync": 1000.0}), standing("ray", {"tasks_sync": 500.0})
    assert report.table_rows([ours, ray])[1][0][-1] == "NO"


def test_goals_are_silent_without_real_ray() -> None:
    header, _ = report.table_rows(
        [standing("minray", {"tasks_sync": 1.0}), standing("joblib", {"tasks_sync": 2.0})]
    )
    assert "goal" not in header


def test_the_foot_tells_tracing_memcpy_and_errors() -> None:
    ours = standing(
        "minray", {"tasks_sync": 95.0, "put_large": 4.5, "memcpy": 5.0}, {"wait_1k": "TypeError: x"}
    )
    notes = "\n".join(
        report.footnotes(
            [ours, standing(TRACED, {"tasks_sync": 95.0}), standing(UNTRACED, {"tasks_sync": 100.0})]
        )
    )
    assert "tasks sync +5.0%" in notes
    assert "0.90 × a bare memcpy" in notes
    assert "wait on 1k refs, one by one: TypeError: x" in notes


def test_json_holds_every_round() -> None:
    told = report.as_json([standing("minray", {"get_small": 3.0}), standing("ray", {"get_small": 1.0})])
    (line,) = json.loads(json.dumps(told))["lines"]
    assert line["minray"] == {"median": 3.0, "rounds": [3.0]}
    assert line["ratio to ray"] == 3.0


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (1342.4, "1,342"), (214_321.0, "214k"), (0.6263, "0.626")]
)
def test_figures_are_short(value: float | None, text: str) -> None:
    assert report.figure(value) == text


def test_goals_name_lines_that_exist() -> None:
    assert set(report.GOALS) <= set(workload.BY_KEY)
    assert set(workload.POOL_KEYS) <= set(workload.BY_KEY)


def test_patterns_match_keys_and_titles() -> None:
    assert microbenchmark.wanted_lines("wait_1k") == {"wait_1k"}
    assert microbenchmark.wanted_lines("tasks*") == {"tasks_sync", "tasks_async", "tasks_multi"}
    with pytest.raises(ValueError, match="no line"):
        microbenchmark.wanted_lines("nothing-like-it")


def test_wrong_pairs_and_peers_are_refused_by_name() -> None:
    assert microbenchmark.interpreters(["ray=/r/python"]) == {"ray": "/r/python"}
    with pytest.raises(ValueError, match="NAME=PATH"):
        microbenchmark.interpreters(["ray"])
    with pytest.raises(ValueError, match="celery"):
        microbenchmark.peers_of("ray,celery")


def test_help_has_examples() -> None:
    parser = argparse.ArgumentParser(prog="minray microbenchmark")
    microbenchmark.add_arguments(parser)
    assert "--against ray --python ray=" in parser.format_help()
