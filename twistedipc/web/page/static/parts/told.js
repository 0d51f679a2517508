// What others were told of a project's builds: the repository's host, webhooks, chats, mail.

import { api } from "../lib/api.js";
import { cell, el, stateOf, timeOf, words } from "../lib/elements.js";
import { clean } from "../log/terminal.js";

/** What was told of a project, newest first; who may (`editable`) has it told again. */
export function toldOf(project, editable, act) {
  const path = `/projects/${encodeURIComponent(project)}/tellings`;
  const list = el("div");
  const box = el("details", { class: "targets told" }, el("summary", {}, "Who was told"), list);

  function rowOf(each) {
    const what = each.part === "event" ? each.event : `${each.part} ${words(each.phase)}`;
    const when = each.ended || each.due;
    const button = el("button", { class: "quiet", type: "button" }, "Tell again");
    button.addEventListener("click", () => act(button, async () => {
      await api("POST", `${path}/${each.id}/again`);
      await load();
    }));
    return el("tr", {},
      cell(stateOf(each)), cell(clean(each.receiver)), cell(words(what)),
      cell(el("a", { href: `#/builds/${each.build}` }, `#${each.build}`)),
      el("td", { class: "wide" }, clean(each.reason)),
      cell(when ? timeOf(when) : ""),
      cell(editable && ["told", "given_up"].includes(each.state) ? button : ""));
  }

  async function load() {
    const { tellings } = await api("GET", `${path}?limit=50`);
    list.replaceChildren(tellings.length ? el("table", {}, el("tbody", {}, ...tellings.map(rowOf)))
      : el("p", { class: "empty" }, `Nothing yet. twistedipc project notify ${project} says to whom news go.`));
  }

  box.addEventListener("toggle", () => {
    if (box.open && !list.children.length) act(box.firstChild, load);
  });
  return box;
}
