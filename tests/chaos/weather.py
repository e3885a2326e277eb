"""How does a storm look from outside? One process per seed: it is interrupted, timed, and what it leaves is counted."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from minray.testing.leaks import LeakError, check_leaks

ROOT = Path(__file__).resolve().parents[2]
TASKS = 10_000
INTERRUPT_EVERY_S = 0.2
LIMIT_S = 900.0


class Found(NamedTuple):
    """How a storm ended."""

    survived: bool
    text: str


def weather(seed: int, tasks: int, rain: bool = True, limit_s: float = LIMIT_S) -> Found:
    """Run the storm of `seed`. Everything that it did wrong is in the text."""
    try:
        with check_leaks():
            return _storm(seed, tasks, rain, limit_s)
    except LeakError as error:
        return Found(False, str(error))


def _storm(seed: int, tasks: int, rain: bool, limit_s: float) -> Found:
    dice = random.Random(seed + 2)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.storm", str(seed), str(tasks)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'widgets'}", "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    began = time.monotonic()
    if process.stdout.readline().strip() == "READY":
        while process.poll() is None and time.monotonic() - began < limit_s:
            time.sleep(dice.uniform(0.1, 0.3))
            if rain:
                process.send_signal(signal.SIGINT)
    hangs = process.poll() is None
    if hangs:
        process.send_signal(signal.SIGUSR1)  # every thread says where it is
        time.sleep(0.5)
        process.kill()
    out, err = process.communicate()
    done = out.strip().splitlines()
    if process.returncode == 0 and done and done[-1].startswith("DONE") and not err:
        return Found(True, done[-1])
    how = f"hangs after {limit_s:.0f} s" if hangs else f"ended with {process.returncode}"
    return Found(False, f"{how}\n{out}{err}")
