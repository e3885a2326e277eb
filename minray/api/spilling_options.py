"""What may be said to `init` about spilling, and what does it mean for the session?

Ray's spellings: `object_spilling_directory=...`, or in `_system_config` the keys below;
`object_spilling_config` is a dict or its JSON: {"type": "filesystem", "params": {"directory_path": ...}}.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

FOLDER_PREFIX = "minray_spilled_objects_"


def spilling_fields(directory: Any, system_config: Any, name: str) -> dict[str, Any]:
    """Fields of the `SessionConfig`. A folder `name`d for the session is made in the directory, if one is given.

    Raises: TypeError, ValueError for what is not understood, OSError for a directory that cannot be used.
    """
    if system_config is not None and not isinstance(system_config, Mapping):
        raise TypeError(f"_system_config must be a dict, not {type(system_config).__name__}")
    config = dict(system_config or {})
    fields: dict[str, Any] = {}
    if not directory:
        directory = config.get("object_spilling_directory") or _directory_of(config.get("object_spilling_config"))
    if "automatic_object_spilling_enabled" in config:
        fields["spilling"] = bool(config["automatic_object_spilling_enabled"])
    for key, field, least, most in (
        ("local_fs_capacity_threshold", "spill_disk_share", 0.0, 1.0),
        ("min_spilling_size", "min_spilling_bytes", 0, None),
        ("max_fused_object_count", "fused_objects_max", 1, None),
    ):
        if key in config:
            fields[field] = _number(key, config[key], least, most)
    if directory:
        fields["spill_path"] = _made(directory, name)
    return fields


def _number(key: str, value: Any, least: float, most: float | None) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"_system_config: {key} must be a number, not {value!r}")
    if value < least or (most is not None and value > most):
        upper = f" and at most {most:g}" if most is not None else ""
        raise ValueError(f"_system_config: {key} must be at least {least:g}{upper}, not {value!r}")
    return value


def _directory_of(config: Any) -> Any:
    if not config:
        return None
    if isinstance(config, str):
        config = json.loads(config)
    if not isinstance(config, Mapping) or config.get("type") != "filesystem":
        kind = config.get("type") if isinstance(config, Mapping) else config
        raise ValueError(f"object_spilling_config: minray spills to a 'filesystem', not to {kind!r}")
    directory = (config.get("params") or {}).get("directory_path")
    if isinstance(directory, list | tuple):
        if len(directory) != 1:
            raise ValueError(f"object_spilling_config: minray spills to one directory, not to {len(directory)}")
        directory = directory[0]
    if not directory:
        raise ValueError('object_spilling_config: params must name the "directory_path"')
    return directory


def _made(directory: Any, name: str) -> str:
    folder = os.path.join(os.path.abspath(os.fspath(directory)), FOLDER_PREFIX + name)
    try:
        os.makedirs(folder, 0o700)
    except OSError as error:
        raise type(error)(
            error.errno, f"objects cannot be spilled there: {error.strerror}; name another directory", folder
        ) from None
    return folder
