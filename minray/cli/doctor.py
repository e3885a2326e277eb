"""Is this machine fit for minray, and if not, what is to be done?

Each check looks at one thing and answers with a `Finding`: fine, a warning (it works, but) or a problem
(it will not work), what was seen, and what to do. Looking changes nothing.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import platform
import re
import socket
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from minray.base.host import Host, inspect_host

OK, WARNING, PROBLEM = "ok", "warning", "problem"
MIB, GIB = 1024**2, 1024**3
SOCKET_PATH_MAX = 107  # bytes of a Unix socket's path, without its NUL
_LONGEST_BELOW_TMP = len("/minray-4294967295/session_1234567890123456_4194304/p-0123456789abcdef.sock")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw, and what to do about it (empty when nothing)."""

    name: str
    state: str
    seen: str
    advice: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on `parser`."""
    parser.add_argument("--json", action="store_true", help="findings as JSON on standard output")


def run(arguments: argparse.Namespace) -> int:
    """Check and report. Returns: 1 if there is a problem, else 0; warnings are no problem."""
    findings = examine()
    if arguments.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _print_table(findings)
    return int(any(finding.state == PROBLEM for finding in findings))


def examine(root: str = "/") -> list[Finding]:
    """Every check, in the order of the report. `root`: a fake tree for /proc and /sys in tests."""
    host = inspect_host(root)
    checks: list[Callable[[], Iterable[Finding]]] = [
        lambda: python_version(sys.version_info[:2]),
        lambda: cpus(host, os.cpu_count() or 1),
        lambda: memory(host),
        lambda: gpus(host),
        shared_memory,
        kernel_features,
        lambda: temporary_folder(os.environ.get("MINRAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"),
        lambda: socket_buffers(root),
        limits,
        lambda: notebook_packages(_installed),
        ports,
        leftovers,
    ]
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += check()
        except OSError as error:  # a file or call that this system refuses: say so and look further
            findings.append(Finding(getattr(check, "__name__", "check"), WARNING, f"cannot look: {error}"))
    return findings


# --- the machine --------------------------------------------------------------------------------
def python_version(version: tuple[int, ...]) -> list[Finding]:
    """Python 3.11 or later."""
    seen = f"{platform.python_implementation()} {'.'.join(map(str, version))} on {platform.system()}"
    if version < (3, 11):
        return [Finding("Python", PROBLEM, seen, "minray needs Python 3.11 or later")]
    if not sys.platform.startswith("linux"):
        return [
            Finding("Python", PROBLEM, seen, "minray runs on Linux only so far; in Docker or WSL it works")
        ]
    return [Finding("Python", OK, seen)]


def cpus(host: Host, machine_cpus: int) -> list[Finding]:
    """What a cluster offers by default, and why."""
    reasons = [f"affinity {host.affinity_cpus}", f"machine {machine_cpus}"]
    if host.cpu_quota is not None:
        reasons.insert(0, f"quota {host.cpu_quota.value:g} in {host.cpu_quota.source}")
    seen = f"{host.cpus} ({', '.join(reasons)})"
    if host.cpus < machine_cpus:
        advice = (
            f"libraries that start a thread per CPU of the machine will start {machine_cpus}: "
            f"set OMP_NUM_THREADS={host.cpus}"
        )
        return [Finding("CPUs", WARNING, seen, advice)]
    if host.cpus == 1:
        advice = "one task at a time; MINRAY_NUM_CPUS=4 declares more, to study a program that asks for them"
        return [Finding("CPUs", WARNING, seen, advice)]
    return [Finding("CPUs", OK, seen)]


def memory(host: Host) -> list[Finding]:
    """What tasks and the object store may use together."""
    seen = f"{host.memory.value / GIB:.1f} GiB ({host.memory.source})"
    if host.memory.value < host.memory_total_bytes:
        seen += f", of {host.memory_total_bytes / GIB:.1f} GiB in the machine"
    if host.memory.value < 512 * MIB:
        return [Finding("Memory", PROBLEM, seen, "a cluster of two CPUs and its driver need about 512 MiB")]
    if host.memory.value < 2 * GIB:
        return [Finding("Memory", WARNING, seen, "enough for lessons; large arrays need more")]
    return [Finding("Memory", OK, seen)]


def gpus(host: Host) -> list[Finding]:
    """NVIDIA devices, by their files: no driver call."""
    return [Finding("GPUs", OK, f"{int(host.gpus.value)} ({host.gpus.source})")]


def shared_memory() -> list[Finding]:
    """The store is an anonymous memory file; /dev/shm matters to libraries only."""
    findings = []
    try:
        fd = os.memfd_create("minray-doctor")
        try:
            os.ftruncate(fd, GIB)  # sparse: nothing is used
            findings.append(Finding("Object store", OK, "anonymous memory files work (no need of /dev/shm)"))
        finally:
            os.close(fd)
    except (AttributeError, OSError) as error:
        advice = "the object store needs memfd_create: Linux 3.17, and a sandbox that allows it"
        findings.append(Finding("Object store", PROBLEM, str(error), advice))
    try:
        space = os.statvfs("/dev/shm")
    except OSError:
        findings.append(Finding("/dev/shm", OK, "none; minray does not use it"))
        return findings
    size = space.f_blocks * space.f_frsize
    seen = f"{space.f_bavail * space.f_frsize / MIB:.0f} MiB free of {size / MIB:.0f} MiB"
    if size < 128 * MIB:
        advice = "minray does not use it, but torch DataLoader workers do: docker run --shm-size=1g"
        findings.append(Finding("/dev/shm", WARNING, seen, advice))
    else:
        findings.append(Finding("/dev/shm", OK, seen))
    return findings


def kernel_features() -> list[Finding]:
    """What tells minray of a death at once: descriptors of processes."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError) as error:
        text = errno.errorcode.get(getattr(error, "errno", 0) or 0, str(error))
        advice = "deaths of workers are watched by pidfd_open: Linux 5.3, and a sandbox that allows it"
        return [Finding("Kernel", PROBLEM, f"{platform.release()}: pidfd_open {text}", advice)]
    return [Finding("Kernel", OK, platform.release())]


def temporary_folder(path: str) -> list[Finding]:
    """Sockets and logs of sessions lie in it: it must be ours to write, not full, and not too deep."""
    name = "Temporary folder"
    if not os.path.isdir(path):
        return [Finding(name, PROBLEM, path, "it does not exist: set TMPDIR or MINRAY_TMPDIR to a folder")]
    if not os.access(path, os.W_OK | os.X_OK):
        return [
            Finding(name, PROBLEM, path, "it cannot be written: set TMPDIR or MINRAY_TMPDIR to one that can")
        ]
    space = os.statvfs(path)
    free = space.f_bavail * space.f_frsize
    seen = f"{path}: {free / GIB:.1f} GiB free"
    if free < 20 * MIB:
        return [
            Finding(
                name, PROBLEM, seen, "full: logs and sockets need some room; free it or set MINRAY_TMPDIR"
            )
        ]
    if free < GIB:
        return [Finding(name, WARNING, seen, "little room for logs: free some, or set MINRAY_TMPDIR")]
    if len(os.fsencode(os.path.abspath(path))) + _LONGEST_BELOW_TMP > SOCKET_PATH_MAX:
        advice = f"too deep for sockets (a path may have {SOCKET_PATH_MAX} bytes): /tmp is used instead"
        return [Finding(name, WARNING, seen, advice)]
    return [Finding(name, OK, seen)]


def socket_buffers(root: str = "/") -> list[Finding]:
    """Messages larger than a socket's buffer need more switches between processes."""
    values = {}
    for key in ("rmem_max", "wmem_max"):
        try:
            values[key] = int(Path(root, "proc/sys/net/core", key).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return [
                Finding("Socket buffers", OK, "not shown here (a container); minray asks for what it gets")
            ]
    seen = ", ".join(f"{key} {value // 1024} KiB" for key, value in values.items())
    if min(values.values()) < 200 * 1024:
        advice = (
            "small: calls in bulk get slower; sysctl -w net.core.wmem_max=1048576 net.core.rmem_max=1048576"
        )
        return [Finding("Socket buffers", WARNING, seen, advice)]
    return [Finding("Socket buffers", OK, seen)]


def limits() -> list[Finding]:
    """How many files and processes one user may have."""
    import resource

    found = []
    for name, what, least, option in (
        ("Open files", resource.RLIMIT_NOFILE, 1024, "ulimit -n 4096"),
        ("Processes", resource.RLIMIT_NPROC, 512, "ulimit -u 4096"),
    ):
        soft, hard = resource.getrlimit(what)
        found.append(limit_finding(name, soft, hard, least, option))
    return found


def limit_finding(name: str, soft: int, hard: int, least: int, option: str) -> Finding:
    """Judge one limit; negative numbers mean none."""
    seen = " of ".join("unlimited" if value < 0 or value > 1 << 40 else str(value) for value in (soft, hard))
    if 0 <= soft < least // 8:
        return Finding(name, PROBLEM, seen, f"too few for a cluster: {option}")
    if 0 <= soft < least:
        return Finding(name, WARNING, seen, f"a cluster with many workers or actors needs more: {option}")
    return Finding(name, OK, seen)


# --- notebooks ----------------------------------------------------------------------------------
def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def notebook_packages(version_of: Callable[[str], str | None]) -> list[Finding]:
    """The versions with which live views draw while a cell runs."""
    kernel = version_of("ipykernel")
    if kernel is None:
        advice = 'only notebooks need it: pip install "minray[lab]"'
        return [Finding("Notebooks", OK, "ipykernel is not installed", advice)]
    findings = []
    if _numbers(kernel) >= (7, 4):
        findings.append(Finding("ipykernel", OK, kernel))
    else:
        advice = (
            "lessons need 7.4: older ones hold messages to widgets back, or now and then never run the first "
            'cell of a page; pip install "ipykernel>=7.4"'
        )
        findings.append(Finding("ipykernel", WARNING, kernel, advice))
    versions = {name: version_of(name) for name in ("anywidget", "ipywidgets", "jupyterlab")}
    missing = [name for name, version in versions.items() if version is None]
    seen = ", ".join(f"{name} {version or 'missing'}" for name, version in versions.items())
    advice = 'live views and `minray lab` need them: pip install "minray[lab]"' if missing else ""
    findings.append(Finding("Widgets", WARNING if missing else OK, seen, advice))
    return findings


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


# --- what is in use -----------------------------------------------------------------------------
def ports() -> list[Finding]:
    """Nothing of the core listens on a port; the dashboard, JupyterLab and Serve do."""
    findings = []
    for port, user, option in (
        (8265, "the dashboard", "init(dashboard_port=...) takes another"),
        (8888, "JupyterLab", "`minray lab` takes the next free one"),
        (8000, "Serve", "serve.start(http_options={'port': ...}) takes another"),
    ):
        if _is_free(port):
            findings.append(Finding(f"Port {port}", OK, f"free ({user})"))
        else:
            findings.append(Finding(f"Port {port}", WARNING, f"in use ({user})", option))
    return findings


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a port whose last user has just gone counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def leftovers() -> list[Finding]:
    """Session folders whose driver is gone."""
    from minray.node.session_dir import find_live_sessions

    live = find_live_sessions(os.environ.get("MINRAY_TMPDIR"))
    alive = {os.path.realpath(session.path) for session in live}
    dead = []
    for base in {os.environ.get(name) or "/tmp" for name in ("MINRAY_TMPDIR", "TMPDIR")}:
        folders = sorted(Path(base, f"minray-{os.getuid()}").glob("session_*"))
        dead += [str(folder) for folder in folders if os.path.realpath(folder) not in alive]
    seen = f"{len(alive)} running, {len(dead)} left by dead drivers"
    if dead:
        advice = (
            f"the next minray.init() removes them; or: rm -r {' '.join(dead[:3])}{' ...' * (len(dead) > 3)}"
        )
        return [Finding("Sessions", WARNING, seen, advice)]
    return [Finding("Sessions", OK, seen)]


def _print_table(findings: Iterable[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table(box=None, padding=(0, 1), show_header=False)
    styles = {OK: "green", WARNING: "yellow", PROBLEM: "bold red"}
    counts = dict.fromkeys(styles, 0)
    for finding in findings:
        counts[finding.state] += 1
        seen = Text(finding.seen)
        if finding.advice:
            seen.append(f"\n→ {finding.advice}", style=styles[finding.state])
        table.add_row(Text(finding.state, style=styles[finding.state]), finding.name, seen)
    console.print(table)
    if counts[PROBLEM]:
        console.print(f"{counts[PROBLEM]} problem(s): minray will not work here before they are solved.")
    elif counts[WARNING]:
        console.print(f"minray works here; {counts[WARNING]} thing(s) to know above.")
    else:
        console.print("All is well.")
