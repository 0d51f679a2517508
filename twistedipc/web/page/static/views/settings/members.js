// The members of a project, and their roles.

import { api, ofProject } from "../../lib/api.js";
import { useApi } from "../../lib/data.js";
import { html } from "../../lib/html.js";
import { clean } from "../../log/terminal.js";
import { Tag } from "../../parts/chip.js";
import { Remove } from "../../parts/dialog.js";
import { Field, Form } from "../../parts/form.js";
import { Table } from "../../parts/table.js";
import { Answer, Empty } from "../../parts/view.js";

const ROLES = /** @type {[string, string][]} */ ([
  ["reader", "reader: looks at everything"], ["developer", "developer: asks for builds"], ["publisher", "publisher: lets them go live"], ["maintainer", "maintainer: changes its settings"],
]);

/** @param {import("../settings.js").Section} properties */
export function Members({ project: { name: project }, editable }) {
  const path = ofProject(project, "members");
  const answer = useApi(path);
  const add = async ({ person, role }) => answer.put(await api("POST", path, { person, role }));
  const remove = ({ person }) => async () => answer.put(await api("DELETE", `${path}/${person.id}`));
  const rowOf = (each) => [
    html`<span class="strong">${clean(each.person.name)}</span>${!each.active && html` <${Tag}>disabled<//>`}`, each.role, each.by_groups ? `${each.by_groups}, by groups` : "",
    editable && each.added && html`<${Remove} what=${clean(each.person.name)} action=${remove(each)} said=${each.by_groups
      ? `${clean(each.person.name)} stays ${each.by_groups} of ${project}, by the groups of their sign-in.` : `${clean(each.person.name)} doesn't see ${project} any more, at once.`} />`,
  ];
  return html`
    <${Answer} answer=${answer} what="the members">${({ members }) => (members.length
      ? html`<${Table} name="Members" items=${members} keyOf=${({ person }) => person.id} of=${rowOf} heads=${[{ text: "Name", wide: true }, "Role", "From elsewhere", ""]} />`
      : html`<${Empty} title="Nobody is a member">Administrators of the platform alone see the project.<//>`)}<//>
    ${editable && html`<details class="adding"><summary>Give a role</summary><${Form} verb="Give the role" send=${add}>
      <${Field} name="person" label="Name" required help="Of somebody who has an account here." />
      <${Field} name="role" label="Role" options=${ROLES} />
    <//></details>`}`;
}
