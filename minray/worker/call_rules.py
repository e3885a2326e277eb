"""What does one call of an actor's method ask for that others do not?

`@method(max_task_retries=2)` and `handle.add.options(concurrency_group="io")` differ from what the
actor's class says. The caller keeps such rules by the call's number until it is answered; calls
without any, nearly all, have no entry and take the short way.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class CallRules(NamedTuple):
    """Rules of one call, or of all calls of one method. None: as the actor's class says."""

    concurrency_group: str = ""
    max_task_retries: int | None = None
    retry_exceptions: bool | tuple[type[BaseException], ...] = False
    name: str = ""  # for the events


class RetryRules:
    """How often, and after which exceptions, a process makes its actor calls again."""

    def __init__(self) -> None:
        self.by_number: dict[int, CallRules] = {}

    def limit(self, number: int, calls: Any) -> int:
        """How many times this call may be made again; -1: without end."""
        rules = self.by_number.get(number)
        if rules is None or rules.max_task_retries is None:
            return int(calls.max_task_retries)
        return rules.max_task_retries

    def exceptions(self, number: int) -> bool | tuple[type[BaseException], ...]:
        """After which exceptions of its own it is made again."""
        rules = self.by_number.get(number)
        return rules.retry_exceptions if rules is not None else False
