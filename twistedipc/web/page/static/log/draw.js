// A row of the log as an element. All texts are strangers': they become text nodes.

import { counted, el, words } from "../lib/elements.js";
import { duration } from "../lib/times.js";
import { remarkNode } from "./said.js";
import { clean, nodesOf, nodesOfRuns } from "./terminal.js";

/** @typedef {import("./rows.js").Row} Row */

/** Times of rows: none, the time of day, or seconds since the log's beginning. @type {readonly ["off", "clock", "since"]} */
export const TIMES = ["off", "clock", "since"];

/** A row's time, as it stands before it. @param {number} time @param {string} form @param {number} begun */
export function timeText(time, form, begun) {
  if (form === "clock") return new Date(time).toLocaleTimeString("en-GB") + `.${String(time % 1000).padStart(3, "0")}`;
  const seconds = Math.max(0, time - begun) / 1000;
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds - minutes * 60).toFixed(1).padStart(4, "0")}`;
}

/**
 * The element of a row. `style` goes on from line to line; a step begins plain.
 * @param {Row} row
 * @param {any} style
 * @param {{ stepOf: (index: number) => any, isFolded: (row: Row) => boolean | null }} about
 *   `isFolded(row)`: whether what is below this heading is folded away; null: it can't be
 * @returns {HTMLElement}
 */
export function drawn(row, style, about) {
  const line = (/** @type {Node[]} */ nodes) =>
    el("pre", { class: `record text${row.redrawn ? " redrawn" : ""}${row.level ? " remarked" : ""}`, "data-level": row.level }, ...nodes);
  if (row.runs) return line(nodesOfRuns(row.runs));
  for (const text of row.before) nodesOf(text, style);
  if (row.kind === "line") return line(nodesOf(row.text, style));
  if (row.kind === "gap") {
    const lost = row.event.to - row.event.from + 1;
    return el("div", { class: "record gap" }, `… ${counted(lost, "line is", "lines are")} missing here: ${clean(row.event.reason)}`);
  }
  const event = row.event;
  try {
    return known(row, event, style, about);
  } catch (error) {
    console.warn("an event that isn't known", event, error); // of a newer version, with other fields
    return el("div", { class: "record notice" }, "…");
  }
}

/** Have a style go on over a row that gets no element. @param {Row} row @param {any} style */
export function passed(row, style) {
  if (row.runs) return;
  for (const text of row.text ? [...row.before, row.text] : row.before) if (text.includes("\x1b")) style.take(text);
  if (row.event?.type === "step_started" || row.event?.type === "step_ended") style.reset();
}

function known(row, event, style, about) {
  if (event.type === "step_started") {
    style.reset();
    const step = about.stepOf(event.index);
    const folded = about.isFolded(row);
    const over = folded && step?.ended ? ` ${step.outcome === "succeeded" ? "✓" : "✗"} ${duration(step.ended - step.started)}` : "";
    return el("div", { class: `record step-line ${folded ? step?.outcome ?? "" : ""}`, "data-step": event.index }, toggle(folded, event.name),
      `${clean(event.name)} `, event.command && event.command !== event.name ? el("code", {}, clean(event.command)) : null, over);
  }
  if (event.type === "step_ended") {
    style.reset();
    const name = about.stepOf(event.index)?.name ?? `step ${event.index + 1}`;
    const code = event.exit_code ? `, exit code ${event.exit_code}` : "";
    const took = duration(event.milliseconds);
    const text = event.outcome === "succeeded" ? `✓ ${took}` : `✗ ${clean(name)} ${words(event.outcome)} after ${took}${code}`;
    return el("div", { class: `record step-line ended ${event.outcome}` }, text);
  }
  if (event.type === "notice") return el("div", { class: `record notice ${event.level}` }, clean(event.message));
  if (event.type === "annotation") return el("pre", { class: "record text" }, remarkNode(event, row.number));
  const folded = about.isFolded(row);
  return el("div", { class: "record group", "data-group": row.number }, toggle(folded, event.name), clean(event.name));
}

/** The button that folds what is below a heading. */
function toggle(folded, name) {
  if (folded === null) return el("span", { class: "fold", "aria-hidden": "true" }, "▾");
  return el("button", { class: "fold", type: "button", "aria-expanded": String(!folded), "aria-label": `${folded ? "Unfold" : "Fold"} ${clean(name)}` }, folded ? "▸" : "▾");
}
