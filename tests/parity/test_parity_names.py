"""Small public names that libraries written for Ray use, on both engines."""

from __future__ import annotations

import importlib
import os
import warnings
from typing import Any

import numpy as np
import pytest

ENGINE = os.environ.get("MINRAY_PARITY_ENGINE", "minray")
ray: Any = importlib.import_module(ENGINE)

pytestmark = pytest.mark.usefixtures("cluster")


def part(name: str) -> Any:
    return importlib.import_module(f"{ENGINE}.{name}")


def test_the_key_value_table_is_shared_by_all_processes() -> None:
    kv = part("experimental.internal_kv")
    assert kv._internal_kv_initialized()
    assert kv._internal_kv_put("pn_a", "1") is False
    assert kv._internal_kv_put(b"pn_a", b"2") is True
    assert kv._internal_kv_get("pn_a") == b"2"
    assert kv._internal_kv_put("pn_a", "3", False) is True and kv._internal_kv_get("pn_a") == b"2"

    @ray.remote
    def read() -> Any:
        return importlib.import_module(f"{ENGINE}.experimental.internal_kv")._internal_kv_get("pn_a")

    assert ray.get(read.remote()) == b"2"
    assert kv._internal_kv_list("pn_") == [b"pn_a"]
    assert kv._internal_kv_exists("pn_a") and not kv._internal_kv_exists("pn_b")
    assert kv._internal_kv_del("pn_a") == 1 and kv._internal_kv_del("pn_a") == 0
    assert kv._internal_kv_get("pn_a") is None


def test_namespaces_of_the_table_are_apart_and_prefixes_can_be_deleted() -> None:
    kv = part("experimental.internal_kv")
    for key in ("pn_p1", "pn_p2"):
        kv._internal_kv_put(key, "x", namespace="ns")
    assert kv._internal_kv_list("pn_p") == []
    assert sorted(kv._internal_kv_list("pn_p", namespace="ns")) == [b"pn_p1", b"pn_p2"]
    assert kv._internal_kv_del("pn_p", del_by_prefix=True, namespace="ns") == 2


def test_the_location_of_a_large_object_is_a_node() -> None:
    ref = ray.put(np.zeros(1_000_000))
    row = part("experimental").get_object_locations([ref])[ref]
    assert row["node_ids"] == [ray.get_runtime_context().get_node_id()]
    assert 8_000_000 <= row["object_size"] < 8_100_000


def test_annotations_leave_functions_and_classes_as_they_are() -> None:
    marks = part("util.annotations")

    @marks.PublicAPI(stability="beta")
    def one(x: int) -> int:
        return x + 1

    @marks.DeveloperAPI
    class Two:
        def value(self) -> int:
            return 2

    @marks.Deprecated(message="use one()")
    def three() -> int:
        return 3

    assert (one(1), Two().value(), three()) == (2, 2, 3)


def test_a_deprecated_name_can_warn() -> None:
    marks = part("util.annotations")

    @marks.Deprecated(message="use something else", warning=True)
    def old() -> int:
        return 1

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert old() == 1
    assert any(issubclass(one.category, marks.RayDeprecationWarning) for one in caught)


def test_log_once_is_true_once() -> None:
    debug = part("util.debug")
    assert [debug.log_once("pn_key") for _ in range(3)] == [True, False, False]
    debug.reset_log_once("pn_key")
    assert debug.log_once("pn_key")


def test_modules_have_the_names_that_libraries_import() -> None:
    assert part("runtime_context").RuntimeContext is type(ray.get_runtime_context())
    assert part("types").ObjectRef and ray.ObjectID is ray.ObjectRef
    assert part("actor").DEFAULT_MAX_CONCURRENCY_ASYNC == 1000
    assert part("util.accelerators").NVIDIA_TESLA_V100 == "V100"
    assert (ray.SCRIPT_MODE, ray.WORKER_MODE) == (0, 1)
    assert ray.exceptions.RayTaskError in ray.exceptions.RAY_EXCEPTION_TYPES
    for name in ("UniqueID", "FunctionID", "ActorClassID", "PlacementGroupID", "ClusterID"):
        assert isinstance(getattr(ray, name), type)

    @ray.remote
    def f() -> None: ...

    assert isinstance(f, part("remote_function").RemoteFunction)


def test_deriving_from_an_actor_class_has_an_exception_of_its_own() -> None:
    @ray.remote
    class Base: ...

    with pytest.raises(part("actor").ActorClassInheritanceException):

        class Derived(Base): ...


def test_progress_bars_can_be_used_in_tasks() -> None:
    @ray.remote
    def count() -> int:
        bars = importlib.import_module(f"{ENGINE}.experimental.tqdm_ray")
        with_total = bars.tqdm(total=3, desc="three")
        for _ in range(3):
            with_total.update(1)
        with_total.close()
        return sum(bars.tqdm(range(5)))

    assert ray.get(count.remote()) == 10


def test_a_logging_config_is_checked() -> None:
    config = ray.LoggingConfig(encoding="JSON", log_level="DEBUG", additional_log_standard_attrs=["name"])
    assert (config.encoding, config.log_level) == ("JSON", "DEBUG")
    with pytest.raises(ValueError, match="encoding"):
        ray.LoggingConfig(encoding="XML")
    with pytest.raises(ValueError, match="attribute"):
        ray.LoggingConfig(additional_log_standard_attrs=["nothing"])


def test_private_names_that_libraries_cannot_do_without() -> None:
    assert part("_private.services").get_node_ip_address() == ray.util.get_node_ip_address()
    worker = part("_private.worker").global_worker
    assert worker.connected and worker.mode == ray.SCRIPT_MODE
    worker.check_connected()

    @ray.remote
    def mode() -> Any:
        return importlib.import_module(f"{ENGINE}._private.worker").global_worker.mode

    assert ray.get(mode.remote()) == ray.WORKER_MODE
