// Whether a log is all of it: the digest over its records (docs/protocol.md, "Logs").

import { counted } from "../lib/elements.js";
import { SHA256 } from "./sha256.js";

const MAX_WAITING = 50_000; // records that wait to be hashed
const BUDGET = 8; // milliseconds of hashing at a time

const encoder = new TextEncoder();

/** The digest of a log, of messages that come in order. */
export class LogDigest {
  #sha = new SHA256();
  count = 0;
  missing = 0;

  /** Take a message into account. Throws if records are missing before it. @param {any} message */
  add(message) {
    const first = message.type === "gap" ? message.from : message.first;
    if (first !== this.count + 1) throw new Error(`record ${first} came where record ${this.count + 1} is next`);
    if (message.type === "gap") {
      this.missing += message.to - message.from + 1;
      this.count = message.to;
      return;
    }
    let text = "";
    for (const record of message.lines) text += `${typeof record === "string" ? record : JSON.stringify(record)}\n`;
    this.#sha.update(encoder.encode(text));
    this.count += message.lines.length;
  }

  hex() {
    return this.#sha.digest();
  }
}

/** Hashes what comes live, a little at a time; of a log that comes faster than that it gives up: `digest` is null then. */
export class Hashing {
  /** @type {LogDigest | null} */
  digest = new LogDigest();
  #messages = [];
  #waiting = 0; // records in them
  #timer = 0;
  #done;

  /** @param {() => void} done is called when nothing waits any more */
  constructor(done) {
    this.#done = done;
  }

  get busy() {
    return this.#messages.length > 0;
  }

  /** @param {any} message */
  add(message) {
    if (!this.digest) return;
    this.#messages.push(message);
    this.#waiting += message.type === "lines" ? message.lines.length : 0;
    if (this.#waiting > MAX_WAITING) {
      this.digest = null;
      this.#messages = [];
    } else if (!this.#timer) this.#timer = setTimeout(() => this.#hash());
  }

  stop() {
    clearTimeout(this.#timer);
  }

  #hash() {
    this.#timer = 0;
    const until = performance.now() + BUDGET;
    while (this.#messages.length && performance.now() < until) {
      const message = this.#messages.shift();
      this.#waiting -= message.type === "lines" ? message.lines.length : 0;
      this.digest.add(message);
    }
    if (this.#messages.length) this.#timer = setTimeout(() => this.#hash());
    else this.#done();
  }
}

/**
 * What can be said of a log at its end: a sentence and its tone.
 * @param {{ lines: number, sha256: string, complete: boolean }} end
 * @param {LogDigest | null} digest of what came here, from the first record on; null: not all came here
 * @returns {[string, "good" | "bad"]}
 */
export function verdict(end, digest) {
  const all = counted(end.lines, "line");
  if (digest?.missing) return [`incomplete: ${digest.missing.toLocaleString("en")} of ${all} are missing`, "bad"];
  if (digest && digest.count !== end.lines) return [`incomplete: ${digest.count.toLocaleString("en")} of ${all} came`, "bad"];
  if (!end.complete) return [`incomplete: the server couldn't verify these ${all}`, "bad"];
  if (!digest) return [`complete, verified by the server (${all})`, "good"];
  if (digest.hex() !== end.sha256) return ["not what the build wrote: the SHA-256 differs", "bad"];
  return [`complete, verified (${all})`, "good"];
}

/** The messages of a response with one on each line. @param {Response} response */
export async function* messagesOf(response) {
  const decoder = new TextDecoder();
  let rest = "";
  const reader = response.body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      const lines = (rest + (done ? decoder.decode() : decoder.decode(value, { stream: true }))).split("\n");
      rest = lines.pop();
      for (const line of lines) if (line) yield JSON.parse(line);
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/**
 * Read a whole log, keep nothing of it, and say what can be said of it.
 * @param {string} path
 * @param {AbortSignal} signal
 * @param {(count: number) => void} read is told how far it is
 */
export async function verify(path, signal, read) {
  const digest = new LogDigest();
  const response = await fetch(path, { credentials: "same-origin", signal });
  if (!response.ok) throw new Error(`the server answered ${response.status}`);
  let said = 0;
  for await (const message of messagesOf(response)) {
    if (message.type === "end") return verdict(message, digest);
    if (message.type !== "lines" && message.type !== "gap") continue;
    digest.add(message);
    if (performance.now() - said > 100) {
      said = performance.now();
      read(digest.count);
      await new Promise((resolve) => setTimeout(resolve)); // a hash of a fast answer doesn't hold the page up
    }
  }
  throw new Error("the answer broke off");
}
