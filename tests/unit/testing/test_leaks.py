"""Is what a program leaves behind found and named?"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from minray.testing import LeakError, check_leaks
from minray.testing import leaks as leaks_module


def test_nothing_left_is_nothing_said() -> None:
    with check_leaks():
        subprocess.run([sys.executable, "-c", ""], check=True)


def test_a_living_child_is_named() -> None:
    child = None
    with pytest.raises(LeakError, match="process: pid"), check_leaks(patience_s=0):
        child = subprocess.Popen(["sleep", "60"])
    assert child is not None
    child.kill()
    child.wait()


def test_an_orphan_is_found_by_its_mark() -> None:
    script = "import subprocess as s; print(s.Popen(['sleep', '60'], stdout=-3, stderr=-3).pid)"
    earlier = os.environ.get(leaks_module.MARK)
    pid = 0
    with pytest.raises(LeakError, match="sleep"), check_leaks(patience_s=0):
        done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
        pid = int(done.stdout)
    os.kill(pid, 9)
    assert os.environ.get(leaks_module.MARK) == earlier


def test_an_open_socket_is_named() -> None:
    with pytest.raises(LeakError, match="descriptor: .*socket"), check_leaks(patience_s=0):
        pair = socket.socketpair()
    for end in pair:
        end.close()


def test_a_session_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINRAY_TMPDIR", str(tmp_path))
    with pytest.raises(LeakError, match="session folder"), check_leaks(patience_s=0):
        (tmp_path / f"minray-{os.getuid()}" / f"session_now_{os.getpid()}").mkdir(parents=True)


def test_the_error_of_the_block_is_the_one_that_is_seen() -> None:
    with pytest.raises(KeyError), check_leaks(patience_s=0):
        raise KeyError("mine")
