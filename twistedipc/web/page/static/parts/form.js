// Forms: labelled fields, one button, and what came of it beside the button.

import { useAction } from "../lib/data.js";
import { html, useState } from "../lib/html.js";

let fields = 0;
/** An id for an element of this component. */
const useId = () => useState(() => `field-${(fields += 1)}`)[0];

/**
 * A form. `send(values, form)` gets what was filled in, trimmed, by the fields' names; it may return a sentence that is
 * shown in the place of `done`. The fields are emptied afterwards, unless they are to stay. `close` is for who wants none of it.
 * @param {{ send: (values: Record<string, string>, form: HTMLFormElement) => Promise<string | void>, verb: string, done?: string,
 *   close?: () => void, stays?: boolean, row?: boolean, danger?: boolean, children?: any, class?: string }} properties
 */
export function Form({ send, verb, done = "Saved.", close, stays = false, row = false, danger = false, children, class: more = "" }) {
  const [said, setSaid] = useState("");
  const { run, busy, error } = useAction(async (form) => {
    /** @type {Record<string, string>} */
    const values = {};
    for (const [name, value] of new FormData(form)) values[name] = String(value).trim();
    setSaid("");
    const sentence = await send(values, form);
    if (!stays) form.reset();
    setSaid(typeof sentence === "string" ? sentence : done);
  });
  const submit = (event) => {
    event.preventDefault();
    run(event.currentTarget);
  };
  return html`<form class=${`form ${row ? "in-row" : ""} ${more}`} onSubmit=${submit}>
    ${children}
    <div class="actions"><button class=${danger ? "danger" : row ? "quiet" : ""} disabled=${busy}>${verb}</button>
      ${close && html`<button type="button" class="quiet" onClick=${close}>Cancel</button>`}<span class="soft" role="status">${said}</span></div>
    ${error && html`<p class="refusal" role="alert">${error.message}</p>`}
  </form>`;
}

/**
 * A labelled input; with `options` (values, or pairs of a value and its label) a choice, with `lines` several lines. `value` is
 * what it begins with: what is typed stays when the view is drawn again, as it is when a build ends.
 * @param {{ label: string, name: string, help?: any, options?: (string | [string, string])[], lines?: number, unseen?: boolean, value?: any, [more: string]: any }} properties
 */
export function Field({ label, name, help, options, lines, unseen = false, value: first, ...more }) {
  const id = useId();
  const given = { id, name, "aria-describedby": help ? `${id}-help` : undefined, ...more };
  const pairs = options?.map((each) => (Array.isArray(each) ? each : [each, each]));
  return html`<div class="field">
    <label for=${id} class=${unseen ? "unseen" : ""}>${label}</label>
    ${pairs ? html`<select ...${given}>${pairs.map(([value, text]) => html`<option value=${value} defaultSelected=${value === first}>${text}</option>`)}</select>`
      : lines ? html`<textarea rows=${lines} autocomplete="off" spellcheck=${false} defaultValue=${first ?? ""} ...${given}></textarea>`
      : html`<input autocomplete="off" spellcheck=${false} defaultValue=${first ?? ""} ...${given} />`}
    ${help && html`<p class="help" id=${`${id}-help`}>${help}</p>`}
  </div>`;
}

/**
 * A switch with its label behind it. Its value in a form is "on", or it isn't there. `checked` is how it begins.
 * @param {{ label: any, name: string, help?: any, checked?: boolean, [more: string]: any }} properties
 */
export function Check({ label, name, help, checked = false, ...more }) {
  const id = useId();
  return html`<div class="check"><input type="checkbox" id=${id} name=${name} aria-describedby=${help ? `${id}-help` : undefined} defaultChecked=${checked} ...${more} />
    <label for=${id}>${label}</label>${help && html`<p class="help" id=${`${id}-help`}>${help}</p>`}</div>`;
}

/**
 * A button that does something, and says beneath if it was refused.
 * @param {{ action: () => Promise<void>, class?: string, children?: any, [more: string]: any }} properties
 */
export function Button({ action, class: kind = "quiet", children, ...more }) {
  const { run, busy, error } = useAction(action);
  return html`<button type="button" class=${kind} disabled=${busy} onClick=${() => run()} ...${more}>${children}</button>
    ${error && html`<span class="refusal" role="alert">${error.message}</span>`}`;
}
