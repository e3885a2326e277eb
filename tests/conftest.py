"""What must a test leave behind? Nothing: this file looks for it after every one.

    processes     our own children, and any node process or worker of a session that this run began
    descriptors   of the test process
    shared memory files in /dev/shm
    folders       session folders of sessions that this run began

A test that needs a cluster takes `cluster` (two CPUs) or calls `cluster_of(num_cpus=..., ...)`; both
shut it down. A leak fails the test that made it, with a list of what is left.
"""

from __future__ import annotations

import gc
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

# A killed process takes a moment to vanish from the tables; a healthy runtime is gone long before this.
PATIENCE_S = 3.0
# What the runtime deals in. A library that opens a file of its own once and keeps it is no leak.
OURS = ("socket:", "/memfd:", "anon_inode:[eventfd", "anon_inode:[eventpoll", "anon_inode:[pidfd")


@dataclass(frozen=True)
class Traces:
    """What this process holds, and what it has put into the world, at one moment."""

    processes: frozenset[tuple[int, float]]  # pid and birth: a pid alone may be used again
    descriptors: frozenset[tuple[int, str]]
    shared_memory: frozenset[str]
    folders: frozenset[str]


def _processes() -> frozenset[tuple[int, float]]:
    found = set()
    for child in psutil.Process().children(recursive=True):
        try:
            if child.status() != psutil.STATUS_ZOMBIE:
                found.add((child.pid, child.create_time()))
        except psutil.Error:
            continue
    # A node process that outlives its driver belongs to init and is not seen here; its session folder is.
    return frozenset(found)


def _descriptors() -> frozenset[tuple[int, str]]:
    if not sys.platform.startswith("linux"):
        return frozenset()
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the descriptor of this very listing
        if target.startswith(OURS):
            found.add((int(name), target))
    return frozenset(found)


def _folder_names(folder: Path, pattern: str) -> frozenset[str]:
    try:
        return frozenset(str(p) for p in folder.glob(pattern))
    except OSError:
        return frozenset()


def traces() -> Traces:
    """Look around once."""
    base = Path(os.environ.get("MINRAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp")
    mine = f"session_*_{os.getpid()}"
    return Traces(
        processes=_processes(),
        descriptors=_descriptors(),
        shared_memory=_folder_names(Path("/dev/shm"), "*minray*"),
        folders=_folder_names(base, f"minray-*/{mine}"),
    )


def _describe(before: Traces, after: Traces) -> list[str]:
    left = []
    for pid, _ in after.processes - before.processes:
        try:
            left.append(f"process {pid}: {' '.join(psutil.Process(pid).cmdline())[:160]}")
        except psutil.Error:
            continue
    # The number of each kind counts, not the inode: a runtime that reopens one pipe leaks nothing.
    fresh = dict(after.descriptors - before.descriptors)
    closed = {fd for fd, _ in before.descriptors} - {fd for fd, _ in after.descriptors}
    if len(after.descriptors) > len(before.descriptors):
        left += [f"descriptor {fd}: {target}" for fd, target in sorted(fresh.items())]
        left += [f"(closed meanwhile: {sorted(closed)})"] if closed else []
    left += [f"shared memory {name}" for name in sorted(after.shared_memory - before.shared_memory)]
    left += [f"session folder {name}" for name in sorted(after.folders - before.folders)]
    return left


def _watch(name: str) -> Iterator[None]:
    """The body of the fixtures below: look before, look after, complain about the difference."""
    if _running():  # a wider fixture keeps a cluster for several tests: that fixture's scope is looked at
        yield
        return
    before = traces()
    yield
    if _running():
        sys.modules["minray"].shutdown()
    deadline = time.monotonic() + PATIENCE_S
    left = _describe(before, traces())
    while left and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.02)
        left = _describe(before, traces())
    if left:
        pytest.fail(f"{name} left behind:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture(autouse=True)
def _test_leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    yield from _watch(request.node.nodeid)


@pytest.fixture(autouse=True, scope="module")
def _module_leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    yield from _watch(request.node.nodeid)


def _running() -> bool:
    # A package that was never imported runs nothing; one half imported by a failing test has no answer.
    return bool(getattr(sys.modules.get("minray"), "is_initialized", bool)())


@pytest.fixture
def cluster_of() -> Iterator[Callable[..., Any]]:
    """Start a cluster as `minray.init` would: `ray = cluster_of(num_cpus=4)`. Returns the module `minray`."""
    import minray

    def start(**options: Any) -> Any:
        minray.init(**options)
        return minray

    yield start
    minray.shutdown()


@pytest.fixture
def cluster(cluster_of: Callable[..., Any]) -> Any:
    """A running cluster of two CPUs; the value is the module `minray`."""
    return cluster_of(num_cpus=2)


# ------------------------------------------------------------------ what may be missing on a machine
_missing: dict[str, str] = {}


def _skip_loudly(what: str, remedy: str) -> None:
    _missing[what] = remedy
    pytest.skip(f"NO {what.upper()}: {remedy}")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Debian's Chromium; skips, and says so in the summary, where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        _skip_loudly("Chromium", "apt-get install chromium, then the browser tests run")
    assert path is not None
    return path


@pytest.fixture(scope="session")
def ray_python() -> str:
    """An interpreter that has real Ray (MINRAY_RAY_PYTHON); skips, and says so, where there is none."""
    path = os.environ.get("MINRAY_RAY_PYTHON", "")
    if not path or not Path(path).exists():
        _skip_loudly("real Ray", "set MINRAY_RAY_PYTHON=/path/to/python of an environment with ray installed")
    return path


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Skipped for want of a program is not passed: repeat it where nobody overlooks it."""
    for what, remedy in _missing.items():
        terminalreporter.write_line(f"!! no {what}: its tests did NOT run ({remedy})", yellow=True)
