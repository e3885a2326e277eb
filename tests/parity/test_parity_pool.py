"""Does a pool do what `multiprocessing.Pool` does? The same bodies run on the standard library's and on the engine's.

The functions are the standard library's own: every kind of process can import them.
"""

from __future__ import annotations

import importlib
import math
import multiprocessing
import operator
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

ENGINE = os.environ.get("MINRAY_PARITY_ENGINE", "minray")
ray: Any = importlib.import_module(ENGINE)
engine_multiprocessing: Any = importlib.import_module(f"{ENGINE}.util.multiprocessing")

pytestmark = [
    pytest.mark.usefixtures("cluster"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


@pytest.fixture(scope="module", params=["stdlib", "engine"])
def pool_class(request: pytest.FixtureRequest) -> Any:
    return multiprocessing.Pool if request.param == "stdlib" else engine_multiprocessing.Pool


@pytest.fixture(scope="module")
def pool(pool_class: Any, cluster: Any) -> Iterator[Any]:
    made = pool_class(2)
    yield made
    made.terminate()
    made.join()


def test_apply_returns_the_value(pool: Any) -> None:
    assert pool.apply(operator.add, (2, 3)) == 5
    assert pool.apply(int, ("ff",), {"base": 16}) == 255


def test_map_keeps_the_order(pool: Any) -> None:
    numbers = list(range(100))
    assert pool.map(math.factorial, numbers) == [math.factorial(n) for n in numbers]
    assert pool.map(math.factorial, numbers, 7) == [math.factorial(n) for n in numbers]


def test_map_takes_iterators_and_nothing(pool: Any) -> None:
    assert pool.map(abs, iter([-1, -2])) == [1, 2]
    assert pool.map(abs, []) == []


def test_starmap_unpacks(pool: Any) -> None:
    assert pool.starmap(pow, [(2, 3), (3, 2), (5, 1)]) == [8, 9, 5]
    assert pool.starmap_async(divmod, [(7, 2)]).get(60) == [(3, 1)]


def test_imap_comes_in_order_and_imap_unordered_complete(pool: Any) -> None:
    assert list(pool.imap(abs, range(0, -20, -1))) == list(range(20))
    assert list(pool.imap(abs, range(0, -20, -1), chunksize=6)) == list(range(20))
    assert sorted(pool.imap_unordered(abs, range(0, -20, -1), chunksize=3)) == list(range(20))


def test_an_exception_keeps_its_class(pool: Any) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        pool.apply(int, ("x",))
    with pytest.raises(ZeroDivisionError):
        pool.starmap(operator.truediv, [(1, 1), (1, 0)])


def test_a_result_tells_whether_it_is_there(pool: Any) -> None:
    late = pool.apply_async(time.sleep, (1.0,))
    with pytest.raises(ValueError, match="not ready"):
        late.successful()
    with pytest.raises(multiprocessing.TimeoutError):
        late.get(timeout=0.01)
    late.wait()
    assert late.ready()
    assert late.successful()
    assert late.get() is None
    failed = pool.apply_async(int, ("x",))
    failed.wait()
    assert not failed.successful()


def test_callbacks_get_value_or_exception(pool: Any) -> None:
    values: list[Any] = []
    errors: list[Any] = []
    pool.apply_async(abs, (-3,), callback=values.append, error_callback=errors.append).get()
    pool.map_async(abs, [-1, -2], 2, callback=values.append, error_callback=errors.append).get()
    pool.apply_async(int, ("x",), callback=values.append, error_callback=errors.append).wait()
    end = time.monotonic() + 20
    while not errors and time.monotonic() < end:  # Ray's thread calls back while `wait` returns
        time.sleep(0.01)
    assert values == [3, [1, 2]]
    raised = [getattr(error, "underlying", error) for error in errors]  # Ray's is wrapped here
    assert [type(error) for error in raised] == [ValueError]


def test_calls_run_in_other_processes_at_the_same_time(pool: Any) -> None:
    pids = set(
        pool.map(eval, ["__import__('time').sleep(0.3) or __import__('os').getpid()"] * 4, chunksize=1)
    )
    assert os.getpid() not in pids
    assert len(pids) == 2


def test_a_closed_pool_finishes_and_takes_no_more(pool_class: Any) -> None:
    pool = pool_class(1)
    with pytest.raises(ValueError, match="running"):
        pool.join()
    waiting = [pool.apply_async(abs, (-n,)) for n in range(5)]
    pool.close()
    with pytest.raises(ValueError, match="not running"):
        pool.apply(abs, (1,))
    pool.join()
    assert [result.get(60) for result in waiting] == [0, 1, 2, 3, 4]


def test_a_with_block_terminates_the_pool(pool_class: Any) -> None:
    with pool_class(1) as pool:
        assert pool.map(abs, [-1]) == [1]
    with pytest.raises(ValueError, match="not running"):
        pool.map(abs, [-1])


def test_an_initializer_prepares_each_process(pool_class: Any) -> None:
    with pool_class(2, initializer=os.putenv, initargs=("POOL_PARITY", "prepared")) as pool:
        said = pool.map(eval, ["__import__('subprocess').getoutput('echo $POOL_PARITY')"] * 4)
    assert said == ["prepared"] * 4


def test_a_process_serves_only_so_many_chunks(pool_class: Any) -> None:
    with pool_class(1, maxtasksperchild=2) as pool:
        pids = [pool.apply(os.getpid) for _ in range(6)]
    assert pids[0] == pids[1] and pids[2] == pids[3]
    assert len(set(pids)) == 3


def test_a_pool_needs_a_process(pool_class: Any) -> None:
    with pytest.raises(ValueError, match="rocesses"):
        pool_class(0)


# ------------------------------------------------------------------ what only the engines have
def test_lambdas_closures_and_nested_functions_work(cluster: Any) -> None:
    factor = 3

    def times(n: int) -> int:
        return factor * n

    with engine_multiprocessing.Pool(2) as pool:
        assert pool.map(times, range(4)) == [0, 3, 6, 9]
        assert pool.apply(lambda: factor) == 3


def test_more_processes_than_cpus_are_refused(cluster: Any) -> None:
    with pytest.raises(ValueError, match="only 4 CPUs"):
        engine_multiprocessing.Pool(5)


def test_by_default_there_are_as_many_processes_as_cpus(cluster: Any) -> None:
    def slow_pid(_: int) -> int:
        time.sleep(0.5)
        return os.getpid()

    with engine_multiprocessing.Pool() as pool:
        assert len(set(pool.map(slow_pid, range(8), chunksize=1))) == 4


def test_processes_may_be_given_resources(cluster: Any) -> None:
    def resources() -> Any:
        return ray.get_runtime_context().get_assigned_resources()

    with engine_multiprocessing.Pool(2, ray_remote_args={"num_cpus": 1, "resources": {"special": 1}}) as pool:
        assert pool.apply(resources)["special"] == 1


def test_a_pool_works_inside_a_task(cluster: Any) -> None:
    module = engine_multiprocessing.__name__

    @ray.remote(num_cpus=0)
    def inner() -> list[int]:
        with importlib.import_module(module).Pool(2) as pool:
            return pool.map(abs, [-1, -2, -3])  # type: ignore[no-any-return]

    assert ray.get(inner.remote()) == [1, 2, 3]


def test_the_module_offers_the_standard_librarys_names() -> None:
    assert engine_multiprocessing.TimeoutError is multiprocessing.TimeoutError
    assert engine_multiprocessing.JoinableQueue == multiprocessing.JoinableQueue
