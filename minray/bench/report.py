"""How are the figures told? A table for people, JSON for programs, both with the machine they hold for."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from minray.bench import workload
from minray.bench.race import TRACED, TRACED_KEYS, UNTRACED, Standing, ratio


@dataclass(frozen=True)
class Goal:
    """What minray set out to reach on one line."""

    text: str
    ratio_min: float = 0.0  # against real Ray
    value_max: float = float("inf")  # an absolute figure, for lines where less is better


# Against Ray 2.60, in one run on the same two cores, events on.
GOALS = {
    "init": Goal("≤ 250 ms", value_max=250),
    "idle_pss": Goal("≤ 50 MB", value_max=50),
    "idle_cpu": Goal("≤ 0.5 %", value_max=0.5),
    "pending_bytes": Goal("≤ 1,000", value_max=1000),
    "tasks_sync": Goal("20 ×", 20),
    "tasks_async": Goal("60 ×", 60),
    "actor_sync": Goal("12 ×", 12),
    "actor_async": Goal("60 ×", 60),
    "actor_nn": Goal("60 ×", 60),
    "async_actor": Goal("20 ×", 20),
    "stream_items": Goal("20 ×", 20),
    "get_small": Goal("60 ×", 60),
    "put_small": Goal("100 ×", 100),
    "put_large": Goal("1 ×", 1),
    "wait_1k": Goal("30 ×", 30),
    "chain_1k": Goal("20 ×", 20),
    "fan_10k": Goal("20 ×", 20),
    "get_container": Goal("8 ×", 8),
    "actors_created": Goal("50 ×", 50),
}
MEMCPY_SHARE_MIN = 0.85  # put 100 MB against the bare copy
TRACING_COST_MAX = 0.07


def machine() -> dict[str, object]:
    """What the figures hold for: processor, cores that we may use, memory, kernel, Python."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            model = next(
                (line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), model
            )
    except OSError:
        pass
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(memory / 1e9, 1),
        "kernel": platform.release(),
        "python": sys.version.split()[0],
    }


def machine_line(standings: Sequence[Standing]) -> str:
    """The machine and the versions, in one line."""
    m = machine()
    shown = [s for s in standings if s.version and s.contender.name not in (TRACED, UNTRACED)]
    versions = ", ".join(f"{s.contender.name} {s.version} (Python {s.python_version})" for s in shown)
    return f"{m['processor']}, {m['cores']} cores, {m['memory_gb']} GB, Linux {m['kernel']}; {versions}"


def tracing_cost(standings: Sequence[Standing], key: str) -> float | None:
    """The share of throughput that tracing takes: 0.03 is 3 %."""
    by_name = {s.contender.name: s for s in standings}
    if TRACED not in by_name or UNTRACED not in by_name:
        return None
    kept = ratio(by_name[TRACED], by_name[UNTRACED], key)
    return None if kept is None else 1 - kept


def as_json(standings: Sequence[Standing]) -> dict[str, object]:
    """Everything that was measured: medians, every round, ratios."""
    ours = next(s for s in standings if s.contender.name == "minray")
    lines: list[dict[str, object]] = []
    for line in workload.LINES:
        row: dict[str, object] = {
            "key": line.key,
            "title": line.title,
            "unit": line.unit,
            "higher_is_better": line.higher_is_better,
        }
        for standing in standings:
            name, value = standing.contender.name, standing.median(line.key)
            if value is None:
                continue
            row[name] = {"median": value, "rounds": [r[line.key] for r in standing.rounds if line.key in r]}
            if standing is not ours and (times := ratio(ours, standing, line.key)) is not None:
                row[f"ratio to {name}"] = times
        if len(row) > 4:
            lines.append(row)
    costs = {key: cost for key in TRACED_KEYS if (cost := tracing_cost(standings, key)) is not None}
    errors = {s.contender.name: s.errors for s in standings if s.errors}
    versions = {s.contender.name: s.version for s in standings}
    return {
        "machine": machine(),
        "versions": versions,
        "lines": lines,
        "tracing_cost": costs,
        "errors": errors,
    }


def figure(value: float | None) -> str:
    """A number with three significant digits and thousands separators: 1,340 · 0.626 · 214k."""
    if value is None:
        return "–"
    size = abs(value)
    if size >= 100_000:
        return f"{value / 1000:,.0f}k"
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def met(key: str, value: float | None, times: float | None) -> bool | None:
    """Whether a line reaches its goal; None where nothing is to be said."""
    goal = GOALS.get(key)
    if goal is None or value is None:
        return None
    if goal.ratio_min:
        return None if times is None else times >= goal.ratio_min
    return value <= goal.value_max


def table_rows(standings: Sequence[Standing]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table; goals stand in it when real Ray took part."""
    shown = [s for s in standings if s.contender.name not in (TRACED, UNTRACED)]
    ours, peers = shown[0], shown[1:]
    ray = next((s for s in peers if s.contender.name == "ray"), None)
    header = ["", "unit", "minray"]
    for peer in peers:
        header += [peer.contender.name, "×"]
    if ray is not None:
        header += ["goal", ""]
    rows = []
    for line in workload.LINES:
        values = [s.median(line.key) for s in shown]
        if all(v is None for v in values):
            continue
        row = [line.title, line.unit, figure(values[0])]
        for peer, value in zip(peers, values[1:], strict=True):
            times = ratio(ours, peer, line.key)
            row += [figure(value), "" if times is None or line.key == "memcpy" else figure(times)]
        if ray is not None:
            goal = GOALS.get(line.key)
            reached = met(line.key, values[0], ratio(ours, ray, line.key))
            row += [goal.text if goal else "", {True: "yes", False: "NO", None: ""}[reached]]
        rows.append(row)
    return header, rows


def footnotes(standings: Sequence[Standing]) -> list[str]:
    """Tracing's cost, the put against a bare copy, and what went wrong."""
    notes = []
    costs = [(key, tracing_cost(standings, key)) for key in TRACED_KEYS]
    told = [f"{workload.BY_KEY[key].title} {cost:+.1%}" for key, cost in costs if cost is not None]
    if told:
        notes.append(f"tracing on costs: {', '.join(told)} (goal: at most {TRACING_COST_MAX:.0%})")
    ours = standings[0]
    put, copy = ours.median("put_large"), ours.median("memcpy")
    if put is not None and copy is not None:
        notes.append(f"put 100 MB is {put / copy:.2f} × a bare memcpy (goal: at least {MEMCPY_SHARE_MIN})")
    for standing in standings:
        for key, error in standing.errors.items():
            title = workload.BY_KEY[key].title if key in workload.BY_KEY else "the whole run"
            notes.append(f"{standing.contender.name}, {title}: {error}")
    return notes


def print_table(standings: Sequence[Standing]) -> None:
    """Draw the table on the terminal."""
    from rich.console import Console
    from rich.table import Table

    header, rows = table_rows(standings)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, title in enumerate(header):
        table.add_column(title, justify="left" if index < 2 else "right", no_wrap=index > 0)
    for row in rows:
        table.add_row(*row, style="red" if row[-1] == "NO" else None)
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    for note in footnotes(standings):
        console.print(note, highlight=False, markup=False)
    console.print(machine_line(standings), style="dim", highlight=False, markup=False)
