"""How does a thread wait for values?

It leads: it reads the sockets itself until its reference is ready (see `minray.rpc.loop`). Waiting
for a list goes backwards, so that one sleep usually covers all; `wait` looks at the entries' fields
and makes no message. A task that waits lends its CPU to the others and gives its unstarted
neighbours back first. Ctrl-C is noted by the handler, ends the wait at a point where every table is
whole, and is raised then. A wait of more than a few seconds that cannot end says why.
"""

from __future__ import annotations

import pickle
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from minray.base.errors import GetTimeoutError, RayTaskError
from minray.serialization.errors import load_error
from minray.serialization.values import FAILED, PENDING, PICKLED, PLAIN, STORED
from minray.worker.core_state import CoreState
from minray.worker.interrupts import interrupts
from minray.worker.object_ref import BorrowedRef, ObjectRef, make_ref
from minray.worker.recorder import GET

if TYPE_CHECKING:  # imported when first used: together they cost a worker 30 ms
    import asyncio
    import concurrent.futures

_perf = time.perf_counter
FOLLOW_S = 0.02


class Waiting(CoreState):
    """get, put, wait, futures."""

    # ---------------------------------------------------------------- put
    def put(self, value: Any) -> ObjectRef[Any]:
        """Store a value; this process owns it."""
        number = next(self.numbers)
        ref = make_ref(self.worker_id, number)
        kind = type(value)
        if kind is int or kind is float or value is None or kind is bool:
            ref.v = value
            ref.st = PLAIN
            return ref
        state, form, refs = self.store.seal(value)
        if state == STORED:
            self.adopt(form, refs, ref)
        else:
            ref.v = form
            ref.st = state
        if self.store.ended or self.dropped:
            self.free_ended()
        return ref

    # ---------------------------------------------------------------- values
    def value_of(self, ref: ObjectRef[Any]) -> Any:
        """The value of a ready reference. Raises: the task's exception."""
        state = ref.st
        if state == PLAIN:
            return ref.v
        if state == PICKLED:
            return pickle.loads(ref.v)
        if state == STORED:
            return self._open(ref)
        raise self.error_of(ref)

    def _open(self, ref: ObjectRef[Any]) -> Any:
        stored = ref.v
        holder = ref if type(ref) is BorrowedRef else stored
        known = {(part.owner, part.n): part for part in stored.refs if type(part) is BorrowedRef} or None
        if stored.block is None:
            value, made = self.store.open_parts(stored.stream, stored.buffers, None, holder, known)
        else:
            value, made = self.open_block(ref, stored, holder, known)
        if made:
            self.register_borrows(made, ref, None)
        return value

    def error_of(self, ref: ObjectRef[Any]) -> BaseException:
        """The exception of a failed reference, an instance of its cause's class too."""
        error = load_error(ref.v)
        return error.as_instanceof_cause() if isinstance(error, RayTaskError) else error

    # ---------------------------------------------------------------- get
    def get(self, ref: ObjectRef[Any], timeout_s: float | None) -> Any:
        """The value of one reference. Raises: GetTimeoutError, the task's exception, KeyboardInterrupt."""
        if ref.st == PENDING:
            if timeout_s is None and self.executor is None and type(ref) is ObjectRef:
                self._get_one(ref)
            if ref.st == PENDING:
                self._get_pending((ref,), timeout_s)
        if ref.st == PLAIN:
            return ref.v
        return self.value_of(ref)

    def _get_one(self, ref: ObjectRef[Any]) -> None:
        """The driver's common case: one own reference, no timeout, nobody else reads."""
        started = _perf()
        loop = self.loop
        if self.corked:
            self.flush_all()
        if loop.lead():
            try:
                poll_once = loop.poll_once
                while ref.st == PENDING and not interrupts.pending:
                    poll_once(None)
            finally:
                loop.leave()
        if ref.st == PENDING and not interrupts.pending:
            return
        recorder = self.recorder
        if recorder is not None:
            frame = sys._getframe(4)
            refs = ((ref.owner, ref.n),)
            now = _perf()
            recorder.log.append((GET, now, started, "get", refs, 1, 0, frame.f_code, frame.f_lasti))
            if not self.table:  # it was the only task under way
                finding = self.habits.lone_get((frame.f_code, frame.f_lasti), now - started)
                if finding:
                    self.warn("get in a loop", finding)
        if interrupts.pending:
            interrupts.raise_pending()

    def get_many(self, refs: Sequence[ObjectRef[Any]], timeout_s: float | None) -> list[Any]:
        """The values, in order."""
        if any(ref.st == PENDING for ref in refs):
            self._get_pending(refs, timeout_s)
        if self.store.files.in_use:
            self.read_ahead(refs)
        value_of = self.value_of
        return [ref.v if ref.st == PLAIN else value_of(ref) for ref in refs]

    def _get_pending(self, refs: Sequence[ObjectRef[Any]], timeout_s: float | None) -> None:
        started = _perf()
        deadline = None if timeout_s is None else started + timeout_s
        ready = -1
        if self.recorder is not None and len(refs) > 1:
            ready = sum(1 for ref in refs if ref.st != PENDING)
        self.flush_all()
        if any(type(ref) is BorrowedRef for ref in refs):
            self.fetch_all(refs)
        blocked = self._block()
        try:
            for ref in reversed(refs):
                while ref.st == PENDING:
                    if deadline is not None and _perf() >= deadline:
                        break
                    if interrupts.pending:
                        interrupts.raise_pending()
                    self._step(ref, deadline)
                if ref.st == PENDING:
                    break
                if ref.st == FAILED and len(refs) > 1:
                    raise self.error_of(next(one for one in refs if one.st == FAILED))
        finally:
            if blocked:
                self._unblock()
            if self.recorder is not None:
                self._note_get("get", started, refs, max(ready, 0))
        if interrupts.pending:
            interrupts.raise_pending()
        if deadline is not None and _perf() >= deadline and any(ref.st == PENDING for ref in refs):
            late = sum(1 for ref in refs if ref.st == PENDING)
            raise GetTimeoutError(
                f"Get timed out: {late} of {len(refs)} object{'s' if len(refs) > 1 else ''} not ready "
                f"after {timeout_s} s (first: {next(ref for ref in refs if ref.st == PENDING).hex()})."
            )

    def _step(self, ref: ObjectRef[Any], deadline: float | None) -> None:
        """Lead, or follow, until something happened."""
        loop = self.loop
        if loop.leader_ident == threading.get_ident():  # inside a handler of our own: go deeper
            loop.poll_once(0.05)
            return
        if loop.lead():
            alert = threading.get_ident() == interrupts.main_ident
            try:
                while ref.st == PENDING and not (alert and interrupts.pending) and not loop.turn_wanted:
                    left = None if deadline is None else deadline - _perf()
                    if left is not None and left <= 0:
                        return
                    loop.poll_once(left)
            finally:
                loop.leave()
            return
        limit = FOLLOW_S if deadline is None else max(0.0, min(FOLLOW_S, deadline - _perf()))
        loop.follow(lambda wake: self.on_ready(ref, lambda: _release(wake)), limit)

    def _block(self) -> bool:
        executor = self.executor
        return executor is not None and executor.block()

    def _unblock(self) -> None:
        self.executor.unblock()

    def _note_get(self, what: str, started: float, refs: Sequence[ObjectRef[Any]], ready: int) -> None:
        assert self.recorder is not None
        code, line = _caller()
        names = tuple([(ref.owner, ref.n) for ref in refs[:64]])
        self.recorder.log.append((GET, _perf(), started, what, names, len(refs), ready, code, line))
        self.recorder.roll()

    # ---------------------------------------------------------------- wait
    def wait(
        self, refs: list[ObjectRef[Any]], count: int, timeout_s: float | None
    ) -> tuple[list[ObjectRef[Any]], list[ObjectRef[Any]]]:
        """(ready, not ready): at most `count` ready ones, both in the order given."""
        started = _perf()
        deadline = None if timeout_s is None else started + timeout_s
        ready = _ready(refs, count)
        if len(ready) >= count:
            return ready, _others(refs, ready)
        self.flush_all()
        if any(type(ref) is BorrowedRef for ref in refs):
            self.fetch_all(refs)
        blocked = self._block() if timeout_s is None or timeout_s > 0 else False
        try:
            while True:
                ready = _ready(refs, count)
                if len(ready) >= count:
                    break
                if interrupts.pending:
                    interrupts.raise_pending()
                left = None if deadline is None else deadline - _perf()
                if left is not None and left <= 0:
                    if timeout_s == 0:
                        self._glance()
                        ready = _ready(refs, count)
                    break
                self._step_any(refs, left)
        finally:
            if blocked:
                self._unblock()
            if self.recorder is not None:
                self._note_get("wait", started, refs, 0)
        if interrupts.pending:
            interrupts.raise_pending()
        return ready, _others(refs, ready)

    def _glance(self) -> None:
        if self.loop.lead():
            try:
                self.loop.poll_once(0)
            finally:
                self.loop.leave()

    def _step_any(self, refs: list[ObjectRef[Any]], left: float | None) -> None:
        loop = self.loop
        if loop.leader_ident == threading.get_ident():
            loop.poll_once(0.05)
        elif loop.lead():
            try:
                loop.poll_once(left)
            finally:
                loop.leave()
        else:
            loop.follow(lambda wake: None, 0.001 if left is None else max(0.0, min(0.001, left)))

    # ---------------------------------------------------------------- callbacks
    def on_ready(self, ref: ObjectRef[Any], callback: Callable[[], Any]) -> None:
        """Call `callback` once when `ref` is ready; at once if it is. May run in any thread."""
        with self.waiter_lock:
            if ref.st == PENDING:
                if ref.w is None:
                    ref.w = [callback]
                else:
                    ref.w.append(callback)
                # The reply may have come between the test and the append, before `w` was seen.
                if ref.st == PENDING or ref.w is None:
                    return
                try:
                    ref.w.remove(callback)
                except (ValueError, AttributeError):
                    return  # the reply's side has called it
        callback()

    def future_of(self, ref: ObjectRef[Any]) -> concurrent.futures.Future[Any]:
        """A concurrent future of the value."""
        import concurrent.futures

        future: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def done() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(self.value_of(ref))
                except BaseException as error:
                    future.set_exception(error)

        self._watch(ref, done)
        if self.closed:  # another thread shut down meanwhile
            self.fail_awaited()
        return future

    def asyncio_future_of(self, ref: ObjectRef[Any]) -> asyncio.Future[Any]:
        """An asyncio future of the value, in the running loop."""
        import asyncio

        running = asyncio.get_running_loop()
        future: asyncio.Future[Any] = running.create_future()

        def settle() -> None:
            if not future.done():
                try:
                    future.set_result(self.value_of(ref))
                except BaseException as error:
                    if isinstance(error, StopIteration):
                        error = RuntimeError(f"the task raised {error!r}")
                    future.set_exception(error)

        thread = threading.get_ident()

        def done() -> None:
            if threading.get_ident() == thread:
                settle()
            else:
                try:
                    running.call_soon_threadsafe(settle)
                except RuntimeError:
                    pass  # the event loop is closed: nobody awaits any more

        if ref.st != PENDING:
            settle()
        else:
            self._watch(ref, done)
            if self.closed:
                self.fail_awaited()
        return future

    def _watch(self, ref: ObjectRef[Any], done: Callable[[], None]) -> None:
        if type(ref) is BorrowedRef:
            self.fetch(ref)
        self.on_ready(ref, done)
        if ref.st == PENDING:
            self.flush_all()
            self.loop.busy = True
            self.loop.summon_pump()


def _release(wake: Callable[[], Any]) -> None:
    try:
        wake()
    except RuntimeError:
        pass  # released already


def _ready(refs: list[ObjectRef[Any]], count: int) -> list[ObjectRef[Any]]:
    if count == 1:
        for ref in refs:
            if ref.st:
                return [ref]
        return []
    found = []
    for ref in refs:
        if ref.st:
            found.append(ref)
            if len(found) == count:
                break
    return found


def _others(refs: list[ObjectRef[Any]], ready: list[ObjectRef[Any]]) -> list[ObjectRef[Any]]:
    if not ready:
        return list(refs)
    if len(ready) == 1:
        only = ready[0]
        if refs[0] is only:
            return refs[1:]
        for index, ref in enumerate(refs):
            if ref is only:
                return refs[:index] + refs[index + 1 :]
    gone = set(map(id, ready))
    return [ref for ref in refs if id(ref) not in gone]


def _caller() -> tuple[Any, int]:
    """Code and line of the innermost frame outside minray."""
    frame: Any = sys._getframe(3)
    while frame is not None and frame.f_globals.get("__name__", "").startswith("minray."):
        frame = frame.f_back
    return (None, 0) if frame is None else (frame.f_code, frame.f_lasti)
