// What do all live views share? How frames come in, how credits go back, when to draw, and the colours.
//
// Python sends whole pictures (frames, see ../frame.py) as custom messages with one binary buffer.
// Only the newest is drawn, once per animation frame, and credits go back for the frames that came
// in; Python sends no more than it has credits for. No build step, no network, no library: a view's
// module is this text followed by its own.

// @ts-check

/** @typedef {{ label: string, colour: string, pattern: string }} Look */
/** @typedef {{ header: any, col: Record<string, Uint32Array | Uint16Array>, at: number, [more: string]: any }} Frame */
// What outlives one view of a model: the newest frame, and where the reader was looking.
/** @typedef {{ frame: Frame | null, drawn: number, listeners: Set<() => void>, [more: string]: any }} Store */

const OPEN = 0xffffffff; // in a column of times: it has not happened yet
const PAY_EVERY_MS = 200;

/** Read one frame. @param {DataView} view @returns {Frame} */
export function decodeFrame(view) {
  // A copy: columns must start at a multiple of four bytes, the message's buffer need not.
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength).slice();
  if (String.fromCharCode(...bytes.subarray(0, 4)) !== "MRT1") throw new Error("not a frame");
  const length = new DataView(bytes.buffer).getUint32(4, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  /** @type {Record<string, Uint32Array | Uint16Array>} */
  const col = {};
  let at = 8 + length;
  for (const [name, type, count] of header.columns) {
    col[name] = type === "u32" ? new Uint32Array(bytes.buffer, at, count) : new Uint16Array(bytes.buffer, at, count);
    at += col[name].byteLength + ((4 - (col[name].byteLength % 4)) % 4);
  }
  return { header, col, at: performance.now() };
}

/** @param {number} seconds */
function duration(seconds) {
  if (seconds < 0.001) return `${(seconds * 1e6).toFixed(0)} µs`;
  return seconds < 1 ? `${(seconds * 1e3).toFixed(1)} ms` : `${seconds.toFixed(2)} s`;
}

/** The smallest 1, 2 or 5 times a power of ten that is not below raw. @param {number} raw */
function niceStep(raw) {
  const power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999) ?? raw;
}

/**
 * A widget of one kind of view.
 * @param {new (store: Store, el: HTMLElement) => LivePicture} View
 * @param {() => object} look where the reader looks at first: joins the store
 * @param {(frame: Frame) => void} prepare what is read off a frame once, when it comes in
 */
function liveWidget(View, look, prepare) {
  /** @type {Map<string, Store>} */
  const stores = new Map();

  /** Views get proxies of one model; its synced `key` is what they share. @param {any} model @returns {Store} */
  function storeOf(model) {
    const key = model.get("key");
    let store = stores.get(key);
    if (!store) {
      store = { frame: null, drawn: 0, listeners: new Set(), ...look() };
      stores.set(key, store);
    }
    return store;
  }

  /** Runs once per model, before any view: receives frames. @param {{ model: any }} context */
  function initialize({ model }) {
    const store = storeOf(model);
    let owed = 0, scheduled = false, paying = 0;
    const pay = () => {
      paying = 0;
      model.send({ kind: "credit", count: owed, seq: store.frame?.header.seq ?? 0 });
      owed = 0;
    };
    const onMessage = (/** @type {any} */ content, /** @type {DataView[]} */ buffers) => {
      if (content.kind !== "frame" || !buffers.length) return;
      const frame = decodeFrame(buffers[0]);
      prepare(frame);
      store.frame = frame;
      owed += 1;
      if (!scheduled) {
        scheduled = true;
        // A hidden tab gets no animation frames: the timer returns the credits then.
        const timer = setTimeout(flush, 500);
        const raf = requestAnimationFrame(flush);
        function flush() {
          clearTimeout(timer);
          cancelAnimationFrame(raf);
          scheduled = false;
          for (const listener of store.listeners) listener();
          // Several frames' credits in one message: each one makes the kernel's indicator blink.
          paying ||= setTimeout(pay, PAY_EVERY_MS);
        }
      }
    };
    model.on("msg:custom", onMessage);
    model.send({ kind: "hello" });
    return () => {
      model.off("msg:custom", onMessage);
      clearTimeout(paying);
      stores.delete(model.get("key"));
    };
  }

  /** @param {{ model: any, el: HTMLElement }} context */
  function render({ model, el }) {
    const store = storeOf(model);
    const view = new View(store, el);
    if (store.listeners.size === 1) model.send({ kind: "shown" });
    return () => {
      view.dispose();
      // Nobody looks any more: the kernel need not sample for this view.
      if (store.listeners.size === 0) model.send({ kind: "hidden" });
    };
  }

  return { initialize, render };
}

/** A canvas with what is around it: theme, tooltip, redrawing. Views say what is drawn. */
class LivePicture {
  /** @param {Store} store @param {HTMLElement} el @param {string} name @param {string} html */
  constructor(store, el, name, html) {
    this.store = store;
    this.lifetime = new AbortController();
    const signal = this.lifetime.signal;
    this.root = document.createElement("div");
    this.root.className = `minray-view ${name}`;
    this.root.innerHTML = html;
    el.appendChild(this.root);
    this.canvas = /** @type {HTMLCanvasElement} */ (this.root.querySelector("canvas"));
    this.context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    this.tip = /** @type {HTMLElement} */ (this.root.querySelector(".mt-tip"));
    this.selected = -1;
    this.hovered = -1;
    this.pending = 0;
    this.growth = 0;
    this.spokenAt = 0;
    /** @type {Map<string, CanvasPattern | null>} */
    this.patterns = new Map();
    /** @type {{ row: number, x: number, y: number, w: number, h: number }[]} */
    this.boxes = [];
    this.redraw = () => this.schedule();
    store.listeners.add(this.redraw);
    this.canvas.addEventListener("pointermove", (event) => this.hover(event), { signal });
    this.canvas.addEventListener("pointerleave", () => this.point(-1), { signal });
    this.canvas.addEventListener("blur", () => this.select(-1), { signal });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.retheme(), { signal });
    this.sizes = new ResizeObserver(() => this.schedule());
    this.sizes.observe(this.root);
    this.themes = new MutationObserver(() => this.retheme());
    this.themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "class", "style"] });
    this.retheme();
  }

  dispose() {
    this.lifetime.abort();
    this.sizes.disconnect();
    this.themes.disconnect();
    this.store.listeners.delete(this.redraw);
    cancelAnimationFrame(this.pending);
    clearTimeout(this.growth);
    this.root.remove();
  }

  schedule() {
    if (!this.pending) {
      this.pending = requestAnimationFrame(() => {
        this.pending = 0;
        this.draw();
      });
    }
  }

  retheme() {
    this.readTheme();
    this.schedule();
  }

  readTheme() {
    // JupyterLab names its theme on <body>; elsewhere the reader's preference decides.
    const named = document.body.dataset.jpThemeLight;
    const dark = named ? named === "false" : matchMedia("(prefers-color-scheme: dark)").matches;
    this.root.dataset.dark = String(dark);
    const style = getComputedStyle(this.root);
    const read = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
    this.theme = {
      ink: read("--mt-ink"), quiet: read("--mt-quiet"), line: read("--mt-line"), paper: read("--mt-paper"),
      zebra: read("--mt-zebra"), font: style.fontFamily || "sans-serif", dark,
    };
    this.patterns.clear();
  }

  draw() {}

  /** What is known of a row, for the tooltip and for a screen reader. @param {Frame} frame @param {number} row
   *  @returns {[string, string][]} */
  story(frame, row) {
    return [];
  }

  /** @param {PointerEvent} event */
  hover(event) {
    let best = -1;
    for (const box of this.boxes) {
      if (event.offsetX >= box.x - 1 && event.offsetX <= box.x + box.w + 1 && event.offsetY >= box.y && event.offsetY <= box.y + box.h) {
        best = box.row;
      }
    }
    this.point(best);
  }

  /** @param {number} row */
  point(row) {
    if (row === this.hovered) return;
    this.hovered = row;
    this.schedule();
  }

  /** @param {number} row */
  select(row) {
    this.selected = row;
    const frame = this.store.frame;
    if (row >= 0 && frame) this.say(this.story(frame, row).map(([key, value]) => `${key} ${value}`).join(", "), true);
    this.schedule();
  }

  /** @param {string} text @param {boolean} [now] */
  say(text, now) {
    const spoken = /** @type {HTMLElement} */ (this.root.querySelector(".mt-spoken"));
    if (!now && performance.now() - this.spokenAt < 2000) return;
    if (spoken.textContent !== text) {
      spoken.textContent = text;
      this.spokenAt = performance.now();
    }
  }

  /** Size the canvas and clear it. @param {number} width @param {number} height */
  begin(width, height) {
    const ratio = Math.min(window.devicePixelRatio || 1, 4);
    this.canvas.style.height = `${height}px`;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
      this.patterns.clear();
    }
    const g = this.context;
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.fillStyle = this.theme?.paper ?? "#fff";
    g.fillRect(0, 0, width, height);
  }

  /** @param {string} name */
  pattern(name) {
    if (name === "solid" || name === "hollow") return null;
    const known = this.patterns.get(name);
    if (known !== undefined) return known;
    const tile = patternTile(name);
    const pattern = this.context.createPattern(tile, "repeat");
    // The tile is drawn at twice its size, so that it stays sharp on dense screens.
    pattern?.setTransform(new DOMMatrix().scale(0.5));
    this.patterns.set(name, pattern);
    return pattern;
  }

  /** @param {Look} look */
  swatch(look) {
    const canvas = document.createElement("canvas");
    canvas.className = "mt-swatch";
    canvas.width = 28;
    canvas.height = 20;
    const g = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    g.strokeStyle = g.fillStyle = look.colour;
    g.lineWidth = 4;
    if (look.pattern === "hollow") g.strokeRect(2, 2, 24, 16);
    else g.fillRect(0, 0, 28, 20);
    if (look.pattern !== "hollow" && look.pattern !== "solid") {
      g.fillStyle = /** @type {CanvasPattern} */ (g.createPattern(patternTile(look.pattern), "repeat"));
      g.fillRect(0, 0, 28, 20);
    }
    return canvas;
  }

  /** Legend chips. @param {{ look: Look, text: string }[]} chips */
  legend(chips) {
    const legend = /** @type {HTMLElement} */ (this.root.querySelector(".mt-legend"));
    const text = chips.map((chip) => chip.text).join();
    if (legend.dataset.text === text) return;
    legend.dataset.text = text;
    legend.replaceChildren(...chips.map(({ look, text }) => {
      const chip = document.createElement("span");
      chip.className = "mt-chip";
      chip.title = look.label;
      chip.append(this.swatch(look), text);
      return chip;
    }));
  }

  /** The line below the picture. @param {any} header @param {string} note */
  foot(header, note) {
    if (header.lost) note += ` ${header.lost} events came too fast and are missing.`;
    /** @type {HTMLElement} */ (this.root.querySelector(".mt-note")).textContent = note;
    const status = /** @type {HTMLElement} */ (this.root.querySelector(".mt-status"));
    status.textContent = header.status === "live" ? `● ${header.mode}` : `○ ${header.status}`;
    status.title = STATUS_TITLES[header.mode] ?? "";
  }

  /** @param {Frame} frame @param {number} width @param {number} left where the picture begins */
  showTip(frame, width, left) {
    const row = this.selected >= 0 ? this.selected : this.hovered;
    const box = row === -1 ? undefined : this.boxes.find((b) => b.row === row);
    this.tip.hidden = !box;
    if (!box) return;
    // Spans, not <dl>: JupyterLab styles that one for documents.
    this.tip.replaceChildren(...this.story(frame, row).flatMap(([key, value]) => {
      const term = document.createElement("span"), detail = document.createElement("span");
      term.className = "mt-key";
      term.textContent = key;
      detail.textContent = value;
      return [term, detail];
    }));
    // The notebook clips what leaves the output: below the bar if it fits there, else beside it.
    const { offsetWidth: w, offsetHeight: h } = this.tip;
    const foot = this.canvas.clientHeight + 20 - h;
    const end = Math.min(box.x + box.w, width);
    let at = Math.max(box.x, left) + 8, top = box.y + box.h + 6;
    if (top > foot) {
      top = Math.max(-28, foot);
      at = end + 8 + w < width ? end + 8 : Math.max(box.x, left) - w - 8;
      if (at < 4) at = width - w - 8;
    }
    this.tip.style.left = `${Math.max(4, Math.min(at, width - w - 6))}px`;
    this.tip.style.top = `${top}px`;
  }
}

/** @type {Record<string, string>} */
const STATUS_TITLES = {
  "subshell": "Two-way while a cell runs: the kernel hears this view on a subshell.",
  "receive-only": "This view hears the kernel while a cell runs; the kernel hears it when the cell ends.",
  "connecting": "Waiting for the first answer.",
};

/** A 16 x 16 tile, for use at half size. @param {string} name */
function patternTile(name) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 16;
  const g = /** @type {CanvasRenderingContext2D} */ (tile.getContext("2d"));
  g.strokeStyle = g.fillStyle = "rgba(0,0,0,0.5)";
  g.lineWidth = 2.5;
  g.beginPath();
  if (name === "cross") { g.moveTo(0, 0); g.lineTo(16, 16); g.moveTo(16, 0); g.lineTo(0, 16); }
  if (name === "hatch") { g.moveTo(-2, 18); g.lineTo(18, -2); g.moveTo(-10, 10); g.lineTo(10, -10); g.moveTo(6, 26); g.lineTo(26, 6); }
  if (name === "bars") { g.moveTo(4, 0); g.lineTo(4, 16); g.moveTo(12, 0); g.lineTo(12, 16); }
  g.stroke();
  if (name === "dots") { g.arc(6, 6, 3, 0, 7); g.fill(); }
  return tile;
}

/** @param {CanvasRenderingContext2D} g @param {string} text @param {number} width */
function shorten(g, text, width) {
  if (g.measureText(text).width <= width) return text;
  let keep = Math.floor((text.length * width) / Math.max(1, g.measureText(text).width)) - 1;
  return keep >= 2 ? `${text.slice(0, keep)}…` : "";
}

