// Light, dark, or as the system is set: what somebody has chosen is kept in this browser. theme-first.js has it before
// anything is drawn.

import { Store } from "./store.js";

/** @typedef {"system" | "light" | "dark"} Theme */

/** @type {Store<Theme>} */
export const theme = new Store(/** @type {Theme} */ (document.documentElement.dataset.theme ?? "system"));

/** @param {Theme} chosen */
export function setTheme(chosen) {
  if (chosen === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  try {
    if (chosen === "system") localStorage.removeItem("theme");
    else localStorage.setItem("theme", chosen);
  } catch {
    // The browser keeps nothing for this page: the choice holds until it is closed.
  }
  theme.set(chosen);
}
