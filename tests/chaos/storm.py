"""What does a program see while everything around it dies? Nothing but right results, or this module says what.

The program under fire: run as `python -m tests.chaos.storm SEED TASKS`. Rounds of work, each checked, while

    a worker is killed every 100 ms        nested tasks, values from dead workers, restartable actors
    the zygote is killed now and then      who forks new workers is gone too
    Ctrl-C rains (the parent sends it)     every public call may end in a KeyboardInterrupt, and is repeated
    the object store is always near full   the rounds' arrays fill most of it (what does not fit is spilled)

At the end all is quiet: no task, lease or handle is left, and the memory is back. Exit code 0 and the
line DONE say that it came to that; anything else is a finding, and the last lines say what was seen.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import random
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import minray as ray
from minray.engine.seam import current

KILL_EVERY_S = 0.1
PATIENCE_S = 60.0  # for one answer; beyond, it counts as a hang
QUIET_S = 30.0  # for everything to be given back at the end
STORE_BYTES = 40 << 20
LENGTH = 25_000  # of float64: 200 KB, so in shared memory
Step = Callable[..., Any]


# ---------------------------------------------------------------------------------------------- interrupts
class Rain:
    """Ctrl-C counts only while a step is under way that can be repeated."""

    def __init__(self) -> None:
        self.armed = False
        self.stopped = False
        self.raised = 0
        signal.signal(signal.SIGINT, self._on_interrupt)

    def _on_interrupt(self, *_: Any) -> None:
        if self.armed:
            self.armed = False
            self.raised += 1
            raise KeyboardInterrupt

    def through(self, step: Step, *args: Any, **kwargs: Any) -> Any:
        """The value of `step`, repeated until no interrupt came between."""
        while True:
            try:
                self.armed = True
                value = step(*args, **kwargs)
                self.armed = False
                return value
            except KeyboardInterrupt:
                pass
            finally:
                self.armed = False


# ---------------------------------------------------------------------------------------------- deaths
class Deaths(threading.Thread):
    """kill -9 of a random worker every 100 ms, of the zygote now and then."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__(daemon=True)
        self.dice = dice
        self.over = threading.Event()
        self.kills = self.zygotes = 0
        self.progress_s = time.monotonic()

    def _pause_s(self) -> float:
        # A task that takes longer than its worker lives never ends: on a loaded machine, the longer nothing is
        # finished, the rarer the deaths. What hangs hangs all the same.
        return KILL_EVERY_S * min(2.0 ** ((time.monotonic() - self.progress_s) / 3), 100)

    def run(self) -> None:
        while not self.over.wait(self._pause_s()):
            with contextlib.suppress(ray.exceptions.RayError):
                workers = [row["pid"] for row in current().ask("state")["workers"] if row["pid"] > 1]
                if workers and self._kill(self.dice.choice(workers)):
                    self.kills += 1
            if self.dice.random() < 0.02 and self._kill(_zygote_pid()):
                self.zygotes += 1

    def _kill(self, pid: int) -> bool:
        try:
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return False
        return True


def _zygote_pid() -> int:
    """The node's child of that name; while there is none, a number that nobody has."""
    node = current().core.node_pid  # type: ignore[attr-defined]
    for task in Path(f"/proc/{node}/task").iterdir():
        for pid in (task / "children").read_text().split():
            with contextlib.suppress(OSError):
                if "zygote" in Path(f"/proc/{pid}/comm").read_text():
                    return int(pid)
    return 1 << 30


# ---------------------------------------------------------------------------------------------- the work
for_ever = ray.remote(max_retries=-1, num_cpus=0.5)


@for_ever
def double(x: int) -> int:
    return 2 * x


@for_ever
def tree(depth: int, x: int) -> int:
    """Nested: a task waits for its children, which may die, as it may itself."""
    if depth == 0:
        return x
    return sum(ray.get([tree.remote(depth - 1, x + i) for i in range(5)]))


def tree_sum(depth: int, x: int) -> int:
    return x if depth == 0 else sum(tree_sum(depth - 1, x + i) for i in range(5))


def tree_size(depth: int) -> int:
    return sum(5**level for level in range(depth + 1))


@for_ever
def total(array: Any, extra: int) -> float:
    return float(array.sum()) + extra


@for_ever
def of_inside(box: list[Any]) -> float:
    return float(ray.get(box[0])[0])


@ray.remote(max_retries=-1, num_returns=2, num_cpus=0.5)
def pair(x: int) -> tuple[int, Any]:
    return x, np.full(LENGTH, float(x))


@for_ever
def put_there(x: int) -> list[Any]:
    """A reference whose owner is the worker: it lives only as long as that."""
    return [ray.put(np.full(LENGTH, float(x)))]


@for_ever
def chained(before: int, x: int) -> int:
    return before + x


class _Keeper:
    def __init__(self) -> None:
        self.kept: dict[int, Any] = {}

    def say(self, x: Any) -> Any:
        return x

    def keep(self, key: int, box: Any) -> int:
        self.kept[key] = box
        return key

    def read(self, key: int) -> float | None:
        """None after a restart: what it kept went with it."""
        box = self.kept.get(key)
        return None if box is None else float(ray.get(box[0])[0])

    def drop(self) -> int:
        count = len(self.kept)
        self.kept.clear()
        gc.collect()
        return count


class Storm:
    """One seed's rounds."""

    def __init__(self, seed: int, rain: Rain) -> None:
        self.dice = random.Random(seed)
        self.rain = rain
        self.tasks = 0
        self.lost = 0
        self.actors = [
            ray.remote(max_restarts=-1, max_task_retries=-1, num_cpus=0)(_Keeper).remote() for _ in range(3)
        ]
        self.kinds = [
            self.nested,
            self.plain,
            self.arrays,
            self.pairs,
            self.theirs,
            self.calls,
            self.kept,
            self.chain,
        ]

    def round(self) -> None:
        self.dice.choice(self.kinds)(self.dice.randrange(1000))

    def _make(self, count: int, one: Callable[[int], Any]) -> list[Any]:
        refs: list[Any] = []

        def submit() -> list[Any]:
            while len(refs) < count:
                refs.append(one(len(refs)))
            return refs

        self.tasks += count
        return self.rain.through(submit)  # type: ignore[no-any-return]

    def _get(self, refs: Any) -> Any:
        give_up = time.monotonic() + PATIENCE_S
        return self.rain.through(lambda: ray.get(refs, timeout=max(0.0, give_up - time.monotonic())))

    def nested(self, x: int) -> None:
        depth = self.dice.choice((1, 2, 2))
        refs = self._make(8, lambda i: tree.remote(depth, x + i))
        self.tasks += 8 * (tree_size(depth) - 1)
        assert self._get(refs) == [tree_sum(depth, x + i) for i in range(8)]

    def plain(self, x: int) -> None:
        refs = self._make(300, lambda i: double.remote(x + i))
        if self.dice.random() < 0.5:
            _, late = self.rain.through(ray.wait, refs, num_returns=300, timeout=PATIENCE_S)
            assert not late, f"{len(late)} of 300 tasks never became ready"
        assert self._get(refs) == [2 * (x + i) for i in range(300)]

    def arrays(self, x: int) -> None:
        count = self.dice.randrange(10, 160)  # up to 32 MB of a store of 40
        boxes = self._make(count, lambda i: ray.put(np.full(LENGTH, float(x))))
        refs = self._make(20, lambda i: total.remote(boxes[i % count], double.remote(i)))
        refs += self._make(20, lambda i: of_inside.remote([boxes[i % count]]))
        assert self._get(refs) == [LENGTH * x + 2 * i for i in range(20)] + [float(x)] * 20
        for ref in self.dice.sample(boxes, 5):
            assert (self._get(ref) == x).all()

    def pairs(self, x: int) -> None:
        refs = self._make(40, lambda i: pair.remote(x + i))
        assert self._get([one for one, _ in refs]) == [x + i for i in range(40)]
        for i, (_, large) in enumerate(
            refs
        ):  # its bytes may lie in the slabs of a worker that is dead by now
            assert (self._get(large) == x + i).all()

    def theirs(self, x: int) -> None:
        for box in self._get(self._make(10, lambda i: put_there.remote(x))):
            try:
                assert (self._get(box[0]) == x).all()
            except (ray.exceptions.OwnerDiedError, ray.exceptions.ObjectLostError):
                self.lost += 1

    def calls(self, x: int) -> None:
        refs = self._make(150, lambda i: self.actors[i % 3].say.remote(x + i))
        assert self._get(refs) == [x + i for i in range(150)]

    def kept(self, x: int) -> None:
        box = [self.rain.through(ray.put, np.full(LENGTH, float(x)))]
        keys = self._make(3, lambda i: self.actors[i].keep.remote(x, box))
        assert self._get(keys) == [x] * 3
        box.clear()
        found = self._get([actor.read.remote(x) for actor in self.actors])
        assert all(value in (None, float(x)) for value in found), found
        if self.dice.random() < 0.3:
            self._get([actor.drop.remote() for actor in self.actors])

    def chain(self, x: int) -> None:
        refs: list[Any] = self._make(1, lambda _: double.remote(0))
        self._make(40, lambda i: refs.append(chained.remote(refs[-1], 1)))  # an interrupt may repeat a link
        assert self._get(refs) == list(range(len(refs)))

    # ------------------------------------------------------------------------------------------ the end
    def finish(self) -> None:
        """Every answer is in: now everything must be given back."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert ray.get([double.remote(i) for i in range(500)], timeout=PATIENCE_S) == [
            2 * i for i in range(500)
        ]
        ray.get([actor.drop.remote() for actor in self.actors], timeout=PATIENCE_S)
        give_up = time.monotonic() + QUIET_S
        while left := {name: value for name, value in _left().items() if value}:
            assert time.monotonic() < give_up, f"not given back: {left}"
            time.sleep(0.02)


def _left() -> dict[str, Any]:
    gc.collect()
    core: Any = current().core  # type: ignore[attr-defined]
    peers = {id(peer): peer for peer in core.peers.values()}
    return {
        "tasks": {number: ref.task for number, ref in core.table.items() if ref.task is not None},
        "known elsewhere": {number: ref.pins for number, ref in core.table.items() if ref.task is None},
        "in flight": [lease.in_flight for lease in core.leases_by_id.values() if lease.in_flight],
        "actor calls": [calls.pending() for calls in core.actors.values() if calls.pending()],
        "queues": [list(group.queue) for group in core.groups.values() if group.queue],
        "arguments": core.held,
        "several": core.multi,
        "waiting for a cause": core.awaiting_cause,
        "handles": {
            peer.pid: {n: hold[1] for n, hold in peer.holds.items()} for peer in peers.values() if peer.holds
        },
        "anchors": core._anchors,
        "kept": core._kept,
        "bytes here": core.store.arena.live_bytes(),
        "CPUs": ray.cluster_resources()["CPU"] - ray.available_resources().get("CPU", 0.0),
        "bytes in the node": ray.cluster_resources()["object_store_memory"]
        - ray.available_resources().get("object_store_memory", 0.0),
    }


def main(seed: int, tasks: int) -> None:
    """Rounds until `tasks` tasks ran."""
    warnings.simplefilter("ignore")
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    rain = Rain()  # before init, which puts a handler of its own before this one
    ray.init(num_cpus=3, object_store_memory=STORE_BYTES, log_to_driver=False)
    storm = Storm(seed, rain)
    deaths = Deaths(random.Random(seed + 1))
    began = time.monotonic()
    print("READY", flush=True)
    deaths.start()
    rounds = 0
    try:
        while storm.tasks < tasks:
            storm.round()
            rounds += 1
            deaths.progress_s = time.monotonic()
        deaths.over.set()
        deaths.join()
        storm.finish()
    except BaseException:
        deaths.over.set()
        traceback.print_exc()
        with contextlib.suppress(BaseException):
            print("driver:", _left(), file=sys.stderr)
        with contextlib.suppress(BaseException):
            print("node:", current().ask("state"), file=sys.stderr)
        faulthandler.dump_traceback(all_threads=True)
        with contextlib.suppress(BaseException):
            for path in Path(current().core.config.session_dir, "logs").glob("*"):  # type: ignore[attr-defined]
                text = path.read_text(errors="replace")
                if "Traceback" in text or path.name == "node.log":
                    print(f"--- {path.name}\n{text[-2000:]}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)
    storm.actors.clear()
    print(
        f"DONE {rounds} rounds, {storm.tasks} tasks in {time.monotonic() - began:.1f} s; {deaths.kills} workers and "
        f"{deaths.zygotes} zygotes killed, {storm.rain.raised} interrupts, {storm.lost} objects lost with their owner",
        flush=True,
    )
    ray.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
