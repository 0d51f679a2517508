// What each view is given: who is signed in and what they may do, the stream, a place for errors, the page's title.

import { Refused } from "./api.js";
import { Stream } from "./stream.js";

const SCOPES = ["read", "build", "publish", "admin"]; // each includes those before it
const SCOPE_OF = { reader: "read", developer: "build", publisher: "publish", maintainer: "admin" };
const includes = (one, scope) => SCOPES.indexOf(one) >= SCOPES.indexOf(scope);
const $ = (id) => document.getElementById(id);

/**
 * Who is signed in, or null; `refused` is called when it turns out that nobody is any more.
 * @type {{ identity: any, refused: (error: Refused) => void }}
 */
export const session = { identity: null, refused() {} };

/** Whether who is signed in may do this in a project; without one, anywhere. */
export const may = (scope, project) => session.identity.scopes.some((each) => includes(each, scope))
  && (!project || !session.identity.roles || includes(SCOPE_OF[session.identity.roles[project]], scope));

/** Show an error above the page, until something succeeds. */
export function trouble(error) {
  if (error instanceof Refused && error.status === 401 && session.identity) {
    session.refused(error);
    return;
  }
  $("trouble").textContent = error ? error.message : "";
  $("trouble").hidden = !error;
}

/** Run the action of a button, which is disabled meanwhile. */
export async function act(button, action) {
  button.disabled = true;
  try {
    await action();
    trouble(null);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    trouble(error);
  } finally {
    button.disabled = false;
  }
}

export function title(text) {
  document.title = text ? `${text} · twistedipc` : "twistedipc";
}

export const stream = new Stream((state) => {
  $("connection").textContent = state;
  $("connection").className = `connection ${state}`;
}, trouble);

/** Whether a message says that a topic of builds begins. What happened before it must be asked for. */
export const begins = ({ type, topic, project }, wanted) => type === "subscribed" && topic === "builds" && (project ?? null) === wanted;
