"""Does the joblib backend store large arguments once, end what failed, and keep its pool?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import minray

joblib = pytest.importorskip("joblib")
from joblib import Parallel, delayed  # noqa: E402 - only where there is joblib

from minray.util.joblib import register_minray, register_ray  # noqa: E402
from minray.util.joblib.ray_backend import size_of  # noqa: E402

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[None]:
    minray.init(num_cpus=2)
    yield
    minray.shutdown()


@pytest.fixture(autouse=True)
def backend(shared_cluster: None) -> Iterator[None]:
    register_ray()
    with joblib.parallel_config(backend="ray", n_jobs=2):
        yield


def address(values: Any) -> tuple[int, bool]:
    return values.__array_interface__["data"][0], values.flags.writeable


def test_the_backend_has_two_names() -> None:
    register_minray()
    with joblib.parallel_config(backend="minray"):
        assert Parallel()(delayed(abs)(-n) for n in range(3)) == [0, 1, 2]


def test_without_a_number_all_cpus_are_used() -> None:
    with joblib.parallel_config(backend="ray", n_jobs=None):
        assert Parallel().n_jobs == -1
    assert joblib.effective_n_jobs(-2) == 1
    with pytest.raises(ValueError, match="no meaning"):
        Parallel(n_jobs=0)(delayed(abs)(n) for n in range(2))


def test_a_large_array_is_stored_once_and_read_in_place() -> None:
    def stored() -> set[str]:
        page = minray.engine.seam.current().events(0)
        return {event.object_id for event in page.events if type(event).__name__ == "ObjectPut"}

    array = np.ones(500_000)
    before = stored()
    found = Parallel(batch_size=1)(delayed(address)(array) for _ in range(12))
    assert not any(writeable for _, writeable in found)
    assert len(stored() - before) == 1


def test_contents_may_change_between_calls() -> None:
    array = np.zeros(500_000)
    with Parallel(n_jobs=2) as parallel:
        for value in (1.0, 2.0):
            array[:] = value
            assert parallel(delayed(np.max)(array) for _ in range(2)) == [value, value]


def test_a_private_copy_can_be_asked_for() -> None:
    array = np.zeros(500_000)
    assert all(
        writeable for _, writeable in Parallel(mmap_mode="c")(delayed(address)(array) for _ in range(3))
    )
    assert all(
        writeable for _, writeable in Parallel(mmap_mode=None)(delayed(address)(array) for _ in range(3))
    )
    with pytest.raises(ValueError, match="read-only here"):
        Parallel(mmap_mode="w+")(delayed(address)(array) for _ in range(3))


def test_sizes_are_seen_through_frames_and_views() -> None:
    pandas = pytest.importorskip("pandas")
    assert size_of(np.zeros(1000)[:500]) >= 4000
    assert size_of(pandas.DataFrame({"a": np.zeros(1000)})) >= 8000
    assert size_of("x" * 1000) >= 1000
    assert size_of(np.ndarray) == 0


def test_processes_are_kept_for_the_next_parallel() -> None:
    def pids() -> set[int]:
        return set(Parallel(batch_size=1)(delayed(_pid)() for _ in range(6)))

    assert pids() == pids()


def _pid() -> int:
    time.sleep(0.1)
    return os.getpid()


def test_a_failed_call_ends_the_others_and_the_next_parallel_works() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        Parallel(batch_size=1)(delayed(_fail_or_hang)(n) for n in range(4))
    assert "Traceback" in str(caught.value.__cause__)
    assert Parallel()(delayed(abs)(-n) for n in range(4)) == [0, 1, 2, 3]


def _fail_or_hang(n: int) -> None:
    if n:
        time.sleep(600)
    raise ZeroDivisionError


def test_a_timeout_ends_the_calls() -> None:
    with Parallel(n_jobs=2, timeout=0.3) as parallel:
        with pytest.raises(Exception) as caught:
            parallel(delayed(time.sleep)(n) for n in (0, 600))
        assert "Timeout" in type(caught.value).__name__
        parallel.timeout = 60
        assert parallel(delayed(abs)(-n) for n in range(4)) == [0, 1, 2, 3]


def test_a_killed_process_is_an_error() -> None:
    with pytest.raises(minray.exceptions.ActorDiedError, match="SIGKILL"):
        Parallel(batch_size=1)(delayed(os.kill)(0, 0) if n else delayed(_kill_self)() for n in range(3))


def _kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_results_can_be_had_as_they_come() -> None:
    assert list(Parallel(return_as="generator")(delayed(abs)(-n) for n in range(9))) == list(range(9))
    unordered = Parallel(return_as="generator_unordered")(delayed(abs)(-n) for n in range(9))
    assert sorted(unordered) == list(range(9))


def test_threads_of_libraries_may_be_limited() -> None:
    with joblib.parallel_config(backend="ray", n_jobs=2, inner_max_num_threads=3):
        assert set(Parallel()(delayed(os.getenv)("OMP_NUM_THREADS") for _ in range(4))) == {"3"}


def test_a_search_of_scikit_learn_finds_the_same(shared_cluster: None) -> None:
    model_selection = pytest.importorskip("sklearn.model_selection")
    linear_model = pytest.importorskip("sklearn.linear_model")
    generator = np.random.default_rng(0)
    features = generator.normal(size=(200, 5))
    target = features @ np.arange(5.0) + generator.normal(size=200)
    search = model_selection.GridSearchCV(linear_model.Ridge(), {"alpha": [0.1, 1.0, 10.0, 100.0]}, n_jobs=-1)
    parallel = search.fit(features, target).cv_results_["mean_test_score"]
    with joblib.parallel_config(backend="sequential"):
        np.testing.assert_allclose(search.fit(features, target).cv_results_["mean_test_score"], parallel)


def test_joblib_starts_a_cluster_by_itself() -> None:
    script = (
        "import joblib, minray\n"
        "from minray.util.joblib import register_ray\n"
        "register_ray()\n"
        "with joblib.parallel_backend('ray', n_jobs=2):\n"
        "    print(joblib.Parallel()(joblib.delayed(abs)(-n) for n in range(3)), minray.is_initialized())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "[0, 1, 2] True", done.stderr
