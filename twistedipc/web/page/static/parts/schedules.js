// When a project is built without anybody's asking.

import { api } from "../lib/api.js";
import { cell, el, ending, folded, input, rowForm, tableOf, timeOf } from "../lib/elements.js";
import { clean } from "../log/terminal.js";

/** The schedules of a project; who may change them (`editable`) can. */
export function schedulesOf(project, editable, act) {
  const at = `/projects/${encodeURIComponent(project)}/schedules`;
  const list = el("div");
  const whenOf = (time) => new Date(time).toLocaleString();

  const rowOf = (each) => el("tr", {},
    cell(clean(each.name)), el("td", { class: "wide" }, el("code", {}, clean(each.cron)), ` ${clean(each.zone)}`, each.publish ? "" : ", publishes nothing",
      each.reason ? el("div", { class: "why" }, clean(each.reason)) : null),
    cell(clean(each.ref)), cell(each.due ? whenOf(each.due) : "never"),
    cell(each.ran ? timeOf(each.ran) : "", each.build ? " " : "", each.build ? el("a", { href: `#/builds/${each.build}` }, `#${each.build}`) : null),
    cell(editable ? ending(act, "Remove", () => api("DELETE", `${at}/${encodeURIComponent(each.name)}`), load, { "aria-label": `Remove ${clean(each.name)}` }) : null));

  async function load() {
    const { schedules } = await api("GET", at);
    list.replaceChildren(schedules.length ? tableOf(["Schedule", "Times", "Builds", "Next", "Last", ""], schedules.map(rowOf))
      : el("p", { class: "empty" }, "Nothing is built by schedule."));
    if (editable) list.append(form());
  }

  function form() {
    const name = input("Name of a schedule", { required: "", placeholder: "nightly" }), cron = input("Times, as cron has them", { required: "", placeholder: "30 2 * * MON-FRI" });
    const zone = input("Time zone", { required: "", value: Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC" }), ref = input("What is built", { placeholder: "the project's own ref" });
    return rowForm(act, [name, cron, zone, ref], "Set schedule", async () => {
      const body = { cron: cron.value.trim(), zone: zone.value.trim(), ...(ref.value.trim() ? { ref: ref.value.trim() } : {}) };
      await api("PUT", `${at}/${encodeURIComponent(name.value.trim())}`, body);
      await load();
    });
  }

  return folded(act, "schedules", "Schedules", load, list);
}
