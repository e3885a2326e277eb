"""What does a forked worker know when its first line runs?"""

from __future__ import annotations

from dataclasses import dataclass

from minray.base.config import SessionConfig


@dataclass(frozen=True)
class WorkerBoot:
    """The zygote hands this to `run_worker`. Output already goes to `log_path`, stdin is empty, signal
    handlers are Python's own, and the process dies with its node."""

    config: SessionConfig
    worker_id: bytes  # 16, chosen by the node; say it in the Hello
    arena_fd: int  # inherited
    log_path: str
