"""Which commands does `minray` have? One module each, imported only when its command is called.

A command's module has `add_arguments(parser)`, which declares its options, and `run(arguments)`, which
performs it and returns the exit code.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple


class Command(NamedTuple):
    """Where a command lives, what `minray --help` says of it, and how it is used."""

    module: str
    summary: str
    examples: str


COMMANDS: dict[str, Command] = {
    "run": Command(
        "run",
        "run a script written for Ray, unchanged",
        """
  minray run train.py                     a script that says `import ray`
  minray run train.py --epochs 3          its own arguments follow it
  minray run -m package.module            the same for a module
  MINRAY_NUM_CPUS=4 minray run train.py   offer 4 CPUs, whatever the machine has""",
    ),
    "as-ray": Command(
        "as_ray",
        "run a shell command in which `ray` means minray",
        """
  minray as-ray -- python train.py           one program
  minray as-ray -- bash -c "make examples"   everything that it starts
  minray as-ray -- python -m pytest tests    somebody else's tests""",
    ),
    "debug": Command(
        "debug",
        "attach to a task that waits at breakpoint()",
        """
  minray debug           the one that waits
  minray debug --list    which do?
  minray debug 3f        the one whose id begins with 3f""",
    ),
    "doctor": Command(
        "doctor",
        "check this machine and say what to do",
        """
  minray doctor           a table; exit code 1 if something is in the way
  minray doctor --json    the same for a program or a bug report""",
    ),
    "lab": Command(
        "lab",
        "open JupyterLab on the lessons",
        """
  minray lab                        the first lesson
  minray lab 02                     another one
  minray lab --no-browser --port 0  only print the address, on any free port""",
    ),
    "lesson": Command(
        "lesson",
        "list, run, check and grade lessons",
        """
  minray lesson list
  minray lesson start 01               copy the first lesson into a folder to work in
  minray lesson check 01_tasks         check the exercises""",
    ),
    "status": Command(
        "status",
        "what a running session has, uses and waits for, and what failed",
        """
  minray status           your newest session on this machine
  minray status --json    the same for a program""",
    ),
    "list": Command(
        "list_rows",
        "list tasks, actors, objects, workers, ... of a running session",
        """
  minray list tasks --filter state=RUNNING
  minray list actors --filter state!=DEAD --format json
  minray list objects --limit 1000
  minray list workers --detail""",
    ),
    "get": Command(
        "get_row",
        "all that is known of one task, actor, object, worker, node or job",
        """
  minray get tasks 3f9a01              the first digits are enough
  minray get actors 77b0 --format json""",
    ),
    "summary": Command(
        "summary",
        "count tasks, actors or objects of a running session by name and state",
        """
  minray summary tasks
  minray summary tasks --by-lineage     as a tree of who submitted whom
  minray summary objects --format yaml""",
    ),
    "memory": Command(
        "memory",
        "who keeps which object alive, and how full the object store is",
        """
  minray memory                              largest objects first
  minray memory --group-by PID --units MB -n 10
  minray memory --stats-only""",
    ),
    "timeline": Command(
        "timeline",
        "write what a running session recorded, for Perfetto",
        """
  minray timeline                   into a file of its own
  minray timeline -o run.json""",
    ),
    "stack": Command(
        "stack",
        "the Python stacks of the driver and of every worker, now",
        """
  minray stack             where does everybody stand?
  minray stack 4711        one process""",
    ),
    "logs": Command(
        "logs",
        "list and show the output of a session's processes",
        """
  minray logs                          which files there are
  minray logs node.log --tail 20
  minray logs --pid 4711 --follow
  minray logs actor --id 77b0c1...     (or --actor-id)""",
    ),
    "microbenchmark": Command(
        "microbenchmark",
        "measure this machine, against other runtimes if you like",
        """
  minray microbenchmark --quick                                          minray alone
  minray microbenchmark --against ray --python ray=/envs/ray/bin/python  pair by pair""",
    ),
}

_EXAMPLES = """examples:
  minray run train.py --epochs 3        a Ray script on minray
  minray as-ray -- python -m pytest     the same for any command
  minray doctor                         is this machine fit?
  minray lab                            the lessons
  minray status                         how is the session that runs?

`minray COMMAND --help` tells more about each."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns: its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in arguments if not word.startswith("-")), "")
    if chosen and chosen not in COMMANDS:
        near = difflib.get_close_matches(chosen, COMMANDS, n=1)
        hint = f"; did you mean `minray {near[0]}`?" if near else ""
        print(f"minray has no command {chosen!r}{hint}\nCommands: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        parser = _parser(chosen)
    except ModuleNotFoundError as error:
        print(
            f"`minray {chosen}` needs the module {error.name!r}, which is not installed. "
            'Try: pip install "minray[all]"',
            file=sys.stderr,
        )
        return 1
    options = parser.parse_args(arguments)
    if not chosen:
        parser.print_help()
        return 0
    try:
        return int(options.run_command(options) or 0)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `minray ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _parser(chosen: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="minray",
        description="Ray's programming model on a runtime small enough to see through.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"minray {_version()}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, command in COMMANDS.items():
        if not chosen:
            subparsers.add_parser(name, help=command.summary)
        elif name == chosen:
            module = importlib.import_module(f"minray.cli.{command.module}")
            own = subparsers.add_parser(
                name,
                help=command.summary,
                description=command.summary.capitalize() + ".",
                formatter_class=argparse.RawDescriptionHelpFormatter,
                allow_abbrev=False,
            )
            module.add_arguments(own)
            own.epilog = f"examples:{command.examples}"
            own.set_defaults(run_command=module.run)
    return parser


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("minray")
    except metadata.PackageNotFoundError:
        return "(from a source folder)"


if __name__ == "__main__":
    sys.exit(main())
