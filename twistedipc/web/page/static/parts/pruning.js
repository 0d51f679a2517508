// What isn't kept any more: what would go now and why the rest stays; having it go, which is asked once; and the last run.

import { api } from "../lib/api.js";
import { useApi } from "../lib/data.js";
import { count, counted, size } from "../lib/elements.js";
import { html } from "../lib/html.js";
import { projectAt } from "../lib/router.js";
import { clean } from "../log/terminal.js";
import { ask } from "./dialog.js";
import { Icon } from "./icon.js";
import { Table } from "./table.js";
import { Ago } from "./time.js";
import { Answer, Empty } from "./view.js";

const RUNNING = 2_000; // milliseconds between two looks at a run that goes on
/** What is removed, in words: one, and several. @type {Record<string, [string, string]>} */
const KINDS = {
  artifacts: ["archive of what was built", "archives of what was built"],
  unpublished: ["archive of builds that publish nothing", "archives of builds that publish nothing"],
  audit: ["line of the audit", "lines of the audit"],
  files: ["file", "files"],
};
const formsOf = (kind) => KINDS[kind] ?? [kind.replace(/s$/, ""), kind];
const kindOf = (kind) => formsOf(kind)[1];
const sizeOf = (bytes) => (bytes ? size(bytes) : "");
const amountOf = ({ count: number, size: bytes }, kind) => `${counted(number, ...formsOf(kind))}${bytes ? ` (${size(bytes)})` : ""}`;

/** @param {{ project?: string, on?: any[] }} properties `project`: of it alone; `on`: when they change, the plan is made again */
export function Pruning({ project = "", on = [] }) {
  const query = project ? `?project=${encodeURIComponent(project)}` : "";
  const answer = useApi(`/prune${query}`, { on });
  return html`<${Answer} answer=${answer} what="what isn't kept any more">${(found) => html`<${Plan} project=${project} query=${query} found=${found} reload=${answer.reload} />`}<//>`;
}

function Plan({ project, query, found: { removes, whole, plan, run, busy }, reload }) {
  const goes = plan.filter(({ count: number }) => number > 0);
  const begin = () => {
    const last = goes.filter(({ nothing_left: nothing }) => nothing);
    return ask({
      title: project ? `Remove of ${project} what isn't kept any more?` : "Remove what isn't kept any more?",
      said: html`<ul>${goes.map((each) => html`<li>${amountOf(each, each.kind)}${project ? "" : ` of ${each.project || "no project"}`}</li>`)}</ul>
        ${last.length > 0 && html`<p class="warn">Not even the newest would be left of: ${last.map((each) => `the ${kindOf(each.kind)} of ${each.project}`).join(", ")}.</p>`}
        <p>It can't be brought back.${whole ? "" : " There is more than was looked at."}</p>`,
      verb: "Remove it",
      danger: true,
      typed: last.length ? (project || "remove") : undefined,
      async action() {
        await api("POST", `/prune${query}`, { confirm: last.length > 0 });
        await reload();
      },
    });
  };
  const rowOf = (each) => [
    ...(project ? [] : [each.project ? html`<a href=${projectAt(each.project, "settings", "retention")}>${each.project}</a>` : html`<span class="soft">none</span>`]),
    kindOf(each.kind), count(each.count), sizeOf(each.size), each.rules.join(", "),
    html`<span title=${staysOf(each)}>${staysOf(each)}</span>`,
  ];
  return html`
    ${!removes && html`<p class="soft">There is no rule by which anything goes: all is kept for ever.</p>`}
    ${goes.length ? html`<${Table} name="What would go now" items=${goes} keyOf=${({ project: name, kind }) => `${name} ${kind}`} of=${rowOf}
        heads=${[...(project ? [] : ["Project"]), "What", { text: "Goes", right: true }, { text: "Size", right: true }, "By the rule", { text: "Stays", wide: true }]} />`
      : removes && html`<${Empty} title="Nothing would go now">All that there is, is kept by the rules.<//>`}
    ${!whole && html`<p class="soft">Not all was looked at: there may be more.</p>`}
    <${LastRun} run=${run} busy=${busy} done=${reload} />
    <p class="row"><span class="buttons"><button type="button" class="quiet" onClick=${reload}><${Icon} name="turn" />Look again</button>
      ${goes.length > 0 && html`<button type="button" class="danger" onClick=${begin}>Remove it now</button>`}</span></p>`;
}

const staysOf = ({ stays }) => Object.entries(stays).map(([why, number]) => `${count(number)} ${why}`).join(", ");

/** How far a run is, followed while it goes on. */
function LastRun({ run: first, busy, done }) {
  const goesOn = Boolean(first && !first.ended);
  const { data } = useApi(goesOn ? "/prune/run" : null, { every: RUNNING });
  const run = data ?? first;
  if (!run) return busy ? html`<p class="soft">A run of other projects goes on.</p>` : null;
  const freed = Object.entries(run.freed).filter(([, { count: number }]) => number > 0).map(([kind, amount]) => amountOf(amount, kind)).join(", ");
  return html`<p class="soft" role="status">${run.ended ? html`The last run was <${Ago} at=${run.ended} />, by ${clean(run.by)}` : html`A run goes on, since <${Ago} at=${run.began} />, by ${clean(run.by)}`}: ${
    freed ? `${freed} removed` : run.ended ? "there was nothing to remove" : "it looks"}${run.given_back ? `, ${size(run.given_back)} given back to the disk` : ""}.
    ${goesOn && run.ended && html` <button type="button" class="quiet small" onClick=${done}>Show what is left</button>`}</p>
    ${run.problem && html`<p class="held warn">${clean(run.problem)}</p>`}`;
}
