"""Where am I, and what is there? `get_runtime_context`, `nodes`, resources, GPU ids, `timeline`."""

from __future__ import annotations

import json
import os
from typing import Any

from minray.api.init import auto_init
from minray.base import ids
from minray.base.errors import RaySystemError
from minray.engine.seam import RunningTask, slot
from minray.recording.timeline import chrome_trace
from minray.runtime_env import RuntimeEnv
from minray.worker.task_context import current_task


def _engine() -> Any:
    return slot.engine if slot.engine is not None else auto_init()


def _running() -> Any:
    """Questions about the cluster do not start one, as in Ray. Raises: RaySystemError."""
    if slot.engine is None:
        raise RaySystemError("minray has not been started yet: call minray.init() before this question.")
    return slot.engine


class RuntimeContext:
    """What the running task or driver can know of itself (Ray's names)."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def _now(self) -> RunningTask:
        return self._engine.running()  # type: ignore[no-any-return]

    def get_job_id(self) -> str:
        """8 hexadecimal digits."""
        return self._now().job_id

    def get_node_id(self) -> str:
        """56 hexadecimal digits."""
        return self._now().node_id

    def get_worker_id(self) -> str:
        """32 hexadecimal digits."""
        return self._now().worker_id

    def get_task_id(self) -> str | None:
        """48 hexadecimal digits, None in the driver."""
        return self._now().task_id or None

    def get_task_name(self) -> str | None:
        """The running function's or method's name, None in the driver."""
        return self._now().task_name or None

    def get_task_function_name(self) -> str | None:
        """The running function's qualified name, None in the driver."""
        return self._now().task_name or None

    def get_actor_id(self) -> str | None:
        """32 hexadecimal digits, None outside actors."""
        return self._now().actor_id or None

    def get_actor_name(self) -> str | None:
        """The actor's name, "" when it has none, None outside actors."""
        now = self._now()
        return now.actor_name if now.actor_id else None

    @property
    def namespace(self) -> str:
        """The namespace of this job or actor."""
        return self._now().namespace

    @property
    def was_current_actor_reconstructed(self) -> bool:
        """Whether the running actor was restarted."""
        return self._now().restarted

    def is_canceled(self) -> bool:
        """Whether `cancel` was called for the running task (Ray's spelling).

        Raises: RuntimeError in the driver, and in an async actor, whose calls get a CancelledError."""
        return self._engine.is_cancelled()  # type: ignore[no-any-return]

    @property
    def current_actor(self) -> Any:
        """A handle of the running actor. Raises: RuntimeError outside actors."""
        from minray.api.actor_class import ActorHandle, get_actor, make_actor_class

        now = self._now()
        if not now.actor_id:
            raise RuntimeError("This method is only available in an actor.")
        if now.actor_name:
            return get_actor(now.actor_name, now.namespace)
        task = current_task()
        instance = task.actor.instance if task is not None and task.actor is not None else None
        if instance is None:
            raise RuntimeError("current_actor is known once the constructor has returned; or name the actor.")
        info = make_actor_class(type(instance), {})._handle_info()
        return ActorHandle(bytes.fromhex(now.actor_id), info, None)

    @property
    def job_id(self) -> ids.JobID:
        """The job's id as an object."""
        return ids.JobID(bytes.fromhex(self.get_job_id()))

    @property
    def node_id(self) -> ids.NodeID:
        """The node's id as an object."""
        return ids.NodeID(bytes.fromhex(self.get_node_id()))

    @property
    def task_id(self) -> ids.TaskID | None:
        """The running task's id as an object, None in the driver."""
        found = self.get_task_id()
        return ids.TaskID(bytes.fromhex(found)) if found else None

    @property
    def actor_id(self) -> ids.ActorID | None:
        """The running actor's id as an object, None outside actors."""
        found = self.get_actor_id()
        return ids.ActorID(bytes.fromhex(found)) if found else None

    def get_placement_group_id(self) -> str | None:
        """None: nothing runs in a placement group in this version."""
        return None

    def get_node_labels(self) -> dict[str, str]:
        """The labels of this node."""
        mine = self.get_node_id()
        return next((dict(node["Labels"]) for node in self._engine.ask("nodes") if node["NodeID"] == mine), {})

    def get_session_name(self) -> str:
        """The last part of the session folder's path."""
        return os.path.basename(str(self._engine.core.config.session_dir))

    @property
    def gcs_address(self) -> str:
        """Where the control plane listens: the session folder."""
        return str(self._engine.core.config.session_dir)

    @property
    def runtime_env(self) -> RuntimeEnv:
        """The runtime environment of what runs here, that of the job included; folders are those of the copies."""
        return RuntimeEnv(**self._engine.job_environment(), _validate=False)

    def get_runtime_env_string(self) -> str:
        """JSON of the runtime environment."""
        return self.runtime_env.serialize()

    def get_assigned_resources(self) -> dict[str, float]:
        """What the running task or actor holds."""
        return dict(self._now().resources)

    def get_accelerator_ids(self) -> dict[str, list[str]]:
        """{"GPU": ["0", ...]}."""
        return {"GPU": [str(index) for index in self._now().gpu_ids]}

    def get(self) -> dict[str, Any]:
        """All of it as a dictionary."""
        now = self._now()
        found: dict[str, Any] = {"job_id": now.job_id, "node_id": now.node_id, "namespace": now.namespace}
        if now.task_id:
            found["task_id"] = now.task_id
        if now.actor_id:
            found["actor_id"] = now.actor_id
        return found


def get_runtime_context() -> RuntimeContext:
    """The running task's or driver's context."""
    return RuntimeContext(_engine())


def nodes() -> list[dict[str, Any]]:
    """One dictionary a node, with Ray's keys."""
    return _running().ask("nodes")  # type: ignore[no-any-return]


def cluster_resources() -> dict[str, float]:
    """What all nodes have."""
    return _running().ask("cluster_resources")  # type: ignore[no-any-return]


def available_resources() -> dict[str, float]:
    """What nobody holds at this moment."""
    return _running().ask("available_resources")  # type: ignore[no-any-return]


def get_gpu_ids() -> list[int]:
    """The GPUs of the running task or actor; [] in the driver."""
    return list(_engine().running().gpu_ids)


def timeline(filename: str | os.PathLike[str] | None = None) -> list[dict[str, Any]] | None:
    """All recorded tasks as Chrome/Perfetto trace events; written to `filename` as JSON if given."""
    trace = chrome_trace(_running().all_events().events)
    if filename is None:
        return trace
    with open(filename, "w", encoding="utf-8") as file:
        json.dump(trace, file)
    return None
