"""What do two clients say to each other on the hot path?

Frames are tuples whose first element is a small integer, pickled whole: one C `pickle` of a batch
costs 0.2 us a task, less than any per-task encoding.

    owner ──TASKS [(number, function, payload), ...]──► worker
    owner ◄──REPLY numbers, states, values, times────── worker

payload: a tuple of plain positional arguments | bytes: pickle of (args, kwargs) | a `Call`, for
everything else (references, buffers, several return values). Numbers are the owner's object
numbers; a task with k return values takes k consecutive ones.
"""

from __future__ import annotations

from typing import Any, NamedTuple

TASKS = 0  # (TASKS, [(number, function id | method name, payload), ...])
REPLY = 1  # (REPLY, numbers, states | None (all plain), values, times: 2k doubles t0*, t1*)
EXPORT = 2  # (EXPORT, function id, name, blob, careful: answer before the next task starts, max_calls)
LEASED = 3  # (LEASED, lease id, gpu ids, shape, prepared runtime_env | None): its tasks run under that lease
TAKE_BACK = 4  # (TAKE_BACK, how many unstarted tasks to return)
RETURNED = 5  # (RETURNED, [numbers], blocked): not started, yours again; blocked: send no more
UNBLOCKED = 6  # (UNBLOCKED,): send again
OUTPUT = 7  # (OUTPUT, LogLines)
FETCH = 8  # (FETCH, [numbers]): answer VALUE when each is ready
VALUE = 9  # (VALUE, number, state, value)
BORROW = 10  # (BORROW, [numbers], token | 0): I hold a handle on each
BORROWED = 11  # (BORROWED, token): counted
UNBORROW = 12  # (UNBORROW, [numbers]): one handle on each is gone
FREE = 13  # (FREE, [payload offsets]): blocks that you allocated and I owned
RELEASE = 14  # (RELEASE, token): the references in your reply are counted elsewhere now
CANCEL = 15  # (CANCEL, number, force, recursive, yours): stop it; yours: you own the task, else you run it for me
LEAVING = 16  # (LEAVING,): my `max_calls` are used up: this lease's last call runs, send no more
PARTED = 17  # (PARTED,): nothing more comes from me
ITEMS = 18  # (ITEMS, task number, index of the first, states | None (all plain), forms, window)
CREDIT = 19  # (CREDIT, task number, how many items were taken so far | -1: send no more)
INSPECT = 35  # (INSPECT, token, what, argument): an observer's question
INSPECTED = 36  # (INSPECTED, token, value, error)


class Yields(NamedTuple):
    """Instead of a number of return values: the call runs a generator, whose items are sent one by one."""

    dynamic: bool  # its value is a collection of all references, at the end
    window: int  # how many items may wait for their consumer; 0: any number
    per_yield: int = 1  # how many objects each `yield` gives
    skip: int = 0  # a retry: that many items have arrived already
    taken: int = 0  # a retry: and that many of them were taken


class Call(NamedTuple):
    """The payload of a task that is more than plain arguments.

    `slots[i]` is the value of the i-th top-level reference argument: (owner, number, state, value).
    """

    stream: Any  # bytes: pickle of (args, kwargs), `Slot(i)` where a reference was; b"" if in `block`
    buffers: Any  # list[bytes] | None
    block: Any  # (*block of a `Stored`, owner, number) | None: where the buffers lie, and whose they are
    slots: tuple[Any, ...]
    returns: int | Yields
    group: str = ""  # the concurrency group that `.options()` named


class Slot(NamedTuple):
    """Stands for the i-th resolved reference among the arguments."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls here
