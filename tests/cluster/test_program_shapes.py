"""In which shapes do programs come, and does each run: script, `-c`, standard input, package, REPL, pytest, notebook?

Each test runs a whole Python process as a user would, and looks at its output and at how it ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.cluster

SMALL = """
import minray as ray
class Kept:
    def __init__(self, value): self.value = value
@ray.remote
def make(value): return Kept(value)
found = ray.get([make.remote(n) for n in range(3)])
print([kept.value for kept in found], all(isinstance(kept, Kept) for kept in found))
"""
SMALL_SAYS = "[0, 1, 2] True"


def run(folder: Path, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run this Python with `arguments` in `folder`."""
    return subprocess.run(
        [sys.executable, *arguments],
        input=stdin,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def write(folder: Path, files: dict[str, str]) -> None:
    """Write `files` below `folder`."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))


def test_a_script_a_command_and_standard_input_run_the_same_program(tmp_path: Path) -> None:
    write(tmp_path, {"program.py": SMALL})
    for arguments, stdin in ((["program.py"], None), (["-c", SMALL], None), ([], SMALL), (["-"], SMALL)):
        ended = run(tmp_path, *arguments, stdin=stdin)
        assert (ended.returncode, ended.stdout.strip()) == (0, SMALL_SAYS), (arguments, ended.stderr)


def test_an_interactive_session_redefines_and_survives_errors(tmp_path: Path) -> None:
    session = """\
    import minray as ray
    @ray.remote
    def f(): return "first"

    ray.get(f.remote())
    1 / 0
    @ray.remote
    def f(): return "second"

    ray.get(f.remote())
    @ray.remote
    class Box:
        def open(self): return "open"

    box = Box.remote()
    ray.get(box.open.remote())
    """
    ended = run(tmp_path, "-i", stdin=textwrap.dedent(session))
    assert ended.returncode == 0
    assert ended.stdout.split() == ["'first'", "'second'", "'open'"], ended.stderr


def test_a_package_with_relative_imports_runs_by_its_main_module(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "shop/__init__.py": "",
            "shop/items.py": """
                from dataclasses import dataclass
                class SoldOut(Exception): pass
                @dataclass
                class Item:
                    price: int
                """,
            "shop/inner/__init__.py": "from ..items import Item\ndef double(item): return Item(item.price * 2)\n",
            "shop/work.py": """
                import minray as ray
                from .inner import double
                from .items import SoldOut
                @ray.remote
                def price(item):
                    if item.price == 0: raise SoldOut("nothing left")
                    return double(item)
                @ray.remote
                class Shelf:
                    def __init__(self): self.items = []
                    def add(self, item):
                        self.items.append(item)
                        return self.items
                """,
            "shop/main.py": """
                import minray as ray
                from .items import Item, SoldOut
                from .work import Shelf, price
                if __name__ == "__main__":
                    ray.init(num_cpus=2)
                    print(ray.get(price.remote(Item(2))) == Item(4))
                    shelf = Shelf.remote()
                    print(ray.get(shelf.add.remote(Item(1))) == [Item(1)])
                    try:
                        ray.get(price.remote(Item(0)))
                    except SoldOut as error:
                        print("sold out")
                """,
        },
    )
    ended = run(tmp_path, "-m", "shop.main")
    assert (ended.returncode, ended.stdout.split("\n")[:3]) == (0, ["True", "True", "sold out"]), ended.stderr


def test_a_script_that_fails_while_tasks_run_ends_with_its_own_error(tmp_path: Path) -> None:
    program = """
    import minray as ray, time
    ray.init(num_cpus=2)
    @ray.remote
    def slow(): time.sleep(600)
    @ray.remote
    class Actor:
        def slow(self): time.sleep(600)
    actor = Actor.remote()
    refs = [slow.remote() for _ in range(4)] + [actor.slow.remote()]
    ray.wait(refs, timeout=0.2)
    raise ValueError("the end of the script")
    """
    ended = run(tmp_path, "-c", textwrap.dedent(program))
    assert ended.returncode == 1
    assert ended.stderr.rstrip().endswith("ValueError: the end of the script")
    assert ended.stderr.count("Traceback") == 1


def test_the_exit_code_is_the_scripts(tmp_path: Path) -> None:
    program = "import minray as ray, sys\nref = ray.put(1)\nprint(ray.get(ref), flush=True)\nsys.exit(3)\n"
    ended = run(tmp_path, "-c", program)
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "1\n", "")


def test_a_cluster_begun_in_another_thread_serves_the_whole_program(tmp_path: Path) -> None:
    program = """
    import minray as ray, threading
    @ray.remote
    def f(n): return n
    def work():
        ray.init(num_cpus=2)
        print(sum(ray.get([f.remote(n) for n in range(10)])))
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    print(ray.get(f.remote(3)))
    """
    ended = run(tmp_path, "-c", textwrap.dedent(program))
    assert (ended.returncode, ended.stdout.split()) == (0, ["45", "3"]), ended.stderr


def test_signal_handlers_of_the_program_run_while_it_waits(tmp_path: Path) -> None:
    program = """
    import minray as ray, os, signal, threading, time
    heard = []
    signal.signal(signal.SIGUSR1, lambda *_: heard.append("usr1"))
    signal.signal(signal.SIGTERM, lambda *_: heard.append("term"))
    ray.init(num_cpus=2)
    @ray.remote
    def defaults():
        time.sleep(0.4)
        return signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    def send():
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
    ref = defaults.remote()
    threading.Timer(0.1, send).start()
    print(ray.get(ref), sorted(heard))
    class Late(Exception): pass
    def late(*_): raise Late
    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    @ray.remote
    def slow(): time.sleep(600)
    try:
        ray.get(slow.remote())
    except Late:
        print("alarm")
    @ray.remote
    def alarm_inside():
        signal.signal(signal.SIGALRM, late)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            time.sleep(600)
        except Late:
            return "alarm inside"
    print(ray.get(alarm_inside.remote()))
    """
    ended = run(tmp_path, "-c", textwrap.dedent(program))
    assert ended.stdout.splitlines() == ["True ['term', 'usr1']", "alarm", "alarm inside"], ended.stderr


def test_processes_of_the_program_and_the_cluster_leave_each_other_alone(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "program.py": """
            import multiprocessing, os
            import minray as ray
            def square(n): return n * n
            @ray.remote
            def in_task():
                with multiprocessing.get_context("fork").Pool(2) as pool:
                    return pool.map(abs, [-3, -4])
            if __name__ == "__main__":
                ray.init(num_cpus=2)
                kept = ray.put(b"x" * 1_000_000)
                for how in ("fork", "spawn"):
                    with multiprocessing.get_context(how).Pool(2) as pool:
                        print(how, pool.map(square, [1, 2]))
                child = os.fork()
                if child == 0:
                    del kept
                    os._exit(0)
                os.waitpid(child, 0)
                print(len(ray.get(kept)), ray.get(in_task.remote()))
            """
        },
    )
    ended = run(tmp_path, "program.py")
    assert ended.stdout.splitlines() == ["fork [1, 4]", "spawn [1, 4]", "1000000 [3, 4]"], ended.stderr
    assert ended.returncode == 0


def test_a_suite_of_pytest_uses_remote_functions_of_its_modules(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "test_program.py": """
            import minray as ray, pytest
            @pytest.fixture(scope="module", autouse=True)
            def cluster():
                ray.init(num_cpus=2)
                yield
                ray.shutdown()
            class Shared: pass
            @ray.remote
            def make(): return Shared()
            def answer(): return 7
            @ray.remote
            def ask(): return answer()
            def test_classes_keep_their_identity():
                assert isinstance(ray.get(make.remote()), Shared)
            def test_a_patch_made_before_the_first_call_reaches_workers(monkeypatch):
                monkeypatch.setattr(__name__ + ".answer", lambda: 8)
                assert ray.get(ask.remote()) == 8
            def test_an_assertion_in_a_task_is_one(tmp_path):
                @ray.remote
                def write(): (tmp_path / "a").write_text("x"); assert 1 == 2
                with pytest.raises(AssertionError):
                    ray.get(write.remote())
                assert (tmp_path / "a").exists()
            """
        },
    )
    ended = run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_program.py")
    assert ended.returncode == 0 and "3 passed" in ended.stdout, ended.stdout


CELLS = [
    "import minray as ray, os, time\nray.init(num_cpus=2)\nprint('ready')",
    "@ray.remote\ndef f(): return helper()\ndef helper(): return 'first'\nprint(ray.get(f.remote()))",
    "def helper(): return 'second'\nprint(ray.get(f.remote()))",
    "@ray.remote\nclass A:\n    def m(self): return 'old'\na = A.remote()\nprint(ray.get(a.m.remote()))",
    "@ray.remote\nclass A:\n    def m(self): return 'new'\nprint(ray.get(a.m.remote()), ray.get(A.remote().m.remote()))",
    "%time ray.get([f.remote() for _ in range(3)])",
    "@ray.remote\ndef bad(): raise ValueError('the cell sees this')\nray.get(bad.remote())",
    "@ray.remote\ndef slow(): time.sleep(600)\nprint('waiting', flush=True)\nray.get(slow.remote())",
    "print(ray.get(f.remote()))",
    "@ray.remote\ndef talk(): print('said in a task')\nray.get(talk.remote())",
    "x = await f.remote()\nprint(x)",
    "ray.shutdown()\nray.init(num_cpus=1)\nprint(ray.get(f.remote()))",
    "ray.shutdown()",
]


# In a process of its own: the client keeps sockets and event loops to the end of its process.
JUPYTER = """
import json, sys
from jupyter_client.manager import KernelManager
manager = KernelManager(kernel_name="python3")
manager.start_kernel(stderr=sys.stderr)
client = manager.client()
client.start_channels()
client.wait_for_ready(timeout=60)
everything = []
for cell in json.load(sys.stdin):
    shown = []
    def hear(message):
        content = message["content"]
        if message["msg_type"] == "stream":
            shown.append(content["text"])
            if "waiting" in content["text"]:
                manager.interrupt_kernel()
        elif message["msg_type"] == "execute_result":
            shown.append(content["data"]["text/plain"])
        elif message["msg_type"] == "error":
            shown.append(" ".join([content["ename"], *content["traceback"]]))
    client.execute_interactive(cell, output_hook=hear, timeout=60)
    everything.append("".join(shown))
client.stop_channels()
manager.shutdown_kernel()
print(json.dumps(everything))
"""


def test_a_notebook_redefines_fails_is_interrupted_and_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("jupyter_client", reason="the lab extra is not installed")
    pytest.importorskip("ipykernel", reason="the lab extra is not installed")
    ended = run(tmp_path, "-c", JUPYTER, stdin=json.dumps(CELLS))
    assert ended.returncode == 0, ended.stderr
    shown = json.loads(ended.stdout)
    says = ["ready", "first", "second", "old", "old new", "['second', 'second', 'second']"]
    for text, expected in zip(shown, says, strict=False):
        assert expected in text
    assert "Wall time" in shown[5]
    assert shown[6].startswith("RayTaskError(ValueError)") and "the cell sees this" in shown[6]
    assert shown[7].split()[:2] == ["waiting", "KeyboardInterrupt"]
    assert shown[8].strip() == "second"
    assert "said in a task" in shown[9]
    assert shown[10].strip() == "second"
    assert shown[11].strip() == "second"
    assert shown[12] == ""


def test_a_script_stopped_by_its_terminal_ends_as_interrupted(tmp_path: Path) -> None:
    program = """
    import minray as ray, time
    ray.init(num_cpus=2)
    @ray.remote
    def slow(): time.sleep(600)
    refs = [slow.remote() for _ in range(4)]
    print("waiting", flush=True)
    ray.get(refs)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "waiting\n"
    os.killpg(child.pid, signal.SIGINT)
    _, complaints = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGINT
    assert complaints.rstrip().endswith("KeyboardInterrupt") and complaints.count("Traceback") == 1
