"""A worker that does what a test tells it over its own socket, and remembers what the node said."""

from __future__ import annotations

import os
import random
import select
import sys
from typing import Any

from minray.base.boot import WorkerBoot
from minray.base.messages import ActorReady, Ask, BecomeActor, Hello, RetireWorker
from minray.rpc import channel as rpc


def run_worker(boot: WorkerBoot) -> None:
    config = boot.config
    address = config.peer_socket(boot.worker_id)
    listener = rpc.listen(address)
    hello = Hello("worker", boot.worker_id, os.getpid(), address)
    node = rpc.connect(config.node_socket, config.token, hello)
    asking: Any = None
    heard: list[Any] = []
    peers: list[rpc.Channel] = []
    buffer = bytearray(rpc.RECEIVE_BYTES)
    view = memoryview(buffer)
    print(f"worker {os.getpid()} is up")
    while True:
        sources: list[Any] = [node, listener, *peers]
        ready, _, _ = select.select(sources, [], [])
        source: Any
        for source in ready:
            if source is listener:
                sock = rpc.accept(listener)
                assert sock is not None
                sock.setblocking(True)
                peer = None
                while peer is None:
                    select.select([sock], [], [])
                    peer = rpc.authenticate(sock, config.token)
                peers.append(peer)
            elif source is node:
                for message in node.receive_all(buffer, view):
                    heard.append(message)
                    if isinstance(message, BecomeActor) and message.spec != b"slow":
                        node.send(ActorReady(message.actor_id))
                    if isinstance(message, RetireWorker):
                        return
            else:
                try:
                    what, argument = source.receive_into(buffer, view)
                except EOFError:
                    peers.remove(source)
                    continue
                if what == "tell":
                    node.send(argument)
                    source.send("told")
                elif what == "ask":
                    asking = asking or rpc.connect(
                        config.node_socket, config.token, hello._replace(role="worker-ask")
                    )
                    source.send(asking.ask(Ask(*argument), 5))
                elif what == "heard":
                    source.send(heard)
                elif what == "print":
                    print(argument)
                    print(argument, file=sys.stderr)
                    source.send("printed")
                elif what == "state":
                    source.send(
                        {
                            "random": random.random(),
                            "descriptors": sorted(os.readlink(f"/proc/self/fd/{f}") for f in _fds()),
                            "cwd": os.getcwd(),
                            "session": os.getsid(0),
                            "modules": sorted(sys.modules),
                        }
                    )
                elif what == "exit":
                    sys.exit(argument)
                elif what == "signal":
                    os.kill(os.getpid(), argument)


def _fds() -> list[str]:
    return [name for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]
