"""How does the programming model run on real processes?

The default engine: an adapter between the seam and this process's core worker. `start` makes a node
process and joins it as a driver, `attach` joins a running one, `adopt_worker` is what a worker does.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import pickle
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from minray.base import ids
from minray.base.config import SessionConfig
from minray.base.descriptors import raise_limit
from minray.base.events import EventPage
from minray.base.messages import CreateActor, ModulesWanted
from minray.engine.seam import ActorSpec, FunctionSpec, RunningTask, slot
from minray.serialization.functions import dump_code
from minray.worker.core import CoreWorker
from minray.worker.functions import FunctionRecord
from minray.worker.interrupts import interrupts
from minray.worker.object_ref import ObjectRef
from minray.worker.task_context import current_task


class ClusterEngine:
    """One process's engine over a `CoreWorker`."""

    name = "cluster"

    def __init__(self, core: CoreWorker, node: Any = None) -> None:
        self.core = core
        self.node = node  # the NodeHandle of a driver that started its cluster
        self._wanted: set[str] = set()  # modules that workers are told to share
        self._function_numbers = itertools.count(1)
        self._known: dict[tuple[Any, ...], FunctionRecord] = {}
        self._lock = threading.Lock()

    # ---------------------------------------------------------------- tasks
    def prepare(self, spec: FunctionSpec) -> Callable[..., Any]:
        """Register the function; returns its submit."""
        core = self.core
        rules = (spec.max_retries, spec.retry_exceptions, spec.returns, spec.max_calls)
        key = (spec.blob, spec.name, spec.shape, *rules)
        with self._lock:
            record = self._known.get(key)
            if record is None:
                record = FunctionRecord(
                    next(self._function_numbers),
                    spec.name,
                    spec.blob,
                    spec.max_retries,
                    spec.retry_exceptions,
                    spec.returns,
                    core.group_of(spec.shape),
                )
                record.group.environment = spec.environment
                record.max_calls = spec.max_calls
                self._known[key] = record
                core.add_function(record)
        if spec.returns == 1:
            return functools.partial(core.submit, record)

        def submit_many(args: Any, kwargs: Any) -> Any:
            return core.returned_refs(core.submit(record, args, kwargs), spec.returns)

        return submit_many

    # ---------------------------------------------------------------- actors
    def create_actor(self, spec: ActorSpec, info: Any, args: Any, kwargs: Any) -> tuple[bytes, Any]:
        """See the seam."""
        core = self.core
        if spec.wants and spec.wants not in self._wanted:
            self._wanted.add(spec.wants)
            core.tell_node(ModulesWanted((spec.wants,)))
        actor_id = ids.new_actor_id()
        create = CreateActor(
            actor_id,
            spec.class_name,
            spec.name,
            spec.namespace,
            spec.detached,
            spec.placement,
            spec.held,
            spec.max_restarts,
            pickle.dumps(info, 5),
            b"",
        )
        calls = core.calls_of(
            actor_id,
            spec.class_name,
            spec.max_task_retries,
            spec.max_pending_calls,
            spec.in_order,
            spec.grouped,
        )
        parts = {
            "class_name": spec.class_name,
            "class": spec.blob,
            "owner": core.worker_id,
            "namespace": spec.namespace,
            "name": spec.name,
            "held": spec.held,
            **spec.options,
        }
        try:
            ref = core.create_actor(create, parts, args, kwargs, calls)
        except BaseException:
            core.actors.pop(actor_id, None)
            raise
        if spec.detached and ref is not None:
            core.pin_for_ever(ref)
        return actor_id, ref

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
        """See the seam."""
        core = self.core
        calls = core.calls_of(actor_id, class_name, max_task_retries, max_pending, in_order, grouped)
        return functools.partial(core.call_actor, calls, ref)

    def kill(self, actor_id: bytes, class_name: str, no_restart: bool) -> None:
        """See the seam."""
        self.core.kill_actor(self.core.calls_of(actor_id, class_name), no_restart)

    def leave_actor(self) -> bool:
        """See the seam."""
        executor = self.core.executor
        if executor is None or executor.actor is None:
            return False
        executor.actor.leave_at_will()
        return True

    def actor_by_name(self, name: str, namespace: str) -> tuple[bytes, Any] | None:
        """See the seam."""
        found = self.core.ask_node("actor_by_name", (name, namespace))
        return None if found is None else (found[0], pickle.loads(found[1]))

    def named_actors(self, namespace: str | None) -> Sequence[tuple[str, str]]:
        """See the seam."""
        return self.core.ask_node("named_actors", namespace)  # type: ignore[no-any-return]

    # ---------------------------------------------------------------- objects
    def get(self, refs: Any, timeout_s: float | None) -> Any:
        """See the seam."""
        core = self.core
        if isinstance(refs, ObjectRef):
            return core.get(refs, timeout_s)
        return core.get_many(refs, timeout_s)

    def put(self, value: Any) -> ObjectRef[Any]:
        """See the seam."""
        ref = self.core.put(value)
        if interrupts.pending:
            interrupts.raise_pending()
        return ref

    def wait(self, refs: list[Any], count: int, timeout_s: float | None) -> tuple[list[Any], list[Any]]:
        """See the seam."""
        return self.core.wait(refs, count, timeout_s)

    def cancel(self, ref: ObjectRef[Any], force: bool, recursive: bool) -> None:
        """See the seam."""
        self.core.cancel(ref, force, recursive)

    def is_cancelled(self) -> bool:
        """See the seam."""
        executor = self.core.executor
        if executor is None:
            raise RuntimeError("This method is only available when the process is a worker. Current mode: driver")
        if executor.actor is not None and executor.actor.is_async:
            raise RuntimeError("This method is not supported in an async actor: its calls get a CancelledError.")
        return bool(executor.interruption.is_cancelled(current_task()))

    # ---------------------------------------------------------------- questions
    def ask(self, what: str, argument: Any = None) -> Any:
        """See the seam."""
        if what == "available_resources":
            self.core.return_idle_now()
        return self.core.ask_node(what, argument)

    def untraced(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """See the seam."""
        recorder = self.core.recorder
        if recorder is None:
            return call

        def submit(*given: Any) -> Any:
            before = recorder.next_number()
            result = call(*given)
            # Numbers of other threads' tasks may lie between: only what was handed out here is hidden.
            refs = result if isinstance(result, list) else [result]
            recorder.hide([getattr(ref, "n", before) for ref in refs])  # a generator has its task's number too
            return result

        return submit

    def events(self, cursor: int) -> EventPage:
        """See the seam."""
        return self.core.events(cursor)

    def events_ahead(self, cursor: int) -> tuple[int, int]:
        """See the seam."""
        return self.core.events_ahead(cursor)

    def all_events(self) -> EventPage:
        """See the seam."""
        self.core.gather_events()
        return self.core.events(0)

    def session(self) -> SessionConfig:
        """See the seam."""
        return self.core.config

    def inspect(self, what: str, argument: Any) -> Any:
        """See the seam."""
        return self.core.inspect(what, argument)

    def process_id(self) -> bytes:
        """See the seam."""
        return self.core.worker_id

    def mark_events(self) -> int:
        """See the seam."""
        return self.core.mark_events()

    def traces(self) -> bool:
        """See the seam."""
        return self.core.recorder is not None

    def sees_all_events(self) -> bool:
        """See the seam."""
        return self.core.is_driver

    def gather_events(self, timeout_s: float) -> list[str]:
        """See the seam."""
        return self.core.gather_events(timeout_s)

    def running(self) -> RunningTask:
        """See the seam."""
        core = self.core
        task = current_task()
        if task is not None:
            actor = task.actor
        else:  # a thread of the program: of an actor's process all are the actor's
            actor = core.executor.actor if core.executor is not None else None
        gpu_ids: tuple[int, ...] = ()
        shape: Any = ()
        if actor is not None:
            gpu_ids, shape = tuple(actor.gpu_ids), actor.held
        elif task is not None:
            gpu_ids, shape = task.peer.gpu_ids, task.peer.shape
        return RunningTask(
            (core.job_id or core.config.job_id).to_bytes(4, "little").hex(),
            core.config.node_id.hex(),
            core.worker_id.hex(),
            task.task_id if task is not None else "",
            task.name if task is not None else "",
            actor.actor_id.hex() if actor is not None else "",
            actor.name if actor is not None else "",
            actor.namespace if actor is not None and actor.namespace else core.config.namespace,
            gpu_ids,
            bool(actor is not None and actor.incarnation > 0),
            {name: amount / 10_000 for name, amount in shape if amount},
        )

    def environment(self, own: Mapping[str, Any] | None) -> tuple[str, Mapping[str, Any] | None]:
        """See the seam."""
        inherited = self.core.environment
        if not own and not inherited:
            return "", None
        from minray.runtime_env.description import key_of, merged
        from minray.runtime_env.packaging import prepare

        prepared = prepare(own, self.core.config.session_dir, dump_code) if own else None
        whole = merged(inherited, prepared)
        return (key_of(whole), whole) if whole else ("", None)

    def job_environment(self) -> Mapping[str, Any]:
        """See the seam."""
        from minray.runtime_env.description import merged

        return merged(self.core.config.environment, self.core.environment)

    def resolved_argument(self, value: Any) -> bool:
        """See the seam."""
        task = current_task()
        return task is not None and any(value is one for one in task.resolved or ())

    # ---------------------------------------------------------------- the end
    def close(self) -> None:
        """Leave; a driver that started the cluster ends it."""
        core = self.core
        if slot.engine is self:
            slot.engine = None
        with contextlib.suppress(Exception):
            core.cancel_demands()
        interrupts.uninstall()
        core.close()
        if self.node is not None:
            self.node.stop()


def join_driver(config: SessionConfig, node: Any) -> ClusterEngine:
    """Make this process a driver of a running node and put the engine into the slot."""
    raise_limit()
    core = CoreWorker(config, ids.new_worker_id(), is_driver=True)
    core.join()
    engine = ClusterEngine(core, node)
    slot.engine = engine
    interrupts.install()
    known = weakref.ref(engine)  # fork handlers live for ever; the engine need not

    def leave() -> None:
        left = known()
        if left is not None:
            _leave_in_child(left)

    os.register_at_fork(after_in_child=leave)
    return engine


def _leave_in_child(engine: ClusterEngine) -> None:
    """A process forked from the driver by the user is not a driver: our sockets are not its own."""
    if slot.engine is engine:
        slot.engine = None
        core = engine.core
        for channel in [*core.loop.channels.values(), core._node, core._question]:
            if channel is not None:
                channel.sock.close()
        from minray.worker import object_ref

        object_ref.core = None


def adopt_worker(core: CoreWorker) -> None:
    """A worker's engine."""
    slot.engine = ClusterEngine(core)
