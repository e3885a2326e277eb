"""How does a run lie in a file, so that anybody may open anybody's?

Gzipped lines of JSON, no pickles: opening a file runs nothing of it. The first line says what the others
are, so a reader in another language, or years later, needs only the file:

    {"format": "minray run", "version": 1, "schema": 2, "kinds": {"TaskSubmitted": ["time_s", ...], ...}, ...}
    ["TaskSubmitted", 12.5, "ab34...", ...]
    ...
    {"end": 1234}                              the number of records: a file cut short is noticed
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import time
import typing
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from minray.base import events as ev
from minray.base.events import EPOCH_OFFSET_S, SCHEMA_VERSION, Event

FORMAT = "minray run"
VERSION = 1  # of the file's layout; the records' own is SCHEMA_VERSION
LINE_BYTES_MAX = 1 << 20
EVENTS_MAX = 50_000_000


class RunFileError(ValueError):
    """The file is no run, is damaged, or comes from a newer minray."""


@dataclasses.dataclass(frozen=True, slots=True)
class RunHeader:
    """What is known of a run beside its events. Times as in the events."""

    started_s: float = 0.0
    stopped_s: float = 0.0
    lost: int = 0
    gaps: tuple[str, ...] = ()
    epoch_offset_s: float = EPOCH_OFFSET_S  # turns the events' times into wall-clock time


KINDS: dict[str, Any] = {kind.__name__: kind for kind in typing.get_args(Event)}
_FIELDS = {name: dataclasses.fields(kind) for name, kind in KINDS.items()}


# -------------------------------------------------------------------- writing
def write_run(path: str | os.PathLike[str], events: Iterable[Event], header: RunHeader) -> None:
    """Write all or nothing: an interrupted save leaves no half file under the name."""
    target = os.fspath(path)
    unfinished = f"{target}.{os.getpid()}.part"
    try:
        with gzip.open(unfinished, "wt", encoding="utf-8", compresslevel=6, newline="\n") as file:
            count = 0
            file.write(_dumped(_first_line(header)))
            for event in events:
                name = type(event).__name__
                file.write(_dumped([name, *(getattr(event, field.name) for field in _FIELDS[name])]))
                count += 1
            file.write(_dumped({"end": count}))
        os.replace(unfinished, target)
    finally:
        if os.path.exists(unfinished):
            os.unlink(unfinished)


def _first_line(header: RunHeader) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "schema": SCHEMA_VERSION,
        "saved": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kinds": {name: [field.name for field in fields] for name, fields in _FIELDS.items()},
        "run": dataclasses.asdict(header),
    }


def _dumped(value: Any) -> str:
    return json.dumps(value, separators=(",", ":")) + "\n"


# -------------------------------------------------------------------- reading
def read_run(path: str | os.PathLike[str]) -> tuple[tuple[Event, ...], RunHeader]:
    """(events, header). Raises: RunFileError with what is wrong, OSError."""
    name = os.fspath(path)
    try:
        with gzip.open(name, "rb") as file:
            lines = _lines(file, name)
            first = next(lines, None)
            kinds, header = _understood(first, name)
            return tuple(_events(lines, kinds, name)), header
    except (EOFError, zlib.error) as error:
        raise RunFileError(f"{name} is cut short or damaged: {error}. Save the run again.") from None
    except gzip.BadGzipFile as error:
        raise RunFileError(f"{name} is no saved run (`run.save(path)` writes one): {error}.") from None


def _lines(file: BinaryIO | gzip.GzipFile, name: str) -> Iterator[Any]:
    number = 0
    while line := file.readline(LINE_BYTES_MAX + 1):
        number += 1
        if len(line) > LINE_BYTES_MAX:
            raise RunFileError(f"{name} is no saved run: line {number} is longer than any record.")
        try:
            yield json.loads(line)
        except (ValueError, RecursionError):
            raise RunFileError(f"{name} is damaged: line {number} is not JSON.") from None


def _understood(first: Any, name: str) -> tuple[dict[str, list[str]], RunHeader]:
    if not isinstance(first, dict) or first.get("format") != FORMAT:
        raise RunFileError(f"{name} is no saved run: its first line does not say {FORMAT!r}.")
    for what, ours in (("version", VERSION), ("schema", SCHEMA_VERSION)):
        theirs = first.get(what)
        if type(theirs) is not int or theirs < 1:
            raise RunFileError(f"{name} is damaged: its {what} is {theirs!r}.")
        if theirs > ours:
            raise RunFileError(
                f"{name} was saved by a newer minray ({what} {theirs}, this one reads up to {ours}): "
                "upgrade minray to read it."
            )
    kinds, run = first.get("kinds"), first.get("run")
    if not isinstance(kinds, dict) or not isinstance(run, dict):
        raise RunFileError(f"{name} is damaged: its first line does not say what the records are.")
    try:
        known = {field.name for field in dataclasses.fields(RunHeader)}
        header = RunHeader(**{key: value for key, value in run.items() if key in known})
        header = dataclasses.replace(header, gaps=tuple(map(str, header.gaps)), lost=int(header.lost))
    except (TypeError, ValueError) as error:
        raise RunFileError(f"{name} is damaged: {error}.") from None
    return kinds, header


def _events(lines: Iterator[Any], kinds: dict[str, list[str]], name: str) -> Iterator[Event]:
    readers = {kind: _Reader(kind, fields) for kind, fields in kinds.items() if kind in KINDS}
    count = 0
    for line in lines:
        if isinstance(line, dict):
            if line.get("end") != count:
                raise RunFileError(
                    f"{name} is damaged: it holds {count} records and says {line.get('end')!r}."
                )
            return
        try:
            yield readers[line[0]].event(line)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise RunFileError(
                f"{name} is damaged: record {count + 1} is not understood ({error})."
            ) from None
        count += 1
        if count > EVENTS_MAX:
            raise RunFileError(f"{name} holds more than {EVENTS_MAX:,} records.")
    raise RunFileError(f"{name} is cut short: its last line is missing after {count} records.")


class _Reader:
    """Builds the events of one kind from the fields that the file has; checks what type each value is."""

    def __init__(self, name: str, fields: list[str]) -> None:
        self.kind = KINDS[name]
        types = typing.get_type_hints(self.kind, vars(ev))
        self.fields = [(field, types.get(field)) for field in fields]

    def event(self, line: list[Any]) -> Event:
        """Raises: ValueError, TypeError."""
        if len(line) != len(self.fields) + 1:
            raise ValueError(f"{len(line) - 1} values instead of {len(self.fields)}")
        values = {
            field: _typed(value, wanted)
            for (field, wanted), value in zip(self.fields, line[1:], strict=True)
            if wanted is not None  # a field that a later version dropped
        }
        return self.kind(**values)  # type: ignore[no-any-return]


def _typed(value: Any, wanted: Any) -> Any:
    if wanted is float and type(value) is int:
        return float(value)
    if wanted in (str, int, float, bool):
        if type(value) is not wanted:
            raise ValueError(f"{value!r} is no {wanted.__name__}")
        return value
    if not isinstance(value, list) or not all(type(part) is str for part in value):
        raise ValueError(f"{value!r} is no list of ids")
    return tuple(value)
