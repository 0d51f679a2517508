// Times that go on by themselves.

import { html, useEffect, useReducer } from "../lib/html.js";
import { ago, duration } from "../lib/times.js";

/** Draw the component again so often (milliseconds), while it is looked at. */
export function useClock(interval) {
  const [, redraw] = useReducer((/** @type {number} */ count) => count + 1, 0);
  useEffect(() => {
    if (!interval) return undefined;
    const timer = setInterval(() => document.hidden || redraw(undefined), interval);
    return () => clearInterval(timer);
  }, [interval]);
}

/**
 * How long ago something was; the moment itself is in the title.
 * @param {{ at: string }} properties
 */
export function Ago({ at }) {
  useClock(30_000);
  return html`<time datetime=${at} title=${new Date(at).toLocaleString()}>${ago(at)}</time>`;
}

/**
 * How long something took, or has taken until now.
 * @param {{ from: string | null, to: string | null }} properties
 */
export function Took({ from, to }) {
  useClock(from && !to ? 1_000 : 0);
  if (!from) return null;
  const milliseconds = (to ? Date.parse(to) : Date.now()) - Date.parse(from);
  // What goes on is told in whole seconds: tenths would stand still.
  return html`<span class="took">${to ? duration(milliseconds) : duration(Math.floor(milliseconds / 1000) * 1000).replace(/\.0 s$/, " s")}</span>`;
}
