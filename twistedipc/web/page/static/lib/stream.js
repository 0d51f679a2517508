// The one WebSocket for all that the page follows (docs/protocol.md).

import { api } from "./api.js";
import { Store } from "./store.js";

const SOON = 1_000; // milliseconds between the first attempts to connect again
const SOON_TIMES = 120; // a restart takes seconds, an upgrade with a large database minutes: who watches is back at once
const LONGEST_PAUSE = 15_000; // between later ones

/**
 * How the connection is: `at` is when it is tried next (0: now), and `since` when it was lost.
 * @typedef {{ state: "" | "live" | "reconnecting", at: number, since: number }} Connection
 */

/** One WebSocket for everything that the page follows. It reconnects by itself, and subscribes again. */
export class Stream {
  /** @type {Store<Connection>} */
  connection = new Store({ state: "", at: 0, since: 0 });
  #socket = null;
  #topics = new Set();
  #tries = 0;
  #timer = 0;
  #connecting = false;
  #stopped = true;
  #refused;

  /** `refused(error)`: the person isn't signed in any more. */
  constructor(refused) {
    this.#refused = refused;
    addEventListener("online", () => this.now());
    document.addEventListener("visibilitychange", () => document.hidden || this.now());
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
    this.connection.set({ state: "", at: 0, since: 0 });
  }

  /** Try to connect at once, if it is waited for. */
  now() {
    if (this.#stopped || this.#socket || this.#connecting) return;
    clearTimeout(this.#timer);
    this.#connect();
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
    this.#connecting = true;
    const { state, since } = this.connection.value;
    if (state === "reconnecting") this.connection.set({ state, at: 0, since });
    let ticket;
    try {
      ({ ticket } = await api("POST", "/tickets"));
    } catch (error) {
      if (error.status === 401) this.#refused(error);
      else this.#again();
      return;
    } finally {
      this.#connecting = false;
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
      this.connection.set({ state: "live", at: 0, since: opened });
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
      if (opened && Date.now() - opened > 5_000) this.#tries = 0;
      this.#again();
    };
  }

  #again() {
    if (this.#stopped) return;
    const { state, since } = this.connection.value;
    this.#tries += 1;
    const longer = Math.min(SOON * 2 ** Math.max(0, this.#tries - SOON_TIMES), LONGEST_PAUSE);
    const pause = longer * (0.75 + Math.random() / 4); // many pages don't come back at the same moment
    this.connection.set({ state: "reconnecting", at: Date.now() + pause, since: state === "reconnecting" ? since : Date.now() });
    this.#timer = setTimeout(() => this.#connect(), pause);
  }

  #send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }
}
