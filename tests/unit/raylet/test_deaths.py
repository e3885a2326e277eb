"""What is told about a death."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from minray.raylet.deaths import last_log_lines, signal_name, story_of
from minray.raylet.zygote_link import WorkerExit


def test_the_last_lines_are_quoted(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_text("".join(f"line {number}\n" for number in range(5000)))
    assert last_log_lines(str(log)) == [f"line {number}" for number in range(4990, 5000)]
    assert last_log_lines(str(tmp_path / "none")) == []


def test_a_native_crash_is_quoted_from_its_innermost_call(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    frames = "".join(f'  File "x.py", line {number} in f\n' for number in range(50))
    log.write_text(f"printed\nFatal Python error: Segmentation fault\n\nCurrent thread:\n{frames}")
    assert last_log_lines(str(log))[:3] == [
        "Fatal Python error: Segmentation fault",
        "Current thread:",
        '  File "x.py", line 0 in f',
    ]
    assert len(last_log_lines(str(log))) == 10


@pytest.mark.parametrize(
    ("status", "ordered", "sentence"),
    [
        (3 << 8, "", "process 7 exited with code 3"),
        (int(signal.SIGTERM), "", "process 7 was killed by SIGTERM"),
        (int(signal.SIGSEGV), "", "process 7 was killed by SIGSEGV (native code crashed)"),
        (int(signal.SIGKILL), "its owner ended", "process 7 was killed because its owner ended"),
        (40, "", "process 7 was killed by signal 40"),
    ],
)
def test_the_story_names_pid_and_how(status: int, ordered: str, sentence: str) -> None:
    assert story_of(7, WorkerExit(status), ordered, "/nonexistent") == sentence


def test_an_unknown_end_is_said_to_be_unknown() -> None:
    assert "not known" in story_of(7, WorkerExit(None), "", "/nonexistent")
    assert signal_name(9) == "SIGKILL"
