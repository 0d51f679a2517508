// A project's own domains: the host names at which its release is, beside those that the platform gives.

import { api } from "../lib/api.js";
import { el } from "../lib/elements.js";
import { clean } from "../log/terminal.js";

const USES = { served: "Serve the release there too", redirect: "Lead from there to the main domain", main: "Make it the main domain" };

const cell = (...value) => el("td", { class: "tight" }, ...value);

/** A name as the API takes it, which is in ASCII. What is no name is refused there. */
function asciiOf(name) {
  try {
    return /[^\x20-\x7e]/.test(name) ? new URL(`http://${name}`).hostname : name;
  } catch {
    return name;
  }
}

/** The domains of a project; who may (`editable`) adds and removes them. */
export function domainsOf(project, editable, act) {
  const path = `/projects/${encodeURIComponent(project)}/domains`;
  const list = el("div");
  const box = el("details", { class: "targets domains" }, el("summary", {}, "Domains"), list);

  function rowOf(each) {
    const button = el("button", { class: "quiet", type: "button" }, "Remove");
    button.addEventListener("click", () => act(button, async () => {
      await api("DELETE", `${path}/${each.name}`);
      await load();
    }));
    const ends = each.certificate_ends ? `certificate until ${new Date(each.certificate_ends).toLocaleDateString()}` : "";
    return el("tr", {},
      cell(el("a", { href: each.url, rel: "noreferrer", target: "_blank", title: each.name }, clean(each.readable))),
      cell(each.main ? "main" : each.redirect ? "leads to the main one" : "served"), cell(ends),
      el("td", { class: "wide" }, each.reason ? `isn't served: it ${each.reason}` : ""),
      cell(editable ? button : ""));
  }

  function formOf() {
    const name = el("input", { name: "domain", placeholder: "www.example.org", "aria-label": "Domain", required: "", autocomplete: "off" });
    const use = el("select", { name: "use", "aria-label": "Use" }, ...Object.entries(USES).map(([value, label]) => el("option", { value }, label)));
    const button = el("button", { class: "quiet" }, "Add");
    const form = el("form", { class: "row" }, name, use, button);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      act(button, async () => {
        const body = { main: use.value === "main", redirect: use.value === "redirect" };
        await api("PUT", `${path}/${encodeURIComponent(asciiOf(name.value.trim()))}`, body);
        await load();
      });
    });
    return form;
  }

  async function load() {
    const { domains } = await api("GET", path);
    list.replaceChildren(domains.length ? el("table", {}, el("tbody", {}, ...domains.map(rowOf)))
      : el("p", { class: "empty" }, "The project has no domain of its own: it is at the platform's addresses."));
    if (editable) list.append(formOf());
  }

  box.addEventListener("toggle", () => {
    if (box.open && !list.children.length) act(box.firstChild, load);
  });
  return box;
}
