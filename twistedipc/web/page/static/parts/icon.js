// Small pictures, drawn in the colour of the text. A word beside it says what it means: it is hidden from screen readers.

import { html } from "../lib/html.js";

const PATHS = {
  alert: "M8 2.2 14.6 13.6H1.4z M8 6.4v3.2 M8 11.6v.1",
  box: "M8 1.6 14 4.8v6.4L8 14.4 2 11.2V4.8z M2 4.8l6 3.2 6-3.2 M8 8v6.4",
  branch: "M4.5 5.5v5 M11.5 6.5c0 3-7 1.5-7 4 M4.5 2.5a1.5 1.5 0 1 0 .01 0z M11.5 3.5a1.5 1.5 0 1 0 .01 0z M4.5 10.5a1.5 1.5 0 1 0 .01 0z",
  check: "M3 8.6 6.4 12 13 4.6",
  chevron: "M6 3.5 10.5 8 6 12.5",
  clock: "M8 1.8a6.2 6.2 0 1 0 .01 0z M8 4.6V8l2.4 1.6",
  commit: "M8 5.2a2.8 2.8 0 1 0 .01 0z M1.2 8h4 M10.8 8h4",
  copy: "M5.5 5.5h8v8h-8z M10.5 5.5v-3h-8v8h3",
  cross: "M4 4l8 8 M12 4l-8 8",
  dark: "M13.4 9.8A6 6 0 0 1 6.2 2.6a5.9 5.9 0 1 0 7.2 7.2z",
  dot: "M8 4.5a3.5 3.5 0 1 0 .01 0z",
  key: "M10.5 2.2a3.3 3.3 0 1 0 .01 0z M8.2 7.8 2 14 M4 12l1.8 1.8",
  light: "M8 5a3 3 0 1 0 .01 0z M8 1v1.6 M8 13.4V15 M1 8h1.6 M13.4 8H15 M3 3l1.2 1.2 M11.8 11.8 13 13 M3 13l1.2-1.2 M11.8 4.2 13 3",
  out: "M6.5 3.5H3v9.5h9.5V9.5 M9 2.5h4.5V7 M13.2 2.8 7.5 8.5",
  plus: "M8 2.5v11 M2.5 8h11",
  search: "M7 2.2a4.8 4.8 0 1 0 .01 0z M10.6 10.6 14 14",
  stop: "M8 1.8a6.2 6.2 0 1 0 .01 0z M5 8h6",
  system: "M1.8 2.8h12.4v8.4H1.8z M5.5 13.8h5",
  turn: "M13.5 3v3.5H10 M13.2 6.4A5.6 5.6 0 1 0 13.6 9",
};

/** @typedef {keyof typeof PATHS} IconName */

/** @param {{ name: IconName }} properties */
export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 16 16" aria-hidden="true" focusable="false"><path d=${PATHS[name]} /></svg>`;
}
