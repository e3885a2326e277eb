"""Does `ray` mean minray in this process, in its children and in the shell, and can it be undone?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import minray

ROOT = str(Path(minray.__file__).parents[1])


def python(*arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if k not in ("MINRAY_AS_RAY", "PYTHONPATH")}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**clean, "PYTHONPATH": ROOT, **env},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def output(code: str, **env: str) -> str:
    done = python("-c", code, cwd=None, **env)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


INSTALL = "from minray import as_ray; as_ray.install(); as_ray.install()\n"


def test_every_name_is_the_same_module_object() -> None:
    assert (
        output(
            INSTALL
            + "import ray, minray, ray.util.queue, minray.util.queue\n"
            + "from ray.util.actor_pool import ActorPool\n"
            + "from ray.exceptions import RayError\n"
            + "import ray.exceptions as e, minray.exceptions as m, minray.util.actor_pool as p\n"
            + "assert ray is minray and e is m and ray.util.queue is minray.util.queue\n"
            + "assert ActorPool is p.ActorPool and RayError is m.RayError\n"
            + "assert minray.__spec__.name == 'minray' and minray.util.queue.__spec__.name == 'minray.util.queue'\n"
            + "import importlib; importlib.reload(p); print('same')"
        )
        == "same"
    )


def test_the_version_satisfies_libraries_and_is_ours_again_afterwards() -> None:
    code = (
        INSTALL + "import ray, minray; v = ray.__version__; as_ray.uninstall(); print(v, minray.__version__)"
    )
    seen, own = output("import minray; minray.__version__ = '0.0.7'\n" + code).split()
    assert seen == "2.60.0+minray"
    assert own == "0.0.7"


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("from ray import tune", "minray has no module minray.tune yet (asked for as ray.tune)"),
        ("import ray.tune.schedulers", "minray.tune"),
        ("from ray.util.placement_group import placement_group", "minray.util.placement_group"),
        ("import ray.rllib", "does not offer RLlib"),
        ("from ray import rllib", "does not offer RLlib"),
        ("from ray.util.queue import Stack", "'minray.util.queue'"),
        ("import ray; ray.no_such_name", "'minray'"),
    ],
)
def test_a_missing_name_says_which_module_lacks_it(statement: str, expected: str) -> None:
    done = python("-c", INSTALL + statement)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert expected in last
    assert "Error" in last


def test_missing_modules_are_import_errors_that_programs_may_catch() -> None:
    code = "try:\n    from ray import tune\nexcept ImportError as e:\n    print(type(e).__name__, e.name)"
    assert output(INSTALL + code) == "ModuleNotFoundError ray.tune"


@pytest.fixture
def fake_ray(tmp_path: Path) -> Path:
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "__init__.py").write_text("__version__ = '9.9'\n")
    (tmp_path / "ray" / "util.py").write_text("REAL = True\n")
    return tmp_path


def test_a_real_ray_is_hidden_and_comes_back(fake_ray: Path) -> None:
    code = (
        "import ray.util; real = ray\n"
        + INSTALL
        + "import ray, minray; assert ray is minray\n"
        + "import ray.util; assert not hasattr(ray.util, 'REAL')\n"
        + "as_ray.uninstall()\n"
        + "import ray, ray.util; assert ray is real and ray.util.REAL; print(ray.__version__)"
    )
    assert output(code, PYTHONPATH=f"{fake_ray}{os.pathsep}{ROOT}") == "9.9"


def test_as_ray_reaches_python_processes_below_a_shell(fake_ray: Path) -> None:
    code = "import ray, minray; print(ray is minray)"
    done = python(
        "-m", "minray", "as-ray", "--", "sh", "-c", f'{sys.executable} -c "{code}"',
        PYTHONPATH=f"{fake_ray}{os.pathsep}{ROOT}",
    )  # fmt: skip
    assert (done.stdout.strip(), done.returncode) == ("True", 0), done.stderr


def test_a_program_that_never_imports_ray_never_imports_minray() -> None:
    code = "import sys; print(any(m.split('.')[0] == 'minray' for m in sys.modules))"
    done = python("-m", "minray", "as-ray", "--", sys.executable, "-c", code)
    assert done.stdout.strip() == "False", done.stderr


def test_a_hidden_sitecustomize_runs_too(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os; os.environ['SEEN'] = 'yes'\n")
    code = "import os, ray; print(os.environ['SEEN'], ray.__name__)"
    done = python(
        "-m", "minray", "as-ray", "--", sys.executable, "-c", code, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}"
    )
    assert done.stdout.strip() == "yes minray", done.stderr


def test_as_ray_answers_for_its_command() -> None:
    assert python("-m", "minray", "as-ray", "--", "sh", "-c", "exit 3").returncode == 3
    missing = python("-m", "minray", "as-ray", "--", "no-such-command-here")
    assert missing.returncode == 127
    assert "no-such-command-here" in missing.stderr
    assert python("-m", "minray", "as-ray").returncode == 2


def test_a_notebook_can_load_and_unload_it(fake_ray: Path) -> None:
    code = (
        "import os, minray; minray.is_initialized = lambda: False\n"
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        "before = dict(os.environ)\n"
        "shell.run_cell('import ray')\n"
        "shell.run_cell('%load_ext minray.as_ray')\n"
        "shell.run_cell('import ray')\n"
        "assert shell.user_ns['ray'] is minray and os.environ['MINRAY_AS_RAY'] == '1'\n"
        "shell.run_cell('%unload_ext minray.as_ray')\n"
        "shell.run_cell('import ray')\n"
        "assert shell.user_ns['ray'].__version__ == '9.9' and dict(os.environ) == before\n"
    )
    text = output(code, PYTHONPATH=f"{fake_ray}{os.pathsep}{ROOT}", IPYTHONDIR=str(fake_ray / "ipython"))
    assert text.count("import ray") == 2


def test_run_is_like_python_itself(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("NAME = 'beside'\n")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, os, atexit, ray, minray, beside, subprocess\n"
        "assert ray is minray and __name__ == '__main__' and sys.modules['__main__'].beside is beside\n"
        "print(sys.argv[1:], __file__, flush=True)\n"
        "code = 'import ray, minray; print(ray is minray)'\n"
        "subprocess.run([sys.executable, '-c', code], check=True)\n"
        "def late(): print('late', beside.NAME)\n"
        "atexit.register(late)\n"
        "sys.exit(5)\n"
    )
    done = python("-m", "minray", "run", str(script), "--num", "3", "-h")
    assert done.returncode == 5, done.stderr
    assert done.stdout.split("\n")[:3] == [f"['--num', '3', '-h'] {script}", "True", "late beside"]


def test_run_shows_the_scripts_own_frames_only(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("def f():\n    raise ValueError('boom')\nf()\n")
    done = python("-m", "minray", "run", str(script))
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert done.stderr.count("File ") == 2
    assert done.stderr.strip().endswith("ValueError: boom")
    assert "cannot read" in python("-m", "minray", "run", str(tmp_path / "none.py")).stderr


def test_run_takes_a_module(tmp_path: Path) -> None:
    (tmp_path / "tool.py").write_text("import sys, ray; print(ray.__name__, sys.argv[1:])\n")
    done = python("-m", "minray", "run", "-m", "tool", "x", cwd=tmp_path)
    assert done.stdout.strip() == "minray ['x']", done.stderr
