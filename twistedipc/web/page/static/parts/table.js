// A table that is one on a wide screen, and a card for each row on a narrow one.

import { html } from "../lib/html.js";

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
  const kind = (/** @type {Head} */ { wide, right }) => (wide ? "wide" : right ? "tight right" : "tight");
  return html`<table class=${`cards ${more}`} role="table">
    <caption class="unseen">${name}</caption>
    <thead role="rowgroup"><tr role="row">${columns.map((column) => html`<th role="columnheader" scope="col" class=${kind(column)}>
      ${column.text || html`<span class="unseen">Actions</span>`}</th>`)}</tr></thead>
    <tbody role="rowgroup">${items.map((item) => html`<tr role="row" key=${keyOf(item)}>${of(item).map((cell, index) =>
      html`<td role="cell" class=${kind(columns[index])} data-head=${columns[index].text}>${cell}</td>`)}</tr>`)}</tbody>
  </table>`;
}
