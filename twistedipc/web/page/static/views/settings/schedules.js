// When a project is built without anybody's asking.

import { api, ofProject } from "../../lib/api.js";
import { useApi } from "../../lib/data.js";
import { html } from "../../lib/html.js";
import { clean } from "../../log/terminal.js";
import { Remove } from "../../parts/dialog.js";
import { Check, Field, Form } from "../../parts/form.js";
import { Table } from "../../parts/table.js";
import { Ago } from "../../parts/time.js";
import { Answer, Empty } from "../../parts/view.js";

/** @param {import("../settings.js").Section} properties */
export function Schedules({ project: { name: project }, editable }) {
  const path = ofProject(project, "schedules");
  const answer = useApi(path, { every: 30_000 });
  const set = async ({ name, cron, zone, ref, publish }) => {
    await api("PUT", ofProject(project, "schedules", name), { cron, zone, ...(ref ? { ref } : {}), ...(publish ? {} : { publish: false }) });
    await answer.reload();
  };
  const remove = ({ name }) => async () => {
    await api("DELETE", ofProject(project, "schedules", name));
    await answer.reload();
  };
  const rowOf = (each) => [
    html`<span class="strong">${clean(each.name)}</span>`, html`<code>${clean(each.cron)}</code> <span class="soft">${clean(each.zone)}</span>${each.publish ? "" : ", publishes nothing"}
      ${each.reason && html`<div class="why">${clean(each.reason)}</div>`}`,
    clean(each.ref), each.due ? new Date(each.due).toLocaleString() : html`<span class="warn">never</span>`,
    html`${each.ran && html`<${Ago} at=${each.ran} />`} ${each.build && html`<a href=${`#/builds/${each.build}`}>#${each.build}</a>`}`,
    editable && html`<${Remove} what=${clean(each.name)} action=${remove(each)} said=${`${project} isn't built at these times any more: ${clean(each.cron)}, ${clean(each.zone)}.`} />`,
  ];
  return html`
    <${Answer} answer=${answer} what="the schedules">${({ schedules }) => (schedules.length
      ? html`<${Table} name="Schedules" items=${schedules} of=${rowOf} heads=${["Schedule", { text: "Times", wide: true }, "Builds", "Next", "Last", ""]} />`
      : html`<${Empty} title="Nothing is built by schedule">A nightly build shows what has changed around the project: its dependencies, say.<//>`)}<//>
    ${editable && html`<details class="adding"><summary>Set a schedule</summary><${Form} verb="Set the schedule" send=${set}>
      <${Field} name="name" label="Name of the schedule" required placeholder="nightly" />
      <${Field} name="cron" label="Times, as cron has them" required placeholder="30 2 * * MON-FRI" help="Minute, hour, day of the month, month, day of the week." />
      <${Field} name="zone" label="Time zone" required value=${Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC"} />
      <${Field} name="ref" label="What is built" placeholder="the project's own branch" />
      <${Check} name="publish" label="Publish what is built, where it may" checked />
    <//></details>`}`;
}
