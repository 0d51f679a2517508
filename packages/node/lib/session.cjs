'use strict';
// One connection's conversation, without the connection: bytes in, events out, and the other way round. Sans-IO: no
// socket and no clock. `Link` gives it bytes and the time, in milliseconds. See "The link" in docs/protocol.md.

const { CallFailed, CallTimedOut, LocalProtocolError, NotConnected, RemoteProtocolError } = require('./errors.cjs');
const { Greeting } = require('./greeting.cjs');
const { LineSplitter, NotUtf8, beginning, decode, encode, printable, remoteFault, words } = require('./json.cjs');
const { OwnCalls } = require('./own_calls.cjs');
const { Silence } = require('./silence.cjs');

const HANDSHAKE_FRAME_LIMIT = 4096;
const REASON_LIMIT = 512;
const BRACE = '{'.charCodeAt(0);

/** Types that no application's message can have. */
const RESERVED = new Set(
  'call reply call-items call-more error drop ping pong bye challenge hello welcome'.split(' '),
);

/** @param {string} type whether it belongs to the link itself */
function isReserved(type) {
  return RESERVED.has(type) || type.startsWith('stream-') || type.startsWith('link-');
}

/** @typedef {Record<string, any>} Frame */
/**
 * @typedef {object} PeerInfo who is at the other end, once that is proven
 * @property {string} name
 * @property {string} role
 * @property {string} incarnation another one each time that the peer's process starts
 * @property {number} version of the protocol
 * @property {string} address for people; not proven
 * @property {string} key the id of the named key by which it is proven; "" is the shared key, or none
 * @property {readonly string[]} features what both sides can do beside the version
 */
/**
 * @typedef {object} Settings what one side brings to each of its links. Times are in milliseconds, sizes in bytes
 * @property {string} name
 * @property {string} role
 * @property {string} peerRole
 * @property {string} incarnation
 * @property {Buffer} [key]
 * @property {import('./keys.cjs').Keys} [keys]
 * @property {boolean} [keysOptional] a peer without any key is taken too
 * @property {(peer: PeerInfo) => string | undefined | null | false} [accept] gives a reason to refuse
 * @property {Set<string>} messages the types of one-way messages that it takes
 * @property {Set<string>} answers the types of requests that it answers by one reply
 * @property {Set<string>} [streamed] the types of requests that it answers by items
 * @property {import('./catalogue.cjs').Catalogue} [takes] what it tells the peer that it takes; else it tells nothing
 * @property {import('./plain_session.cjs').Format} [format] of plain lines, in place of a link
 * @property {import('./schema.cjs').Schema} [schema] of what it takes: what is wrong is refused
 * @property {import('./schema.cjs').Schema} [askedSchema] of what the peer takes
 * @property {Settings[]} [others] of a listener: its services beside this one
 * @property {number} heartbeat
 * @property {number} deadAfter
 * @property {number} handshakeTimeout
 * @property {number} frameLimit
 * @property {number} maxCalls
 * @property {number} outboundLimit
 */
/**
 * @typedef {| { event: 'ready', peer: PeerInfo }
 *   | { event: 'message', message: Frame }
 *   | { event: 'stream', frame: Frame, size: number }
 *   | { event: 'call', id: number, request: Frame, credit: number }
 *   | { event: 'items', id: number, items: any[], size: number }
 *   | { event: 'more', id: number, credit: number }
 *   | { event: 'dropped', id: number }
 *   | { event: 'replied', id: number, reply: any }
 *   | { event: 'failed', id: number, error: CallFailed | CallTimedOut }
 *   | { event: 'complaint', code: string, message: string }
 *   | { event: 'refused', message: string }
 *   | Closed} Event
 */
/**
 * @typedef {object} Closed the session is over: send what there is, then close the connection
 * @property {'closed'} event
 * @property {string} code
 * @property {string} reason
 * @property {boolean} remote whether these are the peer's words
 * @property {boolean} abrupt whether waiting for the peer to read is pointless
 */

/** One side of one connection. Its states: connecting, authenticating, ready, closing. */
class Session {
  /**
   * @param {'dialler' | 'listener'} side
   * @param {Settings} settings
   * @param {{ nonce: string, now: number, address?: string }} options
   */
  constructor(side, settings, { nonce, now, address = '' }) {
    this.settings = settings;
    /** @type {'connecting' | 'authenticating' | 'ready' | 'closing'} */
    this.state = side === 'listener' ? 'authenticating' : 'connecting';
    /** @type {PeerInfo | undefined} */
    this.peer = undefined;
    /** @type {Closed | undefined} */
    this.closed = undefined;
    /** what the peer takes; undefined: it doesn't say @type {import('./catalogue.cjs').Catalogue | undefined} */
    this.takes = undefined;
    /** bytes of a message that may be sent: the smaller one of both sides' limits */
    this.sendLimit = settings.frameLimit;
    this._lines = new LineSplitter(HANDSHAKE_FRAME_LIMIT);
    this._greeting = new Greeting(side, settings, nonce, address);
    this._greetingDeadline = now + settings.handshakeTimeout;
    /** @type {string[]} */
    this._out = [];
    this._owesPong = false;
    this._silence = new Silence(settings.heartbeat, settings.deadAfter, now);
    this._calls = new OwnCalls(settings.maxCalls);
    /** the calls of the peer that aren't answered; true: the peer doesn't wait any longer @type {Map<number, boolean>} */
    this._asked = new Map();
    if (this._greeting.opening) this.say(this._greeting.opening);
  }

  /** The lines to be written to the connection; they are forgotten here. */
  dataToSend() {
    const data = this._out.length === 1 ? this._out[0] : this._out.join('');
    this._out.length = 0;
    return data;
  }

  /** Whether there is something to be written. */
  get hasDataToSend() {
    return this._out.length > 0;
  }

  // -- bytes

  /**
   * Return the events of the peer's bytes. Never throws for anything that a peer can send.
   *
   * @param {Uint8Array} chunk
   * @param {number} now
   * @returns {Event[]}
   */
  receive(chunk, now) {
    this._silence.broken(now);
    /** @type {Event[]} */
    const events = [];
    try {
      let rest = chunk;
      while (rest.length && (this.state === 'connecting' || this.state === 'authenticating')) rest = this._greet(rest, events);
      if (rest.length && this.state === 'ready') this._converse(rest, events);
    } catch (error) {
      if (!(error instanceof RemoteProtocolError)) throw error;
      this._end({ code: error.code, reason: error.message }, events);
    }
    if (this._owesPong) {
      // One for all pings of a chunk.
      this._owesPong = false;
      if (this.state === 'ready') this.say('{"type":"pong"}');
    }
    return events;
  }

  /**
   * Take a line of the handshake, or a part of one, and return what follows it.
   *
   * @param {Uint8Array} chunk
   * @param {Event[]} events
   */
  _greet(chunk, events) {
    if (!this._lines.pending && chunk[0] !== BRACE) throw remoteFault('bad-handshake', this._greeting.expectation);
    const end = chunk.indexOf(10) + 1 || chunk.length;
    const [line] = this._lines.feed(chunk.subarray(0, end));
    if (this._lines.overflowed) {
      throw remoteFault('frame-too-long', `a line is longer than ${HANDSHAKE_FRAME_LIMIT} bytes before authentication`);
    }
    if (line !== undefined) {
      const { answers = [], agreement, bye } = this._greeting.take(line);
      for (const each of answers) this.say(each);
      if (bye) {
        this._take(bye, events);
      } else if (agreement) {
        this.state = 'ready';
        this.settings = agreement.settings;
        this.peer = agreement.peer;
        this.takes = agreement.takes;
        this.sendLimit = agreement.sendLimit;
        this._silence.heartbeat = agreement.heartbeat;
        this._lines.limit = this.settings.frameLimit;
        events.push({ event: 'ready', peer: agreement.peer });
      } else {
        this.state = 'authenticating';
      }
    }
    return chunk.subarray(end);
  }

  /**
   * @param {Uint8Array} chunk
   * @param {Event[]} events
   */
  _converse(chunk, events) {
    for (const line of this._lines.feed(chunk)) {
      if (this.state !== 'ready') return;
      let frame;
      try {
        if (line instanceof NotUtf8) throw new SyntaxError('it is not UTF-8');
        frame = decode(line);
      } catch (error) {
        this._unreadable(line instanceof NotUtf8 ? line.text : line, /** @type {Error} */ (error).message, events);
        continue;
      }
      if (typeof frame !== 'object' || frame === null || typeof frame.type !== 'string') {
        throw remoteFault('bad-message', 'a frame is an object with a `type`');
      }
      this._frame(frame, line, events);
    }
    if (this._lines.overflowed && this.state === 'ready') {
      throw remoteFault('frame-too-long', `a line is longer than ${this.settings.frameLimit} bytes`);
    }
  }

  /**
   * @param {Frame} frame
   * @param {string} line
   * @param {Event[]} events
   */
  _frame(frame, line, events) {
    switch (frame.type) {
      case 'call':
        return this._onCall(frame, events);
      case 'reply':
        return this._onReply(frame, events);
      case 'error':
        return this._onError(frame, events);
      case 'call-items':
        return this._onItems(frame, line, events);
      case 'call-more':
        needId(frame);
        if (!isNumber(frame.credit)) throw remoteFault('bad-message', 'call-more: `credit` is an integer from 1');
        if (this._asked.has(frame.id)) events.push({ event: 'more', id: frame.id, credit: frame.credit });
        return;
      case 'drop':
        needId(frame);
        // One that is answered already, or was dropped before, changes nothing.
        if (this._asked.get(frame.id) === false) {
          this._asked.set(frame.id, true);
          events.push({ event: 'dropped', id: frame.id });
        }
        return;
      case 'ping':
        this._owesPong = true;
        return;
      case 'pong':
        return;
      case 'bye':
        if (typeof frame.code !== 'string' || typeof frame.reason !== 'string') {
          throw remoteFault('bad-message', 'bye: `code` and `reason` are strings');
        }
        return this._take({ code: frame.code, reason: frame.reason }, events);
      case 'challenge':
      case 'hello':
      case 'welcome':
      case 'link-interface':
        throw remoteFault('bad-message', `${frame.type}: the link is ready already`);
      default:
        if (frame.type.startsWith('stream-')) events.push({ event: 'stream', frame, size: line.length });
        else if (this.settings.messages.has(frame.type)) this._onMessage(frame, events);
        else this._refuseMessage('unknown-type', `'${printable(frame.type, 64)}' is not received here`, events);
    }
  }

  /**
   * A line that is no JSON costs what it is of, if that can be told by its beginning, and else the link.
   *
   * @param {string} line
   * @param {string} complaint
   * @param {Event[]} events
   */
  _unreadable(line, complaint, events) {
    const known = beginning(line);
    const { type } = known;
    const wrong = `${printable(String(type), 64)}: JSON is malformed: ${complaint}`;
    if (type === 'stream-items' && isId(known.id) && isNumber(known.first)) {
      events.push({ event: 'stream', frame: { ...known, complaint }, size: line.length });
    } else if (type === 'call' && isNumber(known.id)) {
      this._admit(known.id);
      this._refuse(known.id, 'bad-request', wrong);
    } else if (type === 'error' && isNumber(known.id) && typeof known.code === 'string' && typeof known.message === 'string') {
      this._onError({ ...known, message: `${known.message} (its data can't be read)` }, events); // only its data is wrong
    } else if ((type === 'reply' || type === 'error') && isNumber(known.id)) {
      this._badReply(known.id, wrong, events);
    } else if (type === 'call-items' && isNumber(known.id)) {
      this._badItems(known.id, wrong, events);
    } else if (typeof type === 'string' && !isReserved(type)) {
      this._refuseMessage(this.settings.messages.has(type) ? 'bad-message' : 'unknown-type', wrong, events);
    } else {
      throw remoteFault('bad-message', `JSON is malformed: ${complaint}`);
    }
  }

  /**
   * @param {Frame} message
   * @param {Event[]} events
   */
  _onMessage(message, events) {
    const wrong = this.settings.schema?.wrong('message', message.type, message);
    if (wrong) this._refuseMessage('bad-message', `${message.type}: ${wrong}`, events);
    else events.push({ event: 'message', message });
  }

  /**
   * @param {Frame} call
   * @param {Event[]} events
   */
  _onCall({ id, request, credit = 0 }, events) {
    const { maxCalls, answers, streamed, schema } = this.settings;
    needId({ type: 'call', id });
    if (credit !== 0 && !isNumber(credit)) throw remoteFault('bad-message', 'call: `credit` is an integer from 1');
    this._admit(id);
    if (this._asked.size >= maxCalls) {
      this._refuse(id, 'busy', `${maxCalls} calls are in flight`);
    } else if (typeof request !== 'object' || request === null || typeof request.type !== 'string') {
      this._refuse(id, 'bad-request', 'call: `request` is an object with a `type`');
    } else if (answers.has(request.type) || (streamed?.has(request.type) && credit)) {
      const wrong = schema?.wrong(answers.has(request.type) ? 'call' : 'items', request.type, request);
      if (wrong) return this._refuse(id, 'bad-request', `${request.type}: ${wrong}`);
      this._asked.set(id, false);
      events.push({ event: 'call', id, request, credit });
    } else if (streamed?.has(request.type)) {
      this._refuse(id, 'bad-request', `${request.type} is answered by items: the call must have a credit`);
    } else {
      this._refuse(id, 'unknown-type', `'${printable(request.type, 64)}' is not a call that is answered here`);
    }
  }

  /** @param {number} id */
  _admit(id) {
    if (this._asked.has(id)) throw remoteFault('bad-message', `call ${id} is in flight already`);
  }

  /**
   * @param {Frame} frame
   * @param {Event[]} events
   */
  _onReply(frame, events) {
    needId(frame);
    const { id, reply } = frame;
    if (reply === undefined) return this._badReply(id, 'reply: `reply` is missing', events);
    const call = this._calls.get(id);
    if (!call) return; // it was dropped
    if (call.forItems && !(Number.isSafeInteger(reply?.items) && reply.items >= 0)) {
      return this._badReply(id, 'reply: it must say how many `items` there were', events);
    }
    const wrong = call.forItems ? '' : this.settings.askedSchema?.wrongAnswer('call', call.type, reply);
    if (wrong) return this._badReply(id, wrong, events);
    if (this._calls.answered(id)) events.push({ event: 'replied', id, reply });
  }

  /**
   * @param {Frame} frame
   * @param {string} line
   * @param {Event[]} events
   */
  _onItems(frame, line, events) {
    needId(frame);
    const { id, items } = frame;
    const call = this._calls.get(id);
    if (!call) return; // it was dropped
    if (!call.forItems) return this._badItems(id, 'it came as items', events);
    if (!Array.isArray(items) || !items.length) return this._badItems(id, 'call-items: `items` is an array, and not empty', events);
    const { askedSchema } = this.settings;
    const at = askedSchema ? items.findIndex((item) => askedSchema.wrongAnswer('items', call.type, item)) : -1;
    // Those before it are the program's, as those that have come before an error are.
    if (at) events.push({ event: 'items', id, items: at < 0 ? items : items.slice(0, at), size: sizeOfItems(line) });
    if (at >= 0) this._badItems(id, `an item: ${askedSchema?.wrongAnswer('items', call.type, items[at])}`, events);
  }

  /**
   * What came of a call isn't items, or may not be any: the call has failed, and the peer is to stop.
   *
   * @param {number} id
   * @param {string} complaint
   * @param {Event[]} events
   */
  _badItems(id, complaint, events) {
    if (this._calls.get(id)) this.say(`{"type":"drop","id":${id}}`);
    this._badReply(id, complaint, events);
  }

  /**
   * @param {Frame} frame
   * @param {Event[]} events
   */
  _onError(frame, events) {
    const { id, code, message, data } = frame;
    const isWhole = typeof code === 'string' && typeof message === 'string';
    if (id === undefined) {
      if (!isWhole) throw remoteFault('bad-message', 'error: `code` and `message` are strings');
      events.push({ event: 'complaint', code: printable(code), message: printable(message) });
      return;
    }
    needId(frame);
    if (!isWhole) this._badReply(id, 'error: `code` and `message` are strings', events);
    else if (this._calls.answered(id)) events.push({ event: 'failed', id, error: new CallFailed(code, message, data) });
  }

  /**
   * The answer to a call isn't one. The call has failed by that, both sides are told, and the link goes on.
   *
   * @param {number} id
   * @param {string} complaint
   * @param {Event[]} events
   */
  _badReply(id, complaint, events) {
    const call = this._calls.answered(id);
    if (!call) return;
    const reason = words(`the answer to ${call.type}: ${complaint}`, REASON_LIMIT);
    events.push({ event: 'failed', id, error: new CallFailed('bad-reply', reason) });
    this.complain('bad-reply', reason);
  }

  /**
   * @param {string} code
   * @param {string} complaint
   * @param {Event[]} events
   */
  _refuseMessage(code, complaint, events) {
    this.complain(code, complaint);
    events.push({ event: 'refused', message: printable(complaint) });
  }

  // -- time

  /** When `tick` is to be called at the latest; Infinity: never. */
  nextDeadline() {
    if (this.state === 'ready') return Math.min(this._silence.due, this._calls.earliest);
    return this.state === 'closing' ? Infinity : this._greetingDeadline;
  }

  /**
   * Do what is due.
   *
   * @param {number} now
   * @returns {Event[]}
   */
  tick(now) {
    /** @type {Event[]} */
    const events = [];
    if (this.state === 'ready') {
      for (const [id, { type }] of this._calls.expired(now)) {
        this.drop(id);
        events.push({ event: 'failed', id, error: new CallTimedOut(`no reply to ${type} in time`) });
      }
      if (now >= this._silence.due) this._beat(now, events);
    } else if (this.state !== 'closing' && now >= this._greetingDeadline) {
      const waited = this.settings.handshakeTimeout;
      this._end({ code: 'handshake-timeout', reason: `no authentication within ${waited / 1000} seconds` }, events);
    }
    return events;
  }

  /**
   * @param {number} now
   * @param {Event[]} events
   */
  _beat(now, events) {
    const sign = this._silence.heartbeatPassed(now);
    if (sign === 'dead') {
      const reason = `nothing was received for ${this._silence.lasted} seconds`;
      this._end({ code: 'silent', reason, abrupt: true }, events);
    } else {
      this.say(`{"type":"${sign}"}`);
    }
  }

  /**
   * Note whether this side reads.
   *
   * @param {boolean} reading
   * @param {number} now
   */
  setReading(reading, now) {
    this._silence.setReading(reading, now);
  }

  // -- what this side says

  /**
   * Send a one-way message.
   *
   * @param {string} type
   * @param {object} [fields]
   */
  send(type, fields) {
    this._checkReady();
    const line = encode(this._checked('message', type, fields), type);
    this._checkSize(line, type);
    this.say(line);
  }

  /**
   * Send a call, and return its id, which comes back in one `replied` or `failed`, unless the session ends before.
   *
   * @param {string} type
   * @param {object | undefined} fields
   * @param {number} deadline
   * @returns {number}
   */
  call(type, fields, deadline) {
    this._checkReady();
    const id = this._calls.nextId;
    const line = `{"type":"call","id":${id},"request":${encode(this._checked('call', type, fields), type)}}`;
    this._checkSize(line, type);
    this._calls.made(type, deadline);
    this.say(line);
    return id;
  }

  /**
   * Send a call for items, and return its id: what answers it comes in `items`, and at their end in one `replied` or
   * `failed`. It has no deadline.
   *
   * @param {string} type
   * @param {object | undefined} fields
   * @param {number} credit bytes of items that may be sent; `more` adds to them
   * @returns {number}
   */
  callForItems(type, fields, credit) {
    this._checkReady();
    const id = this._calls.nextId;
    const request = encode(this._checked('items', type, fields), type);
    const line = `{"type":"call","id":${id},"credit":${credit},"request":${request}}`;
    this._checkSize(line, type);
    this._calls.made(type, Infinity, true);
    this.say(line);
    return id;
  }

  /**
   * Let the peer send so many more bytes of items. Nothing happens if the call has ended.
   *
   * @param {number} id
   * @param {number} credit
   */
  more(id, credit) {
    if (this.state === 'ready' && this._calls.get(id)) this.say(`{"type":"call-more","id":${id},"credit":${credit}}`);
  }

  /**
   * Send items that answer a call. Nothing happens if nobody waits for them any longer.
   *
   * @param {number} id
   * @param {string} array
   */
  answerItems(id, array) {
    if (this._asked.get(id) === false) this.say(`{"type":"call-items","id":${id},"items":${array}}`);
  }

  /**
   * Forget a call of this side's, and tell the peer. Nothing happens if the call has ended.
   *
   * @param {number} id
   */
  drop(id) {
    if (this._calls.forget(id)) this.say(`{"type":"drop","id":${id}}`);
  }

  /**
   * Reply to a call. Nothing happens if it isn't open.
   *
   * @param {number} id
   * @param {unknown} reply
   * @throws {LocalProtocolError} it can't be sent; the call is still open
   */
  answer(id, reply) {
    const dropped = this._asked.get(id);
    if (dropped === undefined) return;
    const line = `{"type":"reply","id":${id},"reply":${encode(reply === undefined ? null : reply, 'the reply')}}`;
    if (!dropped) {
      if (!this._fits(line)) {
        const size = Buffer.byteLength(line);
        const why = `the reply has ${size} bytes, over the limit of ${this.sendLimit} (frameLimit)`;
        throw new LocalProtocolError(why, 'too-large');
      }
      this.say(line);
    }
    this._asked.delete(id);
  }

  /**
   * Answer a call by an error. Nothing happens if it isn't open.
   *
   * @param {number} id
   * @param {string} code
   * @param {string} message
   * @param {unknown} [data]
   */
  refuse(id, code, message, data) {
    const dropped = this._asked.get(id);
    if (dropped === undefined) return;
    if (!dropped) this._refuse(id, code, message, data);
    this._asked.delete(id);
  }

  /**
   * @param {number} id
   * @param {string} code
   * @param {string} message
   * @param {unknown} [data]
   */
  _refuse(id, code, message, data) {
    /** @type {Frame} */
    const frame = { type: 'error', code: words(code, REASON_LIMIT), message: words(message, REASON_LIMIT), id };
    if (data !== undefined) frame.data = data;
    const line = encode(frame, "the error's data");
    this._checkSize(line, 'the error');
    this.say(line);
  }

  /**
   * Tell the peer that something was not taken which has no other answer.
   *
   * @param {string} code
   * @param {string} message
   */
  complain(code, message) {
    if (this.state !== 'ready') return;
    this.say(JSON.stringify({ type: 'error', code: words(code, REASON_LIMIT), message: words(message, REASON_LIMIT) }));
  }

  /**
   * End the session. Nothing happens if it has ended.
   *
   * @param {string} code
   * @param {string} reason
   * @param {boolean} [abrupt]
   * @returns {Event[]}
   */
  close(code, reason, abrupt = false) {
    /** @type {Event[]} */
    const events = [];
    this._end({ code, reason, abrupt }, events);
    return events;
  }

  /**
   * A message or request of this side's, with its type.
   *
   * @param {import('./catalogue.cjs').Kind} kind
   * @param {string} type
   * @param {object | undefined} fields
   */
  _checked(kind, type, fields) {
    return checked(this.settings.askedSchema, kind, type, fields);
  }

  _checkReady() {
    if (this.state === 'closing') throw new NotConnected(describe(/** @type {Closed} */ (this.closed)));
    if (this.state !== 'ready') throw new LocalProtocolError('nothing can be sent before the peer is authenticated');
  }

  /** @param {string} line */
  _fits(line) {
    // A character has at most three bytes in UTF-8.
    return line.length * 3 <= this.sendLimit || Buffer.byteLength(line) <= this.sendLimit;
  }

  /**
   * @param {string} line
   * @param {string} what
   */
  _checkSize(line, what) {
    if (this._fits(line)) return;
    const size = Buffer.byteLength(line);
    throw new LocalProtocolError(`${what} has ${size} bytes, over the limit of ${this.sendLimit} (frameLimit)`, 'too-large');
  }

  /**
   * Send a frame of this library's own.
   *
   * @param {string} line
   */
  say(line) {
    this._out.push(line, '\n');
  }

  // -- the end

  /**
   * This side ends it.
   *
   * @param {{ code: string, reason: string, abrupt?: boolean }} why
   * @param {Event[]} events
   */
  _end({ code, reason, abrupt = false }, events) {
    if (this.state === 'closing') return;
    const [said, because] = [words(code, 64), words(reason, REASON_LIMIT)];
    this.say(JSON.stringify({ type: 'bye', code: said, reason: because }));
    this._over({ event: 'closed', code: said, reason: because, remote: false, abrupt }, events);
  }

  /**
   * The peer ends it.
   *
   * @param {{ code: string, reason: string }} bye
   * @param {Event[]} events
   */
  _take({ code, reason }, events) {
    const closed = { code: printable(code, 64), reason: printable(reason, REASON_LIMIT) };
    this._over({ event: 'closed', ...closed, remote: true, abrupt: false }, events);
  }

  /**
   * @param {Closed} closed
   * @param {Event[]} events
   */
  _over(closed, events) {
    this.state = 'closing';
    this.closed = closed;
    this._calls.clear();
    this._asked.clear();
    events.push(closed);
  }
}

/**
 * A message or request with its type.
 *
 * @param {import('./schema.cjs').Schema | undefined} schema that says what it must be
 * @param {import('./catalogue.cjs').Kind} kind
 * @param {string} type
 * @param {object} [fields]
 * @throws {LocalProtocolError} it isn't what was declared
 */
function checked(schema, kind, type, fields) {
  const message = tagged(type, fields);
  const wrong = schema?.wrong(kind, type, message);
  if (wrong) throw new LocalProtocolError(`${type} isn't what was declared: ${wrong}`);
  return message;
}

/**
 * @param {string} type
 * @param {object} [fields]
 * @returns {Frame}
 */
function tagged(type, fields) {
  if (isReserved(type)) {
    throw new LocalProtocolError(`the type ${JSON.stringify(type)} belongs to the link itself`);
  }
  const message = { type, ...fields };
  if (message.type !== type) throw new LocalProtocolError(`a message of the type ${message.type} isn't ${type}`);
  return message;
}

/**
 * The bytes of the array in a line of `call-items`, as its sender counts them.
 *
 * @param {string} line
 */
function sizeOfItems(line) {
  return Buffer.byteLength(line.slice(line.indexOf('[', line.indexOf('"items"')), line.lastIndexOf(']') + 1));
}

/** @param {Frame} frame */
function needId(frame) {
  if (!isNumber(frame.id)) throw remoteFault('bad-message', `${frame.type}: \`id\` is an integer from 1`);
}

/** @param {unknown} value @returns {value is number} */
function isNumber(value) {
  return Number.isSafeInteger(value) && /** @type {number} */ (value) >= 1;
}

/** @param {unknown} value @returns {value is string} */
function isId(value) {
  return typeof value === 'string' && value.length >= 1 && value.length <= 64;
}

/** @param {{ code: string, reason: string, remote: boolean }} closed */
function describe({ code, reason, remote }) {
  return `${remote ? 'the peer said: ' : ''}${reason} [${code}]`;
}

module.exports = { Session, checked, describe, isId, isNumber, isReserved };
