"""Are the metrics of all processes found in one text?"""

from __future__ import annotations

import os
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import minray as ray
from minray.util.metrics import Counter, Gauge, Histogram, prometheus_text, start_http_server

parser = pytest.importorskip("prometheus_client.parser")
pytestmark = pytest.mark.cluster


@pytest.fixture
def cluster() -> Iterator[None]:
    ray.init(num_cpus=2, log_to_driver=False)
    yield
    ray.shutdown()


def samples(name: str, text: str | None = None) -> list[Any]:
    families = parser.text_string_to_metric_families(text if text is not None else prometheus_text())
    return [sample for family in families for sample in family.samples if sample.name == name]


def until(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not claim():
        assert time.monotonic() < deadline, prometheus_text()
        time.sleep(0.05)


def total(name: str) -> float:
    return sum(sample.value for sample in samples(name))


def test_counts_of_tasks_actors_and_driver_come_together(cluster: None) -> None:
    done = Counter("done.things", description="what is done", tag_keys=("kind",))

    @ray.remote
    def task() -> None:
        done.inc(tags={"kind": "task"})

    @ray.remote
    class Actor:
        def work(self) -> int:
            done.inc(2, tags={"kind": "actor"})
            return os.getpid()

    done.inc(tags={"kind": "driver"})
    actor = Actor.remote()
    ray.get([*[task.remote() for _ in range(10)], actor.work.remote()])
    until(lambda: total("ray_done_things_total") == 13)
    kinds: dict[str, float] = {}
    for sample in samples("ray_done_things_total"):
        kinds[sample.labels["kind"]] = kinds.get(sample.labels["kind"], 0) + sample.value
        assert len(sample.labels["WorkerId"]) == 32
    assert kinds == {"driver": 1, "task": 10, "actor": 2}


def test_a_dead_process_keeps_what_it_counted(cluster: None) -> None:
    @ray.remote
    class Actor:
        def __init__(self) -> None:
            self.counter = Counter("kept")

        def work(self) -> None:
            self.counter.inc(5)

    actor = Actor.remote()
    ray.get(actor.work.remote())
    until(lambda: total("ray_kept_total") == 5)
    ray.kill(actor)
    assert total("ray_kept_total") == 5


def test_a_gauge_shows_its_last_value_and_a_histogram_its_buckets(cluster: None) -> None:
    gauge = Gauge("level")
    gauge.set(3)
    gauge.set(1.5)
    histogram = Histogram("latency", boundaries=[0.1, 1.0], tag_keys=("route",))
    for value in (0.05, 0.1, 0.5, 7.0):
        histogram.observe(value, tags={"route": "/"})
    assert total("ray_level") == 1.5
    buckets = {sample.labels["le"]: sample.value for sample in samples("ray_latency_bucket")}
    assert buckets == {"0.1": 2, "1.0": 3, "+Inf": 4}
    assert total("ray_latency_sum") == pytest.approx(7.65) and total("ray_latency_count") == 4


def test_the_nodes_resources_are_there_without_being_asked_for(cluster: None) -> None:
    states = {
        (sample.labels["Name"], sample.labels["State"]): sample.value for sample in samples("ray_resources")
    }
    assert states["CPU", "AVAILABLE"] == 2 and states["CPU", "USED"] == 0
    assert total("ray_object_store_memory") > 0


def test_a_prometheus_server_can_read_it(cluster: None) -> None:
    Counter("served").inc(4)
    server, thread = start_http_server(0)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=30) as answer:
            text = answer.read().decode()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert [sample.value for sample in samples("ray_served_total", text)] == [4]


def test_a_new_session_counts_from_zero(cluster: None) -> None:
    counter = Counter("sessions")
    counter.inc(3)
    assert total("ray_sessions_total") == 3
    ray.shutdown()
    ray.init(num_cpus=1, log_to_driver=False)
    assert samples("ray_sessions_total") == []
    counter.inc()
    assert total("ray_sessions_total") == 1


def test_without_a_cluster_there_is_nothing_to_read() -> None:
    Counter("nobody").inc()
    with pytest.raises(RuntimeError, match="not initialized"):
        prometheus_text()
