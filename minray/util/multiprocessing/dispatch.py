"""Who decides which process of a pool works off which chunk, and what if that process dies?

One thread a pool. What other threads want of it reaches it as a message, so that Ctrl-C in the middle of a
submission leaves the pool whole. Only the next chunk is sent, if it is light, by the thread that reads the
answer to the one before: on a chunk's way there are as few threads as possible.

    apply, map, imap ──chunk──►┌────────────┐──run──► an idle PoolActor ──► future ┐
    close, terminate ─────────►│ dispatcher │◄─────────────────────────────────────┘
                               └─────┬──────┘──value──► job (results.py) ──► callback thread

A process gets one chunk at a time, and some more in advance while its chunks end within milliseconds, for then
the way to it and back is most of the time. No call waits behind a longer one, though, while a process has nothing
to do: what was sent in advance and has not begun is cancelled there and sent to the idle one.

A process that dies is replaced. The chunk that it ran may have had effects, so it is not run again but
fails with the story of the death (unless the actors were asked to retry: `max_restarts` and
`max_task_retries` in `ray_remote_args`). In the standard library such a call is awaited for ever.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import minray
from minray.serialization.values import dump
from minray.util.multiprocessing.worker import APPLY, RAISE, PoolActor

RUN, CLOSE, TERMINATE = "RUN", "CLOSE", "TERMINATE"
AHEAD = 8  # chunks that a quick process has at a time
PACKED_BYTES = 4096  # what the runtime sends as it is
QUICK_S = 0.005  # a chunk that ended within this time was a short one
SURE_S = 0.05  # a process that works on one chunk for so long has sent the results of those before
LIGHT_S = 0.0005  # a call that took no longer to send may be sent by the thread that reads
GOODBYE_S = 5.0  # for processes of a closed pool to run their exit handlers


class Chunk(NamedTuple):
    """Some calls of one job, worked off by one process at a stroke."""

    job: Any
    number: int
    how: str
    calls: Any


class _Sent:
    """A chunk at a process, the call that runs it, and whether it was asked back.

    `token`: of one that was sent in advance; its process keeps the result for a moment. A recall that comes when
    the call has begun takes away the call's value, which is then asked for by the token.
    """

    __slots__ = ("chunk", "ref", "token", "recalled", "asked_again")

    def __init__(self, chunk: Chunk, ref: Any, token: int) -> None:
        self.chunk = chunk
        self.ref = ref
        self.token = token
        self.recalled = False
        self.asked_again = False


class _Process:
    """One actor of the pool. It works on the first chunk of `sent` since `since_s` (time.perf_counter)."""

    __slots__ = ("actor", "sent", "since_s", "quick", "chunks", "innocent")

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.sent: deque[_Sent] = deque()
        self.since_s = 0.0
        self.quick = False
        self.chunks = 0
        self.innocent: list[_Sent] = []  # of a dead process: what it cannot have begun


class Dispatcher:
    """The pool's thread. Public methods only send it a message."""

    def __init__(
        self,
        processes: int,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        chunks_max: int | None,
        remote_args: dict[str, Any],
    ) -> None:
        options = {"num_cpus": 0, **remote_args}  # as in Ray: a pool takes no CPU from tasks beside it
        self.actor_class: Any = minray.remote(PoolActor).options(**options)
        self.initial = (initializer, initargs)
        self.chunks_max = chunks_max
        self.state = RUN
        self.processes = [self._new_process() for _ in range(processes)]
        minray.get([process.actor.__ray_ready__.remote() for process in self.processes])
        # Chunks sent in advance must run in their order, and each process must serve as many as were asked for.
        alone = chunks_max is not None or not {"max_concurrency", "max_restarts"}.isdisjoint(remote_args)
        self._ahead = 1 if alone else AHEAD
        self._sent: set[_Sent] = set()
        self._tokens = itertools.count(1)
        self._last_function: tuple[Any, float, Any] = (None, 0.0, None)
        self._waiting: deque[Chunk] = deque()
        self._readers = 0  # inputs of imap that have not ended
        self._jobs: set[Any] = set()  # iterators whose input is still read
        self._farewells: list[Any] = []
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._calls_back: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._callback_thread: threading.Thread | None = None
        self._lock = threading.RLock()
        self._over = False
        self.thread = threading.Thread(target=self._work, name="minray-pool", daemon=True)
        self.thread.start()

    # ------------------------------------------------------------- from other threads
    def submit(self, chunks: Iterable[Chunk]) -> None:
        """Work these off."""
        todo = list(chunks)
        self._inbox.put(lambda: self._take(todo))

    def submit_stream(self, job: Any, chunks: Iterable[Chunk]) -> None:
        """Work off what the thread that reads `chunks` finds, as long as it finds any."""
        self._inbox.put(lambda: self._reader_started(job))
        threading.Thread(target=self._read, args=(job, chunks), name="minray-pool-input", daemon=True).start()

    def close(self) -> None:
        """End when everything is done."""
        if self.state == RUN:
            self.state = CLOSE
        self._inbox.put(lambda: None)

    def terminate(self) -> None:
        """End now."""
        self.state = TERMINATE
        self._inbox.put(self._stop)

    def join(self) -> None:
        """Wait for the end of the threads (not of the one that asks: a callback may end its pool)."""
        for thread in (self.thread, self._callback_thread):
            if thread is not None and thread is not threading.current_thread():
                thread.join()

    def _read(self, job: Any, chunks: Iterable[Chunk]) -> None:
        count = 0
        try:
            for chunk in chunks:
                count += 1
                self._inbox.put(lambda chunk=chunk: self._take([chunk]))  # type: ignore[misc]
                job.slots.acquire()
                if job.stopped:
                    break
        finally:
            self._inbox.put(lambda: self._reader_ended(job, count))

    # ------------------------------------------------------------- in the thread
    def _work(self) -> None:
        while not self._over:
            try:
                message = self._inbox.get(timeout=QUICK_S if self._uneven() else None)
            except queue.Empty:
                self._recall()
                continue
            try:
                message()
            except Exception:
                if minray.is_initialized():
                    raise
                self.terminate()  # its cluster was shut down under this very message
            del message  # or it would keep what it holds until the next one comes
            if self.state == CLOSE and not (self._waiting or self._readers or self._sent):
                self._say_goodbye()
        self._calls_back.put(None)

    def _take(self, chunks: list[Chunk]) -> None:
        with self._lock:
            for chunk in chunks:
                if self.state == TERMINATE:
                    self._told(chunk.job.fail(_terminated(chunk.job)))
                elif chunk.how == RAISE:
                    self._told(chunk.job.chunk_done(chunk.number, False, chunk.calls))
                else:
                    self._waiting.append(chunk)
        self._start_waiting()

    def _reader_started(self, job: Any) -> None:
        self._readers += 1
        self._jobs.add(job)
        if self.state == TERMINATE:
            job.fail(_terminated(job))

    def _reader_ended(self, job: Any, count: int) -> None:
        self._readers -= 1
        self._jobs.discard(job)
        if not job.stopped:
            job.input_ended(count)

    def _start_waiting(self) -> None:
        if not minray.is_initialized():
            self.terminate()  # with its cluster; a call now would start another one
        self._fill(light_only=False)

    def _fill(self, light_only: bool) -> None:
        """Send as many chunks as the processes should have."""
        started: list[tuple[_Process, _Sent]] = []
        with self._lock:
            while self._waiting and self.state != TERMINATE:
                job = self._waiting[0].job
                ready = [one for one in self.processes if not (one.sent and one.sent[-1].recalled)]
                if not ready:
                    break
                process = min(ready, key=lambda one: len(one.sent))
                if len(process.sent) >= (self._ahead if process.quick and job.light else 1):
                    break
                if light_only and not job.light:
                    self._inbox.put(self._start_waiting)
                    break
                sent = self._send(process, self._waiting.popleft())
                if sent is not None:
                    started.append((process, sent))
            for process, sent in started:  # only now: what is sent to one process travels together
                self._await(process, sent)

    def _send(self, process: _Process, chunk: Chunk) -> _Sent | None:
        began = time.perf_counter()
        try:
            function, calls = self._form(chunk)
            token = next(self._tokens) if process.sent else 0
            ref = process.actor.run.remote(function, chunk.how, calls, token)
        except Exception as error:
            if not minray.is_initialized():  # shut down since we looked: it fails with all the others
                self._waiting.appendleft(chunk)
                raise
            # It cannot be pickled: the caller's fault, told by the result.
            self._told(chunk.job.chunk_done(chunk.number, False, error))
            return None
        now = time.perf_counter()
        chunk.job.light = now - began < LIGHT_S
        if not process.sent:
            process.since_s = now
        sent = _Sent(chunk, ref, token)
        process.sent.append(sent)
        self._sent.add(sent)
        return sent

    def _await(self, process: _Process, sent: _Sent) -> None:
        future = sent.ref.future()
        if not future.done():
            future.add_done_callback(lambda done: self._ended(process, sent, done))
        elif isinstance(future.exception(), minray.exceptions.ActorDiedError):
            # It died while it was idle: the call never reached it.
            if self._forget(process, sent):
                self._waiting.appendleft(sent.chunk)
            self._dead(process)
            self._inbox.put(self._start_waiting)
        else:
            self._inbox.put(lambda: self._ended(process, sent, future))

    def _form(self, chunk: Chunk) -> tuple[Any, Any]:
        """Function and calls as they are sent: as bytes where they are small, which costs least on the way."""
        job = chunk.job
        if job.stored is None:
            if chunk.how == APPLY:
                job.stored = self._function_of(job)
            else:
                job.stored = packed(job.function)
                if job.stored is None:
                    job.stored = minray.put(job.function)  # all chunks share it
        calls = packed(chunk.calls) if job.small else None
        job.small = calls is not None
        return job.stored, chunk.calls if calls is None else calls

    def _function_of(self, job: Any) -> Any:
        """The function of a single call. It is as it was at some moment since the call was made: calls that
        were made before the same function was last packed share that."""
        function, packed_s, form = self._last_function
        if function is not job.function or packed_s < job.made_s:
            packed_s = time.perf_counter()
            form = packed(job.function)
            form = job.function if form is None else form
            self._last_function = job.function, packed_s, form
        return form

    def _ended(self, process: _Process, sent: _Sent, future: Any) -> None:
        """A call was answered. Runs in whichever thread read the answer: it sends the next ones at once."""
        error = future.exception()
        chunk = sent.chunk
        with self._lock:
            if isinstance(error, minray.exceptions.ActorDiedError) and minray.is_initialized():
                self._dead(process)
            recalled = isinstance(error, minray.exceptions.TaskCancelledError)
            if recalled and "before it started" not in str(error) and sent in self._sent and not self._over:
                sent.ref = process.actor.kept.remote(sent.token)
                sent.asked_again = True
                self._await(process, sent)
                return
            if not self._forget(process, sent):
                return  # the pool was terminated meanwhile
            again = recalled or sent in process.innocent
            again = again or (sent.asked_again and error is None and future.result() is None)
            if again:
                self._waiting.appendleft(chunk)
            else:
                process.chunks += 1
                if process.chunks == self.chunks_max and process in self.processes:
                    self._replace(process)
            # Pickling what is heavy would keep that thread from reading, and an interrupt that is raised in
            # the main thread must not lose a chunk: those go through our own thread.
            if error is not None or self.state != RUN or _in_main_thread() or self._uneven():
                self._inbox.put(self._start_waiting)
            elif self._waiting:
                self._fill(light_only=True)
            if not again:
                success, value = future.result() if error is None else (False, _explained(error, chunk))
                self._told(chunk.job.chunk_done(chunk.number, success, value))

    def _forget(self, process: _Process, sent: _Sent) -> bool:
        """`sent` is no longer there. Returns whether it was."""
        if sent not in self._sent:
            return False
        self._sent.discard(sent)
        if sent is process.sent[0]:
            now = time.perf_counter()
            process.quick = now - process.since_s < QUICK_S
            process.since_s = now
        process.sent.remove(sent)
        return True

    def _dead(self, process: _Process) -> None:
        """It died. What it cannot have begun is run by others."""
        if process in self.processes:
            self._replace(process)
            if process.sent and time.perf_counter() - process.since_s > SURE_S:
                process.innocent = list(process.sent)[1:]

    def _uneven(self) -> bool:
        """Whether a process has nothing to do while another has more than it works on."""
        counts = [len(process.sent) for process in self.processes]
        return not self._waiting and bool(counts) and min(counts) == 0 and max(counts) > 1

    def _recall(self) -> None:
        """Ask back, for each idle process, a chunk that waits behind a long one."""
        with self._lock:
            now = time.perf_counter()
            slow = [p for p in self.processes if len(p.sent) > 1 and now - p.since_s > QUICK_S]
            for process in slow[: sum(not one.sent for one in self.processes)]:
                process.quick = False
                last = process.sent[-1]
                if not last.recalled:
                    last.recalled = True
                    with contextlib.suppress(Exception):  # the cluster may be gone
                        minray.cancel(last.ref)  # nothing happens if it has begun

    def _new_process(self) -> _Process:
        return _Process(self.actor_class.remote(*self.initial))

    def _replace(self, process: _Process) -> None:
        """It is dead, or has done its share and says goodbye."""
        if process.chunks == self.chunks_max:
            self._farewells.append(process.actor.__ray_terminate__.remote())
            _, self._farewells = minray.wait(self._farewells, num_returns=len(self._farewells), timeout=0)
        fresh = self._new_process()
        self.processes[self.processes.index(process)] = fresh

    def _told(self, callback: Callable[[], None] | None) -> None:
        """Run what a job wants run: in a thread of its own, which user code may block."""
        if callback is None:
            return
        if self._callback_thread is None:
            self._callback_thread = threading.Thread(
                target=_call_back, args=(self._calls_back,), name="minray-pool-callbacks", daemon=True
            )
            self._callback_thread.start()
        self._calls_back.put(callback)

    def _stop(self) -> None:
        if self._over:
            return
        self._over = True
        for process in self.processes if minray.is_initialized() else ():
            with contextlib.suppress(
                Exception
            ):  # the cluster may be another one, and its processes gone with it
                minray.kill(process.actor)
        with self._lock:
            lost = [*(sent.chunk for sent in self._sent), *self._waiting]
            self._sent.clear()
            self._waiting.clear()
            for job in {chunk.job for chunk in lost} | self._jobs:
                self._told(job.fail(_terminated(job)))
            self.processes.clear()

    def _say_goodbye(self) -> None:
        self._over = True
        with contextlib.suppress(Exception):  # the cluster may have been shut down meanwhile
            self._farewells += [process.actor.__ray_terminate__.remote() for process in self.processes]
            minray.wait(self._farewells, num_returns=len(self._farewells), timeout=GOODBYE_S)
            for process in self.processes:
                minray.kill(process.actor)
        self.processes.clear()


def packed(value: Any) -> bytes | None:
    """Small values as bytes; None for what is larger, or holds references or arrays."""
    stream, buffers, references = dump(value)
    return None if buffers or references or len(stream) > PACKED_BYTES else stream


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _call_back(todo: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while (call := todo.get()) is not None:
        try:
            call()
        except BaseException:  # a user's callback; in the standard library the pool would hang from here on
            arguments = (*sys.exc_info(), threading.current_thread())
            threading.excepthook(threading.ExceptHookArgs(arguments))
        del call


def _terminated(job: Any) -> Exception:
    what = "The pool was terminated" if minray.is_initialized() else "The cluster was shut down"
    return minray.exceptions.ActorDiedError(
        f"{what} before the pool's call of {_name(job.function)} had ended; close() and join() wait for it."
    )


def _explained(error: BaseException, chunk: Chunk) -> BaseException:
    """What the caller sees when the call gave no answer of its own."""
    if isinstance(error, minray.exceptions.RayActorError):
        count = 1 if chunk.how == APPLY else len(chunk.calls)
        error.add_note(
            f"Pool: {count} call{'s' if count > 1 else ''} of {_name(chunk.job.function)} were under way there and are "
            "lost; the pool goes on with a new process. ray_remote_args={'max_restarts': 3, 'max_task_retries': 3} "
            "would run them again."
        )
    elif isinstance(error, minray.exceptions.RayTaskError):
        from multiprocessing import pool

        told: BaseException = pool.MaybeEncodingError(  # type: ignore[attr-defined]
            error.cause, f"what {_name(chunk.job.function)} returned"
        )
        told.__cause__ = error
        return told
    return error


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", None) or type(function).__qualname__)
