// Where people sign in.

import { api } from "../lib/api.js";
import { el } from "../lib/elements.js";
import { act, title } from "../lib/shell.js";

/** What is added to the form of the sign-in, in which a token can be typed: the provider's button, and why it failed. */
async function providerOf(failure) {
  const { provider, failures } = await api("GET", "/sign-in");
  return {
    button: provider ? el("a", { class: "button", href: provider.url }, `Sign in with ${provider.name}`) : null,
    said: failure ? failures[failure] ?? "The sign-in has failed: begin again." : "",
  };
}

/** The form in which somebody signs in: `signIn(token)` does it; `message` and `failure` say why it is shown. */
export function signInView(signIn, message, failure) {
  const input = el("input", { id: "token", type: "password", autocomplete: "current-password", required: "", spellcheck: "false" });
  const said = el("p", { class: "reason", role: "alert", hidden: !message }, message ?? "");
  const button = el("button", {}, "Sign in");
  const form = el("form", { class: "sign-in" }, el("h1", {}, "Sign in"), el("label", { for: "token" }, "Token, or an invitation's code"), input, button, said,
    el("p", { class: "soft" }, "An administrator invites people with ", el("code", {}, "twistedipc people invite"), "."));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    act(button, async () => {
      try {
        await signIn(input.value.trim());
      } catch (error) {
        said.textContent = error.message;
        said.hidden = false;
        input.select();
      }
    });
  });
  title("Sign in");
  providerOf(failure).then(({ button: way, said: why }) => {
    way?.addEventListener("click", () => sessionStorage.setItem("then", location.hash || "#/"));
    if (way) form.querySelector("h1").after(way);
    if (why) {
      said.textContent = why;
      said.hidden = false;
    }
  }).catch(() => {}); // a token is a way in all the same
  return { element: form, stop() {} };
}
