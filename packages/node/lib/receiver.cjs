'use strict';
// The receiving end of reliable streams. See "Streams" in docs/protocol.md.

const { RefuseStream } = require('./errors.cjs');
const { remoteFault, words } = require('./json.cjs');
const { isId, isNumber } = require('./session.cjs');

/** Bytes of unacknowledged items that a receiver allows of each stream. */
const CREDIT = 1 << 20;
/** Bytes of items that may have come of a stream and not be taken: those before a hole, and those that follow it. */
const ALLOWANCE = 2 * CREDIT;
/** Bytes of items that may have come by one link and not be taken: while there are more, it isn't read. */
const LINK_ALLOWANCE = 8 * CREDIT;
/** Streams that one peer may have open. */
const MAX_STREAMS = 256;
const RETRY_AFTER = 5000;
const LEAST_RETRY = 100;
const MOST_RETRY = 3_600_000;

/** @typedef {import('./link.cjs').Link} Link */
/** @typedef {Record<string, any>} Frame */
/** @typedef {{ peer: string, stream: string, id: string }} StreamId */
/**
 * @typedef {object} Receiver
 * @property {() => number | Promise<number>} position the number of the first item that isn't kept yet
 * @property {(first: number, items: any[]) => void | Promise<void>} take keep these items
 */

/** The receivers of one side: one for each stream, whatever link it comes by. */
class Receivers {
  /** @param {(stream: StreamId) => Receiver} make */
  constructor(make) {
    this._make = make;
    /** @type {Map<string, Lane>} */
    this._lanes = new Map();
  }

  /**
   * The stream's lane, for its newest link. The link before has lost it; what it is just taking, it takes.
   *
   * @param {StreamId} stream
   * @param {IncomingStream} owner
   */
  enter(stream, owner) {
    const key = JSON.stringify([stream.peer, stream.stream, stream.id]);
    let lane = this._lanes.get(key);
    if (!lane) {
      const receiver = this._make(Object.freeze(stream));
      if (typeof receiver?.take !== 'function' || typeof receiver?.position !== 'function') {
        throw new TypeError('a receiver has the methods `position` and `take`');
      }
      this._lanes.set(key, (lane = new Lane(receiver, () => this._lanes.delete(key))));
    }
    lane.users += 1; // before the other leaves it, or the lane would have no user
    lane.owner?.close();
    lane.owner = owner;
    return lane;
  }
}

/** One stream's receiver, which does one thing at a time, whatever links come and go. */
class Lane {
  /**
   * @param {Receiver} receiver
   * @param {() => void} unused
   */
  constructor(receiver, unused) {
    this.receiver = receiver;
    /** @type {IncomingStream | undefined} */
    this.owner = undefined;
    this.users = 0;
    this._unused = unused;
    /** @type {Array<() => Promise<void>>} */
    this._jobs = []; // the first one is being done
  }

  /**
   * Do a job when those before it are done.
   *
   * @param {() => Promise<void>} job never rejects
   */
  inTurn(job) {
    if (this._jobs.push(job) === 1) this._doAll();
  }

  /**
   * Don't do a job that hasn't begun: or a peer that opens and closes a stream would make many wait.
   *
   * @param {() => Promise<void>} job
   * @returns {boolean} whether it hadn't begun
   */
  forget(job) {
    const place = this._jobs.indexOf(job);
    if (place > 0) this._jobs.splice(place, 1);
    return place > 0;
  }

  async _doAll() {
    while (this._jobs.length) {
      await this._jobs[0]();
      this._jobs.shift();
    }
  }

  /** @param {IncomingStream} user */
  leave(user) {
    if (this.owner === user) this.owner = undefined;
    if (!--this.users) this._unused();
  }
}

/** All streams that come by one link. */
class Incoming {
  /**
   * @param {Link} link
   * @param {Receivers | undefined} receivers
   * @param {Set<string> | undefined} names of the streams that there are; undefined: the receivers know
   * @param {import('./schema.cjs').Schema} [schema] what items must be
   */
  constructor(link, receivers, names, schema) {
    this.link = link;
    this._receivers = receivers;
    this._names = names;
    this._schema = schema;
    /** @type {Map<string, IncomingStream>} */
    this._streams = new Map();
    this._waiting = 0;
  }

  /**
   * @param {Frame} frame of a sender
   * @param {number} size about how many bytes it had
   */
  received(frame, size) {
    if (!isId(frame.id)) throw remoteFault('bad-message', `${frame.type}: \`id\` has 1 to 64 characters`);
    if (frame.type === 'stream-open') return this._opened(frame);
    const stream = this._streams.get(frame.id);
    if (frame.type === 'stream-close') return stream?.end(); // else it was refused
    if (!isNumber(frame.first)) throw remoteFault('bad-message', 'stream-items: `first` is an integer from 1');
    if (!stream) {
      if (!this._receivers) return; // it was refused when it was opened
      throw remoteFault('bad-message', `the stream ${words(frame.id, 64)} isn't open`);
    }
    stream.came(frame, size);
  }

  /** @param {Frame} opening */
  _opened({ stream: name, id, first, opening = 0 }) {
    if (!isId(name) || !isNumber(first) || !(opening === 0 || isNumber(opening))) {
      throw remoteFault('bad-message', 'stream-open has the wrong fields');
    }
    const before = this._streams.get(id);
    if (before && !before.closed && !before.ending) {
      throw remoteFault('bad-message', `the stream ${words(id, 64)} is open already`);
    }
    const refuse = (/** @type {string} */ message) =>
      this.link.sendStreamFrame({ type: 'stream-refused', id, code: 'stream', message, opening });
    if (!this._receivers || (this._names && !this._names.has(name))) return refuse(`there is no stream ${words(name, 64)}`);
    if (!before && this._streams.size >= MAX_STREAMS) return refuse(`${MAX_STREAMS} streams are open`);
    const stream = new IncomingStream(this, name, id, first, opening);
    this._streams.set(id, stream);
    stream.begin(this._receivers);
  }

  /**
   * @param {string} name of a stream
   * @param {any[]} items
   * @returns {number} the place of the first that isn't what was declared; -1: there is none
   */
  firstWrong(name, items) {
    return this._schema ? items.findIndex((item) => this.wrong(name, item)) : -1;
  }

  /**
   * @param {string} name
   * @param {unknown} item
   */
  wrong(name, item) {
    return words(this._schema?.wrong('stream', name, item) ?? '');
  }

  /** @param {number} size */
  weigh(size) {
    this._waiting += size;
    this.link.hold('streams', this._waiting > LINK_ALLOWANCE);
  }

  /** @param {IncomingStream} stream */
  over(stream) {
    if (this._streams.get(stream.id) === stream) this._streams.delete(stream.id);
  }

  close() {
    for (const stream of [...this._streams.values()]) stream.close();
    this._streams.clear();
  }
}

/** One stream on one link. */
class IncomingStream {
  /**
   * @param {Incoming} incoming
   * @param {string} name
   * @param {string} id
   * @param {number} first
   * @param {number} opening
   */
  constructor(incoming, name, id, first, opening) {
    this.name = name;
    this.id = id;
    this.closed = false; // refused, or with a newer link, or the link has ended: nothing is taken any more
    this.ending = false; // its sender has closed it; what has come is taken
    this._incoming = incoming;
    this._first = first;
    this._opening = opening;
    /** @type {Lane | undefined} */
    this._lane = undefined;
    this._next = 0; // the number that comes next; 0: the position isn't known yet
    this._kept = 0;
    this._hole = 0; // the number that was found to be missing, and hasn't come since
    this._sizes = 0; // of what waits
    /** @type {any[]} */
    this._waiting = [];
    this._working = false;
    /** @type {(() => Promise<void>) | undefined} */
    this._turn = undefined; // the newest job
    /** @type {Frame | undefined} */
    this._wrong = undefined; // what the sender is told once what came before it is taken
  }

  /** @param {Receivers} receivers */
  begin(receivers) {
    try {
      this._lane = receivers.enter({ peer: this._incoming.link.info.name, stream: this.name, id: this.id }, this);
    } catch (error) {
      // There is no receiver for it just now. That is this stream's affair, and not the link's.
      this._refuse(this._refusalOf(error));
      return;
    }
    this._work(this._lane, async (lane) => {
      const position = await lane.receiver.position();
      if (this.closed) return;
      if (!isNumber(position)) throw new TypeError(`a receiver's position is an item's number, from 1 on, not ${position}`);
      if (position < this._first) {
        const missing = `items ${position} to ${this._first - 1} aren't here, and the sender hasn't kept them`;
        this._refuse({ code: 'hole', message: missing });
        return;
      }
      this._next = this._kept = position;
      this._tellPosition();
    });
  }

  _tellPosition() {
    const frame = { type: 'stream-position', id: this.id, next: this._next, credit: CREDIT, opening: this._opening };
    this._incoming.link.sendStreamFrame(frame);
  }

  /**
   * @param {Frame} frame
   * @param {number} size
   */
  came({ first, items, complaint }, size) {
    if (this.closed || this._wrong) return;
    if (this.ending) throw remoteFault('bad-message', `items of ${this.name} after its close`);
    if (!this._next) throw remoteFault('bad-message', `items of ${this.name} before their position was told`);
    if (!Array.isArray(items)) {
      this._wrong = { code: 'bad-item', message: `item ${first} of ${this.name}: ${complaint ?? '`items` is no array'}` };
      return this._takeSoon();
    }
    const end = first + items.length;
    if (first > this._next) {
      if (this._hole !== this._next) this._tellPosition(); // once for each hole
      this._hole = this._next;
      return;
    }
    if (end <= this._next) {
      this._incoming.link.sendStreamFrame({ type: 'stream-ack', id: this.id, next: this._kept });
      return;
    }
    if (this._sizes >= ALLOWANCE) {
      throw remoteFault('credit', `more than ${ALLOWANCE} bytes were sent and not acknowledged`);
    }
    let fresh = first === this._next ? items : items.slice(this._next - first);
    const bad = this._incoming.firstWrong(this.name, fresh);
    if (bad >= 0) {
      this._wrong = { code: 'bad-item', message: `item ${end - fresh.length + bad} of ${this.name}: ${this._incoming.wrong(this.name, fresh[bad])}` };
      fresh = fresh.slice(0, bad);
    }
    if (this._waiting.length) for (const item of fresh) this._waiting.push(item);
    else this._waiting = fresh;
    this._next = bad < 0 ? end : this._next + fresh.length;
    this._sizes += size;
    this._incoming.weigh(size);
    this._takeSoon();
  }

  _takeSoon() {
    if (!this._working && this._lane) this._work(this._lane, (lane) => this._takeAll(lane));
  }

  /** @param {Lane} lane */
  async _takeAll(lane) {
    while (this._waiting.length && !this.closed) {
      const [items, size, end] = [this._waiting, this._sizes, this._next];
      this._waiting = [];
      const taken = lane.receiver.take(end - items.length, items);
      if (taken !== undefined) await taken;
      this._kept = end;
      this._sizes -= size;
      this._incoming.weigh(-size);
      if (!this.closed) this._incoming.link.sendStreamFrame({ type: 'stream-ack', id: this.id, next: end });
    }
    if (this._wrong && !this.closed) this._refuse(this._wrong);
  }

  /**
   * @param {Lane} lane
   * @param {(lane: Lane) => Promise<void>} job
   */
  _work(lane, job) {
    this._working = true;
    const turn = async () => {
      try {
        if (!this.closed) await job(lane);
      } catch (error) {
        if (this.closed) this._incoming.link.fault(error, `the stream ${this.name} of ${this._incoming.link.info.name}`);
        else this._refuse(this._refusalOf(error));
      }
      this._working = false;
      if (this.closed) this._leave();
      else if (this._waiting.length || this._wrong) this._takeSoon();
      if (this.ending && !this._working) {
        this.close();
        this._incoming.over(this);
      }
    };
    this._turn = turn;
    lane.inTurn(turn);
  }

  /** The sender has closed it. */
  end() {
    this.ending = true;
    if (this._working) return;
    this.close();
    this._incoming.over(this);
  }

  /** Take nothing more. What is just being taken is taken. */
  close() {
    if (this.closed) return;
    this.closed = true;
    if (this._working && this._turn && this._lane?.forget(this._turn)) this._working = false;
    if (!this._working) this._leave();
  }

  _leave() {
    this._waiting = [];
    this._incoming.weigh(-this._sizes);
    this._sizes = 0;
    this._lane?.leave(this);
    this._lane = undefined;
  }

  /** @param {Frame} refusal */
  _refuse(refusal) {
    const frame = { type: 'stream-refused', id: this.id, ...refusal, opening: this._opening };
    this._incoming.link.sendStreamFrame(frame);
    this.close();
  }

  /**
   * @param {unknown} error that a receiver has thrown
   * @returns {Frame}
   */
  _refusalOf(error) {
    if (error instanceof RefuseStream) {
      const { code, message, retryAfter } = error;
      const after = retryAfter === undefined ? 0 : Math.min(MOST_RETRY, Math.max(LEAST_RETRY, retryAfter));
      return { code: words(code), message: words(message), retry_after: after / 1000 };
    }
    this._incoming.link.fault(error, `the stream ${this.name} of ${this._incoming.link.info.name}`);
    return { code: 'internal', message: 'an error inside; see the log there', retry_after: RETRY_AFTER / 1000 };
  }
}

module.exports = { Incoming, Receivers };
