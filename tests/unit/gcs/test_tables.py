"""Jobs and the key-value table."""

from __future__ import annotations

import pytest

from minray.gcs.state.jobs import JobTable
from minray.gcs.state.kv import KeyValueTable


def test_jobs_are_numbered_from_one_and_a_driver_keeps_its_number() -> None:
    jobs = JobTable()
    assert [jobs.joined(b"a", 1, 0.0), jobs.joined(b"b", 2, 1.0), jobs.joined(b"a", 1, 2.0)] == [1, 2, 1]
    jobs.ended(b"b", 3.0)
    jobs.ended(b"unknown", 3.0)
    assert [row["ended_s"] for row in jobs.rows()] == [None, 3.0]


def test_values_can_be_stored_read_listed_and_deleted() -> None:
    table = KeyValueTable()
    assert table.put(b"fn:1", b"one") and not table.put(b"fn:1", b"uno")
    assert table.get(b"fn:1") == b"uno" and table.get(b"fn:2") is None
    table.put(b"fn:0", b"")
    table.put(b"other", b"x")
    assert table.keys(b"fn:") == [b"fn:0", b"fn:1"]
    assert table.delete(b"fn:1") and not table.delete(b"fn:1")
    table.check_invariants()


def test_an_existing_value_is_kept_unless_it_may_be_overwritten() -> None:
    table = KeyValueTable()
    table.put(b"key", b"old")
    assert not table.put(b"key", b"new", False)
    assert table.get(b"key") == b"old"


def test_the_table_is_bounded_and_says_what_to_do() -> None:
    table = KeyValueTable(bytes_max=10)
    table.put(b"k", b"12345")
    with pytest.raises(ValueError, match=r"minray\.put"):
        table.put(b"l", b"12345")
    table.put(b"k", b"123456789")  # replacing counts the difference only
    table.check_invariants()
