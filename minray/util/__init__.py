"""What does Ray offer beside its core, and minray with it?

Everything here is written on the public API alone: a program could have written it. Placement groups are
not offered yet. Modules that are not named below are imported by their own names (`minray.util.metrics`).
"""

from __future__ import annotations

from typing import Any

import minray
from minray.util import accelerators, queue, scheduling_strategies
from minray.util.actor_pool import ActorPool
from minray.util.check_serialize import inspect_serializability
from minray.util.completion import as_completed, map_unordered
from minray.util.debug import disable_log_once_globally, enable_periodic_logging, log_once
from minray.util.serialization import deregister_serializer, register_serializer

__all__ = [
    "ActorPool",
    "accelerators",
    "as_completed",
    "deregister_serializer",
    "disable_log_once_globally",
    "enable_periodic_logging",
    "get_node_instance_id",
    "get_node_ip_address",
    "inspect_serializability",
    "list_named_actors",
    "log_once",
    "map_unordered",
    "queue",
    "register_serializer",
    "scheduling_strategies",
]


def list_named_actors(all_namespaces: bool = False) -> list[Any]:
    """Names of the living named actors of this namespace, or all as {"namespace": ..., "name": ...}."""
    from minray.engine import seam

    namespace = None if all_namespaces else minray.get_runtime_context().namespace
    rows = seam.current().named_actors(namespace)
    if all_namespaces:
        return [{"name": name, "namespace": owner_namespace} for name, owner_namespace in rows]
    return [name for name, _ in rows]


def get_node_ip_address() -> str:
    """The address of this node. Clusters of one machine use the loopback."""
    return "127.0.0.1"


def get_node_instance_id() -> str:
    """The cloud's name of this machine; of machines that no cloud started it is unknown, as Ray says it too."""
    return ""


def __getattr__(name: str) -> Any:
    # They import pdb, numpy, multiprocessing: programs that use none of these need not pay for them.
    if name in ("pdb", "collective", "multiprocessing"):
        import importlib

        return importlib.import_module(f"minray.util.{name}")
    raise AttributeError(f"module 'minray.util' has no attribute {name!r}")
