"""What of the object store travels to the browser?

The rows, the log of what happened to them, and the two curves; see `frame` for how. The page works the
state at any moment out of it, so that its slider needs nobody's help.
"""

from __future__ import annotations

from array import array
from typing import Any

from minray_widgets.frame import encode_frame
from minray_widgets.object_store_table import KIB, ObjectStoreTable
from minray_widgets.timeline_table import TICKS_PER_S


def object_store_frame(model: ObjectStoreTable, now_s: float, extra: dict[str, Any] | None = None) -> bytes:
    """The store as one frame. `extra` joins the header (sequence number, status)."""
    memory_ticks, memory = model.in_memory.points()
    disk_ticks, disk = model.on_disk.points()
    columns: dict[str, array[int]] = {
        "put": model.put,
        "freed": model.freed,
        "place": model.place,
        "size": model.size,
        "count": model.count,
        "number": model.number,
        "logTick": model.log_tick,
        "logRow": model.log_row,
        "logWho": model.log_who,
        "memoryTick": memory_ticks,
        "memoryKib": memory,
        "diskTick": disk_ticks,
        "diskKib": disk,
        "owner": model.owner,
        "writer": model.writer,
        "name": model.name,
        "fate": model.fate,
        "disk": model.disk,
        "logWhat": model.log_what,
    }
    header: dict[str, Any] = {
        "now": model.tick(now_s),
        "newest": model.newest_tick,
        "ticksPerSecond": TICKS_PER_S,
        "kib": KIB,
        "extent": model.extent_kib,
        "capacity": model.capacity_bytes // KIB,
        "strings": model.strings,
        "processes": [[process.name, int(process.alive)] for process in model.processes],
        # What holds at the end of the log; the page undoes the log from here.
        "last": [
            [row, live.wanted, [[p, n] for p, n in live.readers.items()]]
            for row, live in model.live.items()
            if live.wanted or live.readers
        ],
        "marks": model.marks,
        "counts": model.counts(),
        "lost": model.lost_events,
        **(extra or {}),
    }
    return encode_frame(header, columns)
