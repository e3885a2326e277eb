"""What runs after the code has changed: redefinition, reload, modules that only the driver has."""

from __future__ import annotations

import importlib
import sys
import textwrap
import types
from pathlib import Path
from typing import Any

import pytest

import minray as ray


@pytest.fixture(autouse=True)
def _two_cpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    ray.init(num_cpus=2)
    yield
    ray.shutdown()


def _write(path: Path, text: str) -> None:
    path.write_text(textwrap.dedent(text))
    importlib.invalidate_caches()


def test_a_function_of_a_module_in_the_working_directory_runs_in_workers(tmp_path: Path) -> None:
    _write(tmp_path / "mine_a.py", "def double(x):\n    return 2 * x\n")
    module = importlib.import_module("mine_a")
    assert ray.get(ray.remote(module.double).remote(4)) == 8


def test_after_a_reload_the_next_call_uses_the_new_helper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    _write(tmp_path / "mine_b.py", "def helper():\n    return 'old'\n")
    module = importlib.import_module("mine_b")

    @ray.remote
    def call() -> str:
        return module.helper()  # type: ignore[no-any-return]

    assert ray.get([call.remote() for _ in range(4)]) == ["old"] * 4
    _write(tmp_path / "mine_b.py", "def helper():\n    return 'brand new'\n")
    importlib.reload(module)
    assert ray.get([call.remote() for _ in range(4)]) == ["brand new"] * 4


def test_a_module_without_a_file_travels_by_value() -> None:
    module = types.ModuleType("made_by_hand")
    exec("FACTOR = 3\ndef triple(x):\n    return FACTOR * x", module.__dict__)
    sys.modules["made_by_hand"] = module
    try:
        assert ray.get(ray.remote(module.triple).remote(5)) == 15
    finally:
        del sys.modules["made_by_hand"]


def test_a_redefined_function_replaces_the_old_one() -> None:
    space: dict[str, Any] = {"ray": ray}
    exec("@ray.remote\ndef f():\n    return 1", space)
    assert ray.get(space["f"].remote()) == 1
    exec("@ray.remote\ndef f():\n    return 2", space)
    assert ray.get(space["f"].remote()) == 2


def test_a_function_that_cannot_be_pickled_names_itself_and_the_way_out() -> None:
    import threading

    lock = threading.Lock()

    @ray.remote
    def stuck() -> Any:
        return lock

    with pytest.raises(TypeError, match="inspect_serializability"):
        stuck.remote()
