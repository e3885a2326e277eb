"""`minray list`, `get`, `summary`, `memory`, `timeline`, `stack`, `logs`, `status` on a session that runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minray as ray
from minray.cli.main import main
from minray.engine.seam import current

pytestmark = [pytest.mark.cluster]
Captured = pytest.CaptureFixture[str]


def _until(what: Callable[[], Any]) -> Any:
    give_up = time.monotonic() + 30.0
    while not (found := what()):
        assert time.monotonic() < give_up, "it did not come to that"
        time.sleep(0.02)
    return found


@ray.remote
def stands_here(path: str) -> None:
    while not os.path.exists(path):
        time.sleep(0.01)


@ray.remote
class Speaker:
    def say(self, text: str) -> int:
        print(text, flush=True)
        return os.getpid()


class Scene:
    """A session with a running task, one that can never run, a named actor and a large object."""

    def __init__(self, folder: Path) -> None:
        self.gate = folder / "gate"
        self.running = stands_here.remote(str(self.gate))
        self.never = stands_here.options(num_cpus=99).remote(str(self.gate))
        self.actor = Speaker.options(name="speaker").remote()
        self.pid = ray.get(self.actor.say.remote("words of the speaker"))
        self.large = ray.put(np.ones(200_000))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    ray.init(num_cpus=2)
    made = Scene(tmp_path_factory.mktemp("scene"))
    yield made
    made.gate.touch()
    ray.get(made.running)
    ray.shutdown()


def _json(capsys: Captured, *words: str) -> Any:
    assert main([*words, "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_list_in_every_format(scene: Scene, capsys: Captured) -> None:
    rows = _json(capsys, "list", "tasks", "--filter", "state=RUNNING")
    assert [row["task_id"] for row in rows] == [scene.running.task_id().hex()]
    assert main(["list", "tasks", "-f", "state!=FINISHED", "-f", "name!=x"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:3] == ["TASK_ID", "NAME", "STATE"]
    assert {line.split()[2] for line in lines[2:]} >= {"RUNNING", "PENDING_NODE_ASSIGNMENT"}
    assert main(["list", "actors", "--format", "yaml"]) == 0
    assert "name: speaker" in capsys.readouterr().out
    assert main(["list", "workers", "--detail"]) == 0
    assert "start_time_ms:" in capsys.readouterr().out
    assert main(["list", "actors", "--format", "table"]) == 0
    assert "RAY_NAMESPACE" in capsys.readouterr().out
    for resource in ("objects", "nodes", "jobs", "placement-groups", "runtime-envs", "cluster-events"):
        assert main(["list", resource]) == 0


def test_a_limit_is_told_on_stderr(scene: Scene, capsys: Captured) -> None:
    assert main(["list", "tasks", "--limit", "1"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("1 tasks") and "Limit last 1 entries" in err


def test_get_takes_the_first_digits(scene: Scene, capsys: Captured) -> None:
    (actor,) = _json(capsys, "list", "actors")
    assert main(["get", "actors", actor["actor_id"][:12]]) == 0
    assert f"pid: {scene.pid}" in capsys.readouterr().out
    assert _json(capsys, "get", "task", scene.running.task_id().hex())["state"] == "RUNNING"
    assert main(["get", "tasks", "zz"]) == 1
    assert "no tasks with an id that begins with zz" in capsys.readouterr().err
    assert main(["get", "tasks", ""]) == 1
    assert "ids begin with" in capsys.readouterr().err


def test_summaries(scene: Scene, capsys: Captured) -> None:
    found = _json(capsys, "summary", "tasks")
    assert found["summary"]["stands_here"]["state_counts"]["RUNNING"] == 1
    assert main(["summary", "tasks"]) == 0
    assert "RUNNING: 1" in capsys.readouterr().out
    assert main(["summary", "tasks", "--by-lineage"]) == 0
    assert "stands_here x2" in capsys.readouterr().out
    assert main(["summary", "actors"]) == 0
    assert "ALIVE: 1" in capsys.readouterr().out
    assert main(["summary", "objects"]) == 0
    assert "LOCAL_REFERENCE" in capsys.readouterr().out


def test_memory_shows_who_keeps_what_and_how_full_the_store_is(scene: Scene, capsys: Captured) -> None:
    assert main(["memory", "--units", "mb", "-n", "1"]) == 0
    out = capsys.readouterr().out
    assert scene.large.hex() in out and "1.600 MB" in out and "Object store:" in out
    assert main(["memory", "--stats-only"]) == 0
    out = capsys.readouterr().out
    assert f"driver {os.getpid()}" in out and scene.large.hex() not in out
    assert main(["memory", "--group-by", "PID", "--sort-by", "REFERENCE_TYPE"]) == 0
    assert f"pid {os.getpid()}:" in capsys.readouterr().out


def test_status_tells_use_demands_and_failures(scene: Scene, capsys: Captured) -> None:
    @ray.remote(max_retries=0)
    def dies() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(dies.remote())
    _until(lambda: _status(capsys)["demands"] and _status(capsys)["demands"][0]["reason"])
    found = _status(capsys)
    assert found["usage"]["CPU"]["total"] == 2 and found["usage"]["CPU"]["used"] >= 1
    assert "CPU: 99" in found["demands"][0]["reason"]
    assert "SIGKILL" in found["failures"][-1]["reason"]
    assert main(["status"]) == 0
    out = capsys.readouterr().out
    assert "Total Demands:\n CPU: 99" in out and "SIGKILL" in out and "actors:  1 alive" in out


def _status(capsys: Captured) -> Any:
    assert main(["status", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_stack_shows_where_everybody_is(scene: Scene, capsys: Captured) -> None:
    _until(lambda: main(["stack"]) == 0 and "runs stands_here" in capsys.readouterr().out)
    assert main(["stack"]) == 0
    out = capsys.readouterr().out
    assert "in stands_here" in out and f"=== driver {os.getpid()} ===" in out
    assert "test_stack_shows_where_everybody_is" in out and "on_inspect" not in out and "zygote" not in out
    assert main(["stack", str(scene.pid), "--all-threads"]) == 0
    out = capsys.readouterr().out
    assert out.count("===") == 2 and "minray-pump" in out
    assert main(["stack", "1"]) == 1
    assert "no process of this session has the pid 1" in capsys.readouterr().err


def test_stack_names_a_process_that_does_not_answer(scene: Scene, capsys: Captured) -> None:
    os.kill(scene.pid, signal.SIGSTOP)
    try:
        assert main(["stack", "--timeout", "0.5"]) == 1
        out, err = capsys.readouterr()
        assert f"worker {scene.pid} did not answer" in err and f"=== driver {os.getpid()} ===" in out
    finally:
        os.kill(scene.pid, signal.SIGCONT)


def test_logs_by_file_actor_task_and_pid(scene: Scene, capsys: Captured) -> None:
    assert main(["logs"]) == 0
    out = capsys.readouterr().out
    assert "node.log" in out and str(scene.pid) in out
    (actor,) = _json(capsys, "list", "actors")
    ways = [
        ["--pid", str(scene.pid)],
        ["--actor-id", actor["actor_id"], "--err"],
        ["actor", "--id", actor["actor_id"], "--tail", "1"],
        [next(line.split()[0] for line in out.splitlines() if str(scene.pid) in line)],
    ]
    for way in ways:
        assert main(["logs", *way]) == 0
        assert capsys.readouterr().out == "words of the speaker\n"
    assert main(["logs", "nothing*"]) == 1
    assert main(["logs", "--pid", "1"]) == 1
    assert "No worker of this session has or had the pid 1" in capsys.readouterr().err


def test_followed_logs_come_as_they_are_written(scene: Scene) -> None:
    process = _command("logs", "--pid", str(scene.pid), "--follow")
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "words of the speaker\n"
        ray.get(scene.actor.say.remote("more words"))
        assert process.stdout.readline() == "more words\n"
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        process.communicate()


def _command(*words: str, address: str = "") -> subprocess.Popen[str]:
    environment = {**os.environ, "MINRAY_ADDRESS": address or current().session().session_dir}
    return subprocess.Popen(
        [sys.executable, "-m", "minray", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def test_from_another_terminal_timeline_and_list_see_the_same(scene: Scene, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    process = _command("timeline", "-o", str(path))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "ui.perfetto.dev" in out
    assert "Speaker.say" in {event["name"] for event in json.loads(path.read_text())}
    process = _command("list", "tasks", "--format", "json")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert scene.running.task_id().hex() in {row["task_id"] for row in json.loads(out)}


def test_without_a_session_the_command_says_what_to_do(scene: Scene) -> None:
    folder = tempfile.mkdtemp(prefix="mr-", dir="/tmp")  # short: a socket's path may not be long
    environment = {**os.environ, "MINRAY_TMPDIR": folder}
    environment.pop("MINRAY_ADDRESS", None)
    process = subprocess.run(
        [sys.executable, "-m", "minray", "status"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    os.rmdir(folder)
    assert process.returncode == 1 and process.stdout == ""
    assert "start a program that calls minray.init()" in process.stderr


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["list", "foos"], 2, "there are: actors"),
        (["list", "tasks", "-f", "statez=x"], 2, "statez is not supported"),
        (["list", "tasks", "-f", "state"], 2, "neither key=value nor key!=value"),
        (["list", "tasks", "-f", "worker_pid=abc"], 2, "Failed to convert"),
        (["list", "tasks", "--limit", "1000000"], 1, "exceeds the supported limit"),
        (["get", "runtime-envs", "x"], 2, "have no ids"),
        (["timeline", "-o", "/nowhere/t.json"], 2, "cannot write /nowhere/t.json"),
        (["list", "tasks", "--address", "/nowhere"], 1, "no running session"),
    ],
)
def test_errors_teach_and_have_exit_codes(
    scene: Scene, capsys: Captured, words: list[str], code: int, says: str
) -> None:
    assert main(words) == code
    out, err = capsys.readouterr()
    assert says in err and out == ""
