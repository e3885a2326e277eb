"""How does a command reach a running session, and what does it say when it cannot?"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from typing import Any

from minray.state_api.client import StateApiClient
from minray.state_api.errors import RayStateApiException
from minray.state_api.schema import DEFAULT_RPC_TIMEOUT, PREDICATES, StateResource


def add_session(parser: argparse.ArgumentParser) -> None:
    """Declare --address and --timeout."""
    parser.add_argument(
        "--address",
        default=None,
        help="the session's folder (init() returns it); default: your newest session",
    )
    parser.add_argument(
        "--timeout", type=float, default=DEFAULT_RPC_TIMEOUT, help="seconds to wait for answers (default 30)"
    )


def observed(command: str, arguments: argparse.Namespace, look: Callable[[StateApiClient], int]) -> int:
    """`look` at the session. Returns: its exit code; 1 when there is no session or no answer, 2 for a
    question that makes no sense. What is missing from an answer is told on stderr."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = _tell  # type: ignore[assignment]
        try:
            return look(StateApiClient(arguments.address))
        except (ConnectionError, RayStateApiException) as error:
            print(f"minray {command}: {error}", file=sys.stderr)
            return 2 if "filter" in str(error) or "Failed to convert" in str(error) else 1
        except ValueError as error:
            print(f"minray {command}: {error}", file=sys.stderr)
            return 2


def _tell(message: Any, *_: Any) -> None:
    print(f"note: {message}", file=sys.stderr)


def parsed_filter(text: str) -> tuple[str, str, str]:
    """ "state=RUNNING" or "state!=RUNNING" as a filter. Raises: ValueError."""
    for predicate in sorted(PREDICATES, key=len, reverse=True):
        key, found, value = text.partition(predicate)
        if found and key.strip():
            return key.strip(), predicate, value.strip().strip("\"'")
    raise ValueError(f"the filter {text!r} is neither key=value nor key!=value")


def resource_named(name: str) -> StateResource:
    """ "tasks", "task", "placement-groups", ... Raises: ValueError."""
    wanted = name.lower().replace("-", "_")
    for resource in StateResource:
        if wanted in (resource.value, resource.value.removesuffix("s")):
            return resource
    names = ", ".join(resource.value.replace("_", "-") for resource in StateResource)
    raise ValueError(f"there are no {name!r} to look at; there are: {names}")
