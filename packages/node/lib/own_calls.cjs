'use strict';
// The calls of this side that wait for their answers. Sans-IO; used by `Session`.

const { TooManyCalls } = require('./errors.cjs');
const { remoteFault } = require('./json.cjs');

/** @typedef {{ type: string, deadline: number, forItems: boolean }} OwnCall */

class OwnCalls {
  /** @param {number} most */
  constructor(most) {
    this._most = most;
    this._last = 0;
    /** @type {Map<number, OwnCall>} */
    this._waiting = new Map();
    /** when `expired` is to be called */
    this.earliest = Infinity;
  }

  /** Whether any waits for its answer. */
  get isWaiting() {
    return this._waiting.size > 0;
  }

  /** The id of the last call that was made; 0: there was none. */
  get last() {
    return this._last;
  }

  /** The id of the next call. Throws `TooManyCalls` if there can't be one. */
  get nextId() {
    if (this._waiting.size >= this._most) {
      throw new TooManyCalls(`${this._most} calls of this side are in flight, its own limit (maxCalls)`);
    }
    return this._last + 1;
  }

  /**
   * Note that the next call was made.
   *
   * @param {string} type
   * @param {number} deadline
   * @param {boolean} [forItems] whether it is answered by items
   */
  made(type, deadline, forItems = false) {
    this._last += 1;
    this._waiting.set(this._last, { type, deadline, forItems });
    if (deadline < this.earliest) this.earliest = deadline;
  }

  /**
   * Forget a call, and return what it was, if it waits for its answer. Throws if there never was such a call.
   *
   * @param {number} id
   * @returns {OwnCall | undefined}
   */
  answered(id) {
    if (id > this._last) throw remoteFault('bad-message', `call ${id} was never made`);
    const call = this._waiting.get(id);
    this._waiting.delete(id);
    return call;
  }

  /**
   * Return a call that waits for its answer. Throws if there never was such a call.
   *
   * @param {number} id
   */
  get(id) {
    if (id > this._last) throw remoteFault('bad-message', `call ${id} was never made`);
    return this._waiting.get(id);
  }

  /** @param {number} id @returns {boolean} whether it waited */
  forget(id) {
    return this._waiting.delete(id);
  }

  /**
   * The calls whose time is over.
   *
   * @param {number} now
   * @returns {Array<[number, OwnCall]>}
   */
  expired(now) {
    if (now < this.earliest) return [];
    this.earliest = Infinity;
    /** @type {Array<[number, OwnCall]>} */
    const over = [];
    for (const [id, call] of this._waiting) {
      if (call.deadline <= now) over.push([id, call]);
      else this.earliest = Math.min(this.earliest, call.deadline);
    }
    return over;
  }

  clear() {
    this._waiting.clear();
  }
}

module.exports = { OwnCalls };
