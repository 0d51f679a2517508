// The icon of the browser's tab: the page's own, or the state of what is shown.

const COLOURS = { waiting: "#8b95aa", busy: "#2563c9", good: "#1a7f47", bad: "#c02b3c", warning: "#9a6700" };
const MARKS = { waiting: "M9 16h14", busy: "M16 9v8l5 3", good: "M9 17l5 5 10-11", bad: "M10 10l12 12M22 10L10 22", warning: "M16 8v10M16 23v.5" };
const OWN = "/static/icon.svg";

/** Show a state's tone; null: the page's own icon. @param {string | null} tone */
export function favicon(tone) {
  const link = /** @type {HTMLLinkElement} */ (document.querySelector("link[rel=icon]"));
  const colour = tone === null ? undefined : COLOURS[tone];
  const drawing = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><circle cx="16" cy="16" r="16" fill="${colour}"/>`
    + `<path d="${MARKS[tone]}" fill="none" stroke="#fff" stroke-width="4" stroke-linecap="round" stroke-linejoin="round"/></svg>`;
  link.href = colour ? `data:image/svg+xml,${encodeURIComponent(drawing)}` : OWN;
}
