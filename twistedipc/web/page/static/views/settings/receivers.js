// To whom a project's news go: the repository's host, webhooks, chats, mail. Addresses of chats and secrets are sent and never
// shown.

import { api, ofProject } from "../../lib/api.js";
import { useApi } from "../../lib/data.js";
import { words } from "../../lib/elements.js";
import { html, useState } from "../../lib/html.js";
import { clean } from "../../log/terminal.js";
import { Chip } from "../../parts/chip.js";
import { Remove } from "../../parts/dialog.js";
import { Button, Field, Form } from "../../parts/form.js";
import { Secret } from "../../parts/secret.js";
import { Table } from "../../parts/table.js";
import { Ago } from "../../parts/time.js";
import { Answer, Empty } from "../../parts/view.js";

/**
 * kind -> what its address is, and what its secret is; "": it has none
 * @type {Record<string, [string, string]>}
 */
const KINDS = {
  github: ["API's address, if it isn't github.com", "Token"],
  gitlab: ["API's address, if it doesn't follow from the repository's", "Token"],
  gitea: ["API's address, if it doesn't follow from the repository's", "Token"],
  webhook: ["Address", "Secret that signs, or none to have one made"],
  slack: ["Address of the incoming webhook", ""],
  teams: ["Address of the workflow", ""],
  mail: ["Addresses, with commas between", ""],
};
const HOSTS = ["github", "gitlab", "gitea"];
/** A chat's address is a secret: everybody who has it can write there. */
const CHATS = ["slack", "teams"];

/** @param {import("../settings.js").Section} properties */
export function Receivers({ project: { name }, editable }) {
  return html`
    ${editable && html`<section aria-label="Who is told"><${Told} project=${name} /></section>`}
    <section aria-label="Who was told"><h3>Who was told</h3><${Tellings} project=${name} editable=${editable} /></section>`;
}

function Told({ project }) {
  const answer = useApi(ofProject(project, "receivers"));
  const [kind, setKind] = useState("github"), [made, setMade] = useState(null);
  const isHost = HOSTS.includes(kind), [address, token] = KINDS[kind];
  const set = async ({ name, where, secret, events }) => {
    const wanted = (events ?? "").split(/[\s,]+/).filter(Boolean);
    const found = await api("PUT", ofProject(project, "receivers", name), {
      kind, ...(where ? { where } : {}), ...(secret ? { secret } : {}), ...(wanted.length ? { events: wanted } : {}),
    });
    setMade(found.secret ? found : null);
    setKind("github"); // as the form is, which is emptied
    await answer.reload();
    return `${clean(found.name)} is told from now on.`;
  };
  const remove = ({ name }) => async () => {
    await api("DELETE", ofProject(project, "receivers", name));
    await answer.reload();
  };
  const rowOf = (each) => [
    html`<span class="strong">${clean(each.name)}</span>`, each.kind,
    each.void ? html`<span class="warn">void: set it again, the project has another repository now</span>` : clean(each.where) || "its API",
    HOSTS.includes(each.kind) ? "all that concerns it" : each.events.join(" "),
    html`<${Remove} what=${clean(each.name)} action=${remove(each)} said=${`Nothing of ${project} is told to ${clean(each.name)} any more, and its secret is erased.`} />`,
  ];
  return html`
    <${Answer} answer=${answer} what="the receivers">${({ receivers }) => (receivers.length
      ? html`<${Table} name="Receivers" items=${receivers} of=${rowOf} heads=${["Receiver", "Kind", { text: "Where", wide: true }, "Told", ""]} />`
      : html`<${Empty} title="News go to nobody">The repository's host can show each build's state beside its commit; chats, mail and webhooks are told of what failed or went live.<//>`)}<//>
    ${made && html`<${Secret} what=${html`The events for <b>${clean(made.name)}</b> are signed with this secret.`} value=${made.secret} />`}
    <details class="adding"><summary>Set a receiver</summary><${Form} verb="Set the receiver" send=${set}>
      <${Field} name="name" label="Name of the receiver" required placeholder="team-chat" />
      <${Field} name="kind" label="Kind" options=${Object.keys(KINDS)} onChange=${(event) => setKind(event.target.value)} />
      <${Field} name="where" label="Address" help=${`${address}.`} required=${!isHost} type=${CHATS.includes(kind) ? "password" : "text"} />
      ${token && html`<${Field} key="secret" name="secret" label="Secret" help=${`${token}.`} required=${isHost} type="password" />`}
      ${!isHost && html`<${Field} key="events" name="events" label="Events" placeholder="all" help="Some of failed, fixed, live, waiting." />`}
    <//></details>`;
}

/** What was told, newest first; an administrator has it told again. */
function Tellings({ project, editable }) {
  const path = ofProject(project, "tellings");
  const answer = useApi(`${path}?limit=50`, { every: 15_000 });
  const again = ({ id }) => async () => {
    await api("POST", `${path}/${id}/again`);
    await answer.reload();
  };
  const rowOf = (each) => {
    const when = each.ended || each.due;
    return [
      html`<${Chip} of=${each} />`, clean(each.receiver), words(each.part === "event" ? each.event : `${each.part} ${each.phase}`),
      html`<a href=${`#/builds/${each.build}`}>#${each.build}</a>`, html`<span title=${clean(each.reason)}>${clean(each.reason)}</span>`, when ? html`<${Ago} at=${when} />` : "",
      editable && ["told", "given_up"].includes(each.state) && html`<${Button} class="quiet small" action=${again(each)} aria-label=${`Tell ${clean(each.receiver)} of build ${each.build} again`}>Tell again<//>`,
    ];
  };
  return html`<${Answer} answer=${answer} what="what was told">${({ tellings }) => (tellings.length
    ? html`<${Table} name="Who was told, newest first" items=${tellings} of=${rowOf} heads=${["State", "Receiver", "What", "Build", { text: "Why", wide: true }, "When", ""]} />`
    : html`<p class="soft">Nothing was told yet.</p>`)}<//>`;
}
