"""Which task is running here?

One small record per running task; `get_runtime_context`, nested submissions and error messages read
it. A thread-local for ordinary and threaded execution, a context variable for async actors.
"""

from __future__ import annotations

import contextvars
import threading
from typing import Any

from minray.base import ids


class TaskContext:
    """The running task: who called it, its number there, what it runs."""

    __slots__ = ("peer", "number", "function", "actor", "resolved")

    def __init__(self, peer: Any, number: int, function: Any, actor: Any) -> None:
        self.peer = peer
        self.number = number
        self.function = function
        self.actor = actor
        self.resolved: Any = None  # arguments that came as references, while the task runs

    @property
    def task_id(self) -> str:
        """48 hexadecimal digits."""
        return ids.task_id_hex(self.peer.worker_id, self.number)

    @property
    def name(self) -> str:
        """ "f" or "Counter.add"."""
        if self.actor is not None:
            return f"{self.actor.class_name}.{self.function}"
        return str(self.peer.names.get(self.function, self.function))

    @property
    def label(self) -> str:
        """What stands before a line of output."""
        if self.actor is not None:
            return str(self.actor.class_name)
        return self.name


class _Running(threading.local):
    task: TaskContext | None = None


running = _Running()
running_async: contextvars.ContextVar[TaskContext | None] = contextvars.ContextVar(
    "minray_task", default=None
)


def current_task() -> TaskContext | None:
    """The task that runs in this thread or coroutine, or None (the driver, a thread of the user's)."""
    return running_async.get() or running.task
