// The audit: what people and builders did, newest first.

import { api } from "../lib/api.js";
import { el, timeOf } from "../lib/elements.js";
import { clean } from "../log/terminal.js";

const FILTERS = [["project", "Project"], ["who", "Who"], ["action", "Action"]];

/** Who it was; what isn't a token says so, since a token may have any name. */
function whoOf({ who, kind, token, person }) {
  if (person) return `${person.name} (person ${person.id}, token ${token ?? "none"})`;
  if (kind === null || kind === "token") return token === null ? who : `${who} (token ${token})`;
  return who === kind ? who : `${kind} ${who}`.trim();
}

function rowOf(line) {
  const detail = Object.entries(line.detail).map(([name, value]) => `${name}: ${value}`).join(", ");
  return el("tr", {},
    el("td", { class: "tight" }, timeOf(line.time)),
    el("td", { class: "tight" }, clean(whoOf(line))),
    el("td", { class: "tight", title: line.request ? `request ${line.request}` : null }, line.address ?? ""),
    el("td", { class: "tight" }, line.action),
    el("td", { class: "tight" }, clean(line.subject)),
    el("td", { class: "wide", title: clean(detail) }, clean(detail)));
}

/** Make the view. `act(button, action)` runs an action; `trouble(error)` shows an error. */
export function auditView(act, trouble) {
  const body = el("tbody");
  const table = el("table", {}, el("thead", {}, el("tr", {},
    ...["When", "Who", "From", "Did", "To", "Detail"].map((name) => el("th", {}, name)))), body);
  const empty = el("p", { class: "empty", hidden: true }, "There is nothing.");
  const more = el("button", { class: "quiet more", type: "button", hidden: true }, "Older lines");
  const inputs = FILTERS.map(([name, label]) => el("input", { name, placeholder: label, "aria-label": label, autocomplete: "off", spellcheck: "false" }));
  const button = el("button", { class: "quiet" }, "Show");
  const form = el("form", { class: "row filters" }, ...inputs, button);
  let before = null;

  async function load(older) {
    const query = new URLSearchParams({ limit: "100" });
    for (const { name, value } of inputs) if (value.trim()) query.set(name, value.trim());
    if (older) query.set("before", before);
    const { lines, next } = await api("GET", `/audit?${query}`);
    const rows = lines.map(rowOf);
    if (older) body.append(...rows);
    else body.replaceChildren(...rows);
    before = next;
    more.hidden = next === null;
    empty.hidden = body.children.length > 0;
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    act(button, () => load(false));
  });
  more.addEventListener("click", () => act(more, () => load(true)));
  load(false).catch(trouble);
  return [el("div", { class: "row" }, el("h1", {}, "Audit")), form, table, empty, more];
}
