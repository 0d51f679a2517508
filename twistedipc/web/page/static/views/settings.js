// How a project is set up: a section for each kind of setting, with an address of its own.

import { api } from "../lib/api.js";
import { html } from "../lib/html.js";
import { projectAt } from "../lib/router.js";
import { act, may, trouble } from "../lib/shell.js";
import { el } from "../lib/elements.js";
import { ask } from "../parts/dialog.js";
import { domainsOf } from "../parts/domains.js";
import { environmentOf } from "../parts/environment.js";
import { messagesOf } from "../parts/hooks.js";
import { membersOf } from "../parts/members.js";
import { receiversOf } from "../parts/receivers.js";
import { schedulesOf } from "../parts/schedules.js";
import { targetsForm } from "../parts/targets.js";
import { toldOf } from "../parts/told.js";
import { Made } from "../parts/view.js";

/** A part that makes its own elements, unfolded. */
const made = (make) => ({ project, reload }) => html`<${Made} make=${() => {
  const element = make(project, reload);
  if (element instanceof HTMLDetailsElement) element.open = true;
  return { element, stop() {} };
}} />`;

/** address -> what is set there; `admin`: it is for administrators only. `Part` gets the project, `reload` and `put`. */
const SECTIONS = {
  targets: { text: "Where it publishes", admin: true, Part: made(targetsOf) },
  variables: { text: "Environments, variables and secrets", Part: made(variablesOf) },
  domains: { text: "Domains", Part: made(({ name }) => domainsOf(name, may("admin", name), act)) },
  pushes: { text: "Pushes and pull requests", Part: made(pushesOf) },
  schedules: { text: "Schedules", Part: made(({ name }) => schedulesOf(name, may("admin", name), act)) },
  receivers: { text: "Who is told", admin: true, Part: made(({ name }) => receiversOf(name, act)) },
  told: { text: "Who was told", Part: made(({ name }) => toldOf(name, may("admin", name), act)) },
  members: { text: "Members", Part: made(({ name }) => membersOf(name, may("admin", name), act)) },
  access: { text: "Credentials", Part: Access },
  general: { text: "Caches and removal", admin: true, Part: General },
};

/**
 * @param {{ project: any, section: string, reload: () => Promise<void>, put: (data: any) => void }} properties
 */
export function Settings({ project, section, reload, put }) {
  const { name } = project;
  const sections = Object.entries(SECTIONS).filter(([, { admin }]) => !admin || may("admin", name));
  const [shown, { text, Part }] = sections.find(([each]) => each === section) ?? sections[0];
  return html`<div class="settings">
    <nav class="sections" aria-label="Settings">${sections.map(([each, { text: label }]) =>
      html`<a href=${projectAt(name, "settings", each)} aria-current=${each === shown ? "page" : undefined}>${label}</a>`)}</nav>
    <section class="section" aria-label=${text}><h2>${text}</h2><${Part} key=${shown} project=${project} reload=${reload} put=${put} /></section>
  </div>`;
}

/** Where the project publishes, to be changed. */
function targetsOf(project) {
  const at = `/projects/${encodeURIComponent(project.name)}`;
  const place = el("div");
  api("GET", "/targets").then(({ targets: known }) => place.append(targetsForm(project, known, (button, targets, saved) => act(button, async () => {
    saved((await api("PATCH", at, { targets })).notices);
  }))), trouble);
  return place;
}

/** The environments, the variables and the secrets of the project's builds; an administrator can change them. */
function variablesOf(project) {
  const at = `/projects/${encodeURIComponent(project.name)}`;
  const said = el("p", { class: "soft", role: "status" });
  const place = el("div");
  const draw = (now) => place.replaceChildren(environmentOf(now, may("admin", project.name) ? change : null));
  const changed = async (now) => {
    draw(now ?? await api("GET", at));
    said.textContent = ["Saved.", ...(now?.notices ?? [])].join(" ");
  };
  const secret = (name) => `${at}/secrets/${encodeURIComponent(name)}`;
  const change = {
    variables: (button, variables) => act(button, async () => changed(await api("PATCH", at, { variables }))),
    setSecret: (button, name, body) => act(button, async () => changed(await api("PUT", secret(name), body))),
    removeSecret: (button, name, builds) => act(button, async () => changed(await api("DELETE", `${secret(name)}?builds=${encodeURIComponent(builds)}`))),
    environments: (button, environments) => act(button, async () => changed(await api("PATCH", at, { environments }))),
  };
  draw(project);
  return el("div", {}, place, said);
}

function pushesOf({ name }) {
  const { section, load } = messagesOf(name, may("build", name), act);
  load().catch(trouble);
  return section;
}

/** What a private repository is read with: nothing of it is secret. */
function Access({ project: { access, repository } }) {
  if (!access) return html`<p class="soft">${repository} is read without credentials.</p>`;
  const keys = access.host_keys.map((key) => key.fingerprint).join(", ");
  return html`<dl class="pairs"><dt>Host</dt><dd>${access.host}</dd>
    ${access.public_key && html`<dt>Deploy key</dt><dd><code class="long">${access.public_key}</code></dd>`}
    ${access.token && html`<dt>Token</dt><dd><code>git_token</code> is set</dd>`}
    ${access.host.startsWith("ssh:") && html`<dt>Host key</dt><dd><code class="long">${keys || "pinned at the first contact"}</code></dd>`}</dl>`;
}

/** What builds keep for the next ones; and the end of the project. */
function General({ project: { name } }) {
  const at = `/projects/${encodeURIComponent(name)}`;
  const clear = () => ask({
    title: `Clear the caches of ${name}?`,
    said: "Builds begin from now on without what was kept before: the next one of each kind takes longer.",
    verb: "Clear caches",
    action: () => api("DELETE", `${at}/caches`),
  });
  const remove = () => ask({
    title: `Remove ${name}?`,
    said: "Nothing of it is built or served any more: its builds, its releases and its previews end at once. Published packages stay where they are.",
    verb: "Remove the project",
    danger: true,
    typed: name,
    async action() {
      await api("DELETE", at);
      location.hash = "#/projects";
    },
  });
  return html`<div class="row"><p>What builds keep for the next ones.</p><button type="button" class="quiet" onClick=${clear}>Clear caches</button></div>
    <div class="row danger-zone"><p>The project with all that it has built.</p><button type="button" class="danger" onClick=${remove}>Remove the project</button></div>`;
}
