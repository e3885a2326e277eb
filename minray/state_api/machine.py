"""How busy is this machine, and what was a process started as? Measured when somebody asks."""

from __future__ import annotations

SAMPLE_S = 0.05


def usage_of_machine() -> dict[str, float]:
    """Per cent of the CPUs (over 50 ms) and of the memory that all programs of the machine use."""
    import psutil

    return {
        "cpu_usage": float(psutil.cpu_percent(interval=SAMPLE_S)),
        "memory_usage": float(psutil.virtual_memory().percent),
    }


def command_line(pid: int) -> str:
    """The words with which the process was started, "" when it is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().rstrip(b"\0").split(b"\0")
    except OSError:
        return ""
    return b" ".join(words).decode("utf-8", "replace")


def memory_of(pid: int) -> int:
    """Bytes that the process alone would give back (USS), else its resident ones; 0 when it is gone."""
    import psutil

    try:
        process = psutil.Process(pid)
        try:
            return int(process.memory_full_info().uss)
        except psutil.AccessDenied:
            return int(process.memory_info().rss)
    except psutil.Error:
        return 0
