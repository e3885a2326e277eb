"""Does the repository read as it promises? Style that a linter cannot see, held by tests.

Each check names every offender at once, so that one run tells all that is to be done.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (ROOT / "minray", ROOT / "widgets" / "minray_widgets")

# A name that could hold anything says nothing about what it holds.
EMPTY_NAMES = {"utils", "helpers", "helper", "manager", "misc", "common", "stuff"}

# Longer than 500 lines, and why. A file leaves this list when it is split, and joins it only with a reason.
LONG_MODULES: dict[str, str] = {
    "minray/base/errors.py": "one table of every error that users see: how each is built, read and pickled",
    "minray/bench/workload.py": "a program that runs by path in a peer's environment: it may import no neighbour",
}

# The public names of `import minray as ray`. A change here is a change for users: CHANGELOG.md says so.
PUBLIC_API = frozenset(
    """
    ActorClass ActorClassID ActorHandle ActorID ClusterID DynamicObjectRefGenerator FunctionID JobID
    Language LoggingConfig NodeID ObjectID ObjectRef ObjectRefGenerator PlacementGroupID TaskID UniqueID
    WorkerID actor available_resources cancel cluster_resources cpp_function exceptions get get_actor
    get_gpu_ids get_runtime_context init is_initialized java_actor_class java_function kill load_run method
    nodes put record remote show shutdown timeline util wait
    """.split()
)

# What a plain `import minray` must not pay for.
HEAVY = ("numpy", "pandas", "pyarrow", "torch", "grpc", "IPython", "plotly", "anywidget", "asyncio", "rich")


def modules() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted(p for p in package.rglob("*.py") if "_content" not in p.parts)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def docstring_of(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def test_every_module_opens_with_what_it_answers() -> None:
    silent = [relative(p) for p in modules() if len(docstring_of(p).split()) < 4]
    assert not silent, f"no docstring that says what the module answers: {silent}"


def test_most_modules_ask_a_question_first() -> None:
    # Packages (`__init__`) may state a fact; a module that has something to tell is asked about.
    asked = [p for p in modules() if p.name not in ("__init__.py", "__main__.py")]
    mute = [relative(p) for p in asked if "?" not in "".join(docstring_of(p).split("\n\n")[:2])]
    assert not mute, f"the first lines of the docstring ask no question: {mute}"


def test_names_say_what_is_inside() -> None:
    empty = [relative(p) for p in modules() if EMPTY_NAMES & set(re.split(r"[_/.]", relative(p)))]
    assert not empty, f"names that could hold anything: {empty}"


def test_nothing_is_left_to_do() -> None:
    word = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    found = []
    for path in modules():
        with tokenize.open(path) as lines:
            for token in tokenize.generate_tokens(lines.readline):
                if token.type == tokenize.COMMENT and word.search(token.string):
                    found.append(f"{relative(path)}:{token.start[0]}")
                if token.type == tokenize.NAME and token.string == "NotImplementedError":
                    if path.name == "generators.py":
                        continue  # refuses for good what Ray's generators refuse, with Ray's exception
                    found.append(f"{relative(path)}:{token.start[0]} NotImplementedError")
    assert not found, f"unfinished: {found}"


def test_long_modules_have_a_reason() -> None:
    counts = {relative(p): len(p.read_text(encoding="utf-8").splitlines()) for p in modules()}
    long = {name: count for name, count in counts.items() if count > 500 and name not in LONG_MODULES}
    assert not long, f"over 500 lines and no reason in LONG_MODULES: {long}"
    gone = [name for name in LONG_MODULES if counts.get(name, 0) <= 450]
    assert not gone, f"no longer long, take them off LONG_MODULES: {gone}"


def test_the_tour_names_every_package() -> None:
    tour = (ROOT / "TOUR.md").read_text(encoding="utf-8")
    packages = {relative(p.parent) for p in modules() if p.name == "__init__.py"}
    missing = sorted(name for name in packages if f"`{name}/`" not in tour)
    assert not missing, f"TOUR.md has no line for {missing}"


def test_the_tour_and_readme_point_only_at_what_exists() -> None:
    broken = []
    for page in ("TOUR.md", "README.md", "CONTRIBUTING.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text):
            if not (ROOT / target).exists():
                broken.append(f"{page} -> {target}")
        for target in re.findall(r"`((?:minray|widgets|lessons|labs|tests|binder|docs)/[\w./-]*)`", text):
            if not (ROOT / target).exists():
                broken.append(f"{page} -> {target}")
    assert not broken, f"dead links: {broken}"


def test_the_tours_symbols_exist() -> None:
    """`path.py: name` in TOUR.md: the file has a function, class or method of that name."""
    tour = (ROOT / "TOUR.md").read_text(encoding="utf-8")
    broken = []
    for path, names in re.findall(r"`((?:minray|widgets)/[\w./]+\.py): ([\w., ]+)`", tour):
        if not (ROOT / path).is_file():
            broken.append(path)
            continue
        defined = {
            node.name
            for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        }
        broken += [f"{path}: {n}" for n in names.split(", ") if not set(n.split(".")) <= defined]
    assert not broken, f"TOUR.md names what is not there: {broken}"


def test_the_public_api_is_the_one_that_was_reviewed() -> None:
    import minray

    assert set(minray.__all__) == PUBLIC_API
    missing = [name for name in minray.__all__ if not hasattr(minray, name)]
    assert not missing, f"in __all__ but not there: {missing}"


def test_importing_minray_pulls_in_nothing_heavy() -> None:
    # A fresh interpreter, isolated from this one's plugins; what counts is the list, not the time.
    script = f"import json, sys; import minray; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(run.stdout) == []


@pytest.mark.parametrize("command", ["lab", "test", "bench", "parity", "lint", "clean"])
def test_the_makefile_has_the_documented_commands(command: str) -> None:
    assert re.search(rf"^{command}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
