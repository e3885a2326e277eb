"""What does the node process do from its first line to its last?

    start pipe: config ──► arena, life pipe ──fork──► zygote ──► sockets, tables ──► "ready"
    ... the loop ...
    driver gone | "stop" | pipe ends ──► workers killed, zygote reaped, folder removed, exit

The zygote is forked before anything else is imported: it does its own imports on another core while
this process gets ready. Started by `minray.node.start`, with a socket pair as the start pipe.
"""

from __future__ import annotations

import gc
import os
import pickle
import socket
import time
import traceback
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from minray.base.config import SessionConfig
from minray.base.descriptors import workers_allowed
from minray.node.session_dir import remove_session_dir
from minray.raylet.store import make_arena
from minray.raylet.zygote import Zygote, set_process_name
from minray.rpc.channel import Channel, listen

if TYPE_CHECKING:
    from minray.gcs.service import GcsService
    from minray.raylet.state.leases import LeaseTable

WORKER_BYTES = 6 << 20  # private memory of a small worker, for the limit on their number
WORKERS_MIN = 64
MEMORY_SHARE = 0.8
END_PATIENCE_S = 0.3


class Forks:
    """Forks zygotes: the first before the node has anything, later ones out of the whole node."""

    def __init__(self, config: SessionConfig, entry: str, arena_fd: int) -> None:
        self.config = config
        self.entry = entry
        self.arena_fd = arena_fd
        self.life_read, self.life_write = os.pipe2(os.O_CLOEXEC)

    def fork_zygote(self) -> tuple[socket.socket, int]:
        """Returns our end of the link, and the pid."""
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        gc.freeze()
        pid = os.fork()
        if pid == 0:
            # The write end of the life pipe above all: while a zygote held it, workers would
            # outlive the node. Client connections would not see the node's end either.
            close_all_but(its.fileno(), self.arena_fd, self.life_read)
            link = Channel(its)
            Zygote(link, self.config, self.entry, self.arena_fd, self.life_read, remove_session_dir).run()
        its.close()
        return ours, pid


def close_all_but(*kept: int) -> None:
    """Close every descriptor above 2 but these."""
    last = 2
    for fd in sorted(kept):
        os.closerange(last + 1, fd)
        last = fd
    os.closerange(last + 1, os.sysconf("SC_OPEN_MAX"))


def receive_config(pipe: socket.socket) -> tuple[SessionConfig, str]:
    """(config, worker entry) from the driver."""
    with pipe.makefile("rb") as file:
        size = int.from_bytes(file.read(4), "little")
        config, entry = pickle.loads(file.read(size))
    return config, entry


def main(pipe_fd: int) -> None:
    """Be the node until the first driver ends."""
    pipe = socket.socket(fileno=pipe_fd)
    config, entry = receive_config(pipe)
    set_process_name("minray-node")
    forks = Forks(config, entry, make_arena(config.arena_bytes))
    zygote_socket, zygote_pid = forks.fork_zygote()
    try:
        serve(config, pipe, forks, zygote_socket, zygote_pid)
    except BaseException:
        # The zygote is about to remove the folder with our log: say it to the driver as well.
        traceback.print_exc()
        pipe.sendall(traceback.format_exc().encode())
        os._exit(1)
    remove_session_dir(config.session_dir)
    os._exit(0)  # nothing is left to tidy, and interpreter shutdown takes 10 ms


def serve(
    config: SessionConfig, pipe: socket.socket, forks: Forks, zygote_socket: socket.socket, zygote_pid: int
) -> None:
    """Build the node around its loop and run it."""
    from minray.base.resources import shape_of
    from minray.gcs.service import GcsService
    from minray.raylet.event_loop import EventLoop, monotonic_s
    from minray.raylet.node_shell import NodeShell
    from minray.raylet.state.leases import LeaseTable
    from minray.raylet.store import StoreShell

    loop = EventLoop()
    capacity = shape_of(config.resources)
    leases = LeaseTable(
        capacity,
        max_workers=config.max_workers or WORKERS_MIN,
        prestart=workers_at_start(config),
        idle_worker_s=config.idle_worker_s,
        new_worker_id=lambda: os.urandom(16),
    )
    reasons: list[str] = []

    def end(reason: str) -> None:
        reasons.append(reason)
        loop.stop()

    store = StoreShell(forks.arena_fd, config.arena_bytes, config.spill_dir, config.min_spilling_bytes)
    listener = listen(config.node_socket)
    shell = NodeShell(config, loop, listener, leases, store, forks.fork_zygote, end)
    gcs = GcsService(shell)
    shell.use_gcs(gcs)
    began_s = time.monotonic()
    shell.questions["state"] = lambda client, _: state_rows(leases, gcs, shell.deaths, began_s)
    shell.zygote.adopt(zygote_socket, zygote_pid)
    try:
        driver_pidfd = os.pidfd_open(config.driver_pid)
        loop.watch(driver_pidfd, lambda _: end(f"driver {config.driver_pid} died"))
    except ProcessLookupError:
        end(f"driver {config.driver_pid} died during the start")
    except OSError:  # no pidfds here (Linux before 5.3): the start pipe's end must do
        pass

    def on_pipe(_events: int) -> None:
        try:
            said = pipe.recv(64)
        except OSError:
            said = b""
        end("asked by its driver" if said else "its driver let go of it")

    loop.watch(pipe.fileno(), on_pipe)
    leases.prestart(monotonic_s())
    shell.after_batch(monotonic_s())
    pipe.sendall(b"ready")
    if not config.max_workers:
        leases.max_workers = min(workers_by_memory(config), workers_allowed())
    loop.run(shell.after_batch)

    shell.say_goodbye(reasons[0])
    os.close(forks.life_write)  # the kernel kills every worker now, known to us or not
    shell.zygote.end(END_PATIENCE_S)


def state_rows(
    leases: LeaseTable, gcs: GcsService, deaths: Iterable[dict[str, Any]], started_s: float
) -> dict[str, Any]:
    """The answer to the question "state"."""
    from minray.raylet.state import rows

    now_s = time.monotonic()
    return {
        "workers": rows.worker_rows(leases, now_s),
        "leases": rows.lease_rows(leases),
        "demands": rows.demand_rows(leases, now_s),
        "actors": gcs.actors.rows(),
        "jobs": gcs.jobs.rows(),
        "deaths": list(deaths),
        "now_s": time.time(),
        "started_s": time.time() - (now_s - started_s),
    }


def workers_at_start(config: SessionConfig) -> int:
    """As many as CPUs declared, but not beyond the CPUs that can run them."""
    return min(int(config.resources.get("CPU", 0)), len(os.sched_getaffinity(0)))


def workers_by_memory(config: SessionConfig) -> int:
    """How many workers the memory limit allows beside the object store."""
    from minray.base.host import inspect_host

    limit_bytes = inspect_host().memory.value
    free_bytes = limit_bytes * MEMORY_SHARE - min(config.arena_bytes, limit_bytes * 0.2)
    return max(WORKERS_MIN, int(free_bytes // WORKER_BYTES))
