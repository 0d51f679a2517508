// What all views share: who is signed in and what they may do, the stream, a place for errors, the page's title.

import { Refused } from "./api.js";
import { Store } from "./store.js";
import { Stream } from "./stream.js";

const SCOPES = ["read", "build", "publish", "admin"]; // each includes those before it
const SCOPE_OF = { reader: "read", developer: "build", publisher: "publish", maintainer: "admin" };
const includes = (one, scope) => SCOPES.indexOf(one) >= SCOPES.indexOf(scope);

/**
 * Who is signed in, as the API says; null: nobody is.
 * @type {Store<any>}
 */
export const identity = new Store(null);

/** Why nobody is signed in any more, as a sentence; "": nobody was. */
export const farewell = new Store("");

/**
 * Whether who is signed in may do this in a project; without one, anywhere.
 * @param {string} scope
 * @param {string} [project]
 */
export const may = (scope, project) => Boolean(identity.value?.scopes.some((each) => includes(each, scope)))
  && (!project || !identity.value.roles || includes(SCOPE_OF[identity.value.roles[project]], scope));

/**
 * The error that is shown above the view, or null.
 * @type {Store<{ message: string } | null>}
 */
export const complaint = new Store(null);

/** Something that was done, in a sentence that is shown for a moment. */
export const notice = new Store("");

/**
 * Show an error above the page, until something succeeds.
 * @param {{ message: string } | null} error
 */
export function trouble(error) {
  if (error instanceof Refused && error.status === 401 && identity.value) {
    signedOut(`You are signed out: ${error.message}.`);
    return;
  }
  complaint.set(error);
}

/** Forget who was signed in, and say why. */
export function signedOut(why) {
  stream.stop();
  complaint.set(null);
  farewell.set(why);
  identity.set(null);
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

/** @param {string} text */
export function title(text) {
  document.title = text ? `${text} · twistedipc` : "twistedipc";
}

export const stream = new Stream(trouble);

/** Whether a message says that a topic of builds begins. What happened before it must be asked for. */
export const begins = ({ type, topic, project }, wanted) => type === "subscribed" && topic === "builds" && (project ?? null) === wanted;
