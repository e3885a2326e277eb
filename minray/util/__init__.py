"""What does Ray offer beside its core, and minray with it?

Everything here is written on the public API alone: a program could have written it. Not offered yet:
placement groups, the state API, metrics, joblib, collectives.
"""

from __future__ import annotations

from typing import Any

import minray
from minray.util import queue, scheduling_strategies
from minray.util.actor_pool import ActorPool
from minray.util.check_serialize import inspect_serializability
from minray.util.completion import as_completed, map_unordered
from minray.util.serialization import deregister_serializer, register_serializer

__all__ = [
    "ActorPool",
    "as_completed",
    "deregister_serializer",
    "get_node_ip_address",
    "inspect_serializability",
    "list_named_actors",
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
