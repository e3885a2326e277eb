"""What does a program written for the standard library's `multiprocessing.Pool` change? One import.

    from minray.util.multiprocessing import Pool

    with Pool() as pool:
        print(pool.map(square, range(100)))

`Pool` has the methods, the results and the exceptions of `multiprocessing.Pool`; its processes are actors of
the cluster. As in Ray, `TimeoutError` and `JoinableQueue` are the standard library's own.
"""

from __future__ import annotations

from multiprocessing import JoinableQueue, TimeoutError  # noqa: A004 - as in Ray

from minray.util.multiprocessing.pool import Pool

__all__ = ["JoinableQueue", "Pool", "TimeoutError"]
