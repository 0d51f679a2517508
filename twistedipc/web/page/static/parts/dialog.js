// The one question that is asked before something is done that others notice.

import { html, useEffect, useLayoutEffect, useRef } from "../lib/html.js";
import { useAction } from "../lib/data.js";
import { Store, useStore } from "../lib/store.js";

/**
 * @typedef {object} Question
 * @property {string} title what is to be done: "Make release 12 live?"
 * @property {any} said what will be replaced or ended, as a string or an element of `html`
 * @property {string} verb of the button: "Make it live"
 * @property {boolean} [danger] it can't be taken back
 * @property {string} [typed] what must be typed before, as the name of what is deleted
 * @property {() => Promise<void>} [action] what is done; the question stays, with the error, if it is refused
 */

/** @type {Store<(Question & { answer: (yes: boolean) => void }) | null>} */
const open = new Store(null);

/**
 * Ask, and return whether it was agreed to, and done.
 * @param {Question} question
 * @returns {Promise<boolean>}
 */
export function ask(question) {
  open.value?.answer(false);
  return new Promise((resolve) => open.set({
    ...question,
    answer(yes) {
      open.set(null);
      resolve(yes);
    },
  }));
}

/** Where questions appear: once in the page. */
export function Questions() {
  const question = useStore(open);
  return question && html`<${Ask} key=${question.title} question=${question} />`;
}

function Ask({ question: { title, said, verb, danger, typed, action, answer } }) {
  const box = useRef(null), name = useRef(null);
  const { run, busy, error } = useAction(async () => action?.());
  useLayoutEffect(() => {
    const dialog = box.current;
    dialog.showModal();
    return () => dialog.close(); // gives the focus back to what had it; being removed alone doesn't
  }, []);
  const agree = async (event) => {
    event.preventDefault();
    if (typed && name.current.value.trim() !== typed) {
      name.current.setCustomValidity(`Type ${typed}`);
      name.current.reportValidity();
      return;
    }
    if (await run()) answer(true);
  };
  return html`<dialog ref=${box} class="dialog" aria-labelledby="question" onCancel=${() => answer(false)}>
    <form onSubmit=${agree}>
      <h2 id="question">${title}</h2>
      <div class="said-in">${typeof said === "string" ? html`<p>${said}</p>` : said}</div>
      ${typed && html`<label>Type <code>${typed}</code> to go on
        <input ref=${name} autocomplete="off" spellcheck=${false} onInput=${(event) => event.target.setCustomValidity("")} required /></label>`}
      ${error && html`<p class="refusal" role="alert">${error.message}</p>`}
      <div class="actions"><button type="button" class="quiet" onClick=${() => answer(false)}>Don't</button>
        <button class=${danger ? "danger" : ""} disabled=${busy}>${verb}</button></div>
    </form>
  </dialog>`;
}

/**
 * A button in a table that removes something, once it was agreed to.
 * @param {{ what: string, said: any, action: () => Promise<any>, verb?: string, typed?: string }} properties `what`: a name, of what is
 *   removed; `said`: what ends with it
 */
export function Remove({ what, said, action, verb = "Remove", typed }) {
  const remove = () => ask({ title: `${verb} ${what}?`, said, verb, danger: true, typed, action });
  return html`<button type="button" class="quiet small" aria-label=${`${verb} ${what}`} onClick=${remove}>${verb}</button>`;
}

/**
 * A sheet over the page that is only read.
 * @param {{ title: string, close: () => void, children?: any }} properties
 */
export function Sheet({ title, close, children }) {
  const box = useRef(null);
  useEffect(() => box.current.showModal(), []);
  return html`<dialog ref=${box} class="dialog" aria-labelledby="sheet" onClose=${close} onClick=${(event) => event.target === box.current && close()}>
    <div><h2 id="sheet">${title}</h2>${children}<form method="dialog" class="actions"><button class="quiet">Close</button></form></div>
  </dialog>`;
}
