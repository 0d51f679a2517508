// A project's own domains: the host names at which its release is, beside those that the platform gives.

import { api, ofProject } from "../../lib/api.js";
import { useApi } from "../../lib/data.js";
import { html } from "../../lib/html.js";
import { clean } from "../../log/terminal.js";
import { Remove } from "../../parts/dialog.js";
import { Field, Form } from "../../parts/form.js";
import { Icon } from "../../parts/icon.js";
import { Table } from "../../parts/table.js";
import { Answer, Empty } from "../../parts/view.js";

const USES = /** @type {[string, string][]} */ ([["served", "Serve the release there too"], ["redirect", "Lead from there to the main domain"], ["main", "Make it the main domain"]]);

/** A name as the API takes it, which is in ASCII. What is no name is refused there. */
function asciiOf(name) {
  try {
    return /[^\x20-\x7e]/.test(name) ? new URL(`http://${name}`).hostname : name;
  } catch {
    return name;
  }
}

/** @param {import("../settings.js").Section} properties */
export function Domains({ project: { name: project, release_url: own }, editable }) {
  const answer = useApi(ofProject(project, "domains"), { every: 30_000 });
  const add = async ({ domain, use }) => {
    await api("PUT", ofProject(project, "domains", asciiOf(domain)), { main: use === "main", redirect: use === "redirect" });
    await answer.reload();
    return "It is served as soon as its DNS leads here.";
  };
  const remove = ({ name }) => async () => {
    await api("DELETE", ofProject(project, "domains", name));
    await answer.reload();
  };
  const rowOf = (each) => [
    html`<a href=${each.url} rel="noreferrer" target="_blank" title=${each.name}>${clean(each.readable)} <${Icon} name="out" /></a>`,
    each.main ? "main" : each.redirect ? "leads to the main one" : "served",
    each.reason ? html`<span class="warn">isn't served: it ${clean(each.reason)}</span>` : "",
    each.certificate_ends ? new Date(each.certificate_ends).toLocaleDateString() : "",
    editable && html`<${Remove} what=${clean(each.readable)} action=${remove(each)} said=${`Nothing of ${project} is served at ${clean(each.readable)} any more, at once. Links to it end.`} />`,
  ];
  return html`
    <${Answer} answer=${answer} what="the domains">${({ domains }) => (domains.length
      ? html`<${Table} name="Domains" items=${domains} of=${rowOf} heads=${["Domain", "Use", { text: "State", wide: true }, "Certificate until", ""]} />`
      : html`<${Empty} title="The project has no domain of its own">Its release is at the platform's address${own ? html`: <a href=${own} rel="noreferrer" target="_blank">${own}</a>` : "."}<//>`)}<//>
    ${editable && html`<details class="adding"><summary>Add a domain</summary><${Form} verb="Add the domain" send=${add}>
      <${Field} name="domain" label="Domain" required placeholder="www.example.org" />
      <${Field} name="use" label="Use" options=${USES} />
    <//></details>`}`;
}
