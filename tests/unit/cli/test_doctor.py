"""Does the doctor see what is wrong with a machine, and say what to do?"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from minray.base.host import Host, Limit
from minray.cli import doctor
from minray.cli.doctor import GIB, MIB, OK, PROBLEM, WARNING, Finding
from minray.cli.main import main

NO_GPU = Limit(0, "none")


def host(cpus: int = 4, quota: float | None = None, memory: float = 8 * GIB) -> Host:
    limit = None if quota is None else Limit(quota, "cpu.max")
    return Host(cpus, limit, Limit(memory, "memory.max"), 16 * GIB, NO_GPU)


def state(findings: list[Finding]) -> str:
    (finding,) = findings
    assert finding.advice or finding.state == OK
    return finding.state


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        (doctor.python_version((3, 10)), PROBLEM),
        (doctor.python_version((3, 11)), OK),
        (doctor.cpus(host(4), 4), OK),
        (doctor.cpus(host(64, quota=2.5), 64), WARNING),
        (doctor.cpus(host(1), 1), WARNING),
        (doctor.memory(host()), OK),
        (doctor.memory(host(memory=GIB)), WARNING),
        (doctor.memory(host(memory=100 * MIB)), PROBLEM),
        (doctor.gpus(host()), OK),
        (doctor.temporary_folder("/no/such/folder"), PROBLEM),
        ([doctor.limit_finding("Open files", 256, 4096, 1024, "ulimit -n 4096")], WARNING),
        ([doctor.limit_finding("Open files", 64, 64, 1024, "ulimit -n 4096")], PROBLEM),
        ([doctor.limit_finding("Open files", -1, -1, 1024, "ulimit -n 4096")], OK),
    ],
)
def test_findings_tell_fine_from_doubtful_from_wrong(findings: list[Finding], expected: str) -> None:
    assert state(findings) == expected


def test_limits_are_shown_with_their_source() -> None:
    (cpus,) = doctor.cpus(host(64, quota=2.5), 64)
    assert cpus.seen.startswith("2 (quota 2.5 in cpu.max")
    assert "OMP_NUM_THREADS=2" in cpus.advice
    (memory,) = doctor.memory(host())
    assert memory.seen == "8.0 GiB (memory.max), of 16.0 GiB in the machine"


def test_a_deep_temporary_folder_is_noticed(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 80)
    deep.mkdir()
    assert state(doctor.temporary_folder(str(deep))) == WARNING


def test_small_socket_buffers_are_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "proc/sys/net/core"
    folder.mkdir(parents=True)
    for key in ("rmem_max", "wmem_max"):
        (folder / key).write_text("65536\n")
    assert state(doctor.socket_buffers(str(tmp_path))) == WARNING
    assert state(doctor.socket_buffers(str(tmp_path / "none"))) == OK


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [("6.29.5", WARNING), ("7.0.1", WARNING), ("7.2.0", WARNING), ("7.3.1", WARNING), ("7.4.0", OK), ("8.0", OK)],
)
def test_only_kernels_that_draw_live_pass(kernel: str, expected: str) -> None:
    first, _ = doctor.notebook_packages({"ipykernel": kernel, "anywidget": "1"}.get)
    assert first.state == expected


def test_missing_widgets_are_named_and_no_notebook_is_fine() -> None:
    _, widgets = doctor.notebook_packages({"ipykernel": "7.4.0", "anywidget": "1"}.get)
    assert widgets.state == WARNING
    assert "ipywidgets missing" in widgets.seen
    assert state(doctor.notebook_packages(lambda name: None)) == OK


def test_a_port_in_use_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not doctor._is_free(server.getsockname()[1])
    monkeypatch.setattr(doctor, "_is_free", lambda port: port != 8888)
    assert [finding.state for finding in doctor.ports()] == [OK, WARNING, OK]


def test_session_folders_of_dead_drivers_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINRAY_TMPDIR", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert state(doctor.leftovers()) == OK
    dead = tmp_path / f"minray-{os.getuid()}" / "session_1_999999999"
    dead.mkdir(parents=True, mode=0o700)
    (dead / "driver.pid").write_text("999999999 1")
    (finding,) = doctor.leftovers()
    assert finding.state == WARNING
    assert str(dead) in finding.advice
    assert dead.exists()


def test_the_report_is_a_table_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert code == int(any(row["state"] == PROBLEM for row in rows))
    names = [row["name"] for row in rows]
    assert {"Python", "CPUs", "Memory", "Object store", "Sessions", "Port 8265"} <= set(names)
    main(["doctor"])
    text = capsys.readouterr().out
    assert all(name in text for name in names)
