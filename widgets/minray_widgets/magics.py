"""What can be asked of minray without writing code? `%minray timeline`, `%minray objects`, `%minray status`.

%load_ext minray.widgets
%minray timeline        a live view of tasks, from now on
%minray objects         a live view of large values in shared memory
%minray status          one line: resources, tasks by state
"""

from __future__ import annotations

from typing import Any

from minray_widgets.live_view import current_engine
from minray_widgets.shown import VIEWS, show

_USAGE = "usage: %minray timeline | %minray objects | %minray status"


def minray_magic(line: str) -> None:
    """Run `%minray line`."""
    words = line.split()
    if len(words) == 1 and words[0] in VIEWS:
        show(words[0])
    elif words == ["status"]:
        print(status_line())  # noqa: T201 - a magic answers by printing
    else:
        print(_USAGE)  # noqa: T201


def status_line() -> str:
    """What the runtime of this process has, and what of it is free."""
    if current_engine() is None:
        return "minray is not initialised: minray.init(), or just call a remote function"
    import minray

    total: dict[str, float] = minray.cluster_resources()
    free: dict[str, float] = minray.available_resources()
    parts = [
        f"{name} {free.get(name, 0.0):g} of {amount:g} free"
        for name, amount in sorted(total.items())
        if not name.startswith("node:") and "memory" not in name
    ]
    return "minray: " + ", ".join(parts)


def load_ipython_extension(shell: Any) -> None:
    """Called by `%load_ext minray.widgets`."""
    shell.register_magic_function(minray_magic, magic_kind="line", magic_name="minray")


def unload_ipython_extension(shell: Any) -> None:
    """Called by `%unload_ext minray.widgets`."""
    shell.magics_manager.magics["line"].pop("minray", None)
