// The records of a log that the page has: in blocks, of which those that weren't looked at for longest go first. Pure.

/** Records of a block: the first one has those from 1 to `BLOCK`. */
export const BLOCK = 256;
const MAX_SIZE = 12_000_000; // characters that are kept
const MIN_BLOCKS = 8; // that are kept, however large they are: more than are seen at a time
const FIXED = 64; // what a record takes beside its characters

/** @typedef {{ type: "gap", from: number, to: number, reason: string }} Gap */
/** @typedef {{ type: string, [name: string]: any }} Event */
/** @typedef {string | Event | Gap} LogRecord */

export const blockOf = (/** @type {number} */ number) => Math.floor((number - 1) / BLOCK);
export const firstOf = (/** @type {number} */ block) => block * BLOCK + 1;

/** Some of the records of one block. */
export class Block {
  /** @param {number} index */
  constructor(index) {
    this.first = firstOf(index);
    /** @type {(LogRecord | undefined)[]} */
    this.records = [];
    this.known = 0; // of them
    this.size = 0;
    /** Records that the next one continues. @type {Set<number>} */
    this.more = new Set();
    /** When records were captured, by the first of them, in order. @type {{ first: number, time: number }[]} */
    this.times = [];
    this.version = 0; // rises with each change
  }

  /** @param {number} number @param {LogRecord} record @param {boolean} more */
  put(number, record, more) {
    const at = number - this.first;
    if (this.records[at] !== undefined) return;
    this.records[at] = record;
    this.known += 1;
    this.version += 1;
    this.size += FIXED + (typeof record === "string" ? record.length : 200);
    if (more) this.more.add(number);
  }

  /** When a record was captured; undefined if that isn't known. @param {number} number */
  timeOf(number) {
    let found;
    for (const { first, time } of this.times) {
      if (first > number) break;
      found = time;
    }
    return found;
  }

  /** Whether all is here, of a log with so many records. @param {number} total */
  has(total) {
    return this.known >= Math.min(BLOCK, total - this.first + 1);
  }
}

/** The blocks that are kept. */
export class Blocks {
  /** @type {Map<number, Block>} */
  #blocks = new Map(); // the one that was looked at last is last
  #size = 0;
  #most;

  constructor(most = MAX_SIZE) {
    this.#most = most;
  }

  get size() {
    return this.#size;
  }

  get count() {
    return this.#blocks.size;
  }

  /** A block as it is, without a look at it. @param {number} index @returns {Block | undefined} */
  peek(index) {
    return this.#blocks.get(index);
  }

  /** @param {number} index @returns {Block | undefined} */
  get(index) {
    const found = this.#blocks.get(index);
    if (found) {
      this.#blocks.delete(index);
      this.#blocks.set(index, found);
    }
    return found;
  }

  /**
   * Take a message of lines, or a gap, as it comes from the server.
   * @param {any} message
   * @param {(number: number) => boolean} [wanted] whether this record's block is wanted
   */
  take(message, wanted = () => true) {
    if (message.type === "gap") this.#gap(message, wanted);
    else if (message.type === "lines") this.#lines(message, wanted);
    this.#trim();
  }

  /** @param {any} message @param {(number: number) => boolean} wanted */
  #lines({ first, time, lines, more }, wanted) {
    const open = more?.length ? new Set(more) : null;
    for (let index = 0; index < lines.length;) {
      const block = blockOf(first + index);
      const end = Math.min(lines.length, firstOf(block + 1) - first);
      if (wanted(first + index)) {
        const kept = this.#block(block);
        const before = kept.size;
        if (!kept.times.some((each) => each.first === first + index)) {
          kept.times.push({ first: first + index, time });
          kept.times.sort((one, other) => one.first - other.first);
        }
        for (let at = index; at < end; at++) kept.put(first + at, lines[at], Boolean(open?.has(at)));
        this.#size += kept.size - before;
      }
      index = end;
    }
  }

  /** A gap may be of a thousand million records: only what is wanted of it is written down. @param {any} gap @param {(number: number) => boolean} wanted */
  #gap(gap, wanted) {
    const from = blockOf(gap.from), to = blockOf(gap.to);
    for (const index of from + 2 < to ? [from, from + 1, to] : [from, from + 1, from + 2]) {
      const first = Math.max(gap.from, firstOf(index)), last = Math.min(gap.to, firstOf(index + 1) - 1);
      if (first > last || !wanted(first)) continue;
      const kept = this.#block(index);
      const before = kept.size;
      const part = { type: "gap", from: first, to: last, reason: gap.reason };
      for (let number = first; number <= last; number++) kept.put(number, part, false);
      this.#size += kept.size - before;
    }
  }

  /** @param {number} index */
  #block(index) {
    let found = this.get(index);
    if (!found) this.#blocks.set(index, (found = new Block(index)));
    return found;
  }

  #trim() {
    for (const [index, block] of this.#blocks) {
      if (this.#size <= this.#most || this.#blocks.size <= MIN_BLOCKS) return;
      this.#blocks.delete(index);
      this.#size -= block.size;
    }
  }
}
