"""How is a message said once, however often the line runs? As `ray.util.debug`."""

from __future__ import annotations

import time

PERIOD_S = 60.0
_said: set[str] = set()
_disabled = False
_periodic = False
_last_cleared_s = 0.0


def log_once(key: str) -> bool:
    """Whether `key` is asked about for the first time, so that a message in a loop is said once."""
    global _last_cleared_s
    if _disabled:
        return False
    if key not in _said:
        _said.add(key)
        _last_cleared_s = time.monotonic()
        return True
    if _periodic and time.monotonic() - _last_cleared_s > PERIOD_S:
        _said.clear()
        _last_cleared_s = time.monotonic()
    return False


def disable_log_once_globally() -> None:
    """`log_once` is False from now on in this process."""
    global _disabled
    _disabled = True


def enable_periodic_logging() -> None:
    """`log_once` is True again every minute in this process."""
    global _periodic
    _periodic = True


def reset_log_once(key: str | None = None) -> None:
    """Forget that `key` was said; None: everything."""
    if key is None:
        _said.clear()
    else:
        _said.discard(key)
