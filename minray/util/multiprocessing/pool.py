"""How does `multiprocessing.Pool` look on a cluster?

The interface is the standard library's (docs.python.org, multiprocessing.pool), with the two arguments that
Ray's Pool adds. Every method cuts its calls into chunks and hands them to the pool's dispatcher (dispatch.py),
which gives each to an idle process; what it returns are the results of results.py.

Differences to the standard library, all but the last Ray's too: functions may be lambdas, closures and
anything from a notebook; large arrays reach workers without a copy and are read-only there; more processes
than the cluster has CPUs are refused; a process that dies fails its chunk instead of hanging its caller.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self

import minray
from minray.base.config import read_environment
from minray.util.multiprocessing.dispatch import RUN, Chunk, Dispatcher
from minray.util.multiprocessing.results import AsyncResult, Callback, IMapIterator, MapResult
from minray.util.multiprocessing.worker import APPLY, MAP, RAISE, STARMAP

logger = logging.getLogger(__name__)
CHUNKS_PER_PROCESS = 4  # of a map, unless told: as in the standard library
CHUNKS_AHEAD = 2  # per process, of the input of imap


class Pool:
    """A pool of processes that calls are spread over.

    Args:
        processes: how many; by default the cluster's CPUs.
        initializer: called as `initializer(*initargs)` in each process when it starts.
        initargs: its arguments.
        maxtasksperchild: a process is replaced by a fresh one after so many chunks.
        context: of the standard library's Pool; has no meaning here, and a warning says so.
        ray_address: for `init`, if nothing is initialized.
        ray_remote_args: options of the actors that the processes are: num_cpus, resources, runtime_env, ...

    Raises: ValueError for more processes than the cluster has CPUs; ActorDiedError when `initializer` fails.
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] | None = None,
        maxtasksperchild: int | None = None,
        context: Any = None,
        ray_address: str | None = None,
        ray_remote_args: dict[str, Any] | None = None,
    ) -> None:
        self._dispatcher: Dispatcher | None = None
        if processes is not None and processes < 1:
            raise ValueError("Processes in the pool must be >0: the number of processes must be at least 1")
        if maxtasksperchild is not None and (not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if context is not None:
            logger.warning(
                "The 'context' argument of Pool has no meaning here: processes are actors of the cluster."
            )
        self._size = _cluster_for(processes, ray_address)
        self._dispatcher = Dispatcher(
            self._size, initializer, tuple(initargs or ()), maxtasksperchild, ray_remote_args or {}
        )

    # ------------------------------------------------------------- one call
    def apply(
        self, func: Callable[..., Any], args: Iterable[Any] = (), kwds: Mapping[str, Any] | None = None
    ) -> Any:
        """`func(*args, **kwds)` in one of the processes. Raises: what it raises."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] | None = (),
        kwds: Mapping[str, Any] | None = None,
        callback: Callback | None = None,
        error_callback: Callback | None = None,
    ) -> AsyncResult:
        """`apply` that returns at once. `callback(value)` or `error_callback(exception)` runs in a thread."""
        dispatcher = self._running()
        result = AsyncResult(self, func, callback, error_callback)
        dispatcher.submit([Chunk(result, 0, APPLY, (tuple(args or ()), dict(kwds or {})))])
        return result

    # ------------------------------------------------------------- many calls
    def map(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """`[func(x) for x in iterable]`, spread over the processes. Raises: the first exception."""
        return self._map(MAP, func, iterable, chunksize).get()  # type: ignore[no-any-return]

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callback | None = None,
        error_callback: Callback | None = None,
    ) -> AsyncResult:
        """`map` that returns at once. `callback(list)` or `error_callback(exception)` runs in a thread."""
        return self._map(MAP, func, iterable, chunksize, callback, error_callback)

    def starmap(
        self, func: Callable[..., Any], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[Any]:
        """`[func(*x) for x in iterable]`, spread over the processes. Raises: the first exception."""
        return self._map(STARMAP, func, iterable, chunksize).get()  # type: ignore[no-any-return]

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callback | None = None,
        error_callback: Callback | None = None,
    ) -> AsyncResult:
        """`starmap` that returns at once, with callbacks as those of `map_async`."""
        return self._map(STARMAP, func, iterable, chunksize, callback, error_callback)

    def imap(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1) -> IMapIterator:
        """An iterator of the results, in order. The input is read only a little ahead of the processes."""
        return self._imap(func, iterable, chunksize, ordered=True)

    def imap_unordered(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1
    ) -> IMapIterator:
        """An iterator of the results, as they come."""
        return self._imap(func, iterable, chunksize, ordered=False)

    def _map(
        self,
        how: str,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None,
        callback: Callback | None = None,
        error_callback: Callback | None = None,
    ) -> MapResult:
        dispatcher = self._running()
        items = list(iterable)
        if chunksize is None:
            chunksize = -(-len(items) // (self._size * CHUNKS_PER_PROCESS))
        elif chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize}")
        parts = [items[i : i + chunksize] for i in range(0, len(items), chunksize)] if items else []
        result = MapResult(self, func, len(parts), callback, error_callback)
        if parts:
            dispatcher.submit([Chunk(result, index, how, part) for index, part in enumerate(parts)])
        return result

    def _imap(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int, ordered: bool
    ) -> IMapIterator:
        dispatcher = self._running()
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize}")
        result = IMapIterator(self, func, ordered, CHUNKS_AHEAD * self._size)
        dispatcher.submit_stream(result, _chunks(result, iter(iterable), chunksize))
        return result

    # ------------------------------------------------------------- the end
    def close(self) -> None:
        """Take no more calls; the processes end when all that were made are done."""
        if self._dispatcher is not None:
            self._dispatcher.close()

    def terminate(self) -> None:
        """End the processes now. Calls that are not done fail."""
        if self._dispatcher is not None:
            self._dispatcher.terminate()
            self._dispatcher.join()

    def join(self) -> None:
        """Wait for the processes to end. Raises: ValueError before `close` or `terminate`."""
        assert self._dispatcher is not None
        if self._dispatcher.state == RUN:
            raise ValueError("Pool is still running")
        self._dispatcher.join()

    def _running(self) -> Dispatcher:
        if self._dispatcher is None or self._dispatcher.state != RUN:
            raise ValueError("Pool not running")
        if not minray.is_initialized():
            raise ValueError("Pool not running: its cluster was shut down")
        return self._dispatcher

    def __enter__(self) -> Self:
        self._running()
        return self

    def __exit__(self, *_: object) -> None:
        self.terminate()

    def __del__(self) -> None:
        if self._dispatcher is not None:
            self._dispatcher.terminate()  # no join: the collector of garbage may run anywhere

    def __repr__(self) -> str:
        state = "not started" if self._dispatcher is None else self._dispatcher.state
        return f"<{type(self).__module__}.{type(self).__qualname__} state={state} pool_size={self._size}>"

    def __reduce__(self) -> Any:
        raise RuntimeError("pool objects cannot be passed between processes or pickled")


def _cluster_for(processes: int | None, address: str | None) -> int:
    """Make sure that a cluster runs. Returns how many processes the pool has."""
    if not minray.is_initialized():
        joins = (address or read_environment().address) not in (None, "local")
        minray.init(address, num_cpus=None if joins else processes)
    cpus = int(minray.cluster_resources().get("CPU", 0))
    wanted = cpus if processes is None else processes
    if wanted < 1:
        raise ValueError("Processes in the pool must be >0: this cluster has no CPU, say how many")
    if wanted > cpus:
        raise ValueError(
            f"Tried to start a pool with {wanted} processes on an existing ray cluster, but there are only {cpus} "
            f"CPUs in the ray cluster; Pool() takes as many as there are, init(num_cpus={wanted}) declares more."
        )
    return wanted


def _chunks(job: IMapIterator, items: Iterator[Any], size: int) -> Iterator[Chunk]:
    """Chunks of `size` items. An input that raises ends with that exception as its last result."""
    for index in itertools.count():
        part: list[Any] = []
        error: Exception | None = None
        try:
            for one in itertools.islice(items, size):
                part.append(one)  # noqa: PERF402 - what came before an exception counts
        except Exception as raised:
            error = raised
        if part:
            yield Chunk(job, index, MAP, part)
        if error is not None:
            yield Chunk(job, index + bool(part), RAISE, error)
        if error is not None or len(part) < size:
            return
