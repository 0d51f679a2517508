// What is around a log's window: the bar above it with search and tools, and the foot below it.

import { el } from "../lib/elements.js";

/**
 * The elements of the frame. `on` has what its controls do.
 * @param {{ path: (query: string) => string, progress: HTMLElement, window: HTMLElement, marks: HTMLElement,
 *   typed: () => void, chosen: () => void, filter: () => void, hit: (way: 1 | -1) => void, error: () => void, times: (form: string) => void,
 *   wrap: () => void, fold: () => void, full: () => void, verify: () => void, end: () => void, copy: (numbers: boolean) => void, link: () => void }} on
 */
export function frameOf(on) {
  const button = (/** @type {string} */ label, /** @type {string} */ title, /** @type {() => void} */ onclick, more = {}) =>
    // A name without the words that are seen would be another for somebody who speaks to the browser; a sign is no name.
    el("button", { class: "quiet", type: "button", title, "aria-label": /^\w{3}/.test(label) && !title.toLowerCase().includes(label.toLowerCase()) ? null : title, onclick, ...more }, label);
  const option = (/** @type {string} */ label, /** @type {string} */ title) => {
    const made = button(label, title, () => {
      press(made, !pressed(made));
      on.chosen();
    }, { "aria-pressed": "false" });
    return made;
  };
  const file = (/** @type {string} */ label, /** @type {string} */ query) => el("a", { href: on.path(`${query}&download=1`), download: "" }, label);

  const input = el("input", { type: "search", placeholder: "Search", "aria-label": "Search in this log", spellcheck: "false", autocomplete: "off", maxlength: "1000" });
  input.addEventListener("input", on.typed);
  const exact = option("Aa", "Capital and small letters differ");
  const regex = option(".*", "A regular expression (RE2)");
  const previous = button("↑", "The hit before (N)", () => on.hit(-1), { hidden: true });
  const next = button("↓", "The next hit (n)", () => on.hit(1), { hidden: true });
  const filter = button("Only hits", "Show only lines that match, and some around each", on.filter, { "aria-pressed": "false", hidden: true });
  const found = el("span", { class: "found", role: "status" });
  const find = el("form", { class: "find", role: "search" }, input, exact, regex, previous, next, filter, found);
  find.addEventListener("submit", (event) => {
    event.preventDefault();
    on.hit(1);
  });

  const error = button("Next error", "Go to the next error (e)", on.error, { hidden: true });
  const times = el("select", { "aria-label": "Times of lines" }, el("option", { value: "off" }, "No times"), el("option", { value: "clock" }, "Clock"), el("option", { value: "since" }, "Since start"));
  times.addEventListener("change", () => on.times(times.value));
  const wrap = button("Wrap", "Break long lines (w)", on.wrap, { "aria-pressed": "false" });
  const fold = button("Fold", "Fold all steps and groups", on.fold, { "aria-pressed": "false", hidden: true });
  const full = button("Full screen", "The log alone, on the whole page (f)", on.full, { "aria-pressed": "false" });
  const files = el("details", { class: "menu" }, el("summary", {}, "Download"), el("div", {}, file("As it came, with colours", "format=ansi"), file("As text", "format=text"),
    file("As text with numbers", "format=text&numbers=true"), file("As JSON", "format=json")));

  const status = el("span", { role: "status" }, "waiting for the first line");
  const counted = el("span", { class: "counted" });
  const verify = button("Verify here", "Read all of the log, and check its SHA-256 in this browser", on.verify, { hidden: true });
  const end = button("To the end", "Go to the end, and stay there (G)", on.end, { hidden: true });
  const picked = el("b");
  const first = el("a", { class: "first", hidden: true, title: "Search all builds of the project for this line, the oldest first" }, "First build with it");
  const picks = el("span", { class: "picks", hidden: true }, picked, button("Copy", "Copy these lines", () => on.copy(false)),
    button("with numbers", "Copy these lines with their numbers", () => on.copy(true)), button("Link", "Copy the address of these lines", on.link), first);
  const trouble = el("p", { class: "log-trouble", role: "alert", hidden: true });

  const element = el("div", { class: "log-frame" }, el("div", { class: "log-bar" }, find, el("div", { class: "tools" }, error, times, wrap, fold, files, full)),
    on.progress, trouble, el("div", { class: "log-place" }, on.window, on.marks), el("div", { class: "log-foot" }, status, counted, verify, picks, end));
  return { element, input, exact, regex, previous, next, filter, found, error, times, wrap, fold, full, status, counted, verify, end, picks, picked, first, trouble };
}

/** Whether a button that stays pressed is. @param {HTMLElement} button */
export const pressed = (button) => button.getAttribute("aria-pressed") === "true";

/** @param {HTMLElement} button @param {boolean} on */
export const press = (button, on) => button.setAttribute("aria-pressed", String(on));
