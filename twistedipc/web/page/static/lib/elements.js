// Makes elements, and texts for numbers.

import { ago } from "./times.js";

/**
 * Make an element with properties, listeners ("onclick") and children; strings become text.
 * @param {string} name
 * @param {Record<string, any>} [properties]
 * @param {...(Node | string | null | undefined)} children
 * @returns {any}
 */
export function el(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "class") element.className = value;
    else if (key === "hidden" || key === "disabled") element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== null));
  return element;
}

export const words = (state) => state.replaceAll("_", " ");

export function size(bytes) {
  const unit = Math.min(3, Math.floor(Math.log2(Math.max(1, bytes)) / 10));
  return `${(bytes / 1024 ** unit).toFixed(unit ? 1 : 0)} ${["B", "KiB", "MiB", "GiB"][unit]}`;
}

export const timeOf = (time) => el("time", { datetime: time, title: new Date(time).toLocaleString() }, ago(time));
/** The head of a column; one without a name has buttons. */
export const headOf = (name) => el("th", { scope: "col" }, name || el("span", { class: "unseen" }, "Actions"));
export const tableOf = (heads, rows) => el("table", {},
  el("thead", {}, el("tr", {}, ...heads.map(headOf))), el("tbody", {}, ...rows));
export const cell = (...value) => el("td", { class: "tight" }, ...value);

/** A progress in percent. It is 100% only when it is complete. */
export const percent = (value) => `${Math.floor(Math.round(value * 10_000) / 100)}%`;
export const count = (number) => number.toLocaleString("en");
/** A number of things: "1 file", "2 files". @param {number} number @param {string} thing @param {string} [things] several of them */
export const counted = (number, thing, things = `${thing}s`) => `${count(number)} ${number === 1 ? thing : things}`;

/** The hosts that an attempt contacted, and those that it was refused, in a sentence's form. */
export function hostsOf({ contacts = [], more = 0, lost = false }) {
  const shown = new Map();
  for (const { host, port = 0, why = "" } of contacts) {
    const name = `${host.includes(":") ? `[${host}]` : host}${port ? `:${port}` : ""}`;
    if (!shown.has(name)) shown.set(name, why ? `${name} (refused: ${why})` : name);
  }
  return [...shown.values(), ...(more ? [`and ${more} more`] : []), ...(lost ? ["not all of it is known"] : [])].join(", ");
}
