"""Who reads the sockets of a process?

Whoever has most to gain. A thread inside `get` or `wait` reads itself (the *leader*): the reply that
it waits for wakes it directly, 47k sync calls a second against 20k through a reader thread. Other
waiting threads are *followers*; the leader releases them when their value comes, and promotes one
when it leaves. One pump thread takes over when nobody has led for a tick (5 ms), then blocks in
epoll and costs nothing; a user thread that wants to lead evicts it through an eventfd.

    user thread: get ──► try lead ──► poll, apply ... ──► leave, promote
    pump thread: sleep 5 ms, tick ──► nobody led? ──► poll without end ──► evicted ──► sleep ...

Only the leader receives, so handlers run one at a time. Everything here is short and never blocks
but in `poll`, which always includes the eventfd, so an interrupt or a wake-up ends it.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import mmap
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from threading import get_ident
from typing import Any

from minray.base.errors import LocalRayletDiedError
from minray.rpc.channel import RECEIVE_BYTES, Channel

TICK_S = 0.005
_READ = select.EPOLLIN
_WRITE = select.EPOLLOUT
_GONE = select.EPOLLHUP | select.EPOLLERR


class Loop:
    """One process's poller, with its leadership, timers and pump thread."""

    def __init__(self, on_tick: Callable[[], bool], on_end: Callable[[Channel], None]) -> None:
        """`on_tick()` runs about every 5 ms while it returns True (work pends); `on_end(channel)`
        when a connection is gone."""
        self.epoll = select.epoll()
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.epoll.register(self.wake_fd, _READ)
        self.channels: dict[int, Channel] = {}
        self._readers: dict[int, Callable[[], None]] = {}
        self.leadership = threading.Lock()
        self.lead_count = 0
        self.leader_ident = 0
        self.pump_blocks = False
        self.turn_wanted = False  # the thread that runs tasks waits for the leadership (`await_turn`)
        self.busy = False  # work pends: leaders poll with a timeout and tick
        self.attentive = False  # others give orders to this process (a worker): it reads every tick
        self.sleeps = False  # a leader polls, perhaps without a timeout
        self.stopped = False
        self.on_wake: Callable[[], None] | None = None  # somebody wrote to the eventfd
        self._followers: deque[Callable[[], Any]] = deque()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_numbers = itertools.count()
        self._on_tick = on_tick
        self._on_end = on_end
        self._buffer = mmap.mmap(-1, RECEIVE_BYTES)  # pages that no message reached cost no memory
        self._view = memoryview(self._buffer)
        self._pump: threading.Thread | None = None
        self._summons = threading.Event()
        self._ticked_s = 0.0

    # ---------------------------------------------------------------- registration
    def add(self, channel: Channel) -> None:
        """Read `channel` from now on; its `handler(channel, message)` gets the messages."""
        self.channels[channel.fd] = channel
        channel.on_backlog = self._want_write
        self.epoll.register(channel.fd, _READ | (_WRITE if channel.outbox else 0))

    def _want_write(self, channel: Channel) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.epoll.modify(channel.fd, _READ | _WRITE)

    def remove(self, channel: Channel) -> None:
        """Stop reading and close."""
        # By identity: a closed channel's number may belong to another connection by now.
        if self.channels.get(channel.fd) is channel:
            del self.channels[channel.fd]
            with contextlib.suppress(OSError, ValueError):
                self.epoll.unregister(channel.fd)
        channel.close()

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        """Call `callback` when `fd` is readable (a listening socket, a connection not yet proven)."""
        self._readers[fd] = callback
        self.epoll.register(fd, _READ)

    def remove_reader(self, fd: int) -> None:
        """Forget `fd`."""
        if self._readers.pop(fd, None) is not None:
            with contextlib.suppress(OSError, ValueError):
                self.epoll.unregister(fd)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> None:
        """Run `callback` once, by whoever leads, about `delay_s` from now."""
        heapq.heappush(self._timers, (time.perf_counter() + delay_s, next(self._timer_numbers), callback))
        self.wake_pump()

    # ---------------------------------------------------------------- leadership
    def lead(self) -> bool:
        """Become the leader if nobody reads now; else make the pump leave and return False."""
        self.lead_count += 1
        if self.leadership.acquire(False):
            self.leader_ident = get_ident()
            return True
        if self.pump_blocks:
            os.eventfd_write(self.wake_fd, 1)
        return False

    def await_turn(self) -> None:
        """Sleep until whoever leads has left. For the one thread that runs tasks, after `lead` failed.

        A flag, not only a count and a write to the eventfd: on a loaded machine that thread may lose
        the processor anywhere between, the pump may come back meanwhile, find the count as it knows
        it, and poll for ever while tasks wait.
        """
        self.turn_wanted = True
        os.eventfd_write(self.wake_fd, 1)
        self.leadership.acquire()
        self.turn_wanted = False
        self.leave()

    def leave(self) -> None:
        """Give the leadership up and promote a follower."""
        self.leader_ident = 0
        self.leadership.release()
        followers = self._followers
        while followers:
            try:
                followers.popleft()()
                return
            except (IndexError, RuntimeError):
                continue  # that follower has gone on already

    def wake_pump(self) -> None:
        """Something new pends (a corked task, a timer): whoever polls without a timeout must tick again."""
        if (
            self.sleeps or self.pump_blocks
        ) and self.leader_ident != get_ident():  # a handler's leader looks anyway
            self.lead_count += 1
            os.eventfd_write(self.wake_fd, 1)

    def pend(self) -> None:
        """Have a tick come soon, whoever reads now. Any thread, inside the collector too."""
        self.busy = True
        if self.sleeps or self.pump_blocks:
            self.wake_pump()

    def summon_pump(self) -> None:
        """Somebody waits for a value without reading (a future): have the pump read now, not after a tick."""
        self._summons.set()  # even if it reads: it may be about to leave
        if self.pump_blocks and self.leader_ident != get_ident():
            os.eventfd_write(self.wake_fd, 1)

    def follow(self, register: Callable[[Callable[[], Any]], None], timeout_s: float) -> None:
        """Sleep until released by the leader, promoted, or `timeout_s` is over."""
        lock = threading.Lock()
        lock.acquire()
        register(lock.release)
        self._followers.append(lock.release)
        if not self.leadership.locked():
            return
        lock.acquire(timeout=timeout_s)

    # ---------------------------------------------------------------- reading
    def poll_once(self, timeout_s: float | None) -> None:
        """The leader's step: wait for events, apply everything that came. `timeout_s` None: no end.

        Raises: LocalRayletDiedError when another thread has stopped the loop.
        """
        self.sleeps = True  # before `busy` is read: who sets it later finds us asleep and wakes us
        if self.busy:
            timeout_s = TICK_S if timeout_s is None or timeout_s > TICK_S else timeout_s
        elif self._timers:
            timeout_s = self._bounded(timeout_s)
        channels = self.channels
        try:
            ready = self.epoll.poll(-1 if timeout_s is None else timeout_s, 64)
        except (OSError, ValueError):
            if self.stopped:
                raise LocalRayletDiedError("The cluster was shut down while this thread waited.") from None
            raise
        self.sleeps = False
        for fd, event in ready:
            channel = channels.get(fd)
            if channel is not None:
                if event == _READ:
                    self.drain(channel)
                    continue
                if event & _WRITE and channel.flush():
                    with contextlib.suppress(OSError, ValueError):
                        self.epoll.modify(fd, _READ)
                        if channel.outbox:  # another thread queued between the two lines above
                            self.epoll.modify(fd, _READ | _WRITE)
                if event & (_READ | _GONE):
                    self.drain(channel)
            elif fd == self.wake_fd:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(fd)
                if self.on_wake is not None:
                    self.on_wake()
            else:
                reader = self._readers.get(fd)
                if reader is not None:
                    reader()
        if self.busy or self._timers:
            now = time.perf_counter()
            if now - self._ticked_s >= TICK_S * 0.8 or (self._timers and self._timers[0][0] <= now):
                self.tick()

    def _bounded(self, timeout_s: float | None) -> float:
        limit = TICK_S if self.busy else 3600.0
        if self._timers:
            limit = min(limit, max(0.0, self._timers[0][0] - time.perf_counter()))
        return limit if timeout_s is None else min(limit, timeout_s)

    def drain(self, channel: Channel) -> None:
        """Apply a message that has arrived on `channel`; more of them make it readable again."""
        receive = channel.receive_into
        handler = channel.handler
        try:
            message = receive(self._buffer, self._view)
            if message is not None:
                handler(channel, message)
        except EOFError:
            if self.channels.get(channel.fd) is channel:
                self.remove(channel)
                self._on_end(channel)

    def drain_rest(self, channel: Channel) -> None:
        """Apply everything that a dead process still left in `channel`, then its end."""
        while self.channels.get(channel.fd) is channel:
            before = channel.closed
            try:
                message = channel.receive_into(self._buffer, self._view)
            except EOFError:
                self.remove(channel)
                self._on_end(channel)
                return
            if message is None or before:
                return
            channel.handler(channel, message)

    def tick(self) -> None:
        """Run due timers and the owner's periodic duties, at most once a tick."""
        now = time.perf_counter()
        timers = self._timers
        while timers and timers[0][0] <= now:
            heapq.heappop(timers)[2]()
        if self.busy and now - self._ticked_s >= TICK_S * 0.8:
            self._ticked_s = now
            self.busy = False  # before, not after: what begins to pend meanwhile must not be forgotten
            if self._on_tick():
                self.busy = True

    # ---------------------------------------------------------------- the pump
    def start_pump(self) -> None:
        """Start the thread that reads when nobody else does."""
        self._pump = threading.Thread(target=self._pump_main, daemon=True, name="minray-pump")
        self._pump.start()

    def _pump_main(self) -> None:
        while not self.stopped:
            try:
                self._pump_until_trouble()
            except Exception:
                # Whatever one message or timer did, the process must go on hearing the others.
                logging.getLogger("minray").exception("the runtime's reader met an error and goes on")

    def _pump_until_trouble(self) -> None:
        seen = -1
        while not self.stopped:
            if self._summons.wait(TICK_S):
                self._summons.clear()
                seen = self.lead_count
            if self.lead_count != seen:
                seen = self.lead_count
                # Who led may have read one channel only, as a task does that submits without a pause.
                if (self.busy or self._timers or self.attentive) and self.leadership.acquire(False):
                    self.leader_ident = get_ident()
                    try:
                        if self.attentive:
                            self.poll_once(0)
                        else:
                            self.tick()
                    finally:
                        self.leave()
                continue
            if self.turn_wanted:
                continue
            if not self.leadership.acquire(False):
                # A thread is in a long poll: sleep until it leaves, then see whether it comes back
                # within a tick, as it does in a loop of short calls.
                self.leadership.acquire()
                self.leave()
                continue
            self.leader_ident = get_ident()
            self.pump_blocks = True
            self.busy = True  # one tick: a task that runs long may hold back answers and output
            try:
                while self.lead_count == seen and not self.turn_wanted and not self.stopped:
                    self.poll_once(None)
            finally:
                self.pump_blocks = False
                self.leave()

    def stop(self) -> None:
        """End the pump and forget the sockets (they are closed)."""
        self.stopped = True
        with contextlib.suppress(OSError):
            os.eventfd_write(self.wake_fd, 1)
        pump = self._pump
        if pump is not None and pump is not threading.current_thread():
            pump.join(timeout=1.0)
        for channel in list(self.channels.values()):
            channel.close()
        self.channels.clear()
        with contextlib.suppress(OSError):
            self.epoll.close()
        with contextlib.suppress(OSError):
            os.close(self.wake_fd)
