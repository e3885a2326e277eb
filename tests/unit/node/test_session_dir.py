"""Session folders: ours, short enough, and gone when their driver is."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from minray.base.config import SessionConfig
from minray.node.session_dir import (
    SOCKET_PATH_MAX,
    find_live_sessions,
    make_session_dir,
    process_start_time,
    read_session,
    reap_stale_sessions,
    remove_session_dir,
    write_session,
)


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """pytest's own folders are too deep for sockets."""
    with tempfile.TemporaryDirectory(prefix="mr", dir="/tmp") as path:
        yield Path(path)


def config_for(path: str) -> SessionConfig:
    return SessionConfig(path, b"t" * 32, b"n" * 28, os.getpid(), {"CPU": 1.0}, 1 << 20, "ns")


def pretend_driver(parent: Path, name: str, pid: int, started: int) -> Path:
    folder = parent / name
    folder.mkdir()
    (folder / "logs").mkdir()
    (folder / "driver.pid").write_text(f"{pid} {started}\n")
    (folder / "session.pickle").write_bytes(b"")
    return folder


def a_dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_session_folder_is_private_and_knows_its_driver(short_tmp: Path) -> None:
    path = Path(make_session_dir(str(short_tmp)))
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    pid, started = (path / "driver.pid").read_text().split()
    assert int(pid) == os.getpid() and int(started) == process_start_time(os.getpid())
    remove_session_dir(str(path))
    assert not path.parent.exists()


def test_a_folder_too_deep_for_a_socket_falls_back_to_tmp(short_tmp: Path) -> None:
    deep = short_tmp / ("x" * 100)
    deep.mkdir()
    path = make_session_dir(str(deep))
    try:
        assert path.startswith("/tmp/minray-")
        assert len(config_for(path).peer_socket(b"w" * 16)) <= SOCKET_PATH_MAX
    finally:
        remove_session_dir(path)


def test_sessions_of_dead_drivers_are_removed_by_the_next_one(short_tmp: Path) -> None:
    first = Path(make_session_dir(str(short_tmp)))
    stale = pretend_driver(first.parent, "session_1_1", a_dead_pid(), 1)
    reused = pretend_driver(first.parent, "session_2_2", os.getpid(), 1)  # our pid, another birth
    second = Path(make_session_dir(str(short_tmp)))
    assert first.exists() and second.exists()
    assert not stale.exists() and not reused.exists()


def test_a_session_begins_while_anothers_end_takes_the_users_folder_along(short_tmp: Path) -> None:
    parent, over = short_tmp / f"minray-{os.getuid()}", threading.Event()

    def others_end() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):
                parent.rmdir()

    thread = threading.Thread(target=others_end)
    thread.start()
    try:
        for _ in range(300):
            path = make_session_dir(str(short_tmp))
            assert os.path.isdir(os.path.join(path, "logs"))
            remove_session_dir(path)
    finally:
        over.set()
        thread.join()


def test_a_folder_that_is_just_being_made_is_left_alone(short_tmp: Path) -> None:
    (short_tmp / "session_3_3").mkdir()
    assert reap_stale_sessions(str(short_tmp)) == []
    an_hour_ago = time.time() - 3600
    os.utime(short_tmp / "session_3_3", (an_hour_ago, an_hour_ago))
    assert reap_stale_sessions(str(short_tmp)) == [str(short_tmp / "session_3_3")]


def test_live_sessions_are_found_newest_first(short_tmp: Path) -> None:
    paths = [make_session_dir(str(short_tmp)) for _ in range(2)]
    assert find_live_sessions(str(short_tmp)) == []  # nobody serves there yet
    for path in paths:
        write_session(config_for(path))
    pretend_driver(Path(paths[0]).parent, "session_9_9", a_dead_pid(), 1)
    found = find_live_sessions(str(short_tmp))
    assert [session.path for session in found] == paths[::-1]
    assert read_session(found[0].path) == config_for(paths[1])
    assert stat.S_IMODE(os.stat(os.path.join(paths[1], "session.pickle")).st_mode) == 0o600


def test_somebody_elses_folder_is_refused_with_advice(short_tmp: Path) -> None:
    theirs = short_tmp / "elsewhere" / "session_1_1"
    theirs.mkdir(parents=True)
    (theirs / "driver.pid").write_text("1 1")  # of a driver that is dead: ours would be removed
    (short_tmp / f"minray-{os.getuid()}").symlink_to(short_tmp / "elsewhere")
    with pytest.raises(PermissionError, match="MINRAY_TMPDIR"):
        make_session_dir(str(short_tmp))
    assert theirs.is_dir(), "nothing of theirs is touched"


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_read_only_place_is_refused_with_advice(short_tmp: Path) -> None:
    short_tmp.chmod(0o500)
    with pytest.raises(PermissionError, match="MINRAY_TMPDIR"):
        make_session_dir(str(short_tmp))


def test_only_session_folders_are_ever_removed(short_tmp: Path) -> None:
    with pytest.raises(ValueError, match="no session folder"):
        remove_session_dir(str(short_tmp))


def test_removal_does_not_follow_links(short_tmp: Path) -> None:
    (short_tmp / "keep").mkdir()
    (short_tmp / "keep" / "file").write_text("precious")
    path = make_session_dir(str(short_tmp))
    os.symlink(short_tmp / "keep", os.path.join(path, "logs", "link"))
    remove_session_dir(path)
    assert not os.path.exists(path) and (short_tmp / "keep" / "file").read_text() == "precious"


def test_a_process_is_known_by_its_birth_and_a_zombie_is_gone() -> None:
    assert process_start_time(os.getpid()) is not None
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read()  # it ended, and we have not waited for it
    while process_start_time(process.pid) is not None:
        os.sched_yield()
    process.wait()
    process.stdout.close()
