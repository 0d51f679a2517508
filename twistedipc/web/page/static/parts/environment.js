// The variables and the secrets of a project's builds: what everybody sees of them, and the forms in which an
// administrator sets and removes them. A secret's value is sent and never shown.

import { el, headOf, timeOf } from "../lib/elements.js";

const BUILDS = [["all", "all builds"], ["production", "production"], ["previews", "previews"]];

/** The kinds of builds that something of this project may be for. */
const buildsOf = (project) => [...BUILDS, ...(project.environments ?? []).map(({ name }) => [name, name])];
const STEPS = [["all", "all steps"], ["install", "the step install"], ["build", "the other steps"]];
const nameOf = (value, words) => words.find(([name]) => name === value)?.[1] ?? value;

/**
 * The variables, the secrets and the registries of a project. `change` is null for people who may change nothing;
 * else it has `variables(button, changes)`, `setSecret(button, name, body)`, `removeSecret(button, name, builds)`
 * and `environments(button, list)`.
 */
export function environmentOf(project, change) {
  const parts = [environmentsTable(project, change), change ? environmentForm(project, change) : null, variablesTable(project, change), change ? variableForm(project, change) : null,
    secretsTable(project, change), change ? secretForm(project, change) : null, registriesTable(project)];
  return el("div", { class: "environment" }, ...parts.filter(Boolean));
}

/** The environments, in the order in which they are looked through for a ref. */
function environmentsTable(project, change) {
  const mine = project.environments ?? [];
  const approved = (approval) => approval ? "with approval" : "";
  return table("Environment", [
    [el("code", {}, "production"), (project.protected ?? []).join(" "), approved(project.approval), null],
    ...mine.map(({ name, refs, approval }) => [el("code", {}, name), refs.join(" "), approved(approval),
      removal(change, `Remove ${name}`, (button) => change.environments(button, mine.filter((each) => each.name !== name)))]),
    [el("code", {}, "preview"), "all others", "", null]], "Refs", "Approval");
}

function variablesTable(project, change) {
  const kinds = [["all", project.environment], ["production", project.of_contexts?.production ?? {}], ["previews", project.of_contexts?.previews ?? {}],
    ...Object.entries(project.of_contexts?.environments ?? {})];
  const rows = kinds.flatMap(([builds, values]) => Object.entries(values).map(([name, value]) => ({ name, value, builds })));
  rows.sort((a, b) => a.name.localeCompare(b.name));
  return table("Variable", rows.map(({ name, value, builds }) => [
    el("code", {}, name), value === null ? el("span", { class: "soft" }, "for administrators to see") : el("code", {}, value), nameOf(builds, buildsOf(project)),
    removal(change, `Remove ${name}`, (button) => change.variables(button, [{ name, value: null, builds }]))]));
}

function secretsTable(project, change) {
  return table("Secret", (project.build_secrets ?? []).map(({ name, steps, builds, updated }) => [
    el("code", {}, name), el("span", {}, `${nameOf(steps, STEPS)}, set `, timeOf(updated)), nameOf(builds, buildsOf(project)),
    removal(change, `Remove ${name}`, (button) => change.removeSecret(button, name, builds))]));
}

function registriesTable(project) {
  return table("Registry", (project.registries ?? []).map(({ address, secret, scopes }) => [
    el("code", {}, address), (scopes ?? []).join(", ") || "all packages", secret ? el("span", {}, "token ", el("code", {}, secret)) : "no token", null]));
}

function table(name, rows, what = "Value", builds = "Builds") {
  if (!rows.length) return null;
  return el("table", {}, el("thead", {}, el("tr", {}, ...[name, what, builds, ""].map(headOf))),
    el("tbody", {}, ...rows.map(([first, second, third, last]) => el("tr", {},
      el("td", { class: "tight" }, first), el("td", { class: "wide" }, second), el("td", { class: "tight" }, third), el("td", { class: "tight" }, last)))));
}

function removal(change, label, remove) {
  if (!change) return null;
  const button = el("button", { class: "quiet", type: "button", "aria-label": label }, "Remove");
  button.addEventListener("click", () => remove(button));
  return button;
}

const choice = (label, words) => el("select", { "aria-label": label }, ...words.map(([value, text]) => el("option", { value }, text)));
const input = (label, more) => el("input", { "aria-label": label, placeholder: label, spellcheck: "false", autocomplete: "off", ...more });

function environmentForm(project, change) {
  const name = input("Name of an environment", { required: "" }), refs = input("Refs that lead to it", { required: "", placeholder: "staging release/*" });
  const approval = choice("Approval of the environment", [["0", "without approval"], ["1", "with approval"]]);
  return form([name, refs, approval], "Set environment", (button) => {
    const mine = project.environments ?? [], at = mine.findIndex((each) => each.name === name.value.trim());
    const set = { name: name.value.trim(), refs: refs.value.trim().split(/\s+/), approval: Number(approval.value) };
    change.environments(button, at < 0 ? [...mine, set] : mine.map((each) => each.name === set.name ? set : each));
  });
}

function variableForm(project, change) {
  const name = input("Name of a variable", { required: "" }), value = input("Value"), builds = choice("Builds of the variable", buildsOf(project));
  return form([name, value, builds], "Set variable", (button) =>
    change.variables(button, [{ name: name.value.trim(), value: value.value, builds: builds.value }]));
}

function secretForm(project, change) {
  const name = input("Name of a secret", { required: "" });
  // It may have several lines, as a key has; what is typed in a text area is shown only while it is typed.
  const value = el("textarea", { "aria-label": "Value of the secret", placeholder: "Value, never shown again", rows: "1", required: "", spellcheck: "false", autocomplete: "off" });
  const steps = choice("Steps of the secret", STEPS), builds = choice("Builds of the secret", buildsOf(project));
  return form([name, value, steps, builds], "Set secret", (button) => change.setSecret(button, name.value.trim(),
    { value: value.value.replace(/[\r\n]+$/, ""), steps: steps.value, builds: builds.value }));
}

function form(fields, label, submit) {
  const button = el("button", {}, label);
  const made = el("form", { class: "row" }, ...fields, button);
  made.addEventListener("submit", (event) => {
    event.preventDefault();
    submit(button);
  });
  return made;
}
