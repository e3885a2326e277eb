"""Does a store that is a third empty ever send an object to disk, or refuse it, because its room is in pieces?

Several actors and the driver store objects of random sizes and drop them in random order; together
they keep at most two thirds of the store. Every value is checked when it is dropped.

    python tests/chaos/fragmentation.py --seconds 60 --seed 1
"""

from __future__ import annotations

import argparse
import gc
import random
import time
from typing import Any

import numpy as np

import minray as ray
from minray.engine.seam import current

MB = 1 << 20
OVERHEAD_BYTES = 8 << 10  # of a block: its header, and sizes are rounded up to pages
SIZE_CLASS = 1.25  # blocks up to 1 MB are rounded up to a quarter of a power of two


class Hoard:
    """Objects of one process, with the bytes that they take."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.kept: list[tuple[Any, int, float]] = []
        self.bytes = 0

    def size(self, largest: int) -> int:
        """Few large ones, many small ones: uniform in the exponent."""
        return int(120_000 * (largest / 120_000) ** self.dice.random()) // 8 * 8

    def add(self, size: int) -> int:
        mark = self.dice.random()
        self.kept.append((ray.put(np.full(size // 8, mark)), size, mark))
        self.bytes += size
        return self.bytes

    def drop(self, to_bytes: int) -> int:
        """Drop random ones until at most that much is kept."""
        while self.bytes > to_bytes:
            ref, size, mark = self.kept.pop(self.dice.randrange(len(self.kept)))
            value = ray.get(ref)
            assert value.nbytes == size and value[0] == value[-1] == mark, "another object's bytes"
            self.bytes -= size
        return self.bytes

    def churn(self, steps: int, share: int, largest: int) -> int:
        """Store and drop, never keeping more than `share` bytes."""
        for _ in range(steps):
            size = min(self.size(largest), share // 16 * 8)
            self.drop(share - size)
            self.add(size)
        gc.collect()
        return self.bytes


def run(seed: int, seconds: float, store_bytes: int, processes: int) -> dict[str, int]:
    """Churn; returns what the node counted, with the number of rounds."""
    dice = random.Random(seed)
    actor_class: Any = ray.remote(num_cpus=0)(Hoard)
    hoards = [actor_class.remote(seed * 100 + index) for index in range(processes - 1)]
    own = Hoard(seed * 100 + 99)
    give_up = time.monotonic() + seconds
    rounds = 0
    usable = int(store_bytes * 2 / 3 / SIZE_CLASS)
    while time.monotonic() < give_up:
        rounds += 1
        cuts = sorted(dice.random() for _ in range(processes - 1))
        shares = [int((high - low) * usable) for low, high in zip([0.0, *cuts], [*cuts, 1.0], strict=True)]
        # First everybody comes down to its new share, then they grow again: never more than two thirds in all.
        ray.get([hoard.drop.remote(share) for hoard, share in zip(hoards, shares, strict=False)])
        own.drop(shares[-1])
        largest = dice.choice([MB, store_bytes // 16, store_bytes // 8])
        calls = [hoard.churn.remote(40, share, largest) for hoard, share in zip(hoards, shares, strict=False)]
        own.churn(40, shares[-1], largest)
        ray.get(calls)
    store = current().core.ask_node("store")
    return {
        "rounds": rounds,
        "spilled_objects": store["spilled_objects"],
        "spilled_bytes": store["spilled_bytes"],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store-mb", type=int, default=256)
    parser.add_argument("--processes", type=int, default=4)
    chosen = parser.parse_args()
    ray.init(num_cpus=2, object_store_memory=chosen.store_mb * MB)
    print(run(chosen.seed, chosen.seconds, chosen.store_mb * MB, chosen.processes))
    ray.shutdown()
