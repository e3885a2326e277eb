"""Does the pool keep what the standard library promises where Ray's does not, and survive what kills processes?

Bodies that take `pool` run on `multiprocessing.Pool` too: the standard library is the reference.
"""

from __future__ import annotations

import gc
import multiprocessing
import operator
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minray
from minray.util.multiprocessing import Pool

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")]

WAIT_S = 60


@pytest.fixture(scope="module", params=["stdlib", "minray"])
def pool(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "stdlib":
        with multiprocessing.Pool(2) as made:
            yield made
        made.join()
        return
    request.getfixturevalue("shared_cluster")
    with Pool(2) as made:
        yield made


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[None]:
    minray.init(num_cpus=2)
    yield
    minray.shutdown()


@pytest.fixture
def own_pool(shared_cluster: None) -> Iterator[Pool]:
    with Pool(2) as made:
        yield made


def eventually(claim: Callable[[], bool], seconds: float = WAIT_S) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if claim():
            return True
        time.sleep(0.01)
    return False


# ------------------------------------------------------------------ as in the standard library
def test_an_exception_carries_the_workers_traceback(pool: Any) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        pool.starmap(operator.truediv, [(1, 0)])
    assert type(caught.value) is ZeroDivisionError
    assert "Traceback" in str(caught.value.__cause__)


def test_imap_raises_in_the_place_of_the_failed_call_and_goes_on(pool: Any) -> None:
    results = pool.imap(int, ["1", "x", "3"])
    assert next(results) == 1
    with pytest.raises(ValueError, match="invalid literal"):
        next(results)
    assert next(results) == 3
    with pytest.raises(StopIteration):
        next(results)


def test_imap_raises_what_its_input_raises(pool: Any) -> None:
    def numbers() -> Iterator[int]:
        yield -1
        raise LookupError("input")

    results = pool.imap(abs, numbers())
    assert next(results) == 1
    with pytest.raises(LookupError, match="input"):
        next(results)


def test_imap_does_its_work_without_being_read(pool: Any, tmp_path: Path) -> None:
    pool.imap(os.mkdir, [str(tmp_path / str(n)) for n in range(20)])
    assert eventually(lambda: len(list(tmp_path.iterdir())) == 20)


def test_next_of_imap_takes_a_timeout(pool: Any) -> None:
    results = pool.imap(time.sleep, [1.0])
    with pytest.raises(multiprocessing.TimeoutError):
        results.next(timeout=0.01)
    assert results.next(timeout=WAIT_S) is None


def test_chunksize_is_at_least_one(pool: Any) -> None:
    with pytest.raises(ValueError, match="Chunksize must be 1"):
        pool.imap(abs, [1], chunksize=0)


def test_a_short_call_does_not_wait_behind_a_long_one(pool: Any) -> None:
    long = pool.apply_async(time.sleep, (3.0,))
    assert [pool.apply_async(abs, (-n,)).get(WAIT_S) for n in range(20)] == list(range(20))
    assert not long.ready()
    long.wait()


def test_a_pool_cannot_be_pickled(pool: Any) -> None:
    with pytest.raises(RuntimeError, match="pool objects cannot be passed"):
        pickle.dumps(pool)


def test_callbacks_have_run_when_get_returns(pool: Any) -> None:
    seen: list[Any] = []
    for n in range(20):
        pool.apply_async(abs, (-n,), callback=seen.append).get(WAIT_S)
        assert seen == list(range(n + 1))


def test_the_callback_of_a_map_gets_the_results_in_order(pool: Any) -> None:
    seen: list[Any] = []  # Ray's gets them as the chunks came
    pool.map_async(abs, range(-50, 0), 1, callback=seen.append).get(WAIT_S)
    assert seen == [list(range(50, 0, -1))]


def test_what_cannot_be_sent_back_is_an_error(pool: Any) -> None:
    with pytest.raises(multiprocessing.pool.MaybeEncodingError):
        pool.apply(eval, ("(n for n in ())",))


def test_what_cannot_be_sent_is_an_error(pool: Any) -> None:
    with pytest.raises(TypeError, match="pickle"):
        pool.apply(abs, (threading.Lock(),))
    assert pool.apply(abs, (-1,)) == 1


@pytest.mark.parametrize("wrong", [0, -1, 1.5])
def test_maxtasksperchild_is_a_positive_number(pool: Any, wrong: Any) -> None:
    with pytest.raises(ValueError, match="maxtasksperchild"):
        (multiprocessing.Pool if type(pool) is not Pool else Pool)(1, maxtasksperchild=wrong)


def test_the_initializer_must_be_callable(pool: Any) -> None:
    with pytest.raises(TypeError, match="initializer"):
        (multiprocessing.Pool if type(pool) is not Pool else Pool)(1, initializer=3)


# ------------------------------------------------------------------ where the standard library hangs
def test_a_process_that_dies_fails_its_chunk_and_is_replaced(own_pool: Pool) -> None:
    with pytest.raises(minray.exceptions.ActorDiedError) as caught:
        own_pool.map(lambda n: os._exit(3) if n == 2 else n, range(4), chunksize=1)
    assert "exited with code 3" in str(caught.value)
    assert "1 call of" in "".join(caught.value.__notes__)
    assert own_pool.map(abs, range(-20, 0)) == list(range(20, 0, -1))


def test_a_killed_process_is_told_and_replaced(own_pool: Pool, tmp_path: Path) -> None:
    file = tmp_path / "pid"

    def hang() -> None:
        file.write_text(f"{os.getpid()}\n")
        time.sleep(600)

    result = own_pool.apply_async(hang)
    assert eventually(lambda: file.exists() and file.read_text().endswith("\n"))
    os.kill(int(file.read_text()), signal.SIGKILL)
    with pytest.raises(minray.exceptions.ActorDiedError, match="SIGKILL"):
        result.get(WAIT_S)
    assert len(set(own_pool.map(lambda _: time.sleep(0.2) or os.getpid(), range(4), chunksize=1))) == 2


def test_a_process_killed_while_idle_costs_no_call(own_pool: Pool) -> None:
    pids = set(own_pool.map(lambda _: time.sleep(0.2) or os.getpid(), range(4), chunksize=1))
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    rows = minray.engine.seam.current().ask  # the node's table: until it knows, so may not we
    assert eventually(lambda: not pids & {row["pid"] for row in rows("state")["workers"]})
    assert eventually(lambda: _works(own_pool))
    assert own_pool.map(abs, range(-20, 0), chunksize=1) == list(range(20, 0, -1))


def _works(pool: Pool) -> bool:
    try:
        return pool.map(abs, [-1, -2], chunksize=1) == [1, 2]
    except minray.exceptions.ActorDiedError:
        return False


def test_chunks_run_again_where_the_actors_may_be_retried(shared_cluster: None, tmp_path: Path) -> None:
    def die_once(n: int) -> int:
        mark = tmp_path / "died"
        if n == 2 and not mark.exists():
            mark.touch()
            os._exit(1)
        return n

    with Pool(2, ray_remote_args={"max_restarts": 1, "max_task_retries": 1}) as pool:
        assert pool.map(die_once, range(4), chunksize=1) == [0, 1, 2, 3]


def test_an_initializer_that_fails_fails_the_pool(shared_cluster: None) -> None:
    with pytest.raises(minray.exceptions.ActorDiedError, match="no licence"):
        Pool(2, initializer=_fail, initargs=("no licence",))


def _fail(text: str) -> None:
    raise OSError(text)


def test_terminate_fails_what_was_under_way(shared_cluster: None) -> None:
    pool = Pool(1)
    results = [
        pool.apply_async(time.sleep, (600,)),
        pool.map_async(time.sleep, [600] * 9),
        pool.apply_async(abs, (1,)),
    ]
    stream = pool.imap(time.sleep, iter(lambda: 600, None))  # an input without end
    pool.terminate()
    pool.join()
    for result in results:
        with pytest.raises(minray.exceptions.ActorDiedError, match="terminated"):
            result.get(WAIT_S)
    with pytest.raises(minray.exceptions.ActorDiedError, match="terminated"):
        next(stream)
    with pytest.raises(StopIteration):
        next(stream)


def test_a_callback_that_raises_stops_nothing(own_pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_type))

    def fail(_: Any) -> None:
        raise KeyError("callback")

    assert own_pool.apply_async(abs, (-1,), callback=fail).get(WAIT_S) == 1
    assert own_pool.apply_async(abs, (-2,), callback=fail).get(WAIT_S) == 2
    assert told == [KeyError, KeyError]


def test_a_callback_may_use_its_pool(own_pool: Pool) -> None:
    seen: list[int] = []
    own_pool.apply_async(abs, (-1,), callback=lambda n: seen.append(own_pool.apply(abs, (n - 3,)))).get(
        WAIT_S
    )
    assert seen == [2]


def test_a_forgotten_pool_ends_its_processes(shared_cluster: None) -> None:
    pool = Pool(2)
    pids = set(pool.map(lambda _: time.sleep(0.2) or os.getpid(), range(4), chunksize=1))
    del pool
    gc.collect()
    assert eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))


def test_the_results_of_a_forgotten_pool_still_come(shared_cluster: None) -> None:
    result = Pool(1).map_async(abs, [-1, -2])
    gc.collect()
    assert result.get(WAIT_S) == [1, 2]


def test_large_arrays_are_read_in_place(own_pool: Pool) -> None:
    array = np.ones(1_000_000)
    total, writeable = own_pool.apply(lambda a: (float(a.sum()), a.flags.writeable), (array,))
    assert total == 1e6
    assert not writeable  # it lies in shared memory
    assert own_pool.map(lambda n: np.full(200_000, n), range(3))[2].sum() == 400_000


def send_in_advance(pool: Pool) -> None:
    """As after calls that ended within milliseconds, which on a loaded machine may never happen."""
    pool.map(abs, range(4), chunksize=1)
    assert pool._dispatcher is not None
    for process in pool._dispatcher.processes:
        process.quick = True


def test_what_waits_behind_a_long_call_goes_to_an_idle_process(own_pool: Pool) -> None:
    send_in_advance(own_pool)
    calls = [own_pool.apply_async(time.sleep, (600,))]
    calls += [own_pool.apply_async(abs, (-n,)) for n in range(50)]
    assert [call.get(WAIT_S) for call in calls[1:]] == list(range(50))
    assert not calls[0].ready()


def test_each_call_runs_once_however_it_is_moved(own_pool: Pool, tmp_path: Path) -> None:
    def note(n: int) -> int:
        with open(tmp_path / str(n), "a") as file:
            file.write("x")
        if n % 40 == 7:
            time.sleep(0.05)
        return n

    send_in_advance(own_pool)
    assert own_pool.map(note, range(200), chunksize=1) == list(range(200))
    assert {len((tmp_path / str(n)).read_text()) for n in range(200)} == {1}


def test_a_death_costs_only_the_call_that_ran(own_pool: Pool, tmp_path: Path) -> None:
    send_in_advance(own_pool)
    mark = tmp_path / "mark"

    def die() -> None:
        mark.touch()
        time.sleep(0.5)
        os._exit(1)

    block = own_pool.apply_async(time.sleep, (3.0,))
    dying = own_pool.apply_async(die)
    others = [own_pool.apply_async(abs, (-n,)) for n in range(10)]
    with pytest.raises(minray.exceptions.ActorDiedError):
        dying.get(WAIT_S)
    assert [other.get(WAIT_S) for other in others] == list(range(10))
    assert block.get(WAIT_S) is None


def test_functions_of_a_script_work(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from minray.util.multiprocessing import Pool\n"
        "def double(n):\n"
        "    return factor * n\n"
        "factor = 2\n"
        "if __name__ == '__main__':\n"
        "    with Pool(2) as pool:\n"
        "        print(pool.map(double, range(4)), pool.map(lambda n: double(n) + 1, range(2)))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "[0, 2, 4, 6] [1, 3]", done.stderr


def test_an_initializer_of_a_script_sets_globals_for_its_functions(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import functools\n"
        "from minray.util.multiprocessing import Pool\n"
        "offset, limit = None, 1\n"
        "def start(n):\n"
        "    global base, offset\n"
        "    base, offset = n, 2 * n\n"
        "def logged(function):\n"
        "    @functools.wraps(function)\n"
        "    def call(*args):\n"
        "        return function(*args)\n"
        "    return call\n"
        "def helper():\n"
        "    return base\n"
        "@logged\n"
        "def shift(n):\n"
        "    return helper() + offset + n * limit\n"
        "class Shifter:\n"
        "    def shift(self, n):\n"
        "        return helper() + n\n"
        "def count(n):\n"
        "    global calls\n"
        "    calls = globals().get('calls', 0) + 1\n"
        "    return calls\n"
        "if __name__ == '__main__':\n"
        "    with Pool(1, start, (10,)) as pool:\n"
        "        print(pool.map(shift, range(3)), pool.map(Shifter().shift, [1]), pool.apply(lambda: base))\n"
        "        limit = 100\n"
        "        print(pool.map(shift, [1]), pool.map(functools.partial(shift), [2]), pool.map(count, 'abc', 1))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines() == ["[30, 31, 32] [11] 10", "[130] [230] [1, 2, 3]"], done.stderr


def test_a_pool_whose_cluster_is_shut_down_says_so() -> None:
    minray.shutdown()  # the one that the tests above share
    pool = Pool(1)  # starts one
    waiting = pool.apply_async(time.sleep, (600,))
    stream = pool.imap(time.sleep, [600] * 9)
    assert pool.apply_async(abs, (-1,)).ready() is False
    minray.shutdown()
    with pytest.raises(minray.exceptions.RayError, match="shut down"):
        waiting.get(WAIT_S)
    with pytest.raises(minray.exceptions.RayError):
        next(stream)
    with pytest.raises(ValueError, match="not running"):
        pool.apply(abs, (-1,))
    pool.terminate()
    pool.join()
    assert not minray.is_initialized()
