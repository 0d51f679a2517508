// A search in the log of one attempt: the server's, as hits come (docs/protocol.md, "Search in logs").

import { messagesOf } from "./verify.js";

const PAGE = 1000; // hits of one request
const MOST = 20_000; // hits that are kept: behind them, one is asked for at a time
const NEWS = 2000; // milliseconds from one search of what is new to the next

/** @typedef {{ record: number, parts: string[], skipped?: number }} Hit */
/** @typedef {{ text: string, kind: "text" | "regex", exact: boolean }} Asked */

export class Finder {
  #path;
  #changed;
  /** @type {Asked | null} */
  #asked = null;
  #request = new AbortController();
  #searched = 0; // up to this record
  #timer = 0;
  /** In the log's order, from its beginning on without a hole. @type {Hit[]} */
  hits = [];
  /** How many there are; null while that isn't known. @type {number | null} */
  matches = null;
  complete = true;
  error = "";
  busy = false;
  /** Behind which record there are more; null: none. @type {number | null} */
  #next = null;
  #byRecord = new Map();

  /** @param {string} path of the log's search, with its attempt @param {() => void} changed */
  constructor(path, changed) {
    this.#path = path;
    this.#changed = changed;
  }

  get asked() {
    return this.#asked;
  }

  /** Search; null: show no hits. @param {Asked | null} asked @param {number} total records that there are now */
  async ask(asked, total) {
    this.stop();
    this.#asked = asked?.text ? asked : null;
    this.hits = [];
    this.#byRecord.clear();
    this.matches = null;
    this.error = "";
    this.complete = true;
    this.#next = null;
    this.busy = false;
    this.#searched = total;
    this.#changed();
    if (this.#asked) await this.#run({ limit: PAGE, count: 1 }, (end) => (this.matches = end.matches));
  }

  stop() {
    this.#request.abort();
    clearTimeout(this.#timer);
    this.#timer = 0;
  }

  /** The log goes on: what is new is searched, too. @param {number} total */
  grown(total) {
    if (!this.#asked || this.matches === null || total <= this.#searched || this.#timer || this.busy) return;
    this.#timer = setTimeout(async () => {
      this.#timer = 0;
      const after = this.#searched, before = this.matches;
      this.#searched = total;
      // Hits are kept without a hole: behind those that aren't here yet, new ones are only counted.
      const limit = this.#next === null ? PAGE : 0;
      await this.#run({ limit, count: 1, after }, (end) => (this.matches = before + end.matches));
    }, NEWS);
  }

  /** @param {number} record @returns {Hit | undefined} */
  at(record) {
    return this.#byRecord.get(record);
  }

  /** The hit behind a record, or before it; around the end. @param {number} record @param {1 | -1} way @returns {Promise<Hit | null>} */
  async beside(record, way) {
    if (way > 0) {
      while (this.#next !== null && (this.hits.at(-1)?.record ?? 0) <= record && this.hits.length < MOST) await this.#more();
      const found = this.hits[this.#behind(record)];
      if (found) return found;
      if (this.#next !== null) return (await this.#one("oldest", { after: record })) ?? this.hits[0] ?? null;
      return this.hits[0] ?? null;
    }
    const at = this.#behind(record - 1) - 1;
    if (at >= 0 && (this.#next === null || record <= this.hits.at(-1).record)) return this.hits[at];
    if (this.#next === null) return this.hits.at(-1) ?? null;
    return (await this.#one("newest", { before: record })) ?? (await this.#one("newest", {}));
  }

  /** Which hit this is, from 1; 0: that isn't known. @param {number} record */
  placeOf(record) {
    const at = this.#behind(record - 1);
    return this.hits[at]?.record === record ? at + 1 : 0;
  }

  #behind(/** @type {number} */ record) {
    let low = 0, high = this.hits.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.hits[middle].record <= record) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #url(/** @type {Record<string, string | number>} */ more) {
    const { text, kind, exact } = this.#asked;
    const query = new URLSearchParams({ q: text, kind, case: exact ? "1" : "0", format: "ndjson" });
    for (const [name, value] of Object.entries(more)) query.set(name, String(value));
    return `${this.#path}&${query}`;
  }

  /** Have all hits that may be kept: they are to be seen by themselves. */
  async all() {
    while (this.#next !== null && this.hits.length < MOST) await this.#more();
  }

  get more() {
    return this.#next !== null;
  }

  #more() {
    return this.#run({ limit: PAGE, count: 0, after: this.#next }, () => {});
  }

  async #run(/** @type {Record<string, string | number>} */ query, /** @type {(end: any) => void} */ ended) {
    this.#request.abort();
    const request = (this.#request = new AbortController());
    this.busy = true;
    this.#changed();
    try {
      const response = await fetch(this.#url(query), { credentials: "same-origin", signal: request.signal });
      if (!response.ok) throw new Error(await problemOf(response));
      let whole = false;
      for await (const message of messagesOf(response)) {
        if (request.signal.aborted) return;
        if (message.type === "hit") {
          if (message.record <= (this.hits.at(-1)?.record ?? 0)) continue;
          this.hits.push(message);
          this.#byRecord.set(message.record, message);
        } else if (message.type === "end") {
          whole = true;
          ended(message);
          this.complete &&= message.complete;
          if (query.limit) this.#next = message.next;
        }
        this.#changed();
      }
      if (!whole) throw new Error("the search broke off");
    } catch (error) {
      if (request.signal.aborted) return;
      this.error = error.message;
      this.#next = null;
    } finally {
      if (this.#request === request) {
        this.busy = false;
        this.#changed();
      }
    }
  }

  /** One hit that isn't kept, from either end of what is asked for. */
  async #one(/** @type {string} */ order, /** @type {Record<string, number>} */ within) {
    const response = await fetch(this.#url({ order, limit: 1, count: 0, ...within }), { credentials: "same-origin" });
    if (!response.ok) return null;
    for await (const message of messagesOf(response)) {
      if (message.type !== "hit") continue;
      this.#byRecord.set(message.record, message);
      return message;
    }
    return null;
  }
}

/** What the server says of a request that it refuses. @param {Response} response */
export async function problemOf(response) {
  try {
    const problem = await response.json();
    return problem.detail || problem.title;
  } catch {
    return `the server answered ${response.status}`;
  }
}
