"""How are runtimes measured fairly on one noisy machine? Interleaved: a child process each, round by round.

A round runs every runtime once, each in a fresh process of its own environment; the next round runs
them in the opposite order, so that a machine that slows down hurts both ends. Figures are medians
over rounds. A ratio is taken within a round, pair by pair, and only then is the median taken: what
disturbs a whole round cancels out.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from minray.bench import workload

WORKLOAD = Path(workload.__file__).resolve()
CHILD_S_MAX = 600.0  # a child that takes longer is stopped, and what it told so far counts
TRACED, UNTRACED = "minray, tracing on", "minray, tracing off"
TRACED_KEYS = ("tasks_sync", "tasks_async", "actor_async")


@dataclass(frozen=True)
class Contender:
    """One runtime in one environment."""

    name: str  # as the table shows it
    runtime: str  # as workload.py knows it
    python: str
    keys: frozenset[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Standing:
    """What one contender told: a figure (or None) per line and round, and what went wrong."""

    contender: Contender
    rounds: list[dict[str, float]] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    version: str = ""
    python_version: str = ""

    def median(self, key: str) -> float | None:
        """The median over the rounds that have a figure."""
        values = [r[key] for r in self.rounds if key in r]
        return statistics.median(values) if values else None


def ratio(ours: Standing, theirs: Standing, key: str) -> float | None:
    """How many times better we are: the median of the rounds' own ratios."""
    better_up = workload.BY_KEY[key].higher_is_better
    pairs = [
        (mine[key], other[key])
        for mine, other in zip(ours.rounds, theirs.rounds, strict=False)
        if key in mine and key in other
    ]
    quotients = [(a / b if better_up else b / a) for a, b in pairs if (b if better_up else a) > 0]
    return statistics.median(quotients) if quotients else None


def contenders(
    against: Sequence[str], pythons: Mapping[str, str], keys: frozenset[str], with_untraced: bool
) -> list[Contender]:
    """Who takes part: minray, its peers, and a pair that differs in tracing alone, one right after the other."""
    ours = pythons.get("minray", sys.executable)
    # Run by path the workload does not see a checkout: its root goes in front of minray's own path.
    root = str(WORKLOAD.parents[2])
    path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH", "")) if p)
    field_ = [Contender("minray", "minray", ours, keys, {"PYTHONPATH": path})]
    for name in against:
        wanted = keys & workload.POOL_KEYS if name in workload.POOLS else keys
        field_.append(Contender(name, name, pythons.get(name, sys.executable), wanted))
    traced = keys & frozenset(TRACED_KEYS)
    if with_untraced and traced:
        for name, switch in ((TRACED, "1"), (UNTRACED, "0")):
            environment = {"PYTHONPATH": path, "MINRAY_TRACING": switch}
            field_.append(Contender(name, "minray", ours, traced, environment))
    return field_


def missing_runtime(contender: Contender) -> str | None:
    """Why this contender cannot run, or None: asked before the first round, not after the last."""
    if contender.runtime in ("concurrent.futures", "multiprocessing"):
        return None
    module = {"dask": "distributed"}.get(contender.runtime, contender.runtime)
    environment = {**os.environ, **contender.environment}
    try:
        done = subprocess.run(
            [contender.python, "-c", f"import {module}"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        return f"{contender.python}: {error.strerror}"
    if done.returncode == 0:
        return None
    reason = (done.stderr.strip().splitlines() or ["it does not import"])[-1]
    return f"{reason} in {contender.python}; give it its own: --python {contender.runtime}=PATH"


def run_child(
    contender: Contender, seconds: float, num_cpus: int | None, heard: Callable[[str, float], None]
) -> tuple[dict[str, object], dict[str, float], dict[str, str]]:
    """Run the workload once.

    Returns: what it says about itself, its figures, and its errors by line ("" for the whole child).
    """
    command = [contender.python, str(WORKLOAD), "--runtime", contender.runtime, "--seconds", str(seconds)]
    command += ["--lines", ",".join(sorted(contender.keys))]
    if num_cpus is not None:
        command += ["--num-cpus", str(num_cpus)]
    environment = {**os.environ, **contender.environment, workload.TOKEN: uuid.uuid4().hex}
    about: dict[str, object] = {}
    figures: dict[str, float] = {}
    errors: dict[str, str] = {}
    with (
        tempfile.TemporaryFile("w+") as complaints,
        subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            start_new_session=True,
        ) as child,
    ):
        timer = threading.Timer(CHILD_S_MAX, _stop, [child.pid])
        timer.start()
        try:
            assert child.stdout is not None
            for text in child.stdout:
                record = _parse(text)
                if "runtime" in record:
                    about = record
                elif "error" in record:
                    errors[str(record["key"])] = str(record["error"])
                elif "value" in record:
                    value = float(str(record["value"]))
                    figures[str(record["key"])] = value
                    heard(str(record["key"]), value)
            code = child.wait()
        except BaseException:  # Ctrl-C: leave no runtime behind
            _stop(child.pid)
            raise
        finally:
            timer.cancel()
        if code != 0:
            complaints.seek(0)
            tail = " / ".join(complaints.read().strip().splitlines()[-3:])
            errors[""] = f"exit {code}: {tail}"[:600]
    return about, figures, errors


def _parse(text: str) -> dict[str, object]:
    # A runtime may print between our lines (Ray's warnings do): what is no JSON object is none of ours.
    if not text.startswith("{"):
        return {}
    try:
        record = json.loads(text)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _stop(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def race(
    field_: Sequence[Contender],
    rounds: int,
    seconds: float,
    num_cpus: int | None,
    heard: Callable[[int, Contender, str, float], None],
) -> list[Standing]:
    """Run every round, and return what each contender told."""
    standings = [Standing(c) for c in field_]
    for number in range(rounds):
        order = standings if number % 2 == 0 else standings[::-1]
        for standing in order:
            contender = standing.contender

            def told(key: str, value: float, who: Contender = contender, turn: int = number) -> None:
                heard(turn, who, key, value)

            about, figures, errors = run_child(contender, seconds, num_cpus, told)
            standing.version = str(about.get("version", standing.version))
            standing.python_version = str(about.get("python", standing.python_version))
            standing.rounds.append(figures)
            standing.errors.update(errors)
    return standings
