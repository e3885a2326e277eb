"""How much of this machine is ours: how many CPUs, GPUs and bytes?

A container sees the host's numbers in most places; what it may use stands in its cgroup. So each
answer is the least of what the places say:

    CPUs     affinity mask (which knows cpusets), quota / period of every cgroup above us
    memory   MemTotal, limit of every cgroup above us
    GPUs     device files, CUDA_VISIBLE_DEVICES

Cgroups come in two versions and nest; both are read here from their files, without a subprocess,
in less than a millisecond. A fractional quota is rounded down, but not below one CPU: two tasks on
1.5 CPUs would each run at three quarters of the speed that `num_cpus=1` promises.

Declared capacity (`init(num_cpus=...)`, then MINRAY_NUM_CPUS and its sisters) always wins: a program
that asks for 4 CPUs or a GPU can be studied on a laptop with neither.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from minray.base.config import Environment

OBJECT_STORE_SHARE = 0.3  # of the memory, as in Ray; the rest is offered to tasks as "memory"
STORE_SHARE_WARNED = 0.8
OBJECT_STORE_BYTES_MAX = 200 * 10**9
OBJECT_STORE_BYTES_MIN = 1024 * 1024
_NO_LIMIT = 1 << 60  # cgroup v1 writes "unlimited" as a huge number
_ASSUMED_MEMORY_BYTES = 4 * 1024**3  # where there is no /proc (macOS) and nobody said otherwise


@dataclass(frozen=True, slots=True)
class Limit:
    """A number and the file or call that set it: `minray doctor` shows both."""

    value: float
    source: str


@dataclass(frozen=True, slots=True)
class Host:
    """What this process may use of its machine."""

    affinity_cpus: int
    cpu_quota: Limit | None  # CPUs, fractional; None: no quota
    memory: Limit  # bytes
    memory_total_bytes: int  # of the machine, whatever our share
    gpus: Limit

    @property
    def cpus(self) -> int:
        """Whole CPUs that a cluster offers by default."""
        if self.cpu_quota is None:
            return self.affinity_cpus
        return max(1, min(self.affinity_cpus, math.floor(self.cpu_quota.value + 1e-6)))


def inspect_host(
    root: str = "/", env: Mapping[str, str] = os.environ, affinity_cpus: int | None = None
) -> Host:
    """Read affinity, cgroups, meminfo and GPU devices. `root` is a fake file tree in tests."""
    total = _meminfo_total(root)
    limits = [Limit(total, "/proc/meminfo (MemTotal)")] if total else []
    limits += _memory_limits(root)
    memory = min(limits, key=lambda limit: limit.value, default=None)
    if memory is None:
        memory = Limit(_physical_memory() or _ASSUMED_MEMORY_BYTES, "sysconf")
    return Host(
        affinity_cpus=affinity_cpus or _affinity(),
        cpu_quota=min(_cpu_quotas(root), key=lambda limit: limit.value, default=None),
        memory=memory,
        memory_total_bytes=total or int(memory.value),
        gpus=_gpus(root, env),
    )


def _affinity() -> int:
    try:
        return len(os.sched_getaffinity(0)) or 1
    except AttributeError:  # macOS has no affinity
        return os.cpu_count() or 1


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0


def _read(root: str, path: str) -> str:
    """The text of a small file of /proc or /sys; empty when it is missing or refused."""
    try:
        with open(os.path.join(root, path.lstrip("/")), encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _meminfo_total(root: str) -> int:
    found = re.search(r"^MemTotal:\s+(\d+) kB", _read(root, "/proc/meminfo"), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


# --- cgroups ----------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Cgroup:
    """One cgroup folder that holds us; its parents up to the mount hold us too."""

    version: int
    folder: str


def _cgroups(root: str, controller: str) -> Iterator[_Cgroup]:
    """The folders of `controller` from ours up to the mount point, in both cgroup versions."""
    own_paths: dict[str, str] = {}
    for line in _read(root, "/proc/self/cgroup").splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            for name in parts[1].split(","):
                own_paths[name] = parts[2]  # "" is version 2
    for line in _read(root, "/proc/self/mountinfo").splitlines():
        # id parent major:minor ROOT MOUNT_POINT options [fields...] - TYPE source SUPER_OPTIONS
        left, separator, right = line.partition(" - ")
        fields, tail = left.split(), right.split()
        if not separator or len(fields) < 5 or len(tail) < 3:
            continue
        if tail[0] == "cgroup2":
            version, own = 2, own_paths.get("")
        elif tail[0] == "cgroup" and controller in tail[2].split(","):
            version, own = 1, own_paths.get(controller)
        else:
            continue
        mount_root, mount = fields[3], _unescape(fields[4])
        below = own or "/"
        if mount_root != "/":
            # Without a cgroup namespace our path begins with what is mounted here.
            inside = below == mount_root or below.startswith(mount_root + "/")
            below = below[len(mount_root) :] if inside else "/"
        if "/.." in below:  # a namespace whose root lies beside us: only the mount itself is visible
            below = "/"
        folder = os.path.normpath(mount + "/" + below)
        while True:
            yield _Cgroup(version, folder)
            if folder == mount or len(folder) <= len(mount):
                break
            folder = os.path.dirname(folder)


def _unescape(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def _cpu_quotas(root: str) -> Iterator[Limit]:
    for cgroup in _cgroups(root, "cpu"):
        if cgroup.version == 2:
            source = f"{cgroup.folder}/cpu.max"
            quota, _, period = _read(root, source).strip().partition(" ")
        else:
            source = f"{cgroup.folder}/cpu.cfs_quota_us"
            quota = _read(root, source).strip()
            period = _read(root, f"{cgroup.folder}/cpu.cfs_period_us").strip()
        if quota.isdigit() and period.isdigit() and int(quota) > 0 and int(period) > 0:
            yield Limit(int(quota) / int(period), source)  # "max" and "-1" mean: none


def _memory_limits(root: str) -> Iterator[Limit]:
    for cgroup in _cgroups(root, "memory"):
        name = "memory.max" if cgroup.version == 2 else "memory.limit_in_bytes"
        source = f"{cgroup.folder}/{name}"
        text = _read(root, source).strip()
        if text.isdigit() and 0 < int(text) < _NO_LIMIT:
            yield Limit(int(text), source)


# --- GPUs -------------------------------------------------------------------------------------
def _gpus(root: str, env: Mapping[str, str]) -> Limit:
    """NVIDIA devices that CUDA would show us. No driver call: those take a second."""
    source = "/dev/nvidia*"
    count = sum(re.fullmatch(r"nvidia\d+", name) is not None for name in _names(root, "/dev"))
    if not count:
        source = "/proc/driver/nvidia/gpus"
        count = len(_names(root, source))
    visible = env.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return Limit(count, source if count else "no NVIDIA device")
    # CUDA reads the list up to the first entry that it does not know.
    entries: list[str] = []
    for entry in (part.strip() for part in visible.split(",")):
        if not entry or entry == "-1" or entry == "NoDevFiles":
            break
        entries.append(entry)
    slices = any(entry.startswith("MIG-") for entry in entries)  # several per device
    if count and slices:
        return Limit(len(entries), "CUDA_VISIBLE_DEVICES")
    return Limit(min(count, len(entries)), "CUDA_VISIBLE_DEVICES")


def _names(root: str, folder: str) -> list[str]:
    try:
        return os.listdir(os.path.join(root, folder.lstrip("/")))
    except OSError:
        return []


# --- what a cluster offers ----------------------------------------------------------------------
def detect_capacity(
    env: Environment,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    resources: Mapping[str, float] | None = None,
    object_store_memory: int | None = None,
    memory: float | None = None,
    host: Host | None = None,
) -> tuple[dict[str, float], int]:
    """Resources of this node and the size of its arena: declared, else from the environment, else ours.

    Returns: ({"CPU": ..., "memory": ..., "object_store_memory": ..., ...}, arena_bytes).
    Raises: ValueError or TypeError that names the argument or variable at fault.
    """
    host = host or inspect_host()
    custom = _custom_resources(resources, "the argument resources")
    if resources is None and env.resources is not None:
        custom = _custom_resources(
            _parse_resources(env.resources), "the environment variable MINRAY_RESOURCES"
        )
    cpus = _first("num_cpus", num_cpus, env.num_cpus, host.cpus)
    gpus = _first("num_gpus", num_gpus, env.num_gpus, host.gpus.value)
    if gpus > 1 and gpus != int(gpus):
        raise ValueError(f"num_gpus={gpus}: a node has a whole number of GPUs")
    default_store = min(int(host.memory.value * OBJECT_STORE_SHARE), OBJECT_STORE_BYTES_MAX)
    store = int(_first("object_store_memory", object_store_memory, env.object_store_memory, default_store))
    if store < OBJECT_STORE_BYTES_MIN:
        raise ValueError(f"object_store_memory={store}: at least {OBJECT_STORE_BYTES_MIN} bytes are needed")
    if object_store_memory is not None and store > host.memory.value * STORE_SHARE_WARNED:
        logging.getLogger("minray").warning(
            "object_store_memory=%d is %.0f %% of the memory that this process may use (%.0f MB, %s). Objects in "
            "the store count there: when they fill it, the system may kill a process instead of spilling.",
            store,
            100 * store / host.memory.value,
            host.memory.value / 1e6,
            host.memory.source,
        )
    for_tasks = _first("memory", memory, None, max(0, int(host.memory.value) - default_store))
    offered = {
        "CPU": float(cpus),
        "GPU": float(gpus),
        "memory": float(for_tasks),
        "object_store_memory": float(store),
        # As in Ray: programs find nodes by these, and pin to one by asking for a thousandth of it.
        "node:127.0.0.1": 1.0,
        "node:__internal_head__": 1.0,
        **custom,
    }
    return {name: amount for name, amount in offered.items() if amount > 0}, store


def _first(name: str, argument: float | None, from_env: float | None, default: float) -> float:
    if argument is not None:
        if isinstance(argument, bool) or not isinstance(argument, int | float):
            raise TypeError(f"{name} must be a number, not {type(argument).__name__}: {argument!r}")
        if not math.isfinite(argument) or argument < 0:
            raise ValueError(f"{name} must be a finite number of 0 or more, not {argument}")
        return argument
    return default if from_env is None else from_env


def _parse_resources(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(
            f"the environment variable MINRAY_RESOURCES={text!r} is not JSON ({error}); "
            """write for example MINRAY_RESOURCES='{"disk": 2}'"""
        ) from None


def _custom_resources(resources: object, where: str) -> dict[str, float]:
    if resources is None:
        return {}
    if not isinstance(resources, Mapping):
        raise TypeError(f"{where} must be a dict of names and amounts, not {resources!r}")
    checked: dict[str, float] = {}
    for name, amount in resources.items():
        if not isinstance(name, str) or not name:
            raise TypeError(f"{where}: a resource's name must be a non-empty str, not {name!r}")
        if name in ("CPU", "GPU", "memory", "object_store_memory"):
            option = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "_memory"}.get(name, name)
            raise ValueError(f"{where}: use {option} instead of {name!r}")
        if isinstance(amount, bool) or not isinstance(amount, int | float):
            raise TypeError(f"{where}: the amount of {name!r} must be a number, not {amount!r}")
        if not math.isfinite(amount) or amount < 0:
            raise ValueError(f"{where}: the amount of {name!r} must be 0 or more, not {amount}")
        checked[name] = float(amount)
    return checked
