// A table that is one on a wide screen, and a card for each row on a narrow one. Of a long one, the rows come as they are
// scrolled to: a browser takes seconds to lay 500 of them out.

import { count } from "../lib/elements.js";
import { html, useEffect, useRef, useState } from "../lib/html.js";

const PART = 20; // rows that come at a time: 50 of them, with their icons and times, keep a slow machine busy for over 100 ms
const NEAR = "800px"; // below what is seen, where more rows come

/**
 * @typedef {object} Head
 * @property {string} text of the column; "" for one with buttons
 * @property {boolean} [wide] takes what room is left, and is cut off at its end
 * @property {boolean} [right] numbers
 */

/**
 * Rows of cells. `of(item)` gives a row's cells: strings, or elements of `html`; `keyOf(item)` what tells rows apart.
 * @param {{ name: string, heads: (string | Head)[], items: any[], of: (item: any) => any[], keyOf?: (item: any) => any, class?: string }} properties
 */
export function Table({ name, heads, items, of, keyOf = (item) => item.id ?? item.name, class: more = "" }) {
  /** @type {Head[]} */
  const columns = heads.map((head) => (typeof head === "string" ? { text: head } : head));
  const [most, setMost] = useState(PART);
  const end = useRef(/** @type {HTMLElement | null} */ (null));
  const left = Math.max(0, items.length - most);
  const show = () => setMost((/** @type {number} */ before) => before + PART);
  useEffect(() => {
    if (!end.current) return undefined;
    const near = new IntersectionObserver((seen) => seen.some(({ isIntersecting }) => isIntersecting) && show(), { rootMargin: NEAR });
    near.observe(end.current);
    return () => near.disconnect();
  }, [most, left > 0]);
  const kind = (/** @type {Head} */ { wide, right }) => (wide ? "wide" : right ? "tight right" : "tight");
  return html`<table class=${`cards ${more}`} role="table" aria-rowcount=${left ? items.length + 1 : undefined}>
    <caption class="unseen">${name}</caption>
    <thead role="rowgroup"><tr role="row">${columns.map((column) => html`<th role="columnheader" scope="col" class=${kind(column)}>
      ${column.text || html`<span class="unseen">Actions</span>`}</th>`)}</tr></thead>
    <tbody role="rowgroup">${items.slice(0, most).map((item) => html`<tr role="row" key=${keyOf(item)}>${of(item).map((cell, index) =>
      html`<td role="cell" class=${kind(columns[index])} data-head=${columns[index].text}>${cell}</td>`)}</tr>`)}</tbody>
  </table>
  ${left > 0 && html`<p class="more" ref=${end}><button type="button" class="quiet" onClick=${show}>${count(left)} more</button></p>`}`;
}
