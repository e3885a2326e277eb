"""`minray.actor`: what Ray offers under `ray.actor`."""

from __future__ import annotations

from minray.api.actor_class import ActorClass, ActorHandle, ActorMethod, exit_actor

__all__ = ["ActorClass", "ActorHandle", "ActorMethod", "exit_actor"]
