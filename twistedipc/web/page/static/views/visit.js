// A visit to a release that only its team may see.

import { api } from "../lib/api.js";
import { el } from "../lib/elements.js";
import { title, trouble } from "../lib/shell.js";

/** A release that is for the team has sent the browser here, where it is known who this is. */
export function visitView(project, host, challenge, path) {
  const said = el("p", { class: "empty" }, `Opening the release of ${project} …`);
  title("One moment");
  api("POST", `/projects/${encodeURIComponent(project)}/visits`, { host, challenge, path })
    .then(({ url }) => location.replace(url))
    .catch((error) => {
      trouble(error);
      title("Not for you");
      said.textContent = "Your token may not see this project, or the way here wasn't valid. Open the release again.";
    });
  return { element: said, stop() {} };
}
