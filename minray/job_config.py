"""What may a program say of its job as a whole? `init(job_config=JobConfig(...))`, as `ray.job_config`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class JobConfig:
    """Options of a job. Those for Java code are taken and ignored."""

    def __init__(
        self,
        jvm_options: list[str] | None = None,
        code_search_path: list[str] | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        _client_job: bool = False,
        metadata: Mapping[str, str] | None = None,
        ray_namespace: str | None = None,
        default_actor_lifetime: str = "non_detached",
        _py_driver_sys_path: list[str] | None = None,
    ) -> None:
        if isinstance(code_search_path, str):
            raise TypeError("The type of code search path is incorrect: it must be a list of strings.")
        self.jvm_options = jvm_options or []
        self.code_search_path = code_search_path or []
        self.runtime_env: dict[str, Any] = dict(runtime_env or {})
        self.metadata = dict(metadata or {})
        self.ray_namespace = ray_namespace
        self.set_default_actor_lifetime(default_actor_lifetime)

    def set_metadata(self, key: str, value: str) -> None:
        """Note something about the job."""
        self.metadata[key] = value

    def set_runtime_env(self, runtime_env: Mapping[str, Any] | None, validate: bool = False) -> None:
        """The environment of all workers of the job."""
        self.runtime_env = dict(runtime_env or {})

    def set_ray_namespace(self, ray_namespace: str) -> None:
        """The namespace of the job's named actors."""
        self.ray_namespace = ray_namespace

    def set_default_actor_lifetime(self, default_actor_lifetime: str) -> None:
        """ "detached" or "non_detached". Raises: ValueError."""
        if default_actor_lifetime not in ("detached", "non_detached"):
            raise ValueError(
                f"Default actor lifetime must be one of `detached`, `non_detached`, not {default_actor_lifetime!r}"
            )
        self.default_actor_lifetime = default_actor_lifetime
