"""Does a call stand in the right queue?"""

from __future__ import annotations

from minray.worker.call_rules import CallRules, RetryRules
from minray.worker.concurrency_groups import DEFAULT, GroupTable, unknown_group
from minray.worker.wire import Call


def call(group: str = "") -> Call:
    return Call(b"", None, None, (), 1, group)


def table() -> GroupTable:
    return GroupTable({"io": 2, "compute": 4}, {"read": "io"}, 1)


def test_a_method_stands_in_its_declared_group() -> None:
    assert table().of("read", (1,)) == "io"
    assert table().of("read", b"") == "io"
    assert table().of("read", call()) == "io"


def test_a_method_without_a_group_stands_in_the_default() -> None:
    assert table().of("think", (1,)) == DEFAULT


def test_what_a_call_names_comes_before_what_its_method_declares() -> None:
    assert table().of("read", call("compute")) == "compute"
    assert table().of("think", call("io")) == "io"


def test_a_group_that_does_not_exist_is_the_default() -> None:
    assert table().of("read", call("nobody")) == DEFAULT


def test_limits_and_the_default() -> None:
    assert table().limits == {"": 1, "io": 2, "compute": 4}
    assert table().several
    assert not GroupTable({}, {}, 3).several


def test_the_error_names_what_there_is() -> None:
    text = unknown_group("nobody", "Reader", ("io", "compute"))
    assert all(part in text for part in ("'nobody'", "Reader", "'io', 'compute'"))


class _Class:
    max_task_retries = 5


def test_rules_of_a_call_come_before_those_of_its_class() -> None:
    rules = RetryRules()
    rules.by_number[1] = CallRules("", 2, (KeyError,))
    rules.by_number[2] = CallRules("io")
    assert [rules.limit(number, _Class) for number in (1, 2, 3)] == [2, 5, 5]
    assert rules.exceptions(1) == (KeyError,)
    assert rules.exceptions(2) is False
    assert rules.exceptions(3) is False
