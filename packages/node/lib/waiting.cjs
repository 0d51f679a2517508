'use strict';
// Waiting for something, and for how long.

/** Milliseconds that a call waits for its reply, unless its caller says otherwise. */
const CALL_TIMEOUT = 30_000;
/** The longest time that a timer of Node's can have. */
const LONGEST_TIMEOUT = 2 ** 31 - 1;

/**
 * Milliseconds to wait; Infinity is as long as it takes.
 *
 * @param {unknown} [timeout]
 * @throws {RangeError} it isn't a number from 0 on
 */
function timeoutOf(timeout = CALL_TIMEOUT) {
  if (typeof timeout === 'number' && timeout >= 0) return timeout;
  throw new RangeError(`a timeout is a number of milliseconds, from 0 on, and not ${String(timeout)}`);
}

/** Promises that wait for one thing, all of which are settled together. */
class Waiting {
  constructor() {
    /** @type {Set<{ resolve: () => void, reject: (error: Error) => void }>} */
    this._all = new Set();
  }

  get size() {
    return this._all.size;
  }

  /**
   * @param {AbortSignal} [signal]
   * @returns {Promise<void>}
   */
  wait(signal) {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const entry = { resolve, reject };
      this._all.add(entry);
      if (signal) {
        const abort = () => {
          this._all.delete(entry);
          reject(signal.reason);
        };
        signal.addEventListener('abort', abort, { once: true });
        const settled = (/** @type {(value?: any) => void} */ settle) => (/** @type {any} */ value) => {
          signal.removeEventListener('abort', abort);
          settle(value);
        };
        entry.resolve = settled(resolve);
        entry.reject = settled(reject);
      }
    });
  }

  /** They have it. */
  release() {
    const all = [...this._all];
    this._all.clear();
    for (const { resolve } of all) resolve();
  }

  /** @param {Error} error */
  fail(error) {
    const all = [...this._all];
    this._all.clear();
    for (const { reject } of all) reject(error);
  }
}

module.exports = { Waiting, LONGEST_TIMEOUT, timeoutOf };
