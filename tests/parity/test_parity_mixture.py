"""Does a random mixture of everything keep every promise? The seed is the test's parameter.

Tasks, chains, nesting, dying workers, large arrays, errors, refs in results, actors that call each other,
are killed and restarted, `wait`, refs dropped at once: in random order, in one cluster, each checked.
"""

from __future__ import annotations

import gc
import importlib
import os
import random
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

ENGINE = os.environ.get("MINRAY_PARITY_ENGINE", "minray")
ray: Any = importlib.import_module(ENGINE)

pytestmark = pytest.mark.usefixtures("cluster")

# Real Ray needs about a second for each new process.
SEEDS, STEPS = (range(1), 14) if ENGINE == "ray" else (range(3), 60)
PATIENCE_S = 60.0


def get(refs: Any) -> Any:
    return ray.get(refs, timeout=PATIENCE_S)


def steps(dice: random.Random) -> dict[str, Callable[[], None]]:
    """Every kind of step: a function that acts and asserts."""

    @ray.remote
    def add(a: int, b: int) -> int:
        return a + b

    @ray.remote
    def nest(n: int) -> int:
        return 0 if n == 0 else 1 + ray.get(nest.remote(n - 1))

    @ray.remote(max_retries=-1)
    def fragile() -> int:
        if random.random() < 0.2:
            os._exit(1)
        return 7

    @ray.remote
    def filled(n: int) -> Any:
        return np.full(n, n % 251, dtype=np.uint8)

    @ray.remote
    def total(array: Any) -> int:
        return int(array.sum())

    @ray.remote
    def fail() -> None:
        raise ValueError("on purpose")

    @ray.remote
    def fan(n: int) -> int:
        return sum(ray.get([add.remote(i, 1) for i in range(n)]))

    @ray.remote
    def make(n: int) -> list[Any]:
        return [ray.put(np.full(200_000, i, dtype=np.uint8)) for i in range(n)]

    class Counter:
        def add(self, n: int) -> int:
            return n

        def pid(self) -> int:
            return os.getpid()

        def hold(self, box: list[Any]) -> None:
            self.box = box

        def read(self) -> int:
            return int(ray.get(self.box[0]).sum())

        def call(self, other: Any, n: int) -> int:
            return ray.get(other.add.remote(n))

    counter = ray.remote(max_restarts=-1, max_task_retries=-1)(Counter)

    @ray.remote
    class Async:
        async def same(self, x: int) -> int:
            return x

    def tasks() -> None:
        n = dice.randint(1, 300)
        assert get([add.remote(i, i) for i in range(n)]) == [2 * i for i in range(n)]

    def chain() -> None:
        ref, n = ray.put(0), dice.randint(1, 40)
        for _ in range(n):
            ref = add.remote(ref, 1)
        assert get(ref) == n

    def nested() -> None:
        n = dice.randint(1, 6)
        assert get(nest.remote(n)) == n

    def dying_workers() -> None:
        assert get([fragile.remote() for _ in range(3)]) == [7] * 3

    def arrays() -> None:
        sizes = [dice.randint(10, 2_000_000) for _ in range(3)]
        assert get([total.remote(filled.remote(n)) for n in sizes]) == [n * (n % 251) for n in sizes]

    def errors() -> None:
        with pytest.raises(ValueError, match="on purpose"):
            get(add.remote(fail.remote(), 1))

    def fan_out() -> None:
        n = dice.randint(1, 100)
        assert get([fan.remote(n), fan.remote(n)]) == [n * (n - 1) // 2 + n] * 2

    def refs_in_results() -> None:
        refs = get(make.remote(4))
        gc.collect()
        assert [int(get(ref).sum()) for ref in refs] == [200_000 * i for i in range(4)]

    def actors() -> None:
        a, b = counter.remote(), counter.remote()
        n = dice.randint(1, 100)
        assert get([a.add.remote(i) for i in range(n)]) == list(range(n))
        assert get(b.call.remote(a, 5)) == 5
        ref = ray.put(np.ones(300_000, dtype=np.uint8))
        get(b.hold.remote([ref]))
        del ref
        gc.collect()
        assert get(b.read.remote()) == 300_000

    def restart() -> None:
        a = counter.remote()
        os.kill(get(a.pid.remote()), signal.SIGKILL)
        assert get([a.add.remote(1) for _ in range(10)]) == [1] * 10

    def async_actor() -> None:
        a = Async.remote()
        assert get([a.same.remote(i) for i in range(30)]) == list(range(30))

    def wait_for_all() -> None:
        left, count = [add.remote(i, 0) for i in range(50)], 0
        while left:
            done, left = ray.wait(left, num_returns=min(7, len(left)), timeout=PATIENCE_S)
            assert done
            count += len(done)
        assert count == 50

    def dropped() -> None:
        for i in range(100):
            add.remote(i, i)

    def killed() -> None:
        a = counter.remote()
        ref = a.add.remote(1)
        ray.kill(a)
        try:
            assert get(ref) == 1
        except ray.exceptions.RayActorError:
            pass

    every = (tasks, chain, nested, dying_workers, arrays, errors, fan_out, refs_in_results)
    every += (actors, restart, async_actor, wait_for_all, dropped, killed)
    return {step.__name__: step for step in every}


@pytest.mark.parametrize("seed", SEEDS)
def test_every_step_of_a_random_mixture_keeps_its_promise(seed: int) -> None:
    dice = random.Random(seed)
    kinds = steps(dice)
    taken: list[str] = []
    for _ in range(STEPS):
        taken.append(dice.choice(sorted(kinds)))
        try:
            kinds[taken[-1]]()
        except Exception as error:
            error.add_note(f"seed {seed}, step {len(taken)}, the last ones: {', '.join(taken[-6:])}")
            raise
