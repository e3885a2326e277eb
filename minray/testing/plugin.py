"""How do users test their own programs? A pytest fixture gives each test a cluster and looks for leaks.

    @pytest.mark.minray(num_cpus=4)          # arguments of minray.init; without the mark: 2 CPUs
    def test_counts(minray_cluster):
        assert minray.get(count.remote()) == 3

The plugin loads with minray; it imports nothing of the runtime until a test asks for the fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

_DEFAULTS: dict[str, Any] = {"num_cpus": 2}


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark, so that `--strict-markers` knows it."""
    config.addinivalue_line(
        "markers",
        "minray(check_leaks=True, **options): options of minray.init for the fixture minray_cluster",
    )


@pytest.fixture
def minray_cluster(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The module `minray`, initialised for this test alone; shut down and checked for leaks after it."""
    import minray
    from minray.testing import check_leaks

    options = dict(_DEFAULTS)
    for mark in reversed(list(request.node.iter_markers("minray"))):  # the closest mark wins
        if mark.args:
            pytest.fail("pytest.mark.minray takes keywords only, those of minray.init")
        options.update(mark.kwargs)
    leaks_matter = options.pop("check_leaks", True)
    if minray.is_initialized():
        pytest.fail("a cluster runs already: an earlier test, or an import, called minray.init()")
    if not leaks_matter:
        minray.init(**options)
        try:
            yield minray
        finally:
            minray.shutdown()
        return
    with check_leaks():
        minray.init(**options)
        try:
            yield minray
        finally:
            minray.shutdown()
