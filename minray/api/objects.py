"""What do `remote`, `get`, `put` and `wait` accept, and what do they refuse?

They validate as Ray does, to the wording where programs match on it, and call the engine.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from minray.api.actor_class import ActorClass, make_actor_class
from minray.api.options import check_remote_arguments
from minray.api.remote_function import RemoteFunction, make_remote_function
from minray.engine.seam import current, slot
from minray.worker.generators import ObjectRefGenerator
from minray.worker.object_ref import ObjectRef


def _engine() -> Any:
    engine = slot.engine
    if engine is None:
        from minray.api.init import auto_init

        engine = auto_init()
    return engine


def remote(*args: Any, **options: Any) -> Any:
    """Make a function a task, or a class an actor: `@remote`, or `@remote(num_cpus=2, ...)`.

    Raises: TypeError when used otherwise, ValueError or TypeError for a bad option.
    """
    check_remote_arguments(args, options)
    if args:
        return _make(args[0], {})
    return lambda target: _make(target, options)


def _make(target: Any, options: dict[str, Any]) -> RemoteFunction | ActorClass:
    if inspect.isclass(target):
        return make_actor_class(target, options)
    if isinstance(target, (RemoteFunction, ActorClass)) or not callable(target):
        raise TypeError("The @remote decorator must be applied to either a function or a class.")
    return make_remote_function(target, options)


def get(object_refs: Any, *, timeout: float | None = None, _use_object_store: bool = False) -> Any:
    """The value of a reference, or the values of a list of references, in order.

    timeout: seconds; None waits without end, 0 only looks. Raises: GetTimeoutError, the exception of a
    task that failed, ValueError for neither reference nor list, TypeError for such an element of a list.
    """
    engine = _engine()
    if isinstance(object_refs, ObjectRef):
        if timeout is not None:
            _check_timeout(timeout)
        return engine.get(object_refs, timeout)
    if isinstance(object_refs, list):
        for ref in object_refs:
            if not isinstance(ref, ObjectRef):
                # Ray's two answers: a wrong whole is a ValueError (below), a wrong element a TypeError.
                raise TypeError(f"Attempting to call `get` on the value {ref!r}, which is not an ObjectRef.")
        if timeout is not None:
            _check_timeout(timeout)
        if not object_refs:
            return []
        return engine.get(object_refs, timeout)
    if isinstance(object_refs, ObjectRefGenerator):
        return object_refs  # as in Ray: its references are what one gets
    if engine.resolved_argument(object_refs):
        return object_refs  # a task that gets its own argument, which came resolved: see TOUR, spellings
    raise ValueError(
        f"Invalid type of object refs, {type(object_refs)}, is given: 'object_refs' must either be an ObjectRef or a "
        "list of ObjectRefs."
    )


def _check_timeout(timeout: Any) -> None:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"'timeout' must be a number of seconds or None, not {type(timeout).__name__}.")


def put(value: Any, *, _owner: Any = None, _tensor_transport: str | None = None) -> ObjectRef[Any]:
    """Store a value and return its reference. Raises: TypeError for a reference, ObjectStoreFullError."""
    engine = _engine()
    if isinstance(value, ObjectRef):
        raise TypeError(
            "Calling 'put' on an ObjectRef is not allowed. If you really want to do this, you can wrap the ObjectRef "
            "in a list and call 'put' on it."
        )
    return engine.put(value)  # type: ignore[no-any-return]


def cancel(
    ray_waitable: ObjectRef[Any] | ObjectRefGenerator, *, force: bool = False, recursive: bool = True
) -> None:
    """Stop the task that makes this reference (or these items); nothing happens when it has its value.

    A task that has not begun never runs; in one that runs a KeyboardInterrupt is raised, or its worker process
    ends (`force`). A call of an async actor gets a CancelledError, another running method is only told
    (`get_runtime_context().is_canceled()`). `get` then raises TaskCancelledError, unless the task caught the
    interrupt and returned. `recursive`: also what the task has submitted. No retry follows.

    Raises: TypeError for anything but a reference, ValueError for an actor's call by force, RuntimeError without
    a cluster.
    """
    ref = ray_waitable._generator_ref if isinstance(ray_waitable, ObjectRefGenerator) else ray_waitable
    if not isinstance(ref, ObjectRef):
        raise TypeError(
            "ray.cancel() only supported for object refs. For actors, try ray.kill(). "
            f"Got: {type(ray_waitable)}."
        )
    current().cancel(ref, bool(force), bool(recursive))


def wait(
    ray_waitables: Sequence[ObjectRef[Any] | ObjectRefGenerator],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> tuple[list[Any], list[Any]]:
    """(ready, not ready): waits until `num_returns` references are ready or `timeout` seconds passed.

    A generator is ready when `next` would not wait. Both lists keep the given order.
    Raises: TypeError, ValueError for duplicates or impossible numbers.
    """
    global _checked
    engine = _engine()
    if isinstance(ray_waitables, (ObjectRef, ObjectRefGenerator)):
        raise TypeError(
            "wait() expected a list of ray.ObjectRef or ray.ObjectRefGenerator, got a single ray.ObjectRef or "
            f"ray.ObjectRefGenerator {ray_waitables}"
        )
    if not isinstance(ray_waitables, list):
        raise TypeError(
            f"wait() expected a list of ray.ObjectRef or ObjectRefGenerator, got {type(ray_waitables)}"
        )
    if timeout is not None:
        _check_timeout(timeout)
        if timeout < 0:
            raise ValueError(f"The 'timeout' argument must be nonnegative. Received {timeout}")
    if not ray_waitables:
        return [], []
    if _mark(ray_waitables) != _checked:
        _check_waitables(ray_waitables)
    if num_returns <= 0:
        raise ValueError(f"Invalid number of objects to return {num_returns}.")
    if num_returns > len(ray_waitables):
        raise ValueError(
            f"num_returns cannot be greater than the number of ray_waitables provided to wait ({len(ray_waitables)})."
        )
    ready, rest = engine.wait(ray_waitables, num_returns, timeout)
    if rest:
        _checked = _mark(rest)
    return ready, rest


_checked: tuple[int, ...] = ()


def _mark(refs: list[Any]) -> tuple[int, ...]:
    """Tells the list that the last `wait` returned from others: a loop that waits on 1,000 references,
    each time on the rest, would check 500,000 of them. Holds none of them alive."""
    return id(refs), len(refs), id(refs[0]), id(refs[-1])


def _check_waitables(refs: list[Any]) -> None:
    for ref in refs:
        if not isinstance(ref, (ObjectRef, ObjectRefGenerator)):
            raise TypeError(
                f"wait() expected a list of ray.ObjectRef or ObjectRefGenerator, got list containing {type(ref)}"
            )
    if len(refs) != len(set(refs)):
        raise ValueError("Wait requires a list of unique object refs.")
