// A list of builds that is kept up to date: by what the stream says, and by asking again what it may have missed.

import { api, Refused } from "../lib/api.js";
import { useTopic } from "../lib/data.js";
import { html, useEffect, useMemo, useReducer, useRef } from "../lib/html.js";
import { projectAt, withQuery } from "../lib/router.js";
import { begins, trouble } from "../lib/shell.js";
import { clean } from "../log/terminal.js";
import { Chip, Tag } from "./chip.js";
import { Briefly } from "./said.js";
import { Ago, Took } from "./time.js";
import { Button } from "./form.js";
import { Answer } from "./view.js";

const HEADS = [["State"], ["Build"], ["Commit", "of-commit"], ["Says"], ["Asked for"], ["Took", "right"]];
const USUAL = ["production", "preview"]; // environments that every project has: the ref says as much
const PAGE = 50;
const TOGETHER = 150; // milliseconds in which several changes of one build are asked for once

/** The rows of one list: what is known of them, and what is asked. No component: it lives as long as its filter. */
class Rows {
  /** @type {Map<number, any>} */
  builds = new Map();
  error = null;
  loaded = false;
  next = null;
  stopped = false;
  #query;
  #changed;
  #looking = new Set();
  // What builds say is sent unasked. What came while an answer was awaited may be newer than the answer, unless the
  // answer has an end or another attempt.
  #awaited = 0; // answers
  #meanwhile = new Map(); // id -> what it said last

  constructor(query, changed) {
    this.#query = query;
    this.#changed = changed;
  }

  get filtered() {
    return Object.keys(this.#query).some((name) => name !== "project");
  }

  get all() {
    return [...this.builds.values()].sort((a, b) => b.id - a.id);
  }

  async #ask(path) {
    this.#awaited += 1;
    try {
      const answer = await api("GET", path);
      for (const build of answer.builds ?? [answer]) {
        const said = this.#meanwhile.get(build.id);
        if (said && isNewer(said, build)) Object.assign(build, { progress: said.progress, annotations: said.annotations });
      }
      return answer;
    } finally {
      this.#awaited -= 1;
      if (!this.#awaited) this.#meanwhile.clear();
    }
  }

  /** Ask for a page: the newest, or the one before `before`. */
  async load(before = null) {
    let page;
    try {
      page = await this.#ask(withQuery("/builds", { limit: PAGE, ...this.#query, before: before === null ? "" : String(before) }));
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (error.status === 401) trouble(error);
      this.error = error;
      this.#changed();
      return;
    }
    if (this.stopped) return;
    // Of a list that is filtered, what isn't in the newest page any more may fit no longer.
    if (before === null && this.filtered) this.builds.clear();
    for (const build of page.builds) this.builds.set(build.id, build);
    if (before !== null || !this.loaded || this.filtered) this.next = page.next;
    this.error = null;
    this.loaded = true;
    const found = new Set(page.builds.map((build) => build.id));
    if (before === null) for (const { id, ended } of this.builds.values()) if (!found.has(id) && !ended) this.refresh(id);
    this.#changed();
  }

  /** Ask for a build again: once for all that changes meanwhile. */
  async refresh(id) {
    const what = this.filtered ? "all" : id;
    if (this.#looking.has(what)) return;
    this.#looking.add(what);
    await new Promise((resolve) => setTimeout(resolve, TOGETHER));
    this.#looking.delete(what);
    if (this.stopped) return;
    if (this.filtered) {
      await this.load();
      return;
    }
    try {
      const build = await this.#ask(`/builds/${id}`);
      this.builds.set(id, build);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (error.status === 401) trouble(error);
      if (error.status === 404) this.builds.delete(id);
    }
    if (!this.stopped) this.#changed();
  }

  /** Take what a build said. */
  heard(message) {
    if (this.#awaited) this.#meanwhile.set(message.build, message);
    const known = this.builds.get(message.build);
    if (!known || !isNewer(message, known)) return;
    this.builds.set(message.build, { ...known, progress: message.progress, annotations: message.annotations });
    this.#changed();
  }
}

const isNewer = (said, build) => said.attempt === build.attempt && !build.ended;

/**
 * The list. `query`: what the API filters by; `children`: what is shown in its place while there is nothing.
 * @param {{ query: Record<string, string>, name: string, children?: any }} properties
 */
export function BuildList({ query, name, children }) {
  const [, redraw] = useReducer((/** @type {number} */ count) => count + 1, 0);
  const wanted = JSON.stringify(query);
  const rows = useMemo(() => new Rows(JSON.parse(wanted), () => redraw(undefined)), [wanted]);
  const again = useRef(0);
  useEffect(() => {
    rows.load();
    return () => {
      rows.stopped = true;
      clearTimeout(again.current);
    };
  }, [rows]);
  // An answer that didn't come is asked for again, also when the stream is well.
  useEffect(() => {
    if (rows.error && rows.error.status !== 403) again.current = setTimeout(() => rows.load(), 1_000);
  }, [rows.error]);
  const { project } = query;
  useTopic(project ? { topic: "builds", project } : { topic: "builds" },
    (message) => (message.type === "subscribed" ? begins(message, project ?? null) : !project || message.project === project),
    (message) => {
      if (message.type === "state") rows.refresh(message.build);
      else if (message.type === "said") rows.heard(message);
      else if (message.type === "subscribed") rows.load();
    });
  const all = rows.all;
  const answer = { data: rows.loaded ? all : null, error: rows.error, reload: () => rows.load() };
  return html`<${Answer} answer=${answer} what="these builds">${() => (all.length ? html`
    <table class="builds" role="table">
      <caption class="unseen">${name}</caption>
      <thead role="rowgroup"><tr role="row">${HEADS.map(([text, kind]) => html`<th role="columnheader" scope="col" class=${kind}>${text}</th>`)}</tr></thead>
      <tbody role="rowgroup">${all.map((build) => html`<${Row} key=${build.id} build=${build} project=${project} />`)}</tbody>
    </table>
    ${rows.next !== null && html`<p class="more"><${Button} action=${() => rows.load(rows.next)}>Older builds<//></p>`}` : children)}<//>`;
}

function Row({ build, project }) {
  const { id, ref, commit, environment, origin } = build;
  const about = clean(build.subject || build.reason || origin?.title || "");
  return html`<tr role="row" data-row>
    <td role="cell" class="of-state"><${Chip} of=${build} /></td>
    <td role="cell" class="of-build"><a href=${`#/builds/${id}`}>#${id}</a>${!project && html` <a class="soft-link" href=${projectAt(build.project)}>${build.project}</a>`}</td>
    <td role="cell" class="of-commit"><span><${Tag} icon="branch" title=${clean(ref)}>${clean(ref)}<//>${environment && !USUAL.includes(environment) && html`<${Tag}>${clean(environment)}<//>`}
      ${commit && html`<code class="soft">${commit.slice(0, 8)}</code>`}<span class="subject" title=${about}>${about}</span></span></td>
    <td role="cell" class="of-says"><${Briefly} progress=${build.progress} annotations=${build.annotations} /></td>
    <td role="cell" class="of-time"><${Ago} at=${build.created} /> <span class="soft">by ${clean(build.requested_by)}</span></td>
    <td role="cell" class="of-took right"><${Took} from=${build.started} to=${build.ended} /></td>
  </tr>`;
}
