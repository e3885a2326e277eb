"""What workers print is on the driver's screen before `get` returns, with who said it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.chaos.program import Program

pytestmark = [pytest.mark.cluster]

_START = """
import os, subprocess, sys, time
import minray as ray
ray.init(num_cpus=2)

def mark(text):
    print("--", text, flush=True)
"""


def _said(tmp_path: Path, source: str, *flags: str) -> tuple[list[str], str]:
    with Program(tmp_path / "program.py", _START + source, flags=flags) as program:
        out, err, code = program.end()
    assert code == 0, err
    return [re.sub(r"pid=\d+", "pid=N", line) for line in out.splitlines()], err


def test_everything_that_a_task_writes_appears_before_its_get_returns(tmp_path: Path) -> None:
    lines, err = _said(
        tmp_path,
        """
@ray.remote
def talk():
    print("python")
    sys.stderr.write("error stream\\n")
    os.write(1, b"descriptor\\n")
    subprocess.run(["echo", "subprocess"], check=True)

@ray.remote
def outer():
    print("outside")
    return ray.get(talk.options(name="inner").remote())

ray.get(talk.remote())
mark("got")
ray.get(outer.remote())
mark("got")
ray.shutdown()
""",
    )
    told = ["python", "error stream", "descriptor", "subprocess"]
    assert lines[:5] == [f"(talk pid=N) {text}" for text in told] + ["-- got"]
    assert "(outer pid=N) outside" in lines[5 : lines.index("-- got", 5)]
    assert err == ""


def test_an_actor_speaks_under_its_class_name_and_its_constructor_too(tmp_path: Path) -> None:
    lines, _ = _said(
        tmp_path,
        """
@ray.remote
class Parrot:
    def __init__(self):
        print("born")
    def say(self, text):
        print(text)

@ray.remote
class Calm:
    async def say(self, text):
        print(text)

parrot = Parrot.remote()
ray.get(parrot.say.remote("hello"))
mark("got")
calm = Calm.remote()
ray.get(calm.say.remote("softly"))
mark("got")
ray.shutdown()
""",
    )
    assert lines[:3] == ["(Parrot pid=N) born", "(Parrot pid=N) hello", "-- got"]
    assert "(Calm pid=N) softly" in lines[3 : lines.index("-- got", 3)]


def test_a_long_task_is_heard_while_it_runs(tmp_path: Path) -> None:
    lines, _ = _said(
        tmp_path,
        """
@ray.remote
def long(path):
    print("begun")
    os.write(1, b"raw\\n")
    while not os.path.exists(path):
        time.sleep(0.01)
    print("ended")

class Screen:
    '''Opens the door once the first words are on screen.'''
    def write(self, text):
        sys.__stdout__.write(text)
        if "raw" in text:
            open(sys.argv[0] + ".door", "w").close()
    def flush(self):
        sys.__stdout__.flush()

sys.stdout = Screen()
ray.get(long.remote(sys.argv[0] + ".door"), timeout=30)
mark("got")
ray.shutdown()
""",
    )
    assert lines == ["(long pid=N) begun", "(long pid=N) raw", "(long pid=N) ended", "-- got"]


def test_a_large_output_is_complete(tmp_path: Path) -> None:
    lines, _ = _said(
        tmp_path,
        """
@ray.remote
def flood():
    sys.stdout.write("".join("%06d" % i + "x" * 93 + "\\n" for i in range(20_000)))

ray.get(flood.remote())
mark("got")
ray.shutdown()
""",
    )
    assert len(lines) == 20_001 and lines[-1] == "-- got"
    assert all(line == f"(flood pid=N) {i:06d}" + "x" * 93 for i, line in enumerate(lines[:-1]))


def test_the_same_line_of_many_workers_is_printed_once_and_counted(tmp_path: Path) -> None:
    lines, _ = _said(
        tmp_path,
        """
@ray.remote
class Chorus:
    def sing(self):
        print("la la la")

singers = [Chorus.remote() for _ in range(4)]
ray.get([singer.sing.remote() for singer in singers])
mark("got")
time.sleep(1.5)
ray.shutdown()
""",
    )
    assert lines[:2] == ["(Chorus pid=N) la la la", "-- got"]
    assert lines[2:] == ["(Chorus pid=N) la la la [repeated 3x across workers]"]


def test_a_clean_program_writes_nothing_to_stderr(tmp_path: Path) -> None:
    lines, err = _said(
        tmp_path,
        """
@ray.remote
def square(x):
    return x * x

@ray.remote
class Counter:
    def __init__(self):
        self.count = 0
    def add(self):
        self.count += 1
        return self.count

counter = Counter.remote()
assert ray.get([square.remote(x) for x in range(100)]) == [x * x for x in range(100)]
assert ray.get([counter.add.remote() for _ in range(100)])[-1] == 100
box = ray.put([ray.put(b"x" * 1_000_000)])
assert len(ray.get(ray.get(box)[0])) == 1_000_000
left_over = square.remote(1)
""",
        "-W",
        "error",
        "-X",
        "dev",
    )
    assert (lines, err) == ([], "")


def test_log_to_driver_can_be_off(tmp_path: Path) -> None:
    lines, err = _said(
        tmp_path,
        """
ray.shutdown()
ray.init(num_cpus=1, log_to_driver=False)

@ray.remote
def talk():
    print("not heard")

ray.get(talk.remote())
ray.shutdown()
""",
    )
    assert (lines, err) == ([], "")
