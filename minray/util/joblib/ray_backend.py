"""How does joblib's `Parallel` use a pool of actors?

joblib cuts its calls into batches, as large as their duration suggests, and hands each to `submit`; the result
comes back by a callback. The batches run on a `minray.util.multiprocessing.Pool`. A pool outlives the `Parallel`
that it was made for (its processes have imported what the calls need), as that of joblib's own backend does, and
the next one takes it over; one that nobody takes for some minutes ends.

A large argument, an array that all calls read for example, is stored once a `Parallel` call and read in place:
what memory-mapped files are to joblib's other backends (`max_nbytes`, `mmap_mode`).
"""

from __future__ import annotations

import copy
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from joblib._parallel_backends import FallbackToBackend, SequentialBackend
from joblib.parallel import AutoBatchingMixin, ParallelBackendBase

import minray
from minray.util.multiprocessing import Pool

IDLE_S_MAX = 300.0  # of a pool that no Parallel uses


class RayBackend(AutoBatchingMixin, ParallelBackendBase):
    """`joblib.parallel_config(backend="ray")`. `ray_remote_args`: options of the actors that run the calls."""

    default_n_jobs = -1
    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    def __init__(
        self,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
        ray_remote_args: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads, **kwargs)
        self.ray_remote_args = ray_remote_args
        self._pool: Pool | None = None
        self._key: tuple[Any, ...] = ()
        self._shared = Shared(None, "r")

    # ------------------------------------------------------------- the pool
    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many processes `n_jobs` means: -1 all CPUs of the cluster, -2 all but one."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        if n_jobs > 0:
            return n_jobs
        if not minray.is_initialized():
            minray.init()
        return max(int(minray.cluster_resources().get("CPU", 1)) + 1 + n_jobs, 1)

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: str | None = None,
        require: str | None = None,
        ray_remote_args: dict[str, Any] | None = None,
        max_nbytes: int | None = None,
        mmap_mode: str | None = "r",
        **_: Any,
    ) -> int:
        """Prepare for the calls of `parallel`. Returns the number of processes."""
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        if mmap_mode not in ("r", "c", None):
            raise ValueError(
                f"mmap_mode={mmap_mode!r}: arrays in shared memory are read-only here; 'r' reads them in place, 'c' "
                "gives each call a copy of its own."
            )
        self.parallel = parallel
        self._shared = Shared(max_nbytes, mmap_mode)
        options = dict((self.ray_remote_args if ray_remote_args is None else ray_remote_args) or {})
        if self.inner_max_num_threads is not None:
            environment = dict(options.get("runtime_env") or {})
            environment["env_vars"] = {**self._prepare_worker_env(n_jobs), **environment.get("env_vars", {})}
            options["runtime_env"] = environment
        self._pool, self._key = take_pool(n_jobs, options)
        return n_jobs

    def terminate(self) -> None:
        """The `Parallel` needs no more processes."""
        self.reset_batch_stats()
        self._shared.forget()
        pool, self._pool = self._pool, None
        if pool is not None:
            keep_pool(pool, self._key)

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """End what runs: a call failed, or took too long."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()
        self._shared.forget()
        if ensure_ready:
            parallel = self.parallel
            self.configure(n_jobs=parallel.n_jobs, parallel=parallel, **parallel._backend_kwargs)

    def stop_call(self) -> None:
        """A call of the `Parallel` has ended: the next one may bring the same array with other contents."""
        self._shared.forget()

    # ------------------------------------------------------------- calls
    def submit(self, func: Any, callback: Callable[[Any], object] | None = None) -> Any:
        """Run a batch; `callback` gets what it returned or raised."""
        assert self._pool is not None
        batch = self._shared.batch(func)
        return self._pool.apply_async(batch, callback=callback, error_callback=callback)

    apply_async = submit  # the name of joblib before 1.5

    def retrieve_result_callback(self, out: Any) -> Any:
        """What `callback` got: the results of the batch. Raises: the exception of one of its calls."""
        if isinstance(out, BaseException):
            raise out
        return out


# ------------------------------------------------------------------ large arguments
class Shared:
    """The large arguments of the calls of one `Parallel`, each stored once."""

    def __init__(self, max_nbytes: int | None, mmap_mode: str | None) -> None:
        self._bytes_min = max_nbytes
        self._writable = mmap_mode != "r"
        # By identity, as in joblib; the value is kept with its reference, so that its identity stays its own.
        self._stored: dict[int, tuple[Any, Any]] = {}
        self._lock = threading.Lock()

    def batch(self, calls: Any) -> Batch:
        """`calls` (joblib's BatchedCalls), with references in the place of large arguments."""
        light = copy.copy(calls)
        light.items = [
            (function, [self._lighten(one) for one in args], {k: self._lighten(v) for k, v in kwargs.items()})
            for function, args, kwargs in calls.items
        ]
        return Batch(light, self._writable)

    def _lighten(self, value: Any) -> Any:
        if self._bytes_min is None or type(value) in (int, float, str, bool, type(None)):
            return value
        if size_of(value) < self._bytes_min:
            return value
        with self._lock:
            known = self._stored.get(id(value))
            if known is None:
                known = self._stored[id(value)] = (value, minray.put(value))
            return Place(known[1])

    def forget(self) -> None:
        """Let the stored values go, as soon as no call uses them."""
        with self._lock:
            self._stored.clear()


def size_of(value: Any) -> int:
    """Bytes of an array, a frame, a sparse matrix; roughly, and without looking into containers."""
    if isinstance(value, type):
        return 0
    parts = [getattr(value, "nbytes", 0), sys.getsizeof(value, 0)]
    parts += [getattr(getattr(value, name, None), "nbytes", 0) for name in ("data", "indices")]
    return max([part for part in parts if isinstance(part, int)], default=0)


class Place:
    """Stands for an argument that lies in the object store."""

    __slots__ = ("ref",)

    def __init__(self, ref: Any) -> None:
        self.ref = ref

    def __reduce__(self) -> tuple[Any, ...]:
        return Place, (self.ref,)


class Batch:
    """Runs in the pool's process: puts the arguments back and calls what joblib made."""

    def __init__(self, calls: Any, writable: bool) -> None:
        self._calls = calls
        self._writable = writable

    def __call__(self) -> Any:
        """The results of the calls."""
        read: dict[Any, Any] = {}

        def whole(value: Any) -> Any:
            if isinstance(value, Place):
                if value.ref not in read:
                    read[value.ref] = minray.get(value.ref)
                value = read[value.ref]
            if self._writable and isinstance(value, np.ndarray) and not value.flags.writeable:
                return value.copy()
            return value

        calls = self._calls
        calls.items = [
            (function, [whole(one) for one in args], {k: whole(v) for k, v in kwargs.items()})
            for function, args, kwargs in calls.items
        ]
        return calls()


# ------------------------------------------------------------------ pools that wait for the next Parallel
_idle: dict[tuple[Any, ...], tuple[Pool, threading.Timer]] = {}
_idle_lock = threading.Lock()


def take_pool(processes: int, options: dict[str, Any]) -> tuple[Pool, tuple[Any, ...]]:
    """A pool for one `Parallel` alone: one that waits, or a new one. Returns it with its key for `keep_pool`."""
    if not minray.is_initialized():
        return Pool(processes, ray_remote_args=options), (_cluster(), processes, repr(options))
    key = (_cluster(), processes, repr(options))
    with _idle_lock:
        waiting = _idle.pop(key, None)
    _end_idle()  # those of other sizes or of an earlier cluster: nobody seems to want them any more
    if waiting is None:
        return Pool(processes, ray_remote_args=options), key
    pool, timer = waiting
    timer.cancel()
    return pool, key


def keep_pool(pool: Pool, key: tuple[Any, ...]) -> None:
    """Have `pool` wait for the next `Parallel`."""
    timer = threading.Timer(IDLE_S_MAX, _end_idle)
    timer.daemon = True
    with _idle_lock:
        surplus = _idle.get(key) is not None or not minray.is_initialized()
        if not surplus:
            _idle[key] = pool, timer
            timer.start()
    if surplus:
        pool.terminate()


def _end_idle() -> None:
    with _idle_lock:
        ended = list(_idle.values())
        _idle.clear()
    for pool, timer in ended:
        timer.cancel()
        pool.terminate()


def _cluster() -> str:
    return minray.get_runtime_context().get_node_id()
