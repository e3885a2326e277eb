"""How many files and sockets may a process of ours have open?

A node has two sockets for each worker, a driver one for each actor and leased worker that it calls. The
usual soft limit of 1,024 is a convention for programs that use select(); the hard limit is what the
system allows. Like Ray we raise the one to the other; a node starts no more workers than fit.
"""

from __future__ import annotations

import resource

ENOUGH = 65_536  # some containers allow a billion, and code that closes "all" descriptors walks them
FOR_THE_REST = 64
PER_WORKER = 2


def raise_limit() -> int:
    """Raise the soft limit as far as allowed and useful. Returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft if soft != resource.RLIM_INFINITY else ENOUGH
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (ValueError, OSError):
        return soft
    return wanted


def workers_allowed() -> int:
    """For how many workers a node has descriptors."""
    return max(1, (raise_limit() - FOR_THE_REST) // PER_WORKER)
