"""Did the code between two moments leave anything behind?

    processes       descendants of this process, and orphans: every process started meanwhile carries a
                    mark in its environment, by which it is found wherever it was re-parented to
    descriptors     sockets, pipes, memory files, epoll and pid descriptors of this process
    shared memory   files of minray in /dev/shm
    folders         session folders of this process in the temporary folder

Ordinary files are not counted: libraries open some at first use and keep them. What is still going
away gets a moment's patience. On systems without /proc (macOS) only folders are checked.
"""

from __future__ import annotations

import gc
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MARK = "MINRAY_LEAK_MARK"
_COUNTED_DESCRIPTORS = ("socket:", "pipe:", "/memfd:", "anon_inode:")


class LeakError(AssertionError):
    """Something is left of a cluster; the text lists it."""


@dataclass(frozen=True, slots=True)
class Traces:
    """What this process holds and has put into the world at one moment; each entry explains itself."""

    processes: frozenset[str]
    descriptors: frozenset[str]
    shared_memory: frozenset[str]
    folders: frozenset[str]

    def since(self, before: Traces) -> list[str]:
        """Lines about what is here and was not there before."""
        found = []
        for kind in ("processes", "descriptors", "shared_memory", "folders"):
            new = sorted(getattr(self, kind) - getattr(before, kind))
            label = {"processes": "process", "descriptors": "descriptor", "folders": "session folder"}
            found += [f"{label.get(kind, 'shared memory file')}: {entry}" for entry in new]
        return found


def look_around(mark: str = "") -> Traces:
    """Note what there is now. `mark`: also find processes whose environment holds this value."""
    return Traces(
        processes=frozenset(_processes(mark)),
        descriptors=frozenset(_descriptors()),
        shared_memory=_names(Path("/dev/shm"), "minray*"),
        folders=frozenset[str]().union(
            *(_names(root, f"session_*_{os.getpid()}") for root in _session_roots())
        ),
    )


def _session_roots() -> set[Path]:
    """Where session folders of this user may lie: a long TMPDIR is passed over in favour of /tmp."""
    bases = {os.environ.get(name) or "/tmp" for name in ("MINRAY_TMPDIR", "TMPDIR")} | {"/tmp"}
    return {Path(base) / f"minray-{os.getuid()}" for base in bases}


@contextmanager
def check_leaks(patience_s: float = 3.0) -> Iterator[None]:
    """Run a block; afterwards nothing of minray may be left that was not there before.

    Raises: LeakError with a list of what is left, after waiting `patience_s` seconds for it to go.
        If the block itself raises, its error is the one that is seen.
    """
    mark = uuid.uuid4().hex
    before = look_around()
    earlier = os.environ.get(MARK)
    os.environ[MARK] = mark
    try:
        yield
    finally:
        if earlier is None:
            os.environ.pop(MARK, None)
        else:
            os.environ[MARK] = earlier
    left = _what_is_left(before, mark, patience_s)
    if left:
        raise LeakError(
            f"{len(left)} thing(s) left behind:\n  "
            + "\n  ".join(left)
            + "\nIs there a cluster without minray.shutdown(), or a subprocess that nobody waited for?"
        )


def _what_is_left(before: Traces, mark: str, patience_s: float) -> list[str]:
    deadline = time.monotonic() + patience_s
    while True:
        left = look_around(mark).since(before)
        if not left or time.monotonic() > deadline:
            return left
        gc.collect()  # descriptors of forgotten objects close when those are collected
        time.sleep(0.02)


def _names(folder: Path, pattern: str) -> frozenset[str]:
    try:
        return frozenset(str(path) for path in folder.glob(pattern))
    except OSError:
        return frozenset()


def _descriptors() -> Iterator[str]:
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return
    for name in names:
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the descriptor of this listing
        if target.startswith(_COUNTED_DESCRIPTORS) and int(name) > 2:  # pytest swaps 0 to 2 while it captures
            yield f"{name} -> {target}"


def _processes(mark: str) -> Iterator[str]:
    """Living descendants of this process and bearers of the mark, as "pid since-tick command"."""
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return
    parents: dict[int, int] = {}
    described: dict[int, str] = {}
    for pid in pids:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # it ended while we looked
        command, _, rest = stat.partition("(")[2].rpartition(")")
        fields = rest.split()
        if fields[0] in "ZX":
            continue  # a zombie holds nothing but its number
        parents[pid] = int(fields[1])
        described[pid] = f"pid {pid} {command!r} started at tick {fields[19]}"
    me = os.getpid()
    for pid, text in described.items():
        if pid != me and (_descends(pid, me, parents) or (mark and _is_marked(pid, mark))):
            yield text


def _descends(pid: int, ancestor: int, parents: dict[int, int]) -> bool:
    for _ in range(len(parents)):
        pid = parents.get(pid, 0)
        if pid == ancestor:
            return True
        if pid <= 1:
            return False
    return False


def _is_marked(pid: int, mark: str) -> bool:
    try:
        return f"{MARK}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False  # another user's process, or it ended
