// All projects: how each stands, and where it is live.

import { api, ofProject, Refused } from "../lib/api.js";
import { useApi, useTopic } from "../lib/data.js";
import { count, counted } from "../lib/elements.js";
import { html, useEffect, useMemo, useRef, useState } from "../lib/html.js";
import { projectAt, withQuery } from "../lib/router.js";
import { kept, RowsAgain } from "../lib/rows.js";
import { may } from "../lib/shell.js";
import { clean } from "../log/terminal.js";
import { Chip, Tag } from "../parts/chip.js";
import { Filters } from "../parts/filters.js";
import { Check, Field, Form } from "../parts/form.js";
import { Icon } from "../parts/icon.js";
import { Table } from "../parts/table.js";
import { Ago } from "../parts/time.js";
import { Answer, Empty, Head } from "../parts/view.js";
import { TONES } from "./builds.js";
import { firstSettings, FirstSettings } from "./settings/builds.js";

const AGAIN = 30_000; // milliseconds between two looks for projects that others added

/** @param {{ address: any }} properties */
export function Projects({ address: { query } }) {
  const answer = useKept(useApi("/overview", { every: AGAIN }));
  const [adds, setAdds] = useState(Boolean(query.new));
  // A build that begins or ends changes a row.
  const changed = useRowsAgain(answer);
  useTopic({ topic: "builds" }, ({ type }) => type === "state", ({ project }) => changed(project));
  const words = (query.text ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  const fits = ({ name, repository, newest }) => words.every((word) => name.toLowerCase().includes(word) || repository.toLowerCase().includes(word))
    && (!query.tone || newest?.tone === query.tone);
  return html`<div class="view">
    <${Head} name="Projects">${may("admin") && !adds && html`<button type="button" onClick=${() => setAdds(true)}><${Icon} name="plus" />Add a project</button>`}<//>
    ${adds && html`<${NewProject} close=${() => setAdds(false)} />`}
    <${Filters} path="#/projects" query=${query} filters=${[{ name: "text", label: "Search name or repository" }, { name: "tone", label: "Newest build", options: TONES }]} />
    <${Answer} answer=${answer} what="the projects">${({ projects }) => {
      const found = projects.filter(fits);
      if (!found.length) {
        return projects.length ? html`<${Empty} title="No project is like this"><a href="#/projects">Show all ${projects.length}</a><//>`
          : html`<${Empty} title="There are no projects yet">${may("admin") ? "Add one by its repository's address." : "You have no role in one: its maintainers give roles."}<//>`;
      }
      return html`<p class="soft" role="status">${found.length === projects.length ? counted(projects.length, "project") : `${count(found.length)} of ${counted(projects.length, "project")}`}</p>
        <${Table} class="projects" name="Projects" items=${found} heads=${["Project", "Newest build", { text: "Commit", wide: true }, "When", "Live at"]} of=${rowOf} />`;
    }}<//>
  </div>`;
}

/**
 * The answer with the rows that it had before, where they are the same.
 * @param {ReturnType<typeof useApi>} answer
 */
function useKept(answer) {
  const before = useRef([]);
  const data = useMemo(() => answer.data && { ...answer.data, projects: kept(before.current, answer.data.projects) }, [answer.data]);
  before.current = data?.projects ?? [];
  return { ...answer, data };
}

/**
 * A function that has the row of a project asked for again.
 * @param {ReturnType<typeof useApi>} answer
 */
function useRowsAgain(answer) {
  const now = useRef(answer);
  now.current = answer;
  const [rows] = useState(() => new RowsAgain(() => now.current, askRow));
  useEffect(() => () => rows.stop(), []);
  return (/** @type {string} */ name) => rows.changed(name);
}

async function askRow(/** @type {string} */ name) {
  try {
    return await api("GET", withQuery("/overview", { project: name }));
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return null;
  }
}

function rowOf({ name, repository, newest, release_url: url, released }) {
  return [
    html`<span data-row><a class="strong" href=${projectAt(name)}>${name}</a></span>`,
    newest ? html`<${Chip} of=${newest} /> <a class="soft-link" href=${`#/builds/${newest.id}`}>#${newest.id}</a>` : html`<span class="soft">none yet</span>`,
    newest ? html`<${Tag} icon="branch">${clean(newest.ref)}<//> ${clean(newest.subject)}` : html`<span class="soft">${repository}</span>`,
    newest ? html`<${Ago} at=${newest.created} />` : "",
    released ? html`<a href=${url} rel="noreferrer" target="_blank">${url.replace(/^https?:\/\/|\/$/g, "")} <${Icon} name="out" /></a>` : html`<span class="soft">not live</span>`,
  ];
}

/** The last part of a repository's address as a project's name. */
const nameFrom = (repository) => (repository.replace(/\/+$/, "").replace(/\.git$/, "").match(/[^/:\\]+$/)?.[0] ?? "")
  .toLowerCase().replace(/[^a-z0-9-]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 63);

function NewProject({ close }) {
  const form = useRef(null);
  const [added, setAdded] = useState("");
  const add = async (values) => {
    const { repository, name, default_ref: ref, now } = values, settings = firstSettings(values);
    // If its first build was refused, the project is there already when the form is sent again.
    if (added !== name) await api("POST", "/projects", { name, repository, ...(ref ? { default_ref: ref } : {}), ...(settings ? { settings } : {}) });
    setAdded(name);
    // What is recognised is seen in its first build.
    location.hash = now ? `#/builds/${(await api("POST", ofProject(name, "builds"), {})).id}` : projectAt(name);
  };
  const propose = ({ target }) => {
    const name = target.form.elements.name;
    if (!name.dataset.typed) name.value = nameFrom(target.value.trim());
  };
  return html`<section class="card pad" aria-label="A new project" ref=${form}>
    <${Form} send=${add} verb="Add the project" done="" close=${close} stays>
      <${Field} name="repository" label="Repository" placeholder="https://git.example/team/shop.git" required onInput=${propose}
        help="Its address for git, over https or ssh. How it is built is recognised from what is in it." />
      <${Field} name="name" label="Name" required pattern="[a-z0-9]([a-z0-9-]*[a-z0-9])?" maxlength="63" onInput=${({ target }) => (target.dataset.typed = "yes")}
        help="Small letters, digits and hyphens: it is part of its releases' address." />
      <${Field} name="default_ref" label="Branch" placeholder="the repository's own" help="What is built and goes live." />
      <details class="adding"><summary>How it is built, if that isn't to be recognised</summary><${FirstSettings} /></details>
      <${Check} name="now" label="Build it at once" checked help="The page of the build shows what was recognised." />
    <//>
  </section>`;
}
