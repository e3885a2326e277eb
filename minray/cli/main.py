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
