"""Where are the lessons and labs, in a wheel and in a checkout?

A wheel carries them inside the package (`minray/_content/lessons`, `minray/_content/labs`, put there by
pyproject's force-include). An editable install has no such folder: then they lie beside the package, in
the repository. Everything that opens a lesson asks here.
"""

from __future__ import annotations

from pathlib import Path


def content_root() -> Path:
    """The folder that holds `lessons/` and `labs/`.

    Raises: FileNotFoundError when neither the wheel's copy nor a checkout is there.
    """
    package = Path(__file__).resolve().parent
    for candidate in (package / "_content", package.parent):
        if (candidate / "lessons").is_dir():
            return candidate
    raise FileNotFoundError(
        f"no lessons: neither {package / '_content'} nor {package.parent / 'lessons'} exists. "
        "Install minray from its wheel, or work in a checkout."
    )


def lessons_dir() -> Path:
    """The folder of the lessons, one folder each (`01_tasks`, ...)."""
    return content_root() / "lessons"


def labs_dir() -> Path:
    """The folder of the labs."""
    return content_root() / "labs"
