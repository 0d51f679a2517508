// The members of a project, and their roles.

import { api } from "../lib/api.js";
import { cell, el, ending, tableOf } from "../lib/elements.js";
import { clean } from "../log/terminal.js";

const ROLES = ["reader", "developer", "publisher", "maintainer"];

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
