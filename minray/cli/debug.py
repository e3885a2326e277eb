"""How does one attach to a task that waits at `breakpoint()`?"""

from __future__ import annotations

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on `parser`."""
    parser.add_argument(
        "id", nargs="?", default="", help="which breakpoint, when several wait (its first digits do)"
    )
    parser.add_argument(
        "--address", default="auto", help="the session's folder; default: your newest session"
    )
    parser.add_argument("--list", action="store_true", help="only show what waits")


def run(arguments: argparse.Namespace) -> int:
    """Attach. Returns: 0, or 1 when nothing waits."""
    import minray
    from minray.util import pdb

    try:
        minray.init(address=arguments.address, log_to_driver=False)
    except ConnectionError as error:
        print(f"minray debug: {error}", file=sys.stderr)
        return 1
    try:
        if arguments.list:
            for row in pdb.breakpoints():
                print(
                    f"{row['id']}  {row['task']} (pid {row['pid']}) at {row['where']} {row['error']}".rstrip()
                )
            return 0
        pdb.connect(arguments.id)
    except ValueError as error:
        print(f"minray debug: {error}", file=sys.stderr)
        return 1
    finally:
        minray.shutdown()
    return 0
