'use strict';
// One connection of the plain profile, without the connection: lines of JSON, no handshake and no heartbeat. It has the
// face of a `Session`, so that a `Link` can be on it. Sans-IO. See "The plain profile" in docs/protocol.md.

const { CallFailed, CallTimedOut, LocalProtocolError, NotConnected, RemoteProtocolError } = require('./errors.cjs');
const { LineSplitter, NotUtf8, decode, encode, printable, remoteFault, words } = require('./json.cjs');
const { OwnCalls } = require('./own_calls.cjs');
const { checked, describe } = require('./session.cjs');

const REASON_LIMIT = 512;
const ID_LIMIT = 64;
/** Requests that may be answered at a time: while there are so many, the client isn't read. */
const MOST_REQUESTS = 256;
/** Milliseconds for a line to end, and for the answers to a client that says nothing more. */
const LINE_TIMEOUT = 60_000;
const ANSWERS_TIMEOUT = 30_000;

/** @typedef {Record<string, any>} Frame */
/** @typedef {import('./session.cjs').Event} Event */
/** @typedef {import('./session.cjs').Closed} Closed */
/**
 * @typedef {object} Format how lines are written
 * @property {string | null} typeField the member that says a line's type; null: lines have none
 * @property {string | undefined} defaultType the type of a line without one
 * @property {string} requestId the member that has a request's id
 * @property {number} idleTimeout milliseconds without a line, and without a request at work, after which it is closed
 */

class PlainSession {
  /**
   * @param {'dialler' | 'listener'} side
   * @param {import('./session.cjs').Settings & { format: Format }} settings
   * @param {{ now: number, address: string }} options
   */
  constructor(side, settings, { now, address }) {
    this.settings = settings;
    /** @type {'ready' | 'closing'} */
    this.state = 'ready';
    /** it has proven nothing @type {import('./session.cjs').PeerInfo} */
    this.peer = { name: address, role: settings.peerRole, incarnation: '', version: 0, address, key: '', features: [] };
    /** it doesn't say what it takes @type {import('./catalogue.cjs').Catalogue | undefined} */
    this.takes = undefined;
    /** @type {Closed | undefined} */
    this.closed = undefined;
    this.sendLimit = settings.frameLimit;
    this._format = settings.format;
    this._listens = side === 'listener';
    this._lines = new LineSplitter(settings.frameLimit);
    /** lines that wait until those before them are answered @type {Array<string | NotUtf8>} */
    this._waiting = [];
    this._calls = new OwnCalls(settings.maxCalls);
    /** the ids of the peer's requests that aren't answered, by their numbers here @type {Map<number, number | string | undefined>} */
    this._asked = new Map();
    this._number = 0;
    this._inTurn = 0; // the request without an id, before whose answer nothing else is looked at; 0: none
    this._ended = false; // the peer says nothing more
    this._reading = true;
    this._lineDue = Infinity;
    this._heard = now;
    this._spoke = false; // since it was looked whether the connection is idle
    /** @type {string[]} */
    this._out = [];
  }

  /** @returns {Event[]} of the beginning: there is no handshake */
  start() {
    return [{ event: 'ready', peer: this.peer }];
  }

  dataToSend() {
    const data = this._out.join('');
    this._out.length = 0;
    this._spoke = true;
    return data;
  }

  get hasDataToSend() {
    return this._out.length > 0;
  }

  // -- lines

  /**
   * @param {Uint8Array} chunk
   * @param {number} now
   * @returns {Event[]}
   */
  receive(chunk, now) {
    if (this.state !== 'ready') return [];
    const lines = this._lines.feed(chunk);
    for (const line of lines) this._waiting.push(line);
    this._heard = now;
    if (!this._lines.pending) this._lineDue = Infinity;
    else if (lines.length || this._lineDue === Infinity) this._lineDue = now + LINE_TIMEOUT; // it has begun just now
    return this.settled(now);
  }

  /** Whether the peer still gets its answers when it says nothing more. */
  get answersAfterEnd() {
    return this._listens && this.state === 'ready';
  }

  /** Whether the peer isn't to be read: what it has asked is answered first. */
  get isFull() {
    return this._waiting.length > 0;
  }

  /**
   * Go on after answers: with the lines that have waited for them.
   *
   * @param {number} now
   * @returns {Event[]}
   */
  settled(now) {
    /** @type {Event[]} */
    const events = [];
    let done = 0;
    try {
      while (this.state === 'ready' && done < this._waiting.length && !this._inTurn && this._asked.size < MOST_REQUESTS) {
        this._line(this._waiting[done++], events);
      }
      this._waiting.splice(0, done);
      if (this._lines.overflowed && !this._waiting.length && this.state === 'ready') {
        throw remoteFault('frame-too-long', `a line is longer than ${this.settings.frameLimit} bytes`);
      }
    } catch (error) {
      if (!(error instanceof RemoteProtocolError)) throw error;
      this._end({ code: error.code, reason: error.message }, events);
    }
    if (this._ended && !this._waiting.length && !this._asked.size) {
      this._over({ event: 'closed', code: 'closed', reason: 'the peer has closed the connection', remote: true, abrupt: false }, events);
    }
    if (done) this._heard = now;
    return events;
  }

  /**
   * The peer says nothing more. It still gets its answers.
   *
   * @param {number} now
   * @returns {Event[]}
   */
  inputEnded(now) {
    this._ended = true;
    this._lineDue = now + ANSWERS_TIMEOUT;
    return this.settled(now);
  }

  /**
   * @param {string | NotUtf8} line
   * @param {Event[]} events
   */
  _line(line, events) {
    let frame;
    try {
      if (line instanceof NotUtf8) throw new SyntaxError('it is not UTF-8');
      frame = decode(line);
      if (typeof frame !== 'object' || frame === null || Array.isArray(frame)) throw new SyntaxError('it is no object');
    } catch (error) {
      return this._notUnderstood(`not a line of JSON with a type: ${/** @type {Error} */ (error).message}`, events);
    }
    const { typeField, defaultType, requestId } = this._format;
    const said = typeField === null ? undefined : frame[typeField];
    if (!this._listens && this._isAnswer(said, frame, events)) return;
    const type = said === undefined ? defaultType : said;
    if (typeof type !== 'string') return this._notUnderstood('not a line of JSON with a type', events);
    const { messages, answers } = this.settings;
    const { [requestId]: id, ...fields } = frame;
    if (answers.has(type) && (id !== undefined || !messages.has(type))) this._request(type, { ...fields, type }, id, events);
    else if (messages.has(type)) this._message({ ...fields, type }, events);
    else this._refuseLine('unknown-type', `'${printable(type, 64)}' is not received here`, id, events);
  }

  /**
   * @param {string} complaint about a line that is none
   * @param {Event[]} events
   */
  _notUnderstood(complaint, events) {
    if (this._listens) throw remoteFault('bad-message', complaint);
    events.push({ event: 'refused', message: printable(complaint) });
  }

  /**
   * @param {string} type
   * @param {Frame} request
   * @param {unknown} id
   * @param {Event[]} events
   */
  _request(type, request, id, events) {
    if (id !== undefined && !isRequestId(id)) {
      const why = `${type}: an \`${this._format.requestId}\` is an integer from 0 to 2^53 - 1, or a string of at most ${ID_LIMIT} characters`;
      return this._sayError('bad-request', why, undefined);
    }
    const known = /** @type {number | string | undefined} */ (id);
    const wrong = this.settings.schema?.wrong('call', type, request);
    if (wrong) return this._refuseLine('bad-request', `${type}: ${wrong}`, known, events);
    this._asked.set(++this._number, known);
    if (known === undefined) this._inTurn = this._number;
    events.push({ event: 'call', id: this._number, request, credit: 0 });
  }

  /**
   * @param {Frame} message
   * @param {Event[]} events
   */
  _message(message, events) {
    const wrong = this.settings.schema?.wrong('message', message.type, message);
    if (wrong) this._refuseLine('bad-message', `${message.type}: ${wrong}`, undefined, events);
    else events.push({ event: 'message', message });
  }

  /**
   * @param {string} code
   * @param {string} complaint
   * @param {unknown} id
   * @param {Event[]} events
   */
  _refuseLine(code, complaint, id, events) {
    // A client answers nothing but requests.
    if (this._listens || code === 'bad-request') this._sayError(code, complaint, isRequestId(id) ? id : undefined);
    events.push({ event: 'refused', message: printable(complaint) });
  }

  /**
   * Take a line of a server's, if it answers this side, or is the end.
   *
   * @param {unknown} type
   * @param {Frame} frame
   * @param {Event[]} events
   * @returns {boolean} whether it was one
   */
  _isAnswer(type, frame, events) {
    const { messages, answers } = this.settings;
    const { [this._format.requestId]: id, ...members } = frame;
    if (type === 'bye' && typeof frame.code === 'string') {
      const closed = { code: printable(frame.code, 64), reason: printable(String(frame.reason), REASON_LIMIT) };
      this._over({ event: 'closed', ...closed, remote: true, abrupt: false }, events);
      return true;
    }
    if (type === 'error' && id === undefined) {
      events.push({ event: 'complaint', code: printable(String(frame.code)), message: printable(String(frame.message)) });
      return true;
    }
    const isReply = type === 'reply' || type === 'error';
    if (!isReply && typeof type === 'string' && (messages.has(type) || answers.has(type))) return false;
    if (!Number.isSafeInteger(id) || id < 1 || id > this._calls.last) return false;
    const call = this._calls.answered(id);
    if (!call) return true; // nobody waits for it any longer
    if (type === 'error') this._failed(id, frame, events);
    else if (type === 'reply') this._replied(id, call.type, frame.reply, events);
    else if (frame.error !== undefined && frame.error !== null) this._failed(id, frame.error, events);
    else this._replied(id, call.type, members, events);
    return true;
  }

  /**
   * @param {number} id
   * @param {string} type
   * @param {any} reply
   * @param {Event[]} events
   */
  _replied(id, type, reply, events) {
    const missing = reply === undefined ? 'the line has no `reply`' : '';
    const wrong = missing || this.settings.askedSchema?.wrongAnswer('call', type, reply);
    if (!wrong) events.push({ event: 'replied', id, reply });
    else events.push({ event: 'failed', id, error: new CallFailed('bad-reply', words(`the answer to ${type}: ${wrong}`, REASON_LIMIT)) });
  }

  /**
   * @param {number} id
   * @param {any} error a text, or an object
   * @param {Event[]} events
   */
  _failed(id, error, events) {
    const { code = 'error', message = '', data } = typeof error === 'object' ? error : { message: error };
    events.push({ event: 'failed', id, error: new CallFailed(String(code), String(message), data) });
  }

  // -- time

  nextDeadline() {
    if (this.state !== 'ready') return Infinity;
    return Math.min(this._calls.earliest, this._endDue, this._idleDue);
  }

  /** When a line must have ended, or the last answers be out; Infinity: nothing is waited for that could come. */
  get _endDue() {
    return this._reading || this._ended ? this._lineDue : Infinity;
  }

  /** When nothing has come for as long as that may be; Infinity: something is at work, or nothing could come. */
  get _idleDue() {
    if (this._asked.size || this._calls.isWaiting || !this._reading) return Infinity;
    return this._heard + this._format.idleTimeout;
  }

  /**
   * @param {number} now
   * @returns {Event[]}
   */
  tick(now) {
    /** @type {Event[]} */
    const events = [];
    for (const [id, { type }] of this._calls.expired(now)) {
      this.drop(id);
      events.push({ event: 'failed', id, error: new CallTimedOut(`no reply to ${type} in time`) });
    }
    if (now >= this._endDue) {
      const reason = this._ended ? 'the answers were not ready in time' : `a line has no end after ${LINE_TIMEOUT / 1000} seconds`;
      this._end({ code: 'silent', reason }, events);
    } else if (now >= this._idleDue) {
      // What this side has said meanwhile counts as well: it is looked at again.
      if (this._spoke) this._heard = now;
      else this._end({ code: 'silent', reason: `there was no line for ${this._format.idleTimeout / 1000} seconds` }, events);
      this._spoke = false;
    }
    return events;
  }

  /**
   * Note whether this side reads. While it doesn't, the peer can't be late; then its time begins anew.
   *
   * @param {boolean} reading
   * @param {number} now
   */
  setReading(reading, now) {
    this._reading = reading;
    if (!reading) return;
    this._heard = now;
    if (this._lines.pending && !this._ended) this._lineDue = now + LINE_TIMEOUT;
  }

  // -- what this side says

  /**
   * @param {string} type
   * @param {object} [fields]
   */
  send(type, fields) {
    this._sayFields(checked(this.settings.askedSchema, 'message', type, fields), undefined);
  }

  /**
   * @param {string} type
   * @param {object | undefined} fields
   * @param {number} deadline
   */
  call(type, fields, deadline) {
    const id = this._calls.nextId;
    this._sayFields(checked(this.settings.askedSchema, 'call', type, fields), id);
    this._calls.made(type, deadline);
    return id;
  }

  /**
   * @param {string} type
   * @param {object | undefined} _fields
   * @param {number} _credit
   * @returns {number}
   */
  callForItems(type, _fields, _credit) {
    throw new LocalProtocolError(`${type} can't be answered by items here: plain lines have no streamed replies`);
  }

  /**
   * @param {number} _id
   * @param {number} _credit
   */
  more(_id, _credit) {}

  /**
   * @param {number} _id
   * @param {string} _array
   */
  answerItems(_id, _array) {}

  /**
   * Wait no longer for an answer. The peer isn't told: plain lines have no word for it.
   *
   * @param {number} id
   */
  drop(id) {
    this._calls.forget(id);
  }

  /**
   * @param {number} id
   * @param {unknown} reply
   */
  answer(id, reply) {
    if (!this._asked.has(id)) return;
    const line = encode(this._answering(id, { type: 'reply', reply: reply === undefined ? null : reply }), 'the reply');
    if (Buffer.byteLength(line) > this.sendLimit) {
      throw new LocalProtocolError(`the reply has ${Buffer.byteLength(line)} bytes, over the limit of ${this.sendLimit} (frameLimit)`, 'too-large');
    }
    this._answered(id, line);
  }

  /**
   * @param {number} id
   * @param {string} code
   * @param {string} message
   * @param {unknown} [data]
   */
  refuse(id, code, message, data) {
    if (!this._asked.has(id)) return;
    this._answered(id, encode(this._error(code, message, this._asked.get(id), data), "the error's data"));
  }

  /**
   * @param {string} code
   * @param {string} message
   */
  complain(code, message) {
    if (this._listens) this._sayError(code, message, undefined);
  }

  /**
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
   * @param {number} id
   * @param {Frame} frame
   */
  _answering(id, frame) {
    const known = this._asked.get(id);
    return known === undefined ? frame : { ...frame, [this._format.requestId]: known };
  }

  /**
   * @param {number} id
   * @param {string} line
   */
  _answered(id, line) {
    this.say(line);
    this._asked.delete(id);
    if (this._inTurn === id) this._inTurn = 0;
  }

  /**
   * @param {string} code
   * @param {string} message
   * @param {number | string | undefined} id
   * @param {unknown} [data]
   * @returns {Frame}
   */
  _error(code, message, id, data) {
    const frame = { type: 'error', code: words(code, REASON_LIMIT), message: words(message, REASON_LIMIT) };
    return { ...frame, ...(data === undefined ? {} : { data }), ...(id === undefined ? {} : { [this._format.requestId]: id }) };
  }

  /**
   * @param {string} code
   * @param {string} message
   * @param {number | string | undefined} id
   */
  _sayError(code, message, id) {
    if (this.state === 'ready') this.say(JSON.stringify(this._error(code, message, id)));
  }

  /**
   * @param {Frame} message with its type
   * @param {number | undefined} id
   */
  _sayFields({ type, ...fields }, id) {
    if (this.state !== 'ready') throw new NotConnected(describe(/** @type {Closed} */ (this.closed)));
    const { typeField, requestId } = this._format;
    if (id !== undefined && fields[requestId] !== undefined) {
      throw new LocalProtocolError(`${type} has a field ${requestId}, where the line has its request's id`);
    }
    const tag = typeField === null ? {} : { [typeField]: type };
    const line = encode({ ...tag, ...fields, ...(id === undefined ? {} : { [requestId]: id }) }, type);
    const size = Buffer.byteLength(line);
    if (size > this.sendLimit) {
      throw new LocalProtocolError(`${type} has ${size} bytes, over the limit of ${this.sendLimit} (frameLimit)`, 'too-large');
    }
    this.say(line);
  }

  /** @param {string} line */
  say(line) {
    this._out.push(line, '\n');
  }

  // -- the end

  /**
   * @param {{ code: string, reason: string, abrupt?: boolean }} why
   * @param {Event[]} events
   */
  _end({ code, reason, abrupt = false }, events) {
    if (this.state === 'closing') return;
    const [said, because] = [words(code, 64), words(reason, REASON_LIMIT)];
    if (this._listens) this.say(JSON.stringify({ type: 'bye', code: said, reason: because }));
    this._over({ event: 'closed', code: said, reason: because, remote: false, abrupt }, events);
  }

  /**
   * @param {Closed} closed
   * @param {Event[]} events
   */
  _over(closed, events) {
    if (this.state === 'closing') return;
    this.state = 'closing';
    this.closed = closed;
    this._calls.clear();
    this._asked.clear();
    this._waiting = [];
    events.push(closed);
  }
}

/** @param {unknown} id @returns {id is number | string} */
function isRequestId(id) {
  if (typeof id === 'string') return id.length <= ID_LIMIT;
  return Number.isSafeInteger(id) && /** @type {number} */ (id) >= 0;
}

module.exports = { PlainSession };
