// Why an attempt failed, in short: above its steps, with the way to the first errors.

import { count, el, words } from "../lib/elements.js";
import { clean } from "./terminal.js";

const SHOWN = 3; // errors that are named

/** The card: `draw(attempt, outline)` shows what is known now. @param {(record: number) => void} go shows a record of the log */
export function failureOf(go) {
  const element = el("section", { class: "card failure", "aria-label": "Failure", hidden: true });
  let drawn = "";
  return {
    element,
    /** @param {any} attempt @param {import("./outline.js").Outline | null} outline */
    draw(attempt, outline) {
      const step = outline?.failed;
      element.hidden = !step;
      if (!step) return;
      const told = outline.told.filter(({ what }) => what !== "step").slice(0, SHOWN);
      const key = JSON.stringify([step, told, outline.errors.length]);
      if (key === drawn) return;
      drawn = key;
      const more = outline.errors.length - told.length - 1;
      element.replaceChildren(
        el("h2", {}, `${clean(step.name)} ${words(step.outcome)}${step.exit_code ? `, exit code ${step.exit_code}` : ""}`),
        el("ul", {}, ...told.map(({ record, message }) => el("li", {}, el("button", { type: "button", onclick: () => go(record) }, clean(message)))),
          step.last ? el("li", {}, el("button", { type: "button", onclick: () => go(step.last) }, "Where it ended")) : null),
        more > 0 ? el("p", { class: "soft" }, `${count(more)} more ${more === 1 ? "error" : "errors"}: press e in the log`) : "");
    },
  };
}
