"""How does an actor of ordinary methods serve several calls at once?

A pool of threads per concurrency group. Calls wait in the group's own queue and start in the order in
which they came; a thread takes the next one when it is free, so that what waits can still be taken
away (by the end of the actor). The main thread reads the sockets meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from minray.worker.concurrency_groups import GroupTable
from minray.worker.executor import ActorLeaves
from minray.worker.peer import Peer
from minray.worker.task_context import TaskContext, running

if TYPE_CHECKING:
    from minray.worker.actor_host import ActorHost

DRAIN_POLL_S = 0.1
_perf = time.perf_counter


class _Group:
    """One concurrency group: who waits, and the threads."""

    def __init__(self, name: str, limit: int, label: str) -> None:
        self.waiting: deque[tuple[Peer, Any]] = deque()
        self.limit = limit
        self.busy = 0  # threads that take calls
        self.pool = ThreadPoolExecutor(limit, thread_name_prefix=f"{label}.{name}" if name else label)


class ThreadedService:
    """The threads of one actor."""

    def __init__(self, host: ActorHost, groups: GroupTable) -> None:
        self.host = host
        self.executor = host.executor
        self._of = groups.of
        self._groups = {
            name: _Group(name, limit, host.class_name) for name, limit in groups.limits.items()
        }
        self._lock = threading.Lock()  # of the queues and counts
        self._unanswered = 0  # calls here: waiting or running
        self._running: dict[tuple[Peer, int], TaskContext] = {}
        self._closed = False

    def accept(self, peer: Peer, batch: list[Any]) -> None:
        """Calls have arrived (called by whoever leads)."""
        with self._lock:
            if self._closed:
                return  # the actor leaves: its end answers them
            for task in batch:
                group = self._groups[self._of(task[1], task[2])]
                group.waiting.append((peer, task))
                self._unanswered += 1
                if group.busy < group.limit:
                    group.busy += 1
                    group.pool.submit(self._work, group)

    def under_way(self) -> Iterator[tuple[str, str, float]]:
        """(task id, name, 0.0: nobody notes since when) of the running calls."""
        for context in list(self._running.values()):
            yield context.task_id, context.name, 0.0

    def serve(self) -> None:
        """Read the sockets until the actor ends (main thread)."""
        loop = self.host.core.loop
        while True:
            if self.host.draining and not self._unanswered:
                self.host.end("its last handle is gone")
            if loop.lead():
                try:
                    loop.poll_once(DRAIN_POLL_S if self.host.draining else None)
                finally:
                    loop.leave()
            else:
                loop.await_turn()

    def wake(self) -> None:
        """The last handle is gone: the main thread looks at it after the message that said so."""

    def leave(self) -> None:
        """The actor ends: what waits is dropped, what runs is finished."""
        with self._lock:
            self._closed = True
            for group in self._groups.values():
                self._unanswered -= len(group.waiting)
                group.waiting.clear()

    def end_if_done(self) -> None:
        """End the actor when it leaves and nothing runs. Any thread."""
        with self._lock:
            done = self._closed and not self._unanswered
        if done:
            self.host.end(self.host.leaving)

    def take_back(self, peer: Peer, number: int) -> bool:
        """A waiting call is cancelled. Returns whether it did wait."""
        for group in self._groups.values():
            for entry in list(group.waiting):
                if entry[1][0] == number and entry[0] is peer:
                    with self._lock:
                        try:
                            group.waiting.remove(entry)
                        except ValueError:
                            return False  # a thread was faster
                        self._unanswered -= 1
                    return True
        return False

    def stop(self, peer: Peer, number: int, recursive: bool) -> None:
        """A call that does not wait is cancelled: if it runs it is told, and what it submitted is cancelled."""
        interruption = self.executor.interruption
        interruption.expect(peer, number)  # a thread may have taken it and not begun
        context = self._running.get((peer, number))
        if context is not None:
            self.executor.refused.pop((peer, number), None)
            interruption.stop(context, False, recursive)

    def _work(self, group: _Group) -> None:
        """Take calls of the group until none waits (in one of its threads)."""
        while True:
            with self._lock:
                if not group.waiting:
                    group.busy -= 1
                    return
                peer, task = group.waiting.popleft()
            try:
                self._run(peer, task)
            finally:
                with self._lock:
                    self._unanswered -= 1
            if self._closed:
                self.end_if_done()

    def _run(self, peer: Peer, task: Any) -> None:
        number, name, payload = task
        running.task = context = self._running[peer, number] = TaskContext(peer, number, name, self.host)
        began = _perf()
        try:
            state, form = self.host.run_payload(peer, name, payload, context)
            peer.out.append((number, state, form, began, _perf()))
            self.executor.flush_replies(peer)
        except ActorLeaves as leaves:
            self.host.leave(str(leaves))
        finally:
            running.task = None
            del self._running[peer, number]
            self.host.core.untold.discard(context)
