// Requests to the API.

/** An unsuccessful answer, in the server's words; status 0: there was no answer. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/**
 * Send a request to the API, and return its JSON. Throws `Refused`.
 * @param {string} method
 * @param {string} path below /api/v1, or /healthz
 * @param {any} [body]
 * @param {Record<string, string>} [headers]
 * @returns {Promise<any>}
 */
export async function api(method, path, body, headers = {}) {
  let response, text;
  try {
    response = await fetch(path === "/healthz" ? path : `/api/v1${path}`, {
      method,
      credentials: "same-origin",
      headers: { Accept: "application/json", ...(body ? { "Content-Type": "application/json" } : {}), ...headers },
      body: body ? JSON.stringify(body) : undefined,
      signal: AbortSignal.timeout(30_000),
    });
    text = await response.text();
  } catch {
    throw new Refused(0, "The server can't be reached.");
  }
  if (response.ok) return text ? JSON.parse(text) : null;
  let message = `The server answered ${response.status}.`;
  try {
    const problem = JSON.parse(text);
    message = problem.detail || problem.title || message;
  } catch {
    // Not a problem report: the page of a proxy, say.
  }
  throw new Refused(response.status, message);
}

/** The API's path of a project, or of something that it has. */
export const ofProject = (name, ...parts) => `/${["projects", name, ...parts].map(encodeURIComponent).join("/")}`;
