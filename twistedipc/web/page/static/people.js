// A person's own page (sessions and tokens), the members of a project, and the ways to sign in.

import { api } from "./api.js";
import { cell, el, ending, tableOf, timeOf } from "./elements.js";
import { clean } from "./terminal.js";

const ROLES = ["reader", "developer", "publisher", "maintainer"];

/** What is added to the form of the sign-in, in which a token can be typed: the provider's button, and why it failed. */
export async function providerOf(failure) {
  const { provider, failures } = await api("GET", "/sign-in");
  return {
    button: provider ? el("a", { class: "button", href: provider.url }, `Sign in with ${provider.name}`) : null,
    said: failure ? failures[failure] ?? "The sign-in has failed: begin again." : "",
  };
}

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

/** The members of a project; who may change them (`editable`) can. */
export function membersOf(project, editable, act) {
  const list = el("div");
  const box = el("details", { class: "members" }, el("summary", {}, "Members"), list);
  const path = `/projects/${encodeURIComponent(project)}/members`;

  function draw({ members }) {
    const rows = members.map(({ person, role, added, by_groups: byGroups, active }) => el("tr", {},
      cell(clean(person.name), active ? "" : " (disabled)"), cell(role), cell(byGroups ? "by groups" : ""),
      cell(editable && added ? ending(act, "Remove", async () => draw(await api("DELETE", `${path}/${person.id}`)), () => {}) : "")));
    list.replaceChildren(rows.length ? tableOf(["Name", "Role", "", ""], rows) : el("p", { class: "empty" }, "Nobody is a member: admins of the platform alone see the project."));
    if (!editable) return;
    const name = el("input", { name: "person", placeholder: "Name", "aria-label": "Name", required: "", autocomplete: "off" });
    const role = el("select", { name: "role", "aria-label": "Role" }, ...ROLES.map((each) => el("option", {}, each)));
    const button = el("button", { class: "quiet" }, "Add");
    const form = el("form", { class: "row" }, name, role, button);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      act(button, async () => draw(await api("POST", path, { person: name.value.trim(), role: role.value })));
    });
    list.append(form);
  }

  box.addEventListener("toggle", () => {
    if (box.open && !list.children.length) act(box.firstChild, async () => draw(await api("GET", path)));
  });
  return box;
}
