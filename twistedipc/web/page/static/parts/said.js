// What a build says of itself, in a list: how far it is, and how many remarks it made.

import { counted, percent } from "../lib/elements.js";
import { html } from "../lib/html.js";
import { clean } from "../log/terminal.js";

const LEVELS = ["error", "warning", "notice"];

/** @param {{ progress: { value: number, label: string } | null, annotations: Record<string, number> }} properties */
export function Briefly({ progress, annotations }) {
  const share = progress && percent(progress.value), label = progress && clean(progress.label);
  return html`<span class="said">
    ${progress && html`<progress max="1" value=${progress.value} aria-label="Progress" aria-valuetext=${`${share} ${label}`.trim()}></progress>
      <span class="share">${share}</span><span class="label" title=${label}>${label}</span>`}
    ${LEVELS.filter((level) => annotations[`${level}s`]).map((level) => html`<span class="remarked" data-level=${level}>${counted(annotations[`${level}s`], level)}</span>`)}
  </span>`;
}
