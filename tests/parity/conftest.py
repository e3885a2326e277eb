"""Which engine do the parity tests run on? minray, or real Ray when MINRAY_PARITY_ENGINE=ray.

Every `test_parity_*.py` states behaviour that Ray documents or shows, and passes on both engines:

    pytest tests/parity                                                      # minray
    MINRAY_PARITY_ENGINE=ray RAY_ENV/bin/python -m pytest -c /dev/null \\
        --rootdir tests/parity --confcutdir tests/parity tests/parity        # real Ray 2.60
    make parity RAY_PYTHON=RAY_ENV/bin/python                                # both

Real Ray needs seconds to start, so a module shares one cluster. Remote functions are defined inside
the tests: nested functions travel by value in both engines, wherever the tests are collected from.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ENGINE = os.environ.get("MINRAY_PARITY_ENGINE", "minray")


def start(engine: Any) -> None:
    """Start the small cluster that the parity tests expect: 4 CPUs, 2 GPUs, 2 of "special"."""
    options: dict[str, Any] = {"include_dashboard": False, "logging_level": "ERROR"}
    engine.init(
        num_cpus=4, num_gpus=2, resources={"special": 2}, namespace="parity", log_to_driver=False, **options
    )


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """The engine, initialised, shared by one module."""
    engine = importlib.import_module(ENGINE)
    if engine.is_initialized():
        engine.shutdown()
    start(engine)
    yield engine
    engine.shutdown()


@pytest.fixture
def no_cluster() -> Iterator[Any]:
    """The engine, not initialised, and shut down at the end."""
    engine = importlib.import_module(ENGINE)
    if engine.is_initialized():
        engine.shutdown()
    yield engine
    engine.shutdown()


def pytest_configure(config: pytest.Config) -> None:
    """On the real-Ray side there is no pyproject.toml to declare the markers."""
    for marker in (
        "parity: also runs on real Ray",
        "cluster: starts real processes",
        "slow: more than ten seconds",
        "timeout",
    ):
        config.addinivalue_line("markers", marker)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is a parity test and starts processes."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.parity)
            item.add_marker(pytest.mark.cluster)
