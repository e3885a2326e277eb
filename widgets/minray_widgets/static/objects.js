// What lies in the node's shared memory, and who reads it? A block for each large object.
//
// A frame holds every object and a log of what happened to it; the state at any moment is worked out
// here by undoing the log from its end, so that the slider needs no kernel.
//
// Keys on the focused canvas: left and right go to the change before and after, End or l back to now,
// [ and ] step through the blocks.

/** The table of ../palette.py, in its order. @type {Look[]} */
const LOOKS = [
  { label: "in memory", colour: "#56B4E9", pattern: "solid" },
  { label: "being read", colour: "#E69F00", pattern: "dots" },
  { label: "on disk", colour: "#CC79A7", pattern: "hatch" },
  { label: "freed", colour: "#9A9A9A", pattern: "hollow" },
  { label: "lost", colour: "#6E6E6E", pattern: "cross" },
  { label: "many objects", colour: "#56B4E9", pattern: "bars" },
];
const MEMORY = 0, READ = 1, DISK = 2, FREED = 3, LOST = 4, PACKED = 5;
const BORROWED = 0, RETURNED = 1, WANTED = 2, UNWANTED = 3, SPILLED = 4, RESTORED = 5;
const GUTTER = 96, TOP = 8, CURVE = 44, AXIS = 16, ROWS = 6 /* LINES of the table */, ROW = 24, DISK_ROW = 26, FOOT = 4;
const FADE_MS = 900, TABLE_ROWS_MAX = 100, TABLE_GONE_MAX = 20, TABLE_EVERY_MS = 250;

/** @typedef {{ row: number, state: number, place: number, readers: Map<number, number>, wanted: number,
 *   restored: number }} Seen */

/** Bytes with a unit that suits them. @param {number} count */
function bytes(count) {
  if (count >= 1e9) return `${(count / 1e9).toFixed(1)} GB`;
  if (count >= 1e6) return `${(count / 1e6).toFixed(1)} MB`;
  return count >= 1e3 ? `${(count / 1e3).toFixed(1)} KB` : `${count} bytes`;
}

/** Every object that was there at a tick, or had been: the log is undone from its end.
 * @param {Frame} frame @param {number} tick @returns {Seen[]} */
export function stateAt(frame, tick) {
  const { col, header } = frame;
  /** @type {Map<number, { disk: boolean, wanted: number, place: number, restored: number, readers: Map<number, number> }>} */
  const known = new Map();
  const of = (/** @type {number} */ row) => {
    let found = known.get(row);
    if (!found) {
      found = { disk: !!col.disk[row], wanted: 0, place: col.place[row], restored: 0, readers: new Map() };
      known.set(row, found);
    }
    return found;
  };
  for (const [row, wanted, readers] of header.last) Object.assign(of(row), { wanted, readers: new Map(readers) });
  for (let at = col.logTick.length - 1; at >= 0; at--) {
    const object = of(col.logRow[at]), what = col.logWhat[at], who = col.logWho[at];
    if (what === RESTORED && col.logTick[at] <= tick) object.restored += 1;
    if (col.logTick[at] <= tick) continue;
    if (what === BORROWED || what === RETURNED) {
      object.readers.set(who, (object.readers.get(who) ?? 0) + (what === BORROWED ? -1 : 1));
    } else if (what === WANTED || what === UNWANTED) object.wanted += what === WANTED ? -1 : 1;
    else if (what === SPILLED) Object.assign(object, { disk: false, place: who });
  }
  /** @type {Seen[]} */ const seen = [];
  for (let row = 0; row < col.put.length; row++) {
    if (col.put[row] > tick) continue;
    const object = known.get(row);
    const readers = new Map([...(object?.readers ?? [])].filter(([, times]) => times > 0));
    let state = MEMORY;
    if (col.freed[row] <= tick) state = col.fate[row] === 1 ? FREED : LOST;
    else if (object?.disk ?? col.disk[row]) state = DISK;
    else if (col.count[row] > 1) state = PACKED;
    else if (readers.size) state = READ;
    const { place, wanted, restored } = object ?? { place: col.place[row], wanted: 0, restored: 0 };
    seen.push({ row, state, place, readers, wanted: Math.max(0, wanted), restored });
  }
  return seen;
}

/** Every moment at which something happened, in order. @param {Frame} frame @returns {number[]} */
function changes(frame) {
  const { col } = frame;
  const all = new Set([...col.put, ...col.logTick]);
  for (const tick of col.freed) if (tick !== OPEN) all.add(tick);
  return [...all].sort((a, b) => a - b);
}

class ObjectStore extends LivePicture {
  /** @param {Store} store @param {HTMLElement} el */
  constructor(store, el) {
    super(store, el, "minray-objects", `
      <div class="mt-bar">
        <strong class="mt-title">Objects</strong><span class="mt-legend"></span>
        <span class="mt-buttons"><output></output>
          <button type="button" data-do="live" title="Back to now (l)">Now</button></span>
      </div>
      <div class="mo-both">
        <div class="mo-left">
          <div class="mt-plot">
            <canvas tabindex="0" role="application" aria-roledescription="memory map"></canvas>
            <div class="mt-tip" role="tooltip" hidden></div>
            <div class="mt-empty">No large objects yet: they appear here as soon as one is stored.</div>
          </div>
          <div class="mo-time">
            <input type="range" min="0" max="1000" value="1000" step="1" aria-label="Moment that is shown">
          </div>
        </div>
        <div class="mo-table" tabindex="0" role="region" aria-label="Table of objects">
          <table>
            <thead><tr><th scope="col">object</th><th scope="col">size</th><th scope="col">where</th>
              <th scope="col">owner</th><th scope="col">read by</th></tr></thead>
            <tbody></tbody>
          </table>
        </div>
      </div>
      <div class="mt-foot"><span class="mt-note"></span><span class="mt-status"></span></div>
      <div class="mt-spoken" aria-live="polite"></div>`);
    const signal = this.lifetime.signal;
    this.slider = /** @type {HTMLInputElement} */ (this.root.querySelector("input"));
    this.output = /** @type {HTMLOutputElement} */ (this.root.querySelector("output"));
    this.body = /** @type {HTMLElement} */ (this.root.querySelector("tbody"));
    this.tableAt = 0;
    this.tableText = "";
    this.tableLater = 0;
    /** @type {Map<number, Seen>} */
    this.seen = new Map();
    this.slider.addEventListener("input", () => this.slide(), { signal });
    this.root.addEventListener("click", (event) => {
      if (/** @type {HTMLElement} */ (event.target).closest('[data-do="live"]')) this.go(null);
    }, { signal });
    this.canvas.addEventListener("keydown", (event) => this.key(event), { signal });
    this.canvas.addEventListener("pointerdown", (event) => this.scrub(event), { signal });
    for (const kind of ["pointerover", "focusin"]) {
      this.body.addEventListener(kind, (event) => this.point(rowOf(event)), { signal });
    }
    this.body.addEventListener("pointerleave", () => this.point(-1), { signal });
  }

  dispose() {
    clearTimeout(this.tableLater);
    super.dispose();
  }

  // --- the moment that is shown ---------------------------------------------------------------

  /** @param {Frame} frame */
  now(frame) {
    const ahead = frame.header.status === "live" ? Math.min(performance.now() - frame.at, FADE_MS) : 0;
    return frame.header.now + (ahead / 1000) * frame.header.ticksPerSecond;
  }

  /** From the first thing stored to the last thing that happened. @param {Frame} frame @returns {[number, number]} */
  extent(frame) {
    let first = OPEN;
    for (const tick of frame.col.put) first = Math.min(first, tick);
    for (const tick of frame.col.memoryTick) first = Math.min(first, tick);
    if (first === OPEN) return [0, 1];
    const room = Math.max(frame.header.newest - first, 100) * 0.02;
    return [first - room, Math.max(frame.header.newest, first + 100) + room];
  }

  /** @param {number | null} tick null: now, and whatever comes */
  go(tick) {
    this.store.moment = tick;
    this.schedule();
  }

  slide() {
    const frame = this.store.frame;
    if (!frame) return;
    const [from, to] = this.extent(frame), share = Number(this.slider.value) / 1000;
    this.go(share >= 1 ? null : from + share * (to - from));
  }

  /** A press on the curve goes to that moment. @param {PointerEvent} event */
  scrub(event) {
    const frame = this.store.frame;
    if (event.button !== 0 || !frame || event.offsetY > TOP + CURVE + AXIS || event.offsetX < GUTTER) return;
    const stop = new AbortController();
    const to = (/** @type {PointerEvent} */ move) => {
      const [a, b] = this.extent(frame);
      const share = (move.offsetX - GUTTER) / Math.max(1, this.canvas.clientWidth - GUTTER - 8);
      this.go(share >= 1 ? null : a + Math.max(0, share) * (b - a));
    };
    to(event);
    this.canvas.setPointerCapture(event.pointerId);
    this.canvas.addEventListener("pointermove", to, { signal: stop.signal });
    for (const end of ["pointerup", "pointercancel"]) {
      this.canvas.addEventListener(end, () => stop.abort(), { signal: stop.signal });
    }
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const actions = /** @type {Record<string, () => void>} */ ({
      ArrowLeft: () => this.toChange(-1), ArrowRight: () => this.toChange(1),
      Home: () => this.toChange(-Infinity), End: () => this.go(null), l: () => this.go(null),
      "]": () => this.step(1), "[": () => this.step(-1), Escape: () => this.select(-1),
    });
    const action = actions[event.key];
    if (!action) return;
    // The notebook must not take the key as a command.
    event.preventDefault();
    event.stopPropagation();
    action();
  }

  /** @param {number} direction */
  toChange(direction) {
    const frame = this.store.frame;
    if (!frame) return;
    const all = changes(frame), at = this.store.moment ?? Infinity;
    if (direction === -Infinity) return this.go(all[0] ?? null);
    const next = direction < 0 ? all.filter((tick) => tick < at).pop() : all.find((tick) => tick > at);
    if (next !== undefined) this.go(next);
    else if (direction > 0) this.go(null);
  }

  /** @param {number} direction */
  step(direction) {
    const rows = [...new Set(this.boxes.map((box) => box.row))];
    if (!rows.length) return;
    const at = rows.indexOf(this.selected);
    this.select(rows[at < 0 ? (direction > 0 ? 0 : rows.length - 1) : (at + direction + rows.length) % rows.length]);
  }

  // --- drawing ----------------------------------------------------------------------------------

  draw() {
    const frame = this.store.frame;
    const plot = /** @type {HTMLElement} */ (this.root.querySelector(".mt-plot"));
    const width = plot.clientWidth;
    if (!width) return;
    // Before the first drawing the element was not in the page and had no colours yet.
    if (!this.theme?.paper) this.readTheme();
    this.store.drawn += 1;
    this.boxes = [];
    const empty = /** @type {HTMLElement} */ (this.root.querySelector(".mt-empty"));
    empty.hidden = !!frame && (frame.col.put.length > 0 || frame.header.counts.puts > 0);
    const spills = !!frame && frame.col.disk.includes(1);
    this.begin(width, TOP + CURVE + AXIS + ROWS * ROW + (spills ? DISK_ROW : 0) + FOOT);
    if (!frame) return;
    const now = this.now(frame), moment = this.store.moment ?? now;
    const seen = stateAt(frame, moment);
    this.seen = new Map(seen.map((object) => [object.row, object]));
    this.drawCurve(frame, width, moment);
    const fading = this.drawMemory(frame, seen, width, moment);
    if (spills) this.drawDisk(frame, seen, width);
    this.drawHighlight();
    this.words(frame, seen, moment);
    this.fillTable(frame, seen);
    this.showTip(frame, width, GUTTER);
    if (fading && performance.now() - frame.at < FADE_MS) {
      clearTimeout(this.growth);
      this.growth = setTimeout(() => this.schedule(), 50);
    }
  }

  /** @param {Frame} frame @param {number} width @param {number} moment */
  drawCurve(frame, width, moment) {
    const g = this.context, theme = this.theme, { col, header } = frame;
    if (!theme) return;
    const [from, to] = this.extent(frame), base = TOP + CURVE, right = width - 8;
    const x = (/** @type {number} */ tick) => GUTTER + ((right - GUTTER) * (Math.min(Math.max(tick, from), to) - from)) / (to - from);
    let most = 1;
    for (const column of [col.memoryKib, col.diskKib]) for (const kib of column) most = Math.max(most, kib);
    g.font = `11px ${theme.font}`;
    g.textBaseline = "middle";
    g.strokeStyle = theme.line;
    g.lineWidth = 1;
    g.beginPath();
    g.moveTo(GUTTER, base + 0.5);
    g.lineTo(right, base + 0.5);
    g.stroke();
    g.setLineDash([3, 3]);
    for (const [tick] of header.marks) {
      if (tick < from || tick > to) continue;
      g.beginPath();
      g.moveTo(Math.round(x(tick)) + 0.5, TOP);
      g.lineTo(Math.round(x(tick)) + 0.5, base);
      g.stroke();
    }
    g.setLineDash([]);
    const curve = (/** @type {any} */ ticks, /** @type {any} */ kib, /** @type {Look} */ look, /** @type {boolean} */ filled) => {
      if (!ticks.length) return;
      const y = (/** @type {number} */ count) => base - ((CURVE - 6) * count) / most;
      g.beginPath();
      g.moveTo(x(ticks[0]), base);
      for (let i = 0; i < ticks.length; i++) {
        g.lineTo(x(ticks[i]), y(kib[i]));
        g.lineTo(i + 1 < ticks.length ? x(ticks[i + 1]) : right, y(kib[i]));
      }
      g.fillStyle = g.strokeStyle = look.colour;
      g.lineWidth = 1.5;
      g.stroke();
      g.lineTo(right, base);
      g.globalAlpha = 0.45;
      if (filled) g.fill();
      g.globalAlpha = 1;
    };
    curve(col.memoryTick, col.memoryKib, LOOKS[MEMORY], true);
    curve(col.diskTick, col.diskKib, LOOKS[DISK], false);
    g.fillStyle = theme.ink;
    g.textAlign = "right";
    g.fillText("in memory", GUTTER - 8, TOP + 10);
    g.fillStyle = theme.quiet;
    g.fillText(col.memoryKib.length ? `most ${bytes(most * header.kib)}` : "", GUTTER - 8, TOP + 24);
    // The times below the curve, and the line of the moment that is shown.
    const seconds = (to - from) / header.ticksPerSecond, step = niceStep(seconds / Math.max(2, (width - GUTTER) / 90));
    g.textAlign = "center";
    for (let t = 0; col.put.length && t <= seconds; t += step) {
      const at = x(from + t * header.ticksPerSecond);
      if (at < right - 14) g.fillText(seconds < 1 ? `${Math.round(t * 1000)} ms` : `${+t.toFixed(3)} s`, Math.max(at, GUTTER + 8), base + AXIS / 2 + 1);
    }
    if (this.store.moment !== null && col.put.length) {
      g.strokeStyle = theme.ink;
      g.lineWidth = 2;
      g.beginPath();
      g.moveTo(x(moment), TOP - 4);
      g.lineTo(x(moment), base + 3);
      g.stroke();
    }
  }

  /** @param {Frame} frame @param {Seen[]} seen @param {number} width @param {number} moment
   *  @returns {boolean} is something fading away? */
  drawMemory(frame, seen, width, moment) {
    const g = this.context, theme = this.theme, { col, header } = frame;
    if (!theme) return false;
    const top = TOP + CURVE + AXIS, right = width - 8, perRow = header.extent / ROWS;
    g.textAlign = "right";
    for (let line = 0; line < ROWS; line++) {
      g.fillStyle = theme.zebra;
      g.fillRect(GUTTER, top + line * ROW, right - GUTTER, ROW - 2);
      g.strokeStyle = theme.line;
      g.lineWidth = 0.5;
      g.strokeRect(GUTTER, top + line * ROW, right - GUTTER, ROW - 2);
      g.fillStyle = theme.quiet;
      if (line % 2 === 0) g.fillText(bytes(line * perRow * header.kib), GUTTER - 8, top + line * ROW + 8);
    }
    let fading = false;
    // What is gone lies under what lives; what went last, on top of what went before.
    const gone = seen.filter((object) => (object.state === FREED || object.state === LOST) && !col.disk[object.row])
      .sort((a, b) => col.freed[a.row] - col.freed[b.row]).slice(-300);
    for (const object of gone) {
      const ago = ((moment - col.freed[object.row]) / header.ticksPerSecond) * 1000;
      const still = header.status !== "live" && this.store.moment === null; // nothing moves any more
      const left = still ? 0 : Math.max(0, 1 - ago / FADE_MS);
      fading ||= left > 0;
      this.drawBlock(frame, object, top, right, perRow, left);
    }
    for (const object of seen) {
      if (object.state !== FREED && object.state !== LOST && object.state !== DISK) {
        this.drawBlock(frame, object, top, right, perRow, 1);
      }
    }
    return fading && this.store.moment === null;
  }

  /** One object, over as many lines as it needs. @param {Frame} frame @param {Seen} object @param {number} top
   *  @param {number} right @param {number} perRow @param {number} left how much of it is left while it fades */
  drawBlock(frame, object, top, right, perRow, left) {
    const g = this.context, theme = this.theme, { col, header } = frame, { row, state } = object;
    const look = LOOKS[state], gone = state === FREED || state === LOST;
    const end = object.place + col.size[row], across = right - GUTTER;
    let named = false;
    for (let line = Math.floor(object.place / perRow); line <= Math.min(ROWS - 1, Math.floor((end - 1e-6) / perRow)); line++) {
      const x = GUTTER + across * Math.max(0, object.place / perRow - line);
      const w = Math.max(1.2, GUTTER + across * Math.min(1, end / perRow - line) - x - 1);
      const box = { row, x, y: top + line * ROW + 1, w, h: ROW - 4 };
      if (left > 0) {
        g.globalAlpha = gone ? 0.7 * left : 1;
        g.fillStyle = gone && state === FREED ? LOOKS[MEMORY].colour : look.colour;
        g.fillRect(box.x, box.y, box.w, box.h);
        const pattern = w >= 4 ? this.pattern(look.pattern) : null;
        if (pattern) {
          g.fillStyle = pattern;
          g.fillRect(box.x, box.y, box.w, box.h);
        }
        g.globalAlpha = 1;
      }
      if (gone) {
        g.strokeStyle = look.colour;
        g.lineWidth = 1;
        g.globalAlpha = 0.55;
        g.setLineDash([2, 3]);
        g.strokeRect(box.x + 0.5, box.y + 0.5, Math.max(0.5, box.w - 1), box.h - 1);
        g.setLineDash([]);
        g.globalAlpha = 1;
        continue;
      }
      if (header.processes[col.owner[row]]?.[0] !== "driver" && w > 3) {
        g.fillStyle = "rgba(0,0,0,0.6)"; // a dark foot: a worker owns it
        g.fillRect(box.x, box.y + box.h - 3, box.w, 3);
      }
      this.boxes.push(box);
      if (named || w < 24) continue;
      g.font = `11px ${theme?.font}`;
      g.textAlign = "left";
      const name = this.nameOf(frame, row), long = `${name} · ${bytes(col.size[row] * header.kib)}`;
      const text = g.measureText(long).width < w - 8 ? long : shorten(g, name, w - 8);
      if (!text) continue;
      if (look.pattern !== "solid") {
        g.fillStyle = look.colour; // the pattern stops where the name stands
        g.fillRect(box.x + 2, box.y + 2, g.measureText(text).width + 4, box.h - 6);
      }
      g.fillStyle = "#101010";
      g.fillText(text, box.x + 4, box.y + box.h / 2);
      named = true;
    }
  }

  /** @param {Frame} frame @param {Seen[]} seen @param {number} width */
  drawDisk(frame, seen, width) {
    const g = this.context, theme = this.theme, { col, header } = frame;
    if (!theme) return;
    const top = TOP + CURVE + AXIS + ROWS * ROW + 4, across = width - 8 - GUTTER;
    const spilled = seen.filter((object) => object.state === DISK);
    const total = spilled.reduce((sum, object) => sum + col.size[object.row], 0);
    g.font = `11px ${theme.font}`;
    g.textAlign = "right";
    g.fillStyle = theme.ink;
    g.fillText("on disk", GUTTER - 8, top + 9);
    g.fillStyle = theme.zebra;
    g.fillRect(GUTTER, top, across, DISK_ROW - 8);
    const scale = across / Math.max(total, header.extent / ROWS);
    let x = GUTTER;
    for (const { row } of spilled) {
      const box = { row, x, y: top, w: Math.max(1.2, col.size[row] * scale - 1), h: DISK_ROW - 8 };
      x += col.size[row] * scale;
      this.boxes.push(box);
      g.fillStyle = LOOKS[DISK].colour;
      g.fillRect(box.x, box.y, box.w, box.h);
      const pattern = this.pattern("hatch");
      if (pattern) {
        g.fillStyle = pattern;
        g.fillRect(box.x, box.y, box.w, box.h);
      }
      const text = box.w > 30 ? shorten(g, this.nameOf(frame, row), box.w - 8) : "";
      if (!text) continue;
      g.textAlign = "left";
      g.fillStyle = LOOKS[DISK].colour;
      g.fillRect(box.x + 2, box.y + 2, g.measureText(text).width + 4, box.h - 4);
      g.fillStyle = "#101010";
      g.fillText(text, box.x + 4, box.y + box.h / 2);
    }
  }

  drawHighlight() {
    const row = this.selected >= 0 ? this.selected : this.hovered;
    const g = this.context;
    g.strokeStyle = this.theme?.ink ?? "#000";
    g.lineWidth = 2;
    for (const box of this.boxes) if (box.row === row) g.strokeRect(box.x, box.y, box.w, box.h);
  }

  // --- words ------------------------------------------------------------------------------------

  /** @param {Frame} frame @param {number} row */
  nameOf(frame, row) {
    const { col, header } = frame, name = header.strings[col.name[row]] || "object";
    return col.count[row] > 1 ? `${col.count[row]} × ${name}` : `${name} #${col.number[row]}`;
  }

  /** @param {Frame} frame @param {Seen} object */
  readersOf(frame, object) {
    const names = [...object.readers.keys()].map((process) => frame.header.processes[process]?.[0] ?? "?");
    return names.length > 3 ? `${names.length} processes` : names.join(", ");
  }

  /** @param {Frame} frame @param {Seen[]} seen @param {number} moment */
  words(frame, seen, moment) {
    const { header, col } = frame, counts = [0, 0, 0, 0, 0, 0];
    let stored = 0, spilled = 0;
    for (const { row, state } of seen) {
      counts[state] += col.count[row];
      if (state === MEMORY || state === READ || state === PACKED) stored += col.size[row];
      if (state === DISK) spilled += col.size[row];
    }
    const live = this.store.moment === null;
    if (live) [counts[FREED], counts[LOST]] = [header.counts.freed, header.counts.lost];
    const here = counts[MEMORY] + counts[READ] + counts[PACKED];
    const chips = [{ look: LOOKS[MEMORY], text: `${here} in memory, ${bytes(stored * header.kib)}` },
      { look: LOOKS[READ], text: `${counts[READ]} being read` }];
    const restored = seen.reduce((sum, object) => sum + object.restored, 0);
    if (frame.col.disk.includes(1)) {
      const again = restored ? `, read from there ${restored}×` : "";
      chips.push({ look: LOOKS[DISK], text: `${counts[DISK]} on disk, ${bytes(spilled * header.kib)}${again}` });
    }
    chips.push({ look: LOOKS[FREED], text: `${counts[FREED]} freed` });
    if (counts[LOST]) chips.push({ look: LOOKS[LOST], text: `${counts[LOST]} lost` });
    this.legend(chips);
    let note = "";
    if (document.activeElement === this.canvas) note = "← → changes · l now · [ ] step through blocks";
    else if (header.capacity) {
      note = `${bytes((header.capacity - stored) * header.kib)} of ${bytes(header.capacity * header.kib)} are free.`;
      if (header.counts.small) note += ` ${header.counts.small} small results needed no block.`;
    }
    this.foot(header, note);
    const [from, to] = this.extent(frame);
    const share = live ? 1 : (moment - from) / (to - from);
    if (document.activeElement !== this.slider || live) this.slider.value = String(Math.round(share * 1000));
    const told = live ? "now" : `at ${duration(Math.max(0, moment - from) / header.ticksPerSecond)}`;
    this.output.textContent = live ? "" : told;
    /** @type {HTMLButtonElement} */ (this.root.querySelector('[data-do="live"]')).disabled = live;
    this.slider.setAttribute("aria-valuetext", told);
    Object.assign(this.root.dataset, {
      frames: String(this.store.drawn), seq: String(header.seq), mode: header.mode, memory: String(here),
      read: String(counts[READ]), disk: String(counts[DISK]), freed: String(counts[FREED]), puts: String(header.counts.puts),
      lost: String(counts[LOST]), blocks: String(new Set(this.boxes.map((box) => box.row)).size), moment: live ? "now" : "past",
    });
    const summary = chips.map(({ text }) => text).join("; ");
    this.canvas.setAttribute("aria-label",
      `Shared memory, ${told}: ${summary}. Left and right go through the changes, brackets step through blocks; the table holds the same.`);
    this.say(summary);
  }

  /** @param {Frame} frame @param {Seen[]} seen */
  fillTable(frame, seen) {
    const wait = TABLE_EVERY_MS - (performance.now() - this.tableAt);
    if (wait > 0) {
      this.tableLater ||= setTimeout(() => {
        this.tableLater = 0;
        this.schedule();
      }, wait);
      return;
    }
    const { col, header } = frame;
    const here = seen.filter((object) => object.state !== FREED && object.state !== LOST);
    const gone = seen.filter((object) => object.state === FREED || object.state === LOST)
      .sort((a, b) => col.freed[b.row] - col.freed[a.row]);
    const shown = [...here.slice(0, TABLE_ROWS_MAX), ...gone.slice(0, TABLE_GONE_MAX)];
    const more = here.length + gone.length - shown.length;
    const cells = shown.map((object) => [
      String(object.row), this.nameOf(frame, object.row), bytes(col.size[object.row] * header.kib), LOOKS[object.state].label,
      header.processes[col.owner[object.row]]?.[0] ?? "?",
      [this.readersOf(frame, object), object.restored ? `${object.restored}× from disk` : "", object.wanted ? `${object.wanted} task${object.wanted > 1 ? "s" : ""} to come` : ""]
        .filter(Boolean).join("; ") || "–",
    ]);
    const text = JSON.stringify([cells, more]);
    this.tableAt = performance.now();
    if (text === this.tableText) return;
    this.tableText = text;
    this.body.replaceChildren(...cells.map(([row, name, ...rest], at) => {
      const line = document.createElement("tr");
      line.dataset.row = row;
      line.tabIndex = 0;
      if (at >= Math.min(here.length, TABLE_ROWS_MAX)) line.className = "mo-gone";
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = name;
      line.append(head, ...rest.map((value) => {
        const cell = document.createElement("td");
        cell.textContent = value;
        return cell;
      }));
      return line;
    }));
    if (more > 0) {
      const line = this.body.appendChild(document.createElement("tr")), cell = line.appendChild(document.createElement("td"));
      cell.colSpan = 5;
      cell.textContent = `and ${more} more`;
    }
  }

  /** @param {Frame} frame @param {number} row @returns {[string, string][]} */
  story(frame, row) {
    const { col, header } = frame, object = this.seen.get(row);
    if (!object) return [];
    const [from] = this.extent(frame);
    const at = (/** @type {number} */ tick) => duration(Math.max(0, tick - from) / header.ticksPerSecond);
    /** @type {[string, string][]} */
    const story = [["object", this.nameOf(frame, row)], ["size", bytes(col.size[row] * header.kib)],
      ["where", LOOKS[object.state].label], ["owner", header.processes[col.owner[row]]?.[0] ?? "?"]];
    if (col.writer[row] !== col.owner[row]) story.push(["written by", header.processes[col.writer[row]]?.[0] ?? "?"]);
    if (object.readers.size) story.push(["read by", this.readersOf(frame, object)]);
    if (object.restored) story.push(["from disk", `read ${object.restored}×`]);
    if (object.wanted) story.push(["wanted by", `${object.wanted} task${object.wanted > 1 ? "s" : ""}`]);
    story.push(["stored", `at ${at(col.put[row])}`]);
    if (col.freed[row] !== OPEN && (object.state === FREED || object.state === LOST)) {
      story.push([col.fate[row] === 1 ? "freed" : "lost", `at ${at(col.freed[row])}${FATES[col.fate[row]] ?? ""}`]);
    }
    return story;
  }
}

/** @type {Record<number, string>} */
const FATES = { 2: ": its owner died", 3: ": the runtime was shut down" };

/** The row of the table that an event is in. @param {Event} event */
function rowOf(event) {
  const line = /** @type {HTMLElement} */ (event.target).closest("tr");
  return line?.dataset.row === undefined ? -1 : Number(line.dataset.row);
}

/** Where the reader looks: at now, or at a past tick. */
const look = () => ({ moment: null });

export default liveWidget(ObjectStore, look, () => {});
