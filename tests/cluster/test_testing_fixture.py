"""Does the fixture for users' tests give each test a cluster, and find what the test leaves behind?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import minray

pytestmark = pytest.mark.cluster


@minray.remote
def pid() -> int:
    return os.getpid()


def test_two_cpus_by_default(minray_cluster: Any) -> None:
    assert minray_cluster is minray
    assert minray.cluster_resources()["CPU"] == 2
    assert minray.get(pid.remote()) != os.getpid()


@pytest.mark.minray(num_cpus=3, resources={"disk": 1})
def test_the_mark_declares_capacity(minray_cluster: Any) -> None:
    resources = minray.cluster_resources()
    assert (resources["CPU"], resources["disk"]) == (3, 1)


PROGRAM = """
import subprocess
import pytest
import minray

@minray.remote
def one():
    return 1

def test_good(minray_cluster):
    assert minray.get(one.remote()) == 1

@pytest.mark.minray(num_cpus=1)
def test_leaves_a_process(minray_cluster):
    globals()["child"] = subprocess.Popen(["sleep", "60"])

@pytest.mark.minray(check_leaks=False)
def test_is_not_checked(minray_cluster):
    globals()["child"].kill(), globals()["child"].wait()

def test_fails_by_itself(minray_cluster):
    assert minray.get(one.remote()) == 2
"""


def test_users_tests_with_leaks_fail_and_say_what_leaked(tmp_path: Path) -> None:
    (tmp_path / "test_program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "minray.testing.plugin", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "--strict-markers", "test_program.py"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": str(Path(minray.__file__).parents[1]),
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert "3 passed, 1 failed, 1 error" in done.stdout or "1 failed, 3 passed, 1 error" in done.stdout, (
        done.stdout
    )
    assert "process: pid" in done.stdout
    assert "'sleep'" in done.stdout
