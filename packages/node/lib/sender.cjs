'use strict';
// The sending end of reliable streams. See "Streams" in docs/protocol.md.
//
// On each link a stream is in one of these phases, and in none while there is no link:
//
//   opening ──position──► sending
//      ▲  └────refusal──►   │
//      └──── resting ◄──refusal

const { LinkError, LocalProtocolError, NotConnected, StreamFailed } = require('./errors.cjs');
const { encode, printable, remoteFault } = require('./json.cjs');
const { MemoryOutbox } = require('./outbox.cjs');
const { isId, isNumber } = require('./session.cjs');
const { Waiting } = require('./waiting.cjs');

/** About how many bytes of items go into one frame. */
const FRAME_BYTES = 1 << 16;
/** Bytes that are written before something else has its turn. */
const TURN_BYTES = 1 << 18;
/** Bytes of a frame that aren't its items, at most. */
const AROUND_ITEMS = 256;
const LEAST_RETRY = 100;
const MOST_RETRY = 3_600_000;

/** @typedef {import('./link.cjs').Link} Link */
/** @typedef {import('./outbox.cjs').Outbox} Outbox */
/** @typedef {Record<string, any>} Frame */

/** What is under way on one link: sent, and not acknowledged. */
class SendWindow {
  constructor() {
    this.next = 1;
    this._end = 1; // the number after the last that was sent on this link, or was there before it
    this._credit = 0;
    this._spent = 0;
    /** @type {Array<{ end: number, size: number }>} */
    this._underWay = [];
  }

  get free() {
    return Math.max(0, this._credit - this._spent);
  }

  /**
   * @param {number} next
   * @param {number} credit
   */
  begin(next, credit) {
    this.forget();
    this.next = this._end = next;
    this._credit = credit;
  }

  /**
   * Go back to what the receiver asks for again.
   *
   * @param {number} next
   * @param {number} credit
   */
  rewind(next, credit) {
    this._check(next, 'asked for again');
    this.forget();
    this.next = next;
    this._credit = credit;
  }

  /**
   * @param {number} end
   * @param {number} size
   */
  sent(end, size) {
    this._spent += size;
    this._underWay.push({ end, size });
    this.next = end;
    this._end = Math.max(this._end, end);
  }

  /** @param {number} next */
  acknowledged(next) {
    this._check(next, 'acknowledged');
    let count = 0;
    while (count < this._underWay.length && this._underWay[count].end <= next) this._spent -= this._underWay[count++].size;
    this._underWay.splice(0, count);
  }

  forget() {
    this._underWay = [];
    this._spent = 0;
  }

  /**
   * @param {number} next
   * @param {string} what
   */
  _check(next, what) {
    if (next > this._end) throw remoteFault('bad-message', `number ${next} is ${what}, and ${this._end} was never sent`);
  }
}

/** The sender's end of one stream. Made by `Remote.stream` and `Listening.stream`. */
class Stream {
  /**
   * @param {Outgoing} outgoing
   * @param {string} name
   * @param {Outbox} outbox
   * @param {((refusal: StreamFailed) => void) | undefined} onRefused
   */
  constructor(outgoing, name, outbox, onRefused) {
    this.name = name;
    this._outgoing = outgoing;
    this._outbox = outbox;
    this._onRefused = onRefused;
    /** @type {{ link: Link, opening: number, phase: 'opening' | 'sending' | 'resting', retry?: NodeJS.Timeout } | undefined} */
    this._onLink = undefined;
    this._window = new SendWindow();
    this._below = outbox.first;
    this._synced = outbox.next; // items below it are safe from the machine's crash: only those are sent
    /** @type {Array<{ number: number, resolve: () => void, reject: (error: Error) => void }>} */
    this._flushed = [];
    this._room = new Waiting();
    /** @type {LinkError | undefined} */
    this._failed = undefined;
    /** @type {StreamFailed | undefined} */
    this._refusal = undefined;
    this._turnBytes = 0;
    this._limit = outgoing.frameLimit - AROUND_ITEMS;
    /** @type {NodeJS.Immediate | undefined} */
    this._turn = undefined;
    this._turnEnded = () => this._atTurnEnd();
  }

  /** The outbox's identity. */
  get id() {
    return this._outbox.id;
  }

  /** The number that the next item gets. */
  get next() {
    return this._outbox.next;
  }

  /** All items below this number are kept at the other end. */
  get acknowledged() {
    return this._below;
  }

  /** Why the receiver doesn't take the stream just now. */
  get refusal() {
    return this._refusal;
  }

  /**
   * Add an item to the outbox, and resolve with the item's number. It waits while the outbox is full; and for the next
   * turn of the event loop, once a lot was written in this one.
   *
   * @param {unknown} item
   * @returns {Promise<number>}
   */
  async write(item) {
    const wrong = this._outgoing.schema?.wrong('stream', this.name, item);
    if (wrong) throw new LocalProtocolError(`an item of ${this.name} isn't what was declared: ${wrong}`);
    const line = encode(item, `the item of ${this.name}`);
    if (line.length * 3 > this._limit && Buffer.byteLength(line) > this._limit) {
      const size = Buffer.byteLength(line);
      throw new LocalProtocolError(`an item of ${size} bytes is over the limit of ${this._limit}`, 'too-large');
    }
    while (!this._hasRoom) {
      this._check();
      await this._room.wait();
    }
    this._check();
    const number = this._outbox.append(line);
    this._turnBytes += line.length;
    this._turn ??= setImmediate(this._turnEnded);
    return number;
  }

  /**
   * Write all items of an iterable, async or not, as fast as they are taken. Resolves with the last number.
   *
   * @param {Iterable<unknown> | AsyncIterable<unknown>} items
   * @returns {Promise<number>}
   */
  async writeAll(items) {
    let number = this.next - 1;
    for await (const item of items) number = await this.write(item);
    return number;
  }

  /**
   * Resolves when all that was written so far is kept at the other end.
   *
   * @returns {Promise<void>}
   */
  async flushed() {
    this._check();
    const number = this._outbox.next;
    if (this._below >= number) return;
    await new Promise((/** @type {(value?: undefined) => void} */ resolve, reject) => {
      this._flushed.push({ number, resolve, reject });
    });
  }

  /** Send no more, and close the outbox. */
  close() {
    if (!this._outgoing.remove(this)) return;
    if (this._turn) {
      clearImmediate(this._turn);
      this._turn = undefined;
      this._sync();
    }
    this._giveUp(new NotConnected('the stream was closed here', 'closed'));
    this._outbox.close();
  }

  get _hasRoom() {
    return this._turnBytes < TURN_BYTES && this._outbox.room;
  }

  _check() {
    if (this._failed) throw this._failed;
  }

  /** @param {LinkError} error */
  _giveUp(error) {
    this._failed ??= error;
    const onLink = this._leaveLink();
    onLink?.link.sendStreamFrame({ type: 'stream-close', id: this.id });
    this._room.fail(error);
    for (const { reject } of this._flushed.splice(0)) reject(error);
  }

  _leaveLink() {
    const onLink = this._onLink;
    this._onLink = undefined;
    this._window.forget();
    if (onLink?.retry) clearTimeout(onLink.retry);
    return onLink;
  }

  // -- links

  /** @param {Link} link */
  linkMade(link) {
    if (this._failed) return;
    this._leaveLink();
    this._limit = Math.min(this._outgoing.frameLimit, link.sendLimit) - AROUND_ITEMS;
    const opening = this._outgoing.nextOpening++;
    this._onLink = { link, opening, phase: 'opening' };
    link.sendStreamFrame({ type: 'stream-open', stream: this.name, id: this.id, first: this._outbox.first, opening });
  }

  /** @param {Link} link */
  linkLost(link) {
    if (this._onLink?.link !== link) return;
    this._leaveLink();
    if (!this._failed) this._refusal = undefined;
  }

  /** @param {Frame} frame of the stream's receiver */
  received(frame) {
    if (frame.type === 'stream-position') this._positioned(frame);
    else if (frame.type === 'stream-ack') this._acked(frame);
    else this._refused(frame);
  }

  /** @param {Frame} position */
  _positioned({ next, credit, opening = 0 }) {
    const onLink = this._onLink;
    if (!onLink || (opening && opening !== onLink.opening)) return;
    if (next < this._outbox.first || next > this._outbox.next) {
      // What it wants was acknowledged, and is gone; or was never written: it is another stream's position.
      const kept = `${this._outbox.first} to ${this._outbox.next - 1} are kept`;
      this._giveUp(new StreamFailed('position', `the receiver wants item ${next} of ${this.name}; ${kept}`));
      return;
    }
    this._refusal = undefined;
    if (onLink.phase === 'sending') {
      this._window.rewind(next, credit); // something is missing there; what came before may not be kept yet
    } else {
      this._window.begin(next, credit);
      onLink.phase = 'sending';
      this._arrived(next);
    }
    this.pump();
  }

  /** @param {Frame} ack */
  _acked({ next }) {
    if (this._onLink?.phase !== 'sending') return;
    this._window.acknowledged(next);
    this._arrived(next);
    this.pump();
  }

  /** @param {Frame} refusal */
  _refused({ code, message, retry_after: seconds = 0, opening = 0 }) {
    const onLink = this._onLink;
    if (!onLink || onLink.phase === 'resting' || (opening && opening !== onLink.opening)) return;
    const words = printable(message);
    if (seconds) {
      const after = Math.min(MOST_RETRY, Math.max(LEAST_RETRY, seconds * 1000));
      this._window.forget();
      onLink.phase = 'resting';
      onLink.retry = setTimeout(() => this.linkMade(onLink.link), after).unref();
      this._refusal = new StreamFailed(printable(code), words, after);
    } else {
      this._refusal = new StreamFailed(printable(code), words);
      this._giveUp(this._refusal);
    }
    const refusal = this._refusal;
    if (this._onRefused) this._outgoing.guard(`onRefused of the stream ${this.name}`, () => this._onRefused?.(refusal));
  }

  /** @param {number} below */
  _arrived(below) {
    this._below = Math.max(this._below, below);
    this._outgoing.guard(`deleting what is acknowledged of ${this.name}`, () => this._outbox.trim(this._below));
    if (this._hasRoom) this._room.release();
    while (this._flushed.length && this._flushed[0].number <= this._below) this._flushed.shift()?.resolve();
  }

  // -- sending

  _atTurnEnd() {
    this._turn = undefined;
    this._turnBytes = 0;
    if (!this._sync()) return;
    this.pump();
    if (this._hasRoom) this._room.release();
  }

  _sync() {
    try {
      this._outbox.sync();
      this._synced = this._outbox.next;
      return true;
    } catch (error) {
      const why = /** @type {Error} */ (error).message;
      this._giveUp(new StreamFailed('outbox', `the outbox of ${this.name} can't be written: ${why}`));
      return false;
    }
  }

  /** Send what there is, as far as credit and the link allow. */
  pump() {
    while (this._onLink?.phase === 'sending') {
      const { link } = this._onLink;
      // An item that the receiver had and a crash took here would leave its number to another, which would be lost.
      const most = this._synced - this._window.next;
      if (link.paused || this._window.free <= 0 || most <= 0) return;
      let items;
      try {
        items = this._outbox.read(this._window.next, Math.min(FRAME_BYTES, this._limit >> 1, this._window.free));
      } catch (error) {
        const why = /** @type {Error} */ (error).message;
        this._giveUp(new StreamFailed('outbox', `the outbox of ${this.name} can't be read: ${why}`));
        return;
      }
      if (!items.length) return;
      if (items.length > most) items = items.slice(0, most);
      const array = `[${items.join(',')}]`;
      const size = Buffer.byteLength(array);
      const first = this._window.next;
      if (size > this._limit + 2) {
        // It was written before there was a link with a side of a lower limit.
        this._giveUp(new StreamFailed('too-large', `item ${first} of ${this.name} is over the limit of ${this._limit} bytes`));
        return;
      }
      this._window.sent(first + items.length, size);
      link.sendStreamItems(this.id, first, array);
    }
  }
}

/** The streams that are sent to one peer, over whatever links. */
class Outgoing {
  /**
   * @param {{ frameLimit: number, askedSchema?: import('./schema.cjs').Schema }} settings
   * @param {(what: string, work: () => void) => void} guard does work, and tells of what it throws
   */
  constructor({ frameLimit, askedSchema }, guard) {
    this.frameLimit = frameLimit;
    this.schema = askedSchema;
    this.guard = guard;
    this.nextOpening = 1;
    /** @type {Map<string, Stream>} */
    this._streams = new Map();
    /** @type {Link | undefined} */
    this._link = undefined;
    this._closed = false;
  }

  /**
   * @param {string} name
   * @param {{ outbox?: Outbox, onRefused?: (refusal: StreamFailed) => void }} options
   */
  stream(name, { outbox = new MemoryOutbox(), onRefused }) {
    if (this._closed) throw new NotConnected('it was closed here', 'closed');
    if (this._streams.has(outbox.id)) throw new LocalProtocolError('this outbox is sent already');
    const stream = new Stream(this, name, outbox, onRefused);
    this._streams.set(outbox.id, stream);
    if (this._link) stream.linkMade(this._link);
    return stream;
  }

  /** @param {Link} link */
  linkMade(link) {
    this._link = link;
    for (const stream of this._streams.values()) stream.linkMade(link);
  }

  /** @param {Link} link */
  linkLost(link) {
    if (this._link === link) this._link = undefined;
    for (const stream of this._streams.values()) stream.linkLost(link);
  }

  /**
   * @param {Link} link
   * @param {Frame} frame
   */
  received(link, frame) {
    checkOfReceiver(frame);
    const stream = this._streams.get(frame.id);
    if (stream && this._link === link) stream.received(frame);
  }

  /** The link has room. */
  pump() {
    for (const stream of [...this._streams.values()]) stream.pump();
  }

  close() {
    this._closed = true;
    for (const stream of [...this._streams.values()]) stream.close();
  }

  /** @param {Stream} stream */
  remove(stream) {
    return this._streams.delete(stream.id);
  }
}

/** @param {Frame} frame */
function checkOfReceiver(frame) {
  const { type, id, next, credit, code, message, opening = 0, retry_after: seconds = 0 } = frame;
  const isGood =
    isId(id) &&
    (opening === 0 || isNumber(opening)) &&
    (type === 'stream-refused'
      ? typeof code === 'string' && typeof message === 'string' && typeof seconds === 'number' && seconds >= 0 && seconds <= 3600
      : isNumber(next) && (type === 'stream-ack' || isNumber(credit)));
  if (!isGood) throw remoteFault('bad-message', `${type} has the wrong fields`);
}

const FROM_RECEIVER = new Set(['stream-position', 'stream-ack', 'stream-refused']);

module.exports = { Outgoing, Stream, FROM_RECEIVER };
