// The page: signs in, and shows the view that the address names. Plain modules: nothing is built.
//
//   lib     what all views stand on: requests, the stream, addresses, who is signed in, the library (html.js)
//   log     a build's log and what else its builder says: untrusted text at any rate
//   parts   components that views are put together from: docs/page.md
//   views   a module for each view
//   vendor  htm with Preact, which the build puts there (hatch_build.py)
//
// Strangers' text becomes text nodes, never markup. Everything goes through the public API; states and logs come over
// one WebSocket, which resumes where it broke off.

import { api } from "./lib/api.js";
import { el } from "./lib/elements.js";
import { html, render, useEffect, useLayoutEffect, useRef } from "./lib/html.js";
import { here, parse, replaceAddress } from "./lib/router.js";
import { act, farewell, identity, may, signedOut, stream, title, trouble } from "./lib/shell.js";
import { Store, useStore } from "./lib/store.js";
import { packageView } from "./parts/packages.js";
import { Empty, focus, Head, Made } from "./parts/view.js";
import { Access } from "./views/access.js";
import { Account } from "./views/account.js";
import { Audit } from "./views/audit.js";
import { buildView } from "./views/build.js";
import { Builders } from "./views/builders.js";
import { Builds } from "./views/builds.js";
import { Frame } from "./views/frame.js";
import { Project } from "./views/project.js";
import { Projects } from "./views/projects.js";
import { Queue } from "./views/queue.js";
import { searchView } from "./views/search.js";
import { SignIn } from "./views/sign-in.js";
import { Storage } from "./views/storage.js";
import { visitView } from "./views/visit.js";

/** Views that are components. */
const VIEWS = { builds: Builds, projects: Projects, project: Project, queue: Queue, builders: Builders, access: Access, audit: Audit, storage: Storage, you: Account, unknown: Unknown };

/** Views that make their elements themselves: `element`, `stop()`, and maybe `goes(address)`, whether the view shows that by itself. */
const MADE = {
  build: ({ id, attempt, lines }) => buildView(id, attempt, lines),
  search: ({ project, text, options }) => searchView(project, text, options),
  package({ project, name }) {
    const { elements, stop } = packageView(project, name, { act, mayPublish: may("publish", project), trouble });
    title(name);
    return { element: el("div", { class: "view" }, ...elements), stop };
  },
  visit: ({ project, host, challenge, path }) => visitView(project, host, challenge, path),
};

/**
 * What is done before anybody is known: "asking" who it is, "out" if it is nobody.
 * @type {Store<"asking" | "away" | "out">}
 */
const standing = new Store(/** @type {"asking" | "away" | "out"} */ ("asking"));
let failure = ""; // of a provider's sign-in

function Page() {
  const who = useStore(identity), state = useStore(standing), hash = useStore(here);
  const address = parse(hash);
  const view = !who ? (state === "out" ? html`<${SignIn} signIn=${signIn} failure=${failure} />` : html`<${Beginning} away=${state === "away"} />`)
    : html`<${View} address=${address} />`;
  return html`<${Frame} address=${who ? address : { view: "" }} signOut=${signOut} key=${who ? "in" : "out"}>${view}<//>`;
}

function View({ address }) {
  const made = useRef(null), before = useRef(null);
  const goes = made.current?.goes?.(address);
  const key = goes ? before.current : `${address.view} ${address.project ?? ""} ${address.id ?? ""} ${address.attempt ?? ""} ${address.name ?? ""} ${address.text ?? ""} ${address.options ?? ""}`;
  before.current = key;
  useLayoutEffect(() => trouble(null), [key]);
  if (MADE[address.view]) return html`<${Made} key=${key} make=${() => MADE[address.view](address)} made=${(view) => (made.current = view)} />`;
  return html`<${VIEWS[address.view]} key=${key} address=${address} />`;
}

function Unknown() {
  return html`<div class="view"><${Head} name="Not found" /><${Empty} title="There is no such page">
    The address <code>${location.hash}</code> leads nowhere. <a href="#/">All builds</a>, <a href="#/projects">all projects</a><//></div>`;
}

/** Until it is known who this is; again, if the server isn't there. */
function Beginning({ away }) {
  useEffect(() => {
    if (!away) return undefined;
    const timer = setInterval(begin, 1_000);
    addEventListener("online", begin);
    return () => {
      clearInterval(timer);
      removeEventListener("online", begin);
    };
  }, [away]);
  return away ? html`<${Empty} title="The server can't be reached"><p role="status">Trying again every second.</p><//>` : html`<p class="loading">Loading …</p>`;
}

async function signIn(token) {
  await api("POST", "/sessions", { token });
  await begin();
}

async function signOut() {
  try {
    await api("DELETE", "/sessions");
    signedOut("");
    standing.set("out");
  } catch (error) {
    trouble(error);
  }
}

/** Find out who is signed in, and show them what the address names. */
async function begin() {
  try {
    const found = await api("GET", "/identity");
    trouble(null);
    farewell.set("");
    standing.set("out"); // what it is when nobody is known any more
    stream.start();
    identity.set(found);
  } catch (error) {
    standing.set(error.status === 401 ? "out" : "away");
  }
}

/** Where the browser was when it was sent to the provider: a release that is for the team, say. */
function goBack() {
  const then = sessionStorage.getItem("then");
  sessionStorage.removeItem("then");
  if (then && !location.hash) replaceAddress(then);
}

/** `#sign-in-failed=…`: the provider's sign-in has led to nothing; which, and not why, is said by the address. */
function takeFailure() {
  const match = /^#sign-in-failed=([a-z]+)$/.exec(location.hash);
  if (match) replaceAddress("");
  return match?.[1] ?? "";
}

/** `#token=…` signs in; it is taken out of the address bar and of the history at once. */
function takeToken() {
  const match = /^#token=([A-Za-z0-9_-]+)$/.exec(location.hash);
  if (!match) return false;
  replaceAddress("");
  signIn(match[1]).catch((error) => {
    signedOut(error.message);
    standing.set("out");
  });
  return true;
}

addEventListener("hashchange", () => {
  focus.wanted = true;
  takeToken();
});
if (!takeToken()) {
  failure = takeFailure();
  goBack();
  begin();
}
render(html`<${Page} />`, document.getElementById("page"));
