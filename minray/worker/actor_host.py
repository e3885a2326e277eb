"""How does a worker be an actor?

    BecomeActor ─► construct ─► ActorReady ─► calls ─► DrainActor │ exit_actor ─► ActorExiting ─► exit

Three ways to serve calls, chosen by the class and `max_concurrency`:

    ordered    the executor's main loop, one call at a time
    threaded   a pool of `max_concurrency` threads, started in order
    async      any `async def` method: an event loop on the main thread (`minray.worker.async_actor`)
"""

from __future__ import annotations

import contextlib
import inspect
import os
import pickle
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from minray.base.errors import AsyncioActorExit, capture
from minray.base.messages import ActorExiting, ActorInitFailed, ActorReady, BecomeActor
from minray.serialization.errors import dump_error
from minray.serialization.functions import load_code
from minray.worker.executor import ActorExit, Executor, show_gpus
from minray.worker.peer import Peer
from minray.worker.task_context import TaskContext, running
from minray.worker.wire import Call

if TYPE_CHECKING:  # imported by those who need them: asyncio alone costs 30 ms
    from concurrent.futures import ThreadPoolExecutor

    from minray.worker.async_actor import AsyncService

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
        self.instance: Any = None
        self._methods: dict[str, Any] = {}
        self.concurrent = False
        self.is_async = False
        self.service: AsyncService | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._backlog: deque[tuple[Peer, Any]] = deque()
        self._active = 0
        self._limit = 1
        self.draining = False
        self._context = TaskContext(_Creator(self.owner), 0, "__init__", self)

    # ---------------------------------------------------------------- construction
    def construct(self) -> bool:
        """Run the constructor. Tells the node how it went; False when it failed."""
        executor = self.executor
        show_gpus(self.gpu_ids)
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
            self.is_async = _has_async_method(cls)
            self._limit = self._concurrency or (ASYNC_CONCURRENCY if self.is_async else 1)
            self.instance = cls.__new__(cls)
            executor.actor = self
            if self.is_async:
                from minray.worker.async_actor import AsyncService

                self.service = AsyncService(self, self._limit)
                self.service.construct(self._context, args, kwargs)
            else:
                self.instance.__init__(*args, **kwargs)
            args = kwargs = ()  # type: ignore[assignment]
        except BaseException as error:
            return self._failed(error)
        finally:
            executor.context = running.task = None
            self._payload = self._context.resolved = None
        executor.settle_borrows(self.core_peer(), made)
        self.concurrent = self.is_async or self._limit > 1
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
        """Calls of a concurrent actor arrived (called by whoever leads)."""
        if self.service is not None:
            self.service.accept(peer, batch)
            return
        for task in batch:
            self._backlog.append((peer, task))
        self._start_threads()

    def serve(self) -> None:
        """Serve a concurrent actor until it ends (main thread)."""
        if self.service is not None:
            self.service.serve()
            return
        from concurrent.futures import ThreadPoolExecutor

        self._pool = ThreadPoolExecutor(self._limit, thread_name_prefix=self.class_name)
        self._start_threads()
        self._lead_until_drained()

    def _lead_until_drained(self) -> None:
        loop = self.core.loop
        while True:
            if self.draining and not self._active and not self._backlog:
                self.end("its last handle is gone")
            if loop.lead():
                try:
                    loop.poll_once(0.1 if self.draining else None)
                finally:
                    loop.leave()
            else:
                loop.await_turn()

    def _start_threads(self) -> None:
        pool = self._pool
        while pool is not None and self._backlog:
            peer, task = self._backlog.popleft()
            self._active += 1
            pool.submit(self._run_in_thread, peer, task)

    def _run_in_thread(self, peer: Peer, task: Any) -> None:
        number, name, payload = task
        running.task = context = TaskContext(peer, number, name, self)
        t0 = _perf()
        try:
            state, form = self._run_payload(peer, name, payload, context)
        finally:
            running.task = None
        peer.out.append((number, state, form, t0, _perf()))
        running.task = context
        self.executor.flush_replies(peer)
        running.task = None
        self._active -= 1

    def _run_payload(self, peer: Peer, name: str, payload: Any, context: TaskContext) -> tuple[int, Any]:
        executor = self.executor
        try:
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
        if not self.concurrent:
            self.executor.on_idle = lambda: self.end("its last handle is gone")
        elif self.service is not None:
            self.service.wake()

    def end(self, reason: str) -> None:
        """Tell the node and exit; finished replies leave first."""
        core = self.core
        for peer in list(core.peers.values()):
            if peer.out:
                with contextlib.suppress(Exception):
                    self.executor.flush_replies(peer)
        self.executor.output.flush()
        with contextlib.suppress(Exception):
            self.executor.output.ship(None)
            core.ship_last_events()
        core.tell_node(ActorExiting(self.actor_id, reason))
        deadline = _perf() + 1.0
        while _perf() < deadline and any(channel.outbox for channel in list(core.loop.channels.values())):
            for channel in list(core.loop.channels.values()):
                channel.flush()
            time.sleep(0.001)
        _run_atexit(self.instance)
        os._exit(0)


def _run_atexit(instance: Any) -> None:
    shutdown = getattr(type(instance), "__ray_shutdown__", None)
    if shutdown is not None:
        with contextlib.suppress(Exception):
            shutdown(instance)


class _Creator:
    """Stands for the creator where a caller is expected."""

    def __init__(self, worker_id: bytes) -> None:
        self.worker_id = b""
        self.owner = worker_id
        self.names: dict[int, str] = {}
        self.gone = True


def _ready() -> bool:
    return True


def _has_async_method(cls: type) -> bool:
    return any(
        inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member)
        for _, member in inspect.getmembers(cls, inspect.isfunction)
    )
