// What each view begins with, and what it shows while it has nothing.

import { html, useLayoutEffect, useRef } from "../lib/html.js";
import { title } from "../lib/shell.js";
import { Icon } from "./icon.js";

/** Whether the next view that is drawn takes the focus: somebody went there. Loading the page doesn't take it. */
export const focus = { wanted: false };

/**
 * The head of a view. Its heading gets the focus when somebody has come to it from another view.
 * @param {{ name: string, heading?: any, tab?: string, about?: any, children?: any }} properties `name`: for the window's title;
 *   `heading`: if it is more than the name; `about`: a line beneath; children: actions
 */
export function Head({ name, heading, tab = "", about, children }) {
  const place = useRef(null);
  useLayoutEffect(() => title(tab ? `${tab} · ${name}` : name), [name, tab]);
  useLayoutEffect(() => {
    if (focus.wanted) place.current.focus();
    focus.wanted = false;
  }, [name, tab]);
  return html`<header class="head"><div><h1 ref=${place} tabindex="-1">${heading ?? name}</h1>${about && html`<div class="about">${about}</div>`}</div>
    <div class="actions">${children}</div></header>`;
}

/**
 * The parts of a view, each with an address of its own.
 * @param {{ name: string, tabs: { text: string, href: string, count?: number }[], href: string }} properties
 */
export function Tabs({ name, tabs, href }) {
  return html`<nav class="tabs" aria-label=${name}>${tabs.map((tab) => html`<a href=${tab.href} aria-current=${tab.href === href ? "page" : undefined}>
    ${tab.text}${tab.count ? html` <span class="count">${tab.count}</span>` : ""}</a>`)}</nav>`;
}

/**
 * There is nothing, and what to do about it.
 * @param {{ title: string, children?: any }} properties
 */
export function Empty({ title: text, children }) {
  return html`<div class="empty"><p class="empty-title">${text}</p>${children && html`<div>${children}</div>`}</div>`;
}

/**
 * What is shown of an answer: while it isn't there, why, and else what `children(data)` makes of it. An old answer stays
 * while a newer one can't be had.
 * @param {{ answer: { data: any, error: any, reload: () => Promise<void> }, what?: string, children: (data: any) => any }} properties
 */
export function Answer({ answer: { data, error, reload }, what = "this", children }) {
  if (data !== null) return children(data);
  if (!error) return html`<p class="loading" role="status">Loading …</p>`;
  if (error.status === 404) return html`<${Empty} title="There is no such thing">It was removed, or you may not see it. <a href="#/">All builds</a><//>`;
  if (error.status === 403) return html`<${Empty} title=${`You may not see ${what}`}>${error.message}<//>`;
  return html`<${Empty} title=${error.message}><button type="button" class="quiet" onClick=${reload}><${Icon} name="turn" /> Try again</button><//>`;
}

/**
 * A view that makes its own elements: `make()` returns its `element` and `stop()`.
 * @param {{ make: () => { element: Element, stop: () => void }, made?: (view: any) => void }} properties
 */
export function Made({ make, made }) {
  const place = useRef(null);
  useLayoutEffect(() => {
    const view = make();
    place.current.append(view.element);
    made?.(view);
    return () => {
      view.stop();
      made?.(null);
    };
  }, []);
  return html`<div class="made" ref=${place}></div>`;
}

/**
 * Elements that something makes, among components.
 * @param {{ of: any[] }} properties
 */
export function Nodes({ of }) {
  const place = useRef(null);
  useLayoutEffect(() => place.current.replaceChildren(...of), [of]);
  return html`<div ref=${place}></div>`;
}
