"""How do a folder and modules of the driver get to workers, as they were when the task was submitted?

They are copied into the session's folder under a name made of their contents: a later change of the
original is a new copy, an unchanged one is copied once. What `.gitignore` (of that folder) and `excludes`
name stays behind. The copies go with the session.

    <session>/runtime_resources/<sha of the contents>/...

Ray packs a zip into its GCS and unpacks it on each node; on one machine a copy is enough. Ray takes
folders at the job level only (`init`), here they may be named by single tasks and actors as well.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from minray.base.errors import RuntimeEnvSetupError
from minray.runtime_env.description import check

PACKAGE_LIMIT_BYTES = 512 << 20
_ARCHIVES = (".zip", ".whl", ".tar.gz", ".tgz", ".tar.xz")


def prepare(
    given: Mapping[str, Any], session_dir: str, pickle_hook: Callable[[Any], bytes]
) -> dict[str, Any]:
    """`given` with copies in place of folders and modules, as plain strings: what travels to workers.

    Raises: ValueError for a path that is not there, RuntimeEnvSetupError for what is too large or not
    installed, TypeError for bad types.
    """
    check(given)
    store = Path(session_dir) / "runtime_resources"
    excludes = list(given.get("excludes") or ())
    prepared: dict[str, Any] = {}
    if given.get("env_vars"):
        prepared["env_vars"] = dict(given["env_vars"])
    if given.get("working_dir"):
        prepared["working_dir"] = _folder(given["working_dir"], store, excludes)
    if given.get("py_modules"):
        prepared["py_modules"] = [_module(part, store, excludes) for part in given["py_modules"]]
    hook = given.get("worker_process_setup_hook")
    if hook is not None:
        prepared["worker_process_setup_hook"] = hook if isinstance(hook, str) else pickle_hook(hook).hex()
    for name in ("pip", "uv"):
        _require_installed(name, given.get(name))
    return prepared


def _folder(path: str, store: Path, excludes: Sequence[str]) -> str:
    source = _existing(path)
    if source.is_dir():
        return str(_copied(source, store, excludes, inside=""))
    if not path.endswith(_ARCHIVES):
        raise ValueError(
            f"directory {path} must be an existing directory or a supported archive (.zip, .tar.gz, .tgz, .tar.xz)"
        )
    unpacked = _unpacked(source, store)
    inner = [entry for entry in unpacked.iterdir() if entry.name != "__MACOSX"]
    return str(inner[0] if len(inner) == 1 and inner[0].is_dir() else unpacked)


def _module(part: str | ModuleType, store: Path, excludes: Sequence[str]) -> str:
    """The folder to put on sys.path so that the module can be imported."""
    if isinstance(part, ModuleType):
        paths = list(getattr(part, "__path__", ())) or [part.__file__ or ""]
        if len(paths) != 1:
            raise ValueError(
                f"py_modules only supports modules whose __path__ has length 1; {part.__name__} has {paths}"
            )
        part = str(paths[0])
    source = _existing(part)
    if part.endswith(_ARCHIVES):
        return str(_unpacked(source, store))
    if source.is_dir():
        return str(_copied(source, store, excludes, inside=source.name))
    if source.suffix == ".py":
        return str(_copied(source.parent, store, ["*", f"!/{source.name}"], inside=""))
    raise ValueError(
        f"{part} is neither a folder, nor a .py file, nor an archive or wheel: it cannot be a module"
    )


def _existing(path: str) -> Path:
    if "://" in path and not path.startswith("file://"):
        raise ValueError(
            f"{path}: packages from the network are not offered; download it and name the local folder or archive."
        )
    source = Path(path.removeprefix("file://")).expanduser()
    if not source.exists():
        raise ValueError(f"{path} is not a valid path.")
    return source.resolve()


def _files_of(folder: Path, excludes: Sequence[str]) -> Iterable[tuple[str, Path]]:
    """(relative name, path) of every file to copy, in order."""
    import pathspec

    lines = list(excludes)
    ignored = folder / ".gitignore"
    if ignored.is_file():
        lines = [*ignored.read_text(encoding="utf-8", errors="replace").splitlines(), *lines]
    spec = pathspec.GitIgnoreSpec.from_lines([*lines, ".git/"])
    for root, folders, names in os.walk(folder):
        here = Path(root)
        relative = here.relative_to(folder).as_posix()
        prefix = "" if relative == "." else f"{relative}/"
        folders[:] = sorted(name for name in folders if not spec.match_file(f"{prefix}{name}/"))
        for name in sorted(names):
            path = here / name
            if path.is_file() and not spec.match_file(prefix + name):
                yield prefix + name, path


def _copied(folder: Path, store: Path, excludes: Sequence[str], inside: str) -> Path:
    """A copy of `folder` (below a folder `inside`, if named) under a name made of its contents."""
    digest = hashlib.sha256(inside.encode())
    files = []
    total = 0
    for name, path in _files_of(folder, excludes):
        size_bytes = path.stat().st_size
        total += size_bytes
        if total > PACKAGE_LIMIT_BYTES:
            raise RuntimeEnvSetupError(
                f"{folder} holds more than {PACKAGE_LIMIT_BYTES >> 20} MiB, too much to copy for workers. Name what "
                "is not needed in runtime_env['excludes'] or in its .gitignore, or have tasks read it where it is."
            )
        with path.open("rb") as file:
            digest.update(name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
        files.append((name, path))
    target = store / digest.hexdigest()[:16]
    if not target.exists():

        def fill(into: Path) -> None:
            for name, path in files:
                copy = into / inside / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, copy)

        _made_whole(target, fill)
    return target


def _unpacked(archive: Path, store: Path) -> Path:
    with archive.open("rb") as file:
        target = store / hashlib.file_digest(file, "sha256").hexdigest()[:16]
    if not target.exists():

        def fill(into: Path) -> None:
            if archive.suffix in (".zip", ".whl"):
                with zipfile.ZipFile(archive) as packed:
                    packed.extractall(into)
            else:
                with tarfile.open(archive) as packed_tar:
                    packed_tar.extractall(into, filter="data")

        try:
            _made_whole(target, fill)
        except (zipfile.BadZipFile, tarfile.TarError) as error:
            raise RuntimeEnvSetupError(f"{archive} cannot be unpacked: {error}") from error
    return target


def _made_whole(target: Path, fill: Callable[[Path], None]) -> None:
    """Fill a folder beside `target`, then give it its name: another process never sees half of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        fill(temporary)
        temporary.rename(target)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if target.exists():
            return  # somebody was faster
        if isinstance(error, OSError):
            raise RuntimeEnvSetupError(f"copying to {target} failed: {error}") from error
        raise


def _require_installed(what: str, given: Any) -> None:
    """Nothing is installed for a task: what it asks for must be here."""
    packages = given.get("packages", ()) if isinstance(given, Mapping) else given
    if isinstance(packages, str):
        packages = Path(packages).read_text(encoding="utf-8").splitlines()
    missing = [text for text in map(str, packages or ()) if text.strip() and not _is_installed(text)]
    if missing:
        raise RuntimeEnvSetupError(
            f"runtime_env[{what!r}] asks for {', '.join(missing)}, which this Python does not have. minray runs all "
            f"tasks in the driver's environment and installs nothing: `pip install {' '.join(missing)}`, start again."
        )


def _is_installed(text: str) -> bool:
    from packaging.requirements import InvalidRequirement, Requirement

    text = text.partition("#")[0].strip()
    if not text or text.startswith("-"):
        return True  # a comment, an option of pip's
    try:
        requirement = Requirement(text)
        version = importlib.metadata.version(requirement.name)
    except InvalidRequirement:
        return False
    except importlib.metadata.PackageNotFoundError:
        return requirement.marker is not None and not requirement.marker.evaluate()
    return requirement.specifier.contains(version, prereleases=True)
