"""What did the timeline end with? One self-contained SVG picture of a model.

For readers without a kernel: GitHub, nbviewer, an exported page. No script, no font, no network; the
colours follow the reader's light or dark preference. Neighbours narrower than a pixel are drawn as
one, so the picture stays under a few hundred kB whatever ran.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from html import escape

from minray_widgets.palette import CALL_COLOUR, LOOKS, Look, State
from minray_widgets.timeline_table import OPEN, TICKS_PER_S, Lane, TimelineTable, nice_step

_GUTTER, _TOP, _ROW, _QUEUE, _LEGEND = 104, 34, 24, 36, 26
_BARS_MAX = 1_500
_X = Callable[[int], float]
# Inline in a page, a style sheet is the page's: every rule starts with our class. JupyterLab's theme
# decides where there is one, the reader's preference elsewhere.
STYLE = (
    ".minray-tl{--t:#24292f;--m:#57606a;--b:#fff;--l:#d0d7de;--z:#f6f8fa}"
    "@media(prefers-color-scheme:dark){.minray-tl{--t:#e6edf3;--m:#9da7b3;--b:#16191d;--l:#3d444d;--z:#1d2126}}"
    ".minray-tl text{font:11px system-ui,sans-serif;fill:var(--jp-ui-font-color1,var(--t))}"
    ".minray-tl .m{fill:var(--jp-ui-font-color2,var(--m))}.minray-tl .bg{fill:var(--jp-layout-color0,var(--b))}"
    ".minray-tl .ln{stroke:var(--jp-border-color2,var(--l))}.minray-tl .zb{fill:var(--jp-layout-color1,var(--z))}"
)


def timeline_svg(model: TimelineTable, width: int = 900, now_s: float | None = None) -> str:
    """An <svg> element, `width` pixels wide, of what the model holds.

    Args:
        model: what is drawn.
        width: at least 300.
        now_s: until when running tasks are drawn; by default the last thing that happened.
    """
    width = max(300, width)
    last = _last_tick(model) if now_s is None else model.tick(now_s)
    first = _first_tick(model)
    last = max(last, first + 1)
    lanes = _busy_lanes(model)
    plot = width - _GUTTER - 12
    height = _TOP + _QUEUE + _ROW * len(lanes) + _LEGEND + 8

    def x(tick: int) -> float:
        return _GUTTER + plot * (min(max(tick, first), last) - first) / (last - first)

    told = describe(model)
    box = f'viewBox="0 0 {width} {height}" role="img" aria-label="{escape(told, quote=True)}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="minray-tl" width="{width}" height="{height}" {box}>',
        f"<title>{escape(told)}</title><style>{STYLE}</style>",
        patterns(),
        f'<rect class="bg" width="{width}" height="{height}" rx="4"/>',
        *_axis(first, last, width, height, x),
        *_queue(model, last, x),
    ]
    top = _TOP + _QUEUE
    rows: dict[int, list[int]] = {}
    for row in range(len(model.start)):
        if model.start[row] != OPEN:
            rows.setdefault(model.lane[row], []).append(row)
    for position, (index, lane) in enumerate(lanes):
        y = top + position * _ROW
        if position % 2 == 0:
            parts.append(f'<rect class="zb" x="0" y="{y}" width="{width}" height="{_ROW}"/>')
        parts.append(
            f'<text x="{_GUTTER - 8}" y="{y + 16}" text-anchor="end">{escape(lane_label(lane))}</text>'
        )
        parts += _calls(model, index, y, last, x)
        parts += _bars(model, rows.get(index, []), y, last, x)
    parts += _legend(model, height - _LEGEND + 10, width)
    parts.append("</svg>")
    return "".join(parts)


def svg_as_html(svg: str, alt: str) -> str:
    """The picture as one <img> element: pages that filter inline SVG out still show it."""
    data = base64.b64encode(svg.encode()).decode()
    source = f"data:image/svg+xml;base64,{data}"
    return f'<img alt="{escape(alt, quote=True)}" style="max-width:100%" src="{source}"/>'


def describe(model: TimelineTable) -> str:
    """One sentence for a reader who does not see the picture."""
    counts = {name: count for name, count in model.counts().items() if count}
    workers = sum(1 for index, _ in _busy_lanes(model) if index)
    told = ", ".join(f"{count} {name}" for name, count in counts.items()) or "no tasks yet"
    return f"Timeline of tasks: {told}; {workers} worker{'' if workers == 1 else 's'}."


def lane_label(lane: Lane) -> str:
    """What stands left of a lane."""
    if lane.pid == 0:
        return lane.label
    return f"{lane.label[:9]} {lane.pid}" if lane.label else f"worker {lane.pid}"


def _busy_lanes(model: TimelineTable) -> list[tuple[int, Lane]]:
    used = set(model.lane) | set(model.call_lane)
    return [(i, lane) for i, lane in enumerate(model.lanes) if i == 0 or i in used]


def _first_tick(model: TimelineTable) -> int:
    begun = [s for s, state in zip(model.submit, model.state) if s != OPEN and state != State.PACKED]
    return min([*begun, *(t for t in model.start if t != OPEN), *model.call_start], default=0)


def _last_tick(model: TimelineTable) -> int:
    return max(
        (t for column in (model.end, model.start, model.call_end) for t in column if t != OPEN),
        default=TICKS_PER_S,
    )


def _axis(first: int, last: int, width: int, height: int, x: _X) -> list[str]:
    span_s = (last - first) / TICKS_PER_S
    step = nice_step(span_s / max(2, (width - _GUTTER) // 110))
    parts = ['<text x="12" y="20" class="m">time</text>']
    for i in range(int(span_s / step) + 1):
        at, base = x(first + int(i * step * TICKS_PER_S)), height - _LEGEND
        parts.append(
            f'<path class="ln" d="M{at:.1f} {_TOP - 6}V{base}" stroke-width=".6"/>'
            f'<text x="{at:.1f}" y="20" text-anchor="middle" class="m">{time_label(i * step, step)}</text>'
        )
    return parts


def _queue(model: TimelineTable, last: int, x: _X) -> list[str]:
    ticks, counts = model.queue.points()
    top, base = _TOP, _TOP + _QUEUE - 6
    most = max(counts, default=0)
    parts = [
        f'<text x="{_GUTTER - 8}" y="{base - 8}" text-anchor="end">waiting</text>',
        f'<text x="{_GUTTER - 8}" y="{base + 3}" text-anchor="end" class="m">at most {most}</text>',
        f'<line class="ln" x1="{_GUTTER}" x2="{x(last):.1f}" y1="{base}" y2="{base}"/>',
    ]
    if most:
        path = [f"M{x(ticks[0]):.1f} {base}"]
        for tick, count in zip(ticks, counts):
            path.append(f"H{x(tick):.1f}V{base - (base - top) * count / most:.1f}")
        path.append(f"H{x(last):.1f}V{base}Z")
        colour = LOOKS[State.QUEUED].colour
        parts.append(f'<path d="{"".join(path)}" fill="{colour}" fill-opacity=".55" stroke="#B8A900"/>')
    return parts


def _calls(model: TimelineTable, lane: int, y: int, last: int, x: _X) -> list[str]:
    parts = []
    for i, index in enumerate(model.call_lane):
        if index == lane:
            until = last if model.call_end[i] == OPEN else model.call_end[i]
            left, right = x(model.call_start[i]), x(until)
            inset = 5 if lane == 0 else 18
            parts.append(
                f'<rect x="{left:.1f}" y="{y + inset}" width="{max(1.0, right - left):.1f}" '
                f'height="{_ROW - inset - 3}" fill="{CALL_COLOUR}" fill-opacity=".85">'
                f"<title>{escape(model.strings[model.call_what[i]])} on {model.call_count[i]} references, "
                f"{duration_label(max(0, until - model.call_start[i]) / TICKS_PER_S)}</title></rect>"
            )
    return parts[:_BARS_MAX]


def _bars(model: TimelineTable, rows: list[int], y: int, last: int, x: _X) -> list[str]:
    parts: list[str] = []
    drawn_to, drawn_state = -1.0, -1
    finest = 0.0 if len(rows) < _BARS_MAX // 4 else 1.0
    for row in sorted(rows, key=lambda r: model.start[r]):
        left = x(model.start[row])
        right = x(last if model.end[row] == OPEN else model.end[row])
        state = State(model.state[row])
        if right <= drawn_to + finest and state == drawn_state:
            continue
        bar = max(1.2, right - left)
        drawn_to, drawn_state = left + bar, state
        look = LOOKS[state]
        name = model.strings[model.name[row]]
        seconds = ((last if model.end[row] == OPEN else model.end[row]) - model.start[row]) / TICKS_PER_S
        note = model.strings[model.note[row]]
        title = f"{name}: {look.label}, {duration_label(seconds)}" + (f": {note}" if note else "")
        box = f'x="{left:.1f}" y="{y + 4}" width="{bar:.1f}" height="{_ROW - 8}" rx="2"'
        fill = "none" if look.pattern == "hollow" else look.colour
        parts.append(
            f'<g><title>{escape(title)}</title><rect {box} fill="{fill}" stroke="{look.colour}"/>'
            + (
                f'<rect {box} fill="url(#p-{look.pattern})"/>'
                if look.pattern not in ("solid", "hollow")
                else ""
            )
            + _bar_text(name, left, bar, y)
            + "</g>"
        )
        if len(parts) >= _BARS_MAX:
            break
    return parts


def _bar_text(name: str, left: float, width: float, y: int) -> str:
    if width < 7 * len(name) + 6 or not name:
        return ""
    return f'<text x="{left + 4:.1f}" y="{y + 16}" style="fill:#111">{escape(name)}</text>'


def _legend(model: TimelineTable, y: int, width: int) -> list[str]:
    counts = model.counts()
    parts, at = [], 12
    for state, look in LOOKS.items():
        count = counts.get(state.name.lower(), 0)
        if state in (State.QUEUED, State.PACKED) or not count:
            continue
        text = f"{count} {look.label}"
        if at + 24 + 6 * len(text) > width:
            break
        parts.append(swatch(look, at, y) + f'<text x="{at + 22}" y="{y + 10}">{text}</text>')
        at += 34 + 6 * len(text)
    if len(model.call_start) and at + 80 < width:
        parts.append(
            f'<rect x="{at}" y="{y}" width="16" height="11" fill="{CALL_COLOUR}"/>'
            f'<text x="{at + 22}" y="{y + 10}">get, wait</text>'
        )
    return parts


def swatch(look: Look, x: int, y: int) -> str:
    """A legend's little box."""
    box = f'x="{x}" y="{y}" width="16" height="11" rx="2"'
    fill = "none" if look.pattern == "hollow" else look.colour
    swatch = f'<rect {box} fill="{fill}" stroke="{look.colour}"/>'
    return swatch + (
        f'<rect {box} fill="url(#p-{look.pattern})"/>' if look.pattern not in ("solid", "hollow") else ""
    )


def patterns() -> str:
    """The definitions of all fill patterns."""
    ink = 'stroke="#111" stroke-opacity=".55"'
    shapes = {
        "hatch": f'<path d="M-1 7L7 -1M3 11L11 3" {ink} stroke-width="1.6"/>',
        "cross": f'<path d="M0 0L8 8M8 0L0 8" {ink} stroke-width="1.3"/>',
        "dots": '<circle cx="3" cy="3" r="1.3" fill="#111" fill-opacity=".6"/>',
        "bars": f'<path d="M2 0V8M6 0V8" {ink} stroke-width="1"/>',
    }
    return (
        "<defs>"
        + "".join(
            f'<pattern id="p-{name}" width="8" height="8" patternUnits="userSpaceOnUse">{shape}</pattern>'
            for name, shape in shapes.items()
        )
        + "</defs>"
    )


def time_label(seconds: float, step: float) -> str:
    """A moment on the axis, as precise as the axis is fine."""
    if step < 0.001:
        return f"{seconds * 1e3:.2f} ms"
    if step < 1:
        return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.3f}".rstrip("0").rstrip(".") + " s"
    return f"{seconds:.0f} s"


def duration_label(seconds: float) -> str:
    """A duration with a unit that suits it."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
