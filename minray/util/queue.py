"""How do tasks and actors share a first-in-first-out queue?

A `Queue` is a handle to an actor that holds the items; pass it to tasks as any other argument. Its
methods are those of `queue.Queue` in the standard library, with awaitable twins and batches:

    q.put(x) ──► queue actor: asyncio.Queue ──► q.get()
                 a full put and an empty get wait *in the actor*, as coroutines: nobody polls

The names and their behaviour are Ray's, and so are the exceptions: `Empty` and `Full` are also those
of the standard library.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterable
from typing import Any

import minray


class Empty(queue.Empty):
    """Nothing to get (in time)."""


class Full(queue.Full):
    """No room to put (in time)."""


class Queue:
    """A queue for every process of the cluster. `maxsize` 0 or less: no limit.

    `actor_options` go to the actor that holds the items: `Queue(actor_options={"name": "work"})`.
    """

    def __init__(self, maxsize: int = 0, actor_options: dict[str, Any] | None = None) -> None:
        self.maxsize = maxsize
        self.actor: Any = minray.remote(_QueueActor).options(**(actor_options or {})).remote(maxsize)

    def __len__(self) -> int:
        return self.size()

    def size(self) -> int:
        """How many items are in the queue."""
        return int(minray.get(self.actor.qsize.remote()))

    qsize = size

    def empty(self) -> bool:
        """Whether nothing is in the queue (at this moment)."""
        return self.size() == 0

    def full(self) -> bool:
        """Whether `maxsize` items are in the queue (at this moment)."""
        return 0 < self.maxsize <= self.size()

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Add `item`; when the queue is full, wait at most `timeout` seconds. Raises: Full."""
        if not minray.get(self.actor.put.remote(item, _patience(block, timeout))):
            raise Full

    async def put_async(
        self,
        item: Any,
        block: bool = True,
        timeout: float | None = None,  # noqa: ASYNC109 - Ray's signature
    ) -> None:
        """`put` for coroutines."""
        if not await self.actor.put.remote(item, _patience(block, timeout)):
            raise Full

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the first item; when there is none, wait at most `timeout` seconds. Raises: Empty."""
        found, item = minray.get(self.actor.get.remote(_patience(block, timeout)))
        if not found:
            raise Empty
        return item

    async def get_async(
        self,
        block: bool = True,
        timeout: float | None = None,  # noqa: ASYNC109 - Ray's signature
    ) -> Any:
        """`get` for coroutines."""
        found, item = await self.actor.get.remote(_patience(block, timeout))
        if not found:
            raise Empty
        return item

    def put_nowait(self, item: Any) -> None:
        """`put(item, block=False)`."""
        self.put(item, block=False)

    def get_nowait(self) -> Any:
        """`get(block=False)`."""
        return self.get(block=False)

    def put_nowait_batch(self, items: Iterable[Any]) -> None:
        """Add all `items`, or none of them. Raises: Full when they do not all fit."""
        if not isinstance(items, Iterable):
            raise TypeError("Argument 'items' must be an Iterable")
        batch = list(items)
        room = minray.get(self.actor.put_batch.remote(batch))
        if room is not None:
            raise Full(
                f"Cannot add {len(batch)} items to a queue of maxsize {self.maxsize}: room for {room}."
            )

    def get_nowait_batch(self, num_items: int) -> list[Any]:
        """Take exactly `num_items` items, or none. Raises: Empty when there are fewer."""
        if not isinstance(num_items, int):
            raise TypeError("Argument 'num_items' must be an int")
        if num_items < 0:
            raise ValueError("'num_items' must be nonnegative")
        found, items = minray.get(self.actor.get_batch.remote(num_items))
        if not found:
            raise Empty(f"Cannot get {num_items} items from a queue that holds {items}.")
        return list(items)

    def shutdown(self, force: bool = False, grace_period_s: float = 5) -> None:
        """End the actor and drop its items. Who waits in `get` or `put` sees an ActorDiedError.

        Without `force` the actor first answers what has arrived, for `grace_period_s` seconds at most.
        """
        actor, self.actor = self.actor, None
        if actor is None:
            return
        if not force:
            done, _ = minray.wait([actor.close.remote()], timeout=grace_period_s)
            if done:
                return
        minray.kill(actor, no_restart=True)


def _patience(block: bool, timeout: float | None) -> float | None:
    if not block:
        return 0.0
    if timeout is not None and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
    return timeout


class _QueueActor:
    """Holds the items. Answers "no" as a value: an exception would carry a traceback for nothing."""

    def __init__(self, maxsize: int) -> None:
        self._maxsize = maxsize
        self._items: asyncio.Queue[Any] = asyncio.Queue(maxsize)

    async def qsize(self) -> int:
        return self._items.qsize()

    async def put(self, item: Any, patience_s: float | None) -> bool:
        # The immediate try first: with no patience wait_for would give up even if there is room.
        try:
            self._items.put_nowait(item)
        except asyncio.QueueFull:
            if patience_s == 0:
                return False
            try:
                await asyncio.wait_for(self._items.put(item), patience_s)
            except TimeoutError:
                return False
        return True

    async def get(self, patience_s: float | None) -> tuple[bool, Any]:
        try:
            return True, self._items.get_nowait()
        except asyncio.QueueEmpty:
            if patience_s == 0:
                return False, None
        try:
            return True, await asyncio.wait_for(self._items.get(), patience_s)
        except TimeoutError:
            return False, None

    async def put_batch(self, items: list[Any]) -> int | None:
        """None when all went in, else how many would fit."""
        room = self._maxsize - self._items.qsize()
        if self._maxsize > 0 and len(items) > room:
            return room
        for item in items:
            self._items.put_nowait(item)
        return None

    async def get_batch(self, num_items: int) -> tuple[bool, Any]:
        """(True, items), or (False, how many there are)."""
        if num_items > self._items.qsize():
            return False, self._items.qsize()
        return True, [self._items.get_nowait() for _ in range(num_items)]

    async def close(self) -> None:
        minray.actor.exit_actor()
