"""What runs a student's program, and calls its functions when the judge asks?

`python -m minray.grading.submission FD` is a process of its own. FD is a private socket to the judge:

    judge ──► cells, limits ──►  run them in a fresh __main__
          ◄── which failed  ◄──
          ──► trial, arguments ──►  call the student's function, record the trace
          ◄── value, error, trace ◄──          ... again for each trial

It answers with what happened and never with a score. Whatever the student's code prints, patches or
writes into the socket, the judge (`judge.py`) decides in its own process, from its own copy of the
exercises; an answer without the number of the question that was asked counts as none.
"""

from __future__ import annotations

import builtins
import linecache
import os
import socket
import sys
import types
from pathlib import Path
from typing import Any

from minray.grading import confine
from minray.grading.exercise import Exercise, one_line, run_trial
from minray.grading.library import load_exercises
from minray.grading.wire import encode_trace, receive, send


def main() -> None:
    """Serve one judge until it closes the socket."""
    judge = socket.socket(fileno=int(sys.argv[1]))
    judge.set_inheritable(False)
    job = receive(judge)
    network = "not limited" if job["network"] else confine.leave_network()
    confine.limit_resources(job["memory_bytes"], job["cpu_s"])
    exercises = load_exercises(Path(job["checks"]))
    namespace = fresh_main()
    failures = run_cells(job["cells"], namespace)
    send(judge, {"nonce": job["nonce"], "failures": failures, "network": network})
    while True:
        try:
            request = receive(judge)
        except EOFError:
            break
        answer = attempt(request, exercises, namespace, failures)
        send(judge, {"nonce": request["nonce"], **answer})
    runtime = namespace.get("ray")
    if runtime is not None and hasattr(runtime, "shutdown"):
        runtime.shutdown()


def fresh_main() -> dict[str, Any]:
    """A new `__main__`, so that the student's functions belong to it as they would in a notebook."""
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    return module.__dict__


def run_cells(cells: list[dict[str, Any]], namespace: dict[str, Any]) -> dict[str, str]:
    """Run each cell; returns the failures, cell id to one line. A failed cell does not stop the next."""
    failures: dict[str, str] = {}
    for cell in cells:
        filename = f"<cell {cell['id']}>"
        text = cell["source"]
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
        try:
            exec(compile(text, filename, "exec"), namespace)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit too: a student's exit() ends a cell, not the grading
            failures[cell["id"]] = one_line(error)
    return failures


def attempt(
    request: dict[str, Any],
    exercises: dict[str, Exercise],
    namespace: dict[str, Any],
    failures: dict[str, str],
) -> dict[str, Any]:
    """Make the attempt that the judge asks for."""
    exercise = exercises[request["exercise"]]
    trial = next(t for t in exercise.trials(hidden=True) if t.name == request["trial"])
    function = namespace.get(exercise.function)
    if not callable(function):
        reason = failures.get(exercise.id) or f"there is no function {exercise.function}"
        return {"value": None, "error": f"its cell failed: {reason}", "trace": None}
    try:
        made = run_trial(trial, function, namespace["ray"], request["arguments"])
    except SystemExit as error:
        return {"value": None, "error": f"it raised {one_line(error)}", "trace": None}
    trace = None if made.trace is None else encode_trace(made.trace)
    return {"value": made.value, "error": made.error, "trace": trace}


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # whatever the student's code left running must not hold the judge up
