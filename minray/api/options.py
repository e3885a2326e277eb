"""What may a program ask for when it declares a task, an actor or a method, and is it sensible?

Options are checked where they are written: an unknown name, a wrong type or a negative amount raises
at once, with the name that was probably meant. The accepted names, types and defaults are Ray's;
`None` means "the default" everywhere.

    @remote(num_cpus=2)  ──► parse_task_options({...}) ──► TaskOptions ──► .shape, the scheduling key
    f.options(...)       ──► TaskOptions.merge({...})  ──► TaskOptions

Resources of an actor, as in Ray: with no resource option it needs 1 CPU to be placed and holds none
while it lives; with any (`num_cpus`, `num_gpus`, `resources`, `accelerator_type`) it holds what it
names, and 1 CPU if `num_cpus` is not named. `memory` alone does not count as naming one.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from minray.base.messages import Shape
from minray.worker.call_rules import CallRules

AMOUNT_UNIT = 10_000
"""Resource amounts are whole numbers of ten-thousandths, so that equal requests are equal keys."""

DEFAULT_TASK_MAX_RETRIES = 3
INFINITE = -1
_RESERVED_RESOURCES = ("CPU", "GPU", "memory", "object_store_memory", "bundle")

Check = Callable[[str, Any], None]
"""Raises TypeError or ValueError that names the option when the (never None) value is wrong."""


class SchedulingStrategy:
    """Base of the strategy classes in `minray.util.scheduling_strategies` (that layer lies above)."""

    def refusal(self, node_id: str, labels: Mapping[str, str]) -> str:
        """Why the node with this hex id and these labels will not do; empty when it does."""
        return ""


# --- checks -----------------------------------------------------------------------------------
def _of_type(*kinds: type) -> Check:
    def check(name: str, value: Any) -> None:
        # bool is an int to Python, but `num_cpus=True` is a slip of the pen.
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise TypeError(
                f"the option {name!r} must be {wanted} (or None), not {type(value).__name__}: {value!r}"
            )

    return check


def _count(least: int) -> Check:
    of_int = _of_type(int)

    def check(name: str, value: Any) -> None:
        of_int(name, value)
        if value < least:
            allowed = {-1: "-1 (no limit), 0 or more", 0: "0 or more", 1: "1 or more"}[least]
            raise ValueError(f"the option {name!r} must be {allowed}, not {value}")

    return check


def _amount(name: str, value: Any) -> None:
    _of_type(int, float)(name, value)
    if not math.isfinite(value):
        raise ValueError(f"the amount of {name} must be a finite number, not {value}")
    if value < 0:
        raise ValueError(f"the amount of {name} cannot be negative: {value}")
    if value and value * AMOUNT_UNIT < 1:
        raise ValueError(f"the amount of {name} is {value}: finer than 0.0001 is not possible")


def _gpus(name: str, value: Any) -> None:
    _amount(name, value)
    if value > 1 and value != int(value):
        raise ValueError(f"{name}={value}: more than one GPU must be a whole number; shares go up to 1")


def _resources(name: str, value: Any) -> None:
    _of_type(dict)(name, value)
    for resource, amount in value.items():
        if not isinstance(resource, str):
            raise TypeError(f"a name in the option 'resources' must be str, not {resource!r}")
        if resource in ("CPU", "GPU", "memory", "object_store_memory"):
            option = {"CPU": "num_cpus", "GPU": "num_gpus"}.get(resource, resource)
            raise ValueError(f"use the option {option!r} instead of {resource!r} in 'resources'")
        if resource in _RESERVED_RESOURCES or not resource:
            raise ValueError(f"{resource!r} is not a possible name in the option 'resources'")
        if amount is None:
            raise TypeError(f"the amount of {resource!r} in 'resources' must be a number, not None")
        _amount(resource, amount)


def _num_returns(name: str, value: Any) -> None:
    if isinstance(value, str):
        if value not in ("dynamic", "streaming"):
            raise ValueError(f"the option {name!r} must be an int, 'streaming' or 'dynamic', not {value!r}")
        return
    _count(0)(name, value)


def _window(name: str, value: Any) -> None:
    _of_type(int)(name, value)
    if value == 0:
        raise ValueError(f"{name}=0 is not allowed: nothing could be yielded. -1 is no limit, 1 waits at each yield.")


def _retry_exceptions(name: str, value: Any) -> None:
    _of_type(bool, list, tuple)(name, value)
    if not isinstance(value, bool):
        for kind in value:
            if not (isinstance(kind, type) and issubclass(kind, Exception)):
                raise ValueError(
                    f"the option {name!r} must be a bool or a list of exception classes: {kind!r}"
                )


def _one_of(*allowed: str) -> Check:
    def check(name: str, value: Any) -> None:
        if value not in allowed:
            wanted = ", ".join(map(repr, allowed))
            raise ValueError(f"the option {name!r} must be one of {wanted} or None, not {value!r}")

    return check


def _strategy(name: str, value: Any) -> None:
    if isinstance(value, str):
        return _one_of("DEFAULT", "SPREAD")(name, value)
    if not isinstance(value, SchedulingStrategy):
        raise TypeError(
            f"the option {name!r} must be 'DEFAULT', 'SPREAD' or a strategy of "
            f"minray.util.scheduling_strategies, not {value!r}"
        )
    return None


def _placement_group(name: str, value: Any) -> None:
    if value != "default":
        raise ValueError(
            f"the option {name!r} is an old spelling; use scheduling_strategy="
            "PlacementGroupSchedulingStrategy(...) once minray has placement groups"
        )


def _runtime_env(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"the option {name!r} must be dict or RuntimeEnv, not {type(value).__name__}")


_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?"
_LABEL_KEY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*/)?{_LABEL}")
_LABEL_CONDITION = re.compile(rf"!?in\({_LABEL}(?:, ?{_LABEL})*\)|!?{_LABEL}|")


def _label_selector(name: str, value: Any) -> None:
    _of_type(dict)(name, value)
    for key, condition in value.items():
        if not isinstance(key, str) or not _LABEL_KEY.fullmatch(key):
            raise ValueError(f"{key!r} in the option {name!r} is not a label's name")
        if not isinstance(condition, str) or not _LABEL_CONDITION.fullmatch(condition):
            raise ValueError(
                f"{condition!r} in the option {name!r} must be a value, '!value', 'in(a, b)' or '!in(a, b)'"
            )


def _name(name: str, value: Any) -> None:
    _of_type(str)(name, value)
    if not value:
        raise ValueError(f"the option {name!r} must not be empty")


def _never(reason: str) -> Check:
    def check(name: str, value: Any) -> None:
        raise ValueError(f"the option {name!r} {reason}")

    return check


def _concurrency_groups(name: str, value: Any) -> None:
    _of_type(dict)(name, value)
    for group, limit in value.items():
        _name("concurrency_groups", group)
        _count(1)(f"concurrency_groups[{group!r}]", limit)


# --- which options exist ------------------------------------------------------------------------
_SHARED: dict[str, Check] = {
    "num_cpus": _amount,
    "num_gpus": _gpus,
    "memory": _amount,
    "resources": _resources,
    "accelerator_type": _of_type(str),
    "name": _of_type(str),
    "runtime_env": _runtime_env,
    "scheduling_strategy": _strategy,
    "label_selector": _label_selector,
    "fallback_strategy": _of_type(list),
    "enable_task_events": _of_type(bool),
    "placement_group": _placement_group,
    "placement_group_bundle_index": _of_type(int),
    "placement_group_capture_child_tasks": _of_type(bool),
    "_labels": _of_type(dict),
    "_metadata": _of_type(dict),
}
_RETURNS: dict[str, Check] = {
    "num_returns": _num_returns,
    "retry_exceptions": _retry_exceptions,
    "_generator_backpressure_num_objects": _window,
    "_num_objects_per_yield": _count(1),
}
TASK_CHECKS: Mapping[str, Check] = {
    **_SHARED,
    **_RETURNS,
    "max_retries": _count(-1),
    "max_calls": _count(0),
    "object_store_memory": _never("exists for actors only"),
}
ACTOR_CHECKS: Mapping[str, Check] = {
    **_SHARED,
    "namespace": _name,
    "lifetime": _one_of("detached", "non_detached"),
    "get_if_exists": _of_type(bool),
    "max_restarts": _count(-1),
    "max_task_retries": _count(-1),
    "max_concurrency": _count(1),
    "max_pending_calls": _count(-1),
    "concurrency_groups": _concurrency_groups,
    "object_store_memory": _count(0),
    "allow_out_of_order_execution": _of_type(bool),
    "enable_tensor_transport": _of_type(bool),
    "_actor_generator_backpressure_num_objects": _window,
}
METHOD_CHECKS: Mapping[str, Check] = {
    **_RETURNS,
    "name": _of_type(str),
    "concurrency_group": _name,
    "max_task_retries": _count(-1),
    "enable_task_events": _of_type(bool),
    "tensor_transport": _one_of("object_store", "OBJECT_STORE"),
}
_CALLED = {
    id(TASK_CHECKS): "remote functions",
    id(ACTOR_CHECKS): "actors",
    id(METHOD_CHECKS): "actor methods",
}


def _check(given: Mapping[str, Any], checks: Mapping[str, Check]) -> None:
    for name, value in given.items():
        check = checks.get(name)
        if check is None:
            raise ValueError(_unknown_option(name, checks))
        if value is not None:
            check(name, value)


def _unknown_option(name: str, checks: Mapping[str, Check]) -> str:
    target = _CALLED[id(checks)]
    text = f"Invalid option keyword {name!r} for {target}"
    for other in (TASK_CHECKS, ACTOR_CHECKS, METHOD_CHECKS):
        if name in other:
            return f"{text}: it is an option of {_CALLED[id(other)]}."
    public = sorted(option for option in checks if not option.startswith("_"))
    near = difflib.get_close_matches(name, public, n=1)
    return f"{text}{f': did you mean {near[0]!r}?' if near else '.'} Valid ones are {', '.join(public)}."


# --- shapes -----------------------------------------------------------------------------------
def shape_of(amounts: Mapping[str, float]) -> Shape:
    """The scheduling key of `amounts`: sorted, in ten-thousandths, without zero amounts."""
    return tuple(
        sorted((name, round(amount * AMOUNT_UNIT)) for name, amount in amounts.items() if amount > 0)
    )


def _amounts(given: Mapping[str, Any]) -> dict[str, float]:
    amounts: dict[str, float] = dict(given.get("resources") or {})
    for option, resource in (("num_cpus", "CPU"), ("num_gpus", "GPU")):
        if given.get(option) is not None:
            amounts[resource] = given[option]
    if given.get("memory") is not None:
        amounts["memory"] = int(given["memory"])
    if given.get("accelerator_type") is not None:
        # The node that has one declares 1 of it; any number of tasks may share it, as in Ray.
        amounts[f"accelerator_type:{given['accelerator_type']}"] = 0.001
    return amounts


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """The checked options of a remote function. Make it with `parse_task_options`.

    `num_returns` is an int, "dynamic" or "streaming"; see `minray.api.returns`.
    """

    shape: Shape = (("CPU", AMOUNT_UNIT),)
    num_returns: int | str = 1
    max_retries: int = DEFAULT_TASK_MAX_RETRIES  # -1: for ever
    retry_exceptions: bool | tuple[type[Exception], ...] = False
    max_calls: int = 0  # 0: the worker is kept
    name: str | None = None
    scheduling_strategy: str | SchedulingStrategy | None = None
    runtime_env: Mapping[str, Any] | None = None
    label_selector: Mapping[str, str] | None = None
    enable_task_events: bool = True
    given: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def merge(self, overrides: Mapping[str, Any]) -> TaskOptions:
        """What `f.options(**overrides)` has: each named option replaces the earlier one whole.

        Raises: ValueError, TypeError as `parse_task_options`; `max_calls` cannot be changed later.
        """
        if "max_calls" in overrides:
            raise ValueError("Setting 'max_calls' is not supported in '.options()'.")
        _check(overrides, TASK_CHECKS)
        return replace(_task_options({**self.given, **overrides}), max_calls=self.max_calls)


def parse_task_options(given: Mapping[str, Any]) -> TaskOptions:
    """The options of `@remote(**given)` on a function.

    Raises: ValueError for an unknown name (with the likely one) or an impossible value; TypeError.
    """
    _check(given, TASK_CHECKS)
    return _task_options(given)


def _task_options(given: Mapping[str, Any]) -> TaskOptions:
    retry = given.get("retry_exceptions")
    amounts = _amounts(given)
    amounts.setdefault("CPU", 1)
    return TaskOptions(
        shape=shape_of(amounts),
        num_returns=_or(given.get("num_returns"), 1),
        max_retries=_or(given.get("max_retries"), DEFAULT_TASK_MAX_RETRIES),
        retry_exceptions=tuple(retry) if isinstance(retry, list | tuple) else bool(retry),
        # GPU libraries keep a GPU's memory until their process ends.
        max_calls=_or(given.get("max_calls"), 1 if amounts.get("GPU") else 0),
        name=given.get("name") or None,
        scheduling_strategy=given.get("scheduling_strategy"),
        runtime_env=given.get("runtime_env"),
        label_selector=given.get("label_selector"),
        enable_task_events=_or(given.get("enable_task_events"), True),
        given=dict(given),
    )


@dataclass(frozen=True, slots=True)
class ActorOptions:
    """The checked options of an actor class. Make it with `parse_actor_options`.

    `placement` must be free when it starts; `held` stays taken while it lives (see the module).
    """

    placement: Shape = (("CPU", AMOUNT_UNIT),)
    held: Shape = ()
    name: str | None = None
    namespace: str | None = None
    detached: bool = False
    get_if_exists: bool = False
    max_restarts: int = 0  # -1: for ever
    max_task_retries: int = 0  # -1: for ever
    max_concurrency: int | None = None  # None: 1000 for an async actor, else 1
    max_pending_calls: int = INFINITE
    concurrency_groups: Mapping[str, int] = field(default_factory=dict)
    scheduling_strategy: str | SchedulingStrategy | None = None
    runtime_env: Mapping[str, Any] | None = None
    label_selector: Mapping[str, str] | None = None
    enable_task_events: bool = True
    allow_out_of_order_execution: bool | None = None  # None: only where calls run side by side anyway
    given: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def shape(self) -> Shape:
        """What must be free for the start: `placement` by the name that tasks use."""
        return self.placement

    def merge(self, overrides: Mapping[str, Any]) -> ActorOptions:
        """What `Actor.options(**overrides)` has: each named option replaces the earlier one whole.

        Raises: ValueError, TypeError as `parse_actor_options`; concurrency groups stay as declared.
        """
        if "concurrency_groups" in overrides:
            raise ValueError("Setting 'concurrency_groups' is not supported in '.options()'.")
        _check(overrides, ACTOR_CHECKS)
        return _actor_options({**self.given, **overrides})


def parse_actor_options(given: Mapping[str, Any]) -> ActorOptions:
    """The options of `@remote(**given)` on a class.

    Raises: ValueError for an unknown name (with the likely one) or an impossible value; TypeError.
    """
    _check(given, ACTOR_CHECKS)
    return _actor_options(given)


def _actor_options(given: Mapping[str, Any]) -> ActorOptions:
    if given.get("get_if_exists") and not given.get("name"):
        raise ValueError("The actor name must be specified to use `get_if_exists`.")
    if given.get("name") == "":
        raise ValueError("the option 'name' of an actor must not be empty")
    amounts = _amounts(given)
    placement = dict(amounts)
    if set(amounts) <= {"memory"}:
        placement["CPU"] = 1
    else:
        placement.setdefault("CPU", 1)
        amounts = placement
    return ActorOptions(
        placement=shape_of(placement),
        held=shape_of(amounts),
        name=given.get("name"),
        namespace=given.get("namespace"),
        detached=given.get("lifetime") == "detached",
        get_if_exists=bool(given.get("get_if_exists")),
        max_restarts=given.get("max_restarts") or 0,
        max_task_retries=given.get("max_task_retries") or 0,
        max_concurrency=given.get("max_concurrency"),
        # Ray reads 0 as "no limit" too: an actor that accepts no call would be of no use.
        max_pending_calls=given.get("max_pending_calls") or INFINITE,
        concurrency_groups=dict(given.get("concurrency_groups") or {}),
        scheduling_strategy=given.get("scheduling_strategy"),
        runtime_env=given.get("runtime_env"),
        label_selector=given.get("label_selector"),
        enable_task_events=_or(given.get("enable_task_events"), True),
        allow_out_of_order_execution=given.get("allow_out_of_order_execution"),
        given=dict(given),
    )


@dataclass(frozen=True, slots=True)
class MethodOptions:
    """The checked options of `@method(...)` and of `handle.method.options(...)`. None: not named."""

    num_returns: int | str = 1
    name: str | None = None
    concurrency_group: str | None = None
    max_task_retries: int | None = None
    retry_exceptions: bool | tuple[type[Exception], ...] = False
    enable_task_events: bool | None = None
    generator: bool = False  # the method yields
    given: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def merge(self, overrides: Mapping[str, Any]) -> MethodOptions:
        """What `handle.method.options(**overrides)` has."""
        return parse_method_options({**self.given, **overrides}, self.generator)

    def call_rules(self) -> CallRules | None:
        """What the process that calls must know of each call; None when there is nothing special."""
        if not (self.concurrency_group or self.retry_exceptions or self.name) and self.max_task_retries is None:
            return None
        group, name = self.concurrency_group or "", self.name or ""
        return CallRules(group, self.max_task_retries, self.retry_exceptions, name)


def parse_method_options(given: Mapping[str, Any], generator: bool = False) -> MethodOptions:
    """The options of an actor's method.

    Raises: ValueError for an unknown name (with the likely one) or an impossible value; TypeError.
    """
    _check(given, METHOD_CHECKS)
    retry = given.get("retry_exceptions")
    return MethodOptions(
        num_returns=_or(given.get("num_returns"), 1),
        name=given.get("name") or None,
        concurrency_group=given.get("concurrency_group"),
        max_task_retries=given.get("max_task_retries"),
        retry_exceptions=tuple(retry) if isinstance(retry, list | tuple) else bool(retry),
        enable_task_events=given.get("enable_task_events"),
        generator=generator,
        given=dict(given),
    )


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


# --- the decorator's own arguments --------------------------------------------------------------
def check_remote_arguments(args: Sequence[object], kwargs: Mapping[str, object]) -> None:
    """Accept `@remote` on a function or class, or `@remote(option=...)`, and nothing between.

    Raises: TypeError that shows both forms.
    """
    bare = len(args) == 1 and not kwargs and callable(args[0])
    if not bare and (args or not kwargs):
        raise TypeError(
            "The @remote decorator must be applied either with no arguments and no parentheses, for "
            "example '@remote', or with some of its options by keyword, for example '@remote(num_cpus=2)'."
        )
