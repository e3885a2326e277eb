"""What does a worker process do from its first line on?

Forked by the zygote: output goes to its log file, it dies with its node. It joins the cluster, then
runs tasks until the node ends it, or becomes an actor when told so.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from typing import Any

from minray.base.boot import WorkerBoot
from minray.base.messages import BecomeActor, DrainActor, RetireRefused, RetireWorker
from minray.engine.cluster import adopt_worker
from minray.engine.seam import slot
from minray.worker import last_words, wire
from minray.worker.actor_host import ActorHost
from minray.worker.core import CoreWorker
from minray.worker.executor import Executor
from minray.worker.output import WorkerOutput

SWITCH_INTERVAL_S = 0.0002  # a task that burns the GIL must not starve the pump


def run_worker(boot: WorkerBoot) -> None:
    """Serve as a worker until the process ends. Never returns normally."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    config = boot.config
    core = CoreWorker(config, boot.worker_id, is_driver=False)
    output = WorkerOutput(core.tell_node, config.log_to_driver)
    executor = Executor(core, output)
    core.executor = executor
    core.dispatch.update(
        {
            wire.TASKS: executor.on_tasks,
            wire.EXPORT: executor.on_export,
            wire.LEASED: executor.on_leased,
            wire.TAKE_BACK: executor.on_take_back,
            wire.CREDIT: executor.generating.on_credit,
        }
    )
    core.loop.attentive = True
    executor.interruption.install()
    executor.limits.install()
    core.on_log = lambda lines: output.forward(lines, executor.current_peer)
    core.on_shutdown = lambda reason: os._exit(0)
    core.on_warning = lambda key, text: print(text, file=sys.stderr, flush=True)
    core.node_messages[BecomeActor] = lambda message: _become(executor, message)
    core.node_messages[RetireWorker] = lambda message: _retire(executor)
    core.node_messages[DrainActor] = lambda message: _drain(executor)
    tick = core.loop._on_tick

    def worker_tick() -> bool:
        executor.tick()
        return tick()

    core.loop._on_tick = worker_tick
    last_words.install(executor.speak_last)
    adopt_worker(core)
    core.join(boot.arena_fd)
    if config.logging:
        from minray.worker.log_records import LoggingConfig, writer

        LoggingConfig(**config.logging).apply(lambda: writer(slot.engine.running()))
    output.watch_idle(lambda: executor.context is not None)
    if config.as_ray:
        import minray.as_ray

        minray.as_ray.install()
    hook = config.environment.get("worker_process_setup_hook")
    if hook:
        executor.set_up({"worker_process_setup_hook": hook})
    threading.main_thread().name = "minray-worker"
    try:
        executor.run()
    except (EOFError, ConnectionError):
        pass
    except BaseException:
        traceback.print_exc()  # into the worker's log, whose last lines are part of the story of its death
        output.flush()
        os._exit(1)
    finally:
        os._exit(0)


def _become(executor: Executor, message: BecomeActor) -> None:
    """Only note it: the constructor runs on the main loop, not inside the reader."""

    def construct() -> None:
        executor.on_idle = None
        host = ActorHost(executor, message)
        if not host.construct():
            executor.actor = None
            _leave_after_failure(executor)
        if host.concurrent:
            host.serve()

    executor.on_idle = construct


def _leave_after_failure(executor: Executor) -> None:
    core = executor.core
    for channel in list(core.loop.channels.values()):
        channel.flush()
    os._exit(1)


def _drain(executor: Executor) -> None:
    actor: Any = executor.actor
    if actor is not None:
        actor.drain()


def _retire(executor: Executor) -> None:
    """Idle for long: leave, unless others still refer to what this process owns or allocated."""
    core = executor.core
    core.free_ended()
    in_use = core.table or executor.context is not None or executor.ready or executor.actor is not None
    if in_use or core.store.arena.live_bytes():
        core.tell_node(RetireRefused())
        return
    core.ship_last_events()
    _leave(core)


def _leave(core: CoreWorker) -> None:
    for channel in list(core.loop.channels.values()):
        channel.flush()
    os._exit(0)
