// What do you think will happen? A form that locks when the reader commits, and then shows the truth.
//
// Plain form controls, so that keyboard and screen reader work by themselves: radio buttons, a number
// with a slider, a list with up and down buttons. State comes from ../predict_view.py as one dict.

// @ts-check

/** @typedef {{ question: string, kind: "choice" | "number" | "ordering", options: string[], unit: string, low: number,
 *   high: number, answer: any, revealed: boolean, actual: any, score: number | null, words: string,
 *   explanation: string }} State */

let serial = 0;

/** @template {keyof HTMLElementTagNameMap} T @param {T} tag @param {Record<string, any>} [properties] @param {(Node | string)[]} children */
function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/** @param {{ model: any, el: HTMLElement }} context */
function render({ model, el }) {
  const lifetime = new AbortController();
  const name = `minray-predict-${(serial += 1)}`;
  const root = make("form", { className: "minray-predict" });
  el.appendChild(root);
  /** @type {string[] | null} */ let order = null;

  const commit = (/** @type {any} */ answer) => {
    model.set("draft", answer);
    model.set("committed", true);
    model.save_changes();
    // Lock at once: the kernel may be busy and answer later.
    draw(answer);
  };

  /** @param {any} [pending] an answer that the kernel has not confirmed yet */
  const draw = (pending) => {
    /** @type {State} */ const state = model.get("state");
    const answer = state.answer ?? pending ?? (model.get("committed") ? model.get("draft") : null);
    const locked = answer !== null || state.revealed;
    root.replaceChildren();
    root.dataset.state = state.revealed ? "revealed" : locked ? "committed" : "open";
    root.append(make("p", { className: "mp-question" }, make("strong", {}, "Predict: "), state.question));
    const kinds = { choice, number, ordering };
    const read = kinds[state.kind](state, answer, locked);
    if (!locked) {
      const button = make("button", { type: "submit", className: "mp-commit" }, "Commit");
      root.append(button);
      root.onsubmit = (event) => {
        event.preventDefault();
        const value = read();
        if (value !== null && value !== undefined && !Number.isNaN(value)) commit(value);
      };
    } else {
      root.onsubmit = (event) => event.preventDefault();
    }
    const result = make("p", { className: "mp-result" });
    result.setAttribute("role", "status");
    if (state.revealed) {
      const sign = state.score === null ? "•" : state.score === 1 ? "✔" : "✘";
      result.dataset.score = String(state.score);
      result.append(make("strong", {}, `${sign} ${state.words}`), ` ${state.explanation}`);
    } else if (locked) result.append("Committed. Now run the next cell and watch.");
    root.append(result);
  };

  /** @param {State} state @param {any} answer @param {boolean} locked */
  function choice(state, answer, locked) {
    const group = make("fieldset", { disabled: locked }, make("legend", {}, state.question));
    state.options.forEach((option, i) => {
      const input = make("input", { type: "radio", name, value: option, id: `${name}-${i}`, checked: option === answer });
      const label = make("label", { htmlFor: input.id }, input, ` ${option}`);
      if (state.revealed && option === state.actual) label.classList.add("mp-actual");
      if (option === answer) label.classList.add("mp-predicted");
      if (locked) label.append(tags(option === answer, state.revealed && option === state.actual));
      group.append(label);
    });
    root.append(group);
    return () => /** @type {HTMLInputElement | null} */ (group.querySelector("input:checked"))?.value ?? null;
  }

  /** @param {State} state @param {any} answer @param {boolean} locked */
  function number(state, answer, locked) {
    const high = Math.max(state.high, state.actual ?? 0, answer ?? 0);
    const value = answer ?? (state.low + state.high) / 2;
    const step = (state.high - state.low) / 100;
    const slider = make("input", { type: "range", min: String(state.low), max: String(high), step: String(step), disabled: locked });
    slider.value = String(value);
    slider.setAttribute("aria-label", `${state.question} (slider)`);
    const field = make("input", { type: "number", step: "any", disabled: locked, value: locked && answer === null ? "" : String(+Number(value).toPrecision(4)) });
    field.setAttribute("aria-label", state.question);
    slider.addEventListener("input", () => { field.value = String(+Number(slider.value).toPrecision(4)); }, { signal: lifetime.signal });
    field.addEventListener("input", () => { slider.value = field.value; }, { signal: lifetime.signal });
    const track = make("div", { className: "mp-track" }, slider);
    if (state.revealed) {
      const share = ((state.actual - state.low) / (high - state.low)) * 100;
      const flag = make("span", { className: "mp-flag", title: "what happened" }, `▲ ${+Number(state.actual).toPrecision(3)} ${state.unit}`);
      flag.style.left = `${Math.min(100, Math.max(0, share))}%`;
      track.append(flag);
    }
    root.append(make("div", { className: "mp-number" }, track, field, ` ${state.unit}`));
    return () => (field.value === "" ? null : Number(field.value));
  }

  /** @param {State} state @param {any} answer @param {boolean} locked */
  function ordering(state, answer, locked) {
    order = answer ?? order ?? [...state.options];
    const list = make("ol", { className: "mp-order" });
    const fill = (/** @type {string} */ focus) => {
      list.replaceChildren(...(order ?? []).map((item, i) => {
        const row = make("li", {}, make("span", {}, item));
        if (!locked) {
          for (const [sign, to, word] of /** @type {[string, number, string][]} */ ([["↑", i - 1, "up"], ["↓", i + 1, "down"]])) {
            const button = make("button", { type: "button", disabled: to < 0 || to >= (order ?? []).length }, sign);
            button.setAttribute("aria-label", `Move ${item} ${word}`);
            button.dataset.id = `${item}-${word}`;
            button.addEventListener("click", () => {
              order?.splice(to, 0, ...order.splice(i, 1));
              fill(`${item}-${word}`);
            });
            row.append(button);
          }
        }
        if (state.revealed) {
          const at = state.actual.indexOf(item);
          row.append(make("em", { className: at === i ? "mp-right" : "mp-wrong" }, at === i ? "✔" : `was number ${at + 1}`));
        }
        return row;
      }));
      const again = /** @type {HTMLElement | null} */ (list.querySelector(`[data-id="${CSS.escape(focus)}"]`));
      again?.focus();
    };
    fill("");
    root.append(list);
    return () => order;
  }

  /** @param {boolean} predicted @param {boolean} happened */
  function tags(predicted, happened) {
    const words = [predicted ? "your prediction" : "", happened ? "what happened" : ""].filter(Boolean).join(" · ");
    return make("em", {}, words ? ` ${words}` : "");
  }

  const redraw = () => draw();
  model.on("change:state", redraw);
  // A notebook takes single keys as commands unless they stay in the form.
  root.addEventListener("keydown", (event) => event.stopPropagation(), { signal: lifetime.signal });
  draw();
  return () => {
    lifetime.abort();
    model.off("change:state", redraw);
    root.remove();
  };
}

export default { render };
