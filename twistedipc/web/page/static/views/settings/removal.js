// What builds keep for the next ones; and the end of the project.

import { api, ofProject } from "../../lib/api.js";
import { html } from "../../lib/html.js";
import { notice } from "../../lib/shell.js";
import { ask } from "../../parts/dialog.js";

/** @param {import("../settings.js").Section} properties */
export function Removal({ project: { name } }) {
  const clear = () => ask({
    title: `Clear the caches of ${name}?`,
    said: "Builds begin from now on without what was kept before: the next one of each kind takes longer.",
    verb: "Clear caches",
    async action() {
      await api("DELETE", ofProject(name, "caches"));
      notice.set("The caches are cleared.");
    },
  });
  const remove = () => ask({
    title: `Remove ${name}?`,
    said: "Nothing of it is built or served any more: its builds, its releases and its previews end at once, and its secrets are erased. Published packages stay where they are.",
    verb: "Remove the project",
    danger: true,
    typed: name,
    async action() {
      await api("DELETE", ofProject(name));
      location.hash = "#/projects";
    },
  });
  return html`<div class="row"><p>What builds keep for the next ones.</p><button type="button" class="quiet" onClick=${clear}>Clear caches</button></div>
    <div class="row danger-zone"><p>The project with all that it has built.</p><button type="button" class="danger" onClick=${remove}>Remove the project</button></div>`;
}
