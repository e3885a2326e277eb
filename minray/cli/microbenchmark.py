"""`minray microbenchmark`: how fast is minray on this machine, and how fast are its peers?

    minray microbenchmark                                                  minray alone, three rounds
    minray microbenchmark --quick --only 'tasks*'                          one short round of some lines
    minray microbenchmark --against ray --python ray=/opt/ray/bin/python   beside real Ray
    minray microbenchmark --against concurrent.futures,multiprocessing,joblib,dask
    minray microbenchmark --json > today.json                              medians, all rounds, ratios

Every runtime runs in a process of its own, once a round, interleaved. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import signal
import sys
from collections.abc import Sequence
from typing import Self

from minray.bench import report, workload
from minray.bench.race import Contender, contenders, missing_runtime, race

QUICK_S = 0.15
LINE_S = 0.6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on `parser`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__
    peers = ", ".join(name for name in workload.RUNTIMES if name != "minray")
    parser.add_argument("--against", default="", metavar="NAMES", help=f"peers, comma separated: {peers}")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="the interpreter of a runtime's environment (default: this one)",
    )
    parser.add_argument(
        "--only", metavar="PATTERN", help="lines whose key or title matches: 'actor*', wait_1k"
    )
    parser.add_argument("--rounds", type=int, help="how often each runtime runs (default 3; 1 with --quick)")
    parser.add_argument("--quick", action="store_true", help="one round, a quarter of the time per line")
    parser.add_argument("--num-cpus", type=int, help="CPUs of each runtime (default: this machine's)")
    parser.add_argument(
        "--no-tracing-line", action="store_true", help="skip the pair with tracing on and off"
    )
    parser.add_argument("--list", action="store_true", help="the lines and their keys")
    parser.add_argument("--json", action="store_true", help="JSON on standard output instead of the table")


def wanted_lines(pattern: str | None) -> frozenset[str]:
    """The keys of the lines that `pattern` names by key or by title.

    Raises: ValueError if it names none.
    """
    if pattern is None:
        return frozenset(workload.BY_KEY)
    globs = [p.strip() for p in pattern.split(",")]
    found = frozenset(
        line.key
        for line in workload.LINES
        for glob in globs
        if fnmatch.fnmatch(line.key, glob) or fnmatch.fnmatch(line.title.lower(), f"*{glob.lower()}*")
    )
    if not found:
        raise ValueError(f"no line matches {pattern!r}; `minray microbenchmark --list` shows them")
    return found


def interpreters(pairs: Sequence[str]) -> dict[str, str]:
    """Read NAME=PATH pairs.

    Raises: ValueError for a pair without "=" or a runtime that nobody knows.
    """
    found = {}
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not equals or name not in workload.RUNTIMES:
            raise ValueError(
                f"--python {pair}: expected NAME=PATH with NAME one of {', '.join(workload.RUNTIMES)}"
            )
        found[name] = path
    return found


def peers_of(names: str) -> list[str]:
    """Read the list of peers.

    Raises: ValueError for one that nobody knows.
    """
    peers = [name.strip() for name in names.split(",") if name.strip()]
    for name in peers:
        if name not in workload.RUNTIMES or name == "minray":
            raise ValueError(f"--against {name}: not one of {', '.join(workload.RUNTIMES[1:])}")
    return peers


def run(args: argparse.Namespace) -> int:
    """Measure, then print; 0 when every line of minray has a figure."""
    if args.list:
        for line in workload.LINES:
            print(f"{line.key:16} {line.title} [{line.unit}]")
        return 0
    try:
        keys, pythons, against = wanted_lines(args.only), interpreters(args.python), peers_of(args.against)
    except ValueError as error:
        print(f"minray microbenchmark: {error}", file=sys.stderr)
        return 2
    if "put_large" in keys:
        keys |= {"memcpy"}  # a put is judged by the bare copy of the same minute
    field = []
    for contender in contenders(against, pythons, keys, with_untraced=not args.no_tracing_line):
        reason = missing_runtime(contender)
        if reason is None:
            field.append(contender)
        elif contender.name == "minray":
            print(f"minray microbenchmark: {reason}", file=sys.stderr)
            return 2
        else:
            print(f"!! {contender.name} does NOT take part: {reason}", file=sys.stderr)
    rounds = args.rounds or (1 if args.quick else 3)
    # A terminated benchmark must not leave a runtime behind: leave by way of the clean-up in run_child.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    total = rounds * sum(len(c.keys) for c in field)
    with _Progress(total, rounds) as progress:
        standings = race(field, rounds, QUICK_S if args.quick else LINE_S, args.num_cpus, progress.heard)
    if args.json:
        json.dump(report.as_json(standings), sys.stdout, indent=1)
        print()
    else:
        report.print_table(standings)
    return 1 if standings[0].errors else 0


class _Progress:
    """A bar on a terminal, a line per figure elsewhere; always on standard error."""

    def __init__(self, total: int, rounds: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self.rounds = rounds
        self.bar: Progress | None = None
        if sys.stderr.isatty():
            columns = (
                TextColumn("{task.description:60}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
            )
            self.bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self.task = self.bar.add_task("starting", total=total)

    def __enter__(self) -> Self:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def heard(self, number: int, contender: Contender, key: str, value: float) -> None:
        """Show the figure that just arrived."""
        line = workload.BY_KEY[key]
        told = f"{contender.name}: {line.title} {report.figure(value)} {line.unit}"
        text = f"round {number + 1}/{self.rounds}  {told}"
        if self.bar is None:
            print(text, file=sys.stderr, flush=True)
        else:
            self.bar.update(self.task, advance=1, description=text[:60])


def main(argv: Sequence[str] | None = None) -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(prog="minray microbenchmark")
    add_arguments(parser)
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
