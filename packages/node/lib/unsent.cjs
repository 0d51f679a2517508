'use strict';
// What waits for the next link: calls, within their timeouts, and one-way messages, as many as the queue takes. They are
// sent in the order in which they were given.

const { CallTimedOut, LocalProtocolError, QueueFull, TooManyCalls } = require('./errors.cjs');
const { encode } = require('./json.cjs');
const { checked } = require('./session.cjs');
const { LONGEST_TIMEOUT } = require('./waiting.cjs');

/** Bytes of a call that aren't its request, at most. */
const AROUND_REQUEST = 64;

/**
 * @typedef {object} Entry
 * @property {string} type
 * @property {object} fields a copy, as it was when it was given
 * @property {number} size
 * @property {import('./link.cjs').Asked} [asked] of a call
 * @property {number} [deadline]
 * @property {AbortSignal} [signal]
 */

class Unsent {
  /**
   * @param {import('./session.cjs').Settings} settings
   * @param {number} queue bytes of messages that are kept
   */
  constructor(settings, queue) {
    this._settings = settings;
    this._queue = queue;
    /** @type {Set<Entry>} */
    this._entries = new Set();
    this._bytes = 0;
    this._calls = 0;
  }

  /**
   * @param {string} type
   * @param {object | undefined} request
   * @param {{ timeout: number, signal?: AbortSignal, why: () => string }} options
   * @param {import('./link.cjs').Asked} asked
   */
  call(type, request, { timeout, signal, why }, asked) {
    const { maxCalls, frameLimit } = this._settings;
    if (signal?.aborted) throw signal.reason;
    if (this._calls >= maxCalls) {
      throw new TooManyCalls(`${maxCalls} calls of this side wait for a link, its own limit (maxCalls)`);
    }
    const { fields } = this._measured('call', type, request, frameLimit - AROUND_REQUEST);
    /** @type {Entry} */
    const entry = { type, fields, size: 0, deadline: performance.now() + timeout, signal };
    const timer = setTimeout(() => end(new CallTimedOut(`no link in time for ${type}: ${why()}`)), Math.min(timeout, LONGEST_TIMEOUT));
    timer.unref(); // the side that dials keeps the process alive, if anything does
    const abort = () => end(signal?.reason);
    const forget = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    };
    const end = (/** @type {Error} */ error) => {
      this._remove(entry);
      forget();
      asked.reject(error);
    };
    signal?.addEventListener('abort', abort, { once: true });
    entry.asked = { resolve: asked.resolve, reject: asked.reject, forget };
    this._calls += 1;
    this._entries.add(entry);
  }

  /**
   * @param {string} type
   * @param {object | undefined} message
   * @param {string} why there is no link
   */
  send(type, message, why) {
    const { fields, size } = this._measured('message', type, message, this._settings.frameLimit);
    if (this._bytes + size + 1 > this._queue) {
      throw new QueueFull(`there is no link (${why}), and the queue for the next one is full`);
    }
    this._bytes += size + 1;
    this._entries.add({ type, fields, size: size + 1 });
  }

  /**
   * Send everything on a link, as long as it lasts.
   *
   * @param {import('./link.cjs').Link} link
   */
  sendAll(link) {
    for (const entry of this._entries) {
      if (link.session.state !== 'ready') return;
      this._remove(entry);
      const { type, fields, asked, deadline, signal } = entry;
      if (asked) {
        asked.forget?.();
        link.call(type, fields, { timeout: /** @type {number} */ (deadline) - performance.now(), signal }, asked);
      } else {
        try {
          link.send(type, fields);
        } catch (error) {
          link.fault(error, `a message that waited, ${type}`); // the peer takes less than was known
        }
      }
    }
  }

  /** @param {() => Error} error */
  failCalls(error) {
    for (const entry of this._entries) {
      if (!entry.asked) continue;
      this._remove(entry);
      entry.asked.forget?.();
      entry.asked.reject(error());
    }
  }

  dropMessages() {
    for (const entry of this._entries) if (!entry.asked) this._remove(entry);
  }

  /** @param {Entry} entry */
  _remove(entry) {
    if (!this._entries.delete(entry)) return;
    this._bytes -= entry.size;
    if (entry.asked) this._calls -= 1;
  }

  /**
   * @param {import('./catalogue.cjs').Kind} kind
   * @param {string} type
   * @param {object | undefined} fields
   * @param {number} limit
   */
  _measured(kind, type, fields, limit) {
    const line = encode(checked(this._settings.askedSchema, kind, type, fields), type);
    const size = Buffer.byteLength(line);
    if (size > limit) throw new LocalProtocolError(`${type} has ${size} bytes, over the limit of ${limit}`, 'too-large');
    return { fields: JSON.parse(line), size };
  }
}

module.exports = { Unsent };
