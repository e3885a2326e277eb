"""How does a test look at a whole program: run it, signal it, read what it said? One process per program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class Program:
    """A Python program in a process group of its own; its stdout is read line by line."""

    def __init__(
        self, path: Path, source: str, *args: str, flags: tuple[str, ...] = (), **variables: str
    ) -> None:
        path.write_text(textwrap.dedent(source))
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **variables}
        self.process = subprocess.Popen(
            [sys.executable, *flags, str(path), *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )
        self.pid = self.process.pid

    def line(self, starting: str = "", within_s: float = 60.0) -> str:
        """The next line of output that begins so, without the beginning."""
        alarm = threading.Timer(within_s, self.process.kill)
        alarm.start()
        try:
            assert self.process.stdout is not None
            for line in self.process.stdout:
                if line.startswith(starting):
                    return line[len(starting) :].strip()
        finally:
            alarm.cancel()
        self.process.wait()
        assert self.process.stderr is not None
        raise AssertionError(
            f"no line {starting!r}; it ended with {self.process.returncode}: {self.process.stderr.read()}"
        )

    def signal(self, number: int = signal.SIGINT, group: bool = False) -> None:
        if group:
            os.killpg(self.pid, number)
        else:
            os.kill(self.pid, number)

    def end(self, within_s: float = 60.0) -> tuple[str, str, int]:
        """Wait: (the rest of stdout, stderr, exit code)."""
        try:
            out, err = self.process.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            out, err = self.process.communicate()
            raise AssertionError(f"the program hangs: {out}\n{err}") from None
        return out, err, self.process.returncode

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: Any) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
