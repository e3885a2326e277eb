"""Does joblib's Parallel run on the cluster, with the results that it has everywhere?"""

from __future__ import annotations

import importlib
import math
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

joblib = pytest.importorskip("joblib")
from joblib import Parallel, delayed  # noqa: E402 - only where there is joblib

ENGINE = os.environ.get("MINRAY_PARITY_ENGINE", "minray")
ray: Any = importlib.import_module(ENGINE)


@pytest.fixture(autouse=True)
def backend(cluster: Any) -> Iterator[None]:
    importlib.import_module(f"{ENGINE}.util.joblib").register_ray()
    with joblib.parallel_config(backend="ray", n_jobs=2):
        yield


def test_results_come_in_order() -> None:
    assert Parallel()(delayed(math.factorial)(n) for n in range(40)) == [math.factorial(n) for n in range(40)]


def test_calls_run_in_other_processes() -> None:
    assert os.getpid() not in Parallel()(delayed(os.getpid)() for _ in range(6))


def test_minus_one_means_all_cpus_of_the_cluster() -> None:
    with joblib.parallel_backend("ray"):
        assert joblib.effective_n_jobs(-1) == 4


def test_an_exception_keeps_its_class() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        Parallel()(delayed(int)(text) for text in ["1", "2", "x", "4"])


def test_parallel_inside_parallel() -> None:
    def rows(n: int) -> list[int]:
        from joblib import Parallel, delayed

        return Parallel(n_jobs=2)(delayed(abs)(-k) for k in range(n))  # type: ignore[no-any-return]

    assert Parallel()(delayed(rows)(n) for n in range(4)) == [[], [0], [0, 1], [0, 1, 2]]


def test_one_parallel_serves_several_calls() -> None:
    with Parallel(n_jobs=2) as parallel:
        assert [parallel(delayed(abs)(-k) for k in range(n)) for n in (1, 2, 3)] == [[0], [0, 1], [0, 1, 2]]


def test_arrays_arrive_whole() -> None:
    numpy = importlib.import_module("numpy")
    array = numpy.arange(300_000.0)

    def part(values: Any, start: int) -> float:
        return float(values[start::3].sum())

    assert sum(Parallel()(delayed(part)(array, start) for start in range(3))) == array.sum()


def test_actors_may_be_given_resources() -> None:
    def has_special() -> Any:
        module = next(sys.modules[name] for name in ("minray", "ray") if name in sys.modules)
        return module.get_runtime_context().get_assigned_resources().get("special")

    with joblib.parallel_config(backend="ray", n_jobs=2, ray_remote_args={"resources": {"special": 1}}):
        assert Parallel()(delayed(has_special)() for _ in range(2)) == [1, 1]


def test_a_small_function_in_large_number_is_batched() -> None:
    began = time.monotonic()
    assert sum(Parallel()(delayed(abs)(-1) for _ in range(3000))) == 3000
    assert time.monotonic() - began < 60  # one message each would take longer on real Ray
