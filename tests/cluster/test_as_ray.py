"""Does a program written for Ray run unchanged: in the driver, in workers, in what it starts?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import minray

pytestmark = pytest.mark.cluster

ROOT = str(Path(minray.__file__).parents[1])

SCRIPT = """
import os, subprocess, sys
import ray
from ray.util.actor_pool import ActorPool
from ray.util.queue import Queue
from ray.exceptions import RayTaskError

class Boom(Exception):
    pass

class Point:
    def __init__(self, x):
        self.x = x

@ray.remote
def inside(point):
    import ray as again
    from ray.util.queue import Empty
    import ray.exceptions
    assert again.is_initialized() and issubclass(Empty, Exception)
    return again.get(nested.remote(point))

@ray.remote
def nested(point):
    return Point(point.x + 1)

@ray.remote
def fails():
    raise Boom("from a worker")

@ray.remote
class Counter:
    def __init__(self):
        self.n = 0
    def add(self, k):
        import ray
        self.n += k
        return self.n, ray.__name__

@ray.remote
def shell():
    code = "import ray; print(ray.__version__)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()

ray.init(num_cpus=2)
point = ray.get(inside.remote(Point(1)))
assert type(point) is Point and point.x == 2
try:
    ray.get(fails.remote())
except Boom as error:
    assert isinstance(error, RayTaskError)
else:
    raise AssertionError
pool = ActorPool([Counter.remote()])
assert list(pool.map(lambda a, v: a.add.remote(v), [1, 2])) == [(1, "minray"), (3, "minray")]
queue = Queue()
queue.put(Point(5))
assert queue.get().x == 5
try:
    from ray import tune
except ImportError as error:
    print("tune:", error)
print("shell:", ray.get(shell.remote()))
ray.shutdown()
print("done", sys.argv[1:])
"""


def run(*command: str, cwd: Path) -> str:
    environ = {k: v for k, v in os.environ.items() if k not in ("MINRAY_AS_RAY", "PYTHONPATH")}
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("way", ["run", "as-ray", "shell"])
def test_a_ray_script_runs_unchanged(way: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    words = {
        "run": ["run", "script.py", "a"],
        "as-ray": ["as-ray", "--", sys.executable, "script.py", "a"],
        "shell": ["as-ray", "--", "sh", "-c", f"{sys.executable} script.py a"],
    }[way]
    text = run(sys.executable, "-m", "minray", *words, cwd=tmp_path)
    assert "done ['a']" in text
    assert "shell: 2.60.0+minray" in text
    assert "tune: minray has no module minray.tune yet (asked for as ray.tune)" in text


NOTEBOOK = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
def cell(text):
    result = shell.run_cell(text)
    result.raise_error()
cell("%load_ext minray.as_ray")
cell("import ray; ray.init(num_cpus=1)")
cell('''
@ray.remote
def f():
    import ray
    return ray.__name__
''')
cell("assert ray.get(f.remote()) == 'minray'")
cell("ray.shutdown()")
cell("%unload_ext minray.as_ray")
"""


def test_a_notebook_runs_unchanged(tmp_path: Path) -> None:
    (tmp_path / "cells.py").write_text(NOTEBOOK)
    run(sys.executable, "cells.py", cwd=tmp_path)
