"""Rows of objects and dead workers; the ends of log files."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from minray.state_api import rows, summaries
from minray.state_api.logs import list_files, read_log

OWNER, BORROWER = b"o" * 16, b"b" * 16
OBJECT = OWNER.hex() + "0" * 24


def process(worker_id: bytes, is_driver: bool) -> Any:
    return SimpleNamespace(worker_id=worker_id, is_driver=is_driver)


def test_a_borrowers_row_has_the_size_that_the_owner_knows() -> None:
    answers = [
        (process(OWNER, True), {"pid": 1, "rows": [(OBJECT, 800, "FINISHED", 1, "", True)]}),
        (process(BORROWER, False), {"pid": 2, "rows": [(OBJECT, -1, "NIL", 1, "LOCAL_REFERENCE", False)]}),
    ]
    (row,) = rows.object_rows(answers)
    assert (row["object_size"], row["task_status"], row["pid"], row["type"]) == (800, "FINISHED", 2, "WORKER")
    summary = summaries.objects_by_call_site([row])
    assert summary["total_objects"] == 1 and not summary["callsite_enabled"]


@pytest.mark.parametrize(
    ("death", "kind"),
    [
        ({"ordered": "", "signal": 9, "exit_code": None, "state": "leased"}, "SYSTEM_ERROR"),
        ({"ordered": "", "signal": 0, "exit_code": 0, "state": "retiring"}, "INTENDED_SYSTEM_EXIT"),
        ({"ordered": "", "signal": 0, "exit_code": 0, "state": "actor"}, "INTENDED_USER_EXIT"),
        ({"ordered": "", "signal": 0, "exit_code": 3, "state": "leased"}, "USER_ERROR"),
        (
            {"ordered": "it was killed by minray.kill", "signal": 9, "exit_code": None, "state": "actor"},
            "INTENDED_USER_EXIT",
        ),
        (
            {"ordered": "its actor's constructor failed", "signal": 9, "exit_code": None, "state": "actor"},
            "USER_ERROR",
        ),
    ],
)
def test_a_death_is_told_by_whose_wish_it_was(death: dict[str, Any], kind: str) -> None:
    assert rows.exit_type_of(death) == kind


def test_the_last_lines_of_a_log(tmp_path: Path) -> None:
    path = tmp_path / "worker-1.log"
    path.write_text("".join(f"line {number}\n" for number in range(20_000)))
    assert "".join(read_log(str(path), tail=2)) == "line 19998\nline 19999\n"
    assert "".join(read_log(str(path), tail=0)) == ""
    assert "".join(read_log(str(path))).count("\n") == 20_000
    assert "".join(read_log(str(path), tail=10**6)).count("\n") == 20_000


def test_a_followed_log_goes_on_and_ends_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "worker-1.log"
    path.write_text("one\n")
    lines = read_log(str(path), follow=True, interval_s=0.01)
    assert next(lines) == "one\n"
    with path.open("a") as file:
        file.write("two\n")
    assert next(lines) == "two\n"
    path.unlink()
    assert list(lines) == []


def test_colours_can_be_left_out_and_bytes_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "worker-1.log"
    path.write_bytes(b"\x1b[31mred\x1b[0m \xff\n")
    assert list(read_log(str(path), filter_ansi_code=True, errors="replace")) == ["red \ufffd\n"]
    assert list(read_log(str(path), encoding=None)) == [b"\x1b[31mred\x1b[0m \xff\n"]
    with pytest.raises(UnicodeDecodeError):
        list(read_log(str(path)))


def test_files_are_grouped_by_who_wrote_them(tmp_path: Path) -> None:
    for name in ("worker-1.log", "worker-2.log", "node.log", "other.txt"):
        (tmp_path / name).touch()
    assert list_files(str(tmp_path)) == {
        "raylet": ["node.log"],
        "internal": ["other.txt"],
        "worker_out": ["worker-1.log", "worker-2.log"],
    }
    assert list_files(str(tmp_path), "*2*") == {"worker_out": ["worker-2.log"]}
    assert list_files(str(tmp_path / "none")) == {}
