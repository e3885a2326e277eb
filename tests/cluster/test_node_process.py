"""A real node process with pretend workers: what does it grant, and what is left when somebody dies?"""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minray.base.config import SessionConfig
from minray.base.messages import (
    ActorChanged,
    Ask,
    BecomeActor,
    CreateActor,
    DemandStuck,
    Hello,
    KillActor,
    LeaseDemand,
    LeaseGranted,
    LeaseReturned,
    LogLines,
    StoreTrim,
    WatchActor,
    Welcome,
    WorkerBlocked,
    WorkerDied,
    WorkersDied,
    WorkerUnblocked,
)
from minray.base.resources import shape_of
from minray.node.session_dir import make_session_dir, process_start_time
from minray.node.start import NodeHandle, start_node, wait_until_gone
from minray.rpc import channel as rpc

pytestmark = pytest.mark.cluster
HERE = str(Path(__file__).parent)
CPU, GPU = shape_of({"CPU": 1}), shape_of({"GPU": 1})
LIMIT_S = 10.0


def config_for(**options: Any) -> SessionConfig:
    values: dict[str, Any] = {
        "session_dir": make_session_dir(),
        "token": os.urandom(32),
        "node_id": os.urandom(28),
        "driver_pid": os.getpid(),
        "resources": {"CPU": 2.0, "GPU": 1.0},
        "arena_bytes": 64 << 20,
        "namespace": "test",
        "sys_path": (*sys.path, HERE),
        "working_dir": os.getcwd(),
    }
    return SessionConfig(**{**values, **options})


class Driver:
    """A client by hand: what the engine does, one step at a time."""

    def __init__(self, config: SessionConfig, pid: int | None = None) -> None:
        self.config = config
        self.worker_id = os.urandom(16)
        self.hello = Hello("driver", self.worker_id, pid or os.getpid(), "")
        self.channel = rpc.connect(config.node_socket, config.token, self.hello)
        self.channel.sock.setblocking(True)
        packet, descriptors, _, _ = socket.recv_fds(self.channel.sock, 1 << 16, 1)
        self.channel.sock.setblocking(False)
        (self.arena_fd,) = descriptors
        self.welcome: Welcome = pickle.loads(packet[1:])
        self.asking = rpc.connect(config.node_socket, config.token, self.hello._replace(role="driver-ask"))
        self.peers: dict[str, rpc.Channel] = {}
        self.heard: list[Any] = []
        self._buffer = bytearray(rpc.RECEIVE_BYTES)
        self._view = memoryview(self._buffer)

    def tell(self, message: Any) -> None:
        self.channel.send(message)

    def ask(self, what: str, argument: Any = None) -> Any:
        answer = self.asking.ask(Ask(what, argument), LIMIT_S)
        assert not answer.error, answer.error
        return answer.value

    def wait_for(self, kind: type, wanted: Callable[[Any], bool] = lambda _: True) -> Any:
        """The first message of the kind; it is taken out of `heard`."""
        give_up_s = time.monotonic() + LIMIT_S
        while True:
            for message in self.heard:
                if type(message) is kind and wanted(message):
                    self.heard.remove(message)
                    return message
            left_s = give_up_s - time.monotonic()
            assert left_s > 0, f"no {kind.__name__}; heard {self.heard}"
            if select.select([self.channel], [], [], left_s)[0]:
                for message in self.channel.receive_all(self._buffer, self._view):
                    self.heard += message.deaths if type(message) is WorkersDied else [message]

    def lease(self, shape: Any = CPU) -> LeaseGranted:
        self.tell(LeaseDemand(shape, 1))
        granted = self.wait_for(LeaseGranted)
        assert isinstance(granted, LeaseGranted)
        return granted

    def command(self, address: str, what: str, argument: Any = None, answered: bool = True) -> Any:
        """Have a pretend worker do something."""
        if address not in self.peers:
            self.peers[address] = rpc.connect(address, self.config.token, self.hello._replace(role="peer"))
        peer = self.peers[address]
        if answered:
            return peer.ask((what, argument), LIMIT_S)
        return peer.send((what, argument))

    def create(self, actor_id: bytes, **options: Any) -> None:
        values: dict[str, Any] = {
            "actor_id": actor_id, "class_name": "Counter", "name": "", "namespace": "test", "detached": False,
            "placement": CPU, "held": (), "max_restarts": 0, "handle_info": b"", "spec": b"spec",
        }  # fmt: skip
        self.tell(CreateActor(**{**values, **options}))
        self.tell(WatchActor(actor_id))

    def until_state(self, actor_id: bytes, state: str) -> ActorChanged:
        changed = self.wait_for(ActorChanged, lambda m: m.actor_id == actor_id and m.state == state)
        assert isinstance(changed, ActorChanged)
        return changed

    def close(self) -> None:
        os.close(self.arena_fd)
        for channel in (self.channel, self.asking, *self.peers.values()):
            channel.close()


def eventually(claim: Callable[[], bool], limit_s: float = LIMIT_S) -> bool:
    """Whether the claim comes true in time."""
    give_up_s = time.monotonic() + limit_s
    while not claim():
        if time.monotonic() > give_up_s:
            return False
        time.sleep(0.005)
    return True


def session_pids(node_pid: int) -> list[int]:
    """Living processes of the node's own session: node, zygote, workers."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and process_start_time(int(name)) is not None:
            try:
                if os.getsid(int(name)) == node_pid:
                    found.append(int(name))
            except OSError:
                continue
    return found


@pytest.fixture
def node() -> Iterator[Callable[..., tuple[NodeHandle, Driver]]]:
    started: list[tuple[NodeHandle, Driver]] = []

    def start(**options: Any) -> tuple[NodeHandle, Driver]:
        config = config_for(**options)
        handle = start_node(config, worker_entry="fake_worker:run_worker")
        started.append((handle, Driver(config)))
        return started[-1]

    yield start
    for handle, driver in started:
        driver.close()
        handle.stop()
        assert session_pids(handle.pid) == []
        assert not os.path.exists(handle.session_dir)


Start = Callable[..., tuple[NodeHandle, Driver]]


def test_a_driver_is_welcomed_with_the_arena_and_gets_leases(node: Start) -> None:
    handle, driver = node()
    welcome = driver.welcome
    assert (welcome.job_id, welcome.node_pid, welcome.arena_bytes) == (1, handle.pid, 64 << 20)
    assert os.fstat(driver.arena_fd).st_size == 64 << 20
    first, second = driver.lease(), driver.lease()
    assert first.worker_id != second.worker_id
    assert driver.ask("available_resources") == {"GPU": 1.0}
    driver.tell(LeaseReturned(first.lease_id))
    assert eventually(lambda: driver.ask("available_resources") == {"CPU": 1.0, "GPU": 1.0})
    (row,) = driver.ask("nodes")
    assert row["Alive"] and row["Resources"] == driver.ask("cluster_resources") == {"CPU": 2.0, "GPU": 1.0}


def test_a_worker_is_a_clean_process(node: Start) -> None:
    _, driver = node()
    first, second = driver.lease(), driver.lease()
    states = [driver.command(lease.address, "state") for lease in (first, second)]
    assert states[0]["random"] != states[1]["random"]
    for lease, state in zip((first, second), states, strict=True):
        assert state["session"] == driver.welcome.node_pid  # a terminal's Ctrl-C does not reach it
        assert state["cwd"] == os.getcwd()
        kinds = [name.partition(":")[0] for name in state["descriptors"] if not name.startswith("/proc")]
        assert kinds.count("socket") == 3  # its listener, the node, this test
        assert kinds.count("pipe") == 1  # the life pipe
        assert "anon_inode" not in kinds
        assert not {"numpy", "grpc", "asyncio"} & set(state["modules"])
        log = Path(driver.config.log_dir, f"worker-{lease.worker_id.hex()[:16]}.log")
        driver.command(lease.address, "print", "hello from inside")
        assert log.read_text().count("hello from inside") == 2


def test_a_blocked_worker_lends_its_cpu(node: Start) -> None:
    _, driver = node(resources={"CPU": 1.0})
    first = driver.lease()
    driver.tell(LeaseDemand(CPU, 1))
    driver.command(first.address, "tell", WorkerBlocked())
    second = driver.wait_for(LeaseGranted)
    driver.command(first.address, "tell", WorkerUnblocked())
    driver.tell(LeaseReturned(second.lease_id))
    assert eventually(lambda: driver.ask("state")["leases"][0]["lease_id"] == first.lease_id)
    assert driver.ask("available_resources") == {}


def test_an_infeasible_demand_is_explained(node: Start) -> None:
    _, driver = node(resources={"CPU": 2.0})
    driver.tell(LeaseDemand(GPU, 1))
    stuck = driver.wait_for(DemandStuck)
    assert stuck.infeasible and stuck.reason == "needs GPU: 1; this node has CPU: 2"


def test_a_killed_worker_is_reported_with_its_signal_and_last_words(node: Start) -> None:
    _, driver = node()
    lease = driver.lease()
    driver.command(lease.address, "print", "the last words")
    os.kill(lease.pid, signal.SIGKILL)
    died = driver.wait_for(WorkerDied)
    assert (died.worker_id, died.pid, died.exit_code, died.signal) == (lease.worker_id, lease.pid, None, 9)
    assert "SIGKILL" in died.reason and "out-of-memory" in died.reason and "  | the last words" in died.reason
    assert eventually(lambda: driver.ask("available_resources") == {"CPU": 2.0, "GPU": 1.0})
    driver.lease()


def test_an_exit_code_is_reported(node: Start) -> None:
    _, driver = node()
    lease = driver.lease()
    driver.command(lease.address, "exit", 3, answered=False)
    died = driver.wait_for(WorkerDied)
    assert (died.exit_code, died.signal) == (
        3,
        0,
    ) and f"process {lease.pid} exited with code 3" in died.reason


def test_a_broken_lease_costs_its_worker(node: Start) -> None:
    _, driver = node()
    lease = driver.lease()
    driver.tell(LeaseReturned(lease.lease_id, broken=True))
    assert "its owner gave it up" in driver.wait_for(WorkerDied).reason
    assert wait_until_gone(lease.pid, LIMIT_S)


def test_a_dead_workers_own_leases_die_with_it(node: Start) -> None:
    _, driver = node()
    parent = driver.lease()
    driver.command(parent.address, "tell", LeaseDemand(CPU, 1))
    assert eventually(
        lambda: any(isinstance(m, LeaseGranted) for m in driver.command(parent.address, "heard"))
    )
    os.kill(parent.pid, signal.SIGKILL)
    deaths = {driver.wait_for(WorkerDied).worker_id, driver.wait_for(WorkerDied).worker_id}
    assert parent.worker_id in deaths and len(deaths) == 2


def test_when_the_zygote_dies_workers_live_on_and_new_ones_start(node: Start) -> None:
    _, driver = node(resources={"CPU": 3.0})
    old = driver.lease()
    os.kill(driver.welcome.zygote_pid, signal.SIGKILL)
    assert wait_until_gone(driver.welcome.zygote_pid, LIMIT_S)
    assert driver.command(old.address, "state")["session"] == driver.welcome.node_pid
    fresh = [driver.lease(), driver.lease()]
    assert all(process_start_time(lease.pid) is not None for lease in fresh)
    os.kill(old.pid, signal.SIGKILL)  # an orphan's death is seen too, though nobody knows how it died
    died = driver.wait_for(WorkerDied, lambda m: m.worker_id == old.worker_id)
    assert died.exit_code is None and died.signal == 0


def test_when_the_node_dies_nothing_is_left(node: Start) -> None:
    handle, driver = node()
    driver.lease(), driver.lease()
    pids = session_pids(handle.pid)
    assert len(pids) == 4
    os.kill(handle.pid, signal.SIGKILL)
    for pid in pids:
        assert wait_until_gone(pid, 2.0)
    assert eventually(lambda: not os.path.exists(handle.session_dir), 2.0)


DRIVER_PROGRAM = """
import os, sys, time
sys.path[:0] = {path!r}
from test_node_process import *
config = config_for()
handle = start_node(config, worker_entry="fake_worker:run_worker")
driver = Driver(config)
driver.lease(), driver.lease()
if {fork} and os.fork() == 0:
    time.sleep(30)  # a child of the user keeps the driver's sockets open
    os._exit(0)
print(handle.pid, handle.session_dir, flush=True)
time.sleep(30)
"""


@pytest.mark.parametrize("with_fork", [False, True], ids=["alone", "with a forked child"])
def test_when_the_driver_is_killed_everything_goes(with_fork: bool) -> None:
    program = DRIVER_PROGRAM.format(path=[HERE, *sys.path], fork=with_fork)
    driver = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert driver.stdout is not None
    try:
        node_pid, session_dir = driver.stdout.readline().split()
        assert os.path.exists(session_dir)
        pids = session_pids(int(node_pid))
        driver.kill()
        driver.wait()
        for pid in pids:
            assert wait_until_gone(pid, 2.0)
        assert eventually(lambda: not os.path.exists(session_dir), 2.0)
    finally:
        driver.stdout.close()
        try:
            os.killpg(driver.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def test_a_driver_that_disconnects_ends_the_cluster_and_one_that_comes_back_does_not(node: Start) -> None:
    handle, driver = node()
    lease = driver.lease()
    back = rpc.connect(driver.config.node_socket, driver.config.token, driver.hello)
    driver.channel.close()
    driver.channel = back
    assert driver.command(lease.address, "state")
    time.sleep(0.3)  # longer than the node waits for a return
    assert handle.is_alive()
    driver.channel.close()
    assert wait_until_gone(handle.pid, 2.0)


def test_a_second_driver_takes_only_its_own_along(node: Start) -> None:
    handle, first = node(resources={"CPU": 4.0})
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        second = Driver(first.config, pid=sleeper.pid)
        assert second.welcome.job_id == 2
        mine, its = first.lease(), second.lease()
        second.create(b"a" * 16)
        second.create(b"d" * 16, detached=True)
        actor = second.until_state(b"a" * 16, "alive")
        second.until_state(b"d" * 16, "alive")
        first.tell(WatchActor(b"a" * 16))
        sleeper.kill()  # by its pidfd, although its sockets stay open here
        died = first.until_state(b"a" * 16, "dead")
        assert died.pid == actor.pid and f"its owner, driver {sleeper.pid}, ended" in died.cause
        assert first.wait_for(WorkerDied, lambda m: m.worker_id == its.worker_id)
        assert first.ask("actor_info", b"d" * 16).state == "alive"
        assert first.command(mine.address, "state") and handle.is_alive()
        second.close()
    finally:
        sleeper.kill()
        sleeper.communicate()


def test_strangers_are_refused(node: Start) -> None:
    _, driver = node()
    config = driver.config
    wrong = rpc.connect(config.node_socket, os.urandom(32), driver.hello)
    assert select.select([wrong], [], [], LIMIT_S)[0] and wrong.sock.recv(10) == b""
    unordered = rpc.connect(config.node_socket, config.token, Hello("worker", os.urandom(16), 1, "x"))
    assert select.select([unordered], [], [], LIMIT_S)[0] and unordered.sock.recv(10) == b""
    odd = rpc.connect(config.node_socket, config.token, Hello("guest", os.urandom(16), 1, "x"))
    assert select.select([odd], [], [], LIMIT_S)[0] and odd.sock.recv(10) == b""
    for channel in (wrong, unordered, odd):
        channel.close()
    silent = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    silent.connect(config.node_socket)
    assert driver.lease()  # a half-open connection holds nobody up
    silent.close()


def test_odd_messages_and_questions_do_not_end_the_node(node: Start) -> None:
    _, driver = node()
    driver.tell("nonsense")
    driver.tell(LeaseReturned(12345))
    driver.tell(LeaseDemand("not a shape", 1))  # type: ignore[arg-type]
    driver.tell(LeaseDemand("not a shape", 0))  # type: ignore[arg-type]
    answer = driver.asking.ask(Ask("nonsense", None), LIMIT_S)
    assert "nonsense" in answer.error
    assert driver.lease()


def test_an_actor_lives_restarts_and_dies(node: Start) -> None:
    _, driver = node()
    actor = b"b" * 16
    driver.create(actor, max_restarts=1)
    alive = driver.until_state(actor, "alive")
    heard = driver.command(alive.address, "heard")
    assert BecomeActor(actor, 0, b"spec", ()) in heard
    assert driver.ask("available_resources") == {"CPU": 2.0, "GPU": 1.0}
    os.kill(alive.pid, signal.SIGSEGV)
    restarting = driver.until_state(actor, "restarting")
    assert f"actor Counter (pid {alive.pid}) died" in restarting.cause and "SIGSEGV" in restarting.cause
    again = driver.until_state(actor, "alive")
    assert again.incarnation == 1 and again.pid != alive.pid
    driver.tell(KillActor(actor, no_restart=True))
    dead = driver.until_state(actor, "dead")
    assert dead.no_restart_by_kill and "minray.kill" in dead.cause
    assert wait_until_gone(again.pid, LIMIT_S)


def test_names_are_answered_at_once(node: Start) -> None:
    _, driver = node()
    new = CreateActor(b"c" * 16, "Bank", "bank", "test", False, CPU, (), 0, b"handle", b"spec")
    assert driver.ask("create_actor", new) == ""
    assert "already taken" in driver.ask("create_actor", new._replace(actor_id=b"e" * 16))
    assert driver.ask("actor_by_name", ("bank", "test")) == (b"c" * 16, b"handle")
    assert driver.ask("named_actors") == [("bank", "test")]


def test_actors_get_gpus_of_their_own(node: Start) -> None:
    _, driver = node(resources={"CPU": 2.0, "GPU": 2.0})
    seen = set()
    for actor in (b"f" * 16, b"g" * 16):
        driver.create(actor, placement=shape_of({"CPU": 1, "GPU": 1}), held=GPU)
        alive = driver.until_state(actor, "alive")
        become = next(m for m in driver.command(alive.address, "heard") if isinstance(m, BecomeActor))
        seen.add(become.gpu_ids)
    assert seen == {(0,), (1,)}
    assert eventually(lambda: driver.ask("available_resources") == {"CPU": 2.0})


def test_a_hundred_actors_are_created(node: Start) -> None:
    _, driver = node()
    actors = [b"%016d" % number for number in range(100)]
    for actor in actors:
        driver.create(actor)
    pids = {driver.until_state(actor, "alive").pid for actor in actors}
    assert len(pids) == 100


def test_slabs_are_granted_returned_and_survive_their_client(node: Start) -> None:
    _, driver = node()
    offset, size = driver.ask("slab", 1 << 20)
    assert size >= 1 << 20
    store = driver.ask("store")
    assert store["granted_bytes"] == size and store["clients"] == {driver.worker_id: size}
    assert driver.ask("slab", 1 << 40) is None
    assert driver.wait_for(StoreTrim).size_bytes == 1 << 40
    lease = driver.lease()
    assert driver.command(lease.address, "ask", ("slab", 1 << 20)).value is not None
    os.kill(lease.pid, signal.SIGKILL)
    driver.wait_for(WorkerDied)
    assert driver.ask("store")["clients"] == {driver.worker_id: size}  # it held no live block
    assert offset == 0


def test_log_lines_reach_every_driver(node: Start) -> None:
    _, driver = node()
    lease = driver.lease()
    lines = LogLines("f", lease.pid, False, ("one", "two"))
    driver.command(lease.address, "tell", lines)
    assert driver.wait_for(LogLines) == lines


def test_idle_workers_are_given_back_and_come_again(node: Start) -> None:
    handle, driver = node(idle_worker_s=0.1)
    lease = driver.lease()
    driver.tell(LeaseReturned(lease.lease_id))
    assert eventually(lambda: len(session_pids(handle.pid)) == 2)  # node and zygote
    assert driver.lease().pid != lease.pid


def test_the_key_value_table_is_shared(node: Start) -> None:
    _, driver = node()
    assert driver.ask("kv_put", (b"key", b"value"))
    lease = driver.lease()
    assert driver.command(lease.address, "ask", ("kv_get", b"key")).value == b"value"
    assert driver.ask("kv_keys", b"k") == [b"key"] and driver.ask("kv_del", b"key")


def test_a_node_that_cannot_start_says_why() -> None:
    config = config_for(resources={"CPU": -1.0})
    with pytest.raises(RuntimeError, match="CPU: -1.0 is negative"):
        start_node(config, worker_entry="fake_worker:run_worker")
    assert not os.path.exists(config.session_dir)


def test_workers_that_cannot_start_are_refused_with_their_last_words() -> None:
    config = config_for()
    handle = start_node(config, worker_entry="no_such_module:run_worker")
    driver = Driver(config)
    try:
        driver.tell(LeaseDemand(CPU, 1))
        stuck = driver.wait_for(DemandStuck)
        assert stuck.refused and "No module named 'no_such_module'" in stuck.reason
    finally:
        driver.close()
        handle.stop()
