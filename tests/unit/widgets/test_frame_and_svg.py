"""Do the frame and the picture say what the model says?"""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ElementTree
from importlib.resources import files

import pytest

from minray_widgets.frame import decode_frame, timeline_frame
from minray_widgets.palette import CALL_COLOUR, LOOKS, State
from minray_widgets.svg import describe, duration_label, svg_as_html, time_label, timeline_svg
from minray_widgets.timeline_model import TimelineModel
from minray_widgets.timeline_table import nice_step
from tests.unit.widgets.fake_engine import script


def model_of(**options) -> TimelineModel:
    model = TimelineModel(origin_s=100.0)
    model.apply(script(**options))
    return model


def test_a_frame_carries_every_column_unchanged() -> None:
    model = model_of(tasks=33)
    header, columns = decode_frame(timeline_frame(model, 110.0, {"seq": 7}))
    assert header["seq"] == 7 and header["strings"] == model.strings
    assert columns["start"] == model.start and columns["pred"] == model.pred
    assert columns["lane"] == model.lane and columns["callEnd"] == model.call_end
    assert len(header["lanes"]) == len(model.lanes)


@pytest.mark.parametrize("tasks", [0, 1, 2, 3, 5])
def test_every_column_starts_at_a_multiple_of_four_bytes(tasks: int) -> None:
    frame = timeline_frame(model_of(tasks=tasks), 110.0)
    assert len(frame) % 4 == 0 and int.from_bytes(frame[4:8], "little") % 4 == 0
    decode_frame(frame)


def test_two_thousand_bars_fit_in_a_hundred_kilobytes() -> None:
    assert len(timeline_frame(model_of(tasks=2_000), 110.0)) < 100_000


def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="not a frame"):
        decode_frame(b"PNG")
    frame = timeline_frame(model_of(tasks=9), 110.0)
    with pytest.raises(ValueError, match="ends inside"):
        decode_frame(frame[:-8])


def test_the_picture_is_well_formed_and_names_the_tasks() -> None:
    svg = timeline_svg(model_of(tasks=12))
    ElementTree.fromstring(svg)
    assert "worker 4000" in svg and "clean" in svg and "ValueError: odd" in svg


def test_the_picture_loads_nothing_from_elsewhere() -> None:
    svg = timeline_svg(model_of(tasks=12))
    assert not re.findall(r"(?:href|src)=|<script|@import|url\((?!#)", svg)


def test_an_empty_timeline_has_a_picture_too() -> None:
    model = TimelineModel(origin_s=0.0)
    ElementTree.fromstring(timeline_svg(model))
    assert describe(model) == "Timeline of tasks: no tasks yet; 0 workers."


def test_names_cannot_break_out_of_the_picture() -> None:
    model = TimelineModel(origin_s=100.0)
    model.apply(script(tasks=6))
    model.strings[model.name[0]] = '"><script>alert(1)</script>'
    svg = timeline_svg(model)
    ElementTree.fromstring(svg)
    assert "<script" not in svg


def test_five_thousand_tasks_make_a_picture_that_a_notebook_can_carry() -> None:
    assert len(timeline_svg(model_of(tasks=4_900, mean_s=0.004))) < 800_000


def test_as_html_the_picture_is_one_image() -> None:
    html = svg_as_html("<svg/>", 'a "b"')
    assert html.startswith("<img ") and "&quot;b&quot;" in html
    assert base64.b64decode(html.split("base64,")[1].split('"')[0]) == b"<svg/>"


def test_the_browser_draws_with_the_same_palette() -> None:
    source = (files("minray_widgets") / "static" / "timeline.js").read_text()
    table = re.findall(r'\{ label: "([^"]+)", colour: "(#\w{6})", pattern: "(\w+)" \}', source)
    assert table == [(look.label, look.colour, look.pattern) for look in LOOKS.values()]
    assert list(LOOKS) == list(State)
    assert f'CALL_COLOUR = "{CALL_COLOUR}"' in source


@pytest.mark.parametrize(("raw", "step"), [(0.3, 0.5), (1, 1), (1.1, 2), (30, 50), (0.0004, 0.0005), (7, 10)])
def test_axis_steps_are_one_two_or_five(raw: float, step: float) -> None:
    assert nice_step(raw) == pytest.approx(step)


def test_labels_have_the_unit_that_suits_them() -> None:
    assert [duration_label(s) for s in (5e-5, 0.02, 3.14159)] == ["50 µs", "20.0 ms", "3.14 s"]
    assert [time_label(0.05, 0.01), time_label(1.5, 0.5), time_label(7, 1)] == ["50 ms", "1.5 s", "7 s"]
