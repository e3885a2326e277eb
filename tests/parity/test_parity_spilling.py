"""A store that is too small for what a program keeps: does everything come back as on Ray?"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ray: Any = importlib.import_module(os.environ.get("MINRAY_PARITY_ENGINE", "minray"))

MB = 1 << 20
QUIET: dict[str, Any] = {"include_dashboard": False, "logging_level": "ERROR", "log_to_driver": False}


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if ray.is_initialized():
        ray.shutdown()
    folder = tmp_path_factory.mktemp("spilling")
    ray.init(num_cpus=2, object_store_memory=80 * MB, object_spilling_directory=str(folder), **QUIET)
    yield folder
    ray.shutdown()


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_more_than_the_store_is_kept_in_the_folder_of_choice(folder: Path) -> None:
    refs = [ray.put(np.full(MB, float(i))) for i in range(20)]  # 8 MB each
    assert _files(folder)
    assert [float(ray.get(ref)[-1]) for ref in refs] == list(range(20))


def test_results_arguments_and_views_beyond_the_store() -> None:
    @ray.remote
    def filled(value: float) -> Any:
        return np.full(MB, value)

    @ray.remote
    def ends(*arrays: Any) -> list[float]:
        return [float(array[-1]) for array in arrays]

    refs = [filled.remote(float(i)) for i in range(15)]
    assert ray.get([ends.remote(ref) for ref in refs]) == [[float(i)] for i in range(15)]
    views = ray.get(refs)  # all in use at once
    assert [float(view[0]) for view in views] == list(range(15))
    more = ray.put(np.ones(2 * MB))
    assert ray.get(more).sum() == 2 * MB
    assert all((view == i).all() for i, view in enumerate(views))


def test_one_object_larger_than_the_store() -> None:
    ref = ray.put(np.ones(20 * MB))
    assert ray.get(ref).sum() == 20 * MB
    assert not ray.get(ref).flags.writeable


def test_wait_and_nested_references_of_spilled_objects() -> None:
    refs = [ray.put(np.full(MB, float(i))) for i in range(15)]
    box = ray.put([refs[:3], np.zeros(MB)])
    ready, rest = ray.wait(refs, num_returns=15, timeout=30)
    assert len(ready) == 15 and not rest
    inner, _ = ray.get(box)
    assert [float(value[0]) for value in ray.get(inner)] == [0.0, 1.0, 2.0]


def test_a_folder_that_cannot_be_made_is_refused_at_the_start() -> None:
    ray.shutdown()
    with pytest.raises(OSError, match="/proc/none"):
        ray.init(num_cpus=1, object_spilling_directory="/proc/none", **QUIET)
    with pytest.raises(ValueError):  # Ray: JSONDecodeError, which is one
        ray.init(num_cpus=1, _system_config={"object_spilling_config": "no JSON"}, **QUIET)
    assert not ray.is_initialized()
