"""How fast are objects spilled and restored, beside plain writes and reads of the same files on the same disk?

    python -m minray.bench.spilling [--total-mb 2000] [--object-mb 100] [--store-mb 500]

Plain figures are taken before and after, since a disk is not as fast at all times. "Restored" means
that every byte was looked at (a sum), which the plain read does too.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from typing import Any

MB = 10**6
PIECE_BYTES = 16 << 20


def _rate(total_bytes: int, run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return total_bytes / (time.perf_counter() - began) / MB


def plain_rates(folder: str, count: int, size_bytes: int) -> tuple[float, float]:
    """MB/s of writing that many files, and of reading them again."""
    import numpy as np

    data: Any = np.ones(size_bytes // 8)
    view = memoryview(data).cast("B")
    into: Any = np.empty(size_bytes // 8)

    def write() -> None:
        for number in range(count):
            fd = os.open(os.path.join(folder, str(number)), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            at = 0
            while at < len(view):
                at += os.pwrite(fd, view[at : at + PIECE_BYTES], at)
            os.close(fd)

    def read() -> None:
        target = memoryview(into).cast("B")
        for number in range(count):
            with open(os.path.join(folder, str(number)), "rb", buffering=0) as file:
                at = 0
                while at < len(target):
                    at += file.readinto(target[at : at + PIECE_BYTES])
            into.sum()

    total = count * len(view)
    rates = _rate(total, write), _rate(total, read)
    for number in range(count):
        os.unlink(os.path.join(folder, str(number)))
    return rates


def spill_rates(ray: Any, count: int, size_bytes: int) -> dict[str, float]:
    """MB/s of putting more than the store holds, of the spilling inside that, and of reading it all again."""
    import numpy as np

    from minray.base.events import ObjectSpilled
    from minray.engine.seam import current

    cursor = current().events(0).cursor
    refs: list[Any] = []

    def put() -> None:
        refs.extend(ray.put(np.full(size_bytes // 8, float(number))) for number in range(count))

    def get() -> None:
        for number, ref in enumerate(refs):
            if ray.get(ref).sum() != number * (size_bytes // 8):
                raise AssertionError(f"object {number} came back with other bytes")

    rates = {"put beyond the store": _rate(count * size_bytes, put)}
    spilled = [event for event in current().events(cursor).events if isinstance(event, ObjectSpilled)]
    written = sum(event.size_bytes for event in spilled)
    if written:
        rates["spill"] = written / sum(event.seconds for event in spilled) / MB
    rates["restore, and what was still in memory"] = _rate(count * size_bytes, get)
    return rates


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--total-mb", type=int, default=2000)
    parser.add_argument("--object-mb", type=int, default=100)
    parser.add_argument("--store-mb", type=int, default=500)
    parser.add_argument("--directory", default=None, help="where to spill (default: the system's temporary one)")
    chosen = parser.parse_args()
    import minray as ray

    count, size_bytes = max(1, chosen.total_mb // chosen.object_mb), chosen.object_mb * MB // 8 * 8
    folder = tempfile.mkdtemp(prefix="minray-bench-", dir=chosen.directory)
    try:
        before = plain_rates(folder, count, size_bytes)
        ray.init(num_cpus=1, object_store_memory=chosen.store_mb * MB, object_spilling_directory=folder)
        rates = spill_rates(ray, count, size_bytes)
        ray.shutdown()
        after = plain_rates(folder, count, size_bytes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{count} objects of {chosen.object_mb} MB, a store of {chosen.store_mb} MB; MB/s")
    for name, first, second in (("plain write", before[0], after[0]), ("plain read and sum", before[1], after[1])):
        print(f"  {name:40} {first:8.0f} before, {second:.0f} after")
    for name, rate in rates.items():
        print(f"  {name:40} {rate:8.0f}")


if __name__ == "__main__":
    main()
