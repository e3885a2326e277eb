"""Do the five documents that minray was written for run, as written, once `ray` means minray?

Their text is never edited. A block runs as a user would run it, `minray run SCRIPT`, in a process of
its own with the capacity that it asks for declared by environment variables.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from tests.seeds.cases import CASES, LATER, LATER_PARTS, NOT_CODE, Case

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DOCUMENTS = HERE / "documents"
MINRAY_RUN = [sys.executable, "-c", "import sys; from minray.cli.main import main; sys.exit(main())", "run"]
FENCE = re.compile(r"^\s*```(\w*)\s*$")


def blocks(document: str) -> dict[int, str]:
    """The fenced blocks of a document: line of the opening fence -> text, indentation removed."""
    found: dict[int, str] = {}
    opened, lines = 0, []
    for number, line in enumerate((DOCUMENTS / document).read_text(encoding="utf-8").splitlines(), 1):
        if FENCE.match(line):
            if opened:
                found[opened] = textwrap.dedent("\n".join(lines)) + "\n"
                opened, lines = 0, []
            else:
                opened = number
        elif opened:
            lines.append(line)
    assert not opened, f"{document}: a fence stays open"
    return found


def program(case: Case) -> str:
    """The block between what it lacks and what must hold."""
    texts = blocks(case.document)
    parts = [
        case.supplies.strip(),
        *(texts[line] for line in case.before),
        texts[case.line],
        case.claims.strip(),
    ]
    return "\n".join(parts) + '\nprint("every claim holds")\n'


def environment(case: Case) -> dict[str, str]:
    """Capacity as the block asks for it, whatever this machine has."""
    path = [str(HERE / "stand_ins")] * case.stand_ins + [str(ROOT), os.environ.get("PYTHONPATH", "")]
    told = {
        "PYTHONPATH": os.pathsep.join(p for p in path if p),
        "MINRAY_NUM_CPUS": str(case.cpus),
        "MINRAY_NUM_GPUS": str(case.gpus),
        "MINRAY_RESOURCES": json.dumps(case.resources),
    }
    return {**os.environ, **told}


@pytest.mark.cluster
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_block_runs_as_written(case: Case, tmp_path: Path) -> None:
    for package in case.needs:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"NO {package}: the block imports it")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if memory < 2 * case.memory_bytes:
        pytest.skip(
            f"NOT ENOUGH MEMORY: the block asks for {case.memory_bytes >> 30} GB, this machine has {memory >> 30}"
        )
    script = tmp_path / "block.py"
    script.write_text(program(case), encoding="utf-8")
    done = subprocess.run(
        [*MINRAY_RUN, str(script)],
        env=environment(case),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "every claim holds" in done.stdout, done.stdout[-4000:]
    position = 0
    for line in case.printed:
        position = done.stdout.find(line, position)
        assert position >= 0, f"{line!r} is not printed, or out of order:\n{done.stdout[-2000:]}"


def test_every_block_of_every_document_runs_or_is_listed_with_its_reason() -> None:
    documents = sorted(path.name for path in DOCUMENTS.glob("*.txt"))
    every = {(document, line) for document in documents for line in blocks(document)}
    run = {(case.document, case.line) for case in CASES}
    tables = [run, set(LATER), set(NOT_CODE)]
    counted = Counter(key for table in tables for key in table)
    assert [key for key, count in counted.items() if count > 1] == []
    assert set(counted) == every
    assert set(LATER_PARTS) <= run
    assert (len(documents), len(every)) == (5, 67)
    assert (len(run), len(LATER), len(NOT_CODE)) == (37, 25, 5)


def test_the_documents_are_unchanged() -> None:
    digest = hashlib.sha256()
    for path in sorted(DOCUMENTS.glob("*.txt")):
        digest.update(path.read_bytes())
    assert digest.hexdigest() == "b218aa8acd80b7820af45ead19f506c2b0354c13d9d75a15fdbdeb03e1736f50"
