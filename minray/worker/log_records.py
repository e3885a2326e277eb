"""How do the program's own log records look in the driver and in workers (`init(logging_config=...)`)?

One format for all processes of the job, as text or JSON, each record with the job, node, worker, task and
actor that wrote it: `grep task_id=...` finds a task's story in any worker's file. As `ray.LoggingConfig`.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

ENCODINGS = ("TEXT", "JSON")
_STANDARD = ("asctime", "levelname", "message", "filename", "lineno", "exc_text")
_KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"asctime", "message"}


@dataclass
class LoggingConfig:
    """Raises: ValueError for an unknown encoding, level or attribute."""

    encoding: str = "TEXT"
    log_level: str = "INFO"
    additional_log_standard_attrs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            raise ValueError(
                f"Invalid encoding type: {self.encoding}. Valid encoding types are: {list(ENCODINGS)}"
            )
        for name in self.additional_log_standard_attrs:
            if name not in _KNOWN:
                raise ValueError(f"Unknown python logging standard attribute: {name}.")
        if not isinstance(logging.getLevelName(self.log_level), int):
            raise ValueError(f"Unknown log level: {self.log_level!r}")

    def apply(self, context: Callable[[], dict[str, str]]) -> None:
        """Set up this process's root logger; `context()` names who writes."""
        handler = logging.StreamHandler()
        handler.setFormatter(_Formatter(self, context))
        root = logging.getLogger()
        for other in root.handlers[:]:
            if isinstance(other, logging.StreamHandler) and isinstance(other.formatter, _Formatter):
                root.removeHandler(other)
        root.addHandler(handler)
        root.setLevel(self.log_level)


class _Formatter(logging.Formatter):
    def __init__(self, config: LoggingConfig, context: Callable[[], dict[str, str]]) -> None:
        super().__init__("%(asctime)s\t%(levelname)s %(filename)s:%(lineno)s -- %(message)s")
        self._config = config
        self._context = context

    def format(self, record: logging.LogRecord) -> str:
        named: dict[str, Any] = {
            name: getattr(record, name, "") for name in self._config.additional_log_standard_attrs
        }
        named.update(self._context())
        named.update({key: value for key, value in vars(record).items() if key not in _KNOWN})  # extra={...}
        named["timestamp_ns"] = time.time_ns()
        if self._config.encoding == "TEXT":
            return " ".join(
                [super().format(record), *(f"{key}={value}" for key, value in named.items() if value != "")]
            )
        row: dict[str, Any] = {
            "asctime": self.formatTime(record),
            "levelname": record.levelname,
            "message": record.getMessage(),
            "filename": record.filename,
            "lineno": record.lineno,
        }
        if record.exc_info:
            row["exc_text"] = self.formatException(record.exc_info)
        return json.dumps({**row, **{key: value for key, value in named.items() if value != ""}}, default=str)


def writer(running: Any) -> dict[str, str]:
    """Who writes a record: the fields of `engine.running()` that name somebody."""
    return {
        name: getattr(running, name)
        for name in ("job_id", "worker_id", "node_id", "task_id", "task_name", "actor_id", "actor_name")
    }
