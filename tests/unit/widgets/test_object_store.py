"""Does the picture of the object store show what the events tell, now and at any earlier moment?"""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from importlib.resources import files
from pathlib import Path

import pytest

from minray.base.events import (
    Event,
    GetCalled,
    GetStarted,
    ObjectBorrowed,
    ObjectFreed,
    ObjectPut,
    ObjectRestored,
    ObjectReturned,
    ObjectSpilled,
    TaskDispatched,
    TaskFinished,
    TaskSubmitted,
    WorkerChanged,
)
from minray_widgets.frame import decode_frame
from minray_widgets.object_places import Places
from minray_widgets.object_store_frame import object_store_frame
from minray_widgets.object_store_model import ObjectStoreModel
from minray_widgets.object_store_svg import describe_objects, object_store_svg, state_at
from minray_widgets.palette import OBJECT_LOOKS, ObjectState
from minray_widgets.timeline_model import TimelineModel
from minray_widgets.timeline_table import OPEN
from tests.unit.widgets.fake_engine import FakeEngine

DRIVER, ACTOR = "d" * 32, "a" * 32
MB = 1_000_000


def oid(number: int, owner: str = DRIVER) -> str:
    return f"{owner}{number:016x}00000001"


def put(t: float, number: int, size: int = 8 * MB, kind: str = "put", owner: str = DRIVER) -> ObjectPut:
    return ObjectPut(100 + t, oid(number, owner), size, "shared", owner, kind)


def freed(t: float, number: int, size: int = 8 * MB, owner: str = DRIVER) -> ObjectFreed:
    return ObjectFreed(100 + t, oid(number, owner), size)


def borrowed(t: float, number: int) -> ObjectBorrowed:
    return ObjectBorrowed(100 + t, oid(number), "w" * 32, 77)


def returned(t: float, number: int) -> ObjectReturned:
    return ObjectReturned(100 + t, oid(number), "w" * 32, 77)


def spilled(t: float, number: int) -> ObjectSpilled:
    return ObjectSpilled(100 + t, oid(number), 8 * MB, 0.01, "/tmp/x", DRIVER)


def fresh(*events: Event, **options) -> ObjectStoreModel:
    model = ObjectStoreModel(origin_s=100.0, driver_pid=4, **options)
    model.apply(events)
    model.check_invariants()
    return model


def states(model: ObjectStoreModel) -> list[str]:
    return [stored.state for stored in model.objects()]


def life(seed: int, objects: int = 30, spills: bool = True) -> list[Event]:
    """Random lives: stored, borrowed and returned some times, some spilled, most of them freed."""
    dice = random.Random(seed)
    events: list[Event] = []
    for number in range(1, objects + 1):
        t = dice.random()
        size = dice.randrange(200_000, 9 * MB)
        events.append(put(t, number, size))
        for _ in range(dice.randrange(3)):
            events.append(borrowed(t := t + 0.1 * dice.random() + 1e-3, number))
            events.append(returned(t := t + 0.1 * dice.random() + 1e-3, number))
        if spills and dice.random() < 0.4:
            events.append(spilled(t := t + 0.05, number))
        if dice.random() < 0.8:
            events.append(freed(t + 0.2, number, size))
    return sorted(events, key=lambda event: event.time_s)


def test_an_object_lies_in_memory_until_its_last_reference_goes() -> None:
    model = fresh(put(1, 1))
    [stored] = model.objects()
    assert (stored.name, stored.state, stored.owner, stored.size_bytes) == ("put", "memory", "driver", 8 * MB)
    model.apply([freed(2, 1)])
    assert states(model) == ["freed"] and model.counts()["memoryBytes"] == 0


def test_who_borrowed_it_reads_it_until_they_return_it() -> None:
    model = fresh(put(1, 1), borrowed(2, 1))
    assert model.objects()[0].readers == ("worker 77",)
    assert state_at(model, model.tick(102.5))[0][0] is ObjectState.READ
    model.apply([returned(3, 1)])
    assert model.objects()[0].readers == ()
    assert state_at(model, model.tick(102.5))[0][0] is ObjectState.READ, "the past stays what it was"


def test_a_task_wants_its_arguments_and_its_worker_reads_them() -> None:
    model = fresh(put(1, 1), TaskSubmitted(102, "t", "total", "", "", (oid(1),)))
    assert (model.objects()[0].wanted_by, model.objects()[0].readers) == (1, ())
    model.apply([TaskDispatched(103, "t", "w" * 32, 77, 0)])
    assert model.objects()[0].readers == ("worker 77",) and model.busy()
    model.apply([TaskFinished(104, "t", "total", "w" * 32, 77, 103, "ok", "", 0)])
    assert (model.objects()[0].wanted_by, model.objects()[0].readers, model.busy()) == (0, (), False)


def test_a_result_is_called_after_its_task_and_a_small_one_needs_no_block() -> None:
    task = oid(3)[:48]
    events = [
        TaskSubmitted(101, task, "make", "", "", ()),
        TaskFinished(102, task, "make", "w", 7, 101, "ok", "", 0),
    ]
    model = fresh(*events)
    assert model.counts()["small"] == 1
    model.apply([put(2, 3, kind="result")])
    assert model.objects()[0].name == "make" and model.counts()["small"] == 0


def test_what_was_spilled_leaves_its_place_to_others_and_stays_on_disk_when_read() -> None:
    model = fresh(
        put(1, 1), spilled(2, 1), put(3, 2), ObjectRestored(104, oid(1), 8 * MB, 0.01, "/tmp/x", DRIVER)
    )
    assert states(model) == ["disk", "memory"] and model.place[1] == 0
    assert model.counts()["disk"] == model.counts()["restored"] == 1 and model.counts()["diskBytes"] >= 8 * MB
    assert state_at(model, model.tick(101.5)) == {0: (ObjectState.MEMORY, 0, 0)}
    svg = object_store_svg(model)
    ElementTree.fromstring(svg)
    assert "on disk" in svg and "1 times read from disk" in svg
    model.apply([freed(5, 1), freed(5, 2)])
    assert model.in_memory.points()[1][-1] == model.on_disk.points()[1][-1] == 0
    assert state_at(model, model.tick(104.5))[0][0] is ObjectState.DISK, "freed later, it was on disk then"


def test_what_never_found_room_is_on_disk_from_the_start() -> None:
    model = fresh(ObjectPut(101, oid(1), 8 * MB, "disk", DRIVER, "put"))
    assert states(model) == ["disk"] and list(model.in_memory.points()[1]) == []


def test_an_owners_end_takes_its_objects_along() -> None:
    model = fresh(
        WorkerChanged(100.5, ACTOR, 9, True, ""), put(1, 1), put(1, 1, owner=ACTOR), borrowed(1.5, 1),
        WorkerChanged(102, ACTOR, 9, False, "killed"), WorkerChanged(103, "w" * 32, 77, False, "killed"),
    )  # fmt: skip
    assert sorted((s.owner, s.state, s.readers) for s in model.objects()) == [
        ("driver", "memory", ()),
        ("worker 9", "lost", ()),
    ]


def test_the_driver_is_the_driver_even_where_it_borrows() -> None:
    model = fresh(put(1, 1, owner=ACTOR), ObjectBorrowed(102, oid(1, ACTOR), DRIVER, 4))
    assert model.objects()[0].readers == ("driver",)


def test_the_end_of_the_runtime_loses_what_is_left_and_ids_may_come_again() -> None:
    model = fresh(put(1, 1))
    model.runtime_ended(102.0)
    model.apply([put(3, 1)])
    assert states(model) == ["lost", "memory"]
    model.check_invariants()


def test_what_was_stored_before_the_view_is_not_its_business() -> None:
    assert fresh(put(-1, 1), freed(2, 1)).objects() == []


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_events_ends_in_the_same_objects(seed: int) -> None:
    events = life(seed, spills=False)  # what an owner tells of one object comes in order
    expected = fresh(*events)
    shuffled = events[:]
    random.Random(seed).shuffle(shuffled)
    model = fresh()
    for event in shuffled:
        model.apply([event])
        model.check_invariants()
    assert [(s.object_id, s.state, s.freed_s) for s in model.objects()] == [
        (s.object_id, s.state, s.freed_s) for s in expected.objects()
    ]
    assert list(model.in_memory.points()[1]) == list(expected.in_memory.points()[1])


@pytest.mark.parametrize("seed", range(4))
def test_the_log_tells_any_earlier_moment_as_it_was(seed: int) -> None:
    events = life(seed)
    model = fresh(*events)
    for until in range(1, len(events), 7):
        past = fresh(*events[:until])
        tick = past.tick(events[until - 1].time_s)
        if model.tick(events[until].time_s) > tick:
            assert state_at(model, tick) == state_at(past, tick)


def test_past_its_limit_the_model_forgets_the_freed_and_joins_neighbours() -> None:
    model = fresh(max_objects=100)
    for number in range(1, 1_001):
        model.apply([put(number * 1e-3, number, 200_000)])
        if number % 2:
            model.apply([freed(number * 1e-3 + 5e-4, number, 200_000)])
        if number % 50 == 0:
            model.check_invariants()
    counts = model.counts()
    assert len(model.put) <= 101 and (counts["memory"], counts["freed"]) == (500, 500)
    model.apply([freed(2, number, 200_000) for number in range(2, 1_001, 2)])
    model.check_invariants()
    assert model.counts()["memory"] == 0 and model.in_memory.points()[1][-1] == 0


def test_places_are_reused_and_never_overlap() -> None:
    dice, places = random.Random(1), Places()
    taken: dict[int, int] = {}
    for _ in range(2_000):
        if taken and dice.random() < 0.5:
            start = dice.choice(sorted(taken))
            places.give(start, taken.pop(start))
        else:
            size = dice.randrange(1, 50)
            start = places.take(size)
            assert all(start + size <= other or other + length <= start for other, length in taken.items())
            taken[start] = size
        places.check_invariants()
    for start, size in taken.items():
        places.give(start, size)
    assert places.take(places.end) == 0, "all of it is one hole again"


def test_a_frame_carries_rows_log_and_what_holds_now() -> None:
    model = fresh(put(1, 1), put(1, 2), borrowed(2, 1))
    header, columns = decode_frame(object_store_frame(model, 103.0, {"seq": 7}))
    assert header["seq"] == 7 and header["last"] == [[0, 0, [[1, 1]]]]
    assert columns["size"] == model.size and columns["logTick"] == model.log_tick
    assert header["extent"] * 1024 >= 16 * MB


def test_two_thousand_objects_fit_in_a_hundred_and_fifty_kilobytes() -> None:
    model = fresh(*[put(number * 1e-3, number, 200_000) for number in range(1, 2_001)])
    assert len(object_store_frame(model, 103.0)) < 150_000


def test_the_picture_shows_the_fullest_moment_and_the_end() -> None:
    model = fresh(*[put(1 + n / 10, n) for n in range(1, 5)], *[freed(2 + n / 10, n) for n in range(1, 5)])
    svg = object_store_svg(model)
    ElementTree.fromstring(svg)
    assert "the most" in svg and "at the end" in svg and "at most 32.0 MB" in svg and "put #3" in svg
    assert (
        describe_objects(model)
        == "Large objects in shared memory: 0 in memory (0 bytes), 4 freed; 4 were stored in all."
    )
    assert not re.findall(r"(?:href|src)=|<script|@import|url\((?!#)", svg)


def test_an_empty_store_has_a_picture_too() -> None:
    ElementTree.fromstring(object_store_svg(fresh()))


def test_names_cannot_break_out_of_the_picture() -> None:
    model = fresh(put(1, 1))
    model.strings[model.name[0]] = '"><script>alert(1)</script>'
    svg = object_store_svg(model)
    ElementTree.fromstring(svg)
    assert "<script" not in svg


STATIC = files("minray_widgets") / "static"


def test_the_browser_draws_with_the_same_palette() -> None:
    source = (STATIC / "objects.js").read_text()
    table = re.findall(r'\{ label: "([^"]+)", colour: "(#\w{6})", pattern: "(\w+)" \}', source)
    assert table == [(look.label, look.colour, look.pattern) for look in OBJECT_LOOKS.values()]
    assert list(OBJECT_LOOKS) == list(ObjectState)


PAST = """
import {{ readFileSync }} from "node:fs";
import {{ decodeFrame, stateAt }} from "{module}";
const raw = readFileSync("{frame}");
const frame = decodeFrame(new DataView(raw.buffer, raw.byteOffset, raw.byteLength));
const told = {ticks}.map((tick) => stateAt(frame, tick).map((o) => [o.row, o.state, o.place, [...o.readers.values()].reduce((a, b) => a + b, 0)]));
console.log(JSON.stringify(told));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_page_works_out_the_same_past_as_python(tmp_path: Path) -> None:
    model = fresh(*life(3))
    (tmp_path / "frame").write_bytes(object_store_frame(model, 105.0, {"status": "live"}))
    module = tmp_path / "view.mjs"
    module.write_text((STATIC / "live.js").read_text() + (STATIC / "objects.js").read_text())
    ticks = [model.tick(100 + 0.1 * n) for n in range(16)]
    script = tmp_path / "run.mjs"
    script.write_text(PAST.format(module=module, frame=tmp_path / "frame", ticks=ticks))
    ran = subprocess.run(["node", str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    ours = [[[row, *seen] for row, seen in sorted(state_at(model, tick).items())] for tick in ticks]
    assert json.loads(ran.stdout) == json.loads(json.dumps(ours))


def test_a_blocked_get_is_a_bar_before_it_returns() -> None:
    model = TimelineModel(origin_s=100.0)
    model.apply([GetStarted(101, "get", (oid(1),), 1, 0, "x.py:1", DRIVER)])
    assert list(model.call_end) == [OPEN] and model.busy()
    model.apply([GetCalled(103, 101, "get", (oid(1),), 1, 0, "x.py:1", DRIVER)])
    assert list(model.call_end) == [model.tick(103)] and not model.busy()
    model.apply([GetStarted(104, "wait", (), 1, 0, "x.py:1", DRIVER)])
    model.runtime_ended(105.0)
    assert list(model.call_end)[1] == model.tick(105) and not model.busy()


# ------------------------------------------------------------------------------------- the view
def test_the_view_follows_an_engine_and_ends_with_its_block() -> None:
    pytest.importorskip("anywidget", reason="the lab extra is not installed")
    from minray_widgets import ObjectStoreView, show

    now = time.perf_counter() + 1
    events = [ObjectPut(now + n, oid(n), 8 * MB, "shared", DRIVER) for n in range(1, 4)] + [
        ObjectFreed(now + 4, oid(1), 8 * MB)
    ]
    engine = FakeEngine(events, clock=lambda: 1e12)
    with ObjectStoreView(engine=lambda: engine) as view:
        assert [stored.state for stored in view.objects()] == ["freed", "memory", "memory"]
    assert repr(view) == "<ObjectStoreView>" and view.counts()["puts"] == 3 and len(view.events) == 4
    bundle = view._repr_mimebundle_()
    assert bundle["text/html"].startswith('<img alt="Large objects in shared memory: 2 in memory (16.0 MB)')
    assert view.snapshot(width=640).startswith(
        '<svg xmlns="http://www.w3.org/2000/svg" class="minray-tl" width="640"'
    )
    opened = show("objects", engine=lambda: engine)
    assert isinstance(opened, ObjectStoreView)
    opened.close()
    with pytest.raises(ValueError, match="timeline, objects"):
        show("weather")
