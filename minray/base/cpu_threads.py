"""How many threads may native libraries start in a worker?

As many as its task or actor has CPUs: numpy's and torch's threads of all workers would fight for the
cores otherwise. `OMP_NUM_THREADS` says it to libraries that are imported later; those that are loaded
already are told. A program that sets the variable itself wins, as in Ray.
"""

from __future__ import annotations

import os
import sys

VARIABLE = "OMP_NUM_THREADS"
_SETTERS = (  # OpenBLAS, as numpy's wheels, scipy's and distributions name it
    "scipy_openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "openblas_set_num_threads",
)


class CpuThreads:
    """The variable as we set it last; one instance a process."""

    def __init__(self) -> None:
        self.ours = ""

    def begin(self) -> None:
        """One thread, unless the program's environment says otherwise (before libraries are imported)."""
        if VARIABLE not in os.environ:
            self.ours = os.environ[VARIABLE] = "1"

    def follow(self, amounts: tuple[tuple[str, int], ...]) -> None:
        """The process now works with these resources, in ten-thousandths."""
        if not self.ours or os.environ.get(VARIABLE) != self.ours:
            return  # somebody else decided
        count = 1
        for name, amount in amounts:
            if name == "CPU":
                count = max(1, amount // 10_000)
        if str(count) != self.ours:
            self.ours = os.environ[VARIABLE] = str(count)
            if "numpy" in sys.modules:
                tell_openblas(count)
            torch = sys.modules.get("torch")
            if torch is not None:
                torch.set_num_threads(count)


cpu_threads = CpuThreads()


def tell_openblas(count: int) -> None:
    """Set the number of threads of every OpenBLAS that is loaded."""
    import ctypes  # rarely wanted

    try:
        with open("/proc/self/maps") as maps:
            paths = {line[line.index("/") :].strip() for line in maps if "openblas" in line and "/" in line}
        for path in paths:
            library = ctypes.CDLL(path)
            for name in _SETTERS:
                setter = getattr(library, name, None)
                if setter is not None:
                    setter(ctypes.c_int(count))
                    break
    except OSError:
        pass  # another system: the variable is all that we have
