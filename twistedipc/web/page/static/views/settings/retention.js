// For how long what a project's builds leave is kept: its own rules, beside the apiserver's, and what would go by them.

import { Refused } from "../../lib/api.js";
import { html } from "../../lib/html.js";
import { may } from "../../lib/shell.js";
import { ask } from "../../parts/dialog.js";
import { Field, Form } from "../../parts/form.js";
import { Pruning } from "../../parts/pruning.js";

const UNITS = { day: 1, week: 7, month: 30, year: 365 };

/** rule -> what it is about, and whether it is a number of things; else it is a time */
const RULES = [
  { name: "logs", label: "Logs", help: "Their numbers of lines and digests stay." },
  { name: "artifacts", label: "Archives of what was built", help: "What is released doesn't need them any more." },
  { name: "unpublished", label: "Archives of builds that publish nothing" },
  { name: "releases", label: "Releases", counts: true, help: "So many to roll back to, and so many others." },
  { name: "previews", label: "Previews of branches", help: "Since the newest release of each." },
  { name: "builds", label: "Builds, with all that they have" },
  { name: "most_builds", label: "Builds at most", counts: true },
  { name: "messages", label: "Messages of the repository's host, and what was told" },
  { name: "newest", label: "Newest builds that keep all", counts: true },
];

/** A rule as people write it. */
const shown = (value, counts) => (value === null || value === "forever" ? "forever" : counts ? String(value) : `${value} ${value === 1 ? "day" : "days"}`);

/** What was written, as the API takes it. What is no time is sent as it is, and refused there. */
function ruleOf(text, counts) {
  const written = text.trim().toLowerCase();
  const [, number, unit = ""] = /^(\d{1,9}) ?(day|week|month|year)?s?$/.exec(written) ?? [];
  if (number === undefined || (counts && unit)) return written;
  return Number(number) * (counts ? 1 : UNITS[unit || "day"]);
}

/** @param {import("../settings.js").Section} properties */
export function Retention({ project, editable, save }) {
  const { retention: own = {}, kept = {} } = project;
  const set = async (values) => {
    const retention = Object.fromEntries(RULES.filter(({ name }) => values[name]).map(({ name, counts }) => [name, ruleOf(values[name], counts)]));
    if (values.last_success) retention.last_success = values.last_success === "yes";
    return saved(project.name, save, retention);
  };
  if (!editable) {
    return html`<dl class="pairs">${RULES.map(({ name, label, counts }) => html`<dt>${label}</dt><dd>${shown(kept[name] ?? null, counts)}</dd>`)}
      <dt>Last success of each ref</dt><dd>${kept.last_success ? "keeps all" : "as the others"}</dd></dl>`;
  }
  return html`
    <p class="soft">Times are as 90 days, 2 weeks, 6 months, 2 years or forever; they count from a build's end. What is empty is as the platform has it.
      What is live, previewed, pinned or still to be decided always stays.</p>
    <${Form} send=${set} verb="Save" stays>
      ${RULES.map(({ name, label, help, counts }) => html`<${Field} name=${name} label=${label} help=${help} value=${own[name] === undefined ? "" : shown(own[name], counts)} placeholder=${shown(kept[name] ?? null, counts)} />`)}
      <${Field} name="last_success" label="The last success of each ref keeps all" value=${own.last_success === undefined ? "" : own.last_success ? "yes" : "no"}
        options=${[["", `as the platform has it${own.last_success === undefined ? `: ${kept.last_success ? "yes" : "no"}` : ""}`], ["yes", "yes"], ["no", "no"]]} />
    <//>
    <section aria-label="What would go now"><h3>What would go now</h3><${Pruning} project=${project.name} on=${[project.updated]} />
      ${may("admin") && html`<p class="soft"><a href="#/storage">Of all projects</a></p>`}</section>`;
}

/** Save rules. If not even the newest of something would be left by them, the API asks back, and so does this. */
async function saved(name, save, retention) {
  try {
    return await save({ retention });
  } catch (error) {
    if (!(error instanceof Refused) || error.status !== 409) throw error;
    let said = "Nothing is changed.";
    await ask({
      title: "Keep so little?",
      said: html`<p>${error.message.replace(/: say confirm = true.*/, ".")}</p><p>The next run of the rules does so, within the hour.</p>`,
      verb: "Keep so little",
      danger: true,
      typed: name,
      async action() {
        said = await save({ retention, confirm: true });
      },
    });
    return said;
  }
}
