"""What `ray.util.metrics` accepts and refuses, on both engines."""

from __future__ import annotations

import importlib
import os
import pickle
from typing import Any

import pytest

ENGINE = os.environ.get("MINRAY_PARITY_ENGINE", "minray")
ray: Any = importlib.import_module(ENGINE)
metrics: Any = importlib.import_module(f"{ENGINE}.util.metrics")

pytestmark = pytest.mark.usefixtures("cluster")


def test_a_metric_tells_what_it_is() -> None:
    counter = metrics.Counter("pm_info", description="d", tag_keys=("a", "b"))
    assert counter.info == {"name": "pm_info", "description": "d", "tag_keys": ("a", "b"), "default_tags": {}}
    assert counter.set_default_tags({"a": "1"}) is counter
    assert counter.info["default_tags"] == {"a": "1"}
    assert metrics.Histogram("pm_h", boundaries=[1, 2]).info["boundaries"] == [1, 2]


def test_tags_must_be_complete_strings() -> None:
    counter = metrics.Counter("pm_tags", tag_keys=("a", "b"))
    counter.inc(1.0, tags={"a": "1", "b": ""})
    counter.inc(1.0, tags={"a": "1", "b": "2", "unknown": "3"})
    with pytest.raises(ValueError, match="Missing value for tag key"):
        counter.inc(1.0, tags={"a": "1"})
    for wrong in (1, None):
        with pytest.raises(TypeError, match="Tag values must be str"):
            counter.inc(1.0, tags={"a": wrong, "b": "2"})
    with pytest.raises(ValueError, match="Unrecognized tag key"):
        counter.set_default_tags({"c": "1"})
    with pytest.raises(TypeError, match="Tag values must be str"):
        counter.set_default_tags({"a": 1})
    counter.set_default_tags({"a": "1"})
    counter.inc(tags={"b": "2"})


def test_a_counter_only_grows() -> None:
    counter = metrics.Counter("pm_counter")
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="must be >0"):
            counter.inc(wrong)
    with pytest.raises(TypeError, match="int or float"):
        counter.inc("1")


def test_a_gauge_takes_any_number_and_nothing_else() -> None:
    gauge = metrics.Gauge("pm_gauge")
    for value in (3, -3.5, None):
        gauge.set(value)
    with pytest.raises(TypeError, match="int or float"):
        gauge.set("x")


def test_a_histogram_needs_boundaries_above_zero() -> None:
    for wrong in (None, []):
        with pytest.raises(ValueError, match="boundaries argument should be provided"):
            metrics.Histogram("pm_histogram", boundaries=wrong)
    with pytest.raises(ValueError, match="at index 1"):
        metrics.Histogram("pm_histogram", boundaries=[1, -1])
    with pytest.raises(TypeError, match="int or float"):
        metrics.Histogram("pm_histogram", boundaries=[1]).observe("x")


def test_names_and_keys_are_checked() -> None:
    with pytest.raises(ValueError, match="Empty name"):
        metrics.Counter("")
    with pytest.raises(TypeError, match="tuple"):
        metrics.Counter("pm_keys", tag_keys=["a"])
    with pytest.raises(TypeError, match="Tag keys must be str"):
        metrics.Counter("pm_keys", tag_keys=(1,))


def test_metrics_can_be_used_in_tasks_and_actors() -> None:
    counter = metrics.Counter("pm_everywhere", tag_keys=("who",))

    @ray.remote
    def count() -> dict[str, Any]:
        counter.inc(2, tags={"who": "x"})
        return counter.info

    assert ray.get(count.remote())["tag_keys"] == ("who",)
    assert pickle.loads(pickle.dumps(counter)).info == counter.info
