"""How do libraries share a few bytes without an actor? The cluster's key-value table, as
`ray.experimental.internal_kv`. Values live as long as the cluster.
"""

from __future__ import annotations

from typing import Any

from minray.engine import seam

_PREFIX = b"kv:"


def _key(key: str | bytes, namespace: str | bytes | None) -> bytes:
    return _PREFIX + _bytes(namespace or b"") + b":" + _bytes(key)


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _ask(what: str, argument: Any) -> Any:
    return seam.current().ask(what, argument)


def _internal_kv_initialized() -> bool:
    """Whether there is a table to use."""
    return seam.current_or_none() is not None


def _internal_kv_put(
    key: str | bytes, value: str | bytes, overwrite: bool = True, *, namespace: str | bytes | None = None
) -> bool:
    """Write. Returns: whether the key was there already."""
    return not _ask("kv_put", (_key(key, namespace), _bytes(value), overwrite))


def _internal_kv_get(key: str | bytes, *, namespace: str | bytes | None = None) -> bytes | None:
    """Read; None when there is no such key."""
    return _ask("kv_get", _key(key, namespace))  # type: ignore[no-any-return]


def _internal_kv_exists(key: str | bytes, *, namespace: str | bytes | None = None) -> bool:
    """Whether there is such a key."""
    return _internal_kv_get(key, namespace=namespace) is not None


def _internal_kv_del(
    key: str | bytes, *, del_by_prefix: bool = False, namespace: str | bytes | None = None
) -> int:
    """Delete the key, or all that begin with it. Returns: how many there were."""
    whole = _key(key, namespace)
    keys = _ask("kv_keys", whole) if del_by_prefix else [whole]
    return sum(bool(_ask("kv_del", one)) for one in keys)


def _internal_kv_list(prefix: str | bytes, *, namespace: str | bytes | None = None) -> list[bytes]:
    """Keys that begin with `prefix`."""
    start = len(_key(b"", namespace))
    return [key[start:] for key in _ask("kv_keys", _key(prefix, namespace))]
