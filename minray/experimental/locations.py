"""Where do objects lie? As `ray.experimental.get_object_locations`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minray.base.errors import GetTimeoutError
from minray.engine.seam import slot
from minray.worker.object_ref import ObjectRef


def get_object_locations(
    obj_refs: Sequence[ObjectRef[Any]], timeout_ms: int = -1
) -> dict[ObjectRef[Any], Any]:
    """{ref: {"node_ids": [hex], "object_size": bytes | None, "did_spill": bool}}.

    node_ids is empty for small objects (they lie in their owner) and for what is not ready; the size is
    None then. timeout_ms: how long to wait for owners in other processes; below zero without end.
    Raises: RuntimeError without a cluster, TypeError for what is no reference, GetTimeoutError.
    """
    engine = slot.engine
    if engine is None:
        raise RuntimeError("Ray hasn't been initialized. Call init() first.")
    for ref in obj_refs:
        if not isinstance(ref, ObjectRef):
            raise TypeError(f"Attempting to get the location of {ref!r}, which is not an ObjectRef.")
    foreign = [ref for ref in obj_refs if ref.owner != engine.core.worker_id]
    if foreign:
        timeout_s = None if timeout_ms < 0 else timeout_ms / 1000
        _, late = engine.wait(foreign, len(foreign), timeout_s)
        if late:
            raise GetTimeoutError(
                f"{len(late)} of {len(foreign)} owners did not answer within {timeout_ms} ms."
            )
    node_id = engine.running().node_id
    return {ref: _location(ref, node_id) for ref in obj_refs}


def get_local_object_locations(obj_refs: Sequence[ObjectRef[Any]]) -> dict[ObjectRef[Any], Any]:
    """The same of what this process knows without asking anybody."""
    engine = slot.engine
    if engine is None:
        raise RuntimeError("Ray hasn't been initialized. Call init() first.")
    return {ref: _location(ref, engine.running().node_id) for ref in obj_refs}


def _location(ref: ObjectRef[Any], node_id: str) -> dict[str, Any]:
    block = getattr(ref.v, "block", None)
    if block is None:
        return {"node_ids": [], "object_size": None, "did_spill": False}
    allocator = block[2]  # nobody: its bytes lie in a file
    return {"node_ids": [node_id], "object_size": ref.v.size, "did_spill": not allocator}
