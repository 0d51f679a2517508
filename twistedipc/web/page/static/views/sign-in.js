// Where people sign in.

import { api } from "../lib/api.js";
import { useAction } from "../lib/data.js";
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { farewell, title } from "../lib/shell.js";
import { useStore } from "../lib/store.js";

/**
 * The form: a token or a code, and the provider's button. `failure`: what a provider's sign-in has led to.
 * @param {{ signIn: (token: string) => Promise<void>, failure: string }} properties
 */
export function SignIn({ signIn, failure }) {
  const said = useStore(farewell);
  const [ways, setWays] = useState({ provider: null, failures: {} });
  const field = useRef(null);
  const { run, busy, error } = useAction(signIn);
  useEffect(() => {
    title("Sign in");
    field.current.focus();
    api("GET", "/sign-in").then(setWays, () => {}); // a token is a way in all the same
  }, []);
  const submit = async (event) => {
    event.preventDefault();
    if (!await run(field.current.value.trim())) field.current?.select();
  };
  const why = error?.message ?? (failure ? ways.failures[failure] ?? (ways.provider ? "The sign-in has failed: begin again." : "") : said);
  return html`<form class="sign-in" onSubmit=${submit}>
    <h1>Sign in</h1>
    ${ways.provider && html`<a class="button" href=${ways.provider.url} onClick=${() => sessionStorage.setItem("then", location.hash || "#/")}>Sign in with ${ways.provider.name}</a>`}
    <label for="token">Token, or an invitation's code</label>
    <input id="token" ref=${field} type="password" autocomplete="current-password" required spellcheck=${false} />
    <p class="reason" role="alert" hidden=${!why}>${why}</p>
    <button disabled=${busy}>Sign in</button>
    <p class="soft">An administrator invites people with <code>twistedipc people invite</code>.</p>
  </form>`;
}
