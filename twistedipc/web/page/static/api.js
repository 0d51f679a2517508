// The API: requests, and the one WebSocket for all that the page follows (docs/protocol.md).

const LONGEST_PAUSE = 15_000; // milliseconds between two attempts to connect

/** An unsuccessful answer, in the server's words; status 0: there was no answer. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Send a request to the API, and return its JSON. Throws `Refused`. */
export async function api(method, path, body, headers = {}) {
  let response, text;
  try {
    response = await fetch(`/api/v1${path}`, {
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

/** One WebSocket for everything that the page follows. It reconnects by itself, and subscribes again. */
export class Stream {
  #socket = null;
  #topics = new Set();
  #pause = 500;
  #timer = 0;
  #stopped = true;
  #refused;
  #tell;

  /** `tell(state)`: "live", "reconnecting" or ""; `refused(error)`: the person isn't signed in any more. */
  constructor(tell, refused) {
    this.#tell = tell;
    this.#refused = refused;
  }

  start() {
    if (!this.#stopped) return;
    this.#stopped = false;
    this.#connect();
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#socket?.close();
    this.#socket = null;
    this.#tell("");
  }

  /** `topic`: { request() → subscribe message, concerns(message), heard(message) }; it may hear `subscribed` more than once. */
  follow(topic) {
    this.#topics.add(topic);
    this.#send({ type: "subscribe", ...topic.request() });
  }

  leave(topic) {
    if (!this.#topics.delete(topic)) return;
    const { after, ...request } = topic.request();
    this.#send({ type: "unsubscribe", ...request });
  }

  async #connect() {
    let ticket;
    try {
      ({ ticket } = await api("POST", "/tickets"));
    } catch (error) {
      if (error.status === 401) this.#refused(error);
      else this.#again();
      return;
    }
    if (this.#stopped) return;
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    // Compression is worth a little of the server's time, unless the server is on this machine.
    const compress = /^(localhost|127\..*|\[::1\])$/.test(location.hostname) ? 0 : 1;
    const query = `ticket=${encodeURIComponent(ticket)}&compress=${compress}`;
    const socket = new WebSocket(`${scheme}//${location.host}/api/v1/stream?${query}`);
    this.#socket = socket;
    let opened = 0;
    socket.onopen = () => {
      opened = Date.now();
      this.#tell("live");
      for (const topic of this.#topics) this.#send({ type: "subscribe", ...topic.request() });
    };
    socket.onmessage = (event) => {
      const message = JSON.parse(event.data);
      for (const topic of this.#topics) if (topic.concerns(message)) topic.heard(message);
    };
    socket.onclose = () => {
      if (this.#socket !== socket) return;
      this.#socket = null;
      // After a connection that didn't last, the pauses get longer.
      if (opened && Date.now() - opened > 5_000) this.#pause = 500;
      this.#again();
    };
  }

  #again() {
    if (this.#stopped) return;
    this.#tell("reconnecting");
    this.#timer = setTimeout(() => this.#connect(), this.#pause * (0.5 + Math.random() / 2));
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE);
  }

  #send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }
}
