"""How is a Ray script run as if minray were Ray? In this process, as `python script.py` would run it.

The script becomes the module `__main__`, its folder comes first on the path, its arguments are
`sys.argv`, and `import ray` means minray here, in workers and in Python processes that it starts.
"""

from __future__ import annotations

import argparse
import importlib.machinery
import io
import os
import runpy
import sys
from types import ModuleType, TracebackType


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on `parser`."""
    parser.add_argument("-m", dest="is_module", action="store_true", help="SCRIPT is a module's name")
    parser.add_argument("script", metavar="SCRIPT", help="a Python file (or a module, with -m)")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="arguments of the script")


def run(arguments: argparse.Namespace) -> int:
    """Run the script to its end. Returns: the exit code that Python would give."""
    from minray import as_ray

    as_ray.install()
    as_ray.child_environment(os.environ)
    sys.argv = [arguments.script, *arguments.arguments]
    try:
        if arguments.is_module:
            sys.path.insert(0, os.getcwd())
            runpy.run_module(arguments.script, run_name="__main__", alter_sys=True)
        else:
            _run_file(arguments.script)
    except SystemExit:
        raise
    except BaseException as error:
        # The script's own frames only, as `python script.py` would show them.
        error.__traceback__ = _frames_of_script(error.__traceback__)
        sys.excepthook(type(error), error, error.__traceback__)
        return 130 if isinstance(error, KeyboardInterrupt) else 1
    return 0


def _run_file(path: str) -> None:
    try:
        with io.open_code(os.path.abspath(path)) as file:
            code = compile(file.read(), path, "exec")
    except OSError as error:
        raise SystemExit(f"minray run: cannot read {path!r}: {error.strerror}") from None
    main = ModuleType("__main__")
    main.__file__ = path
    main.__loader__ = importlib.machinery.SourceFileLoader("__main__", path)
    main.__dict__["__builtins__"] = __builtins__
    # It stays in place after the last line: exit handlers and threads may still look at it.
    sys.modules["__main__"] = main
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    exec(code, main.__dict__)


def _frames_of_script(tb: TracebackType | None) -> TracebackType | None:
    first = tb
    while first is not None and first.tb_frame.f_code.co_filename in (
        __file__,
        runpy.__file__,
        "<frozen runpy>",
    ):
        first = first.tb_next
    return first or tb
