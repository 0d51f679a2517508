// The secrets of a project: those of its builds, and those that publishing needs. A value is sent, and never shown.

import { api, ofProject } from "../../lib/api.js";
import { html } from "../../lib/html.js";
import { Remove } from "../../parts/dialog.js";
import { Field, Form } from "../../parts/form.js";
import { Table } from "../../parts/table.js";
import { Ago } from "../../parts/time.js";
import { Empty } from "../../parts/view.js";

const STEPS = /** @type {[string, string][]} */ ([["all", "all steps"], ["install", "the step install"], ["build", "the other steps"]]);

/** The kinds of builds that something of this project may be for. */
export const buildsOf = (project) => [["all", "all builds"], ["production", "production"], ["previews", "previews"], ...(project.environments ?? []).map(({ name }) => [name, name])];
export const wordsOf = (value, words) => words.find(([name]) => name === value)?.[1] ?? value;

/**
 * The secrets of the project's builds.
 * @param {import("../settings.js").Section} properties
 */
export function Secrets({ project, editable, reload }) {
  const secrets = project.build_secrets ?? [];
  const set = async ({ name, value, steps, builds }) => {
    await api("PUT", ofProject(project.name, "secrets", name), { value, steps, builds });
    await reload();
    return `${name} is set. Builds that begin from now on get it.`;
  };
  const remove = ({ name, builds }) => async () => {
    await api("DELETE", `${ofProject(project.name, "secrets", name)}?builds=${encodeURIComponent(builds)}`);
    await reload();
  };
  return html`
    ${secrets.length ? html`<${Table} name="Secrets" items=${secrets} keyOf=${({ name, builds }) => `${name} ${builds}`} heads=${["Secret", "Builds", "Given to", { text: "Set", wide: true }, ""]} of=${(each) => [
      html`<code>${each.name}</code>`, wordsOf(each.builds, buildsOf(project)), wordsOf(each.steps, STEPS), html`<${Ago} at=${each.updated} />`,
      editable && html`<${Remove} what=${each.name} action=${remove(each)} said=${`Its value is erased, and ${wordsOf(each.builds, buildsOf(project))} that begin from now on go without it. Nobody can read it here any more, so keep it elsewhere if it is still needed.`} />`]} />`
      : html`<${Empty} title="Builds get no secret">A secret is a variable of the builds' steps whose value nobody can read here.<//>`}
    ${editable && html`<details class="adding"><summary>Set a secret</summary><${Form} verb="Set the secret" send=${set}>
      <${Field} name="name" label="Name of the secret" required placeholder="DEPLOY_KEY" />
      <${Field} name="value" label="Value of the secret" lines="2" class="covered" required help="It may have several lines, as a key has. It isn't shown again." />
      <${Field} name="builds" label="For" options=${buildsOf(project)} />
      <${Field} name="steps" label="Given to" options=${STEPS} />
    <//></details>`}`;
}

/**
 * A form in which one secret is set that something else needs: to publish, or to read the repository.
 * @param {{ project: any, secret: { name: string, help: string, place?: string, set: boolean }, reload: () => Promise<void> }} properties
 */
export function SecretForm({ project, secret: { name, help, place, set }, reload }) {
  const path = ofProject(project.name, "secrets", name);
  const send = async ({ value }) => {
    await api("PUT", path, { value });
    await reload();
  };
  const remove = async () => {
    await api("DELETE", path);
    await reload();
  };
  return html`<section class="part"><h3><code>${name}</code></h3>
    <p class="soft">${help}${place ? `, for ${place}` : ""}: ${set ? "set." : "not set."}</p>
    <div class="row"><${Form} row verb=${set ? "Replace" : "Set"} done="Set." send=${send}>
      <${Field} name="value" label=${`Value of ${name}`} type="password" autocomplete="off" required unseen placeholder="Value, never shown again" /><//>
      ${set && html`<${Remove} what=${name} action=${remove} said=${`Its value is erased. What needs it (${help}) fails until it is set again.`} />`}</div></section>`;
}
