// A search in the logs of all builds of a project: in which of them a line is, the newest first or the oldest.

import { count, counted, el } from "../lib/elements.js";
import { may, title, trouble } from "../lib/shell.js";
import { addressOf } from "../log/address.js";
import { problemOf } from "../log/finder.js";
import { clean } from "../log/terminal.js";
import { messagesOf } from "../log/verify.js";

const EACH = 3; // hits that are shown of one log
const HITS = 200; // and of all

/** @param {string} project @param {string} text @param {string[]} options of "oldest", "regex", "case" */
export function searchView(project, text, options) {
  const at = `#/projects/${encodeURIComponent(project)}`;
  const box = (/** @type {string} */ name, /** @type {string} */ label) => {
    const made = el("input", { type: "checkbox", name });
    made.checked = options.includes(name);
    return { made, label: el("label", { class: "check" }, made, ` ${label}`) };
  };
  const input = el("input", { type: "search", "aria-label": "Search in all builds", placeholder: "Search in all builds", spellcheck: "false", autocomplete: "off", maxlength: "1000" });
  input.value = text;
  const boxes = [box("oldest", "the oldest build first"), box("regex", "a regular expression (RE2)"), box("case", "capital and small letters differ")];
  const form = el("form", { class: "row search", role: "search" }, input, ...boxes.map(({ label }) => label), el("button", {}, "Search"));
  const status = el("p", { class: "soft", role: "status" });
  const list = el("ol", { class: "logs-found" });
  const more = el("button", { class: "quiet more", type: "button", hidden: true }, "More builds");
  const element = el("div", { class: "view" }, el("div", { class: "row" }, el("h1", {}, "Search in logs"), el("a", { href: at }, project)), form, status, list, more);
  const stopping = new AbortController();
  let matches = 0, logs = 0;

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const wanted = boxes.filter(({ made }) => made.checked).map(({ made }) => made.name).join(",");
    location.hash = `${at}/search/${encodeURIComponent(input.value)}${wanted ? `/${wanted}` : ""}`;
  });

  function put(/** @type {any} */ hit) {
    const name = `${hit.build}-${hit.attempt}`;
    let entry = list.querySelector(`[data-log="${name}"]`);
    if (!entry) {
      entry = el("li", { "data-log": name }, el("h2", {}, el("a", { href: addressOf(hit.build, hit.attempt) }, `Build ${hit.build}${hit.attempt > 1 ? `, attempt ${hit.attempt}` : ""}`),
        el("span", { class: "soft" })), el("ul", {}));
      list.append(entry);
    }
    const line = hit.parts.map((/** @type {string} */ part, /** @type {number} */ index) => (index % 2 ? el("mark", {}, clean(part)) : clean(part)));
    entry.lastChild.append(el("li", {}, el("a", { href: addressOf(hit.build, hit.attempt, [hit.record, hit.record]) },
      el("span", { class: "number" }, count(hit.record)), el("code", {}, ...line))));
  }

  async function search(/** @type {string} */ from) {
    const oldest = options.includes("oldest");
    const query = new URLSearchParams({ q: text, kind: options.includes("regex") ? "regex" : "text", case: options.includes("case") ? "1" : "0",
      order: oldest ? "oldest" : "newest", each: String(EACH), limit: String(HITS), format: "ndjson" });
    if (from) query.set(oldest ? "after" : "before", from);
    more.hidden = true;
    status.textContent = "searching";
    const response = await fetch(`/api/v1/projects/${encodeURIComponent(project)}/logs/search?${query}`, { credentials: "same-origin", signal: stopping.signal });
    if (!response.ok) throw new Error(await problemOf(response));
    let whole = false;
    for await (const message of messagesOf(response)) {
      if (message.type === "hit") put(message);
      else if (message.type === "log" && message.matches) {
        const said = list.querySelector(`[data-log="${message.build}-${message.attempt}"] h2 .soft`);
        if (said) said.textContent = ` ${counted(message.matches, "line")}`;
        logs += 1;
      } else if (message.type === "end") {
        whole = true;
        matches += message.matches;
        status.textContent = matches ? `${counted(matches, "line")} in ${counted(logs, "build")}${message.next ? " so far" : ""}` : message.next ? "nothing found so far" : "nothing found";
        if (!message.complete) status.textContent += "; not all could be searched";
        more.hidden = message.next === null;
        more.onclick = () => run(message.next);
      }
    }
    if (!whole) throw new Error("the search broke off; search again");
  }

  function run(/** @type {string} */ from) {
    search(from).then(() => trouble(null), (error) => {
      if (stopping.signal.aborted) return;
      status.textContent = "";
      trouble(error);
    });
  }

  title(`Search in ${project}`);
  if (text && may("read", project)) run("");
  return { element, stop: () => stopping.abort() };
}
