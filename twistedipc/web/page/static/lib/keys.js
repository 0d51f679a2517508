// Shortcuts: one or two keys after one another. The sheet that "?" opens lists those that hold now.

import { useEffect } from "./html.js";
import { Store } from "./store.js";

const PATIENCE = 1_200; // milliseconds between two keys of one shortcut

/** @typedef {{ keys: string, what: string, run: (event: KeyboardEvent) => void }} Shortcut */

/** @type {Store<Shortcut[]>} */
export const shortcuts = new Store([]);
let before = "";
let at = 0;

/**
 * Add shortcuts until the function that is returned is called. `keys`: "?", or "g b" for one key after the other.
 * @param {Shortcut[]} added
 */
export function addShortcuts(added) {
  shortcuts.set([...shortcuts.value, ...added]);
  return () => shortcuts.set(shortcuts.value.filter((each) => !added.includes(each)));
}

/**
 * Shortcuts while a component is shown.
 * @param {Shortcut[]} added
 */
export function useShortcuts(added) {
  useEffect(() => addShortcuts(added), []);
}

/** Whether what is typed is text for this element. */
const takesText = (element) => element instanceof HTMLElement
  && (element.isContentEditable || element.matches("input:not([type=checkbox], [type=radio], [type=button]), textarea, select"));

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || takesText(event.target)) return;
  if (document.querySelector("dialog[open]")) return;
  const both = before && event.timeStamp - at < PATIENCE ? `${before} ${event.key}` : "";
  // The newest first: a view's shortcut goes before the page's.
  const all = [...shortcuts.value].reverse();
  const found = all.find(({ keys }) => keys === both) ?? all.find(({ keys }) => keys === event.key);
  before = found ? "" : event.key;
  at = event.timeStamp;
  if (!found) return;
  event.preventDefault();
  found.run(event);
});
