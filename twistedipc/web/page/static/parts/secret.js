// Something that is shown once: a new token, a code, a key. It goes when the view does, and can be copied.

import { html, useState } from "../lib/html.js";
import { Icon } from "./icon.js";

/**
 * @param {{ what: any, value: string, children?: any }} properties `what`: a sentence that ends before the value
 */
export function Secret({ what, value, children }) {
  const [said, setSaid] = useState("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(value);
      setSaid("Copied.");
    } catch {
      setSaid("This browser doesn't let a page copy here: select it.");
    }
  };
  return html`<div class="held secret" role="status"><p>${what} It isn't shown again.</p>
    <p class="row"><code class="long">${value}</code><button type="button" class="quiet small" onClick=${copy}><${Icon} name="copy" />Copy</button> <span class="soft">${said}</span></p>${children}</div>`;
}
