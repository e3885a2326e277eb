"""What does a student read under a cell that fails? Each exception that one node can meet, as a notebook shows it.

The cells run in one kernel; what stands under each, without colours, ids, process numbers and times, is compared with
`errors_as_seen.md`, which is meant to be read. After a change of a text: MINRAY_REWRITE=1 pytest tests/notebooks/... writes
it anew, and the diff shows what students will see.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

pytestmark = pytest.mark.notebooks

SEEN = Path(__file__).with_name("errors_as_seen.md")

START = """
import os, time, signal
import numpy as np
import minray as ray
ray.init(num_cpus=2, object_store_memory=80 * 2**20, log_to_driver=False, _system_config={"local_fs_capacity_threshold": 1e-9})
"""

CELLS = {
    "A task raises (RayTaskError and ValueError at once)": """
@ray.remote
def parse(text):
    return int(text)

ray.get(parse.remote("twelve"))
""",
    "A task that another one called raises": """
@ray.remote
def outer(text):
    return ray.get(parse.remote(text))

ray.get(outer.remote("thirteen"))
""",
    "An argument failed (the task itself never ran)": """
@ray.remote
def double(x):
    return 2 * x

ray.get(double.remote(parse.remote("x")))
""",
    "A worker dies (WorkerCrashedError)": """
@ray.remote(max_retries=0)
def crash():
    os.kill(os.getpid(), signal.SIGKILL)

ray.get(crash.remote())
""",
    "A worker dies at every try": """
@ray.remote(max_retries=2)
def leave():
    os._exit(3)

ray.get(leave.remote())
""",
    "A wait takes too long (GetTimeoutError)": """
@ray.remote
def slow():
    time.sleep(30)

late = slow.remote()
ray.get(late, timeout=0.2)
""",
    "A task is cancelled (TaskCancelledError)": """
ray.cancel(late)
ray.get(late)
""",
    "An actor's constructor raises (ActorDiedError)": """
@ray.remote
class Account:
    def __init__(self, balance):
        self.balance = balance
        if balance < 0:
            raise ValueError("a balance below zero")

    def withdraw(self, amount):
        self.balance -= amount
        return self.balance

    def leave(self):
        ray.actor.exit_actor()

    def crash(self):
        os._exit(7)

    def sleep(self):
        time.sleep(30)

ray.get(Account.remote(-1).withdraw.remote(1))
""",
    "An actor was killed": """
account = Account.remote(10)
ray.get(account.withdraw.remote(1))
ray.kill(account)
ray.get(account.withdraw.remote(1))
""",
    "An actor ended on its own": """
account = Account.remote(10)
account.leave.remote()
ray.get(account.withdraw.remote(1))
""",
    "An actor's process ended": """
account = Account.remote(10)
ray.get(account.crash.remote())
""",
    "An actor restarts under a call (ActorUnavailableError)": """
account = Account.options(max_restarts=1).remote(10)
ray.get(account.withdraw.remote(1))
busy = account.sleep.remote()
time.sleep(0.3)
ray.kill(account, no_restart=False)
ray.get(busy)
""",
    "Too many calls wait (PendingCallsLimitExceeded)": """
account = Account.options(max_pending_calls=2).remote(10)
for _ in range(3):
    account.sleep.remote()
""",
    "A name is taken (ActorAlreadyExistsError)": """
first = Account.options(name="savings").remote(10)
Account.options(name="savings").remote(10)
""",
    "Nobody has that name": """
ray.get_actor("nobody")
""",
    "The store is full and the disk too (ObjectStoreFullError, OutOfDiskError)": """
kept = [ray.put(np.zeros(10 * 2**20, np.uint8)) for _ in range(20)]
""",
    "An object larger than the store": """
kept = []
ray.put(np.zeros(200 * 2**20, np.uint8))
""",
    "The owner of an object died (OwnerDiedError)": """
@ray.remote
class Keeper:
    def keep(self):
        self.ref = ray.put(np.arange(200_000))
        return [self.ref]

keeper = Keeper.remote()
[ref] = ray.get(keeper.keep.remote())
ray.kill(keeper)
time.sleep(0.5)
ray.get(ref)
""",
    "An environment cannot be set up (RuntimeEnvSetupError)": """
def no_licence():
    raise OSError("no licence server")

ray.get(parse.options(runtime_env={"worker_process_setup_hook": no_licence}).remote("1"))
""",
    "A package is not installed (RuntimeEnvSetupError)": """
parse.options(runtime_env={"pip": ["no-such-package"]}).remote("1")
""",
    "No node can ever run it (TaskUnschedulableError)": """
from minray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
parse.options(scheduling_strategy=NodeAffinitySchedulingStrategy("f" * 56, soft=False)).remote("1")
""",
    "A task returns the wrong number of values": """
@ray.remote(num_returns=2)
def three():
    return 1, 2, 3

ray.get(three.remote())
""",
    "An argument cannot be pickled": """
import threading
parse.remote(threading.Lock())
""",
    "A generator fails midway": """
@ray.remote
def count():
    yield 1
    raise RuntimeError("no more")

for ref in count.remote():
    print(ray.get(ref))
""",
    "A remote function is called without .remote": """
parse("1")
""",
    "get of something that is no reference": """
ray.get(parse)
""",
    "An option is misspelled": """
parse.options(num_cpu=2)
""",
    "The node process dies (LocalRayletDiedError)": """
from minray.engine.seam import slot
os.kill(slot.engine.core.node_pid, signal.SIGKILL)
ray.get(parse.remote("1"))
""",
    "After shutdown": """
ray.shutdown()
ray.get(late)
""",
}

EXECUTE = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], 4)
nbclient.NotebookClient(notebook, timeout=100, allow_errors=True).execute()
nbformat.write(notebook, sys.argv[1])
"""

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_CLEAN = [
    (re.compile(r"\b[0-9a-f]{56}\b"), "<object>"),
    (re.compile(r"\b[0-9a-f]{48}\b"), "<task>"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "<id>"),
    (re.compile(r"\bworker [0-9a-f]{8}\b"), "worker <id>"),
    (re.compile(r"pid(=|: | )\d+"), "pid <n>"),
    (re.compile(r"process \d+"), "process <n>"),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "<namespace>"),
    (re.compile(r"ipykernel_\d+/\d+\.py"), "<cell>"),
    (re.compile(r"/tmp/[\w./-]+"), "<path>"),
    (re.compile(r"File \"?[^\s\",]*minray/"), "File minray/"),
    (re.compile(r"0x[0-9a-f]+"), "0x<n>"),
    (re.compile(r"\b\d+(\.\d+)? (?:kB|KB|MB|GB|TB)\b"), "<size>"),
    (re.compile(r"[\d.]+ %"), "<n> %"),
    (re.compile(r"largest holders: .*?\. Drop"), "largest holders: <holders>. Drop"),
]


def clean(text: str) -> str:
    text = _COLOURS.sub("", text)
    for pattern, word in _CLEAN:
        text = pattern.sub(word, text)
    return "\n".join(line.rstrip() for line in text.splitlines())


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What stands under each cell: the exception's own lines, as IPython ends its traceback."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in (START, *CELLS.values())],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    path = tmp_path_factory.mktemp("errors") / "errors.ipynb"
    nbformat.write(notebook, path)
    # In a process of its own: the client of a kernel keeps sockets for as long as its process lives.
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE, str(path)], capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr
    notebook = nbformat.read(path, 4)
    found = {}
    for title, cell in zip(("start", *CELLS), notebook.cells, strict=True):
        errors = [output for output in cell.outputs if output.output_type == "error"]
        found[title] = clean(f"{errors[0].ename}: {errors[0].evalue}") if errors else "(nothing was raised)"
    assert found.pop("start") == "(nothing was raised)"
    return found


def test_every_failing_cell_says_what_we_promised(seen: dict[str, str]) -> None:
    text = "# What a notebook shows\n\n" + "".join(
        f"## {title}\n\n```\n{shown}\n```\n\n" for title, shown in seen.items()
    )
    text = text.rstrip() + "\n"
    if os.environ.get("MINRAY_REWRITE"):
        SEEN.write_text(text, encoding="utf-8")
    assert text == SEEN.read_text(encoding="utf-8")


def test_every_cell_fails(seen: dict[str, str]) -> None:
    assert [title for title, shown in seen.items() if shown == "(nothing was raised)"] == []


def test_no_message_speaks_of_our_own_files(seen: dict[str, str]) -> None:
    leaking = {
        title: shown for title, shown in seen.items() if re.search(r"minray/(worker|engine|rpc)/", shown)
    }
    assert leaking == {}
