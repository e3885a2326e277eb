"""Where do a session's sockets and logs live, and who clears up after a crash?

    <tmp>/minray-<uid>/                      0700, ours or refused
        session_<time>_<pid>/                0700
            driver.pid                       "pid start-time": is the driver that made it alive?
            session.pickle                   the SessionConfig, for drivers that attach
            node.sock  p-<worker>.sock  logs/
            spilled/                     objects on disk, or a link to where `init` wanted them

A folder whose driver is dead is stale: whoever makes the next session removes it. Process ids are
reused, so the start time of the process is compared as well.
"""

from __future__ import annotations

import errno
import os
import pickle
import stat
import time
from contextlib import suppress
from typing import NamedTuple

from minray.base.config import SessionConfig

SOCKET_PATH_MAX = 107  # sun_path is 108 bytes with its NUL
_LONGEST_NAME = len("/p-0123456789abcdef.sock")
_UNBORN_S = 60.0  # a folder without driver.pid is being made, for so long at most


class LiveSession(NamedTuple):
    """A session whose driver is alive."""

    path: str
    driver_pid: int
    started_s: float


def process_start_time(pid: int) -> int | None:
    """Clock ticks since boot at which the process began, None when it is gone (a zombie is gone)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def _temp_dir(temp_dir: str | None) -> str:
    base = temp_dir or os.environ.get("TMPDIR") or "/tmp"
    base = os.path.abspath(base)
    sample = os.path.join(base, f"minray-{os.getuid()}", f"session_{time.time_ns() // 1000}_{1 << 22}")
    if len(os.fsencode(sample)) + _LONGEST_NAME > SOCKET_PATH_MAX or not os.path.isdir(base):
        return "/tmp"  # a socket's path may not be longer, whatever TMPDIR says
    return base


def _user_folder(temp_dir: str | None) -> str:
    return os.path.join(_temp_dir(temp_dir), f"minray-{os.getuid()}")


def make_session_dir(temp_dir: str | None = None) -> str:
    """A fresh folder for this process's session; stale ones of dead drivers are removed first.

    Raises: PermissionError or OSError that say which folder, and what to do.
    """
    parent = _user_folder(temp_dir)
    try:
        path = ""
        while not path:
            with suppress(FileExistsError, FileNotFoundError):  # another process's last session took the folder along
                _claim(parent)  # before anything is removed in it
                reap_stale_sessions(parent)
                fresh = os.path.join(parent, f"session_{time.time_ns() // 1000}_{os.getpid()}")
                os.mkdir(fresh, 0o700)
                path = fresh
        os.mkdir(os.path.join(path, "logs"), 0o700)
        with open(os.path.join(path, "driver.pid"), "w") as file:
            file.write(f"{os.getpid()} {process_start_time(os.getpid()) or 0}\n")
        return path
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(
                error.errno,
                f"no space left for a session folder in {parent}: free some, or set MINRAY_TMPDIR",
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM) and not str(error).startswith("[minray]"):
            raise PermissionError(
                error.errno,
                f"cannot make a session folder in {parent}: set MINRAY_TMPDIR to a folder of yours",
            ) from error
        raise


def _claim(parent: str) -> None:
    """The user's folder is there and nobody else's."""
    os.makedirs(os.path.dirname(parent), exist_ok=True)
    try:
        os.mkdir(parent, 0o700)
    except FileExistsError:
        _check_ours(parent)


def _check_ours(parent: str) -> None:
    """Somebody else's folder with our name would read our sockets."""
    status = os.lstat(parent)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise PermissionError(
            errno.EPERM,
            f"[minray] {parent} belongs to somebody else; remove it, or set MINRAY_TMPDIR to a folder of yours",
        )
    if stat.S_IMODE(status.st_mode) != 0o700:
        os.chmod(parent, 0o700)


def _driver_of(path: str) -> tuple[int, bool] | None:
    """(pid, alive) of the driver that made the session; None when it has not said so yet."""
    try:
        with open(os.path.join(path, "driver.pid")) as file:
            pid, started = (int(part) for part in file.read().split())
    except (OSError, ValueError):
        return None
    return pid, process_start_time(pid) == started


def reap_stale_sessions(parent: str) -> list[str]:
    """Remove the folders of dead drivers. Returns what was removed."""
    removed = []
    for name in _session_names(parent):
        path = os.path.join(parent, name)
        driver = _driver_of(path)
        try:
            stale = time.time() - os.stat(path).st_mtime > _UNBORN_S if driver is None else not driver[1]
        except OSError:
            continue
        if stale:
            remove_session_dir(path)
            removed.append(path)
    return removed


def _session_names(parent: str) -> list[str]:
    try:
        names = os.listdir(parent)
    except OSError:
        return []
    return sorted((name for name in names if name.startswith("session_")), reverse=True)


def find_live_sessions(temp_dir: str | None = None) -> list[LiveSession]:
    """Sessions of this user that a driver could attach to, newest first."""
    parent = _user_folder(temp_dir)
    found = []
    for name in _session_names(parent):
        path = os.path.join(parent, name)
        driver = _driver_of(path)
        ready = os.path.exists(os.path.join(path, "session.pickle"))
        if driver is not None and driver[1] and ready:
            found.append(LiveSession(path, driver[0], int(name.split("_")[1]) / 1e6))
    return found


def write_session(config: SessionConfig) -> None:
    """Leave the config for drivers that attach (0600 in a 0700 folder: it holds the token)."""
    path = os.path.join(config.session_dir, "session.pickle")
    fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(fd, "wb") as file:
        pickle.dump(config, file, 5)
    os.rename(path + ".new", path)


def read_session(path: str) -> SessionConfig:
    """The config of a live session. Raises: FileNotFoundError; PermissionError if it is not ours."""
    _check_ours(os.path.dirname(path))
    with open(os.path.join(path, "session.pickle"), "rb") as file:
        config = pickle.load(file)
    assert isinstance(config, SessionConfig)
    return config


def note_spill_folder(path: str, folder: str) -> None:
    """The session's spilled objects lie in `folder`: whoever removes the session removes that too."""
    os.symlink(folder, os.path.join(path, "spilled"))


def remove_session_dir(path: str) -> None:
    """Delete the folder and all in it; what is gone already is fine."""
    if not os.path.basename(path).startswith("session_"):
        raise ValueError(f"{path} is no session folder")
    try:
        elsewhere = os.readlink(os.path.join(path, "spilled"))
    except OSError:
        elsewhere = ""
    if elsewhere.endswith(os.path.basename(path)):  # made for this session and no other
        _remove_tree(elsewhere)
    for _ in range(3):  # a dying process may still add a file
        _remove_tree(path)
        if not os.path.lexists(path):
            break
    try:
        os.rmdir(os.path.dirname(path))  # the user's folder goes with the last session
    except OSError:
        pass


def _remove_tree(path: str) -> None:
    for folder, folders, files in os.walk(path, topdown=False):
        for name in files:
            _quietly(os.unlink, os.path.join(folder, name))
        for name in folders:
            child = os.path.join(folder, name)
            _quietly(os.unlink if os.path.islink(child) else os.rmdir, child)
    _quietly(os.rmdir, path)


def _quietly(remove: object, path: str) -> None:
    try:
        remove(path)  # type: ignore[operator]
    except OSError:
        pass
