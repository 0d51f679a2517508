// The page: lists of builds, kept up to date, and one build with its log live. Plain JavaScript: no framework, no build.
//
// Strangers' text becomes text nodes, never markup. Everything goes through the public API; states and logs come over
// one WebSocket, which resumes where it broke off.

import { api, Refused, Stream } from "./api.js";
import { auditView } from "./audit.js";
import { changesOf } from "./changes.js";
import { domainsOf } from "./domains.js";
import { duration, el, hostsOf, size, stateOf, timeOf, words } from "./elements.js";
import { environmentOf } from "./environment.js";
import { messagesOf } from "./hooks.js";
import { LogView } from "./log.js";
import { packagesOf, packageView, publishedBy, stagedOf } from "./packages.js";
import { accountView, membersOf, providerOf } from "./people.js";
import { previewsOf } from "./previews.js";
import { receiversOf } from "./receivers.js";
import { briefly } from "./said.js";
import { schedulesOf } from "./schedules.js";
import { publishesTo, targetsForm } from "./targets.js";
import { clean } from "./terminal.js";
import { toldOf } from "./told.js";

const $ = (id) => document.getElementById(id);
const WAITING_INTERVAL = 3_000; // milliseconds between two requests for why a build waits
const PUBLISHING_INTERVAL = 1_000; // likewise, for how far its packages are

/** Show an error above the page, until something succeeds. */
function trouble(error) {
  if (error instanceof Refused && error.status === 401 && identity) {
    signedOut();
    return;
  }
  $("trouble").textContent = error ? error.message : "";
  $("trouble").hidden = !error;
}

/** Run the action of a button, which is disabled meanwhile. */
async function act(button, action) {
  button.disabled = true;
  try {
    await action();
    trouble(null);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    trouble(error);
  } finally {
    button.disabled = false;
  }
}

// -- views -----------------------------------------------------------------------------------------------------------

let identity = null; // who is signed in
let view = null; // what is shown: { stop() }
const stream = new Stream((state) => {
  $("connection").textContent = state;
  $("connection").className = `connection ${state}`;
}, trouble);
const SCOPES = ["read", "build", "publish", "admin"]; // each includes those before it
const SCOPE_OF = { reader: "read", developer: "build", publisher: "publish", maintainer: "admin" };
const includes = (one, scope) => SCOPES.indexOf(one) >= SCOPES.indexOf(scope);
/** Whether who is signed in may do this in a project; without one, anywhere. */
const may = (scope, project) => identity.scopes.some((each) => includes(each, scope))
  && (!project || !identity.roles || includes(SCOPE_OF[identity.roles[project]], scope));

function show(title, ...children) {
  document.title = title ? `${title} · twistedipc` : "twistedipc";
  $("main").replaceChildren(...children);
}

function showSignIn(message, failure) {
  const input = el("input", { id: "token", type: "password", autocomplete: "current-password", required: "", spellcheck: "false" });
  const said = el("p", { class: "reason", role: "alert", hidden: !message }, message ?? "");
  const button = el("button", {}, "Sign in");
  const form = el("form", { class: "sign-in" }, el("h1", {}, "Sign in"), el("label", { for: "token" }, "Token, or an invitation's code"), input, button, said,
    el("p", { class: "soft" }, "An administrator invites people with ", el("code", {}, "twistedipc people invite"), "."));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    act(button, async () => {
      try {
        await signIn(input.value.trim());
      } catch (error) {
        said.textContent = error.message;
        said.hidden = false;
        input.select();
      }
    });
  });
  show("Sign in", form);
  input.focus();
  providerOf(failure).then(({ button: way, said: why }) => {
    way?.addEventListener("click", () => sessionStorage.setItem("then", location.hash || "#/"));
    if (way) form.querySelector("h1").after(way);
    if (why) {
      said.textContent = why;
      said.hidden = false;
    }
  }).catch(() => {}); // a token is a way in all the same
}

/** Whether a message says that a topic of builds begins. What happened before it must be asked for. */
const begins = ({ type, topic, project }, wanted) => type === "subscribed" && topic === "builds" && (project ?? null) === wanted;

/** A list of builds, of one project or of all, kept up to date. */
function showBuilds(project) {
  const rows = new Map(); // id -> { build, row, says }
  const body = el("tbody");
  const empty = el("p", { class: "empty", hidden: true });
  const table = el("table", { hidden: true }, el("thead", {}, el("tr", {},
    ...["Build", "Project", "State", "Says", "Commit", "Asked for", "Took"].map((name) => el("th", {}, name)))), body);
  const more = el("button", { class: "quiet more", type: "button", hidden: true }, "Older builds");
  let before = null;
  const query = (extra = "") => `/builds?limit=50${project ? `&project=${encodeURIComponent(project)}` : ""}${extra}`;

  function put(build) {
    const says = el("td", { class: "tight" }, briefly(build));
    const row = el("tr", {},
      el("td", { class: "tight" }, el("a", { href: `#/builds/${build.id}` }, `#${build.id}`)),
      el("td", { class: "tight" }, el("a", { href: `#/projects/${encodeURIComponent(build.project)}` }, build.project)),
      el("td", { class: "tight" }, stateOf(build)),
      says,
      el("td", { class: "wide" }, el("code", {}, build.commit ? build.commit.slice(0, 8) : clean(build.ref)), ` ${clean(build.subject || build.reason)}`),
      el("td", { class: "tight" }, timeOf(build.created), ` by ${build.requested_by}`),
      el("td", { class: "tight" }, build.started && build.ended ? duration(Date.parse(build.ended) - Date.parse(build.started)) : ""));
    const known = rows.get(build.id);
    if (known) known.row.replaceWith(row);
    else {
      const next = [...rows.keys()].filter((id) => id < build.id).sort((a, b) => b - a)[0];
      body.insertBefore(row, next === undefined ? null : rows.get(next).row);
    }
    rows.set(build.id, { build, row, says });
    table.hidden = false;
    empty.hidden = true;
  }

  // What builds say is sent unasked. What came while an answer was awaited may be newer than the answer, unless the
  // answer has an end or another attempt.
  let awaited = 0; // answers
  const meanwhile = new Map(); // id -> what it said last
  const isNewer = (said, build) => said.attempt === build.attempt && !build.ended;

  function heardSaying(message) {
    if (awaited) meanwhile.set(message.build, message);
    const known = rows.get(message.build);
    // The rest of a row isn't replaced, since a link in it may have the focus.
    if (known && isNewer(message, known.build)) known.says.replaceChildren(briefly(message));
  }

  async function ask(path) {
    awaited += 1;
    try {
      const answer = await api("GET", path);
      for (const build of answer.builds ?? [answer]) {
        const said = meanwhile.get(build.id);
        if (said && isNewer(said, build)) Object.assign(build, { progress: said.progress, annotations: said.annotations });
      }
      return answer;
    } finally {
      awaited -= 1;
      if (!awaited) meanwhile.clear();
    }
  }

  async function load(extra) {
    const page = await ask(query(extra));
    if (view !== self) return;
    page.builds.forEach(put);
    if (extra || before === null) {
      before = page.next;
      more.hidden = before === null;
    }
    if (!rows.size) {
      empty.hidden = false;
      empty.textContent = project
        ? "Nothing has been built yet."
        : "Nothing has been built yet. `twistedipc project add NAME REPOSITORY` adds a project, `twistedipc build NAME` builds it.";
    }
    return page;
  }

  // One request for a build that changes often covers all its changes until the answer.
  const looking = new Set();
  async function refresh(id) {
    if (looking.has(id)) return;
    looking.add(id);
    await new Promise((resolve) => setTimeout(resolve, 150));
    looking.delete(id);
    const build = await ask(`/builds/${id}`);
    if (view === self) put(build);
  }

  /** Ask for what happened before the subscription. */
  async function catchUp() {
    const page = await load();
    const found = new Set(page?.builds.map((build) => build.id));
    for (const [id, { build }] of page ? rows : []) {
      if (!found.has(id) && !build.ended) refresh(id).catch(trouble);
    }
  }

  const topic = {
    request: () => (project ? { topic: "builds", project } : { topic: "builds" }),
    concerns: (message) => (message.type === "subscribed" ? begins(message, project) : !project || message.project === project),
    heard: (message) => {
      if (message.type === "state") refresh(message.build).catch(trouble);
      else if (message.type === "said") heardSaying(message);
      else if (message.type === "subscribed") catchUp().catch(trouble);
    },
  };
  const self = { stop: () => stream.leave(topic) };
  view = self;
  more.addEventListener("click", () => act(more, () => load(`&before=${before}`)));
  const head = el("div", { class: "row" }, el("h1", {}, project ?? "Builds"));
  show(project ?? "Builds", head, table, empty, more);
  stream.follow(topic);
  load().catch(trouble);
  if (project) showProject(project, head, self).catch(trouble);
}

/** The head of a project's page: publishing, and its releases. */
async function showProject(name, head, self) {
  const at = `/projects/${encodeURIComponent(name)}`;
  const [project, listed, { targets }] = await Promise.all([api("GET", at), api("GET", `${at}/releases`), api("GET", "/targets")]);
  if (view !== self) return;
  if (listed.releases.some((release) => release.state === "live" && release.target === "static")) {
    head.append(el("a", { href: listed.url, rel: "noreferrer", target: "_blank" }, "Open the release"));
  }
  if (may("build", name)) {
    const button = el("button", { type: "button" }, may("publish", name) ? "Publish" : "Build a preview");
    button.addEventListener("click", () => act(button, async () => {
      const build = await api("POST", `${at}/builds`, {}, { "Idempotency-Key": crypto.getRandomValues(new Uint32Array(4)).join("-") });
      location.hash = `#/builds/${build.id}`;
    }));
    head.append(button);
  }
  const facts = el("p", { class: "facts" },
    el("span", {}, "repository ", el("b", {}, project.repository)), el("span", {}, "builds ", el("b", {}, project.default_ref === "HEAD" && project.head ? project.head : project.default_ref)),
    el("span", {}, "publishes ", el("b", {}, publishesTo(project, targets))),
    project.protected?.length ? el("span", {}, "from ", el("b", {}, project.protected.join(" "))) : null,
    ...Object.entries(project.settings || {}).map(([name, value]) => el("span", {}, `${name} `, el("b", {}, settingOf(value)))));
  head.after(facts);
  if (may("admin", name)) $("main").append(targetsOf(at, project, targets), cachesOf(at));
  $("main").append(variablesOf(at, project), schedulesOf(name, may("admin", name), act), membersOf(name, may("admin", name), act));
  $("main").append(domainsOf(name, may("admin", name), act));
  if (may("admin", name)) $("main").append(receiversOf(name, act));
  $("main").append(toldOf(name, may("admin", name), act));
  if (project.access) $("main").append(accessOf(project.access));
  const messages = messagesOf(name, may("build", name), act);
  $("main").append(messages.section);
  messages.load().catch(trouble);
  const packages = packagesOf(name, act);
  $("main").append(packages.section);
  packages.load().catch(trouble);
  $("main").append(previewsOf(name, listed, { mayPublish: may("publish", name), editable: may("admin", name), act, changed: route }));
  if (listed.held || listed.releases.length) $("main").append(el("h2", {}, "Releases"));
  if (listed.held) $("main").append(heldBack(name, at, listed.held));
  if (listed.releases.length) $("main").append(releasesTable(name, at, listed.releases));
  if (listed.disk) $("main").append(el("p", { class: "facts" }, el("span", {}, "on disk ", el("b", {}, size(listed.disk.size)), ` for ${listed.disk.releases} releases`)));
  const recognised = await lastRecognised(name);
  if (view === self && recognised) facts.after(recognised);
}

/** What led to a build that no person asked for, with a link to it at its host. */
function cameFrom({ event, number, branch, title, sender, url, fork }) {
  const what = { push: `push to ${branch}`, tag: `tag ${branch}`, schedule: `schedule ${title}`,
    pull_request: `pull request ${number}${fork ? " from a fork" : ""}` }[event];
  const said = clean(sender ? `${what} by ${sender}` : what);
  return /^https?:/.test(url) ? el("a", { href: url, rel: "noreferrer", target: "_blank", title: clean(title) }, said) : said;
}

/** What was found out about a project for an attempt; where that stands is in the titles. */
function recognisedFacts(attempt) {
  return (attempt.recognised || []).filter((each) => ["framework", "root", "manager", "node", "output"].includes(each.what))
    .filter((each, at, all) => all.findIndex((other) => other.what === each.what) === at)
    .map((each) => el("span", { title: clean(`${each.file ? `${each.file}${each.line ? `:${each.line}` : ""}: ` : ""}${each.why}`) },
      `${each.what} `, el("b", {}, clean(each.value))));
}

/** The same of the newest of a project's last builds that got so far. */
async function lastRecognised(name) {
  const { builds } = await api("GET", `/builds?project=${encodeURIComponent(name)}&limit=5`);
  for (const { id } of builds) {
    const facts = [...(await api("GET", `/builds/${id}`)).attempts].reverse().map(recognisedFacts).find((each) => each.length);
    if (facts) return el("p", { class: "facts" }, el("span", {}, "recognised in ", el("a", { href: `#/builds/${id}` }, `#${id}`)), ...facts);
  }
  return null;
}

/** A setting of how a project is built, as people write it. */
function settingOf(value) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  return Array.isArray(value) ? value.join(" ") : value || "nothing is run";
}

/** Where the project publishes, to be changed. */
function targetsOf(at, project, known) {
  const form = targetsForm(project, known, (button, targets, saved) => act(button, async () => {
    saved((await api("PATCH", at, { targets })).notices);
  }));
  return el("details", { class: "targets" }, el("summary", {}, "Where it publishes"), form);
}

/** The environments, the variables and the secrets of the project's builds; an administrator can change them. */
function variablesOf(at, project) {
  const said = el("p", { class: "soft", role: "status" });
  const place = el("div");
  const draw = (now) => place.replaceChildren(environmentOf(now, may("admin", project.name) ? change : null));
  const changed = async (now) => {
    draw(now ?? await api("GET", at));
    said.textContent = ["Saved.", ...(now?.notices ?? [])].join(" ");
  };
  const secret = (name) => `${at}/secrets/${encodeURIComponent(name)}`;
  const change = {
    variables: (button, variables) => act(button, async () => changed(await api("PATCH", at, { variables }))),
    setSecret: (button, name, body) => act(button, async () => changed(await api("PUT", secret(name), body))),
    removeSecret: (button, name, builds) => act(button, async () => changed(await api("DELETE", `${secret(name)}?builds=${encodeURIComponent(builds)}`))),
    environments: (button, environments) => act(button, async () => changed(await api("PATCH", at, { environments }))),
  };
  draw(project);
  return el("details", { class: "targets" }, el("summary", {}, "Environments, variables and secrets"), place, said);
}

/** What builds keep for the next ones, to be cleared. */
function cachesOf(at) {
  const said = el("span", { class: "soft", role: "status" });
  const button = el("button", { class: "quiet", type: "button" }, "Clear caches");
  button.addEventListener("click", () => act(button, async () => {
    await api("DELETE", `${at}/caches`);
    said.textContent = "Builds begin from now on without what was kept before.";
  }));
  return el("p", {}, button, " ", said);
}

/** What a private repository is read with: nothing of it is secret. */
function accessOf(access) {
  const keys = access.host_keys.map((key) => key.fingerprint).join(", ");
  return el("details", { class: "facts" },
    el("summary", {}, `Credentials for ${access.host}`),
    access.public_key ? el("p", {}, "deploy key ", el("code", {}, access.public_key)) : null,
    access.token ? el("p", {}, "git_token is set") : null,
    access.host.startsWith("ssh:") ? el("p", {}, "host key ", el("code", {}, keys || "pinned at the first contact")) : null);
}

/** Tells that releases are held after a rollback, and offers to resume them. */
function heldBack(name, at, held) {
  const said = el("p", { class: "held", role: "status" },
    `No release goes live by itself: ${held.by} rolled back to release ${held.release}, `, timeOf(held.since), ". ");
  if (may("publish", name)) {
    const button = el("button", { type: "button" }, "Resume");
    button.addEventListener("click", () => act(button, async () => {
      await api("POST", `${at}/releases/resume`);
      route();
    }));
    said.append(button);
  }
  return said;
}

function releasesTable(name, at, releases) {
  const several = new Set(releases.map(({ target }) => target)).size > 1;
  return el("table", {}, el("tbody", {}, ...releases.map((release) => {
    const cells = el("tr", {},
      el("td", { class: "tight" }, stateOf(release)),
      several ? el("td", { class: "tight" }, release.target) : null,
      el("td", { class: "wide" }, el("code", {}, release.commit.slice(0, 8)), ` ${release.ref}, ${release.files} files`,
        release.why ? el("div", { class: "why" }, clean(release.why)) : null),
      el("td", { class: "tight" }, el("a", { href: `#/builds/${release.build}` }, `#${release.build}`)),
      el("td", { class: "tight" }, timeOf(release.created)));
    const button = el("button", { class: "quiet", type: "button" }, "Make live");
    button.addEventListener("click", () => act(button, async () => {
      await api("POST", `${at}/releases/${release.id}/activate`);
      route();
    }));
    const again = release.state !== "live" && may("publish", name);
    cells.append(el("td", { class: "tight" }, again ? button : null));
    return cells;
  })));
}

/** Offers to approve or refuse what a build has made, with what would change; with a password, if it is staged. */
function approvalOf(build, decided) {
  const { id, project } = build;
  const said = el("div", { class: "held" });
  const staged = stagedOf(build);
  if (staged) said.append(staged.said);
  const decide = (verb) => async () => {
    const otp = staged?.take();
    await api("POST", `/builds/${id}/${verb}`, otp ? { otp } : undefined);
    await decided();
  };
  if (may("publish", project)) {
    const approve = el("button", {}, "Approve");
    const refuse = el("button", { type: "button", class: "quiet" }, "Refuse");
    const form = el("form", {}, staged?.input, approve, refuse);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      act(approve, decide("approve"));
    });
    refuse.addEventListener("click", () => act(refuse, decide("refuse")));
    said.append(form);
  }
  api("GET", `/builds/${id}/changes`).then((found) => {
    said.append(...changesOf(found).filter(Boolean));
  }, trouble);
  return { element: said, key: staged?.key ?? 0 };
}

/** One build: its facts, its steps, and the log of one of its attempts. */
function showBuild(id, wanted) {
  const head = el("div");
  const steps = el("ol", { class: "steps", "aria-label": "Steps" });
  const frame = el("div", { class: "build" }, steps);
  const packages = publishedBy();
  const known = new Map(); // step index -> step
  let build = null, number = null, log = null, again = null, approval = null;

  function drawSteps() {
    steps.replaceChildren(...[...known.values()].sort((a, b) => a.index - b.index).map((step) => {
      const mark = { running: "●", succeeded: "✓" }[step.outcome] ?? "✗";
      const took = step.ended ? duration(step.ended - step.started) : "";
      return el("li", { class: step.outcome }, el("button", { type: "button", title: words(step.outcome), onclick: () => log?.scrollToStep(step.index) },
        el("span", { class: "mark", "aria-hidden": "true" }, mark), el("span", {}, clean(step.name)), el("span", { class: "took" }, took)));
    }));
  }

  function stepSeen(step) {
    known.set(step.index, step);
    drawSteps();
  }

  function drawHead() {
    const attempt = build.attempts.find((each) => each.number === number) ?? build.attempts.at(-1);
    const newest = number === build.attempt;
    // What its builder is done with has a time of its end, and may still wait, or be published.
    const ended = Boolean(build.ended) && !["waiting", "busy"].includes(build.tone);
    const actions = el("div", { class: "row" }, el("h1", {}, `${build.project} #${build.id}`), stateOf(attempt));
    if (build.release_url) actions.append(el("a", { href: build.release_url, rel: "noreferrer", target: "_blank" }, "Open the release"));
    const [preview] = build.previews ?? [];
    if (preview) actions.append(el("a", { href: preview, rel: "noreferrer", target: "_blank" }, build.release_url ? "Open this build" : "Open the preview"));
    if (build.tone === "good" && build.publish) {
      actions.append(el("a", { href: `/api/v1/builds/${id}/provenance`, download: `build-${id}.provenance.json` }, "Provenance"));
    }
    if (may("build", build.project)) {
      const button = el("button", { class: "quiet", type: "button", disabled: !ended && build.cancel_requested },
        ended ? "Try again" : build.cancel_requested ? "Cancelling" : "Cancel");
      button.addEventListener("click", () => act(button, async () => {
        await api("POST", `/builds/${id}/${ended ? "retry" : "cancel"}`);
        await load(ended);
      }));
      actions.append(button);
    }
    const fact = (name, ...value) => el("span", {}, `${name} `, el("b", {}, ...value));
    const facts = el("div", { class: "facts" },
      fact("project", el("a", { href: `#/projects/${encodeURIComponent(build.project)}` }, build.project)),
      fact("ref", clean(build.ref)),
      build.commit ? fact("commit", el("code", {}, build.commit.slice(0, 12)), ` ${clean(build.subject)}`) : null,
      build.author_person ? fact("by", clean(build.author_person.name)) : null,
      fact("asked for", timeOf(build.created), ` by ${build.requested_by}`),
      build.origin ? fact("came from", cameFrom(build.origin)) : null,
      build.environment ? fact("environment", clean(build.environment)) : null,
      build.preview && build.publish ? fact("preview", clean(build.preview)) : null,
      attempt.builder ? fact("on", attempt.builder) : null,
      attempt.isolation ? fact("isolation", attempt.isolation === "none" ? "not isolated" : attempt.isolation) : null,
      attempt.started && attempt.ended ? fact("took", duration(Date.parse(attempt.ended) - Date.parse(attempt.started))) : null,
      attempt.used?.cpu ? fact("used", [`${duration(attempt.used.cpu)} of processor time`,
        attempt.used.memory ? `${size(attempt.used.memory)} of memory` : "",
        attempt.used.processes ? `${attempt.used.processes} processes` : "",
        attempt.used.disk ? `${size(attempt.used.disk)} on the disk` : ""].filter(Boolean).join(", ")) : null,
      attempt.egress?.contacts?.length || attempt.egress?.more ? fact("network", clean(hostsOf(attempt.egress))) : null,
      ...recognisedFacts(attempt),
      ...attempt.published.map((each) => fact(each.target,
        `${each.name}@${each.version} (${words(each.status)})${each.notice ? `: ${each.notice}` : ""}`)));
    if (build.attempts.length > 1) {
      facts.append(el("span", {}, "attempts ", ...build.attempts.flatMap((each) => [
        each.number === number ? el("b", {}, String(each.number)) : el("a", { href: `#/builds/${id}/${each.number}` }, String(each.number)), " "])));
    }
    const waiting = newest ? build.waiting : null;
    const reason = waiting?.text ?? (newest ? build.reason : attempt.reason);
    head.replaceChildren(actions, facts);
    if (waiting) head.append(el("p", { class: "reason", role: "status" }, `Waiting: ${clean(reason)}`));
    if (waiting?.code === "approval") {
      // What is staged may be approved elsewhere meanwhile.
      if (!approval || approval.key !== (stagedOf(build)?.key ?? 0)) approval = approvalOf(build, () => load());
      head.append(approval.element);
    }
    else if (reason && attempt.tone !== "good") head.append(el("p", { class: "reason" }, clean(reason)));
    if (attempt.release_why) head.append(el("p", { class: "held" }, `Release ${attempt.release} isn't live: ${clean(attempt.release_why)}`));
    for (const step of attempt.steps) {
      known.set(step.index, { ...step, started: Date.parse(step.started), ended: step.ended ? Date.parse(step.ended) : null });
    }
    drawSteps();
  }

  async function load(toNewest = false) {
    const found = await api("GET", `/builds/${id}`);
    if (view !== self) return;
    build = found;
    const target = toNewest ? build.attempt : number ?? wanted ?? build.attempt;
    // Somebody has decided: if what was stored is published now, the log goes on.
    const goesOn = approval !== null && build.waiting?.code !== "approval";
    if (target !== number || goesOn) {
      approval = null;
      log?.stop();
      log?.element.remove();
      known.clear();
      number = target;
      log = new LogView(stream, id, number, stepSeen);
      frame.append(log.element);
      log.start();
    }
    document.title = `${build.project} #${id} ${words(build.state)} · twistedipc`;
    drawHead();
    packages.draw(build);
    // The reason to wait changes without a message: another build has ended, say.
    clearTimeout(again);
    const publishes = build.tone === "busy" && build.publications?.length;
    const interval = publishes ? PUBLISHING_INTERVAL : build.waiting ? WAITING_INTERVAL : 0;
    if (interval) again = setTimeout(() => load().catch(trouble), interval);
  }

  const topic = {
    request: () => ({ topic: "builds" }),
    concerns: (message) => (message.type === "state" && message.build === id) || begins(message, null),
    heard: () => load().catch(trouble),
  };
  const self = {
    stop: () => {
      stream.leave(topic);
      clearTimeout(again);
      log?.stop();
    },
  };
  view = self;
  show(`#${id}`, head, packages, frame);
  stream.follow(topic);
  load().catch((error) => {
    trouble(error);
    if (error.status === 404) show("Not found", el("p", { class: "empty" }, "There is no such build, or your token may not see it."));
  });
}

/** A release that is for the team has sent the browser here, where it is known who this is. */
function beginVisit(hash) {
  view = { stop: () => {} };
  const [, project, host, challenge, path] = hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  show("One moment", el("p", { class: "empty" }, `Opening the release of ${project} …`));
  api("POST", `/projects/${encodeURIComponent(project)}/visits`, { host, challenge, path })
    .then(({ url }) => location.replace(url))
    .catch((error) => {
      trouble(error);
      show("Not for you", el("p", { class: "empty" }, "Your token may not see this project, or the way here wasn't valid. Open the release again."));
    });
}

function showAccount() {
  view = { stop: () => {} };
  show("You", ...accountView(identity, act, trouble));
}

function showPackage(project, name) {
  const { elements, stop } = packageView(project, name, { act, mayPublish: may("publish", project), trouble });
  view = { stop };
  show(name, ...elements);
}

function showAudit() {
  view = { stop: () => {} };
  show("Audit", ...auditView(act, trouble));
}

// -- addresses -------------------------------------------------------------------------------------------------------

function route() {
  if (!identity) return;
  view?.stop();
  view = null;
  trouble(null);
  const [what, first, second, third] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  if (what === "builds" && /^[1-9][0-9]{0,14}$/.test(first ?? "")) showBuild(Number(first), second ? Number(second) : null);
  else if (what === "projects" && first && second === "packages" && third) showPackage(first, third);
  else if (what === "projects" && first) showBuilds(first);
  else if (what === "audit") showAudit();
  else if (what === "you") showAccount();
  else if (what === "visit" && first) beginVisit(location.hash);
  else showBuilds(null);
  for (const link of $("projects").children) {
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

function signedOut(message) {
  identity = null;
  view?.stop();
  view = null;
  stream.stop();
  $("who").textContent = "";
  $("who").hidden = true;
  $("sign-out").hidden = true;
  $("audit").hidden = true;
  $("projects").replaceChildren();
  showSignIn(message);
}

async function begin() {
  identity = await api("GET", "/identity");
  $("who").textContent = identity.name;
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
      show("", el("p", { class: "empty" }, "Load the page again once the server is back."));
    }
  });
}
