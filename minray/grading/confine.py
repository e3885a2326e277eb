"""How is a stranger's program kept within its bounds?

Called by the submission's process before it runs a line of the student's code; every process that it
starts inherits the bounds.

    network   a network namespace of its own, with nothing in it. Unix sockets still work: the
              runtime needs no more.
    memory    RLIMIT_DATA: private memory of each process. Shared memory is the object store's, which
              has a limit of its own. (RLIMIT_AS would count that mapping in every worker.)
    CPU       RLIMIT_CPU for each process; the judge watches the wall clock and kills the group.
    files     no core dumps. (RLIMIT_FSIZE would forbid the object store's own memory file.)

It is no sandbox: the program may still read what its user may read. Linux only; elsewhere, and where
the kernel forbids user namespaces, the result says that the network was not limited.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000


def limit_resources(memory_bytes: int, cpu_s: int) -> None:
    """Set this process's limits; children inherit them and cannot raise them."""
    for what, value in (
        (resource.RLIMIT_DATA, memory_bytes),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (allowed, allowed))


def leave_network() -> str:
    """Move this process, which must be single-threaded, to an empty network namespace.

    Returns: "" when that worked, else the reason why the network is still there.
    """
    if not sys.platform.startswith("linux"):
        return "only Linux has network namespaces"
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.geteuid(), os.getegid()
    if libc.unshare(_CLONE_NEWNET) == 0:  # root may
        return ""
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        return f"the kernel forbids it: {os.strerror(ctypes.get_errno())}"
    # In the new user namespace we would be "nobody": map our own ids to themselves.
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    return ""
