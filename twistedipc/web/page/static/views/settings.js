// How a project is set up: a section for each kind of setting, with an address of its own. Each is a module in settings/.

import { api, ofProject } from "../lib/api.js";
import { html, useLayoutEffect, useRef } from "../lib/html.js";
import { projectAt } from "../lib/router.js";
import { may } from "../lib/shell.js";
import { Builds } from "./settings/builds.js";
import { Credentials } from "./settings/credentials.js";
import { Domains } from "./settings/domains.js";
import { Members } from "./settings/members.js";
import { Pushes } from "./settings/pushes.js";
import { Receivers } from "./settings/receivers.js";
import { Removal } from "./settings/removal.js";
import { Retention } from "./settings/retention.js";
import { Schedules } from "./settings/schedules.js";
import { Targets } from "./settings/targets.js";
import { Variables } from "./settings/variables.js";

/**
 * What a section gets.
 * @typedef {object} Section
 * @property {any} project as the API says
 * @property {boolean} editable whether who is signed in may change it
 * @property {(changes: any) => Promise<string>} save changes the project, and returns what is to be known of that, in a sentence
 * @property {() => Promise<void>} reload
 */

/** address -> what is set there; `admin`: it is for administrators only. */
const SECTIONS = {
  builds: { text: "Sources and builds", Part: Builds },
  targets: { text: "Where it publishes", admin: true, Part: Targets },
  variables: { text: "Variables and secrets", Part: Variables },
  domains: { text: "Domains", Part: Domains },
  pushes: { text: "Pushes and pull requests", Part: Pushes },
  schedules: { text: "Schedules", Part: Schedules },
  receivers: { text: "Notifications", Part: Receivers },
  members: { text: "Members", Part: Members },
  retention: { text: "What is kept", Part: Retention },
  access: { text: "Credentials", Part: Credentials },
  general: { text: "Caches and removal", admin: true, Part: Removal },
};

/**
 * @param {{ project: any, section: string, reload: () => Promise<void>, put: (data: any) => void }} properties
 */
export function Settings({ project, section, reload, put }) {
  const { name } = project;
  const editable = may("admin", name);
  const sections = Object.entries(SECTIONS).filter(([, { admin }]) => !admin || editable);
  const [shown, { text, Part }] = sections.find(([each]) => each === section) ?? sections[0];
  const nav = useRef(null);
  // On a phone the sections are a line that is scrolled: the one that is shown is in view.
  useLayoutEffect(() => {
    const link = nav.current.querySelector("[aria-current]");
    nav.current.scrollLeft = link.offsetLeft - nav.current.offsetLeft - (nav.current.clientWidth - link.clientWidth) / 2;
  }, [shown]);
  const save = async (changes) => {
    const now = await api("PATCH", ofProject(name), changes);
    put(now);
    return ["Saved.", ...now.notices].join(" ");
  };
  return html`<div class="settings">
    <nav ref=${nav} class="sections" aria-label="Settings">${sections.map(([each, { text: label }]) =>
      html`<a href=${projectAt(name, "settings", each)} aria-current=${each === shown ? "page" : undefined}>${label}</a>`)}</nav>
    <section class="section" aria-label=${text}><h2>${text}</h2><${Part} key=${shown} project=${project} editable=${editable} save=${save} reload=${reload} /></section>
  </div>`;
}
