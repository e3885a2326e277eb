"""How does a worker run what it is sent?

The main thread alternates between leading the loop and running tasks. Replies of a batch leave
together: at its end, after a quarter of a millisecond, and before any function not known to be fast,
so a long task never holds back finished ones. While a task runs for more than 5 ms the pump thread
reads: it takes unstarted tasks back out of the queue, sends finished replies, hears the end of the
caller.

A task that waits (`get`, `wait`) first returns its unstarted neighbours to their owner and lends its
CPU through the node, so nested tasks run even with one CPU.
"""

from __future__ import annotations

import gc
import math
import os
import pickle
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from minray.base.cpu_threads import cpu_threads
from minray.base.errors import AsyncioActorExit, RayTaskError, RuntimeEnvSetupError, capture
from minray.rpc.loop import TICK_S
from minray.serialization.errors import dump_error
from minray.serialization.functions import load_code
from minray.serialization.values import FAILED, PICKLED, PLAIN, PLAIN_TEXT_LIMIT, PLAIN_TYPES, STORED
from minray.worker.answering import Answering
from minray.worker.blocking import Blocking
from minray.worker.call_limits import CallLimits
from minray.worker.core import CoreWorker
from minray.worker.generating import GENERATORS, Generating, first_values
from minray.worker.interruption import Interruption, door
from minray.worker.object_ref import make_borrowed
from minray.worker.output import WorkerOutput
from minray.worker.peer import Peer
from minray.worker.replies import MULTI
from minray.worker.task_context import TaskContext, running
from minray.worker.wire import RETURNED, Slot, Yields

FAST_S = 0.0002  # a function whose average is below may share a reply frame
REPLY_AFTER_S = 0.00025
LOOK_AGAIN_S = 0.1
TIDY_AFTER_S = 0.5
_perf = time.perf_counter


class ActorExit(SystemExit):
    """Raised by `exit_actor()`: the actor ends on purpose."""


class ActorLeaves(BaseException):
    """A call ended a concurrent actor: no answer to it, those that run are finished first. str(): why."""


class Executor(Answering, Blocking):
    """The executing half of a worker process."""

    def __init__(self, core: CoreWorker, output: WorkerOutput) -> None:
        self.core = core
        self.output = output
        self.ready: deque[Peer] = deque()  # callers with tasks in their queues
        self.average_s: dict[Any, float] = {}
        self.actor: Any = None  # the ActorHost once this worker has become an actor
        self.main_ident = threading.get_ident()
        self.context: TaskContext | None = None  # of the task on the main thread
        self.current_peer: Peer | None = None
        self.begin_unblocked()
        self.on_idle: Callable[[], None] | None = None
        self.refused: dict[tuple[Peer, int], bool] = {}  # cancelled, perhaps just beginning: see interruption
        self.interruption = Interruption(self)
        self.limits = CallLimits(self)
        self.stopping = False
        self.generating = Generating(self)
        self.looked_at: TaskContext | None = None  # by the pump, while the task runs long ...
        self.seen_s = 0.0  # ... and when it saw it first
        self._looks_again = False
        self.environment_error: BaseException | None = None  # every task of this worker raises it

    # ---------------------------------------------------------------- frames
    def on_tasks(self, peer: Peer, message: Any) -> None:
        """(TASKS, batch)."""
        actor = self.actor
        if actor is not None and (actor.concurrent or actor.leaving):
            actor.accept(peer, message[1])
            return
        with self._block_lock:  # the thread that runs tasks may begin or end a wait right now
            if self.blocked_depth and actor is None:
                self._told_blocked.add(peer)
                peer.channel.send((RETURNED, [task[0] for task in message[1]], True))
                return
            empty = not peer.queue
            peer.queue.extend(message[1])
            if empty or peer not in self.ready:
                self.ready.append(peer)

    def on_export(self, peer: Peer, message: Any) -> None:
        """(EXPORT, number, name, blob, careful, max_calls): unpickled when first called: its error is the task's."""
        _, number, name, blob, careful, max_calls = message
        if number not in peer.functions:
            limited = self.limits.limiter(peer, max_calls) if max_calls else None
            peer.functions[number] = _Unread(blob, self.environment_error, limited)
        peer.names[number] = name
        if careful:
            self.average_s[number] = math.inf  # and stays so: never known to be fast, never shares a frame
        else:
            self.average_s.pop(number, None)  # of another caller's function with that number

    def on_leased(self, peer: Peer, message: Any) -> None:
        """(LEASED, lease id, gpu ids, shape, prepared runtime_env | None)."""
        _, peer.lease_id, gpu_ids, peer.shape, environment = message
        if environment and not self.core.environment:
            self.become(environment)
        peer.gpu_ids = tuple(gpu_ids)
        show_gpus(peer.gpu_ids)
        cpu_threads.follow(peer.shape)

    def become(self, environment: Mapping[str, Any]) -> None:
        """Set this process up for a runtime environment; it is done once, before its first task."""
        self.core.environment = environment
        self.set_up(environment)

    def set_up(self, environment: Mapping[str, Any]) -> None:
        """Apply a prepared runtime environment; its error becomes that of every task and actor here."""
        from minray.runtime_env.setup import set_up

        try:
            set_up(environment)
        except RuntimeEnvSetupError as error:
            self.environment_error = error

    def on_take_back(self, peer: Peer, message: Any) -> None:
        """(TAKE_BACK, count): unstarted tasks go back, newest first."""
        numbers: list[int] = []
        while len(numbers) < message[1]:
            try:
                numbers.append(peer.queue.pop()[0])
            except IndexError:
                break
        numbers.reverse()
        peer.channel.send((RETURNED, numbers, False))

    def caller_gone(self, peer: Peer) -> None:
        """The caller died: nobody wants what it queued here."""
        peer.queue.clear()
        peer.out.clear()
        self.generating.caller_gone(peer)

    # ---------------------------------------------------------------- the main loop
    def run(self) -> None:
        """Serve until the process ends."""
        loop = self.core.loop
        while not self.stopping:
            while self.ready:
                self.run_queue(self.ready[0])
            if self.on_idle is not None:
                self.on_idle()
                continue
            if self.core.garbage_possible:
                self.core.garbage_possible = False
                loop.call_later(TIDY_AFTER_S, self._tidy)
            if loop.lead():
                try:
                    while not self.ready and self.on_idle is None and not self.stopping:
                        loop.poll_once(None)
                finally:
                    loop.leave()
            else:
                loop.await_turn()

    def _tidy(self) -> None:
        """Handles in reference cycles (an exception with its traceback) keep the objects of others alive, and an
        idle process allocates nothing that would make the collector look for them."""
        if self.ready or self.context is not None:
            self.core.garbage_possible = True  # busy again: when it is idle next
        else:
            gc.collect()

    @door
    def run_queue(self, peer: Peer) -> None:
        """Run the tasks of one caller that are here now, answer in batches."""
        take = peer.queue.popleft
        out = peer.out
        functions = peer.functions
        average = self.average_s
        self.current_peer = peer
        began = t0 = _perf()
        actor = self.actor
        while True:
            try:
                number, function, payload = take()
            except IndexError:
                break
            if out and (t0 - began > REPLY_AFTER_S or average.get(function, 1.0) >= FAST_S):
                self.flush_replies(peer)
                began = t0 = _perf()
            self.context = context = TaskContext(peer, number, function, actor)
            running.task = context
            try:
                if self.refused:
                    self.interruption.refuse(context)
                if actor is None:
                    target = functions[function]
                    if type(target) is _Unread:
                        target = functions[function] = target.read()
                else:
                    target = actor.method(function)
                if type(payload) is tuple:
                    value = target(*payload)
                elif type(payload) is bytes:
                    args, kwargs = pickle.loads(payload)
                    value = target(*args, **kwargs)
                    args = kwargs = None
                else:
                    state, value = self.run_call(peer, target, payload)
                    t1 = _perf()
                    self.context = None
                    out.append((number, state, value, t0, t1))
                    self._note_average(function, t1 - t0)
                    t0 = t1
                    continue
                kind = type(value)
                if kind in PLAIN_TYPES or ((kind is str or kind is bytes) and len(value) <= PLAIN_TEXT_LIMIT):
                    state = PLAIN
                else:
                    state, value = self.seal_result(peer, value)
            except BaseException as error:
                state, value = self.failure(context, error)
            t1 = _perf()
            self.context = None  # before the answer is there: who is answered cannot be cancelled any more
            out.append((number, state, value, t0, t1))
            spent = t1 - t0
            old = average.get(function)
            average[function] = spent if old is None else old * 0.8 + spent * 0.2
            t0 = t1
            value = None
        self.flush_replies(peer)
        running.task = self.context = None
        self.current_peer = None
        ready = self.ready
        if ready and ready[0] is peer:
            ready.popleft()
            if peer.queue:
                ready.append(peer)

    def _note_average(self, function: Any, spent: float) -> None:
        old = self.average_s.get(function)
        self.average_s[function] = spent if old is None else old * 0.8 + spent * 0.2

    # ---------------------------------------------------------------- values
    def seal_result(self, peer: Peer, value: Any) -> tuple[int, Any]:
        """A return value as (state, form for the reply)."""
        if type(value) in GENERATORS:  # not streamed: its first item, as in Ray
            return first_values(self, peer, value, 1)
        state, form, refs = self.core.store.seal(value, peer.worker_id)
        if state == STORED:
            form = self.core.form_for_reply(peer, form, refs)
        return state, form

    @door
    def run_call(self, peer: Peer, target: Any, call: Any) -> tuple[int, Any]:
        """Run a task whose payload is a `Call`. Returns (state, form); never raises."""
        made: list[Any] = []
        try:
            args, kwargs = self.open_arguments(call, made)
            value = target(*args, **kwargs)
            result = self.results(peer, value, call.returns)
        except BaseException as error:
            result = self.failure(running.task, error)
        args, kwargs, value = (), {}, None
        if running.task is not None:
            running.task.resolved = None
        self.settle_borrows(peer, made)
        return result

    @door
    def results(self, peer: Peer, value: Any, returns: int | Yields) -> tuple[int, Any]:
        """What a call with `returns` values answers. Raises: ValueError on a wrong number."""
        if not isinstance(returns, int):
            return self.generating.run(peer, value, returns)
        if returns == 1:
            return self.seal_result(peer, value)
        if returns == 0:
            return PLAIN, None
        if type(value) in GENERATORS:
            return first_values(self, peer, value, returns)
        try:
            parts = list(value)
        except TypeError:
            raise ValueError(
                f"The task returned {type(value).__name__}, but num_returns={returns}."
            ) from None
        if len(parts) != returns:
            raise ValueError(f"The task returned {len(parts)} objects, but num_returns={returns}.")
        return MULTI, [self.seal_result(peer, part) for part in parts]

    def open_arguments(self, call: Any, made: list[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """(args, kwargs) of a `Call`; references made on the way are appended to `made`."""
        core = self.core
        if call.block is not None:
            holder: Any = make_borrowed(*call.block[4:])
            made.append(holder)
            (args, kwargs), inner = core.open_foreign(holder, call.stream, None, call.block[:4])
        else:
            holder = None
            (args, kwargs), inner = core.store.open_parts(call.stream, call.buffers, None, None, None)
        made.extend(inner)
        if call.slots:
            values = [self._open_slot(slot, made) for slot in call.slots]
            if running.task is not None:
                running.task.resolved = values
            args = tuple(values[arg.index] if type(arg) is Slot else arg for arg in args)
            kwargs = {key: values[arg.index] if type(arg) is Slot else arg for key, arg in kwargs.items()}
        return args, kwargs

    def _open_slot(self, slot: Any, made: list[Any]) -> Any:
        owner, number, state, form = slot
        if state == PLAIN:
            return form
        if state == PICKLED:
            return pickle.loads(form)
        stream, buffers, block, _ = form
        ref: Any
        if owner == self.core.worker_id and (own := self.core.table.get(number)) is not None:
            return self.core.value_of(own)
        ref = make_borrowed(owner, number)
        made.append(ref)
        value, inner = self.core.open_foreign(ref, stream, buffers, block)
        made.extend(inner)
        return value

    def settle_borrows(self, peer: Peer, made: list[Any]) -> None:
        """Have the owners count the handles that outlive the call, before it is answered."""
        survivors = [ref for ref in made if sys.getrefcount(ref) > 3]
        made.clear()
        if not survivors:
            return
        core = self.core
        tokens = core.register_borrows(survivors, None, peer)
        deadline = _perf() + 5.0
        while tokens and _perf() < deadline:
            tokens = [token for token in tokens if token in core._anchors]
            if tokens and threading.get_ident() == self.main_ident:
                if core.loop.leader_ident == threading.get_ident():  # inside a handler of our own: go deeper
                    core.loop.poll_once(0.05)
                elif core.loop.lead():
                    try:
                        core.loop.poll_once(0.05)
                    finally:
                        core.loop.leave()
                else:
                    time.sleep(0.0005)
            elif tokens:
                time.sleep(0.0005)

    # ---------------------------------------------------------------- failures
    def failure(self, context: TaskContext | None, error: BaseException) -> tuple[int, Any]:
        """The answer to a task that raised. Ends the process for `exit_actor()` and SystemExit."""
        not_started = self.interruption.answer(context, error)
        if not_started is not None:
            return not_started
        if context is not None and isinstance(error, KeyboardInterrupt):
            error = self.interruption.error_of(context, "while it ran").with_traceback(error.__traceback__)
        name = context.name if context is not None else "task"
        if isinstance(error, (ActorExit, AsyncioActorExit)) or (
            isinstance(error, SystemExit) and self.actor is not None
        ):
            by_system_exit = isinstance(error, SystemExit) and not isinstance(error, ActorExit)
            reason = "the actor called sys.exit()" if by_system_exit else "exit_actor() was called"
            if self.actor.concurrent:
                raise ActorLeaves(reason) from None
            self.end_actor(reason)
        if isinstance(error, SystemExit):
            self.flush_replies(context.peer) if context is not None else None
            self.output.flush()
            code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
            os._exit(code)
        captured = capture(
            name,
            error,
            os.getpid(),
            actor_repr=self.actor.representation() if self.actor is not None else None,
            actor_id=self.actor.actor_id.hex() if self.actor is not None else None,
        )
        assert isinstance(captured, RayTaskError)
        return FAILED, dump_error(captured)

    def end_actor(self, reason: str) -> None:
        """Leave for good: answer what is finished, tell the node, exit."""
        peer = self.current_peer
        if peer is not None:
            self.flush_replies(peer)
        self.actor.end(reason)

    # ---------------------------------------------------------------- long tasks
    def tick(self) -> None:
        """While a task runs long (called by the pump): finished neighbours and output leave."""
        context = self.context
        if context is not None and not self._looks_again:
            self._looks_again = True
            # The same task as at the last look holds nothing back; what it prints past Python is still to come.
            self.core.loop.call_later(
                LOOK_AGAIN_S if context is self.looked_at else TICK_S, self._look_again
            )
        if context is not self.looked_at:
            self.looked_at, self.seen_s = context, _perf()
        peer = self.current_peer
        if peer is not None and context is not None and self.output.grown():
            self.output.ship(peer, context)
        if peer is not None and peer.out:
            self.flush_replies(peer)

    def _look_again(self) -> None:
        self._looks_again = False
        self.tick()


class _Unread:
    """An exported function not unpickled yet."""

    __slots__ = ("blob", "error", "limited")

    def __init__(
        self, blob: bytes, error: BaseException | None, limited: Callable[[Any], Any] | None
    ) -> None:
        self.blob = blob
        self.error = error
        self.limited = limited  # counts its calls (`max_calls`)

    def read(self) -> Any:
        """Unpickle. What it raises becomes the task's exception."""
        if self.error is not None:
            raise self.error
        function = load_code(self.blob)
        return function if self.limited is None else self.limited(function)


def show_gpus(gpu_ids: tuple[int, ...]) -> None:
    """Let CUDA see exactly the assigned GPUs."""
    if gpu_ids:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, gpu_ids))
    elif "MINRAY_KEEP_CUDA_VISIBLE_DEVICES" not in os.environ:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
