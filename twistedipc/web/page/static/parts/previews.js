// The previews of a project: where they are, what they change, and how one of them becomes what users get.

import { api } from "../lib/api.js";
import { differenceOf } from "./changes.js";
import { cell, el, ending, input, rowForm, tableOf, timeOf } from "../lib/elements.js";
import { clean } from "../log/terminal.js";

const named = (ref) => clean(ref.replace(/^refs\/heads\//, ""));

/**
 * The previews of branches and pull requests. `listed`: the project's releases; `changed()` shows them again.
 * Who may publish makes one live, after the page has said once what that replaces.
 */
export function previewsOf(project, listed, { mayPublish, editable, act, changed }) {
  const place = el("div");
  const close = () => place.replaceChildren();
  const live = listed.releases.find(({ state, target }) => state === "live" && (target ?? "static") === "static");

  async function promote(each) {
    const { build } = await api("POST", `/builds/${each.build}/promote`);
    if (build) location.hash = `#/builds/${build.id}`;
    else changed();
  }

  /** Say what would be replaced, and go on only if that is wanted. */
  function ask(each) {
    const button = el("button", {}, "Make it live");
    button.addEventListener("click", () => act(button, async () => {
      await promote(each);
      close();
    }));
    place.replaceChildren(el("div", { class: "held asking", role: "group", "aria-label": "Promote" },
      el("p", {}, `What build #${each.build} has made of ${named(each.ref)} (`, el("code", {}, each.commit.slice(0, 8)), ") becomes what users get",
        live ? `, in the place of release ${live.id} of build #${live.build}, ${named(live.ref)} (` : "; nothing is live yet",
        live ? el("code", {}, live.commit.slice(0, 8)) : null, live ? ")." : ".",
        " Where production is built otherwise, its commit is built for production first."),
      el("div", { class: "row" }, button, el("button", { class: "quiet", type: "button", onclick: close }, "Don't"))));
    button.focus();
    place.scrollIntoView({ block: "nearest" });
  }

  function compare(button, each) {
    act(button, async () => {
      const found = await api("GET", `/projects/${encodeURIComponent(project)}/releases/diff?from=live&to=${each.release}`);
      place.replaceChildren(el("div", { class: "held asking" }, el("p", {}, `What the preview of ${named(each.ref)} changes:`), ...differenceOf(found),
        el("button", { class: "quiet", type: "button", onclick: close }, "Close")));
      place.scrollIntoView({ block: "nearest" });
    });
  }

  function rowOf(each) {
    const comparing = el("button", { class: "quiet", type: "button", "aria-label": `Compare ${named(each.ref)}` }, "Compare");
    comparing.addEventListener("click", () => compare(comparing, each));
    const promoting = el("button", { class: "quiet", type: "button", "aria-label": `Promote ${named(each.ref)}`, onclick: () => ask(each) }, "Promote");
    return el("tr", {},
      el("td", { class: "wide" }, el("a", { href: each.url, rel: "noreferrer", target: "_blank" }, named(each.ref)), " ", el("code", {}, each.commit.slice(0, 8))),
      cell(el("a", { href: `#/builds/${each.build}` }, `#${each.build}`)), cell(timeOf(each.since)),
      cell(each.ends ? `until ${new Date(each.ends).toLocaleDateString()}` : "until its branch is gone"),
      cell(comparing, " ", mayPublish && each.release !== live?.id ? promoting : null));
  }

  const previews = listed.previews ?? [];
  return el("section", { class: "previews", hidden: !previews.length && !listed.password_since },
    el("h2", {}, "Previews"), place,
    previews.length ? tableOf(["Of", "Build", "Since", "", ""], previews.map(rowOf)) : null,
    passwordOf(project, listed.password_since, editable, act, changed));
}

/** Whether guests see the previews by a password; an administrator sets another one, or none. */
function passwordOf(project, since, editable, act, changed) {
  const said = since ? el("p", { class: "soft" }, "Guests see previews by a password, set ", timeOf(since), ".")
    : el("p", { class: "soft" }, "Previews have no password for guests.");
  if (!editable) return since ? said : null;
  const at = `/projects/${encodeURIComponent(project)}/previews/password`;
  const field = input("New password", { type: "password", autocomplete: "new-password", minlength: "8", maxlength: "200", required: "" });
  const form = rowForm(act, [field], since ? "Change" : "Set", async () => {
    await api("PUT", at, { password: field.value });
    changed();
  });
  if (since) form.append(ending(act, "Remove", () => api("DELETE", at), changed, { "aria-label": "Remove the password" }));
  return el("div", {}, said, form);
}
