// Tokens: which there are, a new one, and the end of one. Of a person's own, or of all.

import { api } from "../lib/api.js";
import { useApi } from "../lib/data.js";
import { html, useState } from "../lib/html.js";
import { may, notice } from "../lib/shell.js";
import { clean } from "../log/terminal.js";
import { Tag } from "./chip.js";
import { ask } from "./dialog.js";
import { Check, Field, Form } from "./form.js";
import { Secret } from "./secret.js";
import { Table } from "./table.js";
import { Ago } from "./time.js";
import { Answer, Empty } from "./view.js";

const DAY = 86_400;
const SCOPES = /** @type {[string, string][]} */ ([
  ["read", "read: look at everything"], ["build", "build: ask for builds and cancel them"],
  ["publish", "publish: let them go live"], ["admin", "admin: change everything"],
]);
const LIFETIMES = /** @type {[string, string][]} */ ([[String(30 * DAY), "30 days"], [String(90 * DAY), "90 days"], [String(365 * DAY), "a year"], ["", "never"]]);

/**
 * @param {{ path: string, own?: boolean }} properties `path`: of the API; `own`: they are the caller's, and none is a program's
 */
export function Tokens({ path, own = false }) {
  const answer = useApi(path, { every: 30_000 });
  const [made, setMade] = useState(null);
  const [ended, setEnded] = useState(false);
  const create = async ({ name, scope, projects, expires, service }) => {
    setMade(await api("POST", path, {
      name, scopes: [scope], expires_in: expires ? Number(expires) : null,
      ...(projects ? { projects: projects.split(/[\s,]+/).filter(Boolean) } : {}), ...(service ? { service: true } : {}),
    }));
    await answer.reload();
  };
  const revoke = (token) => ask({
    title: `Revoke ${clean(token.name)}?`,
    said: `Whoever has the token ${clean(token.name)} is refused from now on, and its browsers are signed out.${token.last_used ? ` It was used last ${new Date(token.last_used).toLocaleString()}.` : " It was never used."}`,
    verb: "Revoke",
    danger: true,
    async action() {
      await api("DELETE", `${path}/${token.id}`);
      notice.set(`${clean(token.name)} is revoked.`);
      await answer.reload();
    },
  });
  const rowOf = (token) => [
    html`<span class="strong">${clean(token.name)}</span>${token.service && html` <${Tag}>a program's<//>`}${!own && token.person && html` <span class="soft">of ${clean(token.person.name)}</span>`}`,
    token.scopes.join(" "), token.projects ? token.projects.join(" ") : html`<span class="soft">all</span>`,
    token.last_used ? html`<${Ago} at=${token.last_used} />` : html`<span class="soft">never</span>`,
    token.revoked ? html`<span class="soft">revoked <${Ago} at=${token.revoked} /></span>` : token.expires ? new Date(token.expires).toLocaleDateString() : html`<span class="warn">never</span>`,
    token.revoked ? "" : html`<button type="button" class="quiet small" aria-label=${`Revoke ${clean(token.name)}`} onClick=${() => revoke(token)}>Revoke</button>`,
  ];
  return html`<${Answer} answer=${answer} what="the tokens">${({ tokens }) => {
    const shown = tokens.filter(({ revoked }) => ended || !revoked);
    return html`
      ${made && html`<${Secret} what=${html`The token <b>${clean(made.name)}</b>.`} value=${made.token} />`}
      ${shown.length ? html`<${Table} name="Tokens" items=${shown} of=${rowOf} heads=${[{ text: "Name", wide: true }, "Scope", "Projects", "Used", "Ends", ""]} />`
        : html`<${Empty} title="There is no token">One is for a program, or for the command on another machine.<//>`}
      ${tokens.length > shown.length || ended ? html`<p><button type="button" class="quiet small" aria-pressed=${ended} onClick=${() => setEnded(!ended)}>${ended ? "Without" : "Also"} revoked ones</button></p>` : ""}
      <details class="adding"><summary>A new token</summary><${Form} verb="Create" done="" send=${create}>
        <${Field} name="name" label="Name" required maxlength="200" help="Where it is used: ci, laptop." />
        <${Field} name="scope" label="It may" options=${SCOPES.filter(([scope]) => may(scope))} />
        <${Field} name="projects" label="Only of these projects" placeholder="all" help="Several are separated by spaces." />
        <${Field} name="expires" label="It ends after" options=${LIFETIMES} value=${String(90 * DAY)} />
        ${!own && html`<${Check} name="service" label="A program's: no browser can sign in with it" />`}
      <//></details>`;
  }}<//>`;
}

/** Browsers that are signed in: one's own, or everybody's for an admin. */
export function Sessions() {
  const answer = useApi("/sessions", { every: 30_000 });
  const end = (each) => ask({
    title: "Sign that browser out?",
    said: `${clean(each.person?.name ?? each.name)}, signed in ${new Date(each.created).toLocaleString()}${each.address ? ` from ${each.address}` : ""}: ${clean(each.agent ?? "a browser")}`,
    verb: "Sign it out",
    danger: true,
    async action() {
      await api("DELETE", `/sessions/${each.id}`);
      await answer.reload();
    },
  });
  return html`<${Answer} answer=${answer} what="the browsers">${({ sessions }) => html`<${Table} name="Browsers that are signed in" items=${sessions}
    heads=${["Who", "Signed in", "Used", "Ends", "From", { text: "Browser", wide: true }, ""]} of=${(each) => [
      clean(each.person?.name ?? each.name), html`<${Ago} at=${each.created} />`, each.last_used ? html`<${Ago} at=${each.last_used} />` : "",
      each.expires ? new Date(each.expires).toLocaleDateString() : "", clean(each.address ?? ""), html`<span title=${clean(each.agent ?? "")}>${clean(each.agent ?? "")}</span>`,
      each.current ? html`<${Tag}>this one<//>` : html`<button type="button" class="quiet small" onClick=${() => end(each)}>Sign out</button>`]} />`}<//>`;
}
