"""How does a program count what it does, in every process, and who can read it?

    requests = Counter("requests", description="...", tag_keys=("route",))
    requests.inc(tags={"route": "/"})                    # in the driver, a task, an actor
    print(prometheus_text())                             # all processes' metrics, in the driver
    start_http_server(9100)                              # the same for a Prometheus server, loopback only

As `ray.util.metrics`. Each process keeps its own samples and writes them to the cluster's key-value table
about once a second while they change; a process that is killed loses at most that second. Its counts stay
in the table, each sample labelled with the id of its process (`WorkerId`), as in Ray; names get the prefix
`ray_`, so that dashboards made for Ray fit.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Self

from minray.engine.seam import slot

REPORT_EVERY_S = 1.0
KEY = b"metrics:"
_ODD = re.compile(r"[^a-zA-Z0-9_]")


class Metric:
    """What counters, gauges and histograms share: a name, a description, the keys of their tags."""

    kind = "gauge"

    def __init__(self, name: str, description: str = "", tag_keys: tuple[str, ...] | None = None) -> None:
        if len(name) == 0:
            raise ValueError("Empty name is not allowed. Please provide a metric name.")
        keys = tag_keys or ()
        if not isinstance(keys, tuple):
            raise TypeError(f"tag_keys should be a tuple type, got: {type(keys)}")
        for key in keys:
            if not isinstance(key, str):
                raise TypeError(f"Tag keys must be str, got {type(key)}.")
        self._name = name
        self._description = description
        self._tag_keys = keys
        self._default_tags: dict[str, str] = {}

    @property
    def info(self) -> dict[str, Any]:
        """Name, description, tag keys and default tags."""
        return {
            "name": self._name,
            "description": self._description,
            "tag_keys": self._tag_keys,
            "default_tags": self._default_tags,
        }

    def set_default_tags(self, default_tags: Mapping[str, str]) -> Self:
        """Values of tags that a call does not name. Raises: ValueError for an unknown key, TypeError."""
        for key, value in default_tags.items():
            if key not in self._tag_keys:
                raise ValueError(f"Unrecognized tag key {key}.")
            _check_tag(value)
        self._default_tags = dict(default_tags)
        return self

    def _record(self, value: float, tags: Mapping[str, str] | None) -> None:
        if not isinstance(value, int | float):
            raise TypeError(f"value must be int or float, got {type(value)}.")
        for tag in (tags or {}).values():
            _check_tag(tag)
        named = {**self._default_tags, **(tags or {})}
        missing = [key for key in self._tag_keys if key not in named]
        if missing:
            raise ValueError(f"Missing value for tag key(s): {','.join(missing)}.")
        _samples.add(self, tuple(named[key] for key in self._tag_keys), float(value))

    def _combine(self, before: Any, value: float) -> Any:
        """The sample after `value`."""
        return value

    def _family(self) -> dict[str, Any]:
        return {"kind": self.kind, "description": self._description, "tag_keys": self._tag_keys}

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), dict(self.__dict__))


class Counter(Metric):
    """A number that only grows."""

    kind = "counter"

    def inc(self, value: float = 1.0, tags: Mapping[str, str] | None = None) -> None:
        """Add `value`. Raises: ValueError unless it is above zero, or when a tag is missing; TypeError."""
        if isinstance(value, int | float) and value <= 0:
            raise ValueError(f"value must be >0, got {value}")
        self._record(value, tags)

    def _combine(self, before: Any, value: float) -> Any:
        return (before or 0.0) + value


class Gauge(Metric):
    """A number that goes up and down; the last value of each process counts."""

    def set(self, value: float | None, tags: Mapping[str, str] | None = None) -> None:
        """Set it. None is taken and ignored, as in Ray. Raises: ValueError when a tag is missing; TypeError."""
        if value is not None:
            self._record(value, tags)


class Histogram(Metric):
    """How values are distributed over buckets with these upper `boundaries` (all above zero)."""

    kind = "histogram"

    def __init__(
        self,
        name: str,
        description: str = "",
        boundaries: Sequence[float] | None = None,
        tag_keys: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(name, description, tag_keys)
        if not boundaries:
            raise ValueError(
                "boundaries argument should be provided when using the Histogram class. "
                'e.g., Histogram("name", boundaries=[1.0, 2.0])'
            )
        for index, boundary in enumerate(boundaries):
            if boundary <= 0:
                raise ValueError(
                    f"Invalid `boundaries` argument at index {index}, {boundaries}. "
                    "Use positive values for the arguments."
                )
        self.boundaries = list(boundaries)

    @property
    def info(self) -> dict[str, Any]:
        """The metric's, and its boundaries."""
        return {**super().info, "boundaries": self.boundaries}

    def observe(self, value: float, tags: Mapping[str, str] | None = None) -> None:
        """Count one value. Raises: ValueError when a tag is missing; TypeError."""
        self._record(value, tags)

    def _combine(self, before: Any, value: float) -> Any:
        """[count of each bucket ..., count beyond the last, sum]."""
        after = before or [0] * (len(self.boundaries) + 1) + [0.0]
        bucket = sum(1 for boundary in sorted(self.boundaries) if value > boundary)
        after[bucket] += 1
        after[-1] += value
        return after

    def _family(self) -> dict[str, Any]:
        return {**super()._family(), "boundaries": sorted(self.boundaries)}


def _check_tag(value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError(f"Tag values must be str, got {type(value)}.")


def _rebuild(cls: type[Metric], state: dict[str, Any]) -> Metric:
    metric = cls.__new__(cls)
    metric.__dict__.update(state)
    return metric


class _Samples:
    """This process's samples, and the thread that reports them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._families: dict[str, dict[str, Any]] = {}
        self._values: dict[str, dict[tuple[str, ...], Any]] = {}
        self._dirty = False
        self._thread: threading.Thread | None = None
        self._engine: Any = None

    def add(self, metric: Metric, tags: tuple[str, ...], value: float) -> None:
        """Note one value."""
        with self._lock:
            if self._engine is not slot.engine:  # another session: its table is empty
                self._engine = slot.engine
                self._values.clear()
            values = self._values.setdefault(metric._name, {})
            self._families[metric._name] = metric._family()
            values[tags] = metric._combine(values.get(tags), value)
            self._dirty = True
            if self._engine is not None and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(
                    target=self._report_for_ever, name="minray-metrics", daemon=True
                )
                self._thread.start()
            self._changed.notify()

    def report(self) -> None:
        """Write what changed to the cluster's table."""
        with self._lock:
            engine = self._engine
            if not self._dirty or engine is None or engine is not slot.engine:
                return
            self._dirty = False
            rows = [
                {
                    "name": name,
                    **self._families[name],
                    "samples": [[list(tags), value] for tags, value in values.items()],
                }
                for name, values in self._values.items()
            ]
            blob = json.dumps(rows).encode()
        worker_id = engine.running().worker_id
        engine.ask("kv_put", (KEY + worker_id.encode(), blob, True))

    def _report_for_ever(self) -> None:
        pause = threading.Event()
        while True:
            with self._changed:
                while not self._dirty:
                    self._changed.wait()
            try:
                self.report()
            except Exception:  # the cluster is gone, or goes at this moment: the next session starts anew
                with self._lock:
                    self._dirty = False
            pause.wait(REPORT_EVERY_S)


_samples = _Samples()


def _all_samples() -> dict[str, list[dict[str, Any]]]:
    """Families with their samples by the process (hexadecimal id) that has them."""
    engine = slot.engine
    if engine is None:
        raise RuntimeError(
            "minray is not initialized: there are no metrics to read. Call minray.init() first."
        )
    _samples.report()
    found = {}
    for key in sorted(engine.ask("kv_keys", KEY)):
        blob = engine.ask("kv_get", key)
        if blob is not None:
            found[key.removeprefix(KEY).decode()] = json.loads(blob)
    return found


class _Collector:
    """What prometheus-client asks for the metrics of the cluster."""

    def collect(self) -> Any:
        """Metric families, one a name."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        families: dict[str, Any] = {}
        kinds: dict[str, Any] = {
            "counter": CounterMetricFamily,
            "gauge": GaugeMetricFamily,
            "histogram": HistogramMetricFamily,
        }
        for worker_id, rows in _all_samples().items():
            for row in rows:
                name = "ray_" + _ODD.sub("_", row["name"])
                family = families.get(name)
                if family is None:
                    labels = [_ODD.sub("_", key) for key in row["tag_keys"]] + ["WorkerId"]
                    family = families[name] = kinds[row["kind"]](name, row["description"], labels=labels)
                if not isinstance(family, kinds[row["kind"]]):
                    continue  # another process calls something else by this name
                for tags, value in row["samples"]:
                    if row["kind"] == "histogram":
                        family.add_metric(
                            [*tags, worker_id], _cumulative(row["boundaries"], value[:-1]), value[-1]
                        )
                    else:
                        family.add_metric([*tags, worker_id], value)
        yield from families.values()
        yield from self._resources(GaugeMetricFamily)

    def _resources(self, gauge: Any) -> Any:
        engine = slot.engine
        total, free = engine.ask("cluster_resources"), engine.ask("available_resources")
        family = gauge("ray_resources", "Logical resources of the cluster.", labels=["Name", "State"])
        for name, amount in sorted(total.items()):
            family.add_metric([name, "AVAILABLE"], free.get(name, 0.0))
            family.add_metric([name, "USED"], amount - free.get(name, 0.0))
        yield family
        store = engine.ask("store")
        memory = gauge("ray_object_store_memory", "Bytes of the object store.", labels=["Location"])
        memory.add_metric(["GRANTED"], store["granted_bytes"])
        memory.add_metric(["CAPACITY"], store["capacity_bytes"])
        yield memory


def _cumulative(boundaries: list[float], counts: list[int]) -> list[tuple[str, float]]:
    total = 0
    buckets: list[tuple[str, float]] = []
    for boundary, count in zip([*map(float, boundaries), float("inf")], counts, strict=True):
        total += count
        buckets.append(("+Inf" if boundary == float("inf") else repr(boundary), total))
    return buckets


def _registry() -> Any:
    try:
        from prometheus_client import CollectorRegistry
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            'Prometheus text needs prometheus-client: pip install "minray[default]"', name="prometheus_client"
        ) from missing
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector())
    return registry


def prometheus_text() -> str:
    """The metrics of all processes in Prometheus' text format, with the node's resources and store.

    Raises: RuntimeError when there is no cluster, ModuleNotFoundError without prometheus-client.
    """
    registry = _registry()
    from prometheus_client import generate_latest

    return generate_latest(registry).decode()


def start_http_server(port: int, addr: str = "127.0.0.1") -> Any:
    """Serve `prometheus_text()` at http://addr:port/metrics from a thread, for a Prometheus server.

    Returns (server, thread); `server.shutdown()` ends it. Raises: OSError when the port is in use.
    """
    registry = _registry()
    from prometheus_client import start_http_server as start

    return start(port, addr, registry=registry)
