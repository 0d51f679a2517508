'use strict';
// Streamed replies: `StreamedReply` is one as the program has it, `Arriving` the same one as the link has it, and
// `Streaming` one on its way out. See "Messages and calls" in
// docs/protocol.md.

const { CallFailed, CallTimedOut, LocalProtocolError } = require('./errors.cjs');
const { encode } = require('./json.cjs');
const { LONGEST_TIMEOUT, timeoutOf } = require('./waiting.cjs');

/** Bytes of items that may have been sent, or have come, and weren't taken by the program. */
const CREDIT = 1 << 18;
/** About how many bytes of items go into one frame, and are taken out of a handler in one turn of the event loop. */
const FRAME_BYTES = 1 << 15;
const TURN_BYTES = 1 << 16;
/** Bytes of a frame that aren't its items, at most. */
const AROUND_ITEMS = 64;

/** @typedef {import('./link.cjs').Link} Link */

/**
 * The items that answer a call, as they come: `for await (const row of remote.streamCall('query', { … }))`. The call is
 * made when the first item is asked for. Leaving the loop makes the other side stop. So does forgetting the reply, some
 * time later, when Node has collected it: the link doesn't hold it, but what is `Arriving`.
 */
class StreamedReply {
  /**
   * @param {(timeout: number, signal?: AbortSignal) => Promise<Link>} findLink
   * @param {string} type
   * @param {object | undefined} request
   * @param {{ timeout?: number, signal?: AbortSignal }} [options] milliseconds for a link, and for each next item
   */
  constructor(findLink, type, request, options) {
    this._arriving = new Arriving(findLink, type, request, options);
    this._isWaiting = false;
    FORGOTTEN.register(this, this._arriving);
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  /** @returns {Promise<{ done: boolean, value: any }>} */
  next() {
    const item = this._arriving.nextNow();
    return item ? Promise.resolve(item) : this._next();
  }

  async _next() {
    this._isWaiting = true;
    try {
      return await this._arriving.next();
    } finally {
      this._isWaiting = false; // used here, or the reply would be forgotten while its next item is waited for
    }
  }

  /** Take no more items: the other side is told to stop. */
  async return() {
    this._arriving.stop();
    return { done: true, value: undefined };
  }

  [Symbol.asyncDispose ?? Symbol.for('nodejs.asyncDispose')]() {
    return this.return();
  }
}

/** @type {FinalizationRegistry<Arriving>} */
const FORGOTTEN = new FinalizationRegistry((arriving) => arriving.stop());

/** What comes of a streamed reply, and wasn't taken. */
class Arriving {
  /**
   * @param {(timeout: number, signal?: AbortSignal) => Promise<Link>} findLink
   * @param {string} type
   * @param {object | undefined} request
   * @param {{ timeout?: number, signal?: AbortSignal }} options milliseconds for a link, and for each next item
   */
  constructor(findLink, type, request, { timeout, signal } = {}) {
    /** @type {typeof findLink | undefined} */
    this._findLink = findLink;
    this._type = type;
    this._request = request;
    this._timeout = timeoutOf(timeout);
    this._signal = signal;
    /** @type {Link | undefined} */
    this._link = undefined;
    this._id = 0;
    /** what has come and wasn't taken, with its bytes @type {Array<{ items: any[], size: number }>} */
    this._batches = [];
    this._at = 0; // in the first one
    this._room = CREDIT;
    this._owed = 0; // bytes that were taken, and that the peer wasn't told of
    this._count = 0;
    this._over = false;
    /** what has ended it, if it wasn't the last item @type {unknown} */
    this._error = undefined;
    this._asked = false; // for the next item, which hasn't come
    /** @type {(() => void) | undefined} */
    this._wake = undefined;
    this._forget = () => {};
  }

  /** @returns {{ done: boolean, value: any } | undefined} the next item, if it has come with the last one */
  nextNow() {
    const [batch] = this._batches;
    return batch && this._at < batch.items.length ? { done: false, value: batch.items[this._at++] } : undefined;
  }

  /** @returns {Promise<{ done: boolean, value: any }>} */
  async next() {
    if (this._asked) throw new LocalProtocolError('the items are taken one after the other: the next one is waited for');
    this._asked = true;
    try {
      return await this._next();
    } catch (error) {
      this.stop();
      throw error;
    } finally {
      this._asked = false;
    }
  }

  async _next() {
    if (this._findLink) await this._begin(this._findLink);
    if (this._batches.length) this._took(/** @type {any} */ (this._batches.shift()).size);
    while (!this._batches.length) {
      if (this._over) {
        const error = this._error;
        this._error = undefined;
        if (error) throw error;
        return { done: true, value: undefined };
      }
      await this._wait();
    }
    this._at = 1;
    return { done: false, value: this._batches[0].items[0] };
  }

  /** @param {(timeout: number, signal?: AbortSignal) => Promise<Link>} findLink */
  async _begin(findLink) {
    this._findLink = undefined;
    const signal = this._signal;
    if (signal?.aborted) throw signal.reason;
    const link = await findLink(this._timeout, signal);
    if (this._over) return; // it was left meanwhile
    this._id = link.callForItems(this._type, this._request, CREDIT, this);
    this._link = link;
    if (signal) {
      const abort = () => this._fail(signal.reason);
      signal.addEventListener('abort', abort, { once: true });
      this._forget = () => signal.removeEventListener('abort', abort);
    }
  }

  /** @returns {Promise<void>} resolves when there are items, or the end */
  _wait() {
    return new Promise((resolve) => {
      const late = () => this._fail(new CallTimedOut(`no item of ${this._type} within ${this._timeout / 1000} seconds`));
      const timer = this._timeout <= LONGEST_TIMEOUT ? setTimeout(late, this._timeout).unref() : undefined;
      this._wake = () => {
        this._wake = undefined;
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** @param {number} size bytes of items that were taken: the peer may send as many more */
  _took(size) {
    this._room += size;
    this._owed += size;
    if (this._owed < CREDIT / 2 || this._over) return;
    this._link?.more(this._id, this._owed);
    this._owed = 0;
  }

  /** Take no more items: the other side is told to stop. */
  stop() {
    this._findLink = undefined;
    this._batches = [];
    this._error = undefined;
    this._end(true);
  }

  /** @param {unknown} error */
  _fail(error) {
    if (this._over) return;
    this._error = error;
    this._end(true);
  }

  /** @param {boolean} drops whether the peer is to be told */
  _end(drops) {
    if (!this._over) {
      this._over = true;
      this._forget();
      if (drops) this._link?.drop(this._id);
    }
    this._wake?.();
  }

  // -- for the link

  /**
   * Items have come.
   *
   * @param {any[]} items
   * @param {number} size
   */
  came(items, size) {
    if (this._over) return;
    if (this._room <= 0) {
      return this._fail(new CallFailed('bad-reply', `more than ${CREDIT} bytes of items were sent unasked`));
    }
    this._room -= size;
    this._count += items.length;
    this._batches.push({ items, size });
    this._wake?.();
  }

  /** @param {{ items: number }} reply all items have come, and there were so many */
  resolve({ items }) {
    if (items !== this._count && !this._over) {
      this._error = new CallFailed('bad-reply', `${items} items were sent, and ${this._count} have come`);
    }
    this._end(false);
  }

  /** @param {Error} error no more will come: the call has failed, or the link has ended */
  reject(error) {
    if (!this._over) this._error = error;
    this._end(false);
  }
}

/** Nobody waits for the rest. */
const STOPPED = Symbol('stopped');

/** One streamed reply on its way out: takes items out of a handler, as far as the caller's credit and the link allow. */
class Streaming {
  /**
   * @param {Link} link
   * @param {number} id the call's
   * @param {string} type the request's
   * @param {number} credit bytes that the caller takes; `more` adds to them
   * @param {(item: unknown) => string} wrong says what is wrong with an item; "" if nothing is
   */
  constructor(link, id, type, credit, wrong) {
    this._link = link;
    this._id = id;
    this._type = type;
    this._credit = credit; // one frame may go over it, or large items could never be sent
    this._wrong = wrong;
    /** those of the next frame @type {string[]} */
    this._lines = [];
    this._bytes = 0; // of them
    this._turnBytes = 0;
    this._count = 0;
    this._stopped = false;
    /** @type {NodeJS.Immediate | undefined} */
    this._turn = undefined;
    /** @type {(() => void) | undefined} */
    this._wake = undefined;
  }

  /**
   * Send all items, and resolve with the reply that ends them. What came before an error is sent before it.
   *
   * @param {AsyncIterable<unknown> | Iterable<unknown>} source
   * @returns {Promise<{ items: number } | undefined>} undefined: nobody waits for it any more
   */
  async send(source) {
    try {
      for await (const item of source) {
        this._add(item);
        while (!this._hasRoom) await this._waitForRoom();
      }
      await this._sendRest();
    } catch (error) {
      if (error === STOPPED) return undefined;
      try {
        await this._sendRest();
      } catch {
        // It was stopped meanwhile, and nobody waits for the error either.
      }
      throw error;
    } finally {
      clearImmediate(this._turn);
    }
    return { items: this._count };
  }

  /** Take nothing more of the handler: nobody waits for it. */
  stop() {
    this._stopped = true;
    this._wake?.();
  }

  /** @param {number} credit bytes that the caller has taken */
  more(credit) {
    this._credit += credit;
    this._wake?.();
  }

  /** @param {unknown} item */
  _add(item) {
    this._checkGoesOn();
    const wrong = this._wrong(item);
    if (wrong) throw new TypeError(`an item of the reply to ${this._type} isn't what was declared: ${wrong}`);
    const line = encode(item, `an item of the reply to ${this._type}`);
    const size = Buffer.byteLength(line) + 1;
    const limit = this._link.sendLimit - AROUND_ITEMS;
    if (size >= limit) {
      const why = `an item of the reply to ${this._type} has ${size - 1} bytes, over the limit of ${limit} (frameLimit)`;
      throw new LocalProtocolError(why, 'too-large');
    }
    if (this._bytes && this._bytes + size > Math.min(FRAME_BYTES, limit)) this._flush();
    this._lines.push(line);
    this._bytes += size;
    this._turnBytes += size;
    this._turn ??= setImmediate(() => this._endTurn());
  }

  _checkGoesOn() {
    if (this._stopped) throw STOPPED;
  }

  get _hasRoom() {
    return this._credit > this._bytes && this._turnBytes < TURN_BYTES && !this._link.paused && !this._stopped;
  }

  /** Send what was collected, if there is credit, and wait for what is missing of credit, time and a free socket. */
  async _waitForRoom() {
    this._checkGoesOn();
    if (this._credit > 0) this._flush();
    if (this._link.paused) {
      try {
        await this._link.drain();
      } catch {
        throw STOPPED; // the link has ended
      }
    } else if (this._credit <= 0 || this._turnBytes >= TURN_BYTES) {
      await new Promise((/** @type {(value?: undefined) => void} */ resolve) => (this._wake = resolve));
      this._wake = undefined;
    }
  }

  async _sendRest() {
    while (this._lines.length && this._credit <= 0) await this._waitForRoom();
    this._checkGoesOn();
    this._flush();
  }

  _endTurn() {
    this._turn = undefined;
    this._turnBytes = 0;
    if (this._credit > 0) this._flush();
    this._wake?.();
  }

  _flush() {
    if (!this._lines.length || this._stopped) return;
    const array = `[${this._lines.join(',')}]`;
    this._credit -= Buffer.byteLength(array);
    this._count += this._lines.length;
    this._lines = [];
    this._bytes = 0;
    this._link.sendItems(this._id, array);
  }
}

module.exports = { Arriving, StreamedReply, Streaming };
