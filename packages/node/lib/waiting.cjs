'use strict';

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

module.exports = { Waiting };
