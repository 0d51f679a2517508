// What is around each view: the ways to the others, how the connection is, errors, and who is signed in.

import { html, useEffect, useLayoutEffect, useRef, useState } from "../lib/html.js";
import { useShortcuts, shortcuts } from "../lib/keys.js";
import { here, parse } from "../lib/router.js";
import { complaint, identity, may, notice, stream } from "../lib/shell.js";
import { useStore } from "../lib/store.js";
import { setTheme, theme } from "../lib/theme.js";
import { clean } from "../log/terminal.js";
import { Questions, Sheet } from "../parts/dialog.js";
import { Icon } from "../parts/icon.js";
import { useClock } from "../parts/time.js";
import { focus } from "../parts/view.js";

const PATIENCE = 1_500; // milliseconds that a connection may be lost before a bar says so
const NOTICE = 6_000; // milliseconds that a notice stays

/** The views that everything else is found from: the keys that lead there, what they are for, and who sees them. */
const WAYS = [
  { view: "builds", href: "#/builds", text: "Builds", key: "b", parts: ["build"] },
  { view: "projects", href: "#/projects", text: "Projects", key: "p", parts: ["project", "package", "search"] },
  { view: "queue", href: "#/queue", text: "Queue", key: "q" },
  { view: "builders", href: "#/builders", text: "Builders", key: "u", admin: true },
  { view: "access", href: "#/access", text: "Access", key: "c", admin: true },
  { view: "storage", href: "#/storage", text: "Storage", key: "s", admin: true },
  { view: "audit", href: "#/audit", text: "Audit", key: "a", admin: true },
];

/**
 * The page around a view.
 * @param {{ address: any, signOut: () => Promise<void>, children?: any }} properties
 */
export function Frame({ address, signOut, children }) {
  const who = useStore(identity);
  const [helps, setHelps] = useState(false);
  const main = useRef(null), first = useRef(true);
  useShortcuts([
    { keys: "?", what: "Show the shortcuts", run: () => setHelps(true) },
    { keys: "/", what: "Search, or filter", run: () => /** @type {HTMLElement | null} */ (document.querySelector("[data-search]"))?.focus() },
    { keys: "j", what: "To the next row", run: () => moveTo(1) },
    { keys: "k", what: "To the row before", run: () => moveTo(-1) },
    ...WAYS.filter(({ admin }) => !admin || may("admin")).map(({ key, text, href }) => ({ keys: `g ${key}`, what: text, run: () => location.assign(href) })),
    { keys: "g y", what: "You", run: () => location.assign("#/you") },
  ]);
  // Who came from another view finds the focus at this one's heading, or at its beginning.
  const place = `${address.view} ${address.project ?? ""} ${address.id ?? ""} ${address.part ?? ""} ${address.name ?? ""}`;
  useLayoutEffect(() => {
    if (!first.current && focus.wanted) main.current.focus();
    first.current = false;
    focus.wanted = false;
  }, [place]);
  const skip = (event) => {
    event.preventDefault(); // the address names a view
    main.current.focus();
  };
  return html`
    <a class="skip" href="#main" onClick=${skip}>To the content</a>
    <header class="top">
      <a class="brand" href="#/" aria-label="twistedipc, all builds"><img src="/static/icon.svg" alt="" width="20" height="20" /><span>twistedipc</span></a>
      ${who && html`<nav class="ways" aria-label="Views">${WAYS.filter(({ admin }) => !admin || may("admin")).map(({ view, href, text, parts = [] }) =>
        html`<a href=${href} aria-current=${address.view === view ? "page" : parts.includes(address.view) ? "true" : undefined}>${text}</a>`)}</nav>`}
      <div class="top-end">
        <${Connection} />
        <${ThemeSwitch} />
        <button type="button" class="bare" aria-label="Shortcuts" title="Shortcuts (?)" onClick=${() => setHelps(true)}>?</button>
        ${who && html`<a id="who" href="#/you" aria-current=${address.view === "you" ? "page" : undefined}>${clean(who.name)}</a>
          <button id="sign-out" class="quiet" type="button" onClick=${signOut}>Sign out</button>`}
      </div>
    </header>
    <${Outage} />
    <${Complaint} />
    <main id="main" ref=${main} tabindex="-1">${children}</main>
    <${Notice} />
    <${Questions} />
    ${helps && html`<${Shortcuts} close=${() => setHelps(false)} />`}`;
}

/** Move the focus to the link of another row. */
function moveTo(by) {
  const rows = [...document.querySelectorAll("main [data-row]")];
  const now = rows.findIndex((row) => row.contains(document.activeElement));
  const next = rows[now < 0 ? (by > 0 ? 0 : rows.length - 1) : now + by];
  /** @type {HTMLElement | null | undefined} */ (next?.querySelector("a"))?.focus();
}

function Connection() {
  const { state } = useStore(stream.connection);
  return html`<span id="connection" class=${`connection ${state}`} role="status">${state}</span>`;
}

/** Says that the server is away, since when it is tried again, and tries at once if somebody wants it. */
function Outage() {
  const { state, at, since } = useStore(stream.connection);
  const away = state === "reconnecting";
  useClock(away ? 500 : 0);
  if (!away || Date.now() - since < PATIENCE) return null;
  const seconds = Math.max(1, Math.ceil((at - Date.now()) / 1000));
  return html`<div class="outage"><span role="status">The server can't be reached. What is shown may be old.</span>
    <span>${at ? `Trying again in ${seconds} s` : "Trying …"}</span>
    <button type="button" class="quiet" disabled=${!at} onClick=${() => stream.now()}>Try now</button></div>`;
}

function Complaint() {
  const error = useStore(complaint);
  return html`<p id="trouble" class="trouble" role="alert" hidden=${!error}>${error?.message}</p>`;
}

function Notice() {
  const text = useStore(notice);
  useEffect(() => {
    if (!text) return undefined;
    const timer = setTimeout(() => notice.set(""), NOTICE);
    return () => clearTimeout(timer);
  }, [text]);
  return html`<p class="notice-bar" role="status">${text}</p>`;
}

const THEMES = { system: "as the system is set", light: "light", dark: "dark" };

function ThemeSwitch() {
  const now = useStore(theme);
  const names = /** @type {import("../lib/theme.js").Theme[]} */ (Object.keys(THEMES));
  const next = names[(names.indexOf(now) + 1) % names.length];
  const label = `Colours: ${THEMES[now]}. Change to ${THEMES[next]}`;
  return html`<button type="button" class="bare" aria-label=${label} title=${label} onClick=${() => setTheme(next)}><${Icon} name=${now} /></button>`;
}

function Shortcuts({ close }) {
  const all = useStore(shortcuts);
  return html`<${Sheet} title="Shortcuts" close=${close}><dl class="keys">${all.map(({ keys, what }) =>
    html`<div><dt>${keys.split(" ").map((key) => html`<kbd>${key}</kbd>`)}</dt><dd>${what}</dd></div>`)}</dl><//>`;
}
