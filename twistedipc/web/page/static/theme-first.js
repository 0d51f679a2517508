// Runs before anything is drawn, so that a page in the dark doesn't begin with a flash: see lib/theme.js.
try {
  const chosen = localStorage.getItem("theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // The browser keeps nothing for this page.
}
