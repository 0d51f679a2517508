// What the host of a project's repository tells, and what came of it.

import { api } from "../lib/api.js";
import { el, headOf, timeOf } from "../lib/elements.js";
import { clean } from "../log/terminal.js";

/** The last messages of a project's host. Those that wait for a member's leave can be allowed, all can be done again. */
export function messagesOf(name, mayBuild, act) {
  const at = `/projects/${encodeURIComponent(name)}/hook`;
  const body = el("tbody");
  const said = el("p", { class: "soft" });
  const table = el("table", {}, el("thead", {}, el("tr", {}, ...["Message", "Tells", "Received", "Came of it", ""].map(headOf))), body);
  const section = el("details", { class: "targets", hidden: true }, el("summary", {}, "Pushes and pull requests"), said, table);

  function decision(each, how, label) {
    const button = el("button", { class: "quiet", type: "button" }, label);
    button.addEventListener("click", () => act(button, async () => {
      await api("POST", `${at}/messages/${each.id}/${how}`);
      await load();
    }));
    return button;
  }

  function row(each) {
    const about = clean(each.about);
    const came = each.build ? el("a", { href: `#/builds/${each.build}` }, `#${each.build}`) : each.outcome;
    const waits = each.outcome === "waits";
    const again = !["ping", "other"].includes(each.what) && !waits;
    return el("tr", {},
      el("td", { class: "tight" }, String(each.id)),
      el("td", { class: "wide" }, /^https?:/.test(each.url) ? el("a", { href: each.url, rel: "noreferrer", target: "_blank" }, about) : about,
        ` ${clean(each.title)}`, each.commit ? el("code", {}, ` ${each.commit.slice(0, 8)}`) : null),
      el("td", { class: "tight" }, timeOf(each.received), ` from ${each.host}`),
      el("td", { class: "wide" }, came, each.reason ? ` ${clean(each.reason)}` : "", each.decided_by ? ` (by ${clean(each.decided_by)})` : ""),
      el("td", { class: "tight" }, mayBuild && waits ? decision(each, "allow", "Build this commit") : null,
        mayBuild && again ? decision(each, "repeat", "Do it again") : null));
  }

  function polled({ on, every, looked, reason }) {
    if (!on) return [];
    const often = every === 1 ? "every minute" : `every ${every} minutes`;
    return [`The repository is looked at ${often}`, ...(looked ? [", last ", timeOf(looked)] : []), reason ? `: ${clean(reason)}. ` : ". "];
  }

  async function load() {
    const [hook, { messages }, poll] = await Promise.all([
      api("GET", at), api("GET", `${at}/messages`), api("GET", `/projects/${encodeURIComponent(name)}/poll`),
    ]);
    body.replaceChildren(...messages.map(row));
    section.hidden = !hook.secret && !messages.length && !poll.on;
    section.open = messages.some((each) => each.outcome === "waits");
    said.replaceChildren(...polled(poll), messages.length ? "" : poll.on ? "Nothing has moved yet." : "No message has come yet.");
    table.hidden = !messages.length;
  }
  return { section, load };
}
