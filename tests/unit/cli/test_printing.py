"""What a command prints is read by people, by pipes and by programs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minray.cli.observing import parsed_filter, resource_named
from minray.cli.printing import age, cell, plain_table, print_rows, size, to_json, to_yaml


def test_in_a_pipe_columns_stand_side_by_side_and_nothing_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 300
    print_rows([{"a": 1, "b": long}, {"a": None, "b": "y\nz"}], ["a", "b"], "two")
    assert capsys.readouterr().out.splitlines() == ["two", "A  B", f"1  {long}", "-  y z"]
    assert plain_table([["a", "b"], ["ccc", "d"]]) == ["a    b", "ccc  d"]


def test_cells_say_it_shortly() -> None:
    assert [cell(value) for value in (None, {}, {"CPU": 2.0}, [1, "b"], True)] == [
        "-",
        "-",
        "CPU: 2",
        "1, b",
        "True",
    ]


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(_VALUES)
@settings(max_examples=30, deadline=None)
def test_our_yaml_is_read_back_as_it_was(value: Any) -> None:
    yaml = pytest.importorskip("yaml")
    assert _close(yaml.safe_load(to_yaml(value)), value)


def _close(read: Any, written: Any) -> bool:
    if isinstance(written, float):
        return float(read) == written  # PyYAML reads 1e+16 as text
    if isinstance(written, dict):
        return read.keys() == written.keys() and all(_close(read[key], written[key]) for key in written)
    if isinstance(written, list):
        return len(read) == len(written) and all(map(_close, read, written))
    return bool(read == written)


def test_json_is_json() -> None:
    assert json.loads(to_json([{"a": 1.5, "b": None}])) == [{"a": 1.5, "b": None}]


def test_sizes_and_ages_have_units() -> None:
    assert [size(count) for count in (5, 2_500, 3e6, 4e9)] == ["5 B", "2.5 KB", "3.0 MB", "4.0 GB"]
    assert size(2_500_000, "MB") == "2.500 MB" and size(7, "B") == "7 B"
    assert [age(seconds) for seconds in (3.21, 75, 7260)] == ["3.2 s", "1 min 15 s", "2 h 1 min"]


def test_filters_are_written_as_in_ray() -> None:
    assert parsed_filter("state=RUNNING") == ("state", "=", "RUNNING")
    assert parsed_filter("state!=RUNNING") == ("state", "!=", "RUNNING")
    assert parsed_filter(' name = "a=b" ') == ("name", "=", "a=b")
    for bad in ("state", "=x", ""):
        with pytest.raises(ValueError, match="neither key=value"):
            parsed_filter(bad)


def test_resources_may_be_named_in_the_singular_and_with_dashes() -> None:
    assert resource_named("placement-groups") is resource_named("placement_group")
    assert resource_named("Task").value == "tasks"
    with pytest.raises(ValueError, match="there are: actors"):
        resource_named("foos")
