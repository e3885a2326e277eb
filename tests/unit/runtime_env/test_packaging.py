"""What is copied for workers, and under which name?"""

from __future__ import annotations

import os
import types
import zipfile
from pathlib import Path

import pytest

from minray.exceptions import RuntimeEnvSetupError
from minray.runtime_env import packaging
from minray.runtime_env.packaging import prepare


def ready(given: dict, session: Path) -> dict:
    return prepare(given, str(session), lambda hook: b"pickled " + hook.__name__.encode())


def files_below(folder: str) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "pkg").mkdir(parents=True)
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("ref")
    (folder / ".gitignore").write_text("*.log\nbuild/\n")
    (folder / "main.py").write_text("X = 1\n")
    (folder / "pkg" / "__init__.py").write_text("")
    (folder / "pkg" / "data.csv").write_text("1,2")
    (folder / "noise.log").write_text("x")
    (folder / "build").mkdir()
    (folder / "build" / "out.bin").write_text("x")
    return folder


def test_a_folder_is_copied_without_what_git_ignores_or_the_caller_excludes(
    project: Path, tmp_path: Path
) -> None:
    copy = ready({"working_dir": str(project), "excludes": ["*.csv"]}, tmp_path / "s")["working_dir"]
    assert files_below(copy) == {".gitignore", "main.py", "pkg/__init__.py"}


def test_the_same_contents_are_copied_once_and_a_change_makes_a_new_copy(
    project: Path, tmp_path: Path
) -> None:
    first = ready({"working_dir": str(project)}, tmp_path)["working_dir"]
    assert ready({"working_dir": str(project)}, tmp_path)["working_dir"] == first
    (project / "main.py").write_text("X = 2\n")
    second = ready({"working_dir": str(project)}, tmp_path)["working_dir"]
    assert second != first
    assert (Path(first) / "main.py").read_text() == "X = 1\n"
    assert not [name for name in os.listdir(tmp_path / "runtime_resources") if name.startswith("tmp")]


def test_modules_are_importable_from_the_folder_that_is_returned(project: Path, tmp_path: Path) -> None:
    single = tmp_path / "single.py"
    single.write_text("Y = 3\n")
    wheel = tmp_path / "made-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr("made/__init__.py", "")
    loaded = types.ModuleType("pkg")
    loaded.__path__ = [str(project / "pkg")]  # type: ignore[attr-defined]
    given = {"py_modules": [str(project / "pkg"), str(single), str(wheel), loaded]}
    folders = ready(given, tmp_path / "s")["py_modules"]
    assert (Path(folders[0]) / "pkg" / "__init__.py").exists()
    assert files_below(folders[1]) == {"single.py"}
    assert (Path(folders[2]) / "made" / "__init__.py").exists()
    assert folders[3] == folders[0]


def test_an_archive_with_one_folder_is_entered(tmp_path: Path) -> None:
    archive = tmp_path / "project.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("project/main.py", "X = 1\n")
    folder = ready({"working_dir": str(archive)}, tmp_path / "s")["working_dir"]
    assert files_below(folder) == {"main.py"}


def test_a_broken_archive_says_so(tmp_path: Path) -> None:
    archive = tmp_path / "broken.zip"
    archive.write_bytes(b"no zip")
    with pytest.raises(RuntimeEnvSetupError, match=r"broken\.zip"):
        ready({"working_dir": str(archive)}, tmp_path)
    assert os.listdir(tmp_path / "runtime_resources") == []


def test_what_is_not_there_or_not_local_is_refused(tmp_path: Path) -> None:
    for path, text in (("nowhere", "valid path"), ("s3://bucket/x.zip", "network"), (__file__, "archive")):
        with pytest.raises(ValueError, match=text):
            ready({"working_dir": path}, tmp_path)


def test_too_large_a_folder_is_refused_before_it_is_copied(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packaging, "PACKAGE_LIMIT_BYTES", 5)
    with pytest.raises(RuntimeEnvSetupError, match="excludes"):
        ready({"working_dir": str(project)}, tmp_path)


def test_packages_must_be_installed_already(tmp_path: Path) -> None:
    assert ready({"pip": ["pytest>=7", "# a comment", "nothing; python_version < '3'"]}, tmp_path) == {}
    assert ready({"pip": {"packages": ["pytest"], "pip_check": False}}, tmp_path) == {}
    with pytest.raises(RuntimeEnvSetupError, match=r"pip install no-such-package-here pytest<1"):
        ready({"pip": ["no-such-package-here", "pytest<1"]}, tmp_path)
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("-r other.txt\npytest\nno-such-package-here\n")
    with pytest.raises(RuntimeEnvSetupError, match="no-such-package-here"):
        ready({"uv": str(requirements)}, tmp_path)


def test_a_hook_travels_as_bytes_or_as_its_name(tmp_path: Path) -> None:
    def hook() -> None: ...

    prepared = ready({"worker_process_setup_hook": hook, "env_vars": {"A": "1"}}, tmp_path)
    assert bytes.fromhex(prepared["worker_process_setup_hook"]) == b"pickled hook"
    assert ready({"worker_process_setup_hook": "os.getpid"}, tmp_path) == {
        "worker_process_setup_hook": "os.getpid"
    }
