"""Do the same parity tests pass on real Ray? Runs where MINRAY_RAY_PYTHON names a python that has it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(os.environ.get("MINRAY_PARITY_ENGINE") == "ray", reason="this run is the real-Ray side")
def test_every_parity_test_passes_on_real_ray(ray_python: str) -> None:
    run = subprocess.run(
        [ray_python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(HERE)]
        + ["--confcutdir", str(HERE), "--ignore", str(HERE / "test_real_ray.py"), str(HERE)],
        env={**os.environ, "MINRAY_PARITY_ENGINE": "ray"},
        capture_output=True,
        text=True,
        timeout=880,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
