// To whom a project's news go: the repository's host, webhooks, chats, mail. Addresses of chats and secrets are sent and
// never shown.

import { api } from "../lib/api.js";
import { cell, el, ending, folded, input, rowForm, tableOf } from "../lib/elements.js";
import { clean } from "../log/terminal.js";

/** kind -> what its address is, and what its secret is; "": it has none */
const KINDS = {
  github: ["API's address, if it isn't github.com", "Token"],
  gitlab: ["API's address, if it doesn't follow from the repository's", "Token"],
  gitea: ["API's address, if it doesn't follow from the repository's", "Token"],
  webhook: ["Address", "Secret that signs, or none to have one made"],
  slack: ["Address of the incoming webhook", ""],
  teams: ["Address of the workflow", ""],
  mail: ["Addresses, with commas between", ""],
};
const HOSTS = ["github", "gitlab", "gitea"];

/** The receivers of a project, for who may change them. */
export function receiversOf(project, act) {
  const at = `/projects/${encodeURIComponent(project)}/receivers`;
  const list = el("div"), said = el("p", { class: "soft", role: "status" });

  const rowOf = (each) => el("tr", {},
    cell(clean(each.name)), cell(each.kind),
    el("td", { class: "wide" }, each.void ? "void: set it again, the project has another repository now" : clean(each.where) || "its API"),
    cell(HOSTS.includes(each.kind) ? "all that concerns it" : each.events.join(" ")),
    cell(ending(act, "Remove", () => api("DELETE", `${at}/${encodeURIComponent(each.name)}`), load, { "aria-label": `Remove ${clean(each.name)}` })));

  async function load() {
    const { receivers } = await api("GET", at);
    list.replaceChildren(receivers.length ? tableOf(["Receiver", "Kind", "Where", "Told", ""], receivers.map(rowOf))
      : el("p", { class: "empty" }, "News go to nobody."), form());
  }

  function form() {
    const name = input("Name of a receiver", { required: "", placeholder: "team-chat" });
    const kind = el("select", { "aria-label": "Kind of the receiver" }, ...Object.keys(KINDS).map((each) => el("option", {}, each)));
    const where = input("Address"), secret = input("Secret", { type: "password", autocomplete: "off" });
    const events = input("Events", { placeholder: "all events, or some: failed live" });
    const fit = () => {
      const [address, token] = KINDS[kind.value], isHost = HOSTS.includes(kind.value);
      where.placeholder = address;
      where.required = !isHost;
      // A chat's address is a secret: everybody who has it can write there.
      where.type = ["slack", "teams"].includes(kind.value) ? "password" : "text";
      secret.placeholder = token;
      secret.hidden = !token;
      secret.required = isHost;
      events.hidden = isHost;
    };
    kind.addEventListener("change", fit);
    fit();
    return rowForm(act, [name, kind, where, secret, events], "Set receiver", async () => {
      const wanted = events.hidden ? [] : events.value.split(/[\s,]+/).filter(Boolean);
      const made = await api("PUT", `${at}/${encodeURIComponent(name.value.trim())}`, {
        kind: kind.value,
        ...(where.value.trim() ? { where: where.value.trim() } : {}),
        ...(secret.value && !secret.hidden ? { secret: secret.value } : {}),
        ...(wanted.length ? { events: wanted } : {}),
      });
      said.replaceChildren(...(made.secret ? [`${clean(made.name)} is told. Its events are signed with this secret, which isn't shown again: `, el("code", {}, made.secret)]
        : [`${clean(made.name)} is told.`]));
      await load();
    });
  }

  return folded(act, "receivers", "Who is told", load, list, said);
}
