"""Does anything grow while a million tasks run? `python -m tests.chaos.soak [--tasks N] [--pending]`.

Prints the memory of every process (PSS) at each tenth. Tracing is on, as in any session: its ring is bounded, and
full after the first tenth or two. `--pending` measures instead what a call that waits costs its caller.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import minray as ray
from minray.engine.seam import current

BATCH = 5_000


class Sizes(NamedTuple):
    """Kilobytes of PSS after so many tasks."""

    tasks: int
    seconds: float
    driver: int
    node: int
    workers: int  # in sum
    each: dict[int, int]  # worker by worker, by pid: their number changes, and a new one is no leak


def _pss_kb(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)


@ray.remote
def double(x: int) -> int:
    return 2 * x


@ray.remote
def first(refs: list[Any]) -> Any:
    return ray.get(refs[0])


@ray.remote
class Adder:
    """One actor that counts."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, x: int) -> int:
        self.count += x
        return x


def soak(tasks: int, parts: int = 10) -> list[Sizes]:
    """Run `tasks` tasks (and a few of every other kind of call); what there was after each part."""
    adder: Any = Adder.remote()
    found: list[Sizes] = []
    began = time.perf_counter()
    done = 0
    for part in range(1, parts + 1):
        while done < tasks * part // parts:
            assert ray.get([double.remote(x) for x in range(BATCH - 200)]) == [
                2 * x for x in range(BATCH - 200)
            ]
            assert ray.get([adder.add.remote(x) for x in range(100)]) == list(range(100))
            assert ray.get([first.remote([ray.put(x)]) for x in range(100)]) == list(range(100))
            done += BATCH
        gc.collect()
        core: Any = current().core  # type: ignore[attr-defined]
        each = {row["pid"]: _pss_kb(row["pid"]) for row in current().ask("state")["workers"] if row["pid"]}
        found.append(
            Sizes(
                done,
                time.perf_counter() - began,
                _pss_kb(os.getpid()),
                _pss_kb(core.node_pid),
                sum(each.values()),
                each,
            )
        )
    return found


def _pending(count: int) -> dict[str, float]:
    """Bytes of this process for each of `count` calls that cannot start yet."""
    adder: Any = Adder.remote()
    ray.get(adder.add.remote(0))

    def bytes_each(call: Any) -> float:
        gc.collect()
        before = _pss_kb(os.getpid())
        refs = [call(x) for x in range(count)]
        after = _pss_kb(os.getpid())
        del refs
        return (after - before) * 1024 / count

    @ray.remote(num_cpus=64)
    def never(x: Any) -> Any:
        return x

    late = never.remote(0)
    return {
        "a task": bytes_each(never.remote),
        "a task with a reference that is late": bytes_each(lambda _: double.remote(late)),
        "an actor call behind one that waits": (adder.add.remote(late), bytes_each(adder.add.remote))[1],
    }


@ray.remote
def pending_nested(count: int) -> dict[str, float]:
    """The same in a worker."""
    return _pending(count)


def main() -> int:
    """Returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--pending", action="store_true")
    options = parser.parse_args()
    ray.init(num_cpus=2, log_to_driver=False)
    if options.pending:
        count = min(options.tasks, 200_000)
        print("driver:", {name: round(size) for name, size in _pending(count).items()})
        nested = ray.get(pending_nested.options(num_cpus=0.1).remote(count))
        print("worker:", {name: round(size) for name, size in nested.items()})
    else:
        print(f"{'tasks':>9} {'s':>7} {'driver':>9} {'node':>9} {'workers':>9}  (PSS, kB)")
        for tasks in soak(options.tasks):
            print(
                f"{tasks.tasks:>9,} {tasks.seconds:>7.1f} {tasks.driver:>9,} {tasks.node:>9,} {tasks.workers:>9,}"
            )
    sys.stdout.flush()
    ray.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
