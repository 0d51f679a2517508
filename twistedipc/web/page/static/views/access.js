// Who may do what on the platform: its people, and the tokens of all.

import { api } from "../lib/api.js";
import { useApi } from "../lib/data.js";
import { html, useState } from "../lib/html.js";
import { notice } from "../lib/shell.js";
import { clean } from "../log/terminal.js";
import { Chip } from "../parts/chip.js";
import { ask } from "../parts/dialog.js";
import { Field, Form } from "../parts/form.js";
import { Secret } from "../parts/secret.js";
import { Table } from "../parts/table.js";
import { Ago } from "../parts/time.js";
import { Tokens } from "../parts/tokens.js";
import { Answer, Empty, Head, Tabs } from "../parts/view.js";

const TABS = [{ text: "People", href: "#/access" }, { text: "Tokens", href: "#/access/tokens" }];
const TONES = { invited: "waiting", active: "good", disabled: "warning" };

/** @param {{ address: any }} properties */
export function Access({ address: { part } }) {
  const href = part ? `#/access/${part}` : "#/access";
  return html`<div class="view">
    <${Head} name="Access" tab=${part === "tokens" ? "Tokens" : "People"} />
    <${Tabs} name="Parts of access" tabs=${TABS} href=${href} />
    ${part === "tokens" ? html`<${Tokens} path="/tokens" />` : html`<${People} />`}
  </div>`;
}

function People() {
  const answer = useApi("/people", { every: 30_000 });
  const [invited, setInvited] = useState(null);
  const invite = async ({ name, email, role }) => {
    setInvited(await api("POST", "/people", { name, role, ...(email ? { email } : {}) }));
    await answer.reload();
  };
  const again = async (person) => {
    setInvited(await api("POST", `/people/${person.id}/invitations`));
    await answer.reload();
  };
  const change = async (person, body) => {
    await api("PATCH", `/people/${person.id}`, body);
    notice.set(`${clean(person.name)} is changed.`);
    await answer.reload();
  };
  const disable = (person) => ask({
    title: `Disable ${clean(person.name)}?`,
    said: "All of their browsers are signed out and all of their tokens refused, at once. Their name stays with what they did.",
    verb: "Disable",
    danger: true,
    action: () => change(person, { disabled: true }),
  });
  const rowOf = (person) => [
    html`<span class="strong">${clean(person.name)}</span>`, person.email ? clean(person.email) : "", html`<${Chip} of=${{ state: person.state, tone: TONES[person.state] }} />`,
    html`${person.role}${person.by_groups && html` <span class="soft">by groups</span>`}`, person.joined ? html`<${Ago} at=${person.joined} />` : "",
    html`<span class="buttons">${person.state === "invited" && html`<button type="button" class="quiet small" aria-label=${`Invite ${clean(person.name)} again`} onClick=${() => again(person)}>Invite again</button>`}
      ${person.state === "disabled" ? html`<button type="button" class="quiet small" aria-label=${`Enable ${clean(person.name)}`} onClick=${() => change(person, { disabled: false })}>Enable</button>`
        : html`<button type="button" class="quiet small" aria-label=${`Disable ${clean(person.name)}`} onClick=${() => disable(person)}>Disable</button>`}</span>`,
  ];
  return html`
    ${invited && html`<${Secret} what=${html`<b>${clean(invited.person.name)}</b> signs in once at this address, until ${new Date(invited.expires).toLocaleString()}.`} value=${invited.url} />`}
    <${Answer} answer=${answer} what="the people">${({ people }) => (people.length
      ? html`<${Table} name="People" items=${people} of=${rowOf} heads=${["Name", { text: "Address", wide: true }, "State", "Role", "Joined", ""]} />`
      : html`<${Empty} title="Nobody was invited yet">Whoever has a token can sign in with it. People have accounts, roles in projects and tokens of their own.<//>`)}<//>
    <details class="adding"><summary>Invite somebody</summary><${Form} verb="Invite" done="" send=${invite}>
      <${Field} name="name" label="Name" required maxlength="200" />
      <${Field} name="email" label="Address" type="email" help="If it is known to be theirs: commits by it are shown with their name." />
      <${Field} name="role" label="Role" options=${[["member", "member: what projects give them"], ["admin", "admin: everything"]]} />
    <//></details>`;
}
