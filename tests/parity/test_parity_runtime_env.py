"""Runtime environments of tasks, actors and jobs, as both engines have them."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import pytest

ray: Any = importlib.import_module(os.environ.get("MINRAY_PARITY_ENGINE", "minray"))


@pytest.fixture(autouse=True)
def _shared(request: pytest.FixtureRequest) -> None:
    if "no_cluster" not in request.fixturenames:
        request.getfixturevalue("cluster")


def reader() -> Any:
    @ray.remote
    def variable(name: str) -> str | None:
        return os.environ.get(name)

    return variable


def test_a_child_inherits_its_parents_variables() -> None:
    variable = reader()

    @ray.remote(runtime_env={"env_vars": {"RE_PARENT": "1"}})
    def parent() -> Any:
        return ray.get(variable.remote("RE_PARENT"))

    assert ray.get(parent.remote()) == "1"


def test_a_childs_variables_are_added_to_its_parents() -> None:
    variable = reader()

    @ray.remote(runtime_env={"env_vars": {"RE_A": "1", "RE_B": "1"}})
    def parent() -> Any:
        child = variable.options(runtime_env={"env_vars": {"RE_B": "2"}})
        return ray.get([child.remote("RE_A"), child.remote("RE_B")])

    assert ray.get(parent.remote()) == ["1", "2"]


def test_an_actors_children_inherit() -> None:
    variable = reader()

    @ray.remote(runtime_env={"env_vars": {"RE_ACTOR": "1"}})
    class Actor:
        def own(self) -> Any:
            return os.environ.get("RE_ACTOR")

        def child(self) -> Any:
            return ray.get(variable.remote("RE_ACTOR"))

    actor = Actor.remote()
    assert ray.get([actor.own.remote(), actor.child.remote()]) == ["1", "1"]


def test_options_replace_the_runtime_env_of_the_decorator() -> None:
    @ray.remote(runtime_env={"env_vars": {"RE_OLD": "1"}})
    def look() -> Any:
        return os.environ.get("RE_OLD"), os.environ.get("RE_NEW")

    assert ray.get(look.options(runtime_env={"env_vars": {"RE_NEW": "1"}}).remote()) == (None, "1")


def test_different_variables_are_different_processes() -> None:
    @ray.remote
    def pid() -> int:
        return os.getpid()

    one = ray.get(pid.options(runtime_env={"env_vars": {"RE_X": "1"}}).remote())
    other = ray.get(pid.options(runtime_env={"env_vars": {"RE_X": "2"}}).remote())
    assert one != other


def test_the_context_shows_the_environment() -> None:
    @ray.remote(runtime_env={"env_vars": {"RE_SHOWN": "1"}})
    def look() -> Any:
        context = ray.get_runtime_context()
        return context.runtime_env["env_vars"], "RE_SHOWN" in context.get_runtime_env_string()

    variables, named = ray.get(look.remote())
    assert variables["RE_SHOWN"] == "1" and named


@pytest.mark.parametrize(
    ("env", "error"),
    [
        ({"env_vars": {"A": 1}}, TypeError),
        ({"working_dir": 3}, TypeError),
        ({"working_dir": "/no/such/folder"}, ValueError),
        ({"py_modules": "folder"}, TypeError),
        ({"py_modules": ["/no/such/folder"]}, ValueError),
    ],
)
def test_impossible_environments_are_refused_at_the_call(env: dict[str, Any], error: type[Exception]) -> None:
    variable = reader()
    with pytest.raises(error):
        variable.options(runtime_env=env).remote("A")


def test_a_job_runs_in_a_copy_of_its_working_dir(no_cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "module_of_the_job.py").write_text("VALUE = 7\n")
    (tmp_path / "data.txt").write_text("text")
    (tmp_path / "left.out").write_text("text")
    env = {"working_dir": str(tmp_path), "excludes": ["*.out"], "env_vars": {"RE_JOB": "1"}}
    ray.init(num_cpus=1, include_dashboard=False, logging_level="ERROR", log_to_driver=False, runtime_env=env)

    @ray.remote
    def look() -> Any:
        import module_of_the_job

        return (
            module_of_the_job.VALUE,
            Path("data.txt").read_text(),
            sorted(os.listdir(".")),
            os.environ["RE_JOB"],
            os.getcwd(),
        )

    value, text, names, variable, folder = ray.get(look.remote())
    assert (value, text, variable) == (7, "text", "1")
    assert "left.out" not in names and folder != str(tmp_path)
    more = look.options(runtime_env={"env_vars": {"RE_MORE": "1"}})
    assert ray.get(more.remote())[:2] == (7, "text")


def test_a_jobs_modules_are_importable(no_cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "package_of_the_job").mkdir()
    (tmp_path / "package_of_the_job" / "__init__.py").write_text("VALUE = 8\n")
    env = {"py_modules": [str(tmp_path / "package_of_the_job")]}
    ray.init(num_cpus=1, include_dashboard=False, logging_level="ERROR", log_to_driver=False, runtime_env=env)

    @ray.remote
    def look() -> Any:
        import package_of_the_job

        return package_of_the_job.VALUE

    assert ray.get(look.remote()) == 8


def test_a_jobs_hook_runs_in_its_workers(no_cluster: Any) -> None:
    def hook() -> None:
        os.environ["RE_HOOK"] = "ran"

    env = {"worker_process_setup_hook": hook}
    ray.init(num_cpus=1, include_dashboard=False, logging_level="ERROR", log_to_driver=False, runtime_env=env)
    assert ray.get(reader().remote("RE_HOOK")) == "ran"
