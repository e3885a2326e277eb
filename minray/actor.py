"""What does Ray offer under `ray.actor`? The same names, from where they live here."""

from __future__ import annotations

from minray.api.actor_class import (
    ActorClass,
    ActorClassInheritanceException,
    ActorHandle,
    ActorMethod,
    exit_actor,
    method,
)

DEFAULT_MAX_CONCURRENCY_ASYNC = 1000

__all__ = [
    "DEFAULT_MAX_CONCURRENCY_ASYNC",
    "ActorClass",
    "ActorClassInheritanceException",
    "ActorHandle",
    "ActorMethod",
    "exit_actor",
    "method",
]
