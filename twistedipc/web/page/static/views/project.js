// The view of one project: its builds, its releases, and how it is set up.

import { api } from "../lib/api.js";
import { el, size, stateOf, timeOf } from "../lib/elements.js";
import { act, may, trouble } from "../lib/shell.js";
import { clean } from "../log/terminal.js";
import { domainsOf } from "../parts/domains.js";
import { environmentOf } from "../parts/environment.js";
import { messagesOf } from "../parts/hooks.js";
import { membersOf } from "../parts/members.js";
import { packagesOf } from "../parts/packages.js";
import { previewsOf } from "../parts/previews.js";
import { receiversOf } from "../parts/receivers.js";
import { recognisedFacts } from "../parts/recognised.js";
import { schedulesOf } from "../parts/schedules.js";
import { publishesTo, targetsForm } from "../parts/targets.js";
import { toldOf } from "../parts/told.js";
import { buildsView } from "./builds.js";

/** The view of one project: `again()` shows it again. */
export function projectView(name, again) {
  const { element, head, stop } = buildsView(name);
  let stopped = false;
  showProject(name, element, head, again, () => stopped).catch(trouble);
  return {
    element,
    stop() {
      stopped = true;
      stop();
    },
  };
}

/** Add to the list of a project's builds what else there is about the project. */
async function showProject(name, element, head, again, stopped) {
  const at = `/projects/${encodeURIComponent(name)}`;
  const [project, listed, { targets }] = await Promise.all([api("GET", at), api("GET", `${at}/releases?limit=200`), api("GET", "/targets")]);
  if (stopped()) return;
  if (listed.live.some((release) => release.target === "static")) {
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
  if (may("admin", name)) element.append(targetsOf(at, project, targets), cachesOf(at));
  element.append(variablesOf(at, project), schedulesOf(name, may("admin", name), act), membersOf(name, may("admin", name), act));
  element.append(domainsOf(name, may("admin", name), act));
  if (may("admin", name)) element.append(receiversOf(name, act));
  element.append(toldOf(name, may("admin", name), act));
  if (project.access) element.append(accessOf(project.access));
  const messages = messagesOf(name, may("build", name), act);
  element.append(messages.section);
  messages.load().catch(trouble);
  const packages = packagesOf(name, act);
  element.append(packages.section);
  packages.load().catch(trouble);
  element.append(previewsOf(name, listed, { mayPublish: may("publish", name), editable: may("admin", name), act, changed: again }));
  if (listed.held || listed.releases.length) element.append(el("h2", {}, "Releases"));
  if (listed.held) element.append(heldBack(name, at, listed.held, again));
  if (listed.releases.length) element.append(releasesTable(name, at, listed.releases, again));
  if (listed.disk) element.append(el("p", { class: "facts" }, el("span", {}, "on disk ", el("b", {}, size(listed.disk.size)), ` for ${listed.disk.releases} releases`)));
  const recognised = await lastRecognised(name);
  if (!stopped() && recognised) facts.after(recognised);
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
function heldBack(name, at, held, again) {
  const said = el("p", { class: "held", role: "status" },
    `No release goes live by itself: ${held.by} rolled back to release ${held.release}, `, timeOf(held.since), ". ");
  if (may("publish", name)) {
    const button = el("button", { type: "button" }, "Resume");
    button.addEventListener("click", () => act(button, async () => {
      await api("POST", `${at}/releases/resume`);
      again();
    }));
    said.append(button);
  }
  return said;
}

function releasesTable(name, at, releases, again) {
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
      again();
    }));
    const goesBack = release.state !== "live" && may("publish", name);
    cells.append(el("td", { class: "tight" }, goesBack ? button : null));
    return cells;
  })));
}
