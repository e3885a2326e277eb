"""When did which task run where? `minray timeline` writes what a running session recorded, for Perfetto."""

from __future__ import annotations

import argparse
import json
import time

from minray.base.events import TaskFinished
from minray.cli.observing import add_session, observed
from minray.recording.timeline import chrome_trace
from minray.state_api.client import StateApiClient


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on `parser`."""
    parser.add_argument(
        "-o", "--output", default="", metavar="FILE", help="default: minray-timeline_DATE.json"
    )
    add_session(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the file. Returns: the exit code."""
    return observed("timeline", arguments, lambda client: _write(client, arguments))


def _write(client: StateApiClient, arguments: argparse.Namespace) -> int:
    events = client.recorded_events(arguments.timeout)
    path = arguments.output or time.strftime("minray-timeline_%Y-%m-%d_%H-%M-%S.json")
    try:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(chrome_trace(events), file)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}") from None
    count = sum(isinstance(event, TaskFinished) for event in events)
    print(f"{count} runs of tasks written to {path}; open it in https://ui.perfetto.dev")
    return 0
