"""How does a whole shell command run with `ray` meaning minray? By its environment, for every child."""

from __future__ import annotations

import argparse
import os
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on `parser`."""
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND ...", help="what to run")


def run(arguments: argparse.Namespace) -> int:
    """Become the command. Returns: only if it cannot be started, 127 or 126 as a shell would."""
    from minray.as_ray import child_environment

    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        print("minray as-ray: which command? For example: minray as-ray -- python train.py", file=sys.stderr)
        return 2
    environment = dict(os.environ)
    child_environment(environment)
    sys.stdout.flush()
    try:
        os.execvpe(command[0], command, environment)
    except FileNotFoundError:
        print(f"minray as-ray: there is no command {command[0]!r}", file=sys.stderr)
        return 127
    except OSError as error:
        print(f"minray as-ray: cannot run {command[0]!r}: {error.strerror}", file=sys.stderr)
        return 126
