// Who is signed in: what they may do, their browsers and their tokens.

import { html } from "../lib/html.js";
import { projectAt } from "../lib/router.js";
import { identity } from "../lib/shell.js";
import { useStore } from "../lib/store.js";
import { clean } from "../log/terminal.js";
import { Sessions, Tokens } from "../parts/tokens.js";
import { Head } from "../parts/view.js";

/** The view. */
export function Account() {
  const who = useStore(identity);
  const roles = Object.entries(who.roles ?? {});
  const about = who.roles ? roles.length ? html`<p class="soft">${roles.map(([project, role]) => html`<span>${role} of <a href=${projectAt(project)}>${project}</a> </span>`)}</p>`
    : html`<p class="soft">You have no role in a project yet: its maintainers give them.</p>`
    : html`<p class="soft">${who.scopes.join(" ")}${who.projects ? ` of ${who.projects.join(", ")}` : ", of all projects"}${who.expires ? `, until ${new Date(who.expires).toLocaleDateString()}` : ""}</p>`;
  return html`<div class="view">
    <${Head} name=${clean(who.name)} about=${about} />
    <section><h2>Browsers that are signed in</h2><${Sessions} /></section>
    ${who.person && html`<section><h2>Your tokens</h2><${Tokens} path="/identity/tokens" own /></section>`}
  </div>`;
}
