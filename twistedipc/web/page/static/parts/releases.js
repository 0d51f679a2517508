// A project's releases and previews: what is live, what is not and why, and how another one becomes what users get.

import { api } from "../lib/api.js";
import { useApi } from "../lib/data.js";
import { counted, size } from "../lib/elements.js";
import { html, useMemo, useState } from "../lib/html.js";
import { may, notice } from "../lib/shell.js";
import { clean } from "../log/terminal.js";
import { differenceOf } from "./changes.js";
import { Chip, Tag } from "./chip.js";
import { ask, Sheet } from "./dialog.js";
import { Button, Field, Form } from "./form.js";
import { Icon } from "./icon.js";
import { Table } from "./table.js";
import { Ago } from "./time.js";
import { Answer, Empty, Nodes } from "./view.js";

const named = (ref) => clean(ref.replace(/^refs\/heads\//, ""));
const isLive = ({ state, target }) => state === "live" && (target ?? "static") === "static";

/** What a release has other than the live one, asked for when it is looked at. */
function Difference({ project, release }) {
  const answer = useApi(`/projects/${encodeURIComponent(project)}/releases/diff?from=live&to=${release}`);
  return html`<${Answer} answer=${answer} what="what it changes">${(found) => html`<${Shown} found=${found} />`}<//>`;
}

function Shown({ found }) {
  const elements = useMemo(() => differenceOf(found), [found]);
  return html`<${Nodes} of=${elements} />`;
}

/**
 * What waits, what is live, and what was.
 * @param {{ name: string, listed: any, reload: () => Promise<void> }} properties
 */
export function Releases({ name, listed, reload }) {
  const at = `/projects/${encodeURIComponent(name)}`;
  const live = listed.live.find(isLive);
  const [compared, setCompared] = useState(null);
  const several = new Set(listed.releases.map(({ target }) => target)).size > 1;

  const makeLive = (each) => ask({
    title: `Make release ${each.id} live?`,
    said: html`<p>Release ${each.id} of build #${each.build} (<code>${each.commit.slice(0, 8)}</code>, ${named(each.ref)}) becomes what users get${
      live && isLive({ ...live, target: each.target }) ? html`, in the place of release ${live.id} of build #${live.build} (<code>${live.commit.slice(0, 8)}</code>)` : ""}.
      ${live && each.id < live.id ? " Newer releases are held back until somebody resumes them." : ""}</p>
      ${(each.target ?? "static") === "static" && html`<${Difference} project=${name} release=${each.id} />`}`,
    verb: live && each.id < live.id ? "Roll back" : "Make it live",
    async action() {
      await api("POST", `${at}/releases/${each.id}/activate`);
      notice.set(`Release ${each.id} is live.`);
      await reload();
    },
  });
  const resume = () => ask({
    title: "Let releases go live again?",
    said: `Since the rollback to release ${listed.held.release} none goes live by itself. The newest one that waits goes live at once.`,
    verb: "Resume",
    async action() {
      await api("POST", `${at}/releases/resume`);
      await reload();
    },
  });
  return html`
    ${listed.held && html`<p class="held warn" role="status"><span>No release goes live by itself: ${listed.held.by} rolled back to release ${listed.held.release}, <${Ago} at=${listed.held.since} />.</span>
      ${may("publish", name) && html`<button type="button" onClick=${resume}>Resume</button>`}</p>`}
    ${listed.releases.length ? html`<${Table} class="releases" name="Releases, newest first" items=${listed.releases}
      heads=${["State", { text: "Release", right: true }, ...(several ? ["Target"] : []), { text: "Of", wide: true }, "Build", "Made", ""]} of=${(each) => [
        html`<${Chip} of=${each} />`, each.id, ...(several ? [each.target] : []),
        html`<${Tag} icon="branch">${named(each.ref)}<//> <code>${each.commit.slice(0, 8)}</code> <span class="soft">${counted(each.files, "file")}</span>
          ${each.why && html`<div class="why">${clean(each.why)}</div>`}`,
        html`<a href=${`#/builds/${each.build}`}>#${each.build}</a>`, html`<${Ago} at=${each.created} />`,
        html`<span class="buttons">${!isLive(each) && (each.target ?? "static") === "static" && html`<button type="button" class="quiet small" onClick=${() => setCompared(each)} aria-label=${`Compare release ${each.id} with the live one`}>Compare</button>`}
          ${each.state !== "live" && may("publish", name) && html`<button type="button" class="quiet small" onClick=${() => makeLive(each)}>Make live</button>`}</span>`]} />`
      : html`<${Empty} title="Nothing was released yet">A build of a protected ref makes a release when it has succeeded, if the project publishes one.<//>`}
    ${listed.disk && html`<p class="soft">${size(listed.disk.size)} on disk for ${counted(listed.disk.releases, "release")}</p>`}
    ${compared && html`<${Sheet} title=${`Release ${compared.id}, against the live one`} close=${() => setCompared(null)}><${Difference} project=${name} release=${compared.id} /><//>`}`;
}

/**
 * The addresses of branches and pull requests.
 * @param {{ name: string, listed: any, reload: () => Promise<void> }} properties
 */
export function Previews({ name, listed, reload }) {
  const live = listed.live.find(isLive);
  const [compared, setCompared] = useState(null);
  const previews = listed.previews ?? [];
  const promote = (each) => ask({
    title: `Promote ${named(each.ref)}?`,
    said: html`<p>What build #${each.build} has made of ${named(each.ref)} (<code>${each.commit.slice(0, 8)}</code>) becomes what users get${live
      ? html`, in the place of release ${live.id} of build #${live.build}, ${named(live.ref)} (<code>${live.commit.slice(0, 8)}</code>).` : "; nothing is live yet."}
      ${" "}Where production is built otherwise, its commit is built for production first.</p><${Difference} project=${name} release=${each.release} />`,
    verb: "Make it live",
    async action() {
      const { build } = await api("POST", `/builds/${each.build}/promote`);
      if (build) location.hash = `#/builds/${build.id}`;
      else await reload();
    },
  });
  return html`<section class="previews"><h2>Previews</h2>
    ${previews.length ? html`<${Table} name="Previews" items=${previews} keyOf=${({ label, release }) => label ?? release} heads=${[{ text: "Of", wide: true }, "Build", "Since", "Ends", ""]} of=${(each) => [
      html`<a href=${each.url} rel="noreferrer" target="_blank">${named(each.ref)} <${Icon} name="out" /></a> <code>${each.commit.slice(0, 8)}</code>`,
      html`<a href=${`#/builds/${each.build}`}>#${each.build}</a>`, html`<${Ago} at=${each.since} />`,
      each.ends ? new Date(each.ends).toLocaleDateString() : html`<span class="soft">with its branch</span>`,
      html`<span class="buttons"><button type="button" class="quiet small" aria-label=${`Compare ${named(each.ref)}`} onClick=${() => setCompared(each)}>Compare</button>
        ${may("publish", name) && each.release !== live?.id && html`<button type="button" class="quiet small" aria-label=${`Promote ${named(each.ref)}`} onClick=${() => promote(each)}>Promote</button>`}</span>`]} />`
      : html`<p class="soft">No branch has one now. A build of a branch or of a pull request gets an address of its own.</p>`}
    <${Password} name=${name} since=${listed.password_since} reload=${reload} />
    ${compared && html`<${Sheet} title=${`What the preview of ${named(compared.ref)} changes`} close=${() => setCompared(null)}><${Difference} project=${name} release=${compared.release} /><//>`}
  </section>`;
}

/** Whether guests see the previews by a password; an administrator sets another one, or none. */
function Password({ name, since, reload }) {
  const at = `/projects/${encodeURIComponent(name)}/previews/password`;
  const said = since ? html`<p class="soft">Guests see previews by a password, set <${Ago} at=${since} />.</p>` : html`<p class="soft">Previews have no password for guests.</p>`;
  if (!may("admin", name)) return since ? said : null;
  const remove = async () => {
    await api("DELETE", at);
    await reload();
  };
  return html`${said}<div class="row">
    <${Form} row verb=${since ? "Change" : "Set"} send=${async ({ password }) => {
      await api("PUT", at, { password });
      await reload();
    }}><${Field} name="password" label="New password" type="password" autocomplete="new-password" minlength="8" maxlength="200" required unseen placeholder="New password" /><//>
    ${since && html`<${Button} action=${remove} aria-label="Remove the password">Remove<//>`}</div>`;
}
