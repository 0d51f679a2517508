// Asks the server for the blocks of a log that are seen and aren't here, what is seen now first.

import { api } from "../lib/api.js";
import { blockOf, firstOf } from "./blocks.js";

const TOGETHER = 4; // blocks that are asked for at once
const REQUESTS = 3; // that go on at once
const AGAIN = 2000; // milliseconds until what couldn't be read is asked for again

export class Reading {
  #about;
  #wanted = /** @type {number[]} */ ([]);
  #asked = new Set(); // blocks
  #requests = 0;
  #timer = 0;
  #stopped = false;

  /**
   * @param {{ build: number, attempt: number, blocks: import("./blocks.js").Blocks, total: () => number, came: () => void }} about
   *   `came()`: something has been read, or is to be asked for again
   */
  constructor(about) {
    this.#about = about;
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  /** These blocks are seen now; those before them aren't any more. @param {number[]} seen */
  want(seen) {
    for (const block of seen) this.#about.blocks.get(block); // to look at them keeps them here
    this.#wanted = seen;
    this.#ask();
  }

  #ask() {
    if (this.#timer) return;
    const { blocks, total } = this.#about;
    const lacks = (/** @type {number} */ block) => !this.#asked.has(block) && !blocks.peek(block)?.has(total());
    while (this.#requests < REQUESTS) {
      const first = this.#wanted.find(lacks);
      if (first === undefined) return;
      let last = first;
      while (last - first + 1 < TOGETHER && this.#wanted.includes(last + 1) && lacks(last + 1)) last += 1;
      this.#read(first, last);
    }
  }

  async #read(/** @type {number} */ first, /** @type {number} */ last) {
    const { build, attempt, blocks, total, came } = this.#about;
    this.#requests += 1;
    for (let block = first; block <= last; block++) this.#asked.add(block);
    const end = Math.min(firstOf(last + 1) - 1, total());
    let got = false;
    try {
      let after = firstOf(first) - 1;
      while (after < end) {
        const page = await api("GET", `/builds/${build}/log?attempt=${attempt}&after=${after}&limit=${end - after}`);
        if (this.#stopped) return;
        if (page.after <= after) break;
        for (const batch of page.batches) blocks.take(batch, (number) => blockOf(number) >= first && blockOf(number) <= last);
        after = page.after;
        got = true;
        came();
      }
    } catch {
      // It is asked for again, below.
    } finally {
      this.#requests -= 1;
      for (let block = first; block <= last; block++) this.#asked.delete(block);
    }
    if (this.#stopped) return;
    if (got) this.#ask();
    else if (!this.#timer) {
      this.#timer = setTimeout(() => {
        this.#timer = 0;
        came();
        this.#ask();
      }, AGAIN);
    }
  }
}
