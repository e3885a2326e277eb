"""How is work spread over a fixed set of actors, one call per actor at a time?

    submit ──► an idle actor? ──► it works ──► get_next: result, the actor is idle again
                   │ none                            │
                   └──► waits in line ◄──────────────┘ the first in line gets it

Results come in the order of submission (`get_next`, `map`) or as they arrive (`get_next_unordered`,
`map_unordered`). The names and their behaviour are Ray's. Not thread-safe.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import minray

Work = Callable[[Any, Any], Any]
"""`fn(actor, value)` makes one call of `actor` and returns its ref (or a list of refs)."""


class ActorPool:
    """A pool of `actors`, each busy with at most one call of the pool."""

    def __init__(self, actors: Iterable[Any]) -> None:
        self._idle: list[Any] = list(actors)
        self._waiting: deque[tuple[Work, Any]] = deque()
        self._running: dict[int, tuple[Any, Any]] = {}  # number of the submit -> (refs, actor)
        self._next_submit = 0
        self._next_return = 0

    def submit(self, fn: Work, value: Any) -> None:
        """Start `fn(actor, value)` on an idle actor, or as soon as one is idle."""
        if not self._idle:
            self._waiting.append((fn, value))
            return
        actor = self._idle.pop()
        try:
            refs = fn(actor, value)
        except BaseException:
            self._idle.append(actor)  # nothing was started on it
            raise
        self._running[self._next_submit] = (refs, actor)
        self._next_submit += 1

    def has_next(self) -> bool:
        """Whether a result is still to come."""
        return bool(self._running)

    def has_free(self) -> bool:
        """Whether an actor is idle and no work waits for it."""
        return bool(self._idle) and not self._waiting

    def get_next(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """The next result in the order of submission.

        Raises: StopIteration when there is none; TimeoutError after `timeout` seconds
            (`ignore_if_timedout`: that result is given up and its actor counts as idle);
            ValueError after a `get_next_unordered` that took a later result.
        """
        if not self._running:
            raise StopIteration("No more results to get")
        number = self._next_return
        if number not in self._running:
            raise ValueError("It is not allowed to call get_next() after get_next_unordered().")
        late = timeout is not None and not _ready(self._running[number][0], timeout)
        return self._take(number, late, ignore_if_timedout)

    def get_next_unordered(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """Whichever result comes first.

        Raises: StopIteration when there is none; TimeoutError after `timeout` seconds
            (`ignore_if_timedout`: the oldest one is given up and its actor counts as idle).
        """
        if not self._running:
            raise StopIteration("No more results to get")
        numbers = {_last(refs): number for number, (refs, _) in self._running.items()}
        ready, _ = minray.wait(list(numbers), num_returns=1, timeout=timeout)
        number = numbers[ready[0]] if ready else next(iter(self._running))
        return self._take(number, not ready, ignore_if_timedout)

    def _take(self, number: int, late: bool, ignore_if_timedout: bool) -> Any:
        if late and not ignore_if_timedout:
            raise TimeoutError("Timed out waiting for result")
        refs, actor = self._running.pop(number)
        self._next_return = max(self._next_return, number + 1)
        if late:
            self._make_idle(actor)
            raise TimeoutError(f"Timed out waiting for result. The task {refs} has been ignored.")
        try:
            result = minray.get(refs)
        except minray.exceptions.ActorDiedError:
            self._start_waiting()  # a dead actor does not come back to the pool
            raise
        except BaseException:
            self._make_idle(actor)
            raise
        self._make_idle(actor)
        return result

    def _make_idle(self, actor: Any) -> None:
        self._idle.append(actor)
        self._start_waiting()

    def _start_waiting(self) -> None:
        if self._waiting and self._idle:
            self.submit(*self._waiting.popleft())

    def map(self, fn: Work, values: Iterable[Any]) -> Iterator[Any]:
        """Results of `fn` over `values`, in their order. It starts now; earlier results are dropped."""
        self._drop_results()
        for value in values:
            self.submit(fn, value)
        return self._results(self.get_next)

    def map_unordered(self, fn: Work, values: Iterable[Any]) -> Iterator[Any]:
        """Results of `fn` over `values` as they arrive. It starts now; earlier results are dropped."""
        self._drop_results()
        for value in values:
            self.submit(fn, value)
        return self._results(self.get_next_unordered)

    def _results(self, take: Callable[[], Any]) -> Iterator[Any]:
        while self._running:
            yield take()

    def _drop_results(self) -> None:
        while self._running:
            try:
                self.get_next_unordered(timeout=0, ignore_if_timedout=True)
            except TimeoutError:
                continue

    def push(self, actor: Any) -> None:
        """Add an idle actor. Raises: ValueError when it is in the pool already."""
        if actor in self._idle or any(actor == busy for _, busy in self._running.values()):
            raise ValueError("Actor already belongs to current ActorPool")
        self._make_idle(actor)

    def pop_idle(self) -> Any:
        """Take an idle actor out of the pool; None when none is free."""
        return self._idle.pop() if self.has_free() else None


def _last(refs: Any) -> Any:
    return refs[-1] if isinstance(refs, list | tuple) else refs


def _ready(refs: Any, timeout: float) -> bool:
    wanted = list(refs) if isinstance(refs, list | tuple) else [refs]
    ready, _ = minray.wait(wanted, num_returns=len(wanted), timeout=timeout)
    return len(ready) == len(wanted)
