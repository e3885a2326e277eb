"""What does Ray offer under `ray.actor`? The same names, from where they live here."""

from __future__ import annotations

from minray.api.actor_class import ActorClass, ActorHandle, ActorMethod, exit_actor, method

__all__ = ["ActorClass", "ActorHandle", "ActorMethod", "exit_actor", "method"]
