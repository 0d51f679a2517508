// The list of all builds.

import { html } from "../lib/html.js";
import { useApi } from "../lib/data.js";
import { may } from "../lib/shell.js";
import { BuildList } from "../parts/build-list.js";
import { Filters } from "../parts/filters.js";
import { Empty, Head } from "../parts/view.js";

/** Tones, which are what the API sums states up as, in words. */
export const TONES = /** @type {[string, string][]} */ ([
  ["busy", "Going on"], ["waiting", "Waiting"], ["good", "Well"], ["bad", "Failed"], ["warning", "Cancelled or away"],
]);
const NAMES = ["text", "tone", "project", "ref", "by"];

/** The API's query for what stands in the address. */
export const queryOf = (query) => Object.fromEntries(NAMES.filter((name) => query[name]).map((name) => [name, query[name]]));

/** @param {{ address: any }} properties */
export function Builds({ address: { query } }) {
  const { data } = useApi("/overview");
  const projects = (data?.projects ?? []).map(({ name }) => [name, name]);
  const asked = queryOf(query);
  return html`<div class="view">
    <${Head} name="Builds" />
    <${Filters} path="#/builds" query=${query} filters=${[
      { name: "text", label: "Search subject, commit, branch" },
      { name: "tone", label: "State", options: TONES },
      { name: "project", label: "Project", options: projects },
      { name: "ref", label: "Branch or tag" },
      { name: "by", label: "Asked for by" },
    ]} />
    <${BuildList} name="Builds, newest first" query=${asked}>
      ${Object.keys(asked).length ? html`<${Empty} title="No build is like this">Change the filters, or <a href="#/builds">show all builds</a>.<//>`
        : html`<${Empty} title="Nothing has been built yet">${data && !data.projects.length
          ? may("admin") ? html`<a class="button" href="#/projects?new=yes">Add a project</a><p class="soft">or <code>twistedipc project add NAME REPOSITORY</code></p>` : "You see no project: ask its maintainers for a role."
          : html`Open a <a href="#/projects">project</a> and build it, or <code>twistedipc build NAME</code>.`}<//>`}
    <//>
  </div>`;
}
