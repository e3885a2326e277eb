"""How do rows come onto a terminal, into a pipe, or into another program?

On a terminal a table that fits it; in a pipe plain columns that `awk` and `sort` understand, nothing cut;
`json` and `yaml` for programs. The YAML is the block style that everybody writes, its strings quoted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

FORMATS = ("default", "table", "json", "yaml")


def add_format(parser: argparse.ArgumentParser) -> None:
    """Declare --format."""
    parser.add_argument("--format", choices=FORMATS, default="default", help="how to print the rows")


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], title: str = "") -> None:
    """A table: drawn on a terminal, plain columns in a pipe."""
    cells = [[cell(row.get(column)) for column in columns] for row in rows]
    if sys.stdout.isatty():
        _draw(cells, columns, title)
        return
    if title:
        print(title)
    for line in plain_table([[column.upper() for column in columns], *cells]):
        print(line)


def _draw(cells: list[list[str]], columns: Sequence[str], title: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in columns:
        whole = column.endswith(("_id", "pid")) or column in ("state", "size")  # to be copied, or read at a glance
        table.add_column(column.upper(), overflow="fold", no_wrap=whole)
    for row in cells:
        table.add_row(*(Text(text, style=_STYLES.get(text, "")) for text in row))
    Console().print(table)


_STYLES = {
    "FAILED": "bold red",
    "DEAD": "red",
    "SYSTEM_ERROR": "bold red",
    "ERROR": "bold red",
    "WARNING": "yellow",
    "RUNNING": "green",
    "ALIVE": "green",
    "RESTARTING": "yellow",
    "PENDING_NODE_ASSIGNMENT": "yellow",
    "PENDING_CREATION": "yellow",
    "PENDING_ARGS_AVAIL": "yellow",
}


def plain_table(lines: Iterable[Sequence[str]]) -> list[str]:
    """Columns side by side, two spaces apart."""
    lines = [[text.replace("\n", " ") for text in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def cell(value: Any) -> str:
    """A value in a table."""
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {cell(one)}" for key, one in value.items()) or "-"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(cell, value)) or "-"
    return str(value)


def to_json(value: Any) -> str:
    """For programs."""
    return json.dumps(value, indent=2, default=str)


def to_yaml(value: Any, indent: int = 0) -> str:
    """For programs and people: dictionaries, lists, scalars."""
    return "\n".join(_yaml_lines(value, indent))


def _yaml_lines(value: Any, indent: int) -> list[str]:
    space = " " * indent
    lines: list[str] = []
    if isinstance(value, Mapping) and value:
        for key, one in value.items():
            if isinstance(one, (Mapping, list, tuple)) and one:
                lines.append(f"{space}{_scalar(str(key))}:")
                lines += _yaml_lines(one, indent + 2)
            else:
                lines.append(f"{space}{_scalar(str(key))}: {_scalar(one)}")
        return lines
    if isinstance(value, (list, tuple)) and value:
        for one in value:
            inner = _yaml_lines(one, indent + 2)
            lines.append(f"{space}- {inner[0].lstrip()}")
            lines += inner[1:]
        return lines
    return [space + _scalar(value)]


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        if value.isascii() and value.isidentifier() and value.lower() not in _YAML_WORDS:
            return value
        return (
            '"'
            + "".join(_ESCAPES.get(c) or (c if c.isprintable() else f"\\U{ord(c):08x}") for c in value)
            + '"'
        )
    return json.dumps(value, default=str)


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}
_YAML_WORDS = frozenset("true false yes no on off null y n".split())


def size(count: float, unit: str = "") -> str:
    """Bytes for people, or in `unit` (B, KB, MB, GB)."""
    units = {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9}
    if unit:
        return f"{count:.0f} B" if unit == "B" else f"{count / units[unit]:.3f} {unit}"
    for name in ("GB", "MB", "KB"):
        if count >= units[name]:
            return f"{count / units[name]:.1f} {name}"
    return f"{count:.0f} B"


def age(seconds: float) -> str:
    """A duration for people."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
