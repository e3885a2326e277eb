// What are the workers doing right now? A canvas of bars, one lane per worker process.
//
// Keys on the focused canvas: arrows pan, + and - zoom, f fits the last run (again: everything),
// Home and End go to the ends, [ and ] step through the bars, c shows the critical path.

/** The table of ../palette.py: the index is the wire code of the state. @type {Look[]} */
const LOOKS = [
  { label: "queued", colour: "#F0E442", pattern: "hollow" },
  { label: "waiting at a worker", colour: "#56B4E9", pattern: "hollow" },
  { label: "running", colour: "#E69F00", pattern: "solid" },
  { label: "finished", colour: "#009E73", pattern: "solid" },
  { label: "failed", colour: "#D55E00", pattern: "cross" },
  { label: "retried", colour: "#CC79A7", pattern: "hatch" },
  { label: "lost", colour: "#6E6E6E", pattern: "cross" },
  { label: "cancelled", colour: "#9A9A9A", pattern: "dots" },
  { label: "many tasks", colour: "#009E73", pattern: "bars" },
];
const CALL_COLOUR = "#0072B2";
const RUNNING = 2, PACKED = 8;
const COUNT_KEYS = ["queued", "waiting", "running", "finished", "failed", "retried", "lost", "cancelled"];
const NO_LANE = 0xffff;
const GUTTER = 96, AXIS = 22, QUEUE = 34, FOOT = 4;
const GROW_EVERY_MS = 40;
const EXTRAPOLATE_MS_MAX = 1500; // bars stop growing when no frame comes any more

/** Read off a frame what every drawing needs. @param {Frame} frame */
function prepare(frame) {
  const { col } = frame;
  /** @type {Map<number, number[]>} rows of each lane, by start */
  const order = new Map();
  for (let row = 0; row < col.start.length; row++) {
    if (col.start[row] === OPEN && col.lane[row] === NO_LANE) continue;
    const lane = order.get(col.lane[row]);
    if (lane) lane.push(row);
    else order.set(col.lane[row], [row]);
  }
  const depth = new Map();
  for (const [lane, rows] of order) {
    rows.sort((a, b) => col.start[a] - col.start[b] || a - b);
    const stacked = stack(rows, col);
    if (stacked) depth.set(lane, stacked);
  }
  frame.blocked = col.callEnd.includes(OPEN); // a get that has not returned
  frame.order = order;
  frame.depth = depth;
}

/**
 * Bars of one lane overlap when its worker runs an async or threaded actor: give each a storey.
 * @param {number[]} rows @param {Record<string, Uint32Array | Uint16Array>} col
 * @returns {Map<number, number> | null} row -> storey (-1: number of storeys), null when none overlap
 */
function stack(rows, col) {
  /** @type {number[]} */ const ends = [];
  const storey = new Map();
  for (const row of rows) {
    if (col.start[row] === OPEN || col.state[row] === PACKED) continue;
    let s = ends.findIndex((end) => end <= col.start[row]);
    if (s < 0) s = ends.length < 6 ? ends.push(0) - 1 : 5;
    ends[s] = Math.max(ends[s], col.end[row] === OPEN ? OPEN - 1 : col.end[row]);
    storey.set(row, s);
  }
  storey.set(-1, ends.length);
  return ends.length > 1 ? storey : null;
}

/** The rows of the critical path within [from, ∞), last first. @param {Frame} frame @param {number} from */
export function criticalPath(frame, from) {
  const { col } = frame;
  let last = -1;
  for (let row = 0; row < col.end.length; row++) {
    if (col.end[row] === OPEN || col.lane[row] === NO_LANE || col.end[row] < from) continue;
    if (last < 0 || col.end[row] >= col.end[last]) last = row;
  }
  /** @type {number[]} */ const path = [];
  const seen = new Set();
  for (let row = last; row >= 0 && !seen.has(row) && col.end[row] >= from; row = col.pred[row] - 1) {
    seen.add(row);
    path.push(row);
  }
  return path;
}

/** Chrome and Perfetto's JSON. @param {Frame} frame */
export function chromeTrace(frame) {
  const { header, col } = frame;
  const us = 1e6 / header.ticksPerSecond;
  /** @type {object[]} */
  const events = header.lanes.map(([pid, label], lane) => ({
    ph: "M", name: "thread_name", pid: 1, tid: lane, args: { name: pid ? `${label || "worker"} ${pid}` : label },
  }));
  for (let row = 0; row < col.start.length; row++) {
    if (col.start[row] === OPEN || col.lane[row] === NO_LANE) continue;
    const end = col.end[row] === OPEN ? header.now : col.end[row];
    events.push({
      ph: "X", cat: "task", name: header.strings[col.name[row]], pid: 1, tid: col.lane[row],
      ts: col.start[row] * us, dur: Math.max(0, end - col.start[row]) * us,
      args: { state: LOOKS[col.state[row]].label, note: header.strings[col.note[row]] },
    });
  }
  for (let i = 0; i < col.callStart.length; i++) {
    events.push({
      ph: "X", cat: "call", name: header.strings[col.callWhat[i]], pid: 1, tid: col.callLane[i],
      ts: col.callStart[i] * us, dur: ((col.callEnd[i] === OPEN ? header.now : col.callEnd[i]) - col.callStart[i]) * us, args: { references: col.callCount[i] },
    });
  }
  return { traceEvents: events, displayTimeUnit: "ms" };
}

class Timeline extends LivePicture {
  /** @param {Store} store @param {HTMLElement} el */
  constructor(store, el) {
    super(store, el, "minray-timeline", `
      <div class="mt-bar">
        <strong class="mt-title">Tasks</strong><span class="mt-legend"></span>
        <span class="mt-buttons" role="toolbar" aria-label="Timeline">
          <button type="button" data-do="fit" title="Fit the last run; again: everything (f)">Fit</button>
          <button type="button" data-do="out" aria-label="Zoom out" title="Zoom out (-)">−</button>
          <button type="button" data-do="in" aria-label="Zoom in" title="Zoom in (+)">+</button>
          <button type="button" data-do="critical" aria-pressed="false"
            title="The chain of tasks that decided how long it took (c)">Critical path</button>
          <button type="button" data-do="export" title="Download for ui.perfetto.dev or chrome://tracing">Export</button>
        </span>
      </div>
      <div class="mt-plot">
        <canvas tabindex="0" role="application" aria-roledescription="timeline"></canvas>
        <div class="mt-tip" role="tooltip" hidden></div>
        <div class="mt-empty">No tasks yet: they appear here as soon as one is submitted.</div>
      </div>
      <div class="mt-foot"><span class="mt-note"></span><span class="mt-status"></span></div>
      <div class="mt-spoken" aria-live="polite"></div>`);
    const signal = this.lifetime.signal;
    this.root.addEventListener("click", (event) => this.press(event), { signal });
    this.canvas.addEventListener("keydown", (event) => this.key(event), { signal });
    this.canvas.addEventListener("wheel", (event) => this.wheel(event), { signal, passive: false });
    this.canvas.addEventListener("pointerdown", (event) => this.drag(event), { signal });
  }

  // --- what is visible --------------------------------------------------------------------------

  /** @param {Frame} frame */
  now(frame) {
    const live = ((frame.header.counts.running ?? 0) > 0 || frame.blocked) && frame.header.status === "live";
    const ahead = live ? Math.min(performance.now() - frame.at, EXTRAPOLATE_MS_MAX) : 0;
    return frame.header.now + (ahead / 1000) * frame.header.ticksPerSecond;
  }

  /** From where to where the reader looks by default. @param {Frame} frame @returns {[number, number]} */
  extent(frame) {
    const { col, header } = frame;
    let first = OPEN, last = 0, from = 0;
    let newest = 0;
    for (const column of [col.queueTick, col.start]) {
      for (const tick of column) if (tick !== OPEN && tick > newest) newest = tick;
    }
    if (!this.store.fitAll) {
      for (const [tick] of header.marks) if (tick <= newest) from = tick;
    }
    const take = (/** @type {number} */ begin, /** @type {number} */ end) => {
      if (end < from) return;
      if (begin < first) first = Math.max(begin, from);
      if (end > last) last = end;
    };
    const now = this.now(frame);
    for (let row = 0; row < col.start.length; row++) {
      if (col.start[row] !== OPEN) take(col.start[row], col.end[row] === OPEN ? now : col.end[row]);
    }
    for (let i = 0; i < col.callStart.length; i++) take(col.callStart[i], col.callEnd[i] === OPEN ? now : col.callEnd[i]);
    for (let i = 0; i < col.queueTick.length; i++) if (col.queueCount[i]) take(col.queueTick[i], col.queueTick[i]);
    if ((header.counts.queued ?? 0) > 0) last = Math.max(last, now);
    if (first === OPEN) return [now - header.ticksPerSecond, now];
    const room = Math.max((last - first) * 0.02, header.ticksPerSecond * 2e-4);
    return [Math.max(0, first - room), last + room];
  }

  range() {
    const frame = this.store.frame;
    if (this.store.range) return this.store.range;
    return frame ? this.extent(frame) : /** @type {[number, number]} */ ([0, 1]);
  }

  /** @param {number} factor @param {number} [at] the tick that stays where it is */
  zoom(factor, at) {
    const [a, b] = this.range();
    const middle = at ?? (a + b) / 2;
    const width = Math.max((b - a) * factor, 4);
    const left = middle - ((middle - a) / (b - a)) * width;
    this.store.range = [left, left + width];
    this.schedule();
  }

  /** @param {number} share of the visible width */
  pan(share) {
    const [a, b] = this.range();
    this.store.range = [a + share * (b - a), b + share * (b - a)];
    this.schedule();
  }

  fit() {
    // The first press returns to the last run; the next one shows everything.
    if (this.store.range) this.store.range = null;
    else this.store.fitAll = !this.store.fitAll;
    this.schedule();
  }

  // --- input ------------------------------------------------------------------------------------

  /** @param {MouseEvent} event */
  press(event) {
    const button = /** @type {HTMLElement} */ (event.target).closest("button");
    if (!button) return;
    const actions = /** @type {Record<string, () => void>} */ ({
      fit: () => this.fit(), in: () => this.zoom(0.6), out: () => this.zoom(1 / 0.6),
      critical: () => this.toggleCritical(), export: () => this.download(),
    });
    actions[button.dataset.do ?? ""]?.();
  }

  toggleCritical() {
    this.store.critical = !this.store.critical;
    this.schedule();
  }

  download() {
    if (!this.store.frame) return;
    const blob = new Blob([JSON.stringify(chromeTrace(this.store.frame))], { type: "application/json" });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = "minray-timeline.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const frame = this.store.frame;
    const actions = /** @type {Record<string, () => void>} */ ({
      ArrowLeft: () => this.pan(-0.2), ArrowRight: () => this.pan(0.2),
      ArrowUp: () => this.zoom(0.6), ArrowDown: () => this.zoom(1 / 0.6),
      "+": () => this.zoom(0.6), "=": () => this.zoom(0.6), "-": () => this.zoom(1 / 0.6), "_": () => this.zoom(1 / 0.6),
      f: () => this.fit(), c: () => this.toggleCritical(),
      Home: () => frame && this.go(this.extent(frame)[0]), End: () => frame && this.go(this.extent(frame)[1]),
      "]": () => this.step(1), "[": () => this.step(-1), Escape: () => this.select(-1),
    });
    const action = actions[event.key];
    if (!action) return;
    // The notebook must not take the key as a command (f: find, c: copy cell).
    event.preventDefault();
    event.stopPropagation();
    action();
  }

  /** @param {number} tick */
  go(tick) {
    const [a, b] = this.range();
    this.store.range = [tick - (b - a) / 2, tick + (b - a) / 2];
    this.schedule();
  }

  /** @param {WheelEvent} event */
  wheel(event) {
    // Without focus the wheel scrolls the notebook, as readers expect.
    if (document.activeElement !== this.canvas && !event.ctrlKey) return;
    event.preventDefault();
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey) {
      this.pan((event.deltaX || event.deltaY) / 1000);
    } else {
      this.zoom(Math.exp(event.deltaY * 0.0015), this.tickAt(event.offsetX));
    }
  }

  /** @param {number} x */
  tickAt(x) {
    const [a, b] = this.range();
    return a + ((x - GUTTER) / Math.max(1, this.canvas.clientWidth - GUTTER - 8)) * (b - a);
  }

  /** @param {PointerEvent} event */
  drag(event) {
    if (event.button !== 0) return;
    const [a, b] = this.range();
    const from = event.clientX;
    const scale = (b - a) / Math.max(1, this.canvas.clientWidth - GUTTER - 8);
    const stop = new AbortController();
    this.canvas.setPointerCapture(event.pointerId);
    const signal = AbortSignal.any ? AbortSignal.any([stop.signal, this.lifetime.signal]) : stop.signal;
    this.canvas.addEventListener("pointermove", (move) => {
      const shift = (from - move.clientX) * scale;
      if (Math.abs(from - move.clientX) > 2) this.store.range = [a + shift, b + shift];
      this.schedule();
    }, { signal });
    for (const end of ["pointerup", "pointercancel"]) {
      this.canvas.addEventListener(end, () => stop.abort(), { signal });
    }
  }

  /** @param {number} direction */
  step(direction) {
    const rows = this.boxes.map((box) => box.row).filter((row) => row >= 0);
    const frame = this.store.frame;
    if (!rows.length || !frame) return;
    rows.sort((a, b) => frame.col.start[a] - frame.col.start[b] || a - b);
    const at = rows.indexOf(this.selected);
    this.select(rows[at < 0 ? (direction > 0 ? 0 : rows.length - 1) : (at + direction + rows.length) % rows.length]);
  }

  // --- drawing ----------------------------------------------------------------------------------

  draw() {
    const frame = this.store.frame;
    const width = this.root.clientWidth;
    if (!width) return;
    // Before the first drawing the element was not in the page and had no colours yet.
    if (!this.theme?.paper) this.readTheme();
    this.store.drawn += 1;
    this.boxes = [];
    /** @type {HTMLElement} */ (this.root.querySelector(".mt-empty")).hidden =
      !!frame && (frame.col.start.length > 0 || frame.col.queueTick.length > 0);
    if (!frame) {
      this.canvas.style.height = "92px";
      this.canvas.height = 1;
      return;
    }
    const { header, col } = frame;
    const lanes = this.visibleLanes(frame);
    const laneHeight = Math.max(9, Math.min(24, 420 / Math.max(1, lanes.length)));
    const height = AXIS + QUEUE + lanes.length * laneHeight + FOOT;
    this.begin(width, height);
    const g = this.context;
    const [from, to] = this.range();
    const scale = (width - GUTTER - 8) / (to - from);
    const x = (/** @type {number} */ tick) => GUTTER + (tick - from) * scale;
    const now = this.now(frame);
    const font = (/** @type {number} */ size) => `${size}px ${this.theme?.font}`;

    lanes.forEach((_, i) => {
      if (i % 2 === 0) {
        g.fillStyle = this.theme?.zebra ?? "";
        g.fillRect(0, AXIS + QUEUE + i * laneHeight, width, laneHeight);
      }
    });
    this.drawAxis(frame, from, to, width, height, x, font(11));
    g.save();
    g.beginPath();
    g.rect(GUTTER, 0, width - GUTTER - 8, height);
    g.clip();
    this.drawQueue(frame, now, x);
    const path = this.store.critical ? criticalPath(frame, Math.max(0, from)) : [];
    const onPath = new Set(path);
    lanes.forEach((lane, i) => {
      this.drawLane(frame, lane, AXIS + QUEUE + i * laneHeight, laneHeight, now, x, onPath);
    });
    if (path.length) this.drawPath(path);
    this.drawHighlight(frame, x);
    g.restore();
    this.drawGutter(frame, lanes, laneHeight, font(11));

    this.root.dataset.frames = String(this.store.drawn);
    this.root.dataset.seq = String(header.seq);
    this.root.dataset.bars = String(col.start.length);
    this.root.dataset.drawnBars = String(this.boxes.length);
    this.root.dataset.lanes = String(lanes.length);
    this.root.dataset.running = String(header.counts.running ?? 0);
    this.root.dataset.finished = String(header.counts.finished ?? 0);
    this.root.dataset.mode = header.mode;
    this.words(frame, path);
    this.showTip(frame, width, GUTTER);
    // Bars of running tasks grow between two frames, unless the frames have ceased.
    if (this.now(frame) > header.now && performance.now() - frame.at < EXTRAPOLATE_MS_MAX) {
      clearTimeout(this.growth);
      this.growth = setTimeout(() => this.schedule(), GROW_EVERY_MS);
    }
  }

  /** @param {Frame} frame @returns {number[]} */
  visibleLanes(frame) {
    const used = new Set(frame.order.keys());
    for (const lane of frame.col.callLane) used.add(lane);
    const lanes = [0];
    frame.header.lanes.forEach(([, , alive], lane) => {
      if (lane && (used.has(lane) || (alive && frame.header.lanes.length <= 17))) lanes.push(lane);
    });
    return lanes;
  }

  /** @param {Frame} frame @param {number} from @param {number} to @param {number} width @param {number} height
   *  @param {(tick: number) => number} x @param {string} font */
  drawAxis(frame, from, to, width, height, x, font) {
    const g = this.context, theme = this.theme;
    if (!theme) return;
    const perSecond = frame.header.ticksPerSecond;
    // Time zero is the start of the run that is shown, not of the kernel.
    let zero = this.extent(frame)[0];
    const room = (this.extent(frame)[1] - zero) * 0.0192;
    zero += room;
    const step = niceStep((to - from) / perSecond / Math.max(2, (width - GUTTER) / 96));
    g.font = font;
    g.textAlign = "center";
    g.textBaseline = "middle";
    g.strokeStyle = theme.line;
    g.fillStyle = theme.quiet;
    g.lineWidth = 1;
    const digits = Math.max(0, Math.min(6, -Math.floor(Math.log10(step < 1 ? step * 1000 : step) + 1e-9)));
    for (let t = Math.ceil((from - zero) / perSecond / step) * step; t <= (to - zero) / perSecond; t += step) {
      const at = Math.round(x(zero + t * perSecond)) + 0.5;
      if (at < GUTTER) continue;
      g.globalAlpha = 0.6;
      g.beginPath();
      g.moveTo(at, AXIS - 4);
      g.lineTo(at, height);
      g.stroke();
      g.globalAlpha = 1;
      if (at < width - 26) g.fillText(step < 1 && Math.abs(t) < 1 ? `${(t * 1000).toFixed(digits)} ms` : `${+t.toFixed(6)} s`, at, AXIS / 2);
    }
    g.setLineDash([3, 3]);
    for (const [tick, label] of frame.header.marks) {
      if (tick < from || tick > to) continue;
      const at = Math.round(x(tick)) + 0.5;
      g.strokeStyle = theme.quiet;
      g.beginPath();
      g.moveTo(at, AXIS);
      g.lineTo(at, height);
      g.stroke();
      g.textAlign = "left";
      if (this.store.fitAll) g.fillText(label, at + 3, AXIS + 7);
    }
    g.setLineDash([]);
  }

  /** @param {Frame} frame @param {number} now @param {(tick: number) => number} x */
  drawQueue(frame, now, x) {
    const { queueTick, queueCount } = frame.col;
    const g = this.context, base = AXIS + QUEUE - 5, top = AXIS + 3;
    let most = 0;
    for (const count of queueCount) most = Math.max(most, count);
    g.strokeStyle = this.theme?.line ?? "";
    g.beginPath();
    g.moveTo(GUTTER, base + 0.5);
    g.lineTo(1e5, base + 0.5);
    g.stroke();
    if (!most) return;
    g.beginPath();
    g.moveTo(x(queueTick[0]), base);
    for (let i = 0; i < queueTick.length; i++) {
      const y = base - ((base - top) * queueCount[i]) / most;
      const until = i + 1 < queueTick.length ? queueTick[i + 1] : Math.max(now, queueTick[i]);
      g.lineTo(x(queueTick[i]), y);
      g.lineTo(x(until), y);
    }
    g.lineTo(x(Math.max(now, queueTick[queueTick.length - 1])), base);
    g.closePath();
    g.globalAlpha = 0.6;
    g.fillStyle = LOOKS[0].colour;
    g.fill();
    g.globalAlpha = 1;
    g.strokeStyle = this.theme?.dark ? "#F0E442" : "#9A8F00";
    g.stroke();
  }

  /** @param {Frame} frame @param {number} lane @param {number} y @param {number} h @param {number} now
   *  @param {(tick: number) => number} x @param {Set<number>} onPath */
  drawLane(frame, lane, y, h, now, x, onPath) {
    const { col, header } = frame;
    const g = this.context, right = this.canvas.clientWidth - 8;
    const depth = frame.depth.get(lane), storeys = depth?.get(-1) ?? 1;
    const inset = h > 14 ? 3 : 1;
    let lastX = -1, lastState = -1;
    let waiting = 0;
    g.font = `${Math.min(11, h - 6)}px ${this.theme?.font}`;
    g.textAlign = "left";
    g.textBaseline = "middle";
    for (const row of frame.order.get(lane) ?? []) {
      const state = col.state[row];
      let left = x(col.start[row]);
      let end = x(col.end[row] === OPEN ? Math.max(now, col.start[row]) : col.end[row]);
      if (col.start[row] === OPEN) {
        // Behind another task at this worker: little boxes after the running bar's end.
        if (waiting >= 12) continue;
        left = x(now) + 3 + waiting * 6;
        end = left + 4;
        waiting += 1;
      }
      if (end < GUTTER || left > right) continue;
      const w = Math.max(1.5, end - left);
      // Below half a pixel of news there is nothing to see: skip, keep the first of each state.
      if (end - lastX < 0.5 && state === lastState && !onPath.has(row) && !depth) continue;
      lastX = left + w;
      lastState = state;
      const part = (h - 2 * inset) / storeys;
      const box = { row, x: left, y: y + inset + (depth?.get(row) ?? 0) * part, w, h: storeys > 1 ? part - 0.5 : part };
      this.boxes.push(box);
      g.globalAlpha = onPath.size && !onPath.has(row) ? 0.28 : 1;
      this.drawBar(box, LOOKS[state], state === PACKED ? Math.max(0.25, col.attempt[row] / 0xffff) : 1, state === RUNNING);
      const name = state === PACKED ? `${col.submit[row]} ×` : header.strings[col.name[row]];
      const textLeft = Math.max(left, GUTTER) + 4;
      if (box.h >= 11 && end - textLeft > 16 && name && LOOKS[state].pattern !== "hollow") {
        const text = shorten(g, name, end - textLeft - 4);
        if (text && LOOKS[state].pattern !== "solid") {
          // The pattern stops where the name stands.
          g.fillStyle = LOOKS[state].colour;
          g.fillRect(textLeft - 2, box.y + 1.5, g.measureText(text).width + 4, box.h - 3);
        }
        g.fillStyle = "#101010";
        if (text) g.fillText(text, textLeft, box.y + box.h / 2 + 0.5);
      }
      g.globalAlpha = 1;
    }
    for (let i = 0; i < col.callLane.length; i++) {
      if (col.callLane[i] !== lane) continue;
      const left = x(col.callStart[i]), end = x(col.callEnd[i] === OPEN ? now : col.callEnd[i]);
      if (end < GUTTER || left > right) continue;
      const onDriver = lane === 0, w = Math.max(1.5, end - left);
      const box = { row: -2 - i, x: left, y: onDriver ? y + inset : y + h - 5, w, h: onDriver ? h - 2 * inset : 4 };
      this.boxes.push(box);
      g.fillStyle = CALL_COLOUR;
      g.fillRect(box.x, box.y, box.w, box.h);
      if (col.callEnd[i] === OPEN) this.notch(box.x + box.w, box.y, box.h);
      if (onDriver && w > 60 && h >= 14) {
        g.fillStyle = "#fff";
        const textLeft = Math.max(left, GUTTER) + 4;
        const text = shorten(g, `${header.strings[col.callWhat[i]].split(" ")[0]} (${col.callCount[i]})`, end - textLeft - 4);
        if (text) g.fillText(text, textLeft, y + h / 2 + 0.5);
      }
    }
  }

  /** @param {{ x: number, y: number, w: number, h: number }} box @param {Look} look @param {number} fill
   *  @param {boolean} open */
  drawBar(box, look, fill, open) {
    const g = this.context;
    const h = box.h * fill, y = box.y + box.h - h;
    if (look.pattern === "hollow") {
      g.strokeStyle = look.colour;
      g.lineWidth = 1.5;
      g.strokeRect(box.x + 0.75, y + 0.75, Math.max(0.5, box.w - 1.5), h - 1.5);
      return;
    }
    g.fillStyle = look.colour;
    g.fillRect(box.x, y, box.w, h);
    if (open && box.w > 8) {
      this.notch(box.x + box.w, y, h);
    }
    if (box.w >= 4) {
      const pattern = this.pattern(look.pattern);
      if (pattern) {
        g.fillStyle = pattern;
        g.fillRect(box.x, y, box.w, h);
      }
      if (box.w > 3) {
        g.strokeStyle = this.theme?.paper ?? "#fff";
        g.lineWidth = 0.75;
        g.strokeRect(box.x + 0.25, y + 0.25, box.w - 0.5, h - 0.5);
      }
    }
  }

  /** A notched right edge says "not over yet" without colour. @param {number} x @param {number} y @param {number} h */
  notch(x, y, h) {
    const g = this.context;
    g.fillStyle = this.theme?.paper ?? "#fff";
    g.beginPath();
    g.moveTo(x, y);
    g.lineTo(x - 4, y + h / 2);
    g.lineTo(x, y + h);
    g.fill();
  }

  /** @param {number[]} path */
  drawPath(path) {
    const g = this.context;
    const boxes = new Map(this.boxes.map((box) => [box.row, box]));
    g.strokeStyle = this.theme?.ink ?? "#000";
    g.lineWidth = 1.5;
    for (let i = 0; i < path.length; i++) {
      const box = boxes.get(path[i]);
      if (!box) continue;
      g.strokeRect(box.x - 0.5, box.y - 0.5, box.w + 1, box.h + 1);
      const before = boxes.get(path[i + 1]);
      if (!before) continue;
      g.beginPath();
      g.moveTo(Math.min(before.x + before.w, box.x), before.y + before.h / 2);
      g.lineTo(box.x, box.y + box.h / 2);
      g.stroke();
    }
  }

  /** @param {Frame} frame @param {(tick: number) => number} x */
  drawHighlight(frame, x) {
    const row = this.selected >= 0 ? this.selected : this.hovered;
    const box = this.boxes.find((b) => b.row === row && row !== -1);
    if (!box) return;
    const g = this.context;
    g.strokeStyle = this.theme?.ink ?? "#000";
    g.lineWidth = 2;
    g.strokeRect(box.x - 1, box.y - 1, box.w + 2, box.h + 2);
    if (row < 0 || frame.col.submit[row] === OPEN || frame.col.state[row] === PACKED) return;
    // From its submission to its start it waited.
    g.lineWidth = 1;
    g.setLineDash([2, 2]);
    g.beginPath();
    g.moveTo(x(frame.col.submit[row]), box.y + box.h / 2);
    g.lineTo(box.x, box.y + box.h / 2);
    g.stroke();
    g.setLineDash([]);
  }

  /** @param {Frame} frame @param {number[]} lanes @param {number} laneHeight @param {string} font */
  drawGutter(frame, lanes, laneHeight, font) {
    const g = this.context, theme = this.theme;
    if (!theme) return;
    g.font = font;
    g.textAlign = "right";
    g.textBaseline = "middle";
    g.fillStyle = theme.quiet;
    g.fillText("time", GUTTER - 8, AXIS / 2);
    let most = 0;
    for (const count of frame.col.queueCount) most = Math.max(most, count);
    g.fillStyle = theme.ink;
    g.fillText("waiting", GUTTER - 8, AXIS + 9);
    g.fillStyle = theme.quiet;
    g.fillText(`at most ${most}`, GUTTER - 8, AXIS + 23);
    const skip = Math.ceil(11 / laneHeight);
    lanes.forEach((lane, i) => {
      if (i % skip) return;
      const [pid, label, alive] = frame.header.lanes[lane];
      const text = pid ? `${label ? label.slice(0, 8) : "worker"} ${pid}` : label;
      g.fillStyle = alive ? theme.ink : theme.quiet;
      g.fillText(alive ? text : `✝ ${text}`, GUTTER - 8, AXIS + QUEUE + (i + 0.5) * laneHeight + 0.5);
    });
  }

  /** Legend with counts, the line below the picture, what a screen reader hears. @param {Frame} frame @param {number[]} path */
  words(frame, path) {
    const { header, col } = frame;
    const chips = COUNT_KEYS.map((key, state) => ({ key, state, count: header.counts[key] ?? 0 }))
      .filter(({ key, count }) => count > 0 || ["queued", "running", "finished"].includes(key));
    this.legend(chips.map(({ key, state, count }) => ({ look: LOOKS[state], text: `${count} ${key}` })));
    const seconds = (/** @type {number} */ ticks) => duration(ticks / header.ticksPerSecond);
    let note = "";
    if (path.length) {
      const busy = path.reduce((sum, row) => sum + (col.end[row] - col.start[row]), 0);
      const whole = col.end[path[0]] - col.start[path[path.length - 1]];
      note = `Critical path: ${path.length} task${path.length > 1 ? "s" : ""}, ${seconds(busy)} of ${seconds(whole)} were spent in them.`;
    } else if (document.activeElement === this.canvas) {
      note = "← → pan · + − zoom · f fit · [ ] step · c critical path";
    }
    this.foot(header, note);
    const button = /** @type {HTMLElement} */ (this.root.querySelector('[data-do="critical"]'));
    button.setAttribute("aria-pressed", String(this.store.critical));
    const workers = frame.header.lanes.length - 1;
    const told = `${chips.map(({ key, count }) => `${count} ${key}`).join(", ")} on ${workers} worker${workers === 1 ? "" : "s"}`;
    this.canvas.setAttribute("aria-label", `Timeline of tasks: ${told}. Arrow keys pan, plus and minus zoom, f fits, brackets step through tasks.`);
    this.say(told);
  }

  /** @param {Frame} frame @param {number} row @returns {[string, string][]} */
  story(frame, row) {
    const { col, header } = frame;
    const seconds = (/** @type {number} */ ticks) => duration(Math.max(0, ticks) / header.ticksPerSecond);
    if (row < -1) {
      const i = -2 - row;
      return [["call", header.strings[col.callWhat[i]]], ["references", String(col.callCount[i])],
        col.callEnd[i] === OPEN
          ? ["blocking for", seconds(this.now(frame) - col.callStart[i])]
          : ["blocked", seconds(col.callEnd[i] - col.callStart[i])]];
    }
    const name = header.strings[col.name[row]] || "(unnamed)";
    const end = col.end[row] === OPEN ? this.now(frame) : col.end[row];
    const [pid, label] = header.lanes[col.lane[row]] ?? [0, ""];
    const worker = `${label ? `${label} ` : ""}pid ${pid}`;
    if (col.state[row] === PACKED) {
      return [["tasks", `${col.submit[row]} × ${name}`], ["from first to last", seconds(end - col.start[row])],
        ["busy", `${Math.round((col.attempt[row] / 0xffff) * 100)} %`], ["worker", worker]];
    }
    /** @type {[string, string][]} */
    const story = [["task", name], ["state", LOOKS[col.state[row]].label]];
    if (col.start[row] !== OPEN) story.push([col.end[row] === OPEN ? "running for" : "ran for", seconds(end - col.start[row])]);
    if (col.submit[row] !== OPEN && col.start[row] !== OPEN) story.push(["waited", seconds(col.start[row] - col.submit[row])]);
    story.push(["worker", worker]);
    if (col.args[row]) story.push(["arguments", `${col.args[row]} reference${col.args[row] > 1 ? "s" : ""}`]);
    if (col.attempt[row]) story.push(["attempt", String(col.attempt[row] + 1)]);
    if (col.note[row]) story.push(["why", header.strings[col.note[row]]]);
    return story;
  }
}

/** Where the reader looks: a range of ticks, or null for the last run (fitAll: for everything). */
const look = () => ({ range: null, fitAll: false, critical: false });

export default liveWidget(Timeline, look, prepare);
