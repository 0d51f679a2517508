// What waits for a builder or a person, why, and what goes on.

import { api } from "../lib/api.js";
import { useApi, useTopic } from "../lib/data.js";
import { html, useRef } from "../lib/html.js";
import { projectAt } from "../lib/router.js";
import { may } from "../lib/shell.js";
import { clean } from "../log/terminal.js";
import { Chip, Tag } from "../parts/chip.js";
import { ask } from "../parts/dialog.js";
import { Table } from "../parts/table.js";
import { Ago, Took } from "../parts/time.js";
import { Answer, Empty, Head } from "../parts/view.js";
import { NoBuilder } from "./builders.js";

const AGAIN = 5_000; // milliseconds: why a build waits changes without a message
const TOGETHER = 200;

/** The view. */
export function Queue() {
  const answer = useApi("/builds?limit=200&waiting=true&ended=false", { every: AGAIN });
  const timer = useRef(0);
  useTopic({ topic: "builds" }, ({ type }) => type === "state", () => {
    clearTimeout(timer.current);
    timer.current = setTimeout(answer.reload, TOGETHER);
  });
  return html`<div class="view">
    <${Head} name="Queue" />
    <${NoBuilder} />
    <${Answer} answer=${answer} what="the queue">${({ builds }) => {
      const asked = builds.filter(({ waiting }) => waiting?.code === "approval");
      const waits = builds.filter(({ waiting }) => waiting && waiting.code !== "approval").sort((a, b) => (a.waiting.position ?? 0) - (b.waiting.position ?? 0) || a.id - b.id);
      const goesOn = builds.filter(({ waiting }) => !waiting);
      if (!builds.length) return html`<${Empty} title="Nothing waits, and nothing goes on">What is asked for begins at once, as long as a builder has a free slot. <a href="#/builds">All builds</a><//>`;
      return html`
        ${asked.length > 0 && html`<section><h2>For approval <span class="count">${asked.length}</span></h2>
          <${Table} name="What waits for approval" items=${asked} heads=${["Build", "State", { text: "Commit", wide: true }, "Asked for", ""]} of=${(build) => [
            ...named(build), html`<${Tag} icon="branch">${clean(build.ref)}<//> ${clean(build.subject)}`, html`<${Ago} at=${build.created} /> <span class="soft">by ${clean(build.requested_by)}</span>`,
            html`<span class="buttons">${may("publish", build.project) && html`<a class="button small" href=${`#/builds/${build.id}`} aria-label=${`Look at build ${build.id}, and decide`}>Look and decide</a>`}${cancelOf(build, answer.reload)}</span>`]} /></section>`}
        ${waits.length > 0 && html`<section><h2>Waiting <span class="count">${waits.length}</span></h2>${emptyOf(waits, answer.reload)}
          <${Table} name="What waits" items=${waits} heads=${[{ text: "Place", right: true }, "Build", "State", { text: "Why it waits", wide: true }, "Asked for", ""]} of=${(build) => [
            build.waiting.position ?? "", ...named(build), html`<span title=${clean(build.waiting.text)}>${clean(build.waiting.text)}</span>`,
            html`<${Ago} at=${build.created} /> <span class="soft">by ${clean(build.requested_by)}</span>`, cancelOf(build, answer.reload)]} /></section>`}
        ${goesOn.length > 0 && html`<section><h2>Going on <span class="count">${goesOn.length}</span></h2>
          <${Table} name="What goes on" items=${goesOn} heads=${["Build", "State", { text: "Commit", wide: true }, { text: "For", right: true }, ""]} of=${(build) => [
            ...named(build), html`<${Tag} icon="branch">${clean(build.ref)}<//> ${clean(build.subject)}`, html`<${Took} from=${build.started ?? build.created} to=${null} />`,
            cancelOf(build, answer.reload)]} /></section>`}`;
    }}<//>
  </div>`;
}

const named = (build) => [html`<span data-row><a href=${`#/builds/${build.id}`}>#${build.id}</a> <a class="soft-link" href=${projectAt(build.project)}>${build.project}</a></span>`,
  html`<${Chip} of=${build} />`];

/** For each project of which several builds are queued: a button that cancels all of them, for who may. */
function emptyOf(waits, done) {
  const queued = waits.filter(({ waiting }) => waiting.position).map(({ project }) => project);
  const projects = [...new Set(queued)].filter((project) => may("build", project) && queued.filter((each) => each === project).length > 1);
  if (!projects.length) return "";
  const empty = (project) => ask({
    title: `Cancel all that is queued of ${project}?`,
    said: "Also what is queued and not shown here. What has begun goes on.",
    verb: "Cancel them",
    danger: true,
    async action() {
      await api("POST", `/projects/${encodeURIComponent(project)}/queue/cancel`);
      await done();
    },
  });
  return html`<p class="buttons">${projects.map((project) => html`<button type="button" class="quiet small" onClick=${() => empty(project)}>Cancel all of ${project}</button> `)}</p>`;
}

/** A button that cancels a build, for who may. */
function cancelOf({ id, project, subject, cancel_requested: asked }, done) {
  if (!may("build", project)) return "";
  const cancel = () => ask({
    title: `Cancel build ${id}?`,
    said: `What ${project} #${id}${subject ? ` (${clean(subject)})` : ""} has done so far is lost; its log stays. It can be tried again.`,
    verb: "Cancel the build",
    danger: true,
    async action() {
      await api("POST", `/builds/${id}/cancel`);
      await done();
    },
  });
  return html`<button type="button" class="quiet small" disabled=${asked} onClick=${cancel} aria-label=${`Cancel build ${id}`}>${asked ? "Cancelling" : "Cancel"}</button>`;
}
