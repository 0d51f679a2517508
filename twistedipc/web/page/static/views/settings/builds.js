// Where a project's sources are, which of its refs go live, and how they are built.

import { html } from "../../lib/html.js";
import { ask } from "../../parts/dialog.js";
import { Check, Field, Form } from "../../parts/form.js";
import { Recognised } from "../../parts/recognised.js";

const ON_LOST = [["lost", "it ends as lost"], ["rerun", "it is built again"]];
const NETWORK = [["open", "everything"], ["registries", "its registries and the hosts below"], ["none", "nothing, once the sources are there"]];
const EGRESS = [["record", "it may, and that is recorded"], ["ask", "it may not until somebody has agreed"]];
const PERHAPS = [["", "recognised"], ["yes", "yes"], ["no", "no"]];
const SLASHES = [["", "as the files are"], ["auto", "auto"], ["always", "always"], ["never", "never"]];
const LIST = "One in each line.";

/** The settings of a build that have a default: how they are shown and what is made of what was filled in. */
const SETTINGS = [
  { name: "root", label: "Folder", placeholder: "the repository's top", help: "Of the project in its repository." },
  { name: "framework", label: "Framework", placeholder: "recognised" },
  { name: "manager", label: "Package manager", placeholder: "recognised", help: "pnpm, or with a version: pnpm@9." },
  { name: "node", label: "Node", placeholder: "recognised", help: "A version, or a range: 22, ^20.11.0." },
  { name: "install", kind: "command", label: "Install command", none: "Install nothing" },
  { name: "build", kind: "command", label: "Build command", none: "Run nothing to build" },
  { name: "output", label: "Output folder", placeholder: "recognised", help: "What is packed and released, below the project's folder." },
];
const SITE = [
  { name: "spa", kind: "perhaps", label: "A single-page application", help: "Addresses without a file get index.html." },
  { name: "trailing_slash", kind: "choice", options: SLASHES, label: "Trailing slash" },
  { name: "clean_urls", kind: "perhaps", label: "Addresses without .html" },
];
const MORE = [
  { name: "watch", kind: "list", label: "Paths", help: `Patterns. A push that touches none of them builds nothing. ${LIST}` },
  { name: "packages", kind: "list", label: "Packages", help: `Patterns of the folders whose packages are published. ${LIST}` },
  { name: "caches", kind: "list", label: "Caches", help: `Folders that are kept from one build to the next. ${LIST}` },
  { name: "submodules", kind: "on", label: "Fetch submodules" },
  { name: "lfs", kind: "on", label: "Fetch large files (LFS)" },
  { name: "network", kind: "choice", options: NETWORK, first: "open", label: "Its steps may reach" },
  { name: "hosts", kind: "list", label: "Hosts", help: `What they may reach beside the repository and the registries. ${LIST}` },
  { name: "egress", kind: "choice", options: EGRESS, first: "record", label: "A host that the last success didn't contact" },
];

/** A field for one setting; `now` is what is set. */
function Setting({ setting: { name, kind = "text", label, help, options, none, first = "", placeholder }, now }) {
  if (kind === "list") return html`<${Field} name=${name} label=${label} help=${help} lines="2" value=${(now ?? []).join("\n")} />`;
  if (kind === "on") return html`<${Check} name=${name} label=${label} checked=${now !== false} />`;
  if (kind === "perhaps") return html`<${Field} name=${name} label=${label} help=${help} options=${PERHAPS} value=${now === true ? "yes" : now === false ? "no" : ""} />`;
  if (kind === "choice") return html`<${Field} name=${name} label=${label} options=${options} value=${now ?? first} />`;
  if (kind === "text") return html`<${Field} name=${name} label=${label} help=${help} placeholder=${placeholder} value=${now ?? ""} />`;
  return html`<${Field} name=${name} label=${label} placeholder="recognised" value=${now ?? ""} />
    <${Check} name=${`${name}-none`} label=${none} checked=${now === ""} />`;
}

/** What a setting is to be; undefined: its default. */
function settingOf({ name, kind = "text", first = "" }, values) {
  const value = values[name] ?? "";
  if (kind === "list") return value ? value.split("\n").map((line) => line.trim()).filter(Boolean) : undefined;
  if (kind === "on") return value ? undefined : false;
  if (kind === "perhaps") return value ? value === "yes" : undefined;
  if (kind === "command" && values[`${name}-none`]) return "";
  return value && value !== first ? value : undefined;
}

const settingsOf = (settings, values) => settings.map((setting) => [setting.name, settingOf(setting, values)]).filter(([, value]) => value !== undefined);

/** The settings of a new project that most people want to say: the rest is in its settings. */
export function FirstSettings() {
  return SETTINGS.map((setting) => html`<${Setting} setting=${setting} />`);
}

/** What was filled in there, or undefined. */
export function firstSettings(values) {
  const given = settingsOf(SETTINGS, values);
  return given.length ? Object.fromEntries(given) : undefined;
}

/** @param {import("../settings.js").Section} properties */
export function Builds({ project, editable, save }) {
  const { name, settings = {}, repository } = project;
  if (!editable) {
    return html`<${Recognised} name=${name} /><dl class="pairs"><dt>Repository</dt><dd>${repository}</dd>
      ${Object.entries(settings).map(([each, value]) => html`<dt>${each}</dt><dd><code>${Array.isArray(value) ? value.join(" ") : String(value)}</code></dd>`)}</dl>`;
  }
  const set = async (values) => {
    const minutes = (given) => Math.round(Number(given) * 60);
    const wanted = {
      repository: values.repository, default_ref: values.default_ref || "HEAD", protected: values.protected.split(/[\s,]+/).filter(Boolean),
      timeout: minutes(values.timeout), idle_timeout: minutes(values.idle_timeout), on_lost: values.on_lost, approval: values.approval ? 1 : 0,
      settings: Object.fromEntries(settingsOf([...SETTINGS, ...SITE, ...MORE], values)),
    };
    const changes = Object.fromEntries(Object.entries(wanted).filter(([each, value]) => canonical(value) !== canonical(project[each] ?? {})));
    if (!Object.keys(changes).length) return "Nothing is changed.";
    if (changes.repository && !await moves(project, changes.repository)) return "Nothing is changed.";
    return save(changes);
  };
  return html`<${Recognised} name=${name} /><${Form} send=${set} verb="Save" stays>
    <fieldset><legend>Sources</legend>
      <${Field} name="repository" label="Repository" required value=${repository} />
      <${Field} name="default_ref" label="Branch" placeholder="the repository's own" value=${project.default_ref === "HEAD" ? "" : project.default_ref} help="What is built if nothing else is asked for, and goes live." />
      <${Field} name="protected" label="Protected refs" placeholder="main release/* tags/v*" value=${(project.protected ?? []).join(" ")} help="Only builds of these go live and are given production's secrets. None: the branch above alone." />
      <${Check} name="approval" label="Another person approves what goes live" checked=${Boolean(project.approval)} />
    </fieldset>
    <fieldset><legend>How it is built</legend>${SETTINGS.map((setting) => html`<${Setting} setting=${setting} now=${settings[setting.name]} />`)}</fieldset>
    <fieldset><legend>Its site</legend>${SITE.map((setting) => html`<${Setting} setting=${setting} now=${settings[setting.name]} />`)}</fieldset>
    <fieldset><legend>Limits</legend>
      <${Field} name="timeout" label="Longest build, in minutes" type="number" min="0.1" step="any" required value=${project.timeout / 60} />
      <${Field} name="idle_timeout" label="Longest silence, in minutes" type="number" min="0.1" step="any" required value=${project.idle_timeout / 60} />
      <${Field} name="on_lost" label="If its builder is gone for good" options=${ON_LOST} value=${project.on_lost} />
    </fieldset>
    <details class="adding"><summary>Caches, network and what else it may say</summary><fieldset><legend class="unseen">More</legend>
      ${MORE.map((setting) => html`<${Setting} setting=${setting} now=${settings[setting.name]} />`)}</fieldset></details>
  <//>`;
}

/** The same text for the same value, in whatever order its members are. */
const canonical = (value) => JSON.stringify(value !== null && typeof value === "object" && !Array.isArray(value) ? Object.entries(value).sort(([one], [other]) => (one < other ? -1 : 1)) : value);

/** Whether another repository is meant, with what becomes void by it. */
function moves({ name, repository, secrets, build_secrets: ofBuilds = [], access }, to) {
  const ends = [...secrets, ...ofBuilds.map((each) => each.name), ...(access?.token ? ["git_token"] : []), ...(access?.public_key ? ["the deploy key"] : [])];
  return ask({
    title: `Build ${name} from another repository?`,
    said: html`<p>Builds are of <code>${to}</code> from now on, in the place of <code>${repository}</code>.</p>
      ${ends.length > 0 && html`<p>What is secret was for the old one, so it may become void and has to be set again: ${ends.join(", ")}.</p>`}`,
    verb: "Change the repository",
    danger: ends.length > 0,
  });
}
