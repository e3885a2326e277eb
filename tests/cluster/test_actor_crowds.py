"""Do many actors at once come, answer and go, also where the system allows few?"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

import minray as ray

pytestmark = pytest.mark.cluster

WAIT_S = 120


@pytest.fixture
def cluster() -> Any:
    """Two CPUs."""
    ray.init(num_cpus=2, log_to_driver=False)
    yield
    ray.shutdown()


@ray.remote(num_cpus=0)
class One:
    """Knows its number."""

    def __init__(self, i: int) -> None:
        self.i = i

    def ask(self) -> int:
        """The number."""
        return self.i

    def pid(self) -> int:
        """Whose process."""
        return os.getpid()


@pytest.mark.usefixtures("cluster")
def test_a_hundred_actors_are_called_and_killed() -> None:
    actors = [One.remote(i) for i in range(100)]
    assert ray.get([actor.ask.remote() for actor in actors], timeout=WAIT_S) == list(range(100))
    assert len(set(ray.get([actor.pid.remote() for actor in actors], timeout=WAIT_S))) == 100
    refs = [actor.ask.remote() for actor in actors]
    for actor in actors:
        ray.kill(actor)
    for ref in refs:
        try:
            ray.get(ref, timeout=WAIT_S)
        except ray.exceptions.ActorDiedError:
            pass
    for actor in actors:
        with pytest.raises(ray.exceptions.ActorDiedError):
            ray.get(actor.ask.remote(), timeout=WAIT_S)


PROGRAM = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 150))
import minray as ray
ray.init(num_cpus=2, log_to_driver=False)

@ray.remote(num_cpus=0)
class One:
    def ask(self):
        return 1

actors = [One.remote() for _ in range(60)]
answers, errors = 0, set()
for ref in [actor.ask.remote() for actor in actors]:
    try:
        answers += ray.get(ref, timeout=100)
    except ray.exceptions.ActorDiedError as error:
        errors.add("ulimit" in str(error))
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], answers, errors)
"""


def test_few_descriptors_are_a_clear_error_and_no_hang() -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=WAIT_S, check=True
    )
    limit, answers, errors = run.stdout.split(maxsplit=2)
    assert limit == "150"  # raised as far as it goes
    assert 20 <= int(answers) < 60
    assert errors.strip() == "{True}"


@pytest.mark.usefixtures("cluster")
def test_what_async_actors_need_is_imported_once_for_all_workers_to_come() -> None:
    @ray.remote(num_cpus=0)
    class Asynchronous:
        async def ask(self) -> int:
            return 1

    @ray.remote(num_cpus=0)
    class Plain:
        def shares(self) -> bool:
            return "minray.worker.async_actor" in sys.modules

    assert not ray.get(Plain.remote().shares.remote(), timeout=WAIT_S)
    assert ray.get(Asynchronous.remote().ask.remote(), timeout=WAIT_S) == 1
    kept = []
    for _ in range(50):  # the first ones may become workers that were there before
        kept.append(Plain.remote())
        if ray.get(kept[-1].shares.remote(), timeout=WAIT_S):
            return
    pytest.fail("no worker shares the modules")


THREADS = """
import numpy, ctypes, os
import minray as ray
ray.init(num_cpus=4, log_to_driver=False)

def threads():
    import numpy
    paths = {l[l.index("/"):].strip() for l in open("/proc/self/maps") if "openblas" in l and "/" in l}
    for path in paths:
        library = ctypes.CDLL(path)
        for name in ("scipy_openblas_get_num_threads64_", "openblas_get_num_threads64_", "openblas_get_num_threads"):
            if hasattr(library, name):
                return os.environ["OMP_NUM_THREADS"], getattr(library, name)()
    return os.environ["OMP_NUM_THREADS"], None

f = ray.remote(threads)
print(ray.get([f.remote(), f.options(num_cpus=3).remote()]))
"""


def test_an_openblas_that_is_loaded_already_follows_the_cpus_of_a_task() -> None:
    pytest.importorskip("numpy")
    run = subprocess.run(
        [sys.executable, "-c", THREADS],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=True,
        env={name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"},
    )
    assert run.stdout.strip() in ("[('1', 1), ('3', 3)]", "[('1', None), ('3', None)]")
