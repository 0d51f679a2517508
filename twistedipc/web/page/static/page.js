// The page: signs in, and shows the view that the address names. Plain modules: nothing is built.
//
//   lib     what all views stand on: requests, the stream, addresses, elements, who is signed in
//   log     a build's log and what else its builder says: untrusted text at any rate
//   parts   pieces that views are put together from
//   views   a module for each view: makes its element, and has a `stop()`
//   vendor  htm with Preact, which the build puts there (hatch_build.py)
//
// Strangers' text becomes text nodes, never markup. Everything goes through the public API; states and logs come over
// one WebSocket, which resumes where it broke off.

import { api } from "./lib/api.js";
import { el } from "./lib/elements.js";
import { parse } from "./lib/router.js";
import { act, may, session, stream, title, trouble } from "./lib/shell.js";
import { packageView } from "./parts/packages.js";
import { accountView } from "./views/account.js";
import { auditView } from "./views/audit.js";
import { buildView } from "./views/build.js";
import { buildsView } from "./views/builds.js";
import { projectView } from "./views/project.js";
import { signInView } from "./views/sign-in.js";
import { visitView } from "./views/visit.js";

const $ = (id) => document.getElementById(id);

let view = null; // what is shown: { element, stop() }

/** Show another view: `make()` makes it, when the one before has stopped. */
function show(make) {
  view?.stop();
  view = make();
  $("main").replaceChildren(view.element);
}

const VIEWS = {
  builds: () => buildsView(null),
  build: ({ id, attempt }) => buildView(id, attempt),
  project: ({ project }) => projectView(project, route),
  package({ project, name }) {
    const { elements, stop } = packageView(project, name, { act, mayPublish: may("publish", project), trouble });
    title(name);
    return { element: el("div", { class: "view" }, ...elements), stop };
  },
  audit() {
    title("Audit");
    return { element: el("div", { class: "view" }, ...auditView(act, trouble)), stop() {} };
  },
  you() {
    title("You");
    return { element: el("div", { class: "view" }, ...accountView(session.identity, act, trouble)), stop() {} };
  },
  visit: ({ project, host, challenge, path }) => visitView(project, host, challenge, path),
  unknown() {
    title("Not found");
    return { element: el("p", { class: "empty" }, "There is no such page. ", el("a", { href: "#/" }, "All builds")), stop() {} };
  },
};

function route() {
  if (!session.identity) return;
  trouble(null);
  const address = parse(location.hash);
  show(() => VIEWS[address.view](address));
  for (const link of $("projects").querySelectorAll("a")) {
    if (link.hash === location.hash) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

async function listProjects() {
  const { projects } = await api("GET", "/projects");
  $("projects").replaceChildren(...projects.map((project) => el("a", { href: `#/projects/${encodeURIComponent(project.name)}` }, project.name)));
}

async function signIn(token) {
  await api("POST", "/sessions", { token });
  await begin();
}

function showSignIn(message, failure) {
  show(() => signInView(signIn, message, failure));
  view.element.querySelector("input").focus();
}

function signedOut(message) {
  session.identity = null;
  stream.stop();
  $("who").textContent = "";
  $("who").hidden = true;
  $("sign-out").hidden = true;
  $("audit").hidden = true;
  $("projects").replaceChildren();
  showSignIn(message);
}

async function begin() {
  session.identity = await api("GET", "/identity");
  $("who").textContent = session.identity.name;
  $("who").hidden = false;
  $("sign-out").hidden = false;
  $("audit").hidden = !may("admin");
  trouble(null);
  stream.start();
  route();
  await listProjects();
}

/** Where the browser was when it was sent to the provider: a release that is for the team, say. */
function goBack() {
  const then = sessionStorage.getItem("then");
  sessionStorage.removeItem("then");
  if (then && !location.hash) history.replaceState(null, "", then);
}

session.refused = () => signedOut();
$("sign-out").addEventListener("click", () => act($("sign-out"), async () => {
  await api("DELETE", "/sessions");
  signedOut();
}));
addEventListener("hashchange", () => {
  if (!takeToken()) route();
});

/** `#sign-in-failed=…`: the provider's sign-in has led to nothing; which, and not why, is said by the address. */
function takeFailure() {
  const match = /^#sign-in-failed=([a-z]+)$/.exec(location.hash);
  if (match) history.replaceState(null, "", location.pathname);
  return match?.[1];
}

/** `#token=…` signs in; it is taken out of the address bar and of the history at once. */
function takeToken() {
  const match = /^#token=([A-Za-z0-9_-]+)$/.exec(location.hash);
  if (!match) return false;
  history.replaceState(null, "", location.pathname);
  signIn(match[1]).catch((error) => signedOut(error.message));
  return true;
}

if (!takeToken()) {
  const failure = takeFailure();
  goBack();
  begin().catch((error) => {
    if (error.status === 401) showSignIn(undefined, failure);
    else {
      trouble(error);
      show(() => ({ element: el("p", { class: "empty" }, "Load the page again once the server is back."), stop() {} }));
    }
  });
}
