"""How is a program told of a habit that costs it speed or memory?

Once a process and finding, each with the lesson that explains it. In a notebook the note is ordinary
output: graders score a cell with anything on stderr as zero. In a script it is a `TeachingWarning`,
which a program can silence or count.
"""

from __future__ import annotations

import sys
import warnings

LARGE_CODE_BYTES = 10_000_000


class TeachingWarning(UserWarning):
    """minray noticed a pattern that usually costs speed or memory, or a wait that cannot end."""


_said: set[str] = set()


def say(key: str, text: str) -> None:
    """Tell the user, once a `key`. Never raises: this runs in threads of the runtime too."""
    if key in _said:
        return
    _said.add(key)
    if in_notebook():
        print(f"minray: {text}", flush=True)
        return
    try:
        warnings.warn(text, TeachingWarning, stacklevel=3)
    except Warning:
        pass  # -W error: the program asked for exceptions, but here nobody could catch it


def in_notebook() -> bool:
    """Whether this process is a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    return shell is not None and hasattr(shell, "kernel")


def warn_large_code(name: str, size_bytes: int) -> None:
    """A function or class that carries a lot of data with it."""
    if size_bytes >= LARGE_CODE_BYTES:
        say(
            f"code:{name}",
            f"{name} carries {size_bytes / 1e6:.0f} MB with it (a large object among its globals or its closure), "
            "sent to every worker that runs it. Put the object into the store once, `ref = put(obj)`, and pass "
            "`ref` as an argument. `minray lesson start 01_tasks` explains it.",
        )


def reset() -> None:
    """Forget what was said (a new session)."""
    _said.clear()
