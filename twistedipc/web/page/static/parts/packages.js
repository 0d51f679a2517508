// What the apiserver publishes: the packages of a build while they are published, and those of a project. Names, versions,
// tags and what a registry says are strangers' text, so all of it becomes text nodes.

import { api } from "../lib/api.js";
import { count, counted, el, headOf, size, timeOf, words } from "../lib/elements.js";
import { duration } from "../lib/times.js";
import { clean } from "../log/terminal.js";
import { chipOf } from "./chip.js";

const tight = (...value) => el("td", { class: "tight" }, ...value);
const heads = (...names) => el("thead", {}, el("tr", {}, ...names.map(headOf)));
const addressOf = (project, name) => `#/projects/${encodeURIComponent(project)}/packages/${encodeURIComponent(name)}`;
const linkTo = (project, name) => el("a", { class: "name", href: addressOf(project, name), title: clean(name) }, clean(name));

/** The tag of a publication, and which version it led to before. */
function tagOf({ tag, tag_before: before }) {
  return [el("code", {}, clean(tag)), before ? el("span", { class: "soft" }, ` was ${clean(before)}`) : null];
}

/** What is being done with a package now. */
function doing({ state, steps }) {
  const last = steps.at(-1);
  if (!last || last.ended || ["published", "conflict", "rejected", "failed", "dropped"].includes(state)) return null;
  return el("span", { class: "soft" }, `${words(last.step)} ${clean(last.detail)}`.trim(), " …");
}

/** The steps of a publication, as a list. */
function stepsOf(publication) {
  return el("ol", { class: "done-steps" }, ...publication.steps.map((step) => el("li", { class: step.outcome },
    el("b", {}, words(step.step)), " ", step.detail ? el("code", {}, clean(step.detail)) : null, " ",
    step.outcome ? words(step.outcome) : step.ended ? "" : "under way, or not known how it ended", " ",
    el("span", { class: "soft" }, new Date(step.began).toLocaleTimeString(), step.ended ? `, ${duration(Date.parse(step.ended) - Date.parse(step.began))}` : ""),
    step.reason ? el("div", { class: "why" }, clean(step.reason)) : null)));
}

/** All that is known of a publication, for who wants to know. */
function factsOf(each) {
  const facts = [["registry", each.registry], ["mode", each.mode], ["stage", each.stage], ["went up as", each.set_tag], ["integrity", each.integrity],
    ["asked for by", each.asked_by], ["approved by", each.approved_by]];
  return el("div", {}, el("p", { class: "facts" }, ...facts.filter(([, value]) => value).map(([name, value]) =>
    el("span", {}, `${name} `, el("b", {}, clean(value))))), each.steps.length ? stepsOf(each) : null);
}

/** The section of a build's page: `draw(build)` shows what it publishes now; what is unfolded stays so. */
export function publishedBy() {
  const body = el("tbody");
  const said = el("span", { class: "soft" });
  const bar = el("progress", { max: "1", value: "0", "aria-label": "Published" });
  const box = el("details", { class: "card packages", open: "" }, el("summary", {}, "Packages ", said), bar,
    el("div", { class: "scroll" }, el("table", {}, heads("Package", "Tag", "State", "Size", ""), body)));
  box.hidden = true;
  const open = new Set();

  function rowsOf(build, each) {
    const key = `${each.target} ${each.position}`;
    const more = el("button", { class: "quiet", type: "button", "aria-expanded": String(open.has(key)) }, open.has(key) ? "Less" : "More");
    more.addEventListener("click", () => {
      if (!open.delete(key)) open.add(key);
      box.draw(build);
    });
    const why = each.reason || each.notice;
    const row = el("tr", {},
      el("td", {}, linkTo(build.project, each.name), el("span", { class: "version" }, ` ${clean(each.version)}`), why ? el("div", { class: "why" }, clean(why)) : null),
      el("td", {}, ...tagOf(each)), tight(chipOf(each), " ", doing(each)), tight(each.size ? size(each.size) : ""), tight(more));
    return open.has(key) ? [row, el("tr", {}, el("td", { colspan: "5" }, factsOf(each)))] : [row];
  }

  box.draw = (build) => {
    const all = build.publications ?? [];
    box.hidden = !all.length;
    if (!all.length) return;
    const there = all.filter(({ state }) => state === "published").length;
    said.textContent = `${count(there)} of ${count(all.length)} published`;
    bar.value = there / all.length;
    bar.hidden = there === all.length || build.tone !== "busy";
    const focused = document.activeElement?.closest?.("tr");
    const at = focused ? [...body.children].indexOf(focused) : -1;
    body.replaceChildren(...all.flatMap((each) => rowsOf(build, each)));
    if (at >= 0) body.children[at]?.querySelector("button")?.focus();
  };
  return box;
}

/** The section of a project's page: its packages, each with what was published last. */
export function packagesOf(project, act) {
  const body = el("tbody");
  const more = el("button", { class: "quiet more", type: "button", hidden: true }, "More packages");
  const table = el("table", { class: "packages" }, heads("Package", "Version", "Tag", "State", "Build", "Since"), body);
  const section = el("section", { hidden: true }, el("h2", {}, "Packages"), table, more);
  let after = null;

  async function load() {
    const query = new URLSearchParams({ limit: "50" });
    if (after !== null) query.set("after", after);
    const page = await api("GET", `/projects/${encodeURIComponent(project)}/packages?${query}`);
    body.append(...page.packages.map(({ name, publications: [newest], moved }) => el("tr", {},
      el("td", {}, linkTo(project, name), moved?.length || newest.reason || newest.notice
        ? el("div", { class: "why" }, clean(moved?.map(({ text }) => text).join("; ") || newest.reason || newest.notice)) : null),
      tight(clean(newest.version)), el("td", {}, ...tagOf(newest)), tight(chipOf(newest)),
      tight(el("a", { href: `#/builds/${newest.build}` }, `#${newest.build}`)), tight(timeOf(newest.updated)))));
    after = page.next;
    more.hidden = after === null;
    section.hidden = !body.children.length;
  }

  more.addEventListener("click", () => act(more, load));
  return { section, load };
}

/** A field for a one-time password, which nothing keeps. */
export function passwordField(help) {
  const input = el("input", { name: "otp", type: "text", inputmode: "numeric", autocomplete: "one-time-code", spellcheck: "false",
    pattern: "[0-9A-Za-z\\-]{4,100}", size: "17", "aria-label": "One-time password", placeholder: "One-time password", title: help ?? "" });
  return { input, take: () => { const value = input.value.trim(); input.value = ""; return value; } };
}

const REQUEST_WORDS = { promote: "move", rollback: "roll back", deprecate: "deprecate", undeprecate: "undeprecate" };

/** What somebody has asked to be done; one that waits for a password has a field for it. */
function requestOf(each, at, act, changed) {
  const what = each.tag ? [el("code", {}, clean(each.tag)), each.version ? ` to ${clean(each.version)}` : "", each.before ? el("span", { class: "soft" }, ` from ${clean(each.before)}`) : null]
    : [clean(each.version), each.message ? el("span", { class: "soft" }, ` “${clean(each.message)}”`) : null];
  const row = el("li", {}, chipOf(each), " ", REQUEST_WORDS[each.kind] ?? each.kind, " ", ...what,
    el("span", { class: "soft" }, ` asked for by ${clean(each.asked_by)} `, timeOf(each.created)),
    each.reason ? el("div", { class: "why" }, clean(each.reason)) : null);
  if (act && each.tone === "waiting") {
    const field = passwordField();
    const button = el("button", {}, "Go on");
    const form = el("form", { class: "row" }, field.input, button);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      act(button, async () => {
        await api("POST", `${at}/package-requests/${each.id}/password`, { otp: field.take() });
        changed();
      });
    });
    row.append(form);
  }
  return row;
}

/** A form that asks for something to be done, after a sentence that says what. `fields`: inputs by the member of the body. */
function askingForm(sentence, body, fields, send, act, close) {
  const password = passwordField("if the registry wants one");
  const button = el("button", {}, "Do it");
  const cancel = el("button", { class: "quiet", type: "button", onclick: close }, "Cancel");
  const form = el("form", { class: "held asking" }, el("p", {}, sentence), el("div", { class: "row" }, ...Object.values(fields), password.input, button, cancel));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const otp = password.take();
    const given = Object.fromEntries(Object.entries(fields).map(([name, input]) => [name, input.value.trim()]));
    act(button, async () => {
      await send({ ...body, ...given, ...(otp ? { otp } : {}) });
      close();
    });
  });
  return form;
}

const textField = (name, value = "") => el("input", { name, value, required: "", placeholder: name, "aria-label": name, autocomplete: "off", spellcheck: "false" });

/** The view of one package: its tags, what was asked to be done with it, and its history. `act` is null for who may only look. */
export function packageView(project, name, { act, mayPublish, trouble }) {
  const list = el("div"), tags = el("div"), asked = el("ul", { class: "requests" }), place = el("div");
  const more = el("button", { class: "quiet more", type: "button", hidden: true }, "Older ones");
  const home = `/projects/${encodeURIComponent(project)}`;
  const at = `${home}/packages/${encodeURIComponent(name)}`;
  let before = null, again = null;

  const close = () => place.replaceChildren();
  const send = async (body) => {
    await api("POST", `${at}/requests`, body);
    await draw();
  };
  const ask = (sentence, body, fields = {}) => {
    place.replaceChildren(askingForm(sentence, body, fields, send, act, close));
    place.querySelector("input, button")?.focus();
    place.scrollIntoView({ block: "nearest" });
  };
  const button = (label, ...asking) => (mayPublish ? el("button", { class: "quiet", type: "button", onclick: () => ask(...asking) }, label) : null);

  function entryOf(each) {
    const version = clean(each.version);
    const there = each.state === "published" && mayPublish;
    return el("details", { class: "card entry" },
      el("summary", {}, el("b", {}, version), " ", ...tagOf(each), " ", chipOf(each), " ",
        el("span", { class: "soft" }, el("a", { href: `#/builds/${each.build}` }, `#${each.build}`), " ", timeOf(each.updated),
          each.size ? `, ${size(each.size)}` : ""),
        each.reason || each.notice ? el("div", { class: "why" }, clean(each.reason || each.notice)) : null),
      there ? el("p", { class: "row" },
        button("Move a tag here", `Which tag of ${clean(name)} is to lead to ${version}?`, { kind: "promote", version: each.version }, { tag: textField("tag", "next") }),
        button("Go back to it", `latest of ${clean(name)} is to go back to ${version}. The next build that publishes the package moves it on.`, { kind: "rollback", version: each.version, tag: "latest" }),
        button("Deprecate", `Who installs ${clean(name)}@${version} is to be told this:`, { kind: "deprecate", version: each.version }, { message: textField("message") }),
        button("Undeprecate", `The deprecation of ${clean(name)}@${version} is to be taken back.`, { kind: "undeprecate", version: each.version })) : null,
      factsOf(each));
  }

  function drawHead(page) {
    tags.replaceChildren(
      ...page.moved.map((each) => el("p", { class: "held", role: "status" }, clean(each.text), " (noticed ", timeOf(each.noticed), ")")),
      ...Object.entries(page.tags).map(([tag, version]) => el("p", { class: "row tag" }, el("span", {}, el("code", {}, clean(tag)), ` leads to ${clean(version)}`),
        button("Roll back", `${clean(tag)} of ${clean(name)} is to lead to the version again to which it led before ${clean(version)}. The next build that publishes the package moves it on.`,
          { kind: "rollback", tag }))));
    asked.replaceChildren(...page.requests.map((each) => requestOf(each, home, mayPublish ? act : null, () => draw().catch(trouble))));
    clearTimeout(again);
    if (page.requests.some(({ tone }) => tone === "busy")) again = setTimeout(() => draw().catch(trouble), 1_000);
  }

  /** Show what is asked and known now; the history stays. */
  async function draw() {
    drawHead(await api("GET", `${at}?limit=1`));
  }

  async function load() {
    const page = await api("GET", `${at}?limit=20${before === null ? "" : `&before=${before}`}`);
    if (before === null) drawHead(page);
    list.append(...page.publications.map(entryOf));
    before = page.next;
    more.hidden = before === null;
  }

  more.addEventListener("click", () => act(more, load));
  load().catch(trouble);
  const head = el("div", { class: "row" }, el("h1", { class: "name" }, clean(name)), el("a", { href: `#${home}` }, project));
  return { elements: [head, tags, place, asked, list, more], stop: () => clearTimeout(again) };
}

/** What waits for a person in a registry's stage, and what to do: the head of what approves it. */
export function stagedOf(build) {
  const all = build.publications ?? [];
  const staged = all.filter(({ state }) => state === "staged");
  if (!staged.length) return null;
  const password = passwordField("of your account at the registry");
  const done = all.length - staged.length;
  const registries = [...new Set(staged.map(({ registry }) => registry))].filter(Boolean).join(", ");
  const said = el("p", {}, `${count(staged.length)} of ${counted(all.length, "package is", "packages are")} staged${registries ? ` at ${clean(registries)}` : ""}`,
    done ? `, ${count(done)} are approved already` : "", ". They are approved in their order with a one-time password of yours, which nothing keeps. ",
    "They can be approved at the registry itself as well: this is noticed within a minute.");
  return { said, input: password.input, take: password.take, key: staged.length };
}
