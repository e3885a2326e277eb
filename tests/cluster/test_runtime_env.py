"""Do tasks, actors and jobs run in the environment that they name, and nobody else?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import minray as ray

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(num_cpus=2, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "lib_of_env").mkdir(parents=True)
    (folder / "lib_of_env" / "__init__.py").write_text("ANSWER = 42\n")
    (folder / "data.txt").write_text("from the folder")
    return folder


@ray.remote
def variable(name: str) -> str | None:
    return os.environ.get(name)


@ray.remote
def pid() -> int:
    return os.getpid()


def test_a_task_runs_in_a_copy_of_its_working_dir(cluster: None, project: Path) -> None:
    @ray.remote(runtime_env={"working_dir": str(project)})
    def read() -> tuple[str, int, str]:
        import lib_of_env

        return Path("data.txt").read_text(), lib_of_env.ANSWER, os.getcwd()

    text, answer, where = ray.get(read.remote())
    assert (text, answer) == ("from the folder", 42)
    assert where != str(project) and "runtime_resources" in where


def test_a_changed_folder_is_used_by_the_next_task_that_names_it(cluster: None, project: Path) -> None:
    @ray.remote
    def read() -> str:
        return Path("data.txt").read_text()

    named = {"runtime_env": {"working_dir": str(project)}}
    assert ray.get(read.options(**named).remote()) == "from the folder"
    (project / "data.txt").write_text("changed")
    assert ray.get(read.options(**named).remote()) == "changed"


def test_modules_are_importable_in_tasks_and_actors(cluster: None, project: Path) -> None:
    named = {"runtime_env": {"py_modules": [str(project / "lib_of_env")]}}

    @ray.remote
    def answer() -> int:
        import lib_of_env

        return lib_of_env.ANSWER

    @ray.remote
    class Asker:
        def __init__(self) -> None:
            import lib_of_env

            self.answer = lib_of_env.ANSWER

        def ask(self) -> int:
            return self.answer

    assert ray.get(answer.options(**named).remote()) == 42
    assert ray.get(Asker.options(**named).remote().ask.remote()) == 42
    with pytest.raises(ModuleNotFoundError):
        ray.get(answer.remote())


def test_workers_are_shared_by_equal_environments_only(cluster: None) -> None:
    one = pid.options(runtime_env={"env_vars": {"A": "1"}})
    again = pid.options(runtime_env={"env_vars": {"A": "1"}})
    other = pid.options(runtime_env={"env_vars": {"A": "2"}})
    first = {ray.get(one.remote()) for _ in range(3)}
    assert {ray.get(again.remote()) for _ in range(3)} & first
    assert not {ray.get(other.remote()) for _ in range(3)} & first
    assert not {ray.get(pid.remote()) for _ in range(3)} & first


def test_variables_are_set_before_the_worker_imports_for_the_task(cluster: None, tmp_path: Path) -> None:
    (tmp_path / "reads_at_import.py").write_text("import os\nSEEN = os.environ.get('AT_IMPORT')\n")

    @ray.remote
    def seen() -> str | None:
        import reads_at_import

        return reads_at_import.SEEN

    env = {"env_vars": {"AT_IMPORT": "yes"}, "py_modules": [str(tmp_path / "reads_at_import.py")]}
    assert ray.get(seen.options(runtime_env=env).remote()) == "yes"


def test_children_inherit_and_merge(cluster: None) -> None:
    @ray.remote(runtime_env={"env_vars": {"P": "parent", "Q": "parent"}})
    def parent() -> list[Any]:
        own = variable.options(runtime_env={"env_vars": {"Q": "child"}})
        return ray.get([variable.remote("P"), own.remote("P"), own.remote("Q")])

    assert ray.get(parent.remote()) == ["parent", "parent", "child"]


def test_many_environments_fit_on_few_processes(cluster: None) -> None:
    names = [str(number) for number in range(12)]
    refs = [variable.options(runtime_env={"env_vars": {"N": name}}).remote("N") for name in names]
    assert ray.get(refs) == names


def test_a_hook_runs_once_before_the_first_task_and_its_failure_is_the_tasks(cluster: None) -> None:
    def hook() -> None:
        os.environ["HOOKED"] = os.environ.get("HOOKED", "") + "x"

    def broken() -> None:
        raise OSError("no licence server")

    hooked = variable.options(runtime_env={"worker_process_setup_hook": hook})
    assert ray.get([hooked.remote("HOOKED") for _ in range(5)]) == ["x"] * 5
    with pytest.raises(ray.exceptions.RuntimeEnvSetupError, match="no licence server"):
        ray.get(variable.options(runtime_env={"worker_process_setup_hook": broken}).remote("A"))

    @ray.remote(runtime_env={"worker_process_setup_hook": broken})
    class Actor:
        def ping(self) -> int:
            return 1

    with pytest.raises(ray.exceptions.RayError, match="no licence server"):
        ray.get(Actor.remote().ping.remote())


def test_the_context_tells_the_environment(cluster: None) -> None:
    @ray.remote(runtime_env={"env_vars": {"A": "1"}})
    def look() -> tuple[Any, str]:
        context = ray.get_runtime_context()
        return dict(context.runtime_env), context.get_runtime_env_string()

    env, text = ray.get(look.remote())
    assert env == {"env_vars": {"A": "1"}} and '"A": "1"' in text


@pytest.fixture
def no_cluster(cluster: None) -> Iterator[None]:
    ray.shutdown()
    yield
    ray.shutdown()


def test_the_jobs_environment_is_everybodys(no_cluster: None, project: Path) -> None:
    def hook() -> None:
        os.environ["JOB_HOOK"] = "ran"

    env = {"working_dir": str(project), "env_vars": {"JOB": "1"}, "worker_process_setup_hook": hook}
    ray.init(num_cpus=1, log_to_driver=False, runtime_env=env)

    @ray.remote
    def look() -> tuple[Any, ...]:
        import lib_of_env

        found = ray.get_runtime_context().runtime_env
        return (
            lib_of_env.ANSWER,
            Path("data.txt").read_text(),
            os.environ["JOB"],
            os.environ["JOB_HOOK"],
            set(found),
        )

    expected = (
        42,
        "from the folder",
        "1",
        "ran",
        {"working_dir", "env_vars", "worker_process_setup_hook"},
    )
    assert ray.get(look.remote()) == expected
    assert ray.get(look.options(runtime_env={"env_vars": {"B": "2"}}).remote())[:4] == expected[:4]
    assert "JOB" not in os.environ and os.getcwd() != str(project)


def test_a_bad_environment_fails_where_it_was_written(no_cluster: None) -> None:
    with pytest.raises(ValueError, match="nowhere"):
        ray.init(num_cpus=1, runtime_env={"working_dir": "nowhere"})
    assert not ray.is_initialized()
    with pytest.raises(TypeError, match="runtime_env"):
        ray.init(num_cpus=1, runtime_env="x")
