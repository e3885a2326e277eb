"""Does what the first page says still work, as it stands there?"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.cluster


def test_the_twenty_lines_of_the_readme_print_what_they_say(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 1
    promised = re.search(r"# ([\d ]+)$", blocks[0], re.MULTILINE)
    assert promised is not None
    (tmp_path / "readme.py").write_text(blocks[0], encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "readme.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout.split() == promised[1].split()
    assert run.stderr == ""
    assert (tmp_path / "run.json").stat().st_size > 0
