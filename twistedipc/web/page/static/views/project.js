// One project: its builds, its releases, its packages, and how it is set up.

import { api } from "../lib/api.js";
import { useApi, useTopic } from "../lib/data.js";
import { html, useRef, useState } from "../lib/html.js";
import { projectAt } from "../lib/router.js";
import { act, may, trouble } from "../lib/shell.js";
import { clean } from "../log/terminal.js";
import { BuildList } from "../parts/build-list.js";
import { Filters } from "../parts/filters.js";
import { Check, Field, Form } from "../parts/form.js";
import { Icon } from "../parts/icon.js";
import { packagesOf } from "../parts/packages.js";
import { Recognised } from "../parts/recognised.js";
import { Previews, Releases } from "../parts/releases.js";
import { publishesTo } from "../parts/publishes.js";
import { Ago } from "../parts/time.js";
import { Answer, Empty, Head, Made, Tabs } from "../parts/view.js";
import { queryOf, TONES } from "./builds.js";
import { Settings } from "./settings.js";

const TOGETHER = 300;
const PARTS = [["", "Builds"], ["releases", "Releases"], ["packages", "Packages"], ["settings", "Settings"]];

/** @param {{ address: any }} properties */
export function Project({ address }) {
  const { project: name, part } = address;
  const at = `/projects/${encodeURIComponent(name)}`;
  const project = useApi(at), releases = useApi(`${at}/releases?limit=200`), targets = useApi("/targets");
  const timer = useRef(0);
  useTopic({ topic: "builds", project: name }, ({ type, project: whose }) => type === "state" && whose === name, () => {
    clearTimeout(timer.current);
    timer.current = setTimeout(() => Promise.all([releases.reload(), project.reload()]), TOGETHER);
  });
  const [asks, setAsks] = useState(false);
  const listed = releases.data;
  const live = listed?.live.find(({ target }) => target === "static");
  const tabs = PARTS.map(([address_, text]) => ({ text, href: address_ ? projectAt(name, address_) : projectAt(name), count: address_ === "releases" && listed?.held ? "held" : undefined }));
  return html`<div class="view"><${Answer} answer=${project} what=${`the project ${name}`}>${(found) => html`
    <${Head} name=${name} tab=${PARTS.find(([each]) => each === part)?.[1] ?? ""} about=${html`<${Facts} project=${found} targets=${targets.data?.targets ?? []} />`}>
      ${live && html`<a class="button quiet" href=${listed.url} rel="noreferrer" target="_blank">Open the release<${Icon} name="out" /></a>`}
      ${may("build", name) && html`<button type="button" class="quiet" aria-expanded=${asks} onClick=${() => setAsks(!asks)}>Build …</button><${Publish} name=${name} />`}
    <//>
    ${asks && html`<${BuildForm} project=${found} close=${() => setAsks(false)} />`}
    <${Tabs} name=${`Parts of ${name}`} tabs=${tabs} href=${part ? projectAt(name, part) : projectAt(name)} />
    ${part === "releases" ? html`<${Answer} answer=${releases} what="the releases">${() => html`<${Releases} name=${name} listed=${listed} reload=${releases.reload} />
        <${Previews} name=${name} listed=${listed} reload=${releases.reload} />`}<//>`
      : part === "packages" ? html`<${Made} key="packages" make=${() => madePackages(name)} />`
      : part === "settings" ? html`<${Settings} project=${found} section=${address.section ?? ""} reload=${project.reload} put=${project.put} />`
      : html`<${Paused} project=${found} reload=${project.reload} /><${Builds} name=${name} query=${address.query} listed=${listed} />`}
  `}<//></div>`;
}

/** Whether the project's queue is paused, and a button that changes that, for who may. */
function Paused({ project: { name, queue }, reload }) {
  const since = queue?.paused, admin = may("admin", name);
  const change = ({ currentTarget: button }) => act(button, async () => {
    await api("PATCH", `/projects/${encodeURIComponent(name)}`, { queue: { paused: !since } });
    await reload();
  });
  const button = admin && html`<button type="button" class="quiet small" onClick=${change}>${since ? "Resume the queue" : "Pause the queue"}</button>`;
  if (!since) return button ? html`<p class="buttons">${button}</p>` : "";
  return html`<p class="held warn" role="status"><span>No build begins: the queue is paused since <${Ago} at=${since} />.</span> ${button}</p>`;
}

/** What a project is, in a line. */
function Facts({ project, targets }) {
  const { repository, default_ref: ref, head, protected: patterns = [], settings = {} } = project;
  const facts = [["repository", repository], ["builds", ref === "HEAD" && head ? head : ref], ["publishes", publishesTo(project, targets)],
    ...(patterns.length ? [["from", patterns.join(" ")]] : []), ...Object.entries(settings).map(([name, value]) => [name, settingOf(value)])];
  return html`<p class="facts">${facts.map(([name, value]) => html`<span>${name} <b>${clean(value)}</b></span>`)}</p>`;
}

/** A setting of how a project is built, as people write it. */
function settingOf(value) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  return Array.isArray(value) ? value.join(" ") : value || "nothing is run";
}

function Builds({ name, query, listed }) {
  return html`
    ${listed?.held && html`<p class="held warn" role="status"><span>No release goes live by itself: ${listed.held.by} rolled back to release ${listed.held.release}.</span> <a href=${projectAt(name, "releases")}>Releases</a></p>`}
    <${Recognised} name=${name} />
    <${Filters} path=${projectAt(name)} query=${query} filters=${[{ name: "text", label: "Search subject, commit, branch" }, { name: "tone", label: "State", options: TONES },
      { name: "ref", label: "Branch or tag" }, { name: "by", label: "Asked for by" }]} />
    <${BuildList} name=${`Builds of ${name}, newest first`} query=${{ ...queryOf(query), project: name }}>
      <${Empty} title=${Object.keys(queryOf(query)).length ? "No build is like this" : "Nothing has been built yet"}>
        ${Object.keys(queryOf(query)).length ? html`<a href=${projectAt(name)}>Show all builds of ${name}</a>` : html`<code>twistedipc build ${name}</code>, or the button above.`}<//>
    <//>`;
}

const requestBuild = async (name, body) => {
  const build = await api("POST", `/projects/${encodeURIComponent(name)}/builds`, body, { "Idempotency-Key": crypto.getRandomValues(new Uint32Array(4)).join("-") });
  location.hash = `#/builds/${build.id}`;
};

function Publish({ name }) {
  const publish = ({ currentTarget: button }) => act(button, () => requestBuild(name, {}));
  return html`<button type="button" onClick=${publish}>${may("publish", name) ? "Publish" : "Build a preview"}</button>`;
}

/** A build of another branch, tag or commit, or one that publishes nothing. */
function BuildForm({ project: { name, default_ref: ref, environments = [] }, close }) {
  const send = ({ ref: wanted, publish, environment }) => requestBuild(name, {
    ...(wanted ? { ref: wanted } : {}), ...(publish ? {} : { publish: false }), ...(environment ? { environment } : {}),
  });
  return html`<section class="card pad" aria-label="Build"><${Form} send=${send} verb="Build" done="" close=${close} stays>
    <${Field} name="ref" label="Branch, tag or commit" placeholder=${ref} help="A branch that isn't protected gets a preview, and nothing of it goes live." />
    ${environments.length > 0 && html`<${Field} name="environment" label="Environment" options=${[["", "the one of its branch"], ...environments.map((each) => [each.name, each.name])]} />`}
    <${Check} name="publish" label="Publish what is built, where it may" checked />
  <//></section>`;
}

function madePackages(name) {
  const { section, load } = packagesOf(name, act);
  load().catch(trouble);
  return { element: section, stop() {} };
}
