"""What must a test leave behind? Nothing: this file looks for it after every one.

What counts as left, and how it is found, is `minray.testing.leaks`: the same check that users of the pytest
plugin get, here around each test and around each module.

A test that needs a cluster takes `cluster` (two CPUs) or calls `cluster_of(num_cpus=..., ...)`; both
shut it down. A wider fixture may keep one cluster for several tests: then its scope is looked at.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minray.testing.leaks import LeakError, check_leaks


def _running() -> bool:
    # A package that was never imported runs nothing; one half imported by a failing test has no answer.
    return bool(getattr(sys.modules.get("minray"), "is_initialized", bool)())


def _watch(name: str) -> Iterator[None]:
    """The body of the fixtures below: look before, look after, complain about the difference."""
    if _running():
        yield
        return
    try:
        with check_leaks():
            yield
            if _running():
                sys.modules["minray"].shutdown()
    except LeakError as error:
        pytest.fail(f"{name}: {error}", pytrace=False)


@pytest.fixture(autouse=True)
def _test_leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    yield from _watch(request.node.nodeid)


@pytest.fixture(autouse=True, scope="module")
def _module_leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    yield from _watch(request.node.nodeid)


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
