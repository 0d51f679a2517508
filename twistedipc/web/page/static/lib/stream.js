// The one WebSocket for all that the page follows (docs/protocol.md).

import { api } from "./api.js";

const LONGEST_PAUSE = 15_000; // milliseconds between two attempts to connect

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
    // The server knows one subscription of a kind: it goes on while anything here follows the same.
    const wanted = JSON.stringify(request);
    const same = ({ after: _, ...other }) => JSON.stringify(other) === wanted;
    if (![...this.#topics].some((other) => same(other.request()))) this.#send({ type: "unsubscribe", ...request });
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
