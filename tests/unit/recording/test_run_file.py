"""A saved run comes back equal record by record, or is refused with a reason; nothing in it is executed."""

from __future__ import annotations

import dataclasses
import gzip
import json
import pickle
import typing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minray.base import events as ev
from minray.recording import run_file
from minray.recording.run import Run, load_run
from minray.recording.run_file import RunFileError, RunHeader, read_run, write_run

_VALUES = {
    str: st.text(max_size=20),
    int: st.integers(-(2**62), 2**62),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
}


def _records() -> st.SearchStrategy[Any]:
    kinds = []
    for kind in typing.get_args(ev.Event):
        types = typing.get_type_hints(kind, vars(ev))
        values = {
            field.name: _VALUES.get(types[field.name], st.lists(st.text(max_size=5)).map(tuple))
            for field in dataclasses.fields(kind)
        }
        kinds.append(st.builds(kind, **values))
    return st.one_of(kinds)


@given(events=st.lists(_records(), max_size=20), lost=st.integers(0, 9), gaps=st.lists(st.text(max_size=9)))
@settings(max_examples=60, deadline=None)
def test_every_kind_of_record_comes_back_equal(
    tmp_path_factory: pytest.TempPathFactory, events: list[Any], lost: int, gaps: list[str]
) -> None:
    path = tmp_path_factory.mktemp("run") / "a.run.gz"
    header = RunHeader(1.5, 2.5, lost, tuple(gaps))
    write_run(path, events, header)
    assert read_run(path) == (tuple(events), header)


FINISHED = ev.TaskFinished(3.0, "t", "f", "w", 1, 2.0, "ok", "", 0)
PUT = ev.ObjectPut(1.0, "o", 10, "shared", "w", "result")


def _saved(tmp_path: Path) -> Path:
    path = tmp_path / "a.run.gz"
    Run((PUT, FINISHED)).save(path)
    return path


def _rewritten(path: Path, change: Any) -> Path:
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    path.write_bytes(gzip.compress("\n".join(change(lines)).encode()))
    return path


def test_the_file_says_itself_what_it_holds(tmp_path: Path) -> None:
    first, *records, last = gzip.decompress(_saved(tmp_path).read_bytes()).decode().splitlines()
    kinds = json.loads(first)["kinds"]
    name, *values = json.loads(records[1])
    assert dict(zip(kinds[name], values, strict=True)) == dataclasses.asdict(FINISHED)
    assert json.loads(last) == {"end": 2}


def test_a_file_cut_short_is_refused_wherever_it_was_cut(tmp_path: Path) -> None:
    path = _saved(tmp_path)
    whole = path.read_bytes()
    for size in range(0, len(whole), 37):
        path.write_bytes(whole[:size])
        with pytest.raises(RunFileError, match="cut short|damaged|no saved run"):
            load_run(path)


def test_a_missing_last_line_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(RunFileError, match="cut short"):
        load_run(_rewritten(_saved(tmp_path), lambda lines: lines[:-1]))
    with pytest.raises(RunFileError, match="holds 1 records and says 2"):
        load_run(_rewritten(_saved(tmp_path), lambda lines: [lines[0], lines[1], lines[-1]]))


def test_a_newer_file_says_to_upgrade(tmp_path: Path) -> None:
    newer = ev.SCHEMA_VERSION + 1

    def change(lines: list[str]) -> list[str]:
        return [json.dumps({**json.loads(lines[0]), "schema": newer}), *lines[1:]]

    with pytest.raises(RunFileError, match=f"newer minray .schema {newer}.*upgrade"):
        load_run(_rewritten(_saved(tmp_path), change))


def test_a_file_of_an_older_schema_gets_the_defaults_of_new_fields(tmp_path: Path) -> None:
    def change(lines: list[str]) -> list[str]:
        first = json.loads(lines[0])
        first["schema"] = 1
        first["kinds"]["ObjectPut"].remove("kind")
        return [json.dumps(first), json.dumps(json.loads(lines[1])[:-1]), *lines[2:]]

    run = load_run(_rewritten(_saved(tmp_path), change))
    assert run.events == (dataclasses.replace(PUT, kind="put"), FINISHED)


@pytest.mark.parametrize(
    "record",
    [
        '["Nothing", 1]',
        '["TaskFinished", 1]',
        "[]",
        "17",
        '["ObjectPut", 1.0, "o", "ten", "shared", "w", "put"]',
        '["ObjectPut", 1.0, {"o": 1}, 10, "shared", "w", "put"]',
        "{not json",
        "[" * 5000,
    ],
)
def test_a_record_that_is_none_is_refused(tmp_path: Path, record: str) -> None:
    with pytest.raises(RunFileError, match="damaged"):
        load_run(_rewritten(_saved(tmp_path), lambda lines: [lines[0], record, *lines[2:]]))


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "evil"
    path.write_bytes(pickle.dumps({"format": "minray run"}))
    with pytest.raises(RunFileError, match="no saved run"):
        load_run(path)
    path.write_bytes(gzip.compress(pickle.dumps([1])))
    with pytest.raises(RunFileError):
        load_run(path)


def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _saved(tmp_path)
    before = path.read_bytes()
    with pytest.raises(KeyError):
        write_run(path, [FINISHED, object()], RunHeader())  # type: ignore[list-item]
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_an_incomplete_run_says_so_also_when_loaded(tmp_path: Path) -> None:
    lost = ev.EventsLost(2.0, "abcdef0123456789", 7, "its log overflowed")
    run = Run((FINISHED, lost), RunHeader(lost=3, gaps=("worker x did not answer",)))
    assert (run.complete, run.lost) == (False, 10)
    path = tmp_path / "b.gz"
    run.save(path)
    loaded = load_run(path)
    assert (loaded.complete, loaded.lost, loaded.gaps, loaded.events) == (False, 10, run.gaps, run.events)
    assert "INCOMPLETE" in repr(loaded) and "overflowed" in loaded._repr_html_()
    assert Run((FINISHED,)).complete and "complete" in repr(Run((FINISHED,)))


def test_long_lines_are_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_file, "LINE_BYTES_MAX", 2000)
    with pytest.raises(RunFileError, match="longer than any record"):
        load_run(_rewritten(_saved(tmp_path), lambda lines: ["x" * 9000]))
