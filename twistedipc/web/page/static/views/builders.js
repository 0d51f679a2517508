// The machines that build: which are linked, what they run, and which keys they have.

import { api } from "../lib/api.js";
import { useApi } from "../lib/data.js";
import { html, useState } from "../lib/html.js";
import { notice } from "../lib/shell.js";
import { clean } from "../log/terminal.js";
import { Chip, Tag } from "../parts/chip.js";
import { ask } from "../parts/dialog.js";
import { Field, Form } from "../parts/form.js";
import { Secret } from "../parts/secret.js";
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
  const [made, setMade] = useState(null);
  const at = (name) => `/builders/${encodeURIComponent(name)}`;
  const add = async ({ name, pools }) => {
    setMade(await api("POST", "/builders", { name, pools: pools.split(/[\s,]+/).filter(Boolean) }));
    await answer.reload();
  };
  const rotate = ({ name, pools, keys }) => ask({
    title: `Make a key for ${clean(name)}?`,
    said: "What it links by now stays good until it uses the new key, or until that expires.",
    verb: "Make a key",
    async action() {
      setMade(await (goodKeys({ keys }).length ? api("POST", `${at(name)}/keys`) : api("POST", "/builders", { name, pools })));
      await answer.reload();
    },
  });
  const revoke = ({ name, link }) => ask({
    title: `Revoke the keys of ${clean(name)}?`,
    said: link ? "It is linked: its link ends at once, and what it builds now is lost." : "It can't link again until it has a new key.",
    verb: "Revoke",
    danger: true,
    typed: link ? name : undefined,
    async action() {
      await api("DELETE", `${at(name)}/keys`);
      notice.set(`The keys of ${clean(name)} are revoked.`);
      await answer.reload();
    },
  });
  const drain = ({ name, drained, link }) => (drained ? ask({
    title: `Give ${clean(name)} builds again?`,
    said: "It is offered what waits from now on, as far as its slots are free.",
    verb: "Give it builds",
    action: () => change(name, { drained: false }, `${clean(name)} is offered builds again.`),
  }) : ask({
    title: `Give ${clean(name)} nothing new?`,
    said: `What it builds now goes on; what waits goes to other builders${link ? "" : ", also once it is linked again"}. It stays so until somebody takes it back here, or by twistedipc builder undrain.`,
    verb: "Drain it",
    action: () => change(name, { drained: true }, `${clean(name)} is offered nothing more.`),
  }));
  const change = async (name, what, said) => {
    await api("PATCH", at(name), what);
    notice.set(said);
    await answer.reload();
  };
  const rowOf = (builder) => [...factsOf(builder), html`<span class="buttons">
    <button type="button" class="quiet small" aria-label=${`New key for ${clean(builder.name)}`} onClick=${() => rotate(builder)}>New key</button>
    ${builder.created && html`<button type="button" class="quiet small" aria-label=${`${builder.drained ? "Undrain" : "Drain"} ${clean(builder.name)}`} onClick=${() => drain(builder)}>${builder.drained ? "Undrain" : "Drain"}</button>`}
    ${goodKeys(builder).length > 0 && html`<button type="button" class="quiet small" aria-label=${`Revoke the keys of ${clean(builder.name)}`} onClick=${() => revoke(builder)}>Revoke</button>`}</span>`];
  return html`<div class="view">
    <${Head} name="Builders" />
    <${NoBuilder} />
    ${made && html`<${Secret} what=${html`A key for <b>${clean(made.builder.name)}</b>. Run this line on its machine.`} value=${joinLine(made)} />`}
    <${Answer} answer=${answer} what="the builders">${({ builders }) => (builders.length
      ? html`<${Table} name="Builders" items=${builders} of=${rowOf}
          heads=${["Builder", "Link", { text: "Slots", right: true }, "Isolation", "Version", "Tools", "Pools", { text: "Keys", wide: true }, ""]} />`
      : html`<${Empty} title="There is no builder">Add one: its key takes it in once it is linked.<//>`)}<//>
    <details class="adding"><summary>Add a builder</summary><${Form} verb="Add" done="" send=${add}>
      <${Field} name="name" label="Name" required maxlength="64" help="As its builder.toml names it." />
      <${Field} name="pools" label="Pools" placeholder="none" help="Projects can be bound to builders of a pool. Several are separated by spaces." />
    <//></details>
  </div>`;
}

/** What joins a builder with its key, as `twistedipc builder add` prints it. */
const joinLine = ({ builder: { name }, key, dial, listen }) => `echo ${key} | twistedipc builder join ${name} ${
  (dial.length ? dial.map((each) => `--dial '${each}'`) : listen.map((each) => `--listen '${each}'`)).join(" ") || "--dial …"}`;

const goodKeys = ({ keys }) => keys.filter(({ revoked }) => !revoked);

/** The newest version of each tool that a builder has fetched; all versions are in its title. */
function Tools({ tools }) {
  /** @type {Map<string, string[]>} */
  const versions = new Map();
  for (const { name, version } of tools) versions.set(name, [...(versions.get(name) ?? []), version]); // the newest is the last
  return html`<span class="tags">${[...versions].map(([name, each]) => html`<${Tag} title=${clean(`${name} ${each.join(", ")}`)}>${
    clean(name)} ${clean(each.at(-1))}${each.length > 1 ? ` +${each.length - 1}` : ""}<//> `)}</span>`;
}

function factsOf({ name, link, pools, keys, drained, last_linked: last, tools }) {
  const good = goodKeys({ keys });
  return [
    html`<span class="strong">${clean(name)}</span>`,
    link ? html`<${Chip} of=${link.draining ? { state: "draining", tone: "warning" } : { state: "linked", tone: "good" }} /> <span class="soft"><${Ago} at=${link.since} />, ${link.address}</span>`
      : html`<${Chip} of=${{ state: "not linked", tone: "waiting" }} />${last && html` <span class="soft">last <${Ago} at=${last} /></span>`}${drained && html` <span class="soft">drained <${Ago} at=${drained} /></span>`}`,
    link ? link.slots : "",
    link ? link.isolation === "none" || !link.isolation ? html`<span class="warn">none</span>` : link.isolation : "",
    link?.version ?? "",
    tools?.length ? html`<${Tools} tools=${tools} />` : "",
    pools.map((pool) => html`<${Tag}>${pool}<//> `),
    good.length ? good.map(({ id, expires }) => html`<code>${id}</code>${expires ? ` until ${new Date(expires).toLocaleDateString()}` : ""} `) : html`<span class="soft">the shared key</span>`,
  ];
}
