// What was found out about a project's repository when it was built.

import { api } from "../lib/api.js";
import { el } from "../lib/elements.js";
import { html, useEffect, useState } from "../lib/html.js";
import { clean } from "../log/terminal.js";
import { Nodes } from "./view.js";

/** What was found out about a project for an attempt; where that stands is in the titles. */
export function recognisedFacts(attempt) {
  return (attempt.recognised || []).filter((each) => ["framework", "root", "manager", "node", "output"].includes(each.what))
    .filter((each, at, all) => all.findIndex((other) => other.what === each.what) === at)
    .map((each) => el("span", { title: clean(`${each.file ? `${each.file}${each.line ? `:${each.line}` : ""}: ` : ""}${each.why}`) },
      `${each.what} `, el("b", {}, clean(each.value))));
}

/**
 * The same of the newest of a project's last builds that got so far.
 * @param {{ name: string }} properties
 */
export function Recognised({ name }) {
  const [found, setFound] = useState(null);
  useEffect(() => {
    let gone = false;
    const look = async () => {
      const { builds } = await api("GET", `/builds?project=${encodeURIComponent(name)}&limit=5`);
      for (const { id } of builds) {
        const facts = [...(await api("GET", `/builds/${id}`)).attempts].reverse().map(recognisedFacts).find((each) => each.length);
        if (facts && !gone) setFound({ id, facts });
        if (facts) return;
      }
    };
    look().catch(() => {}); // it is only told beside the rest
    return () => {
      gone = true;
    };
  }, [name]);
  return found && html`<div class="facts"><span>recognised in <a href=${`#/builds/${found.id}`}>#${found.id}</a></span><${Nodes} of=${found.facts} /></div>`;
}
