"""Which drivers use this cluster? Each connected driver is a job, numbered from 1.

The first job's driver made the cluster; when it ends, the cluster ends. Later ones attached.
"""

from __future__ import annotations

from typing import Any


class JobTable:
    """Jobs, the ended ones included. A driver that reconnects keeps its number."""

    def __init__(self) -> None:
        self._rows: dict[bytes, dict[str, Any]] = {}  # driver's worker id -> row

    def joined(self, worker_id: bytes, pid: int, now_s: float) -> int:
        """A driver connected. Returns its job id."""
        row = self._rows.get(worker_id)
        if row is None:
            row = {"job_id": len(self._rows) + 1, "pid": pid, "started_s": now_s, "ended_s": None}
            self._rows[worker_id] = row
        row["ended_s"] = None
        return int(row["job_id"])

    def ended(self, worker_id: bytes, now_s: float) -> None:
        """Its process or connection is gone."""
        row = self._rows.get(worker_id)
        if row is not None:
            row["ended_s"] = now_s

    def rows(self) -> list[dict[str, Any]]:
        """For the state API."""
        return [{**row, "worker_id": worker_id.hex()} for worker_id, row in self._rows.items()]
