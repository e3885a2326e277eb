"""What do the processes of a job leave for one another? A table of bytes by bytes keys.

Small things only (exported functions, library configuration): values live in the node process. The
limit keeps a runaway loop from turning the node into the object store.
"""

from __future__ import annotations

BYTES_MAX = 256 << 20


class KeyValueTable:
    """One flat table for the cluster's life."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self._rows: dict[bytes, bytes] = {}
        self._bytes = 0
        self._bytes_max = bytes_max

    def put(self, key: bytes, value: bytes, overwrite: bool = True) -> bool:
        """Store. Returns whether the key is new; an existing one is kept unless `overwrite`.

        Raises: ValueError when the table would exceed its limit.
        """
        old = self._rows.get(key)
        if old is not None and not overwrite:
            return False
        growth = len(value) - len(old) if old is not None else len(key) + len(value)
        if self._bytes + growth > self._bytes_max:
            raise ValueError(
                f"the key-value table holds {self._bytes} bytes and may hold {self._bytes_max}: "
                f"{len(value)} more do not fit; large values belong into the object store (minray.put)"
            )
        self._rows[key] = value
        self._bytes += growth
        return old is None

    def get(self, key: bytes) -> bytes | None:
        """The value, None when there is none."""
        return self._rows.get(key)

    def delete(self, key: bytes) -> bool:
        """Whether there was such a key."""
        value = self._rows.pop(key, None)
        if value is None:
            return False
        self._bytes -= len(key) + len(value)
        return True

    def keys(self, prefix: bytes) -> list[bytes]:
        """All keys that start with `prefix`, sorted."""
        return sorted(key for key in self._rows if key.startswith(prefix))

    def check_invariants(self) -> None:
        """Assert that the byte count is right."""
        assert self._bytes == sum(len(key) + len(value) for key, value in self._rows.items())
