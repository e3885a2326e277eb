"""Which functions does this process know, as owner and as executor?

An owner numbers its functions; the pair (code, retry rules) is one `FunctionRecord`. The code goes
to a worker once per connection, before the first task that needs it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from minray.worker.wire import Yields


@dataclass(slots=True)
class FunctionRecord:
    """An exported function with the rules of its tasks."""

    number: int
    name: str
    blob: bytes
    max_retries: int = 3
    retry_exceptions: bool | tuple[type[BaseException], ...] = False
    returns: int | Yields = 1
    group: Any = None  # the TaskGroup of its resource shape
    seen: set[int] = field(default_factory=set)
    max_calls: int = 0  # a worker ends after so many executions; 0: never for this
    careful: bool = False  # each answer leaves before the next task starts: see `Deaths._lease_lost`

    def __post_init__(self) -> None:
        # May run at most once: of several finished tasks that share a frame, a crash would lose all answers.
        self.careful = self.careful or self.max_retries == 0
