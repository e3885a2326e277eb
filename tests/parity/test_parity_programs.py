"""Do whole programs in the style of Ray's tutorials give the same answers: patterns, pipelines, whole small systems?"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import dataclasses
import functools
import importlib
import math
import os
import queue
import random
import subprocess
import threading
import time
import typing
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import pytest

ray: Any = importlib.import_module(os.environ.get("MINRAY_PARITY_ENGINE", "minray"))

pytestmark = pytest.mark.usefixtures("cluster")


# ------------------------------------------------------------------ patterns of tasks
def test_at_most_a_few_tasks_are_pending_at_a_time() -> None:
    @ray.remote
    def square(n: int) -> int:
        return n * n

    pending: list[Any] = []
    found = []
    for n in range(60):
        if len(pending) > 5:
            ready, pending = ray.wait(pending, num_returns=1)
            found += ray.get(ready)
        pending.append(square.remote(n))
    assert sorted(found + ray.get(pending)) == [n * n for n in range(60)]


def test_results_are_taken_in_the_order_in_which_they_finish() -> None:
    @ray.remote(num_cpus=0.5)
    def nap(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    ray.get([nap.remote(0.0) for _ in range(3)])  # three workers are there
    refs = [nap.remote(seconds) for seconds in (1.0, 0.05, 0.5)]
    order = []
    while refs:
        (first,), refs = ray.wait(refs)
        order.append(ray.get(first))
    assert order == [0.05, 0.5, 1.0]


def test_words_are_counted_by_map_and_reduce() -> None:
    @ray.remote
    def count(text: str, parts: int) -> list[Any]:
        counts: list[Any] = [collections.Counter() for _ in range(parts)]
        for word in text.split():
            counts[ord(word[0]) % parts][word] += 1
        return counts

    @ray.remote
    def merge(*counts: Any) -> Any:
        return functools.reduce(lambda a, b: a + b, counts)

    texts = ["a b c a", "b c d", "a d d e"]
    mapped = [count.options(num_returns=2).remote(text, 2) for text in texts]
    merged = ray.get([merge.remote(*[row[part] for row in mapped]) for part in range(2)])
    assert merged[0] + merged[1] == collections.Counter(" ".join(texts).split())


def test_a_list_is_sorted_by_recursive_tasks() -> None:
    @ray.remote
    def quick(numbers: list[int]) -> list[int]:
        if len(numbers) < 200:
            return sorted(numbers)
        pivot = numbers[len(numbers) // 2]
        low = quick.remote([n for n in numbers if n < pivot])
        high = quick.remote([n for n in numbers if n > pivot])
        return ray.get(low) + [n for n in numbers if n == pivot] + ray.get(high)  # type: ignore[no-any-return]

    numbers = [random.randrange(10**6) for _ in range(1200)]
    assert ray.get(quick.remote(numbers)) == sorted(numbers)


def test_a_crawler_visits_each_page_once() -> None:
    site = {n: [(n * 3 + k) % 20 for k in range(4)] for n in range(20)}

    @ray.remote
    class Seen:
        def __init__(self) -> None:
            self.pages: set[int] = set()

        def add(self, page: int) -> bool:
            known = page in self.pages
            self.pages.add(page)
            return not known

        def count(self) -> int:
            return len(self.pages)

    @ray.remote
    def crawl(page: int, seen: Any, links: dict[int, list[int]]) -> list[int]:
        if not ray.get(seen.add.remote(page)):
            return []
        return [
            page,
            *(p for part in ray.get([crawl.remote(n, seen, links) for n in links[page]]) for p in part),
        ]

    seen = Seen.remote()
    visited = ray.get(crawl.remote(0, seen, ray.put(site)))
    assert len(visited) == len(set(visited)) == ray.get(seen.count.remote())


def test_a_tree_of_sums_is_reduced_pair_by_pair() -> None:
    @ray.remote
    def add(a: int, b: int) -> int:
        return a + b

    values = [ray.put(n) for n in range(32)]
    while len(values) > 1:
        values = [*values[2:], add.remote(values[0], values[1])]
    assert ray.get(values[0]) == sum(range(32))


def test_thousands_of_references_are_read_at_once() -> None:
    @ray.remote
    def same(n: int) -> int:
        return n

    refs = [same.remote(n) for n in range(3000)]
    assert ray.get(refs) == list(range(3000))

    @ray.remote
    def total(*values: int) -> int:
        return sum(values)

    @ray.remote
    def total_of_refs(refs: list[Any]) -> int:
        return sum(ray.get(refs))

    assert ray.get(total.remote(*refs[:500])) == ray.get(total_of_refs.remote(refs[:500])) == sum(range(500))


def test_a_chain_of_hundreds_of_tasks_ends() -> None:
    @ray.remote
    def step(n: int) -> int:
        return n + 1

    ref = ray.put(0)
    for _ in range(300):
        ref = step.remote(ref)
    assert ray.get(ref) == 300


def test_a_task_returns_references_that_it_made() -> None:
    @ray.remote
    def shards(count: int) -> list[Any]:
        return [ray.put([n] * 1000) for n in range(count)]

    @ray.remote
    def one() -> Any:
        return ray.put("inner")

    assert [shard[0] for shard in ray.get(ray.get(shards.remote(4)))] == [0, 1, 2, 3]
    assert ray.get(ray.get(one.remote())) == "inner"


def test_workers_draw_different_random_numbers() -> None:
    np = pytest.importorskip("numpy")

    @ray.remote(num_cpus=0.2)
    class Drawer:
        def draw(self) -> tuple[float, float]:
            return random.random(), float(np.random.rand())

    drawn = ray.get([Drawer.remote().draw.remote() for _ in range(4)])
    assert len({a for a, _ in drawn}) == len({b for _, b in drawn}) == 4


def test_tasks_run_commands_and_see_the_folder_and_the_environment_of_the_program(tmp_path: Path) -> None:
    @ray.remote
    def look() -> tuple[str, str, int, bool]:
        said = subprocess.run(["echo", "hello"], capture_output=True, text=True, check=True).stdout.strip()
        return os.getcwd(), said, os.system("exit 3") >> 8, "PATH" in os.environ

    assert ray.get(look.remote()) == (os.getcwd(), "hello", 3, True)

    @ray.remote
    def write(text: str) -> None:
        (tmp_path / "file").write_text(text)

    ray.get(write.remote("from a task"))
    assert (tmp_path / "file").read_text() == "from a task"


def test_a_single_task_or_actor_has_variables_of_its_own() -> None:
    @ray.remote
    def look() -> str | None:
        return os.environ.get("PARITY_VARIABLE")

    @ray.remote
    class Looker:
        def look(self) -> str | None:
            return os.environ.get("PARITY_VARIABLE")

    chosen = {"runtime_env": {"env_vars": {"PARITY_VARIABLE": "chosen"}}}
    assert ray.get(look.options(**chosen).remote()) == "chosen"
    assert ray.get(look.remote()) is None
    assert ray.get(Looker.options(**chosen).remote().look.remote()) == "chosen"
    assert ray.get(Looker.remote().look.remote()) is None


def test_a_worker_starts_with_one_numeric_thread() -> None:
    @ray.remote(num_cpus=1)
    def threads() -> str | None:
        return os.environ.get("OMP_NUM_THREADS")

    assert ray.get(threads.remote()) == os.environ.get("OMP_NUM_THREADS", "1")


def test_a_change_of_a_global_in_a_worker_is_not_seen_by_the_program() -> None:
    settings = {"value": 1}

    @ray.remote
    class Holder:
        def change(self) -> int:
            settings["value"] += 1
            return settings["value"]

    holder = Holder.remote()
    assert ray.get([holder.change.remote(), holder.change.remote()]) == [2, 3]
    assert settings == {"value": 1}


# ------------------------------------------------------------------ patterns of actors
def test_supervisors_own_workers_and_hand_out_their_handles() -> None:
    @ray.remote(num_cpus=0.1)
    class Worker:
        def __init__(self, factor: int) -> None:
            self.factor = factor

        def times(self, n: int) -> int:
            return self.factor * n

    @ray.remote(num_cpus=0.1)
    class Supervisor:
        def __init__(self, count: int) -> None:
            self.workers = [Worker.remote(n) for n in range(count)]

        def times(self, n: int) -> list[int]:
            return ray.get([worker.times.remote(n) for worker in self.workers])  # type: ignore[no-any-return]

        def children(self) -> list[Any]:
            return self.workers

    supervisor = Supervisor.remote(3)
    assert ray.get(supervisor.times.remote(5)) == [0, 5, 10]
    assert ray.get(ray.get(supervisor.children.remote())[2].times.remote(7)) == 14


def test_progress_of_a_simulation_is_asked_while_it_runs() -> None:
    @ray.remote
    class Progress:
        def __init__(self, total: int) -> None:
            self.total = total
            self.done: dict[int, int] = {}

        def report(self, who: int, count: int) -> None:
            self.done[who] = count

        def fraction(self) -> float:
            return sum(self.done.values()) / self.total

    @ray.remote
    def sample(count: int, who: int, progress: Any) -> int:
        inside = 0
        for n in range(count):
            inside += math.hypot(random.random(), random.random()) <= 1
            if (n + 1) % 1000 == 0:
                progress.report.remote(who, n + 1)
        return inside

    progress = Progress.remote(4 * 3000)
    refs = [sample.remote(3000, who, progress) for who in range(4)]
    while ray.get(progress.fraction.remote()) < 1:
        time.sleep(0.01)
    assert 2.9 < 4 * sum(ray.get(refs)) / 12000 < 3.4


def test_tasks_wait_for_a_signal_actor() -> None:
    @ray.remote(num_cpus=0)
    class Signal:
        def __init__(self) -> None:
            self.event = asyncio.Event()
            self.count = 0

        def send(self) -> None:
            self.event.set()

        async def wait(self) -> None:
            self.count += 1
            await self.event.wait()

        async def waiting(self) -> int:
            return self.count

    @ray.remote
    def go(signal: Any) -> str:
        ray.get(signal.wait.remote())
        return "gone"

    signal = Signal.remote()
    refs = [go.remote(signal) for _ in range(3)]
    while ray.get(signal.waiting.remote()) < 3:
        time.sleep(0.01)
    assert ray.wait(refs, timeout=0.05)[0] == []
    ray.get(signal.send.remote())
    assert ray.get(refs) == ["gone"] * 3


def test_a_semaphore_actor_lets_only_so_many_in() -> None:
    @ray.remote(num_cpus=0)
    class Semaphore:
        def __init__(self, value: int) -> None:
            self.inner = asyncio.Semaphore(value)

        async def acquire(self) -> None:
            await self.inner.acquire()

        async def release(self) -> None:
            self.inner.release()

    semaphore = Semaphore.remote(2)
    ray.get([semaphore.acquire.remote() for _ in range(2)])
    third = semaphore.acquire.remote()
    assert ray.wait([third], timeout=0.05)[0] == []
    ray.get(semaphore.release.remote())
    assert ray.get(third) is None


def test_parameters_are_trained_in_step_and_out_of_step() -> None:
    np = pytest.importorskip("numpy")

    @ray.remote
    class Server:
        def __init__(self, size: int) -> None:
            self.weights = np.zeros(size)

        def apply(self, *gradients: Any) -> Any:
            self.weights += np.mean(gradients, axis=0)
            return self.weights

        def get(self) -> Any:
            return self.weights

    @ray.remote
    def gradient(weights: Any, target: Any) -> Any:
        return (target - weights) / 2

    target = ray.put(np.ones(20_000))
    server = Server.remote(20_000)
    weights = server.get.remote()
    for _ in range(5):
        weights = server.apply.remote(*[gradient.remote(weights, target) for _ in range(3)])
    assert float(ray.get(weights).mean()) == 1 - 2**-5

    server = Server.remote(20_000)
    weights = server.get.remote()
    pending = {gradient.remote(weights, target) for _ in range(3)}
    for _ in range(12):
        (first,), _rest = ray.wait(list(pending))
        pending.remove(first)
        weights = server.apply.remote(first)
        pending.add(gradient.remote(weights, target))
    assert 0.5 < ray.get(weights).mean() < 2


def test_a_model_put_once_predicts_in_many_batches() -> None:
    np = pytest.importorskip("numpy")

    @ray.remote
    class Predictor:
        def __init__(self, model: Any) -> None:
            self.model = model

        def predict(self, batch: Any) -> Any:
            return batch @ self.model

    model = ray.put(np.eye(300))
    predictors = [Predictor.options(num_cpus=0.5).remote(model) for _ in range(2)]
    batches = [np.full((4, 300), float(n)) for n in range(6)]
    refs = [predictors[n % 2].predict.remote(batch) for n, batch in enumerate(batches)]
    assert [float(result[0, 0]) for result in ray.get(refs)] == [0, 1, 2, 3, 4, 5]


def test_four_callers_send_a_thousand_calls_each_to_one_actor() -> None:
    @ray.remote
    class Counter:
        def __init__(self) -> None:
            self.value = 0

        def add(self) -> int:
            self.value += 1
            return self.value

    @ray.remote
    def call(counter: Any) -> list[int]:
        return ray.get([counter.add.remote() for _ in range(1000)])  # type: ignore[no-any-return]

    counter = Counter.remote()
    answers = ray.get([call.remote(counter) for _ in range(4)])
    assert all(row == sorted(row) for row in answers)
    assert sorted(n for row in answers for n in row) == list(range(1, 4001))


def test_a_worker_that_dies_is_replaced_by_its_supervisor() -> None:
    @ray.remote
    class Worker:
        def square(self, n: int) -> int:
            if n == 3:
                os._exit(1)
            return n * n

    worker = Worker.remote()
    found: list[Any] = []
    for n in range(6):
        try:
            found.append(ray.get(worker.square.remote(n)))
        except ray.exceptions.RayActorError:
            worker = Worker.remote()
            found.append("replaced")
    assert found == [0, 1, 4, "replaced", 16, 25]


def test_a_checkpointed_actor_goes_on_where_it_died(tmp_path: Path) -> None:
    path = str(tmp_path / "checkpoint")

    @ray.remote(max_restarts=2, max_task_retries=-1)
    class Durable:
        def __init__(self) -> None:
            self.value = int(Path(path).read_text()) if os.path.exists(path) else 0

        def add(self) -> int:
            self.value += 1
            Path(path).write_text(str(self.value))
            if self.value in (3, 6):
                os._exit(1)
            return self.value

    durable = Durable.remote()
    assert [ray.get(durable.add.remote()) for _ in range(5)] == [1, 2, 4, 5, 7]


# ------------------------------------------------------------------ classes of all kinds
def test_abstract_and_generic_bases_and_super_work() -> None:
    T = typing.TypeVar("T")

    class Model(ABC, typing.Generic[T]):
        def __init__(self, value: T) -> None:
            self.value = value

        @abstractmethod
        def run(self) -> T: ...

        def hello(self) -> str:
            return f"{type(self).__name__} {self.value}"

    @ray.remote
    class Doubling(Model[int]):
        def __init__(self, value: int) -> None:
            super().__init__(value)
            self.factor = 2

        @property
        def product(self) -> int:
            return self.value * self.factor

        def run(self) -> int:
            return self.product

    actor = Doubling.remote(4)
    assert ray.get([actor.run.remote(), actor.hello.remote()]) == [8, "Doubling 4"]


def test_a_dataclass_is_an_actor() -> None:
    @ray.remote
    @dataclasses.dataclass
    class Basket:
        name: str
        items: list[int] = dataclasses.field(default_factory=list)

        def add(self, item: int) -> tuple[str, int]:
            self.items.append(item)
            return self.name, sum(self.items)

    basket = Basket.remote("b")
    assert ray.get([basket.add.remote(1), basket.add.remote(2)]) == [("b", 1), ("b", 3)]


def test_methods_of_all_kinds_are_called() -> None:
    def logged(method: Any) -> Any:
        @functools.wraps(method)
        def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
            return "logged", method(self, *args, **kwargs)

        return wrapper

    @ray.remote
    class Kinds:
        made = 0

        @logged
        def decorated(self, a: int, b: int = 1) -> int:
            return a + b

        partial = functools.partialmethod(lambda self, a, b: (a, b), 5)

        @classmethod
        def count(cls) -> int:
            cls.made += 1
            return cls.made

        @staticmethod
        def static(n: int) -> int:
            return n * 2

        @ray.method(num_returns=2)
        def two(self) -> tuple[int, int]:
            return 1, 2

        def keywords(self, *args: int, last: int, **others: int) -> Any:
            return args, last, others

    actor = Kinds.remote()
    assert ray.get(actor.decorated.remote(1)) == ("logged", 2)
    assert ray.get(actor.partial.remote(6)) == (5, 6)
    assert ray.get([actor.count.remote(), actor.count.remote(), actor.static.remote(4)]) == [1, 2, 8]
    first, second = actor.two.remote()
    assert ray.get([second, first]) == [2, 1]
    assert ray.get(actor.two.options(num_returns=1).remote()) == (1, 2)
    assert ray.get(actor.keywords.remote(1, ray.put(2), last=ray.put(3), x=4)) == ((1, 2), 3, {"x": 4})


def test_a_thread_of_an_actor_submits_tasks() -> None:
    @ray.remote
    def square(n: int) -> int:
        return n * n

    @ray.remote
    class Feeder:
        def __init__(self) -> None:
            self.results: queue.Queue[int] = queue.Queue()
            threading.Thread(target=self.feed, daemon=True).start()

        def feed(self) -> None:
            for n in range(5):
                self.results.put(ray.get(square.remote(n)))

        def take(self) -> list[int]:
            return [self.results.get(timeout=20) for _ in range(5)]

    assert ray.get(Feeder.remote().take.remote()) == [0, 1, 4, 9, 16]


# ------------------------------------------------------------------ threads and asyncio
def test_eight_threads_of_the_program_submit_at_once() -> None:
    @ray.remote
    def same(n: int) -> int:
        return n

    @ray.remote
    class Counter:
        def __init__(self) -> None:
            self.value = 0

        def add(self) -> int:
            self.value += 1
            return self.value

    counter = Counter.remote()
    sums: list[int] = []

    def work(base: int) -> None:
        sums.append(sum(ray.get([same.remote(base * 100 + n) for n in range(100)])))
        ray.get([counter.add.remote() for _ in range(50)])

    threads = [threading.Thread(target=work, args=(base,)) for base in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(sums) == sum(range(800))
    assert ray.get(counter.add.remote()) == 401


def test_references_are_futures_for_executors() -> None:
    @ray.remote
    def same(n: int) -> int:
        return n

    futures = [same.remote(n).future() for n in range(5)]
    assert sorted(f.result() for f in concurrent.futures.as_completed(futures)) == [0, 1, 2, 3, 4]
    heard: list[int] = []
    told = threading.Event()
    future = same.remote(3).future()
    future.add_done_callback(lambda done: (heard.append(done.result()), told.set()))
    assert told.wait(20) and heard == [3]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda n: ray.get(same.remote(n)), range(8))) == list(range(8))


def test_a_program_under_asyncio_awaits_tasks_and_actors() -> None:
    @ray.remote
    def same(n: Any) -> Any:
        return n

    @ray.remote
    def fail() -> None:
        raise KeyError("missing")

    @ray.remote
    class Echo:
        async def say(self, n: int) -> int:
            await asyncio.sleep(0.01)
            return n

    async def wait_for(ref: Any) -> Any:
        return await ref

    async def program() -> list[Any]:
        echo = Echo.remote()
        found: list[Any] = [await same.remote(1), await echo.say.remote(2)]
        found.append(await asyncio.gather(*[echo.say.remote(n) for n in range(4)], same.remote(9)))
        mixed = await asyncio.gather(fail.remote(), same.remote(1), return_exceptions=True)
        found.append((isinstance(mixed[0], KeyError), mixed[1]))
        done, _ = await asyncio.wait([asyncio.ensure_future(wait_for(same.remote(n))) for n in range(3)])
        found.append(sorted(task.result() for task in done))
        found.append(
            sorted([await next_ for next_ in asyncio.as_completed([same.remote(n) for n in range(3)])])
        )
        async with asyncio.TaskGroup() as group:
            task = group.create_task(wait_for(echo.say.remote(5)))
        found.append(task.result())
        found.append(await asyncio.to_thread(ray.get, same.remote(6)))
        found.append(await asyncio.wait_for(echo.say.remote(7), 20))
        return found

    expected = [1, 2, [0, 1, 2, 3, 9], (True, 1), [0, 1, 2], [0, 1, 2], 5, 6, 7]
    assert asyncio.run(program()) == expected
    assert asyncio.run(program()) == expected  # a second event loop


def test_waiting_for_a_slow_task_under_asyncio_can_time_out() -> None:
    @ray.remote
    def slow() -> None:
        time.sleep(1)

    async def program() -> None:
        await asyncio.wait_for(slow.remote(), 0.05)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(program())


def test_a_producer_feeds_a_consumer_through_an_async_actor() -> None:
    @ray.remote
    class Channel:
        def __init__(self) -> None:
            self.items: asyncio.Queue[Any] = asyncio.Queue(maxsize=2)

        async def produce(self, count: int) -> None:
            for n in range(count):
                await self.items.put(n)
            await self.items.put(None)

        async def take(self) -> Any:
            return await self.items.get()

    channel = Channel.remote()
    channel.produce.remote(6)
    found = []
    while (item := ray.get(channel.take.remote())) is not None:
        found.append(item)
    assert found == [0, 1, 2, 3, 4, 5]


# ------------------------------------------------------------------ data and failures
def test_tables_and_frames_come_back_equal() -> None:
    np = pytest.importorskip("numpy")
    pd = pytest.importorskip("pandas")
    pa = pytest.importorskip("pyarrow")

    @ray.remote
    def same(value: Any) -> Any:
        return value

    frames = [
        pd.DataFrame({"n": range(5000), "x": np.random.rand(5000), "s": [f"s{n}" for n in range(5000)]}),
        pd.DataFrame(
            {"c": pd.Categorical(["a", "b"] * 50)}, index=pd.date_range("2024", periods=100, freq="h")
        ),
        pd.DataFrame({"i": pd.array([1, None], dtype="Int64"), "s": pd.array(["a", None], dtype="string")}),
        pd.DataFrame({("a", "b"): [1], ("a", "c"): [[2, 3]]}),
        pd.DataFrame(),
    ]
    for frame, back in zip(frames, ray.get([same.remote(frame) for frame in frames]), strict=True):
        pd.testing.assert_frame_equal(frame, back)
    table = pa.table({"n": list(range(1000)), "s": ["x"] * 1000})
    assert ray.get(same.remote(table)).equals(table)
    assert ray.get(same.remote(table.slice(5, 10))).num_rows == 10
    back = ray.get(same.remote(frames[0]))
    back["y"] = back["n"] * 2  # a new column of a frame that was got is the reader's own
    assert back["y"].iloc[-1] == 9998


def test_objects_with_their_own_pickling_and_cycles_travel() -> None:
    class Locked:
        def __init__(self) -> None:
            self.lock = threading.Lock()
            self.value = 3

        def __getstate__(self) -> dict[str, int]:
            return {"value": self.value}

        def __setstate__(self, state: dict[str, int]) -> None:
            self.__dict__.update(state)
            self.lock = threading.Lock()

    class Node:
        def __init__(self, value: int) -> None:
            self.value = value
            self.next: Any = None

    @ray.remote
    def same(value: Any) -> Any:
        return value

    back = ray.get(same.remote(Locked()))
    assert back.value == 3 and back.lock.acquire(blocking=False)
    ring = Node(1)
    ring.next = Node(2)
    ring.next.next = ring
    back = ray.get(same.remote(ring))
    assert back.next.next is back


def test_errors_of_the_library_keep_their_type_in_the_program() -> None:
    @ray.remote
    def fail(how: str) -> None:
        if how == "file":
            open("/no/such/file")
        if how == "import":
            importlib.import_module("no_such_module")
        if how == "command":
            subprocess.run("exit 2", shell=True, check=True)
        if how == "group":
            raise ExceptionGroup("both", [ValueError("a"), TypeError("b")])
        if how == "cancelled":
            raise asyncio.CancelledError

    for how, kind in {
        "file": FileNotFoundError,
        "import": ModuleNotFoundError,
        "command": subprocess.CalledProcessError,
        "group": ExceptionGroup,
    }.items():
        with pytest.raises(kind) as caught:
            ray.get(fail.remote(how))
        assert isinstance(caught.value, ray.exceptions.RayTaskError)
        assert type(caught.value.cause) is kind
    with pytest.raises(asyncio.CancelledError):
        ray.get(fail.remote("cancelled"))


def test_a_flaky_download_is_retried_until_it_works(tmp_path: Path) -> None:
    path = tmp_path / "tries"

    @ray.remote(max_retries=5, retry_exceptions=[ConnectionError])
    def download() -> int:
        with path.open("a+") as file:
            file.write("x")
        tries = len(path.read_text())
        if tries < 4:
            raise ConnectionResetError("again")
        return tries

    assert ray.get(download.remote()) == 4


def test_many_large_objects_pass_through_a_small_store() -> None:
    np = pytest.importorskip("numpy")

    @ray.remote
    def make(n: int) -> Any:
        return np.full(2_500_000, n, dtype=np.int64)

    @ray.remote
    def double(values: Any) -> Any:
        return values * 2

    for n in range(12):
        assert int(ray.get(double.remote(make.remote(n)))[-1]) == 2 * n
    for n in range(40):
        assert int(ray.get(ray.put(np.full(2_500_000, n)))[0]) == n
