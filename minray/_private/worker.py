"""Is this process a member of a cluster, and in which role? What libraries ask Ray's `global_worker`."""

from __future__ import annotations

from typing import Any

from minray.engine.seam import slot

SCRIPT_MODE, WORKER_MODE = 0, 1


class Worker:
    """This process, as libraries look at it."""

    @property
    def connected(self) -> bool:
        """Whether there is a cluster."""
        return slot.engine is not None

    @property
    def mode(self) -> int | None:
        """SCRIPT_MODE in a driver, WORKER_MODE in a worker, None outside a cluster."""
        if slot.engine is None:
            return None
        return SCRIPT_MODE if slot.engine.core.is_driver else WORKER_MODE

    @property
    def namespace(self) -> str:
        """The job's namespace."""
        return str(slot.engine.running().namespace)

    @property
    def current_job_id(self) -> Any:
        """The job's id."""
        from minray.api.context import get_runtime_context

        return get_runtime_context().job_id

    @property
    def worker_id(self) -> bytes:
        """This process's id."""
        return bytes(slot.engine.core.worker_id)

    def check_connected(self) -> None:
        """Raises: RuntimeError outside a cluster."""
        if not self.connected:
            raise RuntimeError("Ray has not been started yet. You can start Ray with 'ray.init()'.")


global_worker = Worker()
