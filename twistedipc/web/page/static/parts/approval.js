// What a build has made and somebody must approve, or refuse.

import { api } from "../lib/api.js";
import { el } from "../lib/elements.js";
import { act, may, trouble } from "../lib/shell.js";
import { changesOf } from "./changes.js";
import { stagedOf } from "./packages.js";

/** Offers to approve or refuse what a build has made, with what would change; with a password, if it is staged. */
export function approvalOf(build, decided) {
  const { id, project } = build;
  const said = el("div", { class: "held" });
  const staged = stagedOf(build);
  if (staged) said.append(staged.said);
  const decide = (verb) => async () => {
    const otp = staged?.take();
    await api("POST", `/builds/${id}/${verb}`, otp ? { otp } : undefined);
    await decided();
  };
  if (may("publish", project)) {
    const approve = el("button", {}, "Approve");
    const refuse = el("button", { type: "button", class: "quiet" }, "Refuse");
    const form = el("form", {}, staged?.input, approve, refuse);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      act(approve, decide("approve"));
    });
    refuse.addEventListener("click", () => act(refuse, decide("refuse")));
    said.append(form);
  }
  api("GET", `/builds/${id}/changes`).then((found) => {
    said.append(...changesOf(found).filter(Boolean));
  }, trouble);
  return { element: said, key: staged?.key ?? 0 };
}
