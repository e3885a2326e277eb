"""Are resources, devices and the runtime context told as Ray tells them?"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable
from typing import Any

import pytest

ray: Any = importlib.import_module(os.environ.get("MINRAY_PARITY_ENGINE", "minray"))

pytestmark = pytest.mark.usefixtures("cluster")


def eventually(claim: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Wait until `claim` holds; real Ray's numbers lag."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if claim():
            return True
        time.sleep(0.02)
    return False


def test_cluster_resources_hold_what_was_declared() -> None:
    total = ray.cluster_resources()
    assert total["CPU"] == 4
    assert total["GPU"] == 2
    assert total["special"] == 2
    assert total["memory"] > 0
    assert total["object_store_memory"] > 0
    assert any(name.startswith("node:") for name in total)


def test_available_resources_fall_while_a_task_runs_and_rise_again(tmp_path: Any) -> None:
    path = str(tmp_path / "go")
    assert eventually(lambda: ray.available_resources().get("special") == 2)

    @ray.remote(resources={"special": 1.5}, num_cpus=2)
    def hold() -> None:
        while not os.path.exists(path):
            time.sleep(0.01)

    ref = hold.remote()
    assert eventually(lambda: ray.available_resources().get("special") == 0.5)
    assert ray.available_resources()["CPU"] <= 2
    open(path, "w").close()
    ray.get(ref)
    assert eventually(lambda: ray.available_resources().get("special") == 2)


def test_fractional_cpus_share_one() -> None:
    @ray.remote(num_cpus=0.25)
    def f() -> int:
        return 1

    assert sum(ray.get([f.remote() for _ in range(8)])) == 8


@pytest.mark.filterwarnings("ignore:needs special")
def test_a_request_beyond_the_cluster_waits_and_blocks_nobody() -> None:
    @ray.remote(resources={"special": 100})
    def impossible() -> None: ...

    @ray.remote
    def possible() -> int:
        return 1

    stuck = impossible.remote()
    assert ray.get(possible.remote()) == 1
    assert ray.wait([stuck], timeout=0.2) == ([], [stuck])


def test_actors_hold_their_resources_until_they_die() -> None:
    @ray.remote(resources={"special": 2})
    class Holder:
        def ping(self) -> None: ...

    first = Holder.remote()
    ray.get(first.ping.remote())
    second = Holder.remote()
    ping = second.ping.remote()
    assert ray.wait([ping], timeout=0.3)[0] == []
    ray.kill(first)
    assert ray.get(ping, timeout=30) is None
    ray.kill(second)


def test_a_gpu_task_sees_its_own_device_only() -> None:
    @ray.remote(num_gpus=1)
    def look() -> tuple[list[int], str | None]:
        return ray.get_gpu_ids(), os.environ.get("CUDA_VISIBLE_DEVICES")

    ids, visible = ray.get(look.remote())
    assert len(ids) == 1
    assert visible == str(ids[0])
    assert ids[0] in (0, 1)


def test_two_gpu_tasks_at_once_see_different_devices(tmp_path: Any) -> None:
    @ray.remote(num_gpus=1)
    class Device:
        def ids(self) -> list[int]:
            return ray.get_gpu_ids()

    a, b = Device.remote(), Device.remote()
    assert sorted(ray.get(a.ids.remote()) + ray.get(b.ids.remote())) == [0, 1]
    ray.kill(a)
    ray.kill(b)


def test_half_gpus_share_a_device() -> None:
    @ray.remote(num_gpus=0.5)
    class Half:
        def ids(self) -> list[int]:
            return ray.get_gpu_ids()

    actors = [Half.remote() for _ in range(4)]
    seen = sorted(sum(ray.get([a.ids.remote() for a in actors]), []))
    assert seen == [0, 0, 1, 1]
    for a in actors:
        ray.kill(a)


def test_a_task_without_gpus_sees_none() -> None:
    @ray.remote
    def look() -> list[int]:
        return ray.get_gpu_ids()

    assert ray.get(look.remote()) == []


def test_fractions_of_more_than_one_gpu_are_refused() -> None:
    with pytest.raises(ValueError):  # Ray at the call, minray where it is written

        @ray.remote(num_gpus=1.5)
        def f() -> None: ...

        f.remote()


def test_zero_cpu_tasks_run_though_every_cpu_is_taken(tmp_path: Any) -> None:
    path = str(tmp_path / "go")

    @ray.remote(num_cpus=4)
    def hold() -> None:
        while not os.path.exists(path):
            time.sleep(0.01)

    @ray.remote(num_cpus=0)
    def free() -> int:
        return 1

    ref = hold.remote()
    assert ray.get(free.remote(), timeout=30) == 1
    open(path, "w").close()
    ray.get(ref)


def test_a_memory_request_is_counted() -> None:
    @ray.remote(memory=100 * 1024 * 1024)
    def f() -> int:
        return 1

    assert ray.get(f.remote()) == 1


def test_nodes_tells_one_living_node_with_its_resources() -> None:
    (node,) = ray.nodes()
    assert node["Alive"] is True
    assert node["Resources"]["CPU"] == 4
    assert len(node["NodeID"]) == 56
    assert isinstance(node["NodeManagerAddress"], str)


def test_the_driver_knows_its_job_and_node() -> None:
    context = ray.get_runtime_context()
    assert context.get_job_id()
    assert context.get_node_id() == ray.nodes()[0]["NodeID"]
    assert context.namespace == "parity"
    assert context.get_task_id() is None or isinstance(context.get_task_id(), str)
    assert context.get_actor_id() is None


def test_a_task_knows_its_ids() -> None:
    @ray.remote
    def ids() -> tuple[Any, ...]:
        c = ray.get_runtime_context()
        return (
            c.get_job_id(),
            c.get_node_id(),
            c.get_task_id(),
            c.get_actor_id(),
            c.get_worker_id(),
            c.namespace,
        )

    job, node, task, actor, worker, namespace = ray.get(ids.remote())
    here = ray.get_runtime_context()
    assert (job, node, namespace) == (here.get_job_id(), here.get_node_id(), "parity")
    assert isinstance(task, str)
    assert actor is None
    assert worker != here.get_worker_id()


def test_a_ref_names_the_task_that_makes_it() -> None:
    @ray.remote
    def task_id() -> Any:
        return ray.get_runtime_context().get_task_id()

    ref = task_id.remote()
    assert ray.get(ref) == ref.task_id().hex()


def test_an_actor_knows_its_id_and_the_handle_too() -> None:
    @ray.remote
    class A:
        def id(self) -> Any:
            return ray.get_runtime_context().get_actor_id()

    a = A.options(name="knows-itself").remote()
    assert ray.get(a.id.remote()) == a._actor_id.hex()


def test_assigned_resources_are_told_inside_a_task() -> None:
    @ray.remote(num_cpus=2, resources={"special": 1})
    def mine() -> Any:
        return ray.get_runtime_context().get_assigned_resources()

    assert ray.get(mine.remote()) == {"CPU": 2.0, "special": 1.0}


def test_an_actor_was_reconstructed_only_after_a_restart() -> None:
    @ray.remote(max_restarts=1, max_task_retries=1)
    class A:
        def again(self) -> bool:
            return ray.get_runtime_context().was_current_actor_reconstructed

        def die(self, path: str) -> None:
            if not os.path.exists(path):
                open(path, "w").close()
                os._exit(1)

    import tempfile

    a = A.remote()
    assert ray.get(a.again.remote()) is False
    ray.get(a.die.remote(os.path.join(tempfile.mkdtemp(), "once")))
    assert ray.get(a.again.remote()) is True


def test_timeline_gives_chrome_events() -> None:
    @ray.remote
    def seen() -> None: ...

    ray.get([seen.remote() for _ in range(3)])

    def drawn() -> bool:
        events = ray.timeline()
        return any("seen" in str(event.get("name", "")) for event in events)

    assert eventually(drawn)
