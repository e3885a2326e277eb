"""How does an async actor serve many calls at once on one thread?

An event loop on the main thread, which then leads the I/O loop for good: the poller's descriptor is
one more reader of the event loop, other threads follow and wake it through the eventfd. Each call is
one asyncio task; at most `limit` are under way, the rest wait in order of arrival. Replies that
finish in one turn of the event loop leave in one frame.
"""

from __future__ import annotations

import asyncio
import inspect
import pickle
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from minray.rpc.loop import TICK_S
from minray.serialization.values import PLAIN, PLAIN_TEXT_LIMIT, PLAIN_TYPES
from minray.worker.peer import Peer
from minray.worker.task_context import TaskContext, running_async

if TYPE_CHECKING:
    from minray.worker.actor_host import ActorHost

_perf = time.perf_counter


class AsyncService:
    """The event loop of one async actor."""

    def __init__(self, host: ActorHost, limit: int) -> None:
        self.host = host
        self.executor = host.executor
        self.io = host.core.loop
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self._limit = limit
        self._active = 0
        self._backlog: deque[tuple[Peer, Any]] = deque()
        self._dirty: set[Peer] = set()
        self._flush_due = False
        self._tick_handle: asyncio.TimerHandle | None = None

    def construct(self, context: TaskContext, args: Any, kwargs: Any) -> None:
        """Run the constructor inside the event loop."""

        async def run() -> None:
            result = self.host.instance.__init__(*args, **kwargs)
            if inspect.isawaitable(result):
                await result

        token = running_async.set(context)
        try:
            self.loop.run_until_complete(run())
        finally:
            running_async.reset(token)

    # ---------------------------------------------------------------- reading
    def serve(self) -> None:
        """Serve calls until the process ends (main thread)."""
        io = self.io
        while not io.lead():
            io.await_turn()
        # From here on the event loop reads: other threads follow, and wake it through the eventfd.
        io.pump_blocks = True
        self.loop.add_reader(io.epoll.fileno(), self._readable)
        self.loop.call_soon(self._readable)
        self.loop.call_soon(self._start)
        self.loop.run_forever()

    def wake(self) -> None:
        """Look again (the last handle is gone)."""
        if self.loop.is_running():
            self.loop.call_soon_threadsafe(self._readable)

    def _readable(self) -> None:
        self.io.poll_once(0)
        self._arm_tick()
        self._end_if_drained()

    def _arm_tick(self) -> None:
        io = self.io
        if (io.busy or io._timers) and self._tick_handle is None:
            delay = TICK_S if io.busy else max(0.001, io._bounded(None))
            self._tick_handle = self.loop.call_later(delay, self._tick)

    def _tick(self) -> None:
        self._tick_handle = None
        self.io.tick()
        self._arm_tick()

    # ---------------------------------------------------------------- calls
    def accept(self, peer: Peer, batch: list[Any]) -> None:
        """Calls have arrived."""
        for task in batch:
            self._backlog.append((peer, task))
        if self.loop.is_running():
            self._start()

    def _start(self) -> None:
        backlog = self._backlog
        create = self.loop.create_task
        while backlog and self._active < self._limit:
            peer, task = backlog.popleft()
            self._active += 1
            create(self._run(peer, task))

    async def _run(self, peer: Peer, task: Any) -> None:
        number, name, payload = task
        host, executor = self.host, self.executor
        context = TaskContext(peer, number, name, host)
        running_async.set(context)
        made: list[Any] | None = None
        returns = 1
        t0 = _perf()
        try:
            target = host.method(name)
            kind = type(payload)
            if kind is tuple:
                value = target(*payload)
            elif kind is bytes:
                args, kwargs = pickle.loads(payload)
                value = target(*args, **kwargs)
            else:
                made = []
                args, kwargs = executor.open_arguments(payload, made)
                returns = payload.returns
                value = target(*args, **kwargs)
                args = kwargs = None
            if inspect.isawaitable(value):
                value = await value
            kind = type(value)
            if returns == 1 and (
                kind in PLAIN_TYPES or ((kind is str or kind is bytes) and len(value) <= PLAIN_TEXT_LIMIT)
            ):
                state, form = PLAIN, value
            else:
                state, form = executor.results(peer, value, returns)
        except BaseException as error:
            state, form = executor.failure(context, error)
        value = None
        if made:
            executor.settle_borrows(peer, made)
        peer.out.append((number, state, form, t0, _perf()))
        self._active -= 1
        self._dirty.add(peer)
        if not self._flush_due:
            self._flush_due = True
            self.loop.call_soon(self._flush)
        if self._backlog:
            self._start()

    def _flush(self) -> None:
        self._flush_due = False
        dirty, self._dirty = self._dirty, set()
        for peer in dirty:
            self.executor.flush_replies(peer)
        self._end_if_drained()

    def _end_if_drained(self) -> None:
        if self.host.draining and not self._active and not self._backlog:
            self.loop.call_soon(self.host.end, "its last handle is gone")
