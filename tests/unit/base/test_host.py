"""Does a container see its own share of the machine, in both versions of cgroups?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from minray.base.config import Environment, read_environment
from minray.base.host import Host, Limit, detect_capacity, inspect_host

GIB = 1024**3
V2_MOUNT = "30 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"
NO_ENV = read_environment({})


def tree(root: Path, files: dict[str, str]) -> str:
    for path, text in {"proc/meminfo": f"MemTotal:       {16 * GIB // 1024} kB\n", **files}.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return str(root)


def inspect(root: Path, files: dict[str, str], cpus: int = 8, env: dict[str, str] | None = None) -> Host:
    return inspect_host(tree(root, files), env or {}, affinity_cpus=cpus)


def test_without_cgroups_the_machine_is_ours(tmp_path: Path) -> None:
    host = inspect(tmp_path, {})
    assert (host.cpus, host.memory.value, host.gpus.value) == (8, 16 * GIB, 0)
    assert host.cpu_quota is None
    assert "meminfo" in host.memory.source


def test_v2_limits_of_every_level_count(tmp_path: Path) -> None:
    host = inspect(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pod/container\n",
            "proc/self/mountinfo": V2_MOUNT,
            "sys/fs/cgroup/pod/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/pod/container/cpu.max": "max 100000\n",
            "sys/fs/cgroup/pod/memory.max": "max\n",
            "sys/fs/cgroup/pod/container/memory.max": f"{2 * GIB}\n",
        },
    )
    assert host.cpu_quota == Limit(1.5, "/sys/fs/cgroup/pod/cpu.max")
    assert host.cpus == 1
    assert host.memory == Limit(2 * GIB, "/sys/fs/cgroup/pod/container/memory.max")


def test_v2_in_a_namespace_reads_the_mount_itself(tmp_path: Path) -> None:
    host = inspect(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "proc/self/mountinfo": V2_MOUNT,
            "sys/fs/cgroup/cpu.max": "400000 100000\n",
            "sys/fs/cgroup/memory.max": f"{GIB}\n",
        },
    )
    assert (host.cpus, host.memory.value) == (4, GIB)


def test_v1_controllers_have_mounts_of_their_own(tmp_path: Path) -> None:
    host = inspect(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/docker/abc\n1:cpu,cpuacct:/docker/abc\n",
            "proc/self/mountinfo": (
                "32 31 0:29 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
                "36 31 0:33 / /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
            ),
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/docker/memory.limit_in_bytes": f"{3 * GIB}\n",
        },
    )
    assert (host.cpus, host.memory.value) == (2, 3 * GIB)


def test_v1_without_quota(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "1:cpu:/\n",
        "proc/self/mountinfo": "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    }
    assert inspect(tmp_path, files).cpus == 8


@pytest.mark.parametrize(
    ("quota", "affinity", "cpus"), [("20000", 8, 1), ("199999", 8, 1), ("800000", 2, 2), ("200000", 8, 2)]
)
def test_quota_is_rounded_down_but_not_below_one(
    tmp_path: Path, quota: str, affinity: int, cpus: int
) -> None:
    files = {
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": V2_MOUNT,
        "sys/fs/cgroup/cpu.max": f"{quota} 100000",
    }
    assert inspect(tmp_path, files, cpus=affinity).cpus == cpus


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [
        (None, 2),
        ("0", 1),
        ("0,1", 2),
        ("", 0),
        ("-1", 0),
        ("1,-1,0", 1),
        ("0,1,2,3", 2),
        ("MIG-a,MIG-b,MIG-c", 3),
    ],
)
def test_gpus_are_the_visible_devices(tmp_path: Path, visible: str | None, gpus: int) -> None:
    devices = {"dev/nvidia0": "", "dev/nvidia1": "", "dev/nvidiactl": "", "dev/nvidia-uvm": ""}
    env = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert inspect(tmp_path, devices, env=env).gpus.value == gpus


def test_gpus_are_counted_by_the_driver_where_device_files_are_hidden(tmp_path: Path) -> None:
    assert inspect(tmp_path, {"proc/driver/nvidia/gpus/0000:01:00.0/information": ""}).gpus.value == 1
    assert inspect(tmp_path / "none", {}, env={"CUDA_VISIBLE_DEVICES": "0"}).gpus.value == 0


def test_this_machine_can_be_read() -> None:
    host = inspect_host()
    assert host.cpus >= 1
    assert host.memory.value > 0


HOST = Host(8, None, Limit(10 * GIB, "x"), 16 * GIB, Limit(0, "none"))


def test_capacity_splits_the_memory_like_ray() -> None:
    resources, arena = detect_capacity(NO_ENV, host=HOST)
    assert arena == 3 * GIB
    assert resources["CPU"] == 8.0
    assert resources["memory"] == 7 * GIB
    assert resources["object_store_memory"] == arena
    assert "GPU" not in resources
    assert [name for name in resources if name.startswith("node:")]


def test_declared_capacity_wins_over_environment_and_host() -> None:
    env = read_environment(
        {
            "MINRAY_NUM_CPUS": "4",
            "MINRAY_NUM_GPUS": "1",
            "MINRAY_RESOURCES": '{"disk": 2}',
            "MINRAY_OBJECT_STORE_MEMORY": "50000000",
        }
    )
    resources, arena = detect_capacity(env, host=HOST)
    assert (resources["CPU"], resources["GPU"], resources["disk"], arena) == (4.0, 1.0, 2.0, 50_000_000)
    resources, arena = detect_capacity(
        env, num_cpus=32, num_gpus=0, resources={"x": 0.5}, object_store_memory=2**24, host=HOST
    )
    assert (resources["CPU"], resources["x"], arena) == (32.0, 0.5, 2**24)
    assert "GPU" not in resources
    assert "disk" not in resources


def test_a_store_that_could_fill_the_memory_limit_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING", "minray")  # whatever `init(logging_level=...)` of an earlier test left
    container = Host(8, None, Limit(2 * GIB, "/sys/fs/cgroup/memory.max"), 64 * GIB, Limit(0, "none"))
    _, by_default = detect_capacity(read_environment({}), host=container)
    assert by_default < 2 * GIB / 3, "the store's pages count against the limit"
    detect_capacity(read_environment({}), object_store_memory=GIB, host=container)
    assert not caplog.records
    detect_capacity(read_environment({}), object_store_memory=4 * GIB, host=container)
    assert "memory.max" in caplog.text and "200 %" in caplog.text


def test_the_arena_is_capped_on_large_machines() -> None:
    large = Host(8, None, Limit(4096 * GIB, "x"), 4096 * GIB, Limit(0, "none"))
    assert detect_capacity(NO_ENV, host=large)[1] == 200 * 10**9


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"num_cpus": -1}, ValueError),
        ({"num_cpus": "4"}, TypeError),
        ({"num_cpus": True}, TypeError),
        ({"num_gpus": 1.5}, ValueError),
        ({"num_cpus": float("nan")}, ValueError),
        ({"resources": {"CPU": 1}}, ValueError),
        ({"resources": {"x": -1}}, ValueError),
        ({"resources": {"x": "1"}}, TypeError),
        ({"resources": {1: 1}}, TypeError),
        ({"resources": [1]}, TypeError),
        ({"object_store_memory": 10}, ValueError),
    ],
)
def test_wrong_capacity_is_refused(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        detect_capacity(NO_ENV, host=HOST, **arguments)


@pytest.mark.parametrize("text", ["{", "[1]", '{"CPU": 1}'])
def test_a_wrong_resources_variable_is_named(text: str) -> None:
    env: Environment = read_environment({"MINRAY_RESOURCES": text})
    with pytest.raises((ValueError, TypeError), match="MINRAY_RESOURCES"):
        detect_capacity(env, host=HOST)
