// What was found out about a project's repository when it was built.

import { el } from "../lib/elements.js";
import { clean } from "../log/terminal.js";

/** What was found out about a project for an attempt; where that stands is in the titles. */
export function recognisedFacts(attempt) {
  return (attempt.recognised || []).filter((each) => ["framework", "root", "manager", "node", "output"].includes(each.what))
    .filter((each, at, all) => all.findIndex((other) => other.what === each.what) === at)
    .map((each) => el("span", { title: clean(`${each.file ? `${each.file}${each.line ? `:${each.line}` : ""}: ` : ""}${each.why}`) },
      `${each.what} `, el("b", {}, clean(each.value))));
}
