"""What did the object store look like? One self-contained SVG picture of a model.

For readers without a kernel. A picture cannot be scrubbed, so it shows two moments: when the memory held
most, and the end. Above them runs the curve of how much was stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from html import escape

from minray_widgets.object_store_table import KIB, LINES, ObjectStoreTable
from minray_widgets.palette import OBJECT_LOOKS, Change, Fate, ObjectState
from minray_widgets.svg import STYLE, duration_label, patterns, swatch
from minray_widgets.timeline_table import TICKS_PER_S

_LEFT, _TOP, _CURVE, _ROW, _LEGEND = 104, 12, 48, 18, 26
_BLOCKS_MAX = 1_500
_QUIET = ' class="m"'


def object_store_svg(model: ObjectStoreTable, width: int = 900) -> str:
    """An <svg> element, `width` pixels wide: the curve, the fullest moment, the end."""
    width = max(300, width)
    moments = _moments(model)
    strip = _ROW * LINES + 26
    disk = 24 if any(model.disk) else 0
    height = _TOP + _CURVE + 14 + len(moments) * (strip + disk) + _LEGEND
    told = describe_objects(model)
    box = f'viewBox="0 0 {width} {height}" role="img" aria-label="{escape(told, quote=True)}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="minray-tl" width="{width}" height="{height}" {box}>',
        f"<title>{escape(told)}</title><style>{STYLE}</style>",
        patterns(),
        f'<rect class="bg" width="{width}" height="{height}" rx="4"/>',
        *_curve(model, width, [tick for tick, _ in moments]),
    ]
    y = _TOP + _CURVE + 14
    for tick, title in moments:
        parts += _memory(model, tick, title, y, width)
        if disk:
            parts += _disk(model, tick, y + _ROW * LINES + 20, width)
        y += strip + disk
    parts += _legend(model, y + 4, width)
    parts.append("</svg>")
    return "".join(parts)


def describe_objects(model: ObjectStoreTable) -> str:
    """One sentence for a reader who does not see the picture."""
    counts = model.counts()
    told = [f"{counts['memory']} in memory ({size_label(counts['memoryBytes'])})"]
    told += [f"{counts[key]} {words}" for key, words in _WORDS.items() if counts[key]]
    return f"Large objects in shared memory: {', '.join(told)}; {counts['puts']} were stored in all."


_WORDS = {"disk": "on disk", "freed": "freed", "lost": "lost"}


def size_label(count: float) -> str:
    """Bytes with a unit that suits them."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if count >= limit:
            return f"{count / limit:.1f} {unit}"
    return f"{count:.0f} bytes"


def _moments(model: ObjectStoreTable) -> list[tuple[int, str]]:
    ticks, stored = model.in_memory.points()
    last = (model.newest_tick, "at the end")
    if not len(ticks):
        return [last]
    at = max(range(len(ticks)), key=lambda i: (stored[i], i))
    # The curve is coarser than time: the moment just before the next change shows all of it.
    until = ticks[at + 1] - 1 if at + 1 < len(ticks) else model.newest_tick
    peak = max(until, ticks[at])
    if stored[-1] == stored[at] or peak >= model.newest_tick:
        return [last]
    return [(peak, f"at {duration_label((peak - _first(model)) / TICKS_PER_S)}, the most"), last]


def _first(model: ObjectStoreTable) -> int:
    return min(model.put, default=0)


def _curve(model: ObjectStoreTable, width: int, moments: Iterable[int]) -> list[str]:
    ticks, stored = model.in_memory.points()
    disk_ticks, spilled = model.on_disk.points()
    first, last = _first(model), max(model.newest_tick, _first(model) + 1)
    most = max([*stored, *spilled, 1])
    plot, base = width - _LEFT - 12, _TOP + _CURVE

    def x(tick: int) -> float:
        return _LEFT + plot * (min(max(tick, first), last) - first) / (last - first)

    parts = [
        f'<text x="{_LEFT - 8}" y="{_TOP + 12}" text-anchor="end">in memory</text>',
        f'<text x="{_LEFT - 8}" y="{_TOP + 26}" text-anchor="end" class="m">at most {size_label(most * KIB)}</text>',
        f'<line class="ln" x1="{_LEFT}" x2="{x(last):.1f}" y1="{base}" y2="{base}"/>',
        f'<text x="{_LEFT}" y="{base + 12}" class="m">0 s</text>',
        f'<text x="{x(last):.1f}" y="{base + 12}" text-anchor="end" class="m">'
        f"{duration_label((last - first) / TICKS_PER_S)}</text>",
    ]
    for at, counts, state in ((ticks, stored, ObjectState.MEMORY), (disk_ticks, spilled, ObjectState.DISK)):
        if len(at):
            path = [f"M{x(at[0]):.1f} {base}"]
            for tick, count in zip(at, counts):
                path.append(f"H{x(tick):.1f}V{base - (_CURVE - 6) * count / most:.1f}")
            path.append(f"H{x(last):.1f}V{base}Z")
            look = OBJECT_LOOKS[state]
            fill = "none" if state == ObjectState.DISK else look.colour
            parts.append(
                f'<path d="{"".join(path)}" fill="{fill}" fill-opacity=".5" stroke="{look.colour}"/>'
            )
    for tick in moments:
        at_x = x(tick)
        parts.append(
            f'<path class="ln" d="M{at_x:.1f} {_TOP}V{base}" stroke-dasharray="3 3" style="stroke:var(--m)"/>'
        )
    return parts


def state_at(model: ObjectStoreTable, tick: int) -> dict[int, tuple[ObjectState, int, int]]:
    """Row to (state, place, readers) of every object that was there at `tick`, or had been.

    The log is undone from its end.
    """
    readers: Counter[int] = Counter()
    in_memory: dict[int, int] = {}  # row -> place, of what was spilled later
    for row, live in model.live.items():
        readers[row] = live.readers.total()
    for at in range(len(model.log_tick) - 1, -1, -1):
        if model.log_tick[at] <= tick:
            continue
        row, what = model.log_row[at], model.log_what[at]
        if what == Change.BORROWED:
            readers[row] -= 1
        elif what == Change.RETURNED:
            readers[row] += 1
        elif what == Change.SPILLED:
            in_memory[row] = model.log_who[at]
    found = {}
    for row, put in enumerate(model.put):
        if put > tick:
            continue
        if model.freed[row] <= tick:
            state = ObjectState.FREED if model.fate[row] == Fate.FREED else ObjectState.LOST
        elif model.disk[row] and row not in in_memory:
            state = ObjectState.DISK
        elif model.count[row] > 1:
            state = ObjectState.PACKED
        else:
            state = ObjectState.READ if readers[row] > 0 else ObjectState.MEMORY
        found[row] = (state, in_memory.get(row, model.place[row]), readers[row])
    return found


def _memory(model: ObjectStoreTable, tick: int, title: str, y: int, width: int) -> list[str]:
    plot, extent = width - _LEFT - 12, model.extent_kib
    per_row = extent / LINES
    now = state_at(model, tick)
    stored = sum(model.size[row] for row, (state, _, _) in now.items() if state in _IN_MEMORY) * KIB
    labels = [*title.split(", "), size_label(stored), f"row: {size_label(per_row * KIB)}"]
    parts = [
        f'<text x="{_LEFT - 8}" y="{y + 14 + 15 * at}" text-anchor="end"{_QUIET if at else ""}>'
        f"{escape(label)}</text>"
        for at, label in enumerate(labels)
    ]
    for row in range(LINES):
        parts.append(
            f'<rect class="zb" x="{_LEFT}" y="{y + row * _ROW}" width="{plot}" height="{_ROW - 2}"/>'
        )
    # What was freed lies under what lives now.
    drawn = sorted(now.items(), key=lambda item: (item[1][0] in _IN_MEMORY, model.freed[item[0]]))
    for row, (state, place, readers) in drawn[-_BLOCKS_MAX:]:
        if state != ObjectState.DISK and (state in _IN_MEMORY or not model.disk[row]):
            parts.append(_block(model, row, state, place, readers, y, plot, per_row))
    return parts


_IN_MEMORY = (ObjectState.MEMORY, ObjectState.READ, ObjectState.PACKED)


def _block(
    model: ObjectStoreTable,
    row: int,
    state: ObjectState,
    place: int,
    readers: int,
    y: int,
    plot: int,
    per_row: float,
) -> str:
    look = OBJECT_LOOKS[state]
    end = place + model.size[row]
    title = f"{name_of(model, row)}: {size_label(model.size[row] * KIB)}, {look.label}, owner {owner_of(model, row)}"
    if readers:
        title += f", {readers} reader{'s' if readers > 1 else ''}"
    parts = [f"<title>{escape(title)}</title>"]
    gone = state in (ObjectState.FREED, ObjectState.LOST)
    for line in range(int(place / per_row), int((end - 1e-9) / per_row) + 1):
        left = _LEFT + plot * max(0.0, place / per_row - line)
        right = _LEFT + plot * min(1.0, end / per_row - line)
        wide = max(1.2, right - left - 1)
        box = f'x="{left:.1f}" y="{y + line * _ROW}" width="{wide:.1f}" height="{_ROW - 2}" rx="2"'
        if gone:
            parts.append(
                f'<rect {box} fill="none" stroke="{look.colour}" stroke-dasharray="2 3" opacity=".6"/>'
            )
            continue
        parts.append(f'<rect {box} fill="{look.colour}"/>')
        if look.pattern != "solid":
            parts.append(f'<rect {box} fill="url(#p-{look.pattern})"/>')
        text = name_of(model, row)
        if wide > 7 * len(text) + 6:
            parts.append(
                f'<text x="{left + 4:.1f}" y="{y + line * _ROW + 12}" style="fill:#111">{escape(text)}</text>'
            )
    return f"<g>{''.join(parts)}</g>"


def _disk(model: ObjectStoreTable, tick: int, y: int, width: int) -> list[str]:
    spilled = [row for row, (state, _, _) in state_at(model, tick).items() if state == ObjectState.DISK]
    plot, look = width - _LEFT - 12, OBJECT_LOOKS[ObjectState.DISK]
    total = sum(model.size[row] for row in spilled)
    scale = plot / max(model.extent_kib / LINES, total)
    parts = [
        f'<text x="{_LEFT - 8}" y="{y + 13}" text-anchor="end">on disk {size_label(total * KIB)}</text>',
        f'<rect class="zb" x="{_LEFT}" y="{y}" width="{plot}" height="16"/>',
    ]
    at = float(_LEFT)
    for row in spilled:
        wide = model.size[row] * scale
        box = f'x="{at:.1f}" y="{y}" width="{max(1.2, wide - 1):.1f}" height="16" rx="2"'
        parts.append(
            f"<g><title>{escape(name_of(model, row))}: on disk</title>"
            f'<rect {box} fill="{look.colour}"/><rect {box} fill="url(#p-{look.pattern})"/></g>'
        )
        at += wide
    return parts


def name_of(model: ObjectStoreTable, row: int) -> str:
    """What a picture calls an object: what made it, and its owner's number for it."""
    name = model.strings[model.name[row]]
    if model.count[row] > 1 or not model.object_ids[row]:
        return f"{model.count[row]} × {name}"
    return f"{name} #{model.number[row]}"


def owner_of(model: ObjectStoreTable, row: int) -> str:
    """The process that owns it."""
    return model.processes[model.owner[row]].name


def _legend(model: ObjectStoreTable, y: int, width: int) -> list[str]:
    counts = model.counts()
    shown = [
        (ObjectState.MEMORY, f"{counts['memory']} in memory"),
        (ObjectState.READ, "being read"),
        *([(ObjectState.DISK, f"{counts['disk']} on disk")] if counts["disk"] else []),
        (ObjectState.FREED, f"{counts['freed']} freed"),
        *([(ObjectState.LOST, f"{counts['lost']} lost")] if counts["lost"] else []),
    ]
    parts, at = [], 12
    for state, text in shown:
        parts.append(swatch(OBJECT_LOOKS[state], at, y) + f'<text x="{at + 22}" y="{y + 10}">{text}</text>')
        at += 34 + 6 * len(text)
    small = f"{counts['puts']} stored in all"
    if counts["restored"]:
        small += f"; {counts['restored']} times read from disk"
    if counts["small"]:
        small += f"; {counts['small']} small results travelled without a block"
    if at + 6 * len(small) < width:
        parts.append(f'<text x="{at + 8}" y="{y + 10}" class="m">{small}</text>')
    return parts


__all__ = ["describe_objects", "object_store_svg", "size_label", "state_at"]
