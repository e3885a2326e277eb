"""How does a worker be an actor?

    BecomeActor ─► construct ─► ActorReady ─► calls ─► DrainActor │ exit_actor ─► ActorExiting ─► exit

Three ways to serve calls, chosen by the class, `max_concurrency` and `concurrency_groups`:

    ordered    the executor's main loop, one call at a time
    threaded   a pool of threads for each group (`minray.worker.threaded_actor`)
    async      any `async def` method: an event loop on the main thread (`minray.worker.async_actor`)
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

from minray.base.cpu_threads import cpu_threads
from minray.base.errors import AsyncioActorExit, capture
from minray.base.messages import ActorExiting, ActorInitFailed, ActorReady, BecomeActor
from minray.serialization.errors import dump_error
from minray.serialization.functions import load_code
from minray.worker.concurrency_groups import GroupTable, has_async_methods
from minray.worker.executor import ActorExit, Executor, show_gpus
from minray.worker.peer import Peer
from minray.worker.task_context import TaskContext, running
from minray.worker.wire import Call

if TYPE_CHECKING:  # imported by those who need them: asyncio alone costs 30 ms
    from minray.worker.async_actor import AsyncService
    from minray.worker.threaded_actor import ThreadedService

ASYNC_CONCURRENCY = 1000
_perf = time.perf_counter


class ActorHost:
    """The actor that this worker has become."""

    def __init__(self, executor: Executor, become: BecomeActor) -> None:
        self.executor = executor
        self.core = executor.core
        self.actor_id = become.actor_id
        self.incarnation = become.incarnation
        self.gpu_ids = become.gpu_ids
        spec = pickle.loads(become.spec)
        self.class_name: str = spec["class_name"]
        self.namespace: str = spec.get("namespace", "")
        self.name: str = spec.get("name", "")
        self.owner: bytes = spec["owner"]
        self.held = spec.get("held", ())
        self._payload = spec["payload"]
        self._blob: bytes = spec["class"]
        self._environment: dict[str, Any] | None = spec.get("environment")
        self._concurrency: int | None = spec.get("max_concurrency")
        executor.generating.share_window(spec.get("generator_window", 0))
        self.instance: Any = None
        self._methods: dict[str, Any] = {}
        self.concurrent = False
        self.is_async = False
        self._groups: dict[str, int] = spec.get("concurrency_groups") or {}
        self._method_groups: dict[str, str] = spec.get("method_groups") or {}
        self.service: AsyncService | ThreadedService | None = None
        self.draining = False
        self._ends = threading.Lock()
        self.leaving = ""  # why the actor ends, once a call has said so
        self._context = TaskContext(_Creator(self.owner), 0, "__init__", self)

    # ---------------------------------------------------------------- construction
    def construct(self) -> bool:
        """Run the constructor. Tells the node how it went; False when it failed."""
        executor = self.executor
        show_gpus(self.gpu_ids)
        cpu_threads.follow(self.held)
        executor.output.label = self.class_name
        executor.context = running.task = self._context
        made: list[Any] = []
        try:
            if self._environment and not self.core.environment:
                executor.become(self._environment)
            if executor.environment_error is not None:
                raise executor.environment_error
            cls = load_code(self._blob)
            payload = self._payload
            if type(payload) is tuple:
                args, kwargs = payload, {}
            elif type(payload) is bytes:
                args, kwargs = pickle.loads(payload)
            else:
                args, kwargs = executor.open_arguments(Call(*payload), made)
            self.is_async = has_async_methods(cls)
            limit = self._concurrency or (ASYNC_CONCURRENCY if self.is_async else 1)
            groups = GroupTable(self._groups, self._method_groups, limit)
            self.instance = cls.__new__(cls)
            executor.actor = self
            if self.is_async:
                from minray.worker.async_actor import AsyncService

                self.service = AsyncService(self, groups)
                self.service.construct(self._context, args, kwargs)
            else:
                self.instance.__init__(*args, **kwargs)
                if limit > 1 or groups.several:
                    from minray.worker.threaded_actor import ThreadedService

                    self.service = ThreadedService(self, groups)
            args = kwargs = ()  # type: ignore[assignment]
        except BaseException as error:
            return self._failed(error)
        finally:
            executor.context = running.task = None
            self._payload = self._context.resolved = None
        executor.settle_borrows(self.core_peer(), made)
        self.concurrent = self.service is not None
        if self.incarnation:
            executor.answer_each_call()
        executor.output.flush()
        executor.output.ship(None)
        self.core.tell_node(ActorReady(self.actor_id))
        return True

    def core_peer(self) -> Peer:
        """The creator as a peer that is not on a connection (its handles are counted by token)."""
        return _Creator(self.owner)  # type: ignore[return-value]

    def _failed(self, error: BaseException) -> bool:
        if isinstance(error, (ActorExit, AsyncioActorExit)):
            self.end("exit_actor() was called in the constructor")
        captured = capture(
            f"{self.class_name}.__init__",
            error,
            os.getpid(),
            actor_id=self.actor_id.hex(),
            actor_repr=self.class_name,
        )
        self.executor.output.flush()
        self.executor.output.ship(None)
        self.core.tell_node(ActorInitFailed(self.actor_id, dump_error(captured)))
        return False

    def representation(self) -> str:
        """How errors name the actor."""
        try:
            text = repr(self.instance)
        except Exception:
            return self.class_name
        return self.class_name if text.startswith("<") else text

    # ---------------------------------------------------------------- methods
    def method(self, name: str) -> Any:
        """The bound method `name`. Raises: AttributeError."""
        found = self._methods.get(name)
        if found is None:
            if name == "__ray_ready__":
                found = _ready
            elif name == "__ray_terminate__":
                found = self._terminate
            elif name == "__ray_call__":
                found = self._call_function
            else:
                found = getattr(self.instance, name)
            self._methods[name] = found
        return found

    def _call_function(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        return function(self.instance, *args, **kwargs)

    def _terminate(self) -> None:
        raise ActorExit(0)

    # ---------------------------------------------------------------- threaded and async service
    def accept(self, peer: Peer, batch: list[Any]) -> None:
        """Calls of a concurrent actor, or of one that leaves, arrived (called by whoever leads)."""
        if self.service is not None and not self.leaving:  # the end answers what comes now
            self.service.accept(peer, batch)

    def serve(self) -> None:
        """Serve a concurrent actor until it ends (main thread)."""
        assert self.service is not None
        self.service.serve()

    def run_payload(self, peer: Peer, name: str, payload: Any, context: TaskContext) -> tuple[int, Any]:
        """Run one call in this thread. Returns (state, form). Raises: ActorLeaves."""
        executor = self.executor
        try:
            if executor.refused:
                executor.interruption.refuse(context)
            target = self.method(name)
            if type(payload) is tuple:
                return executor.seal_result(peer, target(*payload))
            if type(payload) is bytes:
                args, kwargs = pickle.loads(payload)
                return executor.seal_result(peer, target(*args, **kwargs))
        except BaseException as error:
            return executor.failure(context, error)
        return executor.run_call(peer, target, payload)

    # ---------------------------------------------------------------- the end
    def drain(self) -> None:
        """No handle is left: finish what has arrived, then end."""
        self.draining = True
        if self.service is not None:
            self.service.wake()
        else:
            self.executor.on_idle = lambda: self.end("its last handle is gone")

    def leave(self, reason: str) -> None:
        """The actor is to end: what runs is finished, what waits never starts. Any thread."""
        self.leaving = self.leaving or reason
        if self.service is not None:
            self.service.leave()
            return
        for peer in list(self.core.peers.values()):
            peer.queue.clear()
        self.executor.on_idle = lambda: self.end(self.leaving)
        self.core.loop.wake_pump()

    def leave_at_will(self) -> None:
        """`exit_actor()`, in a call or in a thread of the program. The call that runs it then ends by its exception;
        a program that swallows that does not stay for it."""
        self.leave("exit_actor() was called")
        if self.service is not None:
            self.service.end_if_done()

    def end(self, reason: str) -> None:
        """Tell the node, let the program say goodbye, exit; finished replies leave first. Once."""
        if not self._ends.acquire(blocking=False):
            return
        core = self.core
        for peer in list(core.peers.values()):
            if peer.out:
                with contextlib.suppress(Exception):
                    self.executor.flush_replies(peer)
        with contextlib.suppress(Exception):
            core.ship_last_events()
        core.tell_node(ActorExiting(self.actor_id, reason))
        self._say_goodbye()
        self.executor.output.flush()
        with contextlib.suppress(Exception):
            self.executor.output.ship(None)
        deadline = _perf() + 1.0
        while _perf() < deadline and any(channel.outbox for channel in list(core.loop.channels.values())):
            for channel in list(core.loop.channels.values()):
                channel.flush()
            time.sleep(0.001)
        os._exit(0)

    def _say_goodbye(self) -> None:
        """What Ray runs at an end on purpose: `__ray_shutdown__`, atexit functions, `__del__`. Their errors are
        printed; the node waits some seconds for them."""
        running.task = None
        shutdown = getattr(type(self.instance), "__ray_shutdown__", None)
        if shutdown is not None:
            try:
                shutdown(self.instance)
            except Exception:
                traceback.print_exc()
        with contextlib.suppress(BaseException):
            atexit._run_exitfuncs()
        finalizer = getattr(type(self.instance), "__del__", None)
        if finalizer is not None:  # by name: the frame of the call that ends it, or a thread, may refer to it still
            with contextlib.suppress(Exception):
                finalizer(self.instance)


class _Creator:
    """Stands for the creator where a caller is expected."""

    def __init__(self, worker_id: bytes) -> None:
        self.worker_id = b""
        self.owner = worker_id
        self.names: dict[int, str] = {}
        self.gone = True


def _ready() -> bool:
    return True
