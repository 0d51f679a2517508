// What isn't kept any more, of all projects.

import { html } from "../lib/html.js";
import { Pruning } from "../parts/pruning.js";
import { Head } from "../parts/view.js";

/** The view. */
export function Storage() {
  return html`<div class="view">
    <${Head} name="Storage" about="What is removed by the rules of retention: the platform's are in apiserver.toml, and a project can have its own." />
    <${Pruning} />
  </div>`;
}
