"""How does a worker run a generator, and when do its items leave?

An item leaves at once when the one before left more than 200 us ago; those that follow faster share
a frame, which leaves after 200 us, 256 items or 64 KB, and after 1 ms in any case: a timer sees to
it, should the generator fall asleep with items in hand.

    yield ─► sealed ─► out ─► ITEMS frame ─► owner
                 └─ too many untaken (window) ─► wait for CREDIT │ STOP │ the owner's end

While it waits for its consumer, a task lends its CPU, as one that waits in `get` does: the consumer
may be a task that needs it. (In Ray it keeps the CPU, and such programs stand still.) After STOP the
generator runs on, unsent; when its caller's process is gone it is closed.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
import time
import types
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from minray.base.errors import StreamingGeneratorReplayInconsistentError
from minray.serialization.values import PENDING, PICKLED, PLAIN, PLAIN_TEXT_LIMIT, PLAIN_TYPES, STORED
from minray.worker.interruption import door
from minray.worker.interrupts import interrupts
from minray.worker.peer import Peer
from minray.worker.replies import GENERATED, MULTI
from minray.worker.task_context import TaskContext, current_task
from minray.worker.wire import ITEMS, Yields

if TYPE_CHECKING:
    import asyncio

    from minray.worker.executor import Executor

CORK_S = 200e-6
FRAME_ITEMS = 256
FRAME_BYTES = 64 * 1024
LOOK_AGAIN_S = 0.001
TURN_S = 0.001  # how long a generator may keep its event loop to itself
LEND_AFTER_S = 0.005  # most waits for a consumer are shorter than what lending the CPU costs
STEP_S = 0.5
_perf = time.perf_counter
_END = object()
GENERATORS = frozenset((types.GeneratorType, types.AsyncGeneratorType))


class Producing:
    """One generator that runs here. To whoever waits it looks like a reference: `st`, `w`."""

    __slots__ = (
        "peer",
        "number",
        "task",
        "window",
        "shared",
        "per_yield",
        "skip",
        "made",
        "sent",
        "credit",
        "unwanted",
        "orphaned",
        "out",
        "size",
        "flushed_s",
        "lock",
        "armed",
        "w",
    )

    def __init__(self, peer: Peer, task: TaskContext, rules: Yields, shared: SharedWindow | None) -> None:
        self.peer = peer
        self.number = task.number
        self.task = task
        self.window = rules.window
        self.shared = shared
        self.per_yield = rules.per_yield
        self.skip = rules.skip  # what an earlier attempt delivered
        self.made = 0
        self.sent = rules.skip
        self.credit = rules.taken
        self.unwanted = False  # nobody will take anything more
        self.orphaned = False  # the caller's process is gone, or has cancelled an actor's call
        self.out: deque[tuple[int, Any]] = deque()  # (state, form) not sent yet
        self.size = 0
        self.flushed_s = 0.0
        self.lock = threading.Lock()  # of sending: the generator's thread and the timer's keep the order
        self.armed = False
        self.w: list[Callable[[], Any]] | None = None

    @property
    def st(self) -> int:
        """PENDING: too many of its items wait for their consumer."""
        if self.unwanted:
            return PLAIN
        if self.window and self.made - self.credit >= self.window:
            return PENDING
        if self.shared is None or self.made <= self.credit:
            return PLAIN  # its consumer has nothing to take: were it to wait for the others', both might for ever
        return PENDING if self.shared.full() else PLAIN

    def wake(self) -> None:
        """The consumer took items, or went."""
        waiters = self.w
        if waiters is not None:
            self.w = None
            for waiter in waiters:
                waiter()


class SharedWindow:
    """How many untaken items all generators of one actor may have together (each may always have one)."""

    def __init__(self, limit: int, running: dict[tuple[Peer, int], Producing]) -> None:
        self._limit = limit
        self._running = running

    def full(self) -> bool:
        """No generator may go on."""
        return (
            sum(one.made - one.credit for one in list(self._running.values()) if not one.unwanted)
            >= self._limit
        )


class Generating:
    """The generators of one worker."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.running: dict[tuple[Peer, int], Producing] = {}
        self.shared: SharedWindow | None = None

    def share_window(self, limit: int) -> None:
        """An actor's `_actor_generator_backpressure_num_objects`."""
        if limit > 0:
            self.shared = SharedWindow(limit, self.running)

    # ---------------------------------------------------------------- from the owner
    def on_credit(self, peer: Peer, message: Any) -> None:
        """(CREDIT, task number, items taken so far | STOP)."""
        _, number, taken = message
        one = self.running.get((peer, number))
        if one is None:
            return
        if taken < 0:
            one.unwanted = True  # what is in hand still leaves: its blocks are the owner's to free
        else:
            one.credit = taken
        if self.shared is None:
            one.wake()
        else:
            self._wake_all()

    def caller_gone(self, peer: Peer) -> None:
        """Nobody is left to take what these generators yield, nor to ask for them again."""
        for (caller, _), one in list(self.running.items()):
            if caller is peer:
                one.unwanted = one.orphaned = True
        self._wake_all()

    def stop(self, peer: Peer, number: int) -> None:
        """The call of an actor is cancelled: its generator gets no further than its next item."""
        one = self.running.get((peer, number))
        if one is not None:
            one.unwanted = one.orphaned = True
            one.wake()

    def _wake_all(self) -> None:
        for one in list(self.running.values()):
            one.wake()

    # ---------------------------------------------------------------- running
    @door
    def run(self, peer: Peer, value: Any, rules: Yields) -> tuple[int, Any]:
        """Run a generator to its end, in this thread. Returns the reply; raises what it raises."""
        if inspect.isasyncgen(value):
            value = as_plain(value)
        one = self._begin(peer, value, rules)
        try:
            offer = self.offer
            for item in value:
                if offer(one, item):
                    self._await_room(one)
                    if one.orphaned:
                        break
            return self._end(one)
        finally:
            self._forget(one, value)

    async def run_async(self, peer: Peer, value: Any, rules: Yields) -> tuple[int, Any]:
        """The same inside an event loop, which others use between two items."""
        import asyncio

        plain = inspect.isgenerator(value)
        one = self._begin(peer, value, rules)
        try:
            turn_s = _perf()
            async for item in _as_async(value) if plain else value:
                pause = self.offer(one, item)
                now = _perf()
                if now - turn_s > TURN_S:  # it may never await anything, and the others wait
                    turn_s = now
                    await asyncio.sleep(0)
                if pause:
                    self.flush(one)
                    while one.st == PENDING:
                        running = asyncio.get_running_loop()
                        waiting: asyncio.Future[None] = running.create_future()
                        wake = functools.partial(running.call_soon_threadsafe, _settle, waiting)
                        self.executor.core.on_ready(one, wake)  # type: ignore[arg-type]
                        await waiting
                    if one.orphaned:
                        break
            return self._end(one)
        finally:
            self._forget(one, value if plain else None)
            if not plain:
                with contextlib.suppress(Exception):
                    await value.aclose()

    async def answer_async(self, peer: Peer, value: Any, returns: int | Yields) -> tuple[int, Any]:
        """What an async actor's call that returned a generator answers."""
        if not isinstance(returns, int):
            return await self.run_async(peer, value, returns)
        if returns == 0:
            return PLAIN, None
        if inspect.isasyncgen(value):
            return await first_values_async(self.executor, peer, value, returns)
        return first_values(self.executor, peer, value, returns)

    def _begin(self, peer: Peer, value: Any, rules: Yields) -> Producing:
        if not (inspect.isgenerator(value) or inspect.isasyncgen(value)):
            raise ValueError(
                f"num_returns='streaming' needs a function that yields; it returned {type(value).__name__}."
            )
        task = current_task()
        assert task is not None
        one = Producing(peer, task, rules, self.shared)
        one.unwanted = one.orphaned = peer.gone
        self.running[peer, task.number] = one
        if rules.skip:
            self._send(one, None, ())  # says where we are: what was taken meanwhile comes as CREDIT
        return one

    def offer(self, one: Producing, item: Any) -> bool:
        """Take what the generator yielded. Returns whether it must pause now."""
        if one.per_yield != 1:
            return self._offer_several(one, item)
        if one.made >= one.skip and not one.unwanted:
            kind = type(item)
            if kind in PLAIN_TYPES or ((kind is str or kind is bytes) and len(item) <= PLAIN_TEXT_LIMIT):
                one.out.append((PLAIN, item))
            else:
                self._seal(one, item)
            one.made += 1
            now = _perf()
            if now - one.flushed_s >= CORK_S or len(one.out) >= FRAME_ITEMS or one.size >= FRAME_BYTES:
                self.flush(one)
            elif not one.armed:
                one.armed = True
                self.executor.core.loop.call_later(LOOK_AGAIN_S, lambda: self._look(one))
        else:
            one.made += 1
        if one.window or one.shared is not None or one.orphaned:
            return one.orphaned or one.st == PENDING
        return False

    def _offer_several(self, one: Producing, items: Any) -> bool:
        count = len(items) if isinstance(items, (tuple, list)) else 1
        if count != one.per_yield:
            raise ValueError(
                f"Streaming generator task yielded {count} objects, but _num_objects_per_yield={one.per_yield}."
            )
        pause = False
        one.per_yield = 1
        try:
            for item in items:
                pause = self.offer(one, item)
        finally:
            one.per_yield = count
        return pause

    def _seal(self, one: Producing, item: Any) -> None:
        state, form = self.executor.seal_result(one.peer, item)
        if state == PICKLED:
            one.size += len(form)
        elif state == STORED and form[2] is None:
            one.size += form[3]
        one.out.append((state, form))

    def _end(self, one: Producing) -> tuple[int, Any]:
        if one.made < one.skip:
            raise StreamingGeneratorReplayInconsistentError(
                f"The generator was run again after a failure and yielded {one.made} items; before, it had yielded "
                f"at least {one.skip}. A generator that may be retried must yield the same items each time."
            )
        with one.lock:
            states, forms = _taken(one)
            if states is not None and STORED in states:
                self._send(one, states, forms)  # it is applied even when the owner has given the task up
                states, forms = None, ()
            return GENERATED, (one.sent, states, forms)

    def _forget(self, one: Producing, value: Any) -> None:
        with contextlib.suppress(Exception):
            self.flush(one)
        self.running.pop((one.peer, one.number), None)
        if value is not None:
            with contextlib.suppress(Exception):
                value.close()
        if self.shared is not None:
            self._wake_all()

    # ---------------------------------------------------------------- sending
    def flush(self, one: Producing) -> None:
        """Send what is here; what the task printed before goes first."""
        with one.lock:
            one.flushed_s = _perf()
            if not one.out:
                return
            self.executor.output.ship(one.peer, one.task)
            self._send(one, *_taken(one))

    def _send(self, one: Producing, states: Any, forms: tuple[Any, ...]) -> None:
        first, one.sent = one.sent, one.sent + len(forms)
        window = 1 if one.shared is not None else one.window
        if not one.peer.gone:
            one.peer.channel.send((ITEMS, one.number, first, states, forms, window))
            return
        for state, form in zip(states or (), forms, strict=False):
            if state == STORED and form[2] is not None:
                self.executor.core.store.arena.free(form[2][0])  # who would free it is dead

    def _look(self, one: Producing) -> None:
        one.armed = False
        if (one.peer, one.number) in self.running:
            self.flush(one)

    def _await_room(self, one: Producing) -> None:
        self.flush(one)
        core = self.executor.core
        lend_at: float | None = _perf() + LEND_AFTER_S
        lent = False
        try:
            while one.st == PENDING:
                if interrupts.pending:
                    interrupts.raise_pending()
                core._step(one, lend_at or _perf() + STEP_S)  # type: ignore[arg-type]
                if lend_at is not None and _perf() >= lend_at:
                    lend_at = None
                    lent = self.executor.block()
        finally:
            if lent:
                self.executor.unblock()


def _taken(one: Producing) -> tuple[Any, tuple[Any, ...]]:
    """(states | None when all are plain, forms) of what is in `out`, which is empty then."""
    one.size = 0
    take = one.out.popleft
    items = [take() for _ in range(len(one.out))]
    if not items:
        return None, ()
    states, forms = zip(*items, strict=True)
    return (None if states.count(PLAIN) == len(states) else states), forms


def _settle(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


async def _as_async(items: Iterator[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


@door
def as_plain(items: Any) -> Iterator[Any]:
    """An async generator where no event loop runs: it gets one of its own."""
    import asyncio

    loop = asyncio.new_event_loop()
    try:
        while True:
            try:
                item = loop.run_until_complete(anext(items))
            except StopAsyncIteration:
                return
            yield item
    finally:
        if interrupted := asyncio.all_tasks(loop):  # the item that was being made
            for task in interrupted:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*interrupted, return_exceptions=True))
        loop.run_until_complete(items.aclose())
        loop.close()


# -------------------------------------------------------------------- generators with a fixed number of values
@door
def first_values(executor: Executor, peer: Peer, items: Any, returns: int) -> tuple[int, Any]:
    """A generator as a task with `returns` values: what it yields first. As in Ray, a failure midway is
    the value of the places not filled yet, and more items than places are dropped with a word in the log."""
    if inspect.isasyncgen(items):
        items = as_plain(items)
    core = executor.core
    found: list[tuple[int, Any]] = []
    try:
        for item in islice(items, returns):
            found.append(executor.seal_result(peer, item))
        if len(found) < returns:
            raise ValueError(f"Task returned {len(found)} objects, but num_returns={returns}.")
        if next(items, _END) is not _END:
            core.warn(
                "yields", f"{_name()} yielded more than num_returns={returns} values; the rest is dropped."
            )
            items.close()
    except Exception as error:
        if len(found) == returns:
            core.warn("yields", f"{_name()} failed after its {returns} values were yielded: {error!r}")
        elif not found:
            raise
        else:
            failed = executor.failure(current_task(), error)
            found.extend([failed] * (returns - len(found)))
    return found[0] if returns == 1 else (MULTI, found)


def _name() -> str:
    task = current_task()
    return task.name if task is not None else "A task"


async def first_values_async(executor: Executor, peer: Peer, items: Any, returns: int) -> tuple[int, Any]:
    """The same inside an event loop."""
    gathered: list[Any] = []
    error: BaseException | None = None
    try:
        async for item in items:
            gathered.append(item)
            if len(gathered) > returns:
                break
    except Exception as caught:
        error = caught
    await items.aclose()

    def again() -> Iterator[Any]:
        yield from gathered
        if error is not None:
            raise error

    return first_values(executor, peer, again(), returns)
