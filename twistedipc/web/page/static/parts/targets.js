// Where a project publishes: what everybody sees of it, and the form in which an administrator changes it. Both are
// made from what the API says of the targets, so a target of somebody's own has its form too.

import { el } from "../lib/elements.js";

/** In a few words, to what the project publishes. */
export function publishesTo(project, known) {
  const names = project.targets.filter((target) => !target.paused).map(({ type }) => whatOf(type, known));
  return names.join(", ") || "nothing";
}

const whatOf = (type, known) => known.find((target) => target.name === type)?.what ?? `${type} (not known here)`;

/** The form. `save(targets)` sends the settings of all targets; it is called with the button. */
export function targetsForm(project, known, save) {
  const parts = known.map((target) => targetPart(target, project.targets.find(({ type }) => type === target.name), project));
  // A target that isn't known here stays as it is.
  const unknown = project.targets.filter(({ type }) => !known.some((target) => target.name === type));
  const button = el("button", {}, "Save");
  const said = el("p", { class: "soft", role: "status" });
  const form = el("form", { class: "targets" }, ...parts.map((part) => part.element),
    ...unknown.map(({ type }) => el("p", { class: "held" }, `${type}: this apiserver has no such target. Builds can't publish to it.`)),
    el("div", { class: "row" }, button, said));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    said.textContent = "";
    save(button, [...parts.map((part) => part.settings()).filter(Boolean), ...unknown], (notices) => {
      said.textContent = ["Saved.", ...notices].join(" ");
    });
  });
  return form;
}

/** One target's part of the form: `element`, and `settings()`, which is null for a target that the project hasn't. */
function targetPart(target, settings, project) {
  const on = el("input", { type: "checkbox" });
  on.checked = Boolean(settings && !settings.paused);
  const inputs = target.fields.map((field) => fieldInput(target, field, settings?.[field.name]));
  const fields = el("div", { class: "fields" }, ...inputs.map((input) => input.element),
    ...neededSecrets(target, settings, project).map((secret) => el("p", { class: "soft" },
      ...(secret.audience ? [`${secret.name} (${secret.help}): signed for each attempt, for ${secret.audience}.`] : [
        `${secret.name} (${secret.help}): ${secret.set ? "set" : "not set"}. `,
        el("code", {}, `twistedipc project secret set ${project.name} ${secret.name}`), " sets it."]))));
  const update = () => {
    fields.hidden = !on.checked;
    for (const input of inputs) input.require(on.checked);
  };
  on.addEventListener("change", update);
  update();
  return {
    element: el("fieldset", {}, el("legend", {}, el("label", {}, on, ` ${target.what}`)), fields),
    settings() {
      const given = Object.fromEntries(inputs.map((input) => [input.name, input.value()]).filter(([, value]) => value !== undefined));
      if (on.checked) return { type: target.name, ...given };
      return Object.keys(given).length ? { type: target.name, paused: true, ...given } : null;
    },
  };
}

/** What is needed to publish to a target: as the project is set up, or else as any project would be. */
function neededSecrets(target, settings, project) {
  if (settings) return project.needs.filter((each) => each.target === target.name);
  return target.secrets.map((secret) => ({ ...secret, audience: "", set: project.secrets.includes(secret.name) }));
}

/** An input for one field. Its `value()` is undefined if nothing is given. */
function fieldInput(target, field, value) {
  const id = `${target.name}-${field.name}`;
  const types = { number: "number", switch: "checkbox" };
  const input = el("input", { id, type: types[field.kind] ?? "text", step: field.kind === "number" ? "any" : null, placeholder: field.example, spellcheck: "false", autocomplete: "off" });
  if (field.kind === "switch") input.checked = value === true;
  else input.value = Array.isArray(value) ? value.join(" ") : (value ?? "");
  const read = {
    list: () => (input.value.trim() ? input.value.trim().split(/[\s,]+/) : undefined),
    number: () => (input.value === "" ? undefined : Number(input.value)),
    switch: () => (input.checked ? true : undefined),
    text: () => input.value.trim() || undefined,
  };
  return {
    name: field.name,
    element: el("div", {}, el("label", { for: id }, field.name), input,
      el("p", { class: "soft" }, field.help, field.kind === "list" ? " Several are separated by spaces." : "")),
    value: read[field.kind] ?? read.text,
    require: (needed) => { input.required = needed && field.required && field.kind !== "switch"; },
  };
}
