// Filters of a list. They are in the address, so that a link, Back and a reload show the same.

import { html, useEffect, useRef } from "../lib/html.js";
import { replaceAddress, withQuery } from "../lib/router.js";
import { Icon } from "./icon.js";

const PAUSE = 300; // milliseconds without a key until what is typed is searched for

/**
 * @typedef {object} Filter
 * @property {string} name in the address
 * @property {string} label
 * @property {[string, string][]} [options] values with their words; without them it is text
 */

/**
 * @param {{ path: string, query: Record<string, string>, filters: Filter[] }} properties `path`: of the view, as "#/builds"
 */
export function Filters({ path, query, filters }) {
  const form = useRef(null), timer = useRef(0);
  useEffect(() => () => clearTimeout(timer.current), []);
  const take = () => {
    clearTimeout(timer.current);
    const values = {};
    for (const [name, value] of new FormData(form.current)) values[name] = String(value).trim();
    replaceAddress(withQuery(path, values));
  };
  const typed = () => {
    clearTimeout(timer.current);
    timer.current = setTimeout(take, PAUSE);
  };
  const some = filters.some(({ name }) => query[name]);
  const submit = (event) => {
    event.preventDefault();
    take();
  };
  // An address that came otherwise (Back, a link) fills the fields.
  useEffect(() => {
    for (const { name } of filters) {
      const field = form.current.elements[name];
      if (field !== document.activeElement) field.value = query[name] ?? "";
    }
  }, [JSON.stringify(query)]);
  return html`<form class="filters" role="search" ref=${form} onSubmit=${submit}>
    ${filters.map(({ name, label, options }, index) => (options
      ? html`<select name=${name} aria-label=${label} onChange=${take}><option value="">${label}: all</option>${
        options.map(([value, text]) => html`<option value=${value} selected=${query[name] === value}>${text}</option>`)}</select>`
      : html`<span class="filter-text">${index === 0 && html`<${Icon} name="search" />`}<input name=${name} type="search" aria-label=${label} placeholder=${label} autocomplete="off"
          spellcheck=${false} data-search=${index === 0 ? "" : undefined} onInput=${typed} /></span>`))}
    ${some && html`<a class="clear" href=${path} onClick=${() => form.current.reset()}>Clear</a>`}
  </form>`;
}
