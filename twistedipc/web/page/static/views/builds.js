// The list of builds, kept up to date.

import { api } from "../lib/api.js";
import { el, stateOf, timeOf } from "../lib/elements.js";
import { act, begins, stream, title, trouble } from "../lib/shell.js";
import { duration } from "../lib/times.js";
import { briefly } from "../log/said.js";
import { clean } from "../log/terminal.js";

/** A list of builds, of one project or of all (null), kept up to date: `element`, `head`, `stop()`. */
export function buildsView(project) {
  let stopped = false;
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
    if (stopped) return;
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
    if (!stopped) put(build);
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
  more.addEventListener("click", () => act(more, () => load(`&before=${before}`)));
  const head = el("div", { class: "row" }, el("h1", {}, project ?? "Builds"));
  title(project ?? "Builds");
  stream.follow(topic);
  load().catch(trouble);
  return {
    element: el("div", { class: "view" }, head, table, empty, more),
    head,
    stop() {
      stopped = true;
      stream.leave(topic);
    },
  };
}
