// A table that is one on a wide screen, and a card for each row on a narrow one. Of a long one, the rows come as they are
// scrolled to: a browser takes seconds to lay 500 of them out.

import { count } from "../lib/elements.js";
import { Component, html, useEffect, useRef, useState } from "../lib/html.js";
import { fewer, PART } from "../lib/rows.js";

const NEAR = "800px"; // below what is seen, where more rows come

/**
 * @typedef {object} Head
 * @property {string} text of the column; "" for one with buttons
 * @property {boolean} [wide] takes what room is left, and is cut off at its end
 * @property {boolean} [right] numbers
 */

/**
 * Rows of cells. `of(item)` gives a row's cells: strings, or elements of `html`; `keyOf(item)` what tells rows apart. Where
 * `of` is one function, and no other each time, a row is drawn again only when its item is another object.
 * @param {{ name: string, heads: (string | Head)[], items: any[], of: (item: any) => any[], keyOf?: (item: any) => any, class?: string }} properties
 */
export function Table({ name, heads, items, of, keyOf = (item) => item.id ?? item.name, class: more = "" }) {
  /** @type {Head[]} */
  const columns = heads.map((head) => (typeof head === "string" ? { text: head } : head));
  const [most, setMost] = useState(PART);
  const end = useRef(/** @type {HTMLElement | null} */ (null));
  if (fewer(most, items.length) < most) setMost(fewer(most, items.length));
  const left = Math.max(0, items.length - most);
  const show = () => setMost((/** @type {number} */ before) => before + PART);
  useEffect(() => {
    if (!end.current) return undefined;
    const near = new IntersectionObserver((seen) => seen.some(({ isIntersecting }) => isIntersecting) && show(), { rootMargin: NEAR });
    near.observe(end.current);
    return () => near.disconnect();
  }, [most, left > 0]);
  return html`<table class=${`cards ${more}`} role="table" aria-rowcount=${left ? items.length + 1 : undefined}>
    <caption class="unseen">${name}</caption>
    <thead role="rowgroup"><tr role="row">${columns.map((column) => html`<th role="columnheader" scope="col" class=${kind(column)}>
      ${column.text || html`<span class="unseen">Actions</span>`}</th>`)}</tr></thead>
    <tbody role="rowgroup">${items.slice(0, most).map((item) => html`<${Row} key=${keyOf(item)} item=${item} of=${of} columns=${columns} />`)}</tbody>
  </table>
  ${left > 0 && html`<p class="more" ref=${end}><button type="button" class="quiet" onClick=${show}>${count(left)} more</button></p>`}`;
}

const kind = (/** @type {Head} */ { wide, right }) => (wide ? "wide" : right ? "tight right" : "tight");

class Row extends Component {
  /** @override */
  shouldComponentUpdate({ item, of }) {
    return item !== this.props.item || of !== this.props.of;
  }

  /** @override */
  render({ item, of, columns }) {
    return html`<tr role="row">${of(item).map((cell, index) =>
      html`<td role="cell" class=${kind(columns[index])} data-head=${columns[index].text}>${cell}</td>`)}</tr>`;
  }
}
