"""What of Java and C++? Ray calls functions of other languages; minray is Python only, and says so."""

from __future__ import annotations

import enum
from typing import Any, NoReturn


class Language(enum.Enum):
    """In which language a worker runs."""

    PYTHON = 0
    JAVA = 1
    CPP = 2


def java_function(class_name: str, function_name: str) -> NoReturn:
    """Refused. Raises: RuntimeError."""
    _refuse("Java functions", f"{class_name}.{function_name}")


def java_actor_class(class_name: str) -> NoReturn:
    """Refused. Raises: RuntimeError."""
    _refuse("Java actors", class_name)


def cpp_function(function_name: str) -> NoReturn:
    """Refused. Raises: RuntimeError."""
    _refuse("C++ functions", function_name)


def _refuse(what: str, name: Any) -> NoReturn:
    raise RuntimeError(f"{name}: {what} need real Ray; minray's workers run Python only.")
