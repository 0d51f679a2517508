// Where a project publishes. The form is made from what the API says of the targets, so a target of somebody's own has its
// form too.

import { useApi } from "../../lib/data.js";
import { html, useState } from "../../lib/html.js";
import { ask } from "../../parts/dialog.js";
import { Check, Field, Form } from "../../parts/form.js";
import { whatOf } from "../../parts/publishes.js";
import { Answer } from "../../parts/view.js";
import { SecretForm } from "./secrets.js";

const idOf = (target, field) => `${target.name}-${field.name}`;

/** @param {import("../settings.js").Section} properties */
export function Targets({ project, editable, save, reload }) {
  const answer = useApi("/targets");
  return html`<${Answer} answer=${answer} what="the targets">${({ targets }) => html`<${TargetsForm} project=${project} known=${targets} save=${save} editable=${editable} />
    ${editable && project.needs.filter(({ audience }) => !audience).map((each) => html`<${SecretForm} key=${each.name} project=${project} secret=${each} reload=${reload} />`)}`}<//>`;
}

function TargetsForm({ project, known, save, editable }) {
  // A target that isn't known here stays as it is.
  const unknown = project.targets.filter(({ type }) => !known.some(({ name }) => name === type));
  const set = async (values) => {
    const wanted = known.map((target) => settingsOf(target, values)).filter(Boolean);
    const on = (all) => all.filter(({ paused }) => !paused).map(({ type }) => type);
    const ends = on(project.targets).filter((type) => known.some(({ name }) => name === type) && !on(wanted).includes(type));
    if (ends.length && !await ask({
      title: "Publish there no more?",
      said: `Builds of ${project.name} don't publish to ${ends.map((type) => whatOf(type, known)).join(" and ")} any more. What was published stays where it is, and so do the settings.`,
      verb: "Publish there no more",
      danger: true,
    })) return "Nothing is changed.";
    return save({ targets: [...wanted, ...unknown] });
  };
  return html`<${Form} send=${set} verb="Save" stays class="targets">
    ${known.map((target) => html`<${Target} key=${target.name} target=${target} settings=${project.targets.find(({ type }) => type === target.name)} project=${project} editable=${editable} />`)}
    ${unknown.map(({ type }) => html`<p class="held">${type}: this apiserver has no such target. Builds can't publish to it.</p>`)}
  <//>`;
}

/** One target's part of the form. */
function Target({ target, settings, project }) {
  const [on, setOn] = useState(Boolean(settings && !settings.paused));
  return html`<fieldset><legend class="unseen">${target.what}</legend>
    <${Check} name=${target.name} label=${target.what} checked=${on} onChange=${(event) => setOn(event.target.checked)} />
    <div hidden=${!on}>${target.fields.map((field) => html`<${TargetField} field=${field} name=${idOf(target, field)} now=${settings?.[field.name]} needed=${on} />`)}
      ${neededSecrets(target, settings, project).map((secret) => html`<p class="soft">${secret.name} (${secret.help}): ${
        secret.audience ? `signed for each attempt, for ${secret.audience}.` : secret.set ? "set." : settings ? "not set." : "not set. It can be, once this is saved."}</p>`)}</div>
  </fieldset>`;
}

/** What is needed to publish to a target: as the project is set up, or else as any project would be. */
function neededSecrets(target, settings, project) {
  if (settings) return project.needs.filter((each) => each.target === target.name);
  return target.secrets.map((secret) => ({ ...secret, audience: "", set: project.secrets.includes(secret.name) }));
}

function TargetField({ field: { label, kind, help, example, required }, name, now, needed }) {
  if (kind === "switch") return html`<${Check} name=${name} label=${label} help=${help} checked=${now === true} />`;
  // A header has spaces and commas in it, so each of several has a line.
  if (kind === "list") {
    return html`<${Field} name=${name} label=${label} placeholder=${example} lines="2" value=${(now ?? []).join("\n")} required=${needed && required} help=${`${help} One in each line.`} />`;
  }
  return html`<${Field} name=${name} label=${label} placeholder=${example} type=${kind === "number" ? "number" : "text"} step=${kind === "number" ? "any" : undefined}
    value=${now ?? ""} required=${needed && required} help=${help} />`;
}

/** What the form says of a target; null: the project hasn't it. What is switched off keeps its settings. */
function settingsOf(target, values) {
  const given = Object.fromEntries(target.fields.map((field) => [field.name, valueOf(field, values[idOf(target, field)] ?? "")]).filter(([, value]) => value !== undefined));
  if (values[target.name]) return { type: target.name, ...given };
  return Object.keys(given).length ? { type: target.name, paused: true, ...given } : null;
}

function valueOf({ kind }, text) {
  if (!text) return undefined;
  if (kind === "list") return text.split("\n").map((line) => line.trim()).filter(Boolean);
  if (kind === "number") return Number(text);
  return kind === "switch" ? true : text;
}
