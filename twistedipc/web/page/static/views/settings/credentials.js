// What a private repository is read with. Nothing secret of it is shown.

import { api, ofProject } from "../../lib/api.js";
import { html } from "../../lib/html.js";
import { Remove } from "../../parts/dialog.js";
import { Button, Field, Form } from "../../parts/form.js";
import { SecretForm } from "./secrets.js";

/** @param {import("../settings.js").Section} properties */
export function Credentials({ project, editable, reload }) {
  const { name, access, repository } = project;
  const keys = access?.host_keys ?? [];
  const ssh = !/^https?:/.test(repository);
  const then = (action) => async () => {
    await action();
    await reload();
  };
  const makeKey = then(() => api("POST", ofProject(name, "deploy-key")));
  const setHosts = async ({ lines }) => {
    await api("PUT", ofProject(name, "known-hosts"), { lines });
    await reload();
  };
  if (!access && !editable) return html`<p class="soft">${repository} is read without credentials.</p>`;
  return html`
    <p class="soft">${access ? html`For <code>${access.host}</code> alone: all of it is void once the repository has another host.` : html`<code>${repository}</code> is read without credentials.`}</p>
    ${(access?.public_key || (ssh && editable)) && html`<section aria-label="Deploy key"><h3>Deploy key</h3>
      ${access?.public_key ? html`<p>Add this key to the repository at its host, for reading alone:</p><p><code class="long">${access.public_key}</code></p><p class="soft">${access.fingerprint}</p>`
        : html`<p class="soft">A key pair for this repository alone. The private half never leaves the apiserver, but for the step that fetches.</p>`}
      ${editable && html`<span class="buttons">${access?.public_key
        ? html`<${Remove} verb="Replace" what="the deploy key" action=${makeKey} said="The key that there is stops at once: nothing can be fetched until the new one is added at the repository's host." />
          <${Remove} what="the deploy key" action=${then(() => api("DELETE", ofProject(name, "deploy-key")))} said="The private half is erased: nothing can be fetched by it any more. At the repository's host it stays until somebody removes it there." />`
        : html`<${Button} action=${makeKey}>Make a deploy key<//>`}</span>`}</section>`}
    ${ssh && (keys.length > 0 || editable) && html`<section aria-label="Host keys"><h3>Host keys</h3>
      ${keys.length ? html`<ul>${keys.map(({ fingerprint }) => html`<li><code class="long">${fingerprint}</code></li>`)}</ul>` : html`<p class="soft">What the host shows at the first contact is pinned.</p>`}
      ${editable && keys.length > 0 && html`<${Remove} verb="Forget" what="the host keys" action=${then(() => api("DELETE", ofProject(name, "known-hosts")))} said="The next key that the host shows is pinned, whatever it is." />`}
      ${editable && html`<details class="adding"><summary>Set the host keys</summary><${Form} verb="Set the host keys" send=${setHosts}>
        <${Field} name="lines" label="Lines of known_hosts" lines="3" required help="As ssh-keyscan prints them; compare them with what the host has published." /><//></details>`}</section>`}
    ${editable && !ssh && html`<${SecretForm} project=${project} reload=${reload}
      secret=${{ name: "git_token", help: "A token that may read the repository", place: access?.host ?? "", set: Boolean(access?.token) }} />`}`;
}
