"""What was this session told? One frozen record, made once by the driver's `init`.

The environment is read here and nowhere else. The node gets the record through its start pipe,
workers inherit it over fork.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class SessionConfig:
    """Everything that a node process and its workers need to know at their start."""

    session_dir: str  # 0700; holds node.sock, p-<worker id>.sock and logs/
    token: bytes  # 32 random bytes, first on every connection
    node_id: bytes
    driver_pid: int
    resources: Mapping[str, float]  # declared capacity of the node: {"CPU": 2.0, "memory": ...}
    arena_bytes: int
    namespace: str
    job_id: int = 1
    log_to_driver: bool = True
    sys_path: tuple[str, ...] = ()
    working_dir: str = ""
    preload: tuple[str, ...] = ()  # modules that the zygote imports before it forks ("numpy")
    main_path: str = ""  # the driver's __main__ file, for by-value decisions
    inline_limit_bytes: int = 100 * 1024
    idle_worker_s: float = 60.0  # an idle worker beyond num_cpus is given back after this ...
    max_workers: int = 0  # 0: from the memory limit
    tracing: bool = True
    as_ray: bool = False  # `import ray` means minray in the workers too
    labels: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)  # the job's prepared runtime_env
    logging: Mapping[str, Any] = field(default_factory=dict)  # fields of a LoggingConfig, or nothing
    spilling: bool = True  # objects go to disk when the store is full
    spill_path: str = ""  # the folder for them; "": in the session's folder
    spill_disk_share: float = 0.95  # of the disk in use: beyond, nothing is spilled
    min_spilling_bytes: int = 100 * 10**6  # spill at least so much at a time (no more than an eighth of the arena)
    fused_objects_max: int = 2000  # in one file

    @property
    def spill_dir(self) -> str:
        """Folder of the files with spilled objects; made by the first of them."""
        return self.spill_path or os.path.join(self.session_dir, "spilled")

    @property
    def node_socket(self) -> str:
        """Path of the node's listening socket."""
        return os.path.join(self.session_dir, "node.sock")

    @property
    def log_dir(self) -> str:
        """Folder of the workers' output files, `worker-<id>.log` each (stdout and stderr)."""
        return os.path.join(self.session_dir, "logs")

    def peer_socket(self, worker_id: bytes) -> str:
        """Path on which the process `worker_id` listens."""
        return os.path.join(self.session_dir, f"p-{worker_id.hex()[:16]}.sock")


@dataclass(frozen=True, slots=True)
class Environment:
    """The MINRAY_* variables, read once. Unset ones are None."""

    address: str | None
    num_cpus: float | None
    num_gpus: float | None
    resources: str | None  # JSON
    object_store_memory: int | None
    namespace: str | None
    tracing: bool
    temp_dir: str | None
    torch_zero_copy: bool


def read_environment(env: Mapping[str, str] = os.environ) -> Environment:
    """Read MINRAY_ADDRESS, _NUM_CPUS, _NUM_GPUS, _RESOURCES, _OBJECT_STORE_MEMORY, ... once.

    Raises: ValueError that names the variable when a number does not parse.
    """

    def number(name: str) -> float | None:
        text = env.get(name)
        if text is None or text == "":
            return None
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"the environment variable {name}={text!r} is not a number") from None
        if value < 0:
            raise ValueError(f"the environment variable {name}={text!r} is negative")
        return value

    store = number("MINRAY_OBJECT_STORE_MEMORY")
    return Environment(
        address=env.get("MINRAY_ADDRESS") or None,
        num_cpus=number("MINRAY_NUM_CPUS"),
        num_gpus=number("MINRAY_NUM_GPUS"),
        resources=env.get("MINRAY_RESOURCES") or None,
        object_store_memory=None if store is None else int(store),
        namespace=env.get("MINRAY_NAMESPACE") or None,
        tracing=env.get("MINRAY_TRACING", "1") not in ("0", "false", "off"),
        temp_dir=env.get("MINRAY_TMPDIR") or None,
        torch_zero_copy=env.get("MINRAY_TORCH_ZERO_COPY", "0") in ("1", "true", "on"),
    )
