// How the project learns of what is pushed: the hook of its repository's host, or a look at the repository now and then; which
// of it builds, and what has come.

import { api, ofProject } from "../../lib/api.js";
import { useApi } from "../../lib/data.js";
import { html, useState } from "../../lib/html.js";
import { may } from "../../lib/shell.js";
import { clean } from "../../log/terminal.js";
import { Remove } from "../../parts/dialog.js";
import { Button, Check, Field, Form } from "../../parts/form.js";
import { Secret } from "../../parts/secret.js";
import { Table } from "../../parts/table.js";
import { Ago } from "../../parts/time.js";
import { Answer, Empty } from "../../parts/view.js";

const AGAIN = 15_000;
const OLDER = /** @type {[string, string][]} */ ([
  ["cancel-older", "cancel the builds before"], ["queue", "finish what runs, then build the newest"], ["skip", "build nothing while one runs"],
]);
const words = (text) => text.split(/[\s,]+/).filter(Boolean);

/** @param {import("../settings.js").Section} properties */
export function Pushes({ project: { name }, editable }) {
  const hook = useApi(ofProject(name, "hook")), poll = useApi(ofProject(name, "poll"), { every: AGAIN });
  return html`
    <section aria-label="Hook"><h3>Hook</h3><${Answer} answer=${hook} what="the hook">${(found) => html`<${Hook} name=${name} hook=${found} editable=${editable} reload=${hook.reload} />`}<//></section>
    <section aria-label="Polling"><h3>Polling</h3><${Answer} answer=${poll} what="the polling">${(found) => html`<${Polling} name=${name} poll=${found} editable=${editable} reload=${poll.reload} />`}<//></section>
    ${editable && hook.data && html`<section aria-label="What builds"><h3>What builds</h3><${Which} name=${name} settings=${hook.data.settings} put=${hook.put} /></section>`}
    <section aria-label="What has come"><h3>What has come</h3><${Messages} name=${name} polled=${poll.data?.on} /></section>`;
}

function Hook({ name, hook: { url, secret }, editable, reload }) {
  const [made, setMade] = useState(null);
  const make = async () => {
    setMade(await api("POST", ofProject(name, "hook", "secret")));
    await reload();
  };
  const end = async () => {
    await api("DELETE", ofProject(name, "hook", "secret"));
    setMade(null);
    await reload();
  };
  return html`
    <p class="soft">${secret ? html`The repository's host sends its messages to <code class="long">${url}</code>, signed with the secret that was made <${Ago} at=${secret} />.`
      : "No message is taken: there is no secret with which the repository's host could sign them."}</p>
    ${made && html`<${Secret} what=${html`Set this address at the repository's host: <code class="long">${made.url}</code>, for pushes, tags and pull requests, as JSON, with this secret.`} value=${made.secret} />`}
    ${editable && html`<p class="row"><span class="buttons">${secret
      ? html`<${Remove} verb="Replace" what="the secret" action=${make} said="The secret that there is stops at once: messages are refused until the new one is set at the repository's host." />
        <${Remove} what="the hook" action=${end} said="No message of the repository's host is taken any more: pushes and pull requests build nothing." />`
      : html`<${Button} action=${make}>Make a secret<//>`}</span></p>`}`;
}

function Polling({ name, poll: { on, every, looked, due, reason, refs }, editable, reload }) {
  const path = ofProject(name, "poll");
  const set = async ({ every: minutes }) => {
    await api("PUT", path, { every: Number(minutes) });
    await reload();
  };
  const end = async () => {
    await api("DELETE", path);
    await reload();
  };
  const look = async () => {
    await api("POST", `${path}/look`);
    await reload();
  };
  return html`
    <p class="soft">${on ? html`The repository is looked at ${every === 1 ? "every minute" : `every ${every} minutes`}${looked ? html`, last <${Ago} at=${looked} />, with ${refs === 1 ? "one branch" : `${refs} branches and tags`}` : ""}${
      due ? `, next at ${new Date(due).toLocaleTimeString()}` : ""}.` : "For a repository whose host can't send messages here."}</p>
    ${reason && html`<p class="held warn">${clean(reason)}</p>`}
    ${editable ? html`<div class="row"><${Form} row verb=${on ? "Change" : "Look at it"} send=${set} stays><${Field} name="every" label="Every so many minutes" type="number" min="1" max="1440" required value=${every} /><//>
      ${on && html`<span class="buttons"><${Button} class="quiet small" action=${look}>Look now<//><${Remove} verb="Stop" what="polling" action=${end} said="The repository isn't looked at any more, and what was seen there is forgotten. What was built goes on." /></span>`}</div>`
      : on && may("build", name) && html`<p><${Button} action=${look}>Look now<//></p>`}`;
}

/** Which messages build, and what becomes of the builds before. */
function Which({ name, settings, put }) {
  const set = async (values) => put(await api("PUT", ofProject(name, "hook"), {
    branches: words(values.branches), tags: words(values.tags), pull_requests: Boolean(values.pull_requests), poll_pull_requests: Boolean(values.poll_pull_requests), previews: values.previews, production: values.production,
  }));
  return html`<${Form} send=${set} verb="Save" stays>
    <${Field} name="branches" label="Branches" placeholder="all" value=${(settings.branches ?? []).join(" ")} help="Patterns, separated by spaces: pushes to other branches build nothing." />
    <${Field} name="tags" label="Tags" placeholder="the protected ones" value=${(settings.tags ?? []).join(" ")} help="Patterns of tags that build too." />
    <${Check} name="pull_requests" label="Pull requests build" checked=${settings.pull_requests !== false} />
    <${Check} name="poll_pull_requests" label="Looks at the repository find pull requests too: each waits for a member's leave" checked=${settings.poll_pull_requests} />
    <${Field} name="previews" label="A newer push to a branch with a preview" options=${OLDER} value=${settings.previews ?? "cancel-older"} />
    <${Field} name="production" label="A newer push to what goes live" options=${OLDER} value=${settings.production ?? "queue"} />
  <//>`;
}

/** The last messages. Those that wait for a member's leave can be allowed, all can be done again. */
function Messages({ name, polled }) {
  const path = ofProject(name, "hook", "messages");
  const answer = useApi(path, { every: AGAIN });
  const decide = ({ id }, how) => async () => {
    await api("POST", `${path}/${id}/${how}`);
    await answer.reload();
  };
  const rowOf = (each) => {
    const about = clean(each.about), waits = each.outcome === "waits";
    return [
      each.id,
      html`${/^https?:/.test(each.url) ? html`<a href=${each.url} rel="noreferrer" target="_blank">${about}</a>` : about} ${clean(each.title)} ${each.commit && html`<code>${each.commit.slice(0, 8)}</code>`}`,
      html`<${Ago} at=${each.received} /> <span class="soft">from ${each.host}</span>`,
      html`${each.build ? html`<a href=${`#/builds/${each.build}`}>#${each.build}</a>` : each.outcome}${each.decided_by ? ` by ${clean(each.decided_by)}` : ""}
        ${each.reason && html`<div class="why">${clean(each.reason)}</div>`}`,
      may("build", name) && (waits ? html`<${Button} class="quiet small" action=${decide(each, "allow")} aria-label=${`Build the commit of message ${each.id}`}>Build this commit<//>`
        : !["ping", "other"].includes(each.what) && html`<${Button} class="quiet small" action=${decide(each, "repeat")} aria-label=${`Do message ${each.id} again`}>Do it again<//>`),
    ];
  };
  return html`<${Answer} answer=${answer} what="the messages">${({ messages }) => (messages.length
    ? html`<${Table} name="What has come, newest first" items=${messages} of=${rowOf} heads=${[{ text: "Message", right: true }, { text: "Tells", wide: true }, "Received", "Came of it", ""]} />`
    : html`<${Empty} title=${polled ? "Nothing has moved yet" : "No message has come yet"}>${polled ? "What moves in the repository from now on is listed here." : "The repository's host sends one for each push, once its hook is set there."}<//>`)}<//>`;
}
