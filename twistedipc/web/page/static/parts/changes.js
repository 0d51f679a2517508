// What a build would change, for who approves it: files, and what is in its packages, the most dangerous first. All of
// it is strangers' text, so all of it becomes text nodes.

import { cell, count, counted, el, size, tableOf } from "../lib/elements.js";
import { clean } from "../log/terminal.js";

const WORDS = { danger: "Danger", warning: "Look", info: "Note" };

/** Everything about a build that is to be approved: elements, in their order. */
export function changesOf(found) {
  const said = [...buildOf(found), ...(found.packages ?? []).map(packageOf)];
  if (found.release !== false) {
    said.push(el("p", {}, `${counted(found.added_count, "file is", "files are")} new, ${count(found.changed_count)} changed, ${count(found.removed_count)} gone`,
      found.live === null ? "; nothing is live" : `, against release ${found.live}`));
    said.push(filesOf(found));
  }
  return said;
}

/** Whether the log is all of it, and which hosts the build contacted. */
function buildOf({ log, hosts = [], hosts_said = "" }) {
  if (!log) return [];
  const contacted = hosts.map((each) => {
    const name = `${each.host.includes(":") ? `[${each.host}]` : each.host}${each.port ? `:${each.port}` : ""}`;
    const why = each.refused ? ` refused: ${each.refused}` : each.new ? " new: the build before didn't contact it" : "";
    return el("li", { class: each.new && !each.refused ? "warning" : "info" }, el("code", {}, clean(name)), clean(why));
  });
  return [
    el("p", { class: log.complete ? "proof" : "proof danger" },
      log.complete ? `The log is complete, verified: ${counted(log.records, "record")}, SHA-256 ` : "The log isn't verified: it may not be all that the build printed. ",
      log.sha256 ? el("code", {}, log.sha256.slice(0, 16), "…") : null),
    el("details", { open: hosts.some((each) => each.new) ? "" : null },
      el("summary", {}, `Hosts that the build contacted: ${count(hosts.length)}`, hosts_said ? ` (${clean(hosts_said)})` : ""),
      el("ul", { class: "remarks" }, ...contacted)),
  ];
}

/** A package that would be published, against the version that is. */
function packageOf(each) {
  const remarks = each.remarks ?? each.notes.map((text) => ({ level: "info", text }));
  const shown = remarks.filter(({ level }) => level !== "info"), rest = remarks.filter(({ level }) => level === "info");
  const against = each.published ? `, against ${each.published}`
    : each.unknown ? `; what is published isn't known: ${each.unknown}` : "; nothing is published yet";
  return el("section", { class: "package" },
    el("p", {}, el("b", {}, `${clean(each.name)}@${clean(each.version)}`), ` to ${each.target} as ${clean(each.tag)}, ${size(each.size_packed)}: `,
      `${counted(each.added_count, "file is", "files are")} new, ${count(each.changed_count)} changed, ${count(each.removed_count)} gone`, clean(against)),
    shown.length ? el("ul", { class: "remarks" }, ...shown.map(remarkOf)) : null,
    rest.length ? el("details", {}, el("summary", {}, `What else is said otherwise: ${count(rest.length)}`),
      el("ul", { class: "remarks" }, ...rest.map(remarkOf))) : null,
    each.publint_why ? el("p", { class: "soft" }, `publint hasn't looked at it: ${clean(each.publint_why)}`) : null,
    each.more_remarks ? el("p", { class: "soft" }, `and ${counted(each.more_remarks, "more remark")}`) : null,
    filesOf(each));
}

function remarkOf({ level, text }) {
  return el("li", { class: level }, el("b", {}, WORDS[level] ?? level), " ", clean(text));
}

/** By how much something has grown, as text; "" if it hasn't, or if that isn't known. */
const grown = (before, after) => before === null || after === null || before === after ? ""
  : `${after > before ? "+" : "−"}${size(Math.abs(after - before))}`;

/** What a release has other than the live one: totals by kind, and the files that weigh most. */
export function differenceOf({ before, added, changed, removed, files, totals }) {
  const sum = (which, name) => totals.some((each) => each[which][name] === null) ? null : totals.reduce((all, each) => all + each[which][name], 0);
  const rows = [...totals, ...(totals.length > 1 ? [{ kind: "total",
    before: { size: sum("before", "size"), gzip: sum("before", "gzip") },
    after: { files: sum("after", "files"), size: sum("after", "size"), gzip: sum("after", "gzip") } }] : [])];
  const all = added + changed + removed;
  return [
    el("p", {}, `${counted(added, "file is", "files are")} new, ${count(changed)} changed, ${count(removed)} gone`,
      before ? `, against release ${before.id} of build #${before.build}` : "; nothing is live"),
    tableOf(["Kind", "Files", "Size", "", "gzip", ""], rows.map((each) => el("tr", {},
      cell(each.kind), cell(count(each.after.files)), cell(size(each.after.size)), cell(grown(each.before.size, each.after.size)),
      cell(each.after.gzip === null ? "" : size(each.after.gzip)), cell(grown(each.before.gzip, each.after.gzip))))),
    files.length ? el("details", {}, el("summary", {}, "Files"), el("ul", {}, ...files.map((each) => el("li", {},
      `${each.before ? each.after ? "~" : "−" : "+"} `, el("code", {}, clean(each.path)),
      ` ${size((each.after ?? each.before).size)} ${each.before && each.after ? grown(each.before.size, each.after.size) : ""}`))),
    all > files.length ? el("p", { class: "soft" }, `and ${count(all - files.length)} more`) : null) : null,
  ].filter(Boolean);
}

function filesOf(found) {
  const files = [["+", found.added], ["~", found.changed], ["−", found.removed]].flatMap(([sign, some]) =>
    some.map(({ path, before, after }) => el("li", {}, `${sign} `, el("code", {}, clean(path)),
      before !== null && after !== null ? ` ${size(before)} → ${size(after)}` : ` ${size(after ?? before)}`)));
  const all = found.added_count + found.changed_count + found.removed_count;
  if (!files.length) return null;
  return el("details", {}, el("summary", {}, "Files"), el("ul", {}, ...files),
    all > files.length ? el("p", { class: "soft" }, `and ${count(all - files.length)} more`) : null);
}
