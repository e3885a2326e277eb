"""How does the caller of a generator task get its items, one by one, while the task still runs?

    f.remote() ─► Stream + ObjectRefGenerator
    worker ──ITEMS──► Stream.queue ──next()──► ObjectRef, ready
           ◄─CREDIT── when the producer may be waiting for us, or when nobody wants items any more
           ──REPLY──► the last items or the exception; the task's own reference is ready: the end

An item becomes an object of this process when it arrives and gets its number when somebody takes it.
A worker's death does not touch what has arrived: the task runs again and leaves out the items that
are here (`Yields.skip`), so none is delivered twice and the order stays.

With "dynamic" nothing is handed out while the task runs; its value, at the end, is a
`DynamicObjectRefGenerator` of all references.

As in Ray, dropping a generator does not stop its task, whose work may matter; its items are no longer
sent. `cancel(generator)` stops it.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from typing import TYPE_CHECKING, Any

from minray.base.errors import GetTimeoutError, RaySystemError
from minray.serialization.values import FAILED, PENDING, PLAIN, STORED
from minray.worker.core_state import CoreState
from minray.worker.interrupts import interrupts
from minray.worker.object_ref import ObjectRef, RefListEnvelope, make_ref
from minray.worker.peer import Peer
from minray.worker.wire import CREDIT, Yields

if TYPE_CHECKING:
    import asyncio

LEND_AFTER_S = 0.005
STOP = -1  # instead of a count in CREDIT: send no more items
_new = ObjectRef.__new__
_perf = time.perf_counter


class Stream:
    """The caller's record of one generator task, as long as that task runs or its items are wanted.

    It looks like a reference to whoever waits: `st` says whether something can be taken, `w` is who waits.
    """

    __slots__ = (
        "ref",
        "dynamic",
        "queue",
        "received",
        "taken",
        "window",
        "credited",
        "peer",
        "ended",
        "failed",
        "dropped",
        "w",
        "owner",
        "n",
    )

    def __init__(self, ref: ObjectRef[Any], dynamic: bool) -> None:
        self.ref = ref  # of the task itself: ready when it has ended
        self.owner = ref.owner
        self.n = ref.n
        self.dynamic = dynamic
        # What arrived and nobody took: (state, value), or (PENDING, the reference that it has already).
        self.queue: deque[tuple[int, Any]] = deque()
        self.received = 0
        self.taken = 0
        self.window = 0  # how many untaken items the producer allows itself; 0: any number
        self.credited = 0  # what the producer was last told of `taken`
        self.peer: Peer | None = None
        self.ended = False
        self.failed = False  # it ended without a word from its worker, and that was not told yet
        self.dropped = False  # nobody will take anything
        self.w: list[Callable[[], Any]] | None = None

    @property
    def st(self) -> int:
        """Not PENDING: `next` does not wait (there is an item, or there will never be one)."""
        return PLAIN if self.queue or self.ended else PENDING

    def hex(self) -> str:
        """The id of the task's own reference."""
        return self.ref.hex()

    def wake(self) -> None:
        """Something arrived: whoever waits looks again."""
        waiters = self.w
        if waiters is not None:
            self.w = None
            for waiter in waiters:
                waiter()


class Generators(CoreState):
    """The owner's side of generator tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.abandoned: deque[Stream] = deque()  # their generators died (in any thread)

    def open_stream(self, ref: ObjectRef[Any], rules: Yields) -> Any:
        """Note a generator task about to be queued. Returns what `.remote()` hands out."""
        stream = self.streams[ref.n] = Stream(ref, rules.dynamic)
        ref.w = [lambda: self._ended(stream)]
        return ref if rules.dynamic else ObjectRefGenerator(self, stream)

    # ---------------------------------------------------------------- what arrives
    def on_items(self, peer: Peer, message: Any) -> None:
        """(ITEMS, task number, index of the first, states | None, forms, window)."""
        _, number, first, states, forms, window = message
        stream = self.streams.get(number)
        if stream is None:
            stream = Stream(make_ref(self.worker_id, number), False)  # over for us: let the blocks go
            stream.dropped = True
        stream.peer = peer
        stream.window = window
        self._take_in(peer, stream, first, states, forms)
        if stream.dropped:
            peer.channel.send((CREDIT, number, STOP))
        elif window:
            self._credit(stream)

    def _take_in(self, peer: Peer, stream: Stream, first: int, states: Any, forms: Any) -> None:
        assert first == stream.received or stream.dropped, f"item {first} after {stream.received}"
        stream.received = first + len(forms)
        if states is None:
            if not stream.dropped:
                stream.queue.extend(zip(repeat(PLAIN), forms))
        else:
            for state, form in zip(states, forms, strict=True):
                if (
                    state == STORED
                ):  # it is an object now: blocks and references inside are known by its number
                    ref = self._item_ref(state, None)
                    ref.v = self.accept_form(peer, state, form, ref)
                    state, form = PENDING, ref
                if not stream.dropped:
                    stream.queue.append((state, form))
        stream.wake()

    def generated(self, peer: Peer, ref: ObjectRef[Any], state: int, form: Any) -> None:
        """The task has ended: `form` is its exception, or the items not sent yet."""
        stream = self.streams[ref.n]
        if state == FAILED:
            self._take_in(peer, stream, stream.received, (FAILED,), (form,))
        else:
            self._take_in(peer, stream, *form)
        if not stream.dynamic:
            self.complete(ref.n, PLAIN, None)
            return
        found = [self._item_ref(one, item) if one else item for one, item in stream.queue]
        state, form, refs = self.store.seal(DynamicObjectRefGenerator(found))
        for part in refs:
            self.pin(part)
        self.complete(ref.n, state, self.store.keep(form, refs, self.note_end, ref.n) if refs else form)

    def _ended(self, stream: Stream) -> None:
        """The task's own reference is ready, for whatever reason."""
        self.streams.pop(stream.n, None)
        stream.failed = stream.ref.st == FAILED
        stream.ended = True
        stream.wake()

    def replayed(self, task: Any) -> Any:
        """A task that is to run again; one of a generator goes on after the items that are here."""
        stream = self.streams.get(task[0])
        if stream is None:
            return task
        number, function, call = task
        rules = call.returns._replace(skip=stream.received, taken=stream.taken)
        stream.credited = stream.taken
        stream.peer = None
        stream.ref.task = again = (number, function, call._replace(returns=rules))
        return again

    # ---------------------------------------------------------------- what is taken
    def _item_ref(self, state: int, value: Any) -> ObjectRef[Any]:
        ref: ObjectRef[Any] = _new(ObjectRef)
        ref.n = next(self.numbers)
        ref.owner = self.worker_id
        ref.st = state
        ref.v = value
        ref.w = ref.task = None
        ref.pins = 0
        ref.t = 0.0
        return ref

    def take_item(self, stream: Stream) -> ObjectRef[Any] | None:
        """The next item; None when there is none (now). Raises: StopIteration when there will be none,
        RaySystemError after `shutdown()`."""
        try:
            state, value = stream.queue.popleft()
        except IndexError:
            if self.closed and (stream.failed or not stream.ended):
                raise RaySystemError("the cluster of this generator was shut down") from None
            if not stream.ended:
                return None
            if stream.failed:
                stream.failed = False
                return stream.ref  # its worker died, or the call never began: as Ray tells it
            raise StopIteration from None
        stream.taken += 1
        if stream.window:
            self._credit(stream)
        return self._item_ref(state, value) if state else value

    def await_item(self, stream: Stream, timeout_s: float | None) -> None:
        """Sleep until there is something to take. Raises: GetTimeoutError, KeyboardInterrupt."""
        if timeout_s is not None and timeout_s <= 0:
            self.glance()
        else:
            # Most waits are short: they lend no CPU (two messages) and leave no event.
            self.flush_all()
            self._step(
                stream, _perf() + (LEND_AFTER_S if timeout_s is None else min(LEND_AFTER_S, timeout_s))
            )
        if stream.st:
            return
        self._get_pending((stream,), timeout_s)  # a stream looks like a reference

    def _credit(self, stream: Stream) -> None:
        """Tell the producer how far we are, if it has used up what it knows of (it stands, or will soon)."""
        credited, taken = stream.credited, stream.taken
        if taken > credited and stream.received - credited >= stream.window and not stream.ended:
            peer = stream.peer
            if peer is not None and not peer.gone:
                stream.credited = taken
                peer.channel.send((CREDIT, stream.n, taken))

    def arrival_of(self, stream: Stream) -> asyncio.Future[None]:
        """Done when there is something to take, in the running event loop."""
        import asyncio

        running = asyncio.get_running_loop()
        future: asyncio.Future[None] = running.create_future()

        def settle() -> None:
            if not future.done():
                future.set_result(None)

        def arrived() -> None:
            with contextlib.suppress(RuntimeError):  # the event loop is closed: nobody awaits any more
                running.call_soon_threadsafe(settle)

        self._watch(stream, arrived)
        return future

    def glance(self) -> None:
        """Apply what has come, without waiting."""
        if self.corked:
            self.flush_all()
        self._glance()

    def stop_abandoned(self) -> None:
        """Generators that nobody holds any more: their items die, and no more are sent."""
        while self.abandoned:
            stream = self.abandoned.popleft()
            stream.dropped = True
            stream.queue.clear()
            peer = stream.peer
            if not stream.ended and peer is not None and not peer.gone:
                peer.channel.send((CREDIT, stream.n, STOP))


class ObjectRefGenerator:
    """What a generator task returns at once: an iterator of ObjectRefs, each ready when it is handed out.

    Also an asynchronous iterator, and `wait([generator])` tells whether `next` would wait. One consumer:
    not thread-safe, not picklable.
    """

    def __init__(self, core: Any, stream: Stream) -> None:
        self._core = core
        self._stream = stream

    # ---------------------------------------------------------------- as `wait` sees it
    @property
    def st(self) -> int:
        """Not PENDING: `next` would not wait."""
        return self._stream.st

    @property
    def n(self) -> int:
        """The task's number."""
        return self._stream.n

    @property
    def owner(self) -> bytes:
        """The process that called."""
        return self._stream.owner

    @property
    def _generator_ref(self) -> ObjectRef[Any]:
        """The reference of the task itself, for `cancel`."""
        return self._stream.ref

    # ---------------------------------------------------------------- iterating
    def __iter__(self) -> ObjectRefGenerator:
        return self

    def __next__(self) -> ObjectRef[Any]:
        """The next item's reference. If the task failed, the last one raises its exception.

        Raises: StopIteration.
        """
        if interrupts.pending:
            interrupts.raise_pending()  # not at the end: what was taken would be lost
        core, stream = self._core, self._stream
        while (ref := core.take_item(stream)) is None:
            core.await_item(stream, None)
        return ref  # type: ignore[no-any-return]

    def _next_sync(self, timeout_s: float | None = None) -> ObjectRef[Any]:
        """`next` with a limit: the nil reference when nothing came in time. -1: no limit."""
        core, stream = self._core, self._stream
        while (ref := core.take_item(stream)) is None:
            try:
                core.await_item(stream, None if timeout_s is None or timeout_s < 0 else timeout_s)
            except GetTimeoutError:
                return ObjectRef.nil()
        return ref  # type: ignore[no-any-return]

    def __aiter__(self) -> ObjectRefGenerator:
        return self

    async def __anext__(self) -> ObjectRef[Any]:
        """`next` that leaves the event loop free. Raises: StopAsyncIteration."""
        return await self._next_async()

    async def _next_async(self, timeout_s: float | None = None) -> ObjectRef[Any]:
        """`_next_sync` that leaves the event loop free. Raises: StopAsyncIteration."""
        core, stream = self._core, self._stream
        while True:
            try:
                ref = core.take_item(stream)
            except StopIteration:
                raise StopAsyncIteration from None
            if ref is not None:
                return ref  # type: ignore[no-any-return]
            import asyncio

            try:
                await asyncio.wait_for(
                    core.arrival_of(stream), None if timeout_s is None or timeout_s < 0 else timeout_s
                )
            except TimeoutError:
                return ObjectRef.nil()

    # ---------------------------------------------------------------- looking
    def completed(self) -> ObjectRef[Any]:
        """A reference that is ready when the task has ended; it raises if a worker's death ended it."""
        return self._stream.ref

    def next_ready(self) -> bool:
        """Whether `next` returns a reference at once (False at the end)."""
        stream = self._stream
        if not stream.st:
            self._core.glance()
        return bool(stream.queue) or stream.failed

    def is_finished(self) -> bool:
        """Whether the task has ended and everything was taken: `next` raises StopIteration."""
        stream = self._stream
        if not stream.st:
            self._core.glance()
        return stream.ended and not stream.queue and not stream.failed

    # ---------------------------------------------------------------- what Ray refuses too
    def send(self, value: Any) -> Any:
        """Refused. Raises: NotImplementedError."""
        raise _refused("send")

    def throw(self, value: Any) -> Any:
        """Refused. Raises: NotImplementedError."""
        raise _refused("throw")

    def close(self) -> None:
        """Refused. Raises: NotImplementedError that names `cancel`."""
        raise _refused("close")

    async def asend(self, value: Any) -> Any:
        """Refused. Raises: NotImplementedError."""
        raise _refused("asend")

    async def athrow(self, value: Any) -> Any:
        """Refused. Raises: NotImplementedError."""
        raise _refused("athrow")

    async def aclose(self) -> None:
        """Refused. Raises: NotImplementedError that names `cancel`."""
        raise _refused("aclose")

    def __reduce__(self) -> Any:
        raise TypeError(
            "You cannot return or pass a generator to other task. Serializing a ObjectRefGenerator is not allowed. "
            "Pass its references instead, for example `f.remote(next(gen))` or `f.remote(list(gen))`."
        )

    def __del__(self) -> None:
        # Any thread, inside the garbage collector: only queue it.
        try:
            core, stream = self._core, self._stream
            if not stream.ended and not core.closed:
                core.abandoned.append(stream)
                core.loop.pend()
        except (AttributeError, OSError):
            pass  # half made, or the process is at its end

    def __repr__(self) -> str:
        return f"ObjectRefGenerator({self._stream.ref.hex()})"


def _refused(what: str) -> NotImplementedError:
    stop = " `cancel(gen)` stops the task." if what.endswith("close") else ""
    return NotImplementedError(f"`gen.{what}` is not supported: the generator runs in another process.{stop}")


class DynamicObjectRefGenerator:
    """The value of a task with `num_returns="dynamic"`: its references, each handed out once."""

    def __init__(self, refs: Iterable[ObjectRef[Any]]) -> None:
        self._refs = deque(refs)

    def __iter__(self) -> Iterator[ObjectRef[Any]]:
        while self._refs:
            yield self._refs.popleft()

    def __len__(self) -> int:
        return len(self._refs)

    def __reduce__(self) -> tuple[Any, ...]:
        refs: Any = list(self._refs)
        if refs and all(type(ref) is ObjectRef and ref.owner == refs[0].owner for ref in refs):
            refs = RefListEnvelope(refs)
        return DynamicObjectRefGenerator, (refs,)
