"""When has a worker process done its share (`max_calls`)?

Libraries leak memory, and GPU libraries keep it, until the process ends; `max_calls=n` ends the worker
after n executions of a function. The function is wrapped when it is unpickled, so no other task pays.

    the last call begins ─► LEAVING: the owner sends no more; unstarted neighbours go back to it
    the owner says PARTED, its lease ends with the answer ─► the node lends this worker to nobody
    nobody wants the objects that this process owns ─► it exits (until then it serves them)
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from minray.worker.interruption import door
from minray.worker.peer import Peer
from minray.worker.wire import LEAVING, PARTED, RETURNED, TASKS

if TYPE_CHECKING:
    from minray.worker.executor import Executor

LOOK_AGAIN_S = 0.02
LOOK_AGAIN_MAX_S = 1.0
FLUSH_S = 5.0


class CallLimits:
    """The executing side of `max_calls`."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.leaving = False
        self._owner: Peer | None = None  # who has not said that nothing more comes
        self._pause_s = LOOK_AGAIN_S

    def install(self) -> None:
        """Hear the answer to LEAVING."""
        self.executor.core.dispatch[PARTED] = self._on_parted

    def limiter(self, peer: Peer, max_calls: int) -> Callable[[Any], Any]:
        """Wraps a function of `peer` so that its `max_calls`-th call is this worker's last."""

        def limited(function: Any) -> Any:
            calls = 0

            @door
            def counted(*args: Any, **kwargs: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls >= max_calls and not self.leaving:
                    self._last_call(peer)
                return function(*args, **kwargs)

            return counted

        return limited

    def _last_call(self, peer: Peer) -> None:
        executor = self.executor
        self.leaving = True
        self._owner = peer
        executor.core.dispatch[TASKS] = _send_back
        peer.channel.send((LEAVING,))
        for other in {peer, *executor.ready}:
            numbers = []
            while other.queue:
                try:
                    numbers.append(other.queue.popleft()[0])
                except IndexError:
                    break
            if numbers:
                other.channel.send((RETURNED, numbers, False))
        executor.on_idle = self._leave

    def _on_parted(self, peer: Peer, message: Any) -> None:
        """(PARTED,)."""
        if peer is self._owner:
            self._owner = None

    def _leave(self) -> None:
        """The main loop has nothing to do: the last call is answered."""
        self.executor.on_idle = None
        self._look()

    def _look(self) -> None:
        """Exit, unless somebody still wants what this process owns or allocated."""
        core = self.executor.core
        core.free_ended()
        waits = self._owner is not None and not self._owner.gone
        if waits or core.table or core.store.arena.live_bytes() or self.executor.ready:
            core.loop.call_later(self._pause_s, self._look)
            self._pause_s = min(self._pause_s * 1.5, LOOK_AGAIN_MAX_S)
            return
        core.ship_last_events()
        deadline = time.perf_counter() + FLUSH_S
        channels = list(core.loop.channels.values())
        while any(channel.outbox for channel in channels) and time.perf_counter() < deadline:
            for channel in channels:
                channel.flush()
            time.sleep(0.001)
        os._exit(0)


def _send_back(peer: Peer, message: Any) -> None:
    """(TASKS, batch) that was under way when the owner heard that this worker leaves."""
    peer.channel.send((RETURNED, [task[0] for task in message[1]], False))
