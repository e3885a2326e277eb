"""How does all that a view shows travel to the browser in one message?

One frame is the complete picture, never a difference: the browser may drop any frame and draw the
newest, and a page that is reloaded needs no history. Little-endian, every part starts at a multiple
of 4 bytes:

    "MRT1" | u32 header length | header: JSON, padded with spaces | columns, one after the other

The header holds what is small and textual (strings, marks, counts) and `columns`: a list of
[name, type, length] in the order in which they follow. Measured in JupyterLab: 2,000 rows arrive in
3 ms this way and in 45 ms as JSON objects.
"""

from __future__ import annotations

import json
import sys
from array import array
from typing import Any

from minray_widgets.timeline_table import TICKS_PER_S, TimelineTable

MAGIC = b"MRT1"
_TYPES = {"I": "u32", "H": "u16"}


def encode_frame(header: dict[str, Any], columns: dict[str, array[int]]) -> bytes:
    """A header and its columns as one frame."""
    listed = [[name, _TYPES[column.typecode], len(column)] for name, column in columns.items()]
    whole = {**header, "columns": listed}
    text = json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    parts = [MAGIC, len(text).to_bytes(4, "little"), text]
    for column in columns.values():
        raw = _little_endian(column)
        parts.append(raw + bytes(-len(raw) % 4))
    return b"".join(parts)


def timeline_frame(model: TimelineTable, now_s: float, extra: dict[str, Any] | None = None) -> bytes:
    """A timeline as one frame. `extra` joins the header (sequence number, status)."""
    ticks, counts = model.queue.points()
    columns: dict[str, array[int]] = {
        "start": model.start,
        "end": model.end,
        "submit": model.submit,
        "pred": model.pred,
        "callStart": model.call_start,
        "callEnd": model.call_end,
        "callCount": model.call_count,
        "queueTick": ticks,
        "queueCount": counts,
        "name": model.name,
        "lane": model.lane,
        "state": model.state,
        "note": model.note,
        "args": model.args,
        "attempt": model.attempt,
        "callLane": model.call_lane,
        "callWhat": model.call_what,
    }
    header: dict[str, Any] = {
        "now": model.tick(now_s),
        "ticksPerSecond": TICKS_PER_S,
        "strings": model.strings,
        "lanes": [[lane.pid, lane.label, int(lane.alive)] for lane in model.lanes],
        "marks": model.marks,
        "counts": model.counts(),
        "lost": model.lost_events,
        **(extra or {}),
    }
    return encode_frame(header, columns)


def decode_frame(frame: bytes) -> tuple[dict[str, Any], dict[str, array[int]]]:
    """What the browser reads: (header, columns).

    Raises: ValueError if it is not a frame.
    """
    if frame[:4] != MAGIC or len(frame) < 8:
        raise ValueError("not a frame")
    at = 8 + int.from_bytes(frame[4:8], "little")
    header: dict[str, Any] = json.loads(frame[8:at])
    columns: dict[str, array[int]] = {}
    for name, kind, length in header["columns"]:
        column: array[int] = array("I" if kind == "u32" else "H")
        size = length * column.itemsize
        if at + size > len(frame):
            raise ValueError(f"the frame ends inside its column {name}")
        column.frombytes(frame[at : at + size])
        if sys.byteorder == "big":
            column.byteswap()
        columns[name] = column
        at += size + -size % 4
    return header, columns


def _little_endian(column: array[int]) -> bytes:
    if sys.byteorder == "big":
        column = array(column.typecode, column)
        column.byteswap()
    return column.tobytes()
