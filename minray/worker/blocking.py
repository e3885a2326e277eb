"""What does a worker do while its task waits?

It lends its CPU to the node, which may start another worker with it, and returns the tasks that have not
begun: so nested tasks run even with one CPU, and nobody's task waits behind one that waits for it.

    get ─► block: unstarted tasks RETURNED, WorkerBlocked ─► ... ─► unblock: WorkerUnblocked, UNBLOCKED
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from minray.base.messages import WorkerBlocked, WorkerUnblocked
from minray.worker.peer import Peer
from minray.worker.wire import RETURNED, UNBLOCKED

if TYPE_CHECKING:
    from minray.worker.core import CoreWorker


class Blocking:
    """The part of the executor that knows whether the running task waits."""

    core: CoreWorker
    actor: Any
    main_ident: int
    context: Any
    current_peer: Peer | None
    ready: deque[Peer]

    if TYPE_CHECKING:

        def flush_replies(self, peer: Peer) -> None: ...  # noqa: D102

    def begin_unblocked(self) -> None:
        """Nothing waits yet."""
        self.blocked_depth = 0
        # The pump must not say "blocked" after the main thread has said "unblocked".
        self._block_lock = threading.Lock()
        self._told_blocked: set[Peer] = set()

    def block(self) -> bool:
        """The running task is about to wait: lend its CPU, return its neighbours."""
        if threading.get_ident() != self.main_ident or self.context is None:
            if self.actor is not None and self.actor.is_async:
                self.actor.service.note_blocking()
            return False
        peer = self.current_peer
        if peer is not None:
            self.flush_replies(peer)
        with self._block_lock:
            self.blocked_depth += 1
            if self.blocked_depth > 1:
                return True
            if self.actor is None:
                told = self._told_blocked
                told.update(self.ready)
                if peer is not None:
                    told.add(peer)
                for other in told:
                    self._return_queue(other)
        self.core.tell_node(WorkerBlocked())
        return True

    def _return_queue(self, peer: Peer) -> None:
        # One by one: the pump takes tasks back too, and a task that is returned twice runs twice.
        numbers: list[int] = []
        queue = peer.queue
        while queue:
            try:
                numbers.append(queue.popleft()[0])
            except IndexError:
                break
        peer.channel.send((RETURNED, numbers, True))

    def unblock(self) -> None:
        """The wait is over."""
        with self._block_lock:
            self.blocked_depth -= 1
            if self.blocked_depth:
                return
            told, self._told_blocked = self._told_blocked, set()
            self.core.tell_node(WorkerUnblocked())
            for peer in told:
                peer.channel.send((UNBLOCKED,))
