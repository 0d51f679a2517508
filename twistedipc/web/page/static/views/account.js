// A person's own page: the browsers that are signed in, and the person's tokens.

import { api } from "../lib/api.js";
import { cell, el, ending, tableOf, timeOf } from "../lib/elements.js";
import { clean } from "../log/terminal.js";

/** The view of who is signed in: their browsers (an admin sees all), and a person's own tokens. */
export function accountView(identity, act, trouble) {
  const sessions = el("div");
  const tokens = el("div");

  async function loadSessions() {
    const { sessions: found } = await api("GET", "/sessions");
    sessions.replaceChildren(tableOf(["Who", "Signed in", "Last used", "Ends", "From", "Browser", ""], found.map((each) => el("tr", {},
      cell(clean(each.person?.name ?? each.name)), cell(timeOf(each.created)), cell(each.last_used ? timeOf(each.last_used) : ""),
      cell(each.expires ? new Date(each.expires).toLocaleString() : ""), cell(clean(each.address ?? "")),
      el("td", { class: "wide" }, clean(each.agent ?? "")),
      cell(each.current ? "this one" : ending(act, "End", () => api("DELETE", `/sessions/${each.id}`), loadSessions))))));
  }

  async function loadTokens() {
    const { tokens: found } = await api("GET", "/identity/tokens");
    const good = found.filter((each) => !each.revoked);
    tokens.replaceChildren(el("h2", {}, "Tokens"), good.length
      ? tableOf(["Name", "Scopes", "Projects", "Expires", ""], good.map((each) => el("tr", {},
        cell(clean(each.name)), cell(each.scopes.join(" ")), cell(each.projects ? each.projects.join(" ") : "all"),
        cell(each.expires ? new Date(each.expires).toLocaleDateString() : "never"),
        cell(ending(act, "Revoke", () => api("DELETE", `/identity/tokens/${each.id}`), loadTokens)))))
      : el("p", { class: "empty" }, "You have none. `twistedipc token create NAME --scope build --own` makes one."));
  }

  loadSessions().catch(trouble);
  if (identity.person) loadTokens().catch(trouble);
  const roles = Object.entries(identity.roles ?? {}).map(([project, role]) => `${role} of ${project}`);
  return [el("h1", {}, clean(identity.name)),
    identity.roles ? el("p", { class: "soft" }, roles.length ? roles.join(", ") : "You have no role in a project yet: its maintainers give them.") : null,
    el("h2", {}, "Browsers that are signed in"), sessions, tokens].filter(Boolean);
}
