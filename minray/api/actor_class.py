"""What is a class after `@remote`, and what does a handle do?

`Counter.remote(...)` asks for an actor and returns an `ActorHandle` at once; `handle.add.remote(1)`
queues a call. Handles may be passed on and stored; when the last one is gone the actor ends. A handle
found by name does not keep its actor alive, as in Ray.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from minray.api.options import ActorOptions, MethodOptions, parse_actor_options, parse_method_options
from minray.api.placement import check_wishes
from minray.api.remote_function import ArgumentCheck, argument_check
from minray.api.returns import check_override, check_returns, returns_of, yields
from minray.api.teaching import warn_large_code
from minray.base import ids
from minray.base.resources import in_environment
from minray.engine.seam import ActorSpec, slot
from minray.serialization import functions as code
from minray.worker.concurrency_groups import has_async_methods, unknown_group

METHOD_OPTIONS = "__minray_method_options__"
_SPECIAL = ("__ray_ready__", "__ray_terminate__", "__ray_call__")


@dataclass(slots=True)
class HandleInfo:
    """What a handle knows of its actor's class."""

    class_name: str
    methods: dict[str, MethodOptions]
    max_task_retries: int = 0
    max_pending_calls: int = -1
    in_order: bool = True
    groups: tuple[str, ...] = ()
    task_events: bool = True
    signatures: dict[str, Any] = field(default_factory=dict)  # not pickled: checks made from the class

    def __reduce__(self) -> tuple[Any, ...]:
        limits = (self.max_task_retries, self.max_pending_calls, self.in_order, self.groups, self.task_events)
        return HandleInfo, (self.class_name, self.methods, *limits)


_ANY_ARGUMENTS: ArgumentCheck = ((lambda args, kwargs: None), 0, sys.maxsize)


class ActorMethod:
    """One method of a handle."""

    def __init__(self, handle: ActorHandle, name: str, options: MethodOptions) -> None:
        self._handle = handle
        self._name = name
        self._options = options
        self._returns = returns_of(options.given, options.generator)
        # A handle that came from elsewhere does not know the class: the actor raises what does not fit.
        self._fits, self._least, self._most = handle._info.signatures.get(name, _ANY_ARGUMENTS)
        self._rules = options.call_rules()
        if self._rules is not None and (group := self._rules.concurrency_group) and group not in handle._info.groups:
            raise ValueError(unknown_group(group, handle._info.class_name, handle._info.groups))
        recorded = options.enable_task_events
        self._silent = not (handle._info.task_events if recorded is None else recorded)
        self._engine: Any = None
        self._call: Any = None

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Queue a call. Returns its ObjectRef (a list for num_returns > 1, None for 0, an ObjectRefGenerator
        if it yields) at once."""
        if kwargs or not self._least <= len(args) <= self._most:
            self._fits(args, kwargs)
        if self._engine is not slot.engine or self._call is None:
            self._call = self._handle._bind()
            self._engine = slot.engine
            if self._silent:
                self._call = slot.engine.untraced(self._call)
        if self._rules is not None:
            return self._call(self._name, args, kwargs, self._returns, self._rules)
        return self._call(self._name, args, kwargs, self._returns)

    def options(self, **overrides: Any) -> ActorMethod:
        """The same method with other options, for example `num_returns=2`."""
        merged = self._options.merge(overrides)
        check_returns(overrides, self._options.generator, stacklevel=3)
        check_override(overrides, "actor method", "@ray.method")
        return ActorMethod(self._handle, self._name, merged)

    def bind(self, *args: Any, **kwargs: Any) -> Any:
        """A call to be made later, in a graph (`minray.dag`)."""
        from minray.dag import ClassMethodNode

        return ClassMethodNode(self._handle, self._name, args, kwargs, self._options.given)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Refused: a method runs in the actor. Raises: TypeError that names `.remote()`."""
        raise TypeError(
            f"Actor methods cannot be called directly. Instead of running 'object.{self._name}()', "
            f"try 'object.{self._name}.remote()'."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return ActorMethod, (self._handle, self._name, self._options)

    def __repr__(self) -> str:
        return f"<method {self._handle._info.class_name}.{self._name}>"


class ActorHandle:
    """A reference to an actor. Its attributes are the actor's methods."""

    def __init__(self, actor_id: bytes, info: HandleInfo, ref: Any) -> None:
        self._actor_id_bytes = actor_id
        self._info = info
        self._ref = ref  # counted like any reference; None in a handle found by name
        self._bound: Any = None
        self._bound_engine: Any = None
        self._for_methods: ActorHandle | None = None

    def _bind(self) -> Any:
        engine = slot.engine
        if engine is None:
            from minray.api.init import auto_init

            engine = auto_init()
        if self._bound_engine is not engine:
            if self._bound_engine is not None:
                raise RuntimeError(
                    f"This handle of {self._info.class_name} belongs to a cluster that was shut down; "
                    "create the actor again."
                )
            info = self._info
            self._bound = engine.bind_actor(
                self._actor_id_bytes,
                info.class_name,
                info.max_task_retries,
                info.max_pending_calls,
                info.in_order,
                bool(info.groups),
                self._ref,
            )
            self._bound_engine = engine
        return self._bound

    @property
    def _actor_id(self) -> ids.ActorID:
        return ids.ActorID(self._actor_id_bytes)

    @property
    def _ray_actor_id(self) -> ids.ActorID:
        return ids.ActorID(self._actor_id_bytes)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") and name not in self.__dict__.get("_info", _NO_INFO).methods and name not in _SPECIAL:
            raise AttributeError(name)
        options = self._info.methods.get(name)
        if options is None:
            if name not in _SPECIAL:
                raise AttributeError(
                    f"'ActorHandle' object has no attribute '{name}': {self._info.class_name} has no such method. "
                    "(Fields and properties stay in the actor: add a method that returns them.)"
                )
            options = MethodOptions()
        # Methods are kept for the next call, so they must not refer to the handle that keeps them: an actor
        # should end with `del handle`, not when the garbage collector next looks for cycles.
        if self._for_methods is None:
            self._for_methods = ActorHandle(self._actor_id_bytes, self._info, self._ref)
        method = ActorMethod(self._for_methods, name, options)
        self.__dict__[name] = method
        return method

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._info.methods]

    def __reduce__(self) -> tuple[Any, ...]:
        return ActorHandle, (self._actor_id_bytes, self._info, self._ref)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorHandle) and other._actor_id_bytes == self._actor_id_bytes

    def __hash__(self) -> int:
        return hash(self._actor_id_bytes)

    def __repr__(self) -> str:
        return f"Actor({self._info.class_name}, {self._actor_id_bytes.hex()})"


_NO_INFO = HandleInfo("", {})


class ActorClassInheritanceException(TypeError):
    """A class was derived from a remote one."""


class ActorClass:
    """A class whose instances live in workers. Made by `@remote`."""

    def __init__(self, cls: type, options: ActorOptions) -> None:
        self._cls = cls
        self._options = options
        self._blob = b""
        self._epoch = -1
        self._info: HandleInfo | None = None
        self._served_by = ""
        self._fits = argument_check(cls)[0]
        self.__name__ = cls.__name__
        self.__qualname__ = cls.__qualname__
        self.__module__ = cls.__module__
        self.__doc__ = cls.__doc__
        self.__wrapped__ = cls
        self.__ray_metadata__ = self  # libraries written for Ray look here for the modified class
        self.modified_class = cls

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Refused: an actor is created by `.remote()`. Raises: TypeError that says so."""
        name = self._cls.__name__
        raise TypeError(
            f"Actors cannot be instantiated directly. Instead of '{name}()', use '{name}.remote()'."
        )

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        """`class B(A)` where A is a remote class: Ray refuses it, so do we, with the way out."""
        raise ActorClassInheritanceException(
            f"Attempted to define a subclass of the actor class {self._cls.__name__}. Inheriting from actor classes "
            f"is not supported. Inherit from the plain class and make both remote: "
            f"`Remote{self._cls.__name__} = remote({self._cls.__name__})`."
        )

    def options(self, **overrides: Any) -> ActorClass:
        """The same class with other options, for example `Counter.options(name="c").remote()`."""
        return ActorClass(self._cls, self._options.merge(overrides))

    def bind(self, *args: Any, **kwargs: Any) -> Any:
        """An actor to be made later, in a graph (`minray.dag`)."""
        from minray.dag import ClassNode

        return ClassNode(self, args, kwargs, self._options.given)

    def remote(self, *args: Any, **kwargs: Any) -> ActorHandle:
        """Create an actor. Returns its handle at once; the constructor runs in a worker.

        Raises: ValueError for a taken name, TypeError when the arguments do not fit.
        """
        self._fits(args, kwargs)
        if missing := getattr(self._cls, "__abstractmethods__", ()):
            names = ", ".join(sorted(missing))
            raise TypeError(f"Can't instantiate abstract class {self._cls.__name__} with abstract methods {names}")
        engine = slot.engine
        if engine is None:
            from minray.api.init import auto_init

            engine = auto_init()
        options = self._options
        namespace = options.namespace or engine.running().namespace
        if options.get_if_exists:
            if not options.name:
                raise ValueError("get_if_exists=True needs a name: the actor is looked up by it.")
            found = engine.actor_by_name(options.name, namespace)
            if found is not None:
                return ActorHandle(found[0], found[1], None)
        check_wishes(options, engine)
        if not self._blob or self._epoch != code.epoch:
            self._epoch = code.epoch
            self._blob = code.dump_code(self._cls)
            warn_large_code(f"The actor class {self._cls.__name__}", len(self._blob))
        info = self._handle_info()
        environment_key, environment = engine.environment(options.runtime_env)
        spec = ActorSpec(
            self._cls.__name__,
            self._blob,
            options.name or "",
            namespace,
            options.detached,
            in_environment(options.placement, environment_key),
            options.held,
            options.max_restarts,
            options.max_task_retries,
            options.max_pending_calls,
            info.in_order,
            bool(info.groups),
            self._served_by,
            {
                "max_concurrency": options.max_concurrency,
                "environment": environment,
                "concurrency_groups": dict(options.concurrency_groups),
                "method_groups": _groups_of_methods(info.methods),
                "generator_window": options.given.get("_actor_generator_backpressure_num_objects") or 0,
            },
        )
        try:
            actor_id, ref = engine.create_actor(spec, info, args, kwargs)
        except ValueError:
            if options.get_if_exists and (found := engine.actor_by_name(options.name or "", namespace)) is not None:
                return ActorHandle(found[0], found[1], None)  # somebody was faster
            raise
        return ActorHandle(actor_id, info, ref)

    def _handle_info(self) -> HandleInfo:
        if self._info is None:
            methods: dict[str, MethodOptions] = {}
            signatures: dict[str, Any] = {}
            for name, member in inspect.getmembers(self._cls, callable):
                if name.startswith("__") and name.endswith("__") and name != "__call__":
                    continue
                given = getattr(member, METHOD_OPTIONS, None)
                methods[name] = parse_method_options(given or {}, yields(member))
                static = isinstance(inspect.getattr_static(self._cls, name), (staticmethod, classmethod))
                signatures[name] = argument_check(member, skip_first=not static)
            options = self._options
            _check_groups(self._cls.__name__, methods, options.concurrency_groups)
            self._info = HandleInfo(
                self._cls.__name__,
                methods,
                options.max_task_retries,
                options.max_pending_calls,
                self._calls_in_order(),
                tuple(options.concurrency_groups),
                options.enable_task_events,
            )
            self._info.signatures = signatures
        return self._info

    def _calls_in_order(self) -> bool:
        options = self._options
        concurrent = ""
        if options.concurrency_groups:
            self._served_by = "minray.worker.threaded_actor"
        if has_async_methods(self._cls):
            concurrent = "async"
            self._served_by = "minray.worker.async_actor"
        elif (options.max_concurrency or 1) > 1:
            concurrent = "multi-threaded"
            self._served_by = "minray.worker.threaded_actor"
        if options.allow_out_of_order_execution is None:
            return not concurrent
        if concurrent and not options.allow_out_of_order_execution:
            raise ValueError(
                f"If you're using {concurrent} actors, actor tasks can't be executed in order. "
                "Set `allow_out_of_order_execution=True` to allow out-of-order execution."
            )
        return not options.allow_out_of_order_execution

    def __reduce__(self) -> tuple[Any, ...]:
        return ActorClass, (self._cls, self._options)

    def __repr__(self) -> str:
        return f"<actor class {self._cls.__name__}>"


def _groups_of_methods(methods: Mapping[str, MethodOptions]) -> dict[str, str]:
    return {name: options.concurrency_group for name, options in methods.items() if options.concurrency_group}


def _check_groups(class_name: str, methods: Mapping[str, MethodOptions], groups: Mapping[str, int]) -> None:
    for group in _groups_of_methods(methods).values():
        if group not in groups:
            raise ValueError(unknown_group(group, class_name, tuple(groups)))


def make_actor_class(cls: type, given: Mapping[str, Any]) -> ActorClass:
    """`@remote` on a class. Raises: ValueError, TypeError for bad options."""
    return ActorClass(cls, parse_actor_options(given))


def method(*args: Any, **options: Any) -> Any:
    """Decorator for methods of actor classes: `@method(num_returns=2)`. Raises: ValueError, TypeError."""
    if len(args) == 1 and callable(args[0]) and not options:
        return args[0]
    if args:
        raise TypeError("@method takes options by keyword, for example '@method(num_returns=2)'.")
    parse_method_options(options)

    def mark(function: Any) -> Any:
        check_returns(options, yields(function), stacklevel=3)
        setattr(function, METHOD_OPTIONS, options)
        return function

    return mark


def get_actor(name: str, namespace: str | None = None) -> ActorHandle:
    """The handle of a living named actor. Raises: ValueError when there is none."""
    if not isinstance(name, str) or not name:
        raise ValueError("Please supply a non-empty value to get_actor")
    engine = slot.engine
    if engine is None:
        from minray.api.init import auto_init

        engine = auto_init()
    space = namespace or engine.running().namespace
    found = engine.actor_by_name(name, space)
    if found is None:
        raise ValueError(
            f"Failed to look up actor with name '{name}'. This could be because 1. You are trying to look up a named "
            "actor you didn't create. 2. The named actor died. 3. You did not use a namespace matching the namespace "
            f"of the actor (looked in {space!r}); `minray.util.list_named_actors(all_namespaces=True)` shows them all."
        )
    return ActorHandle(found[0], found[1], None)


def kill(actor: ActorHandle, *, no_restart: bool = True) -> None:
    """End an actor's process at once; calls under way fail. Raises: ValueError for anything else."""
    if not isinstance(actor, ActorHandle):
        raise ValueError(
            f"kill() only supports actors. For tasks and objects there is nothing to kill. Got: {type(actor)}."
        )
    actor._bind()
    engine = slot.engine
    engine.kill(actor._actor_id_bytes, actor._info.class_name, no_restart)


def exit_actor() -> None:
    """End the actor that runs this call: what runs beside it is finished, what waits behind it fails.

    Raises: TypeError outside an actor.
    """
    from minray.worker.executor import ActorExit

    if not slot.engine or not slot.engine.leave_actor():
        raise TypeError("exit_actor API is called on a non-actor worker, or outside an actor's method.")
    raise ActorExit(0)
