"""Which queue does an actor's call stand in?

An actor may name groups of methods with a limit each, `concurrency_groups={"io": 2}`: calls of a group
run side by side up to its limit and start in the order in which they came; what does not belong to a
group belongs to the default one, whose limit is `max_concurrency`. A group that is full or blocked
holds nobody else back, so every group has threads of its own, or, in an async actor, a thread with an
event loop of its own.

    call ──group named in .options()│@method │ neither──► "io" │ "io" │ "" (the default)

Pure: a table made when the actor is, asked once a call.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from minray.worker.wire import Call

DEFAULT = ""


class GroupTable:
    """The groups of one actor."""

    def __init__(self, limits: Mapping[str, int], methods: Mapping[str, str], default_limit: int) -> None:
        """limits: of the named groups; methods: name -> group, as `@method(concurrency_group=)` says."""
        self.limits = {DEFAULT: default_limit, **limits}
        self._methods = dict(methods)

    @property
    def several(self) -> bool:
        """Whether there is more than the default group."""
        return len(self.limits) > 1

    def of(self, method: str, payload: Any) -> str:
        """The group of a call. One named by the call that does not exist is the default: the caller was told."""
        if type(payload) is Call and payload.group:
            group = payload.group
        else:
            group = self._methods.get(method, DEFAULT)
        return group if group in self.limits else DEFAULT


def unknown_group(group: str, class_name: str, groups: Mapping[str, int] | tuple[str, ...]) -> str:
    """The sentence for a group that the class does not have."""
    known = ", ".join(repr(name) for name in groups) or "none"
    return (
        f"Failed to look up the concurrency group {group!r} of the actor class {class_name}. "
        f"Defined are: {known}. Groups are declared with @remote(concurrency_groups={{{group!r}: 2}})."
    )


def has_async_methods(cls: type) -> bool:
    """Whether calls of the class run in an event loop."""
    return any(
        inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member)
        for _, member in inspect.getmembers(cls, callable)
    )
