// The machines that build: which are linked, what they run, and which keys they have.

import { useApi } from "../lib/data.js";
import { html } from "../lib/html.js";
import { clean } from "../log/terminal.js";
import { Chip, Tag } from "../parts/chip.js";
import { Table } from "../parts/table.js";
import { Ago, useClock } from "../parts/time.js";
import { Answer, Empty, Head } from "../parts/view.js";
import { ago } from "../lib/times.js";

const AGAIN = 10_000;

/** Says that no builder is linked, and since when, as long as that is so. */
export function NoBuilder() {
  const { data } = useApi("/healthz", { every: AGAIN });
  useClock(30_000);
  if (!data || data.builders > 0) return null;
  const since = data.no_builder_since && Date.now() - Date.parse(data.no_builder_since) > 60_000 ? `, since ${ago(data.no_builder_since).replace(/ ago$/, "")}` : "";
  return html`<p class="held warn" role="status">No builder is linked${since}: builds wait until one is. Start one with <code>twistd -n buildipc</code> where the builder is set up.</p>`;
}

/** The view. */
export function Builders() {
  const answer = useApi("/builders", { every: AGAIN });
  return html`<div class="view">
    <${Head} name="Builders" />
    <${NoBuilder} />
    <${Answer} answer=${answer} what="the builders">${({ builders }) => (builders.length
      ? html`<${Table} name="Builders" items=${builders} of=${rowOf}
          heads=${["Builder", "Link", { text: "Slots", right: true }, "Isolation", "Version", "Pools", { text: "Keys", wide: true }]} />`
      : html`<${Empty} title="There is no builder"><code>twistedipc builder add NAME</code> makes a key for one, which takes builds once it is linked.<//>`)}<//>
  </div>`;
}

function rowOf({ name, link, pools, keys, last_linked: last }) {
  const good = keys.filter(({ revoked }) => !revoked);
  return [
    html`<span class="strong">${clean(name)}</span>`,
    link ? html`<${Chip} of=${link.draining ? { state: "draining", tone: "warning" } : { state: "linked", tone: "good" }} /> <span class="soft"><${Ago} at=${link.since} />, ${link.address}</span>`
      : html`<${Chip} of=${{ state: "not linked", tone: "waiting" }} />${last && html` <span class="soft">last <${Ago} at=${last} /></span>`}`,
    link ? link.slots : "",
    link ? link.isolation === "none" || !link.isolation ? html`<span class="warn">none</span>` : link.isolation : "",
    link?.version ?? "",
    pools.map((pool) => html`<${Tag}>${pool}<//> `),
    good.length ? good.map(({ id, expires }) => html`<code>${id}</code>${expires ? ` until ${new Date(expires).toLocaleDateString()}` : ""} `) : html`<span class="soft">the shared key</span>`,
  ];
}
