"""How do answers leave a worker?

Finished calls of one caller leave in one frame, what they printed before them. `minray.worker.executor`
decides when; here is how, and what is still said when the process ends.
"""

from __future__ import annotations

import math
import pickle
import struct
import time
from array import array
from typing import TYPE_CHECKING, Any

from minray.serialization.values import PLAIN
from minray.worker.peer import Peer
from minray.worker.wire import REPLY

if TYPE_CHECKING:
    from minray.worker.core import CoreWorker
    from minray.worker.output import WorkerOutput

LAST_WORDS_S = 0.1
_perf = time.perf_counter
_two_times = struct.Struct("dd").pack


class Answering:
    """The answering half of the executor."""

    core: CoreWorker
    output: WorkerOutput
    average_s: dict[Any, float]

    def flush_replies(self, peer: Peer) -> None:
        """Send the finished replies of this caller in one frame, its output first."""
        self.output.ship(peer)
        self.send_replies(peer)

    def send_replies(self, peer: Peer) -> None:
        """The same without the output."""
        out = peer.out
        if not out:
            return
        items = []
        try:
            if len(out) == 1:
                number, state, value, began, ended = out.popleft()
                times = _two_times(began, ended)
                one = (REPLY, (number,), None if state == PLAIN else (state,), (value,), times)
                peer.channel.send_bytes(pickle.dumps(one, 5))
                return
            for _ in range(len(out)):
                items.append(out.popleft())
        except IndexError:
            pass  # the pump was faster
        if not items:
            return
        numbers, states, values, starts, ends = zip(*items, strict=True)
        count = len(numbers)
        run = range(numbers[0], numbers[0] + count)
        if numbers[-1] == run[-1] and numbers == tuple(run):
            numbers = run  # type: ignore[assignment]
        times = array("d", starts + ends).tobytes()
        message = (REPLY, numbers, None if states.count(PLAIN) == count else states, values, times)
        peer.channel.send_bytes(pickle.dumps(message, 5))

    def speak_last(self) -> None:
        """The process is about to end: what is finished leaves, and what the kernel did not take yet."""
        channels = list(self.core.loop.channels.values())
        for peer in list(self.core.peers.values()):
            if peer.out and not peer.gone:
                self.send_replies(peer)
        deadline = _perf() + LAST_WORDS_S
        while any(channel.outbox and not channel.flush() for channel in channels) and _perf() < deadline:
            time.sleep(0.001)

    def answer_each_call(self) -> None:
        """From now on no finished call waits for another: this actor has lost answers with an earlier process."""
        self.average_s = _NeverFast()


class _NeverFast(dict[Any, float]):
    """Averages that say of no function that it is fast."""

    def get(self, function: Any, default: Any = None) -> Any:
        """Not fast."""
        return math.inf
