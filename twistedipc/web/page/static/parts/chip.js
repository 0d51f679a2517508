// A state as an icon and a word: never by its colour alone.

import { el, words } from "../lib/elements.js";
import { html, render } from "../lib/html.js";
import { Icon } from "./icon.js";

/** @type {Record<string, import("./icon.js").IconName>} */
const ICONS = { good: "check", bad: "cross", warning: "alert", busy: "dot", waiting: "clock" };

/**
 * The state of something that the API shows: its `tone` says how it is meant.
 * @param {{ of: { state: string, tone: string } }} properties
 */
export function Chip({ of: { state, tone } }) {
  return html`<span class=${`state chip ${tone}`}><${Icon} name=${ICONS[tone] ?? "dot"} />${words(state)}</span>`;
}

/** The same as an element, for views that are made by hand. @param {{ state: string, tone: string }} of */
export function chipOf(of) {
  const place = el("span");
  render(html`<${Chip} of=${of} />`, place);
  return place.firstElementChild;
}

/**
 * A fact beside something: a branch, an environment, a scope.
 * @param {{ icon?: import("./icon.js").IconName, children?: any, title?: string }} properties
 */
export function Tag({ icon, children, title }) {
  return html`<span class="tag-chip" title=${title}>${icon && html`<${Icon} name=${icon} />`}<span>${children}</span></span>`;
}
