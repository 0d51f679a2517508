// The audit: what people and builders did, newest first.

import { api } from "../lib/api.js";
import { useApi } from "../lib/data.js";
import { html, useEffect, useState } from "../lib/html.js";
import { withQuery } from "../lib/router.js";
import { clean } from "../log/terminal.js";
import { Filters } from "../parts/filters.js";
import { Button } from "../parts/form.js";
import { Table } from "../parts/table.js";
import { Ago } from "../parts/time.js";
import { Answer, Empty, Head } from "../parts/view.js";

const AGAIN = 30_000;
const PAGE = 100;
const FILTERS = [{ name: "who", label: "Who" }, { name: "project", label: "Project" }, { name: "action", label: "Action" }];

/** @param {{ address: any }} properties */
export function Audit({ address: { query } }) {
  const asked = Object.fromEntries(FILTERS.map(({ name }) => [name, query[name] ?? ""]));
  const path = withQuery("/audit", { limit: String(PAGE), ...asked });
  const answer = useApi(path, { every: AGAIN });
  const [older, setOlder] = useState({ lines: [], next: null });
  useEffect(() => setOlder({ lines: [], next: null }), [path]);
  return html`<div class="view">
    <${Head} name="Audit" />
    <${Filters} path="#/audit" query=${query} filters=${FILTERS} />
    <${Answer} answer=${answer} what="the audit">${({ lines, next }) => {
      // What is newer than the older lines that were asked for is asked again; a line is in one place only.
      const known = new Set(older.lines.map(({ id }) => id));
      const all = [...lines.filter(({ id }) => !known.has(id)), ...older.lines];
      const before = older.lines.length ? older.next : next;
      const more = async () => {
        const page = await api("GET", `${path}&before=${before}`);
        setOlder({ lines: [...older.lines, ...page.lines], next: page.next });
      };
      return all.length ? html`<${Table} name="What was done, newest first" items=${all} of=${rowOf}
          heads=${["When", "Who", "From", "Did", "To", { text: "Detail", wide: true }]} />
        ${before !== null && html`<p class="more"><${Button} action=${more}>Older lines<//></p>`}`
        : html`<${Empty} title="Nothing is like this"><a href="#/audit">Show all lines</a><//>`;
    }}<//>
  </div>`;
}

/** Who it was; what isn't a token says so, since a token may have any name. */
function whoOf({ who, kind, token, person }) {
  if (person) return `${person.name} (person ${person.id}, token ${token ?? "none"})`;
  if (kind === null || kind === "token") return token === null ? who : `${who} (token ${token})`;
  return who === kind ? who : `${kind} ${who}`.trim();
}

function rowOf(line) {
  const detail = clean(Object.entries(line.detail).map(([name, value]) => `${name}: ${value}`).join(", "));
  return [
    html`<${Ago} at=${line.time} />`, clean(whoOf(line)), html`<span title=${line.request ? `request ${line.request}` : undefined}>${line.address ?? ""}</span>`,
    html`<code>${line.action}</code>`, clean(line.subject), html`<span title=${detail}>${detail}</span>`,
  ];
}
