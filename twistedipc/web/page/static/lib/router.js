// Addresses: what stands behind the "#" of the page's address, as "#/builds?state=failed".

import { Store } from "./store.js";

import { linesOf } from "../log/address.js";

const NUMBER = /^[1-9][0-9]{0,14}$/;

/** The address as it is now, without its "#". */
export const here = new Store(location.hash);
addEventListener("hashchange", () => here.set(location.hash));

/** Put another address in the place of this one, without a step in the history. */
export function replaceAddress(hash) {
  history.replaceState(null, "", hash || location.pathname);
  here.set(location.hash);
}

/** The address of a project's view, or of a part of it. */
export const projectAt = (name, ...parts) => `#/${["projects", name, ...parts].map(encodeURIComponent).join("/")}`;

/** An address with what is asked for, as far as it isn't empty. */
export function withQuery(path, query) {
  const given = new URLSearchParams(Object.entries(query).filter(([, value]) => value));
  return given.size ? `${path}?${given}` : path;
}

/**
 * Read an address: `{ view, query, … }` with what it names, or `{ view: "unknown" }`.
 * @param {string} hash
 * @returns {{ view: string, query: Record<string, string>, [more: string]: any }}
 */
export function parse(hash) {
  const [path, ...asked] = hash.replace(/^#\/?/, "").split("?");
  const query = Object.fromEntries(new URLSearchParams(asked.join("?")));
  let parts;
  try {
    parts = path.split("/").map(decodeURIComponent);
  } catch {
    return { view: "unknown", query }; // a "%" that begins no character
  }
  return { ...named(path, parts), query };
}

/**
 * @param {string} path
 * @param {string[]} parts
 * @returns {{ view: string, [more: string]: any }}
 */
function named(path, [what, first, second, third, fourth, ...more]) {
  if (path === "" || path === "builds") return { view: "builds" };
  if (what === "builds" && NUMBER.test(first) && (second === undefined || NUMBER.test(second)) && fourth === undefined) {
    const lines = third === undefined ? null : linesOf(third);
    if (third === undefined || lines) return { view: "build", id: Number(first), attempt: second ? Number(second) : null, lines };
  }
  if (what === "projects" && first && second === "search" && (third === undefined || third) && !more.length) {
    return { view: "search", project: first, text: third ?? "", options: (fourth ?? "").split(",") };
  }
  if (what === "projects" && first && second === "packages" && third && fourth === undefined) return { view: "package", project: first, name: third };
  if (what === "projects" && first && third === undefined && PROJECT_PARTS.includes(second ?? "")) return { view: "project", project: first, part: second ?? "" };
  if (what === "projects" && first && second === "settings" && third && fourth === undefined) return { view: "project", project: first, part: second, section: third };
  if (what === "visit" && first && fourth !== undefined && !more.length) return { view: "visit", project: first, host: second, challenge: third, path: fourth };
  if (what === "access" && second === undefined && ["", "tokens"].includes(first ?? "")) return { view: "access", part: first ?? "" };
  if (PLAIN.includes(path)) return { view: path };
  return { view: "unknown" };
}

const PROJECT_PARTS = ["", "releases", "packages", "settings"];
const PLAIN = ["projects", "queue", "builders", "audit", "storage", "you"];
