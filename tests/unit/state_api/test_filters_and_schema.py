"""Filters let through what Ray's let through, and rows are objects and mappings at once."""

from __future__ import annotations

import warnings

import pytest

from minray.state_api.filters import matching
from minray.state_api.schema import (
    ActorState,
    Humanify,
    ListApiOptions,
    NodeState,
    ObjectState,
    TaskState,
    WorkerState,
)

ROWS = [
    {"state": "RUNNING", "name": "f", "worker_pid": 12},
    {"state": "FINISHED", "name": "g", "worker_pid": None},
]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ([], ["f", "g"]),
        ([("state", "=", "RUNNING")], ["f"]),
        ([("state", "=", "running")], ["f"]),
        ([("STATE", "!=", "RUNNING")], ["g"]),
        ([("worker_pid", "=", "12")], ["f"]),
        ([("worker_pid", "=", 12)], ["f"]),
        ([("worker_pid", "!=", 12)], ["g"]),
        ([("state", "=", "RUNNING"), ("name", "=", "g")], []),
        ([("error_type", "=", "x")], []),
        ([("actor_id", "=", None)], ["f", "g"]),
    ],
)
def test_a_filter_lets_through_what_it_says(filters: list[tuple[str, str, object]], names: list[str]) -> None:
    assert [row["name"] for row in matching(ROWS, filters, TaskState)] == names


def test_text_is_converted_to_the_type_of_its_column() -> None:
    rows = [{"is_alive": True}, {"is_alive": False}]
    for text, alive in (("True", True), ("true", True), ("1", True), ("False", False), ("0", False)):
        assert matching(rows, [("is_alive", "=", text)], WorkerState) == [{"is_alive": alive}]
    with pytest.raises(ValueError, match="Failed to convert a value maybe"):
        matching(rows, [("is_alive", "=", "maybe")], WorkerState)
    with pytest.raises(ValueError, match="Failed to convert a value abc"):
        matching(ROWS, [("worker_pid", "=", "abc")], TaskState)


def test_a_column_that_cannot_be_filtered_is_named_with_those_that_can() -> None:
    with pytest.raises(ValueError, match="statez is not supported.*'state'"):
        matching(ROWS, [("statez", "=", "x")], TaskState)
    with pytest.raises(ValueError, match="labels is not supported"):
        matching([], [("labels", "=", "x")], NodeState)


@pytest.mark.parametrize("bad", [("state", ">", "x"), ("state", "="), ("state", "=", "x", "y"), "state=x"])
def test_a_filter_that_is_none_is_refused_at_once(bad: object) -> None:
    with pytest.raises(ValueError, match="filter"):
        ListApiOptions(filters=[bad])  # type: ignore[list-item]


def test_filters_that_exclude_each_other_warn_and_match_nothing() -> None:
    options = ListApiOptions(filters=[("state", "=", "a"), ("state", "=", "b")])
    with pytest.warns(UserWarning, match="multiple '=' filters"):
        assert options.has_conflicting_filters()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not ListApiOptions(filters=[("a", "=", 1), ("a", "=", 1)]).has_conflicting_filters()


def test_a_row_is_an_object_and_a_mapping() -> None:
    row = ActorState(actor_id="a", state="ALIVE")
    assert row.state == row["state"] == row.get("state") == dict(row)["state"] == row.asdict()["state"]
    assert row.get("nothing", 7) == 7 and "state" in row and "nothing" not in row
    with pytest.raises(KeyError):
        row["nothing"]
    row["state"] = "DEAD"
    assert row.state == "DEAD"


def test_columns_of_detail_are_asked_for() -> None:
    assert "death_cause" not in ActorState.base_columns()
    assert "death_cause" in ActorState.detail_columns() == ActorState.columns()
    assert {"state", "name", "actor_id"} <= ActorState.filterable_columns()


def test_people_read_units() -> None:
    assert Humanify.memory(3 * 2**20) == "3.000 MiB"
    assert ObjectState.humanify({"object_size": -1})["object_size"] == "?"
    assert ObjectState.humanify({"object_size": 2048})["object_size"] == "2.000 KiB"
    assert NodeState.humanify({"resources_total": {"memory": 2**30, "CPU": 2}})["resources_total"] == {
        "memory": "1.000 GiB",
        "CPU": 2,
    }
