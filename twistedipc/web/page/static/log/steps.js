// The steps of an attempt beside its log: what came of each, how long it took, and when, as a waterfall.

import { el, words } from "../lib/elements.js";
import { duration } from "../lib/times.js";
import { clean } from "./terminal.js";

/** @typedef {import("./outline.js").Step} Step */

const MARKS = { running: "●", succeeded: "✓" };

/**
 * The list of steps. `draw(steps)` shows them as they are now, `tick()` has the running ones' clocks go on.
 * @param {(index: number) => void} go shows a step in the log
 */
export function stepsOf(go) {
  const element = el("ol", { class: "steps", "aria-label": "Steps" });
  /** @type {{ step: Step, took: HTMLElement, bar: HTMLElement }[]} */
  let shown = [];

  function place() {
    if (!shown.length) return;
    const now = Date.now();
    const begin = Math.min(...shown.map(({ step }) => step.started));
    const end = Math.max(...shown.map(({ step }) => step.ended ?? now));
    const share = (/** @type {number} */ time) => Math.min(100, Math.max(0, ((time - begin) / Math.max(1, end - begin)) * 100));
    for (const { step, took, bar } of shown) {
      took.textContent = duration((step.ended ?? Math.max(now, step.started)) - step.started);
      bar.style.marginLeft = `${share(step.started)}%`;
      bar.style.width = `${Math.max(1, share(step.ended ?? now) - share(step.started))}%`;
    }
  }

  return {
    element,
    /** @param {Iterable<Step>} steps */
    draw(steps) {
      const focused = [...element.children].findIndex((each) => each.contains(document.activeElement));
      shown = [...steps].sort((one, other) => one.index - other.index).map((step) => ({
        step,
        took: el("span", { class: "took" }),
        bar: el("span", { class: "bar" }),
      }));
      element.replaceChildren(...shown.map(({ step, took, bar }) => el("li", { class: step.outcome },
        el("button", { type: "button", title: words(step.outcome), onclick: () => go(step.index) },
          el("span", { class: "mark", "aria-hidden": "true" }, MARKS[step.outcome] ?? "✗"), el("span", { class: "step-name" }, clean(step.name)), took,
          el("span", { class: "course", "aria-hidden": "true" }, bar)))));
      /** @type {HTMLElement | null} */ (element.children[focused]?.querySelector("button"))?.focus();
      place();
    },
    tick() {
      if (shown.some(({ step }) => step.outcome === "running")) place();
    },
  };
}
