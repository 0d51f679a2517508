// Why an attempt failed, in short: above its steps, with the way to the lines that say so.

import { api } from "../lib/api.js";
import { count, el, words } from "../lib/elements.js";
import { named, NAMED } from "./outline.js";
import { clean } from "./terminal.js";

/** What the server finds out about a failure; null if it can't tell now. @param {number} build @param {number} attempt */
export const diagnosed = (build, attempt) => api("GET", `/builds/${build}/failure?attempt=${attempt}`).catch(() => null);

/**
 * The card. `draw(outline)` shows what is known of the log, `told(failure)` what the server has found out.
 * @param {(record: number) => void} go shows a record of the log
 */
export function failureOf(go) {
  const element = el("section", { class: "card failure", "aria-label": "Failure", hidden: true });
  let drawn = "";
  let failure = /** @type {any} */ (null);
  const line = (/** @type {{ record: number, text: string }} */ { record, text }) =>
    el("li", {}, el("button", { type: "button", onclick: () => go(record) }, el("span", { class: "number" }, count(record)), clean(text)));

  function draw(/** @type {import("./outline.js").Outline | null} */ outline) {
    const step = outline?.failed ?? failure?.step;
    element.hidden = !step && !failure?.error;
    if (element.hidden) return;
    const errors = named(outline?.told ?? [], failure?.error ?? null);
    const fresh = (failure?.new?.lines ?? []).filter(({ record }) => !errors.some((each) => each.record === record)).slice(0, NAMED);
    const key = JSON.stringify([step, errors, fresh, failure?.explanation]);
    if (key === drawn) return;
    drawn = key;
    const [against] = failure?.new?.against.split("-") ?? [];
    element.replaceChildren(...[
      el("h2", {}, step ? `${clean(step.name)} ${words(step.outcome)}${step.exit_code ? `, exit code ${step.exit_code}` : ""}` : "Failed"),
      failure?.explanation ? el("p", {}, `${clean(failure.explanation.cause)} ${clean(failure.explanation.cure)}`) : null,
      el("ul", {}, ...errors.map(line), step?.last ? el("li", {}, el("button", { type: "button", onclick: () => go(step.last) }, "Where it ended")) : null),
      fresh.length ? el("h3", {}, "New since ", el("a", { href: `#/builds/${against}` }, `#${against}`), ", the last success") : null,
      fresh.length ? el("ul", {}, ...fresh.map(line)) : null,
    ].filter((part) => part !== null));
  }

  return {
    element,
    draw,
    /** @param {any} found @param {import("./outline.js").Outline | null} outline */
    told(found, outline) {
      failure = found;
      draw(outline);
    },
  };
}
