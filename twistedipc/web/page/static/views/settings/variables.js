// What the builds of a project are given: environments with refs of their own, variables, secrets, registries.

import { html } from "../../lib/html.js";
import { Remove } from "../../parts/dialog.js";
import { Check, Field, Form } from "../../parts/form.js";
import { Table } from "../../parts/table.js";
import { Empty } from "../../parts/view.js";
import { buildsOf, Secrets, wordsOf } from "./secrets.js";

const words = (text) => text.split(/[\s,]+/).filter(Boolean);

/** @param {import("../settings.js").Section} section */
export function Variables(section) {
  return html`
    <section aria-label="Variables"><h3>Variables</h3><${OfBuilds} ...${section} /></section>
    <section aria-label="Secrets"><h3>Secrets</h3><${Secrets} ...${section} /></section>
    <section aria-label="Environments"><h3>Environments</h3><${Environments} ...${section} /></section>
    <section aria-label="Registries"><h3>Registries</h3><${Registries} ...${section} /></section>`;
}

function OfBuilds({ project, editable, save }) {
  const { environment = {}, of_contexts: some = {} } = project;
  const kinds = [["all", environment], ["production", some.production ?? {}], ["previews", some.previews ?? {}], ...Object.entries(some.environments ?? {})];
  const variables = kinds.flatMap(([builds, values]) => Object.entries(values).map(([name, value]) => ({ name, value, builds })))
    .sort((one, other) => one.name.localeCompare(other.name));
  return html`
    ${variables.length ? html`<${Table} name="Variables" items=${variables} keyOf=${({ name, builds }) => `${name} ${builds}`} heads=${["Variable", { text: "Value", wide: true }, "Builds", ""]} of=${({ name, value, builds }) => [
      html`<code>${name}</code>`, value === null ? html`<span class="soft">administrators see it</span>` : html`<code title=${value}>${value}</code>`, wordsOf(builds, buildsOf(project)),
      editable && html`<${Remove} what=${name} action=${() => save({ variables: [{ name, value: null, builds }] })} said=${`${wordsOf(builds, buildsOf(project))} that begin from now on go without ${name}, which is ${value} now.`} />`]} />`
      : html`<${Empty} title="Builds get no variable">One can be for all builds, for production or for previews alone.<//>`}
    ${editable && html`<details class="adding"><summary>Set a variable</summary><${Form} verb="Set the variable" send=${({ name, value, builds }) => save({ variables: [{ name, value, builds }] })}>
      <${Field} name="name" label="Name of the variable" required placeholder="VITE_API" />
      <${Field} name="value" label="Value" help="Administrators can read it, and builders keep it on their disks: what is secret belongs below." />
      <${Field} name="builds" label="For" options=${buildsOf(project)} />
    <//></details>`}`;
}

function Environments({ project, editable, save }) {
  const mine = project.environments ?? [];
  const all = [{ name: "production", refs: project.protected ?? [], approval: project.approval, fixed: true }, ...mine, { name: "preview", refs: [], approval: 0, fixed: true }];
  const set = ({ name, refs, approval }) => {
    const made = { name, refs: words(refs), approval: approval ? 1 : 0 };
    return save({ environments: mine.some((each) => each.name === name) ? mine.map((each) => (each.name === name ? made : each)) : [...mine, made] });
  };
  return html`
    <${Table} name="Environments, in the order in which a ref is looked up" items=${all} heads=${["Environment", { text: "Refs", wide: true }, "Approval", ""]} of=${({ name, refs, approval, fixed }) => [
      html`<code>${name}</code>`, name === "preview" ? html`<span class="soft">all others</span>` : refs.join(" "), approval ? "by another person" : "",
      editable && !fixed && html`<${Remove} what=${name} action=${() => save({ environments: mine.filter((each) => each.name !== name) })}
        said=${`Builds of ${refs.join(" ")} are previews from now on, and the variables of ${name} end with it.`} />`]} />
    ${editable && html`<details class="adding"><summary>Set an environment</summary><${Form} verb="Set the environment" send=${set}>
      <${Field} name="name" label="Name of the environment" required placeholder="staging" />
      <${Field} name="refs" label="Refs that lead to it" required placeholder="staging release/*" help="Patterns of branches and tags, separated by spaces." />
      <${Check} name="approval" label="Another person approves what goes live" />
    <//></details>`}`;
}

function Registries({ project, editable, save }) {
  const mine = project.registries ?? [];
  const set = ({ address, secret, scopes }) => save({ registries: [...mine.filter((each) => each.address !== address),
    { address, ...(secret ? { secret } : {}), ...(scopes ? { scopes: words(scopes) } : {}) }] });
  return html`
    ${mine.length ? html`<${Table} name="Registries" items=${mine} keyOf=${({ address }) => address} heads=${[{ text: "Registry", wide: true }, "Packages", "Token", ""]} of=${({ address, secret, scopes }) => [
      html`<code>${address}</code>`, (scopes ?? []).join(" ") || "all", secret ? html`<code>${secret}</code>` : html`<span class="soft">none</span>`,
      editable && html`<${Remove} what=${address} action=${() => save({ registries: mine.filter((each) => each.address !== address) })} said="Builds that begin from now on don't install from it." />`]} />`
      : html`<p class="soft">Builds install from the public registry, or from those that the repository names.</p>`}
    ${editable && html`<details class="adding"><summary>Set a registry</summary><${Form} verb="Set the registry" send=${set}>
      <${Field} name="address" label="Address" required placeholder="https://npm.example.org/" />
      <${Field} name="scopes" label="Scopes" placeholder="all packages, or @acme" />
      <${Field} name="secret" label="Secret that is its token" placeholder="NPM_READ_TOKEN" help="The name of one of the secrets above." />
    <//></details>`}`;
}
