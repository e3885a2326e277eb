"""`python -m tests.chaos`: storms, one seed after the other; each says how to see it again."""

from __future__ import annotations

import argparse
import random
import sys

from tests.chaos.weather import TASKS, weather


def main() -> int:
    """Run the storms. Returns how many were not survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="how many storms")
    parser.add_argument("--first", type=int, default=None, help="the first seed (default: at random)")
    parser.add_argument("--tasks", type=int, default=TASKS, help=f"tasks in each storm (default {TASKS})")
    parser.add_argument("--no-interrupts", action="store_true", help="without the rain of Ctrl-C")
    options = parser.parse_args()
    first = random.randrange(10**6) if options.first is None else options.first
    lost = 0
    for seed in range(first, first + options.seeds):
        found = weather(seed, options.tasks, rain=not options.no_interrupts)
        print(f"seed {seed}: {found.text}", flush=True)
        if not found.survived:
            lost += 1
            print(f"  again: python -m tests.chaos --first {seed} --tasks {options.tasks}", flush=True)
    return lost


if __name__ == "__main__":
    sys.exit(min(main(), 100))
