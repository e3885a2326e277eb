"""Does what was written to disk come back byte for byte, and does a file go with its last object?"""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minray.base.errors import OutOfDiskError
from minray.object_store.layout import plan
from minray.object_store.spill_files import (
    PIECE_BYTES,
    POSITION_STEP_BYTES,
    SpillFiles,
    files_by_writer,
    files_of_owner,
)

ME = bytes(range(16))
OTHER = bytes(range(16, 32))


def _object(buffers: list[bytes]) -> tuple[int, list[int], list[tuple[int, memoryview]]]:
    lengths = [len(buffer) for buffer in buffers]
    size, positions = plan(lengths)
    pieces = [(at, memoryview(buffer)) for at, buffer in zip(positions, buffers, strict=True) if buffer]
    return max(size, 64), lengths, pieces


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.binary(max_size=9000), min_size=1, max_size=5), min_size=1, max_size=8))
def test_every_object_of_a_file_comes_back(tmp_path: Path, values: list[list[bytes]]) -> None:
    files = SpillFiles(str(tmp_path / "spilled"), ME)
    objects = [_object(buffers) for buffers in values]
    name, positions = files.write(ME, [(size, pieces) for size, _, pieces in objects])
    assert all(position % POSITION_STEP_BYTES == 0 for position in positions)
    for (size, lengths, _), position, buffers in zip(objects, positions, values, strict=True):
        files.hold(name, size)
        views, fresh = files.open(name, position, lengths, size, None)
        assert [bytes(view) for view in views] == buffers
        assert all(view.readonly for view in views)
        assert fresh
    del views
    for size, _, _ in objects:
        assert os.path.exists(tmp_path / "spilled" / name)
        files.release(name, size)
    assert os.listdir(tmp_path / "spilled") == []
    assert files.live_bytes == 0


def test_reads_of_one_object_share_a_mapping_until_the_last_view_is_gone(tmp_path: Path) -> None:
    files = SpillFiles(str(tmp_path), ME)
    name, _ = files.write(ME, [(5000, [(0, memoryview(b"x" * 5000))])])
    [first], fresh = files.open(name, 0, [5000], 5000, None)
    [second], again = files.open(name, 0, [5000], 5000, None)
    assert fresh and not again
    assert files.mapped_parts() == 1
    part = first[100:200]
    del first, second
    gc.collect()
    assert files.mapped_parts() == 1
    assert bytes(part) == b"x" * 100
    del part
    gc.collect()
    assert files.mapped_parts() == 0


def test_views_outlive_their_file(tmp_path: Path) -> None:
    files = SpillFiles(str(tmp_path), ME)
    name, _ = files.write(ME, [(5000, [(0, memoryview(b"x" * 5000))])])
    files.hold(name, 5000)
    [view], _ = files.open(name, 0, [5000], 5000, None)
    files.release(name, 5000)
    assert os.listdir(tmp_path) == []
    assert bytes(view) == b"x" * 5000
    with pytest.raises(FileNotFoundError):
        SpillFiles(str(tmp_path), OTHER).open(name, 0, [5000], 5000, None)


def test_names_tell_whose_files_they_are(tmp_path: Path) -> None:
    mine, others = SpillFiles(str(tmp_path), ME), SpillFiles(str(tmp_path), OTHER)
    own, _ = mine.write(ME, [(64, [])])
    for_other, _ = mine.write(OTHER, [(64, [])])
    its_own, _ = others.write(OTHER, [(64, [])])
    (tmp_path / "something else").touch()
    assert files_of_owner(str(tmp_path), ME) == [own]
    assert sorted(files_of_owner(str(tmp_path), OTHER)) == sorted([for_other, its_own])
    assert files_by_writer(str(tmp_path), OTHER, ME) == [for_other]
    assert files_of_owner(str(tmp_path / "nowhere"), ME) == []
    others.hold(its_own, 64)
    others.discard(its_own)
    others.discard(for_other)
    assert sorted(os.listdir(tmp_path)) == sorted([own, its_own, "something else"])


def test_an_interrupted_write_leaves_no_file(tmp_path: Path) -> None:
    calls = iter(range(10))

    def between() -> None:
        if next(calls) == 2:
            raise KeyboardInterrupt

    data = memoryview(bytes(3 * PIECE_BYTES))
    with pytest.raises(KeyboardInterrupt):
        SpillFiles(str(tmp_path), ME).write(ME, [(len(data), [(0, data)])], between)
    assert os.listdir(tmp_path) == []


def test_a_disk_that_is_full_enough_is_not_filled(tmp_path: Path) -> None:
    with pytest.raises(OutOfDiskError, match="object_spilling_directory") as caught:
        SpillFiles(str(tmp_path), ME, full_share=0.0).write(ME, [(64, [])])
    assert str(tmp_path) in str(caught.value)
    assert "MB free" in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = str(tmp_path / "file" / "spilled")
    with pytest.raises(OutOfDiskError, match="Not a directory") as caught:
        SpillFiles(folder, ME).write(ME, [(64, [])])
    assert folder in str(caught.value)
