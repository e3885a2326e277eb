"""What does one runtime achieve, line by line? A program: prints one JSON object per measured line.

    python workload.py --runtime minray|ray|concurrent.futures|multiprocessing|joblib|dask

It is run by path, in the runtime's own environment, and must import nothing but the standard library
and that runtime. What a line means follows `ray microbenchmark` (ray/_private/ray_perf.py, Ray 2.60),
so that figures compare; where Ray's own line degenerates on two cores (its n is half the cores) n is
at least 2. Each line is warmed up for half its time budget, then repeated until the budget is spent.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import mmap
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LARGE_BYTES = 100 << 20
STORE_BYTES = 2 << 30  # of either runtime: small enough that every page is touched before "warm" is measured
SETTLE_S = 0.3  # before a line: the processes of the line before have ended (Ray's own program waits 10 s)
LINE_S_MAX = 90.0  # a line without end is an error of that line, not of the whole run
TOKEN = "MINRAY_BENCH_TOKEN"  # in the environment of every process that a measured runtime starts


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    key: str
    title: str
    unit: str
    higher_is_better: bool = True


LINES = (
    Line("init", "init", "ms", False),
    Line("first_task", "first task", "ms", False),
    Line("idle_pss", "idle memory (PSS), driver excluded", "MB", False),
    Line("idle_cpu", "idle CPU, all processes", "% of a core", False),
    Line("pending_bytes", "a pending task in the driver", "bytes", False),
    Line("tasks_sync", "tasks sync", "/s"),
    Line("tasks_async", "tasks async", "/s"),
    Line("tasks_multi", "multi-client tasks async", "/s"),
    Line("actor_sync", "actor calls 1:1 sync", "/s"),
    Line("actor_async", "actor calls 1:1 async", "/s"),
    Line("actor_args", "actor calls 1:1 async, with arguments", "/s"),
    Line("actor_1n", "actor calls 1:n async", "/s"),
    Line("actor_nn", "actor calls n:n async", "/s"),
    Line("async_actor", "async-actor calls 1:1 async", "/s"),
    Line("stream_items", "items of a generator task, one by one", "/s"),
    Line("stream_actor", "items of an async actor's generator", "/s"),
    Line("get_small", "get small", "/s"),
    Line("put_small", "put small", "/s"),
    Line("put_large", "put 100 MB, warm", "GB/s"),
    Line("put_large_multi", "put 100 MB, warm, multi-client", "GB/s"),
    Line("memcpy", "bare memcpy into mapped pages", "GB/s"),
    Line("wait_1k", "wait on 1k refs, one by one", "/s"),
    Line("get_10k", "get 10k refs", "/s"),
    Line("get_container", "get an object holding 10k refs", "/s"),
    Line("chain_1k", "1,000-deep chain", "/s"),
    Line("fan_10k", "10k fan-out, fan-in", "/s"),
    Line("pool_map", "Pool.map, calls of maps of 10k", "/s"),
    Line("pool_apply", "Pool.apply_async", "/s"),
    Line("actors_created", "actors created (up to 200)", "/s"),
    Line("shutdown", "shutdown", "ms", False),
)
BY_KEY = {line.key: line for line in LINES}


class Stopwatch:
    """Measures lines within a budget, prints what it found, and knows which lines are wanted."""

    def __init__(self, wanted: frozenset[str], budget_s: float) -> None:
        self.wanted = wanted
        self.budget_s = budget_s

    def tell(self, key: str, value: float) -> None:
        """Print one figure."""
        if key in self.wanted:
            print(json.dumps({"key": key, "value": value}), flush=True)

    def attempt(self, key: str, measure: Callable[[], float]) -> None:
        """Print what `measure` returns; a runtime that cannot do one line still does the others."""
        if key not in self.wanted:
            return
        gc.collect()
        time.sleep(SETTLE_S)
        signal.setitimer(signal.ITIMER_REAL, LINE_S_MAX)
        try:
            value = measure()
        except Exception as error:  # told to the reader of the table, the next line is measured anyway
            print(json.dumps({"key": key, "error": f"{type(error).__name__}: {error}"[:300]}), flush=True)
        else:
            self.tell(key, value)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def rate(self, run: Callable[[], object], count: float, warm: bool = True) -> float:
        """How many of `count` per call of `run` a second makes, measured until the budget is spent."""
        start = time.perf_counter()
        while warm:
            run()
            warm = time.perf_counter() - start < self.budget_s / 2
        calls = 0
        start = time.perf_counter()
        while True:
            run()
            calls += 1
            elapsed = time.perf_counter() - start
            if elapsed >= self.budget_s:
                return calls * count / elapsed

    def median_rate(self, run: Callable[[], object], count: float) -> float:
        """As `rate`, by the median call: Ray's store now and then hands out cold pages, ten times slower."""
        times: list[float] = []
        while sum(times) < self.budget_s or len(times) < 5:
            times.append(milliseconds(run) / 1e3)
        return count / statistics.median(times)


def give_up(*_: object) -> None:
    """Handle SIGALRM."""
    raise TimeoutError(f"no end after {LINE_S_MAX:.0f} s")


def milliseconds(run: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3


# ------------------------------------------------------------------------- memory and processor time
def session_processes() -> list[int]:
    """Every process that carries our token, this one excluded, however it detached itself."""
    token = os.environ.get(TOKEN, "")
    mine = f"{TOKEN}={token}".encode()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                if token and mine in file.read():
                    found.append(int(name))
        except OSError:
            continue
    return found


def pss_megabytes(pids: list[int]) -> float:
    """Proportional set size: shared pages count once in total."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                total += sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
        except OSError:
            continue
    return total / 1024


def processor_ns(pids: list[int]) -> int:
    """Time on a processor of every thread; schedstat counts nanoseconds where stat counts 10 ms ticks."""
    total = 0
    for pid in pids:
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/schedstat") as file:
                    total += int(file.read().split()[0])
        except OSError:
            continue
    return total


def measure_idle(watch: Stopwatch, seconds: float) -> None:
    """What the runtime costs while nothing runs."""
    if not watch.wanted & {"idle_pss", "idle_cpu"}:
        return
    time.sleep(1.0)  # start-up work has ended
    pids = session_processes()
    watch.tell("idle_pss", pss_megabytes(pids))
    everyone = [*pids, os.getpid()]
    before = processor_ns(everyone)
    time.sleep(seconds)
    watch.tell("idle_cpu", (processor_ns(everyone) - before) / seconds / 1e7)


def anonymous_bytes() -> int:
    """Private memory of this process."""
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0


# ------------------------------------------------------------------------------- minray and real Ray
def large_array() -> Any:
    """100 MB that the store cannot guess: numpy where it is, else a bytes object."""
    try:
        numpy = importlib.import_module("numpy")
    except ImportError:
        return b"\x01" * LARGE_BYTES
    return numpy.ones(LARGE_BYTES, dtype=numpy.uint8)


def memcpy_rate(watch: Stopwatch) -> float:
    """The limit of a put: copy 100 MB into pages that are shared, mapped and touched."""
    source = memoryview(large_array())
    target = mmap.mmap(-1, LARGE_BYTES)
    view = memoryview(target)

    def copy() -> None:
        view[:] = source

    copy()
    rate = watch.median_rate(copy, LARGE_BYTES / 1e9)
    view.release()
    target.close()
    return rate


def create(actor_class: Any, *arguments: Any) -> Any:
    """Start an actor; the decorated class is no plain class any more, which a type checker cannot see."""
    return actor_class.remote(*arguments)


def start_ray_like(ray: Any, name: str, num_cpus: int) -> None:
    """One node. Real Ray without its dashboard: minray has none yet, and the ratio stays on the safe side."""
    if name == "ray":
        quiet = {"include_dashboard": False, "logging_level": "ERROR", "log_to_driver": False}
        ray.init(num_cpus=num_cpus, object_store_memory=STORE_BYTES, **quiet)
    else:
        ray.init(num_cpus=num_cpus, object_store_memory=STORE_BYTES)


def measure_ray_like(name: str, watch: Stopwatch, num_cpus: int, idle_s: float) -> None:
    """Every line, on a module with Ray's API."""
    ray = importlib.import_module(name)
    watch.tell("init", milliseconds(lambda: start_ray_like(ray, name, num_cpus)))

    @ray.remote
    def small_value() -> bytes:
        return b"ok"

    watch.tell("first_task", milliseconds(lambda: ray.get(small_value.remote())))
    ray.get([small_value.remote() for _ in range(100)])
    measure_idle(watch, idle_s)
    watch.attempt("pending_bytes", lambda: _pending_bytes(ray, num_cpus))
    _measure_tasks(ray, watch, small_value)
    _measure_actors(ray, watch)
    _measure_generators(ray, watch)
    _measure_objects(ray, watch, small_value, num_cpus)
    _measure_graphs(ray, watch, small_value)
    _measure_pool(name, watch, num_cpus)
    watch.attempt("actors_created", lambda: _actors_created(ray))
    watch.tell("shutdown", milliseconds(ray.shutdown))


def _pending_bytes(ray: Any, num_cpus: int) -> float:
    """Fill the CPUs, submit thousands of tasks that must wait, and see what the driver grew by."""

    @ray.remote
    def block(path: str) -> None:
        while not os.path.exists(path):
            time.sleep(0.005)

    @ray.remote
    def waiting(i: int) -> int:
        return i

    seconds = milliseconds(lambda: ray.get([waiting.remote(i) for i in range(2000)])) / 1e3
    count = 20_000 if seconds < 0.2 else 4_000  # a slow runtime must also drain them
    path = f"/tmp/minray-bench-{os.getpid()}"
    blockers = [block.remote(path) for _ in range(num_cpus)]
    time.sleep(0.2)
    gc.collect()
    before = anonymous_bytes()
    refs = [waiting.remote(i) for i in range(count)]
    time.sleep(0.05)
    grown = anonymous_bytes() - before
    with open(path, "w"):
        pass
    ray.get(blockers)
    ray.get(refs)
    os.unlink(path)
    return grown / count


def _adapted(run: Callable[[int], object], few: int, many: int) -> int:
    """Ray's batch where the runtime is fast, a smaller one where that would take half a minute."""
    return many if milliseconds(lambda: run(few)) < 100 else few


def _measure_tasks(ray: Any, watch: Stopwatch, small_value: Any) -> None:
    def sync() -> None:
        for _ in range(100):
            ray.get(small_value.remote())

    def burst() -> None:
        ray.get([small_value.remote() for _ in range(1000)])

    @ray.remote(num_cpus=0)
    class Client:
        def burst(self, n: int) -> None:
            ray.get([small_value.remote() for _ in range(n)])

    watch.attempt("tasks_sync", lambda: watch.rate(sync, 100))
    watch.attempt("tasks_async", lambda: watch.rate(burst, 1000))

    def multi() -> float:
        clients = [create(Client) for _ in range(4)]

        def run(n: int) -> None:
            ray.get([c.burst.remote(n) for c in clients])

        run(10)
        n = _adapted(run, 500, 10_000)
        return watch.rate(lambda: run(n), n * len(clients))

    watch.attempt("tasks_multi", multi)


def _measure_generators(ray: Any, watch: Stopwatch) -> None:
    @ray.remote(num_cpus=0)
    def count(n: int) -> Any:
        for item in range(n):  # noqa: UP028  (Ray sends into the generator: `yield from` fails)
            yield item

    @ray.remote(num_cpus=0)
    class Source:
        async def count(self, n: int) -> Any:
            for item in range(n):
                yield item

    def rate(generator: Any) -> float:
        def run(n: int) -> None:
            for ref in generator.remote(n):
                ray.get(ref)

        run(10)
        n = _adapted(run, 500, 20_000)
        return watch.rate(lambda: run(n), n)

    watch.attempt("stream_items", lambda: rate(count))
    watch.attempt("stream_actor", lambda: rate(create(Source).count))


def _measure_actors(ray: Any, watch: Stopwatch) -> None:
    n_actors = max(2, (os.cpu_count() or 2) // 2)

    @ray.remote(num_cpus=0)
    class Actor:
        def small_value(self) -> bytes:
            return b"ok"

        def small_value_arg(self, x: object) -> bytes:
            return b"ok"

    @ray.remote(num_cpus=0)
    class AsyncActor:
        async def small_value(self) -> bytes:
            return b"ok"

    @ray.remote(num_cpus=0)
    class Client:
        def __init__(self, servers: list[Any]) -> None:
            self.servers = servers

        def burst(self, n: int) -> None:
            ray.get([s.small_value.remote() for s in self.servers for _ in range(n)])

    @ray.remote
    def work(actors: list[Any], n: int) -> None:
        ray.get([actors[i % len(actors)].small_value.remote() for i in range(n)])

    def sync() -> float:
        a = create(Actor)

        def run() -> None:
            for _ in range(100):
                ray.get(a.small_value.remote())

        return watch.rate(run, 100)

    def one_to_one(kind: Any) -> float:
        a = kind.remote()
        return watch.rate(lambda: ray.get([a.small_value.remote() for _ in range(1000)]), 1000)

    def arguments() -> float:
        a = create(Actor)
        return watch.rate(lambda: ray.get([a.small_value_arg.remote(i) for i in range(1000)]), 1000)

    def one_to_n() -> float:
        client = create(Client, [create(Actor) for _ in range(n_actors)])

        def run(n: int) -> None:
            ray.get(client.burst.remote(n))

        run(10)
        n = _adapted(run, 500, 5000)
        return watch.rate(lambda: run(n), n * n_actors)

    def n_to_n() -> float:
        actors = [create(Actor) for _ in range(n_actors)]

        def run(n: int) -> None:
            ray.get([work.remote(actors, n) for _ in range(4)])

        run(10)
        n = _adapted(run, 500, 5000)
        return watch.rate(lambda: run(n), n * 4)

    watch.attempt("actor_sync", sync)
    watch.attempt("actor_async", lambda: one_to_one(Actor))
    watch.attempt("actor_args", arguments)
    watch.attempt("actor_1n", one_to_n)
    watch.attempt("actor_nn", n_to_n)
    watch.attempt("async_actor", lambda: one_to_one(AsyncActor))


def _measure_objects(ray: Any, watch: Stopwatch, small_value: Any, num_cpus: int) -> None:
    def get_small() -> float:
        value = ray.put(0)

        def run() -> None:
            for _ in range(100):
                ray.get(value)

        return watch.rate(run, 100)

    def put_small() -> float:
        def run() -> None:
            for _ in range(100):
                ray.put(0)

        return watch.rate(run, 100)

    def put_large() -> float:
        array = large_array()

        def run() -> None:
            ray.put(array)  # the ref is dropped: the next put reuses the pages

        for _ in range(STORE_BYTES // LARGE_BYTES + 4):  # Ray frees late, so it walks through its whole store
            run()
        return watch.median_rate(run, LARGE_BYTES / 1e9)

    def put_large_multi() -> float:
        @ray.remote
        class Putter:
            def __init__(self) -> None:
                self.array = large_array()

            def put(self, n: int) -> None:
                for _ in range(n):
                    ray.put(self.array)

        putters = [create(Putter) for _ in range(num_cpus)]

        def run() -> None:
            ray.get([p.put.remote(4) for p in putters])

        for _ in range(STORE_BYTES // LARGE_BYTES // 4 // num_cpus + 2):
            run()
        rate = watch.median_rate(run, 4 * num_cpus * LARGE_BYTES / 1e9)
        for putter in putters:
            ray.kill(putter)  # they hold every CPU, and the next lines need some
        return rate

    def get_10k() -> float:
        refs = [ray.put(i) for i in range(10_000)]
        return watch.rate(lambda: ray.get(refs), 1)

    def get_container() -> float:
        @ray.remote
        def create() -> list[Any]:
            return [ray.put(1) for _ in range(10_000)]

        box = create.remote()
        return watch.rate(lambda: ray.get(box), 1)

    watch.attempt("get_small", get_small)
    watch.attempt("put_small", put_small)
    watch.attempt("put_large", put_large)
    watch.attempt("memcpy", lambda: memcpy_rate(watch))
    watch.attempt("put_large_multi", put_large_multi)
    watch.attempt("get_10k", get_10k)
    watch.attempt("get_container", get_container)


def _measure_graphs(ray: Any, watch: Stopwatch, small_value: Any) -> None:
    @ray.remote
    def increment(x: int) -> int:
        return x + 1

    @ray.remote
    def count(*values: object) -> int:
        return len(values)

    def wait_1k() -> None:
        pending = [small_value.remote() for _ in range(1000)]
        fetch_local = True  # asked for once: Ray's node keeps fetching after `wait` returned
        while pending:
            _, pending = ray.wait(pending, fetch_local=fetch_local)
            fetch_local = False

    def chain() -> None:
        ref = ray.put(0)
        for _ in range(1000):
            ref = increment.remote(ref)
        assert ray.get(ref) == 1000

    def fan() -> None:
        assert ray.get(count.remote(*[small_value.remote() for _ in range(10_000)])) == 10_000

    watch.attempt("wait_1k", lambda: watch.rate(wait_1k, 1))
    watch.attempt("chain_1k", lambda: watch.rate(chain, 1))
    watch.attempt("fan_10k", lambda: watch.rate(fan, 1, warm=False))


def _measure_pool(name: str, watch: Stopwatch, num_cpus: int) -> None:
    """The runtime's `multiprocessing.Pool`, beside the standard library's own."""
    if not watch.wanted & {"pool_map", "pool_apply"}:
        return
    pool = importlib.import_module(f"{name}.util.multiprocessing").Pool(num_cpus)
    _measure_pool_calls(pool, watch)
    pool.terminate()
    pool.join()


def _measure_pool_calls(pool: Any, watch: Stopwatch) -> None:
    def apply() -> None:
        for result in [pool.apply_async(noop, (i,)) for i in range(1000)]:
            result.get()

    watch.attempt("pool_map", lambda: watch.rate(lambda: pool.map(noop, range(10_000)), 10_000))
    watch.attempt("pool_apply", lambda: watch.rate(apply, 1000))


def _actors_created(ray: Any) -> float:
    """Create, call each once, keep all alive: 200, or 20 where ten alone take over two seconds."""

    @ray.remote(num_cpus=0)
    class Actor:
        def ping(self) -> None:
            return None

    actors: list[Any] = []

    def create_many(n: int) -> None:
        fresh = [create(Actor) for _ in range(n)]
        ray.get([a.ping.remote() for a in fresh])
        actors.extend(fresh)

    start = time.perf_counter()
    create_many(10)
    create_many(190 if time.perf_counter() - start < 2 else 10)
    return len(actors) / (time.perf_counter() - start)


# -------------------------------------------------------------------------------------- process pools
def noop(x: object = None) -> bytes:
    """The task of the pools."""
    return b"ok"


@dataclass
class Pool:
    """The three verbs that every pool has."""

    one: Callable[[], object]
    many: Callable[[int], object]
    stop: Callable[[], object]
    standard: Any = None  # the pool itself, where it has the standard library's interface


def _futures_pool(num_cpus: int) -> Pool:
    from concurrent.futures import ProcessPoolExecutor

    pool = ProcessPoolExecutor(num_cpus)
    return Pool(
        one=lambda: pool.submit(noop, 1).result(),
        many=lambda n: [f.result() for f in [pool.submit(noop, i) for i in range(n)]],
        stop=pool.shutdown,
    )


def _multiprocessing_pool(num_cpus: int) -> Pool:
    import multiprocessing

    pool = multiprocessing.Pool(num_cpus)

    def stop() -> None:
        pool.close()
        pool.join()

    return Pool(
        one=lambda: pool.apply(noop, (1,)),
        many=lambda n: [r.get() for r in [pool.apply_async(noop, (i,)) for i in range(n)]],
        stop=stop,
        standard=pool,
    )


def _joblib_pool(num_cpus: int) -> Pool:
    joblib = importlib.import_module("joblib")
    parallel = joblib.Parallel(n_jobs=num_cpus)
    parallel.__enter__()
    call = joblib.delayed(noop)

    def stop() -> None:
        parallel.__exit__(None, None, None)
        importlib.import_module("joblib.externals.loky").get_reusable_executor().shutdown(wait=True)

    return Pool(
        one=lambda: parallel([call(1)]), many=lambda n: parallel(call(i) for i in range(n)), stop=stop
    )


def _dask_pool(num_cpus: int) -> Pool:
    distributed = importlib.import_module("distributed")
    client = distributed.Client(
        n_workers=num_cpus, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    )

    def stop() -> None:
        cluster = client.cluster
        client.close()
        cluster.close()

    return Pool(
        one=lambda: client.submit(noop, 1, pure=False).result(),
        many=lambda n: client.gather([client.submit(noop, i, pure=False) for i in range(n)]),
        stop=stop,
    )


POOLS: dict[str, Callable[[int], Pool]] = {
    "concurrent.futures": _futures_pool,
    "multiprocessing": _multiprocessing_pool,
    "joblib": _joblib_pool,
    "dask": _dask_pool,
}
POOL_KEYS = frozenset(
    [
        "init",
        "first_task",
        "idle_pss",
        "idle_cpu",
        "tasks_sync",
        "tasks_async",
        "fan_10k",
        "pool_map",
        "pool_apply",
        "shutdown",
    ]
)
RUNTIMES = ("minray", "ray", *POOLS)


def measure_pool(name: str, watch: Stopwatch, num_cpus: int, idle_s: float) -> None:
    """The lines that a pool has: no actors, no objects, no graph."""
    made: list[Pool] = []
    watch.tell("init", milliseconds(lambda: made.append(POOLS[name](num_cpus))))
    (pool,) = made
    watch.tell("first_task", milliseconds(pool.one))
    pool.many(20)
    measure_idle(watch, idle_s)

    def sync() -> None:
        for _ in range(20):
            pool.one()

    watch.attempt("tasks_sync", lambda: watch.rate(sync, 20))
    watch.attempt("tasks_async", lambda: watch.rate(lambda: pool.many(1000), 1000))
    watch.attempt("fan_10k", lambda: watch.rate(lambda: pool.many(10_000), 1, warm=False))
    if pool.standard is not None:
        _measure_pool_calls(pool.standard, watch)
    watch.tell("shutdown", milliseconds(pool.stop))


def version_of(name: str) -> str:
    """The runtime's version, for the table's foot."""
    if name in ("concurrent.futures", "multiprocessing"):
        return sys.version.split()[0]
    return str(getattr(importlib.import_module(name), "__version__", "?"))


def main() -> None:
    """Measure one runtime."""
    # The folder of this file is no place to import from: its neighbours are minray's.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [p for p in sys.path if os.path.abspath(p or ".") != here]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", choices=RUNTIMES, required=True)
    parser.add_argument("--lines", default=",".join(BY_KEY), help="keys, comma separated")
    parser.add_argument("--seconds", type=float, default=0.5, help="time budget of a line")
    parser.add_argument("--num-cpus", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    signal.signal(signal.SIGALRM, give_up)
    os.environ.setdefault(TOKEN, str(os.getpid()))
    watch = Stopwatch(frozenset(args.lines.split(",")), args.seconds)
    print(
        json.dumps(
            {"runtime": args.runtime, "version": version_of(args.runtime), "python": sys.version.split()[0]}
        )
    )
    idle_s = max(1.0, 4 * args.seconds)
    if args.runtime in POOLS:
        measure_pool(args.runtime, watch, args.num_cpus, idle_s)
    else:
        measure_ray_like(args.runtime, watch, args.num_cpus, idle_s)


if __name__ == "__main__":
    main()
