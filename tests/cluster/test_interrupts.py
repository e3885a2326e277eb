"""Ctrl-C at any moment: no result lost, no table corrupt, nothing hangs, the cluster goes on."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from tests.chaos.program import Program

pytestmark = [pytest.mark.cluster]

# Interrupts itself counts are raised only while `armed`, so that none strikes the program between two lines of
# its own bookkeeping: what is tested is minray's.
_UNDER_FIRE = '''
import gc, random, signal, sys, time
armed = False
raised = 0
def handler(number, frame):
    global armed, raised
    if armed:
        armed = False
        raised += 1
        raise KeyboardInterrupt
signal.signal(signal.SIGINT, handler)
stopping = False
def stop(*_):
    global stopping
    stopping = True
signal.signal(signal.SIGTERM, stop)

import warnings
warnings.filterwarnings("ignore", "[0-9,]+ tasks of double")  # true, and meant: tiny tasks, many of them
import minray as ray
from minray.engine.seam import current

dice = random.Random(int(sys.argv[1]))
ray.init(num_cpus=2)

@ray.remote
def double(x):
    return 2 * x

@ray.remote
def size(data, extra):
    return len(data) + extra

@ray.remote(num_returns=2)
def pair(x):
    return x, -x

@ray.remote
class Counter:
    def __init__(self):
        self.count = 0
    def add(self, x):
        self.count += 1
        return x, self.count

def uninterrupted(step, *args):
    """Repeat until no interrupt comes between."""
    global armed
    while True:
        try:
            armed = True
            value = step(*args)
            armed = False
            return value
        except KeyboardInterrupt:
            pass

def make(kind, x):
    if kind == 0:
        return double.remote(x)
    if kind == 1:
        return counter.add.remote(x)
    if kind == 2:
        return size.remote(ray.put(b"x" * (x % 7 * 40_000)), double.remote(x))
    if kind == 3:
        return pair.remote(x)[1]
    return ray.put((x, bytes(50_000 * (x % 5))))

def expected(kind, x):
    return (2 * x, None, x % 7 * 40_000 + 2 * x, -x, (x, bytes(50_000 * (x % 5))))[kind]

def one_round():
    global last
    kind = dice.randrange(5)
    count = dice.choice((1, 3, 40, 300))
    if kind in (2, 4):
        count = min(count, 12)
    start = dice.randrange(10**6)
    refs = []
    def submit():
        while len(refs) < count:
            refs.append(make(kind, start + len(refs)))
    uninterrupted(submit)
    if dice.random() < 0.3:
        ready, rest = uninterrupted(lambda: ray.wait(refs, num_returns=count))
        assert not rest and len(ready) == count
    if dice.random() < 0.5:
        values = uninterrupted(ray.get, refs)
    else:
        values = [uninterrupted(ray.get, ref) for ref in refs]
    for x, value in enumerate(values, start):
        if kind == 1:
            assert value[0] == x and value[1] > last, (value, x, last)
            last = value[1]
        else:
            assert value == expected(kind, x)

counter = Counter.remote()
core = current().core
last = 0
print("READY", flush=True)
while not stopping:
    one_round()

signal.signal(signal.SIGINT, signal.SIG_IGN)
assert ray.get([double.remote(i) for i in range(500)]) == [2 * i for i in range(500)]
gc.collect()

def left():
    return (
        [number for number, ref in core.table.items() if ref.task is not None],
        [lease.in_flight for lease in core.leases_by_id.values() if lease.in_flight],
        sum(calls.in_flight + len(calls.queue) for calls in core.actors.values()),
        [len(group.queue) for group in core.groups.values() if group.queue],
        list(core.held), list(core.multi),
        core.store.arena.live_bytes(),
        2 - ray.available_resources().get("CPU", 0),
    )

until = time.monotonic() + 20
while any(left()) and time.monotonic() < until:
    time.sleep(0.02)
assert not any(left()), left()
print("DONE", raised, flush=True)
ray.shutdown()
'''


@pytest.mark.slow
def test_a_thousand_interrupts_at_random_instants_lose_nothing(tmp_path: Path) -> None:
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    dice = random.Random(seed)
    with Program(tmp_path / "under_fire.py", _UNDER_FIRE, str(seed)) as program:
        program.line("READY")
        for _ in range(1000):
            time.sleep(dice.random() * dice.choice((0.0006, 0.004, 0.009)))
            program.signal()
            if program.process.poll() is not None:
                break
        program.signal(signal.SIGTERM)
        out, err, code = program.end()
    assert code == 0 and err == "", err[-3000:]
    assert int(out.split("DONE")[1]) > 100  # many of them struck inside a call of minray's


_BLOCKED = """
import os, signal, sys, time
import minray as ray
ray.init(num_cpus=1)

@ray.remote
def nap(s):
    time.sleep(s)
    return os.getpid()

@ray.remote
class Napper:
    def nap(self, s):
        time.sleep(s)
        return os.getpid()

what = sys.argv[1]
napper = Napper.remote()
pid = ray.get(napper.nap.remote(0)) if what == "actor" else ray.get(nap.remote(0))
slow = napper.nap.remote(600) if what == "actor" else nap.remote(600)
try:
    print("READY", pid, flush=True)  # inside: the signal may come before the next statement
    if what == "wait":
        ray.wait([slow])
    elif what == "list":
        ray.get([slow, slow])
    elif what == "timeout":
        ray.get(slow, timeout=900)
    elif what == "future":
        slow.future().result()
    else:
        ray.get(slow)
except KeyboardInterrupt:
    print("INTERRUPTED", flush=True)
os.kill(pid, 0)  # the worker did not hear of it
assert ray.get(ray.put(5)) == 5
assert ray.get(ray.remote(num_cpus=0)(lambda: 7).remote()) == 7
ray.shutdown()
print("DONE", flush=True)
"""


@pytest.mark.parametrize("what", ["get", "list", "timeout", "wait", "actor", "future"])
def test_ctrl_c_of_the_whole_group_ends_a_blocked_call_and_no_worker(tmp_path: Path, what: str) -> None:
    with Program(tmp_path / "blocked.py", _BLOCKED, what) as program:
        program.line("READY")
        time.sleep(0.05)  # let it block; an interrupt that comes earlier must do as well
        program.signal(group=True)
        program.line("INTERRUPTED", within_s=20)
        out, err, code = program.end()
    assert (code, err, out.split()) == (0, "", ["DONE"])


_IN_DEL = """
import contextlib, gc, os, signal, sys, threading, time
import minray as ray
from minray.worker import object_ref
from minray.worker.interrupts import interrupts
ray.init(num_cpus=1)

@ray.remote
def one():
    return 1

assert ray.get(one.remote()) == 1
if sys.argv[1] == "pump":
    time.sleep(0.1)  # the pump blocks in its poll
elif sys.argv[1] == "other leader":
    def lead():
        with contextlib.suppress(ray.exceptions.RayError):  # the end of the cluster
            ray.wait([ray.remote(lambda: time.sleep(600)).remote()])
    threading.Thread(target=lead, daemon=True).start()
    time.sleep(0.1)
for _ in range(3):
    # As if the signal had come inside a `__del__` of the runtime: noted, and no public function follows.
    exec("import os, signal; os.kill(os.getpid(), signal.SIGINT)", {"__name__": "minray.worker.object_ref"})
    try:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            pass
        print("LOST", flush=True)
    except KeyboardInterrupt:
        print("INTERRUPTED", flush=True)
try:
    time.sleep(0.1)  # no echo of an old one
    print("QUIET", interrupts.pending, flush=True)
except KeyboardInterrupt:
    print("ECHO", flush=True)
ray.shutdown()
"""


@pytest.mark.parametrize("reader", ["pump", "other leader", "nobody yet"])
def test_an_interrupt_noted_where_nobody_raises_it_arrives_all_the_same(tmp_path: Path, reader: str) -> None:
    with Program(tmp_path / "noted.py", _IN_DEL, reader) as program:
        out, err, code = program.end(within_s=100)
    assert (code, err) == (0, "")
    assert out.splitlines() == ["INTERRUPTED"] * 3 + ["QUIET False"]


_IN_THREADS = """
import signal, sys, threading, time
import minray as ray
ray.init(num_cpus=2)

@ray.remote
def nap(s):
    time.sleep(s)
    return s

results = []
def getter():
    try:
        results.append(ray.wait([nap.remote(0.7), nap.remote(0.75)], num_returns=2)[1])
        results.append(ray.get(nap.remote(0.2)))
    except BaseException as error:
        results.append(error)
threads = [threading.Thread(target=getter) for _ in range(3)]
for thread in threads:
    thread.start()
time.sleep(0.1)
try:
    print("READY", flush=True)  # inside: the signal may come before the next statement
    ray.get(nap.options(num_cpus=0).remote(600))
except KeyboardInterrupt:
    print("INTERRUPTED", flush=True)
for thread in threads:
    thread.join()
assert results.count([]) == 3 and results.count(0.2) == 3, results
ray.shutdown()
print("DONE", flush=True)
"""


def test_only_the_main_thread_is_interrupted(tmp_path: Path) -> None:
    with Program(tmp_path / "threads.py", _IN_THREADS) as program:
        program.line("READY")
        program.signal()
        program.line("INTERRUPTED", within_s=20)
        out, err, code = program.end()
    assert (code, err, out.split()) == (0, "", ["DONE"])


def test_the_program_gets_its_own_handler_back(cluster_of) -> None:  # type: ignore[no-untyped-def]
    def mine(number: int, frame: object) -> None:
        raise AssertionError("not called here")

    before = signal.signal(signal.SIGINT, mine)
    try:
        ray = cluster_of(num_cpus=1)
        assert signal.getsignal(signal.SIGINT) is not mine
        ray.shutdown()
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, before)


_SHUT_DOWN_ELSEWHERE = """
import threading, time
import minray as ray
ray.init(num_cpus=1)
nap = ray.remote(lambda: time.sleep(600))
first, second, third = nap.remote(), nap.remote(), nap.remote()
ends = []
def waits(call):
    try:
        call()
    except ray.exceptions.LocalRayletDiedError:
        ends.append("told")
threads = [
    threading.Thread(target=waits, args=(call,))
    for call in (lambda: ray.wait([first]), lambda: ray.get(second), lambda: third.future().result())
]
for thread in threads:
    thread.start()
time.sleep(0.1)
ray.shutdown()
for thread in threads:
    thread.join(60)
print(ends)
"""


def test_threads_that_wait_are_told_when_another_shuts_down(tmp_path: Path) -> None:
    with Program(tmp_path / "elsewhere.py", _SHUT_DOWN_ELSEWHERE) as program:
        out, err, code = program.end(within_s=100)
    assert (code, err, out.strip()) == (0, "", "['told', 'told', 'told']")
