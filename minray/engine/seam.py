"""What is the line between the programming model and what runs it?

The public API calls the `Engine` protocol and nothing else; engines know nothing of decorators or
handles. One slot a process holds the engine in use: every thread, callback and notebook cell sees
it. (A ContextVar alone would be unset in threads and lost between `await` cells.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from minray.base.config import SessionConfig
from minray.base.events import EventPage
from minray.base.messages import Shape
from minray.worker.wire import Yields


@dataclass(slots=True)
class FunctionSpec:
    """A remote function with its options, as an engine needs it."""

    name: str
    blob: bytes
    shape: Shape
    max_retries: int
    retry_exceptions: bool | tuple[type[BaseException], ...]
    returns: int | Yields
    environment: Mapping[str, Any] | None = None  # a prepared runtime_env; its key is part of `shape`
    max_calls: int = 0  # 0: a worker may run it any number of times


@dataclass(slots=True)
class ActorSpec:
    """An actor to be created."""

    class_name: str
    blob: bytes
    name: str
    namespace: str
    detached: bool
    placement: Shape
    held: Shape
    max_restarts: int
    max_task_retries: int
    max_pending_calls: int
    in_order: bool = True  # a call whose argument is late holds back those behind it
    grouped: bool = False  # it has concurrency groups
    wants: str = ""  # the module that serves it, where that is not the ordinary one
    options: dict[str, Any] = field(default_factory=dict)  # for the worker: max_concurrency, ...


@dataclass(frozen=True, slots=True)
class RunningTask:
    """What `get_runtime_context` can say; hexadecimal ids, "" where there is none."""

    job_id: str
    node_id: str
    worker_id: str
    task_id: str
    task_name: str
    actor_id: str
    actor_name: str
    namespace: str
    gpu_ids: tuple[int, ...]
    restarted: bool
    resources: dict[str, float]


class Engine(Protocol):
    """What every engine can do. Times in seconds; None waits without end."""

    name: str

    def prepare(self, spec: FunctionSpec) -> Callable[..., Any]:
        """A callable (args, kwargs) -> ObjectRef | list | None that submits the function."""

    def create_actor(self, spec: ActorSpec, info: Any, args: Any, kwargs: Any) -> tuple[bytes, Any]:
        """Register an actor. Returns (actor id, what its handle keeps alive). Raises: ValueError."""

    def bind_actor(
        self,
        actor_id: bytes,
        class_name: str,
        max_task_retries: int,
        max_pending: int,
        in_order: bool,
        grouped: bool,
        ref: Any,
    ) -> Callable[..., Any]:
        """A callable (method, args, kwargs, returns[, CallRules]) -> ObjectRef | list | None. `ref`: what keeps the
        actor alive, None for a handle found by name."""

    def get(self, refs: Any, timeout_s: float | None) -> Any:
        """Value of one reference, or list of values of a list."""

    def put(self, value: Any) -> Any:
        """Store a value."""

    def wait(self, refs: list[Any], count: int, timeout_s: float | None) -> tuple[list[Any], list[Any]]:
        """(ready, not ready)."""

    def cancel(self, ref: Any, force: bool, recursive: bool) -> None:
        """Stop the task that makes `ref`. Raises: ValueError for an actor's call by force, TypeError."""

    def is_cancelled(self) -> bool:
        """Whether the running task was cancelled. Raises: RuntimeError in a driver or an async actor."""

    def kill(self, actor_id: bytes, class_name: str, no_restart: bool) -> None:
        """End an actor's process."""

    def leave_actor(self) -> bool:
        """The actor of this process ends once what runs is finished. False where there is none."""

    def actor_by_name(self, name: str, namespace: str) -> tuple[bytes, Any] | None:
        """(actor id, its handle info) or None."""

    def named_actors(self, namespace: str | None) -> Sequence[tuple[str, str]]:
        """(name, namespace) of the living named actors; None: of all namespaces."""

    def ask(self, what: str, argument: Any = None) -> Any:
        """A question to the control plane: "nodes", "cluster_resources", "available_resources", "state", ..."""

    def untraced(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, a submitter or a bound actor, whose tasks leave no events (`enable_task_events=False`)."""

    def events(self, cursor: int) -> EventPage:
        """What happened since `cursor` (0: the start)."""

    def events_ahead(self, cursor: int) -> tuple[int, int]:
        """(the cursor of this moment, about how many events lie between). Reads none of them."""

    def all_events(self) -> EventPage:
        """Everything recorded in all processes (waits shortly for them)."""

    def session(self) -> SessionConfig:
        """What this session was told at its start: where its sockets are, and their token."""

    def inspect(self, what: str, argument: Any) -> Any:
        """What this process would answer to an observer (`minray.worker.inspection`)."""

    def process_id(self) -> bytes:
        """The id of this process in the session: of a driver or a worker."""

    def mark_events(self) -> int:
        """The cursor of this moment: `events` from there on gives what comes, tasks under way with names."""

    def traces(self) -> bool:
        """Whether events are recorded at all."""

    def sees_all_events(self) -> bool:
        """Whether other processes' events come here too: they come to drivers."""

    def gather_events(self, timeout_s: float) -> list[str]:
        """Have every process ship what it recorded. Returns the ids (hex) of those that did not in time."""

    def running(self) -> RunningTask:
        """Who am I?"""

    def environment(self, own: Mapping[str, Any] | None) -> tuple[str, Mapping[str, Any] | None]:
        """(key, prepared form) of the `runtime_env` of a task or actor submitted here; ("", None): the job's.

        Raises: ValueError, TypeError, RuntimeEnvSetupError."""

    def job_environment(self) -> Mapping[str, Any]:
        """The prepared `runtime_env` of what runs here, the job's part included."""

    def resolved_argument(self, value: Any) -> bool:
        """Whether `value` is the running task's own argument, resolved from a reference."""

    def close(self) -> None:
        """Leave (a driver ends its cluster)."""


class _Slot:
    engine: Any = None


slot = _Slot()


class NotInitialized(RuntimeError):
    """No engine is in use."""


def current() -> Engine:
    """The process's engine. Raises: RuntimeError when `init()` was not called."""
    engine = slot.engine
    if engine is None:
        raise NotInitialized("minray is not initialized: call minray.init() first.")
    return engine  # type: ignore[no-any-return]


def current_or_none() -> Engine | None:
    """The process's engine, or None."""
    return slot.engine  # type: ignore[no-any-return]
