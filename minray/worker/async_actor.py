"""How does an async actor serve many calls at once on one thread?

An event loop on the main thread, whose selector reads for the whole process: while the event loop
waits it leads the I/O loop, and the poller's descriptor is one more that it waits for. While a
coroutine runs nobody is kept from reading: other threads lead, or the pump after a tick. Each call is
one asyncio task; at most `limit` are under way, the rest wait in order of arrival. Replies that
finish in one turn of the event loop leave in one frame.

Every further concurrency group has a thread with an event loop of its own, so that a method that
blocks its loop blocks its group and nobody else.
"""

from __future__ import annotations

import asyncio
import inspect
import pickle
import selectors
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from minray.base import ids
from minray.rpc.loop import Loop
from minray.serialization.values import PLAIN, PLAIN_TEXT_LIMIT, PLAIN_TYPES
from minray.worker.concurrency_groups import DEFAULT, GroupTable
from minray.worker.executor import ActorLeaves
from minray.worker.generating import GENERATORS
from minray.worker.peer import Peer
from minray.worker.task_context import TaskContext, running_async

if TYPE_CHECKING:
    from minray.worker.actor_host import ActorHost

_perf = time.perf_counter


class ReadingSelector(selectors.EpollSelector):
    """The main event loop's selector: it leads the process's I/O loop while it waits."""

    def __init__(self, io: Loop) -> None:
        super().__init__()
        self._io = io
        self._io_fd = io.epoll.fileno()
        self.register(self._io_fd, selectors.EVENT_READ)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As every selector; messages of the runtime are applied on the way."""
        io = self._io
        leads = io.lead()  # else another thread reads, or leaves now because we asked
        try:
            if leads:
                io.sleeps = True  # before `busy` is read, as in `Loop.poll_once`
                timeout = io._bounded(timeout)
            events = super().select(timeout)
            if leads:
                io.sleeps = False
                io.poll_once(0)
        finally:
            if leads:
                io.leave()
        return [event for event in events if event[0].fd != self._io_fd]


class LoopGroup:
    """One concurrency group: an event loop and the calls that it serves."""

    def __init__(self, service: AsyncService, limit: int, loop: asyncio.AbstractEventLoop) -> None:
        self.service = service
        self.executor = service.executor
        self.loop = loop
        self.limit = limit
        self.ident = 0  # of the thread that runs the loop
        self.backlog: deque[tuple[Peer, Any]] = deque()
        self.under_way: dict[tuple[Peer, int], asyncio.Task[None]] = {}
        self._coroutines: set[str] = set()  # methods that are known to be such
        self._dirty: set[Peer] = set()
        self._flush_due = False

    def accept(self, peer: Peer, task: Any) -> None:
        """A call has arrived; `wake` starts it."""
        self.backlog.append((peer, task))

    def wake(self) -> None:
        """Start what has been accepted. Any thread."""
        if threading.get_ident() == self.ident:
            self.start()
        elif self.loop.is_running():
            self.loop.call_soon_threadsafe(self.start)

    def start(self) -> None:
        """Start calls up to the limit (the loop's own thread)."""
        backlog, under_way = self.backlog, self.under_way
        create = self.loop.create_task
        while backlog and len(under_way) < self.limit:
            peer, task = backlog.popleft()
            under_way[peer, task[0]] = create(self._run(peer, task))

    def run(self) -> None:
        """Be the thread of this loop."""
        self.ident = threading.get_ident()
        asyncio.set_event_loop(self.loop)
        self.loop.call_soon(self.start)
        self.loop.run_forever()

    def take_back(self, peer: Peer, number: int) -> bool:
        """A waiting call is cancelled. Returns whether it did wait."""
        for entry in list(self.backlog):
            if entry[1][0] == number and entry[0] is peer:
                try:
                    self.backlog.remove(entry)
                except ValueError:
                    return False  # it begins now
                return True
        return False

    def stop(self, peer: Peer, number: int) -> None:
        """A call that may be under way is cancelled (the loop's own thread)."""
        task = self.under_way.get((peer, number))
        if task is None:
            return  # it is done
        if inspect.getcoroutinestate(task.get_coro()) == inspect.CORO_CREATED:  # type: ignore[arg-type]
            self.executor.interruption.expect(peer, number)  # it must begin to be answered
        else:
            task.cancel()

    async def _run(self, peer: Peer, task: Any) -> None:
        number, name, payload = task
        host, executor = self.service.host, self.executor
        context = TaskContext(peer, number, name, host)
        running_async.set(context)
        made: list[Any] | None = None
        returns: Any = 1
        t0 = _perf()
        try:
            if executor.refused:
                executor.interruption.refuse(context)
            target = host.method(name)
            if self._dirty and name not in self._coroutines:
                if inspect.iscoroutinefunction(target):
                    self._coroutines.add(name)  # asking costs a fifth of a call
                else:
                    self._flush()  # it may block: finished neighbours do not wait for it
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
            elif kind in GENERATORS:
                state, form = await executor.generating.answer_async(peer, value, returns)
            else:
                state, form = executor.results(peer, value, returns)
        except BaseException as raised:
            error = raised
            if isinstance(raised, asyncio.CancelledError):
                error = executor.interruption.error_of(context, "while it ran")
                error.__traceback__ = raised.__traceback__
            try:
                state, form = executor.failure(context, error)
            except ActorLeaves as leaves:
                del self.under_way[peer, number]
                host.leave(str(leaves))
                self.loop.call_soon(self.service.end_if_done)
                return
        value = None
        if made:
            executor.settle_borrows(peer, made)
        peer.out.append((number, state, form, t0, _perf()))
        del self.under_way[peer, number]
        self._dirty.add(peer)
        if not self._flush_due:
            self._flush_due = True
            self.loop.call_soon(self._flush)
        if self.backlog:
            self.start()

    def _flush(self) -> None:
        self._flush_due = False
        dirty, self._dirty = self._dirty, set()
        for peer in dirty:
            self.executor.flush_replies(peer)
        self.service.end_if_done()


class AsyncService:
    """The event loops of one async actor."""

    def __init__(self, host: ActorHost, groups: GroupTable) -> None:
        self.host = host
        self.executor = host.executor
        self._of = groups.of
        self._several = groups.several
        self.loop = asyncio.SelectorEventLoop(ReadingSelector(host.core.loop))
        asyncio.set_event_loop(self.loop)
        self.groups = {
            name: LoopGroup(self, limit, asyncio.new_event_loop() if name else self.loop)
            for name, limit in groups.limits.items()
        }
        self._main = self.groups[DEFAULT]
        self._warned = False
        self._open = False  # not before the constructor has returned

    def under_way(self) -> Iterator[tuple[str, str, float]]:
        """(task id, "", 0.0) of the calls under way."""
        for group in self.groups.values():
            for peer, number in list(group.under_way):
                yield ids.task_id_hex(peer.worker_id, number), "", 0.0

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

    def serve(self) -> None:
        """Serve calls until the process ends (main thread)."""
        self._open = True
        for name, group in self.groups.items():
            if name:
                threading.Thread(target=group.run, daemon=True, name=f"{self.host.class_name}.{name}").start()
        self.loop.call_soon(self.end_if_done)
        self._main.run()

    def accept(self, peer: Peer, batch: list[Any]) -> None:
        """Calls have arrived (called by whoever leads)."""
        if self.host.leaving:
            return  # the actor's end answers them
        if not self._several:
            main = self._main
            main.backlog.extend([(peer, task) for task in batch])
            if self._open:
                main.wake()
            return
        woken = set()
        for task in batch:
            group = self.groups[self._of(task[1], task[2])]
            group.accept(peer, task)
            woken.add(group)
        if self._open:
            for group in woken:
                group.wake()

    def take_back(self, peer: Peer, number: int) -> bool:
        """A waiting call is cancelled. Returns whether it did wait. Any thread."""
        return any(group.take_back(peer, number) for group in self.groups.values())

    def stop(self, peer: Peer, number: int, recursive: bool) -> None:
        """A call that may be under way is cancelled, with what it has submitted. Any thread."""
        for group in self.groups.values():
            if (peer, number) in group.under_way:
                if recursive:
                    context = TaskContext(peer, number, "", self.host)
                    group.loop.call_soon_threadsafe(self.host.core.cancel_children, context, False)
                group.loop.call_soon_threadsafe(group.stop, peer, number)

    def wake(self) -> None:
        """Look again (the last handle is gone). Any thread."""
        if self.loop.is_running():
            self.loop.call_soon_threadsafe(self.end_if_done)

    def note_blocking(self) -> None:
        """A thread is about to wait in `get` or `wait`: say once that it should not if it runs an event loop."""
        if not self._warned and asyncio._get_running_loop() is not None:
            self._warned = True
            self.host.core.warn(
                "blocking get",
                f"minray: get() or wait() inside the async actor {self.host.class_name} blocks its event loop: no "
                "other call goes on meanwhile. `await ref`, or `await asyncio.gather(*refs)`, lets them.",
            )

    def leave(self) -> None:
        """The actor ends: what waits is dropped, what is under way is finished."""
        for group in self.groups.values():
            group.backlog.clear()

    def end_if_done(self) -> None:
        """End the actor when it is to end and nothing is under way."""
        host = self.host
        if not host.draining and not host.leaving:
            return
        if not any(group.under_way or group.backlog for group in self.groups.values()):
            self.loop.call_soon_threadsafe(host.end, host.leaving or "its last handle is gone")
