"""Are ratios pairwise, rounds interleaved, and are children that fail told and stopped?"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from minray.bench import race, workload
from minray.bench.race import Contender, Standing, contenders, missing_runtime, ratio


def standing(name: str, rounds: list[dict[str, float]]) -> Standing:
    return Standing(Contender(name, name, sys.executable, frozenset(workload.BY_KEY)), rounds)


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    # The second round ran on a machine ten times slower: medians of figures would mix the rounds.
    ours = standing("minray", [{"tasks_sync": 100.0}, {"tasks_sync": 10.0}, {"tasks_sync": 100.0}])
    theirs = standing("ray", [{"tasks_sync": 10.0}, {"tasks_sync": 1.0}, {"tasks_sync": 50.0}])
    assert ratio(ours, theirs, "tasks_sync") == 10.0


def test_a_ratio_above_one_means_better_where_less_is_better() -> None:
    assert ratio(standing("minray", [{"init": 100.0}]), standing("ray", [{"init": 3000.0}]), "init") == 30.0


def test_rounds_without_a_figure_take_no_part() -> None:
    ours = standing("minray", [{}, {"tasks_sync": 8.0}])
    theirs = standing("ray", [{"tasks_sync": 1.0}, {"tasks_sync": 4.0}])
    assert ratio(ours, theirs, "tasks_sync") == 2.0
    assert ratio(ours, theirs, "init") is None
    assert ours.median("tasks_sync") == 8.0


def test_pools_measure_only_what_pools_have() -> None:
    field = contenders(
        ["joblib"], {"joblib": "/j/python"}, frozenset({"tasks_sync", "actor_sync"}), with_untraced=True
    )
    by_name = {c.name: c for c in field}
    assert by_name["joblib"].keys == {"tasks_sync"}
    assert by_name["joblib"].python == "/j/python"
    assert by_name["minray"].keys == {"tasks_sync", "actor_sync"}
    assert by_name[race.UNTRACED].environment["MINRAY_TRACING"] == "0"


def test_untraced_minray_runs_only_when_a_traced_line_is_wanted() -> None:
    field = contenders([], {}, frozenset({"get_small"}), with_untraced=True)
    assert [c.name for c in field] == ["minray"]


def test_every_other_round_runs_backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def child(contender: Contender, *_: object) -> tuple[dict[str, object], dict[str, float], dict[str, str]]:
        order.append(contender.name)
        return {"version": "1"}, {"init": 1.0}, {}

    monkeypatch.setattr(race, "run_child", child)
    field = [standing("minray", []).contender, standing("ray", []).contender]
    standings = race.race(field, 3, 0.1, None, lambda *_: None)
    assert order == ["minray", "ray", "ray", "minray", "minray", "ray"]
    assert [len(s.rounds) for s in standings] == [3, 3]


def test_a_child_that_dies_keeps_its_figures_and_tells_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "workload.py"
    program.write_text(
        "import sys\n"
        'print(\'{"runtime": "ray", "version": "9", "python": "3"}\')\n'
        'print("(raylet) a warning between our lines")\n'
        'print(\'{"key": "init", "value": 2.5}\', flush=True)\n'
        'print(\'{"key": "tasks_sync", "error": "no such thing"}\', flush=True)\n'
        'sys.exit("it broke")\n'
    )
    monkeypatch.setattr(race, "WORKLOAD", program)
    heard: list[tuple[str, float]] = []
    about, figures, errors = race.run_child(
        standing("ray", []).contender, 0.1, 2, lambda key, value: heard.append((key, value))
    )
    assert about["version"] == "9"
    assert figures == {"init": 2.5}
    assert heard == [("init", 2.5)]
    assert errors["tasks_sync"] == "no such thing"
    assert "it broke" in errors[""]


def test_a_missing_runtime_is_told_before_the_first_round() -> None:
    assert missing_runtime(Contender("x", "multiprocessing", "/no/python", frozenset())) is None
    reason = missing_runtime(Contender("ray", "ray", "/no/such/python", frozenset()))
    assert reason is not None
    assert "/no/such/python" in reason


def test_the_pools_of_the_standard_library_measure_every_line_they_promise() -> None:
    keys = workload.POOL_KEYS - {"fan_10k", "idle_pss", "idle_cpu"}
    about, figures, errors = race.run_child(
        Contender("multiprocessing", "multiprocessing", sys.executable, keys), 0.01, 1, lambda *_: None
    )
    assert errors == {}
    assert figures.keys() == keys
    assert all(value > 0 for value in figures.values())
    assert about["runtime"] == "multiprocessing"
