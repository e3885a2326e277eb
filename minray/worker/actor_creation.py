"""Who makes an actor, and what ends it when nobody refers to it?

The creator owns the actor. The node is told at once, so that its name is taken and handles may be given
away; the constructor's arguments follow when they are ready:

    CreateActor (spec b"" while an argument is late) ─► ActorArguments ─► the node finds a worker
    last handle gone ─► ActorOutOfScope, once every call that was made is answered
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from minray.base.errors import ActorAlreadyExistsError
from minray.base.messages import ActorArguments, ActorOutOfScope, CreateActor, WatchActor
from minray.serialization.values import STORED
from minray.worker.core_state import CoreState
from minray.worker.object_ref import ObjectRef, make_ref
from minray.worker.store import SharedStored

if TYPE_CHECKING:
    from minray.worker.actor_calls import ActorCalls


class ActorCreation(CoreState):
    """The owner's side of an actor's beginning and end."""

    def create_actor(
        self, create: CreateActor, spec_parts: dict[str, Any], args: Any, kwargs: Any, calls: ActorCalls
    ) -> ObjectRef[Any] | None:
        """Register an actor; its constructor runs once its arguments are ready.

        Returns the owned reference that its handles share. Raises: ActorAlreadyExistsError for a taken name.
        """
        payload, dependencies, held = self.pack(args, kwargs, 1)
        calls.creation_held = held
        calls.may_restart = create.max_restarts != 0
        calls.watched = True
        for part in held:
            self.pin(part)

        def spec_with(final: Any) -> bytes:
            return pickle.dumps({**spec_parts, "payload": final}, 5)

        create = create._replace(spec=b"" if dependencies else spec_with(payload))
        if create.name:
            conflict = str(self.ask_node("create_actor", create))
            if conflict:
                calls.let_arguments_go()
                raise ActorAlreadyExistsError(conflict)
        else:
            self.tell_node(create)
        self.tell_node(WatchActor(create.actor_id))
        if dependencies:
            number = next(self.numbers)
            probe = make_ref(self.worker_id, number)
            probe.task = (number, "__init__", payload)
            self.table[number] = probe
            calls.arguments = probe

            def send(final: Any) -> None:
                self.table.pop(number, None)
                self.tell_node(ActorArguments(create.actor_id, spec_with(final), b""))

            self.on_ready(probe, lambda: self.tell_node(ActorArguments(create.actor_id, b"", probe.v)))
            self.when_ready(probe, payload, dependencies, send)
        ref = make_ref(self.worker_id, next(self.numbers))
        end = SharedStored(b"", None, None, (), 0)
        actor_id = create.actor_id
        end.on_end = lambda _: self.note_end((actor_id, None, 0, 0))
        end.number = 0
        ref.v = end
        ref.st = STORED
        return ref

    def actor_out_of_scope(self, actor_id: bytes) -> None:
        """The last handle is gone. Calls already made still run: `Counter.remote().add.remote()`."""
        calls = self.actors.get(actor_id)
        if calls is None:
            self.tell_node(ActorOutOfScope(actor_id))
            return
        calls.abandoned = True
        if calls.state == "dead":
            del self.actors[actor_id]  # what was called with it has its own references
            return
        calls.flush()
        # The node's word to the actor and our calls travel on different connections: were it told now, the
        # actor could end before a call that is still queued here reaches it.
        calls.handles_gone = True
        calls.settle()
