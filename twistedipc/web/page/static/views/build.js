// The view of one build: its facts, its steps, and the log of one of its attempts.

import { api } from "../lib/api.js";
import { counted, el, hostsOf, size, timeOf, words } from "../lib/elements.js";
import { favicon } from "../lib/favicon.js";
import { act, begins, may, stream, title, trouble } from "../lib/shell.js";
import { duration } from "../lib/times.js";
import { diagnosed, failureOf } from "../log/failure.js";
import { stepsOf } from "../log/steps.js";
import { clean } from "../log/terminal.js";
import { LogView } from "../log/view.js";
import { approvalOf } from "../parts/approval.js";
import { chipOf } from "../parts/chip.js";
import { publishedBy, stagedOf } from "../parts/packages.js";
import { recognisedFacts } from "../parts/recognised.js";

const WAITING_INTERVAL = 3_000; // milliseconds between two requests for why a build waits
const PUBLISHING_INTERVAL = 1_000; // likewise, for how far its packages are

/** What led to a build that no person asked for, with a link to it at its host. */
function cameFrom({ event, number, branch, title, sender, url, fork }) {
  const what = { push: `push to ${branch}`, tag: `tag ${branch}`, schedule: `schedule ${title}`,
    pull_request: `pull request ${number}${fork ? " from a fork" : ""}` }[event];
  const said = clean(sender ? `${what} by ${sender}` : what);
  return /^https?:/.test(url) ? el("a", { href: url, rel: "noreferrer", target: "_blank", title: clean(title) }, said) : said;
}

/**
 * The view of one build, and of the attempt `wanted` or else its newest, with these lines of its log: `element`, `stop()`,
 * `goes(address)`.
 */
export function buildView(id, wanted, lines) {
  const element = el("div", { class: "view" });
  const head = el("div");
  const steps = stepsOf((index) => log?.toStep(index));
  const failure = failureOf((record) => {
    log?.pick([record, record]);
    log?.go(record);
  });
  const beside = el("div", { class: "beside" }, failure.element, steps.element);
  const frame = el("div", { class: "build" }, beside);
  const packages = publishedBy();
  const took = el("b");
  let build = null, number = null, log = null, again = null, approval = null, stopped = false;
  let outline = null, allFacts = false; // the latter matters on a narrow screen alone

  function drawSteps() {
    const known = new Map(shown().steps.map((step) => [step.index, { ...step, started: Date.parse(step.started), ended: step.ended ? Date.parse(step.ended) : null }]));
    for (const step of outline?.steps.values() ?? []) known.set(step.index, step);
    steps.draw(known.values());
    failure.draw(outline);
  }

  /** The attempt that is shown. */
  const shown = () => build.attempts.find((each) => each.number === number) ?? build.attempts.at(-1);

  function tick() {
    steps.tick();
    drawTook();
  }

  function drawTook() {
    const attempt = shown();
    if (!attempt.started) return;
    const usual = build.usual === null || build.usual === undefined ? "" : `, usually ${duration(build.usual)}`;
    took.textContent = duration((attempt.ended ? Date.parse(attempt.ended) : Date.now()) - Date.parse(attempt.started)) + usual;
  }

  function drawHead() {
    const attempt = shown();
    const newest = number === build.attempt;
    // What its builder is done with has a time of its end, and may still wait, or be published.
    const ended = Boolean(build.ended) && !["waiting", "busy"].includes(build.tone);
    const actions = el("div", { class: "row" }, el("h1", {}, `${build.project} #${build.id}`), chipOf(attempt));
    if (build.release_url) actions.append(el("a", { class: "button", href: build.release_url, rel: "noreferrer", target: "_blank" }, "Open the release"));
    const [preview] = build.previews ?? [];
    if (preview) actions.append(el("a", { class: build.release_url ? "" : "button", href: preview, rel: "noreferrer", target: "_blank" }, build.release_url ? "Open this build" : "Open the preview"));
    if (attempt.archive) {
      actions.append(el("a", { href: `/api/v1/builds/${id}/files?attempt=${attempt.number}`, download: "", title: "The files that it has made, as a tar.gz" }, "Download"));
    }
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
      const pin = el("button", { class: "quiet", type: "button", "aria-pressed": String(Boolean(build.pinned)),
        title: build.pinned ? "All of it is kept: let the rules of retention decide again" : "Keep all of it, whatever the rules of retention say" }, build.pinned ? "Pinned" : "Pin");
      pin.addEventListener("click", () => act(pin, async () => {
        await api(build.pinned ? "DELETE" : "PUT", `/builds/${id}/pin`);
        await load();
      }));
      actions.append(button, pin);
    }
    const fact = (name, ...value) => el("span", {}, `${name} `, el("b", {}, ...value));
    const seldom = (each) => (each.classList.add("seldom"), each);
    const facts = el("div", { class: `facts ${allFacts ? "all" : ""}`, id: "facts" },
      fact("project", el("a", { href: `#/projects/${encodeURIComponent(build.project)}` }, build.project)),
      fact("ref", clean(build.ref)),
      build.commit ? fact("commit", el("code", {}, build.commit.slice(0, 12)), ` ${clean(build.subject)}`) : null,
      build.author_person ? fact("by", clean(build.author_person.name)) : null,
      fact("asked for", timeOf(build.created), ` by ${build.requested_by}`),
      build.origin ? fact("came from", cameFrom(build.origin)) : null,
      build.environment ? fact("environment", clean(build.environment)) : null,
      build.preview && build.publish ? fact("preview", clean(build.preview)) : null,
      attempt.builder ? fact("on", attempt.builder) : null,
      attempt.isolation ? seldom(fact("isolation", attempt.isolation === "none" ? "not isolated" : attempt.isolation)) : null,
      attempt.started ? el("span", {}, attempt.ended ? "took " : "runs for ", took) : null,
      attempt.used?.cpu ? seldom(fact("used", [`${duration(attempt.used.cpu)} of processor time`,
        attempt.used.memory ? `${size(attempt.used.memory)} of memory` : "",
        attempt.used.processes ? counted(attempt.used.processes, "process", "processes") : "",
        attempt.used.disk ? `${size(attempt.used.disk)} on the disk` : ""].filter(Boolean).join(", "))) : null,
      attempt.egress?.contacts?.length || attempt.egress?.more ? seldom(fact("network", clean(hostsOf(attempt.egress)))) : null,
      ...recognisedFacts(attempt).map(seldom),
      ...attempt.published.map((each) => fact(each.target,
        `${each.name}@${each.version} (${words(each.status)})${each.notice ? `: ${each.notice}` : ""}`)));
    if (build.attempts.length > 1) {
      facts.append(el("span", {}, "attempts ", ...build.attempts.flatMap((each) => [
        each.number === number ? el("b", {}, String(each.number)) : el("a", { href: `#/builds/${id}/${each.number}` }, String(each.number)), " "])));
    }
    const waiting = newest ? build.waiting : null;
    const reason = waiting?.text ?? (newest ? build.reason : attempt.reason);
    const all = el("button", { class: "quiet small all-facts", type: "button", "aria-expanded": String(allFacts), "aria-controls": "facts",
      onclick: () => {
        allFacts = !allFacts;
        drawHead();
        head.querySelector(".all-facts").focus();
      } }, allFacts ? "Fewer facts" : "All facts");
    const held = head.contains(document.activeElement) ? document.activeElement.textContent : null;
    // What is the same stays: a click that begins on what is drawn anew meanwhile is lost.
    const before = head.firstElementChild;
    if (before?.isEqualNode(actions)) while (before.nextSibling) before.nextSibling.remove();
    else head.replaceChildren(actions);
    head.append(facts, all);
    // Who is at a button by the keyboard stays there: a build that waits draws this every few seconds.
    if (held !== null) [...head.querySelectorAll("a, button")].find((each) => each.textContent === held)?.focus();
    if (waiting) head.append(el("p", { class: "reason", role: "status" }, `Waiting: ${clean(reason)}`));
    if (waiting?.code === "approval") {
      // What is staged may be approved elsewhere meanwhile.
      if (!approval || approval.key !== (stagedOf(build)?.key ?? 0)) approval = approvalOf(build, () => load());
      head.append(approval.element);
    }
    else if (reason && attempt.tone !== "good") head.append(el("p", { class: "reason" }, clean(reason)));
    if (attempt.release_why) head.append(el("p", { class: "held" }, `Release ${attempt.release} isn't live: ${clean(attempt.release_why)}`));
    drawTook();
    drawSteps();
    favicon(attempt.tone);
  }

  async function load(toNewest = false) {
    const found = await api("GET", `/builds/${id}`);
    if (stopped) return;
    build = found;
    const target = toNewest ? build.attempt : number ?? wanted ?? build.attempt;
    if (!build.attempts.some((each) => each.number === target)) {
      title("Not found");
      element.replaceChildren(el("p", { class: "empty" }, `Build ${id} has no attempt ${target}. `, el("a", { href: `#/builds/${id}` }, `Build ${id}`)));
      return;
    }
    // Somebody has decided: if what was stored is published now, the log goes on.
    const goesOn = approval !== null && build.waiting?.code !== "approval";
    if (target !== number || goesOn) {
      approval = null;
      log?.stop();
      log?.element.remove();
      outline = null;
      number = target;
      // Where a failure is opened: the line that says what is wrong.
      const cause = shown().tone === "bad" ? diagnosed(id, number) : null;
      cause?.then((found) => !stopped && target === number && failure.told(found, outline));
      log = new LogView({ stream, build: id, attempt: number, lines, cause, changed: (known) => {
        outline = known;
        drawSteps();
      } });
      lines = null; // of the first log alone
      log.project = build.project;
      beside.replaceChildren(failure.element, steps.element, log.remarks, log.summary);
      frame.append(log.element);
      log.start();
    }
    log.know(shown());
    title(`${build.tone === "bad" ? "✗ " : build.tone === "good" ? "✓ " : ""}${build.project} #${id} ${words(build.state)}`);
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
  const ticking = setInterval(() => build && number !== null && tick(), 1000);
  title(`#${id}`);
  element.append(head, packages, frame);
  stream.follow(topic);
  load().catch((error) => {
    trouble(error);
    if (error.status !== 404) return;
    title("Not found");
    element.replaceChildren(el("p", { class: "empty" }, "There is no such build, or your token may not see it."));
  });
  return {
    element,
    stop() {
      stopped = true;
      stream.leave(topic);
      clearTimeout(again);
      clearInterval(ticking);
      favicon(null);
      log?.stop();
    },
    goes(address) {
      if (address.view !== "build" || address.id !== id || !log || (address.attempt ?? number) !== number) return false;
      log.show(address.lines);
      return true;
    },
  };
}
