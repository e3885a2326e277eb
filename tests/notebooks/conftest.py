"""Which exercises and wrong solutions does a lesson have, and on which cluster do they run? See `promises`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minray.grading.workbook import is_setup, source_of


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "hole" in metafunc.fixturenames:
        metafunc.parametrize("hole", metafunc.cls.EXERCISES)
    if "mutant" in metafunc.fixturenames:
        metafunc.parametrize("mutant", metafunc.cls.MUTANTS, ids=lambda path: Path(path).stem)


@pytest.fixture(scope="class")
def setup(request: pytest.FixtureRequest) -> Iterator[Callable[[], dict[str, Any]]]:
    """Fresh namespaces after the lesson's setup cells, all on one cluster of four declared CPUs."""
    import minray

    lesson = request.cls.LESSON
    minray.init(num_cpus=4)

    def fresh() -> dict[str, Any]:
        namespace: dict[str, Any] = {"__name__": "__main__"}
        for cell in lesson.workbook().code():
            if is_setup(cell):
                exec(source_of(cell), namespace)
        return namespace

    yield fresh
    minray.shutdown()
