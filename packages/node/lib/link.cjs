'use strict';
// A session on a socket, and what this side's service does on it. Made by `dial` and `listen`.

const { CallFailed, LinkError, LocalProtocolError, NotConnected, RemoteProtocolError } = require('./errors.cjs');
const { encode } = require('./json.cjs');
const { Peer } = require('./peer.cjs');
const { PlainSession } = require('./plain_session.cjs');
const { Incoming } = require('./receiver.cjs');
const { FROM_RECEIVER } = require('./sender.cjs');
const { Session, describe } = require('./session.cjs');
const { Streaming } = require('./streamed.cjs');
const { Waiting, timeoutOf } = require('./waiting.cjs');

/** Milliseconds in which a peer may read what is left for it when the link is closed. */
const LINGER = 5000;
/** Asynchronous handlers of one peer's messages that may be at work before its link isn't read. */
const MAX_RUNNING = 256;
/** How often it is told, for each link, that one side hasn't understood the other. */
const MOST_MISUNDERSTANDINGS = 100;
/** The codes of a `bye` after which only people can change the outcome. */
const REFUSALS = new Set(['version', 'unauthorized', 'refused', 'not-accepted', 'name-taken', 'bad-handshake']);

/** @typedef {import('./session.cjs').Settings} Settings */
/** @typedef {import('./session.cjs').PeerInfo} PeerInfo */
/** @typedef {import('./service.cjs').Answers} Answers */
/** @typedef {import('./streamed.cjs').Arriving} Arriving */
/** @typedef {{ resolve: (reply: any) => void, reject: (error: Error) => void, forget?: () => void }} Asked */
/**
 * @typedef {object} Owner what makes links hears of them
 * @property {(link: Link) => void} linkReady
 * @property {(link: Link, reason: string, refusal: string) => void} linkLost its calls fail after that
 * @property {(error: unknown, what: string) => void} fault
 * @property {(link: Link) => Answers} [answersFor] where it has several services: those of the one that the peer wants
 */

class Link {
  /**
   * @param {import('node:net').Socket} socket that is connected
   * @param {'dialler' | 'listener'} side
   * @param {Settings} settings
   * @param {Answers} answers
   * @param {Owner} owner
   * @param {{ nonce: string, address: string, unref: boolean }} options
   */
  constructor(socket, side, settings, answers, owner, { nonce, address, unref }) {
    this.socket = socket;
    /** where there are plain lines in place of a link @type {PlainSession | undefined} */
    this._plain = undefined;
    if (settings.format) this._plain = new PlainSession(side, /** @type {any} */ (settings), { now: now(), address });
    this.session = this._plain ?? new Session(side, this._accepting(settings), { nonce, now: now(), address });
    /** @type {Peer | undefined} */
    this.peer = undefined;
    /** @type {import('./sender.cjs').Outgoing | undefined} */
    this.outgoing = undefined;
    this._settings = settings;
    this._answers = answers;
    this._owner = owner;
    this._unref = unref;
    /** @type {Incoming | undefined} */
    this._incoming = undefined;
    /** @type {Map<number, Asked>} */
    this._asked = new Map();
    /** the calls among them that are answered by items @type {Map<number, Arriving>} */
    this._arriving = new Map();
    /** the peer's calls that are @type {Map<number, Streaming>} */
    this._streaming = new Map();
    /** the credit of those whose handlers haven't come to their items @type {Map<number, number>} */
    this._credits = new Map();
    /** @type {Map<number, AbortController | undefined>} */
    this._answering = new Map();
    this._running = 0; // handlers of messages
    this._misunderstandings = 0;
    this._drains = new Waiting();
    /** @type {Set<string>} */
    this._holds = new Set();
    this._flushes = false;
    this.paused = false;
    this._ended = false; // the session is over, and everybody knows
    this._reason = '';
    /** @type {NodeJS.Timeout | undefined} */
    this._timer = undefined;
    this._timerAt = Infinity;
    /** @type {NodeJS.Timeout | undefined} */
    this._linger = undefined;
    /** @type {() => void} */
    this._forgetKey = () => {};
    this._flush = () => this._turnEnded();
    this.closed = new Promise((/** @type {(value?: undefined) => void} */ resolve) => (this._resolveClosed = resolve));
    socket.setNoDelay?.(true);
    if (unref) socket.unref();
    socket.on('data', (/** @type {Buffer} */ chunk) => this._events(this.session.receive(chunk, now())));
    socket.on('drain', () => this._resume());
    socket.on('error', (error) => this._lost(error.message));
    socket.on('end', () => this._inputEnded());
    socket.on('close', () => this._gone());
    this._after();
  }

  /** Begin, once the owner knows of it. */
  begin() {
    if (this._plain) this._events(this._plain.start());
  }

  get info() {
    return /** @type {PeerInfo} */ (this.session.peer);
  }

  get sendLimit() {
    return this.session.sendLimit;
  }

  // -- what happens

  /**
   * The settings, with an `accept` that refuses the peer where it fails: nobody else is to suffer.
   *
   * @param {Settings} settings
   * @returns {Settings}
   */
  _accepting(settings) {
    if (settings.others?.length) {
      const others = settings.others.map((each) => this._accepting(each));
      return { ...this._accepting({ ...settings, others: undefined }), others };
    }
    const { accept } = settings;
    if (!accept) return settings;
    const guarded = (/** @type {PeerInfo} */ peer) => {
      try {
        return accept(peer);
      } catch (error) {
        this._owner.fault(error, `accept, of ${peer.name}`);
        return 'an error inside; see the log there';
      }
    };
    return { ...settings, accept: guarded };
  }

  /** @param {import('./session.cjs').Event[]} events */
  _events(events) {
    if (this._plain?.isFull) this.hold('answers', true);
    for (const event of events) {
      if (this._ended) break; // a handler has closed it: nothing is received from then on
      switch (event.event) {
        case 'replied':
          this._forgetAsked(event.id)?.resolve(event.reply);
          break;
        case 'failed':
          this._forgetAsked(event.id)?.reject(event.error);
          break;
        case 'items':
          this._arriving.get(event.id)?.came(event.items, event.size);
          break;
        case 'more':
          this._more(event.id, event.credit);
          break;
        case 'call':
          this._answer(event.id, event.request, event.credit);
          break;
        case 'dropped':
          this._dropped(event.id);
          break;
        case 'message':
          this._take(event.message);
          break;
        case 'stream':
          this._ofAStream(event.frame, event.size);
          break;
        case 'ready':
          this._ready();
          break;
        case 'complaint':
          this._misunderstood(event.code, event.message, `${this.info.name} has not taken something`);
          break;
        case 'refused':
          this._misunderstood('refused', event.message, `a message of ${this.info.name} was refused`);
          break;
        case 'closed':
          this._over(event);
          break;
      }
    }
    this._after();
  }

  /**
   * One side hasn't understood the other. It is told so often, and not for ever: a peer can go on with that.
   *
   * @param {string} code
   * @param {string} message
   * @param {string} what
   */
  _misunderstood(code, message, what) {
    if (++this._misunderstandings > MOST_MISUNDERSTANDINGS) return;
    const last = this._misunderstandings === MOST_MISUNDERSTANDINGS ? '; no more of this is told of this link' : '';
    this._owner.fault(new LinkError(code, message + last), what);
  }

  /** @param {number} id */
  _forgetAsked(id) {
    const asked = this._asked.get(id);
    this._asked.delete(id);
    this._arriving.delete(id);
    asked?.forget?.();
    return asked;
  }

  _ready() {
    this._settings = this.session.settings;
    this._answers = this._owner.answersFor?.(this) ?? this._answers;
    const revoked = () => this.close('unauthorized', 'the key of this link was revoked');
    const { key } = this.info;
    // It may have been since it was proven: the peer has said meanwhile what it takes.
    if (key && !this._settings.keys?.get(key)) return revoked();
    const peer = (this.peer = new Peer(this));
    this._incoming = new Incoming(this, this._answers.receivers, this._answers.streams, this._settings.schema);
    if (key) this._forgetKey = this._settings.keys?.watch(key, revoked) ?? this._forgetKey;
    this._guard('peerReady', () => this._answers.peerReady?.(peer));
    if (!this._ended) this._owner.linkReady(this);
  }

  /**
   * @param {number} id
   * @param {Record<string, any>} request
   * @param {number} credit bytes of items that the caller takes; 0: it waits for one reply
   */
  _answer(id, request, credit) {
    const handler = this._answers.handlers[request.type];
    const signalOf = () => this._signalOf(id);
    // The signal is made when it is asked for: most handlers don't.
    const context = {
      get signal() {
        return signalOf();
      },
    };
    this._answering.set(id, undefined);
    if (credit) this._credits.set(id, credit);
    let result;
    try {
      result = handler(request, /** @type {Peer} */ (this.peer), context);
    } catch (error) {
      return this._refuse(id, request.type, error);
    }
    if (typeof result?.then === 'function') {
      Promise.resolve(result).then(
        (reply) => this._reply(id, request.type, reply),
        (error) => this._refuse(id, request.type, error),
      );
    } else {
      this._reply(id, request.type, result);
    }
  }

  /**
   * @param {number} id of a call of the peer's
   * @param {number} credit bytes of items that it takes beside the former
   */
  _more(id, credit) {
    const before = this._credits.get(id);
    if (before === undefined) this._streaming.get(id)?.more(credit);
    else this._credits.set(id, before + credit);
  }

  /**
   * @param {number} id
   * @param {string} type
   * @param {AsyncIterable<unknown> | Iterable<unknown>} items
   */
  _stream(id, type, items) {
    if (!this._answering.has(id)) return; // the link has ended
    const credit = this._credits.get(id);
    if (!credit) throw new CallFailed('bad-request', `${type} is answered by items: the call must have a credit`);
    this._credits.delete(id);
    const { schema } = this._settings;
    const wrong = (/** @type {unknown} */ item) => schema?.wrongAnswer('items', type, item) ?? '';
    const streaming = new Streaming(this, id, type, credit, wrong);
    this._streaming.set(id, streaming);
    if (this._answering.get(id)?.signal.aborted) streaming.stop();
    streaming.send(items).then(
      (reply) => this._reply(id, type, reply),
      (error) => this._refuse(id, type, error),
    );
  }

  /** @param {number} id of a call that is being answered, or was */
  _signalOf(id) {
    const known = this._answering.get(id);
    if (known) return known.signal;
    const controller = new AbortController();
    if (this._answering.has(id)) this._answering.set(id, controller);
    else controller.abort(new NotConnected('the call is over', 'dropped'));
    return controller.signal;
  }

  /** @param {number} id */
  _dropped(id) {
    this._streaming.get(id)?.stop();
    this._signalOf(id);
    this._answering.get(id)?.abort(new NotConnected('the caller does not wait any longer', 'dropped'));
  }

  /**
   * @param {number} id
   * @param {string} type
   * @param {unknown} reply
   */
  _reply(id, type, reply) {
    try {
      const items = itemsOf(reply, this.session.settings.streamed?.has(type));
      if (items) return this._stream(id, type, items);
      const wrong = this._streaming.has(id) ? '' : this._settings.schema?.wrongAnswer('call', type, reply ?? null);
      if (wrong) throw new TypeError(`the reply to ${type} isn't what was declared: ${wrong}`);
      this.session.answer(id, reply);
      this._answered(id);
      this._schedule();
    } catch (error) {
      this._refuse(id, type, error);
    }
  }

  /** @param {number} id */
  _answered(id) {
    this._answering.delete(id);
    this._credits.delete(id);
    this._streaming.delete(id);
  }

  /**
   * @param {number} id
   * @param {string} type
   * @param {unknown} error
   */
  _refuse(id, type, error) {
    const aborted = this._answering.get(id)?.signal.aborted;
    this._answered(id);
    let [code, message, data] = ['internal', 'an error inside; see the log there', /** @type {unknown} */ (undefined)];
    if (error instanceof CallFailed) {
      ({ code, message, data } = error);
    } else if (error instanceof LocalProtocolError && error.code === 'too-large') {
      ({ code, message } = error);
    }
    try {
      this.session.refuse(id, code, message, data);
    } catch (worse) {
      this._owner.fault(worse, `the error that answers ${type}`);
      this.session.refuse(id, 'internal', 'an error inside; see the log there');
    }
    if (!(error instanceof CallFailed) && !aborted && !this._ended) this._owner.fault(error, `answering ${type}`);
    this._schedule();
  }

  /** @param {Record<string, any>} message */
  _take(message) {
    const { type } = message;
    let result;
    try {
      result = this._answers.handlers[type](message, /** @type {Peer} */ (this.peer), {});
    } catch (error) {
      return this._notTaken(type, error);
    }
    if (typeof result?.then !== 'function') return;
    if (++this._running >= MAX_RUNNING) this.hold('work', true);
    const ended = () => {
      if (--this._running < MAX_RUNNING) this.hold('work', false);
    };
    Promise.resolve(result).then(ended, (error) => {
      this._notTaken(type, error);
      ended();
    });
  }

  /**
   * @param {string} type
   * @param {unknown} error
   */
  _notTaken(type, error) {
    if (this._ended && error instanceof NotConnected) return;
    if (error instanceof CallFailed) {
      this.session.complain(error.code, `${type}: ${error.message}`);
    } else {
      this._owner.fault(error, `taking ${type}`);
      this.session.complain('internal', `${type}: an error inside; see the log there`);
    }
    this._schedule();
  }

  /**
   * @param {Record<string, any>} frame
   * @param {number} size
   */
  _ofAStream(frame, size) {
    try {
      if (FROM_RECEIVER.has(frame.type)) this.outgoing?.received(this, frame);
      else if (OF_SENDER.has(frame.type)) this._incoming?.received(frame, size);
      else this.session.complain('unknown-type', `'${frame.type.slice(0, 64)}' is not received here`);
    } catch (error) {
      if (!(error instanceof RemoteProtocolError)) throw error;
      this.close(error.code, error.message);
    }
  }

  // -- what this side says

  /**
   * @param {string} type
   * @param {object | undefined} request
   * @param {{ timeout?: number, signal?: AbortSignal } | undefined} options
   * @param {Asked} asked
   */
  call(type, request, { timeout, signal } = {}, asked) {
    if (signal?.aborted) return asked.reject(signal.reason);
    let id = 0;
    try {
      id = this.session.call(type, request, now() + timeoutOf(timeout));
    } catch (error) {
      return asked.reject(/** @type {Error} */ (error));
    }
    if (signal) {
      const abort = () => {
        this._asked.delete(id);
        this.session.drop(id);
        this._schedule();
        asked.reject(signal.reason);
      };
      signal.addEventListener('abort', abort, { once: true });
      asked.forget = () => signal.removeEventListener('abort', abort);
    }
    this._asked.set(id, asked);
    this._schedule();
  }

  // -- streamed replies

  /**
   * @param {string} type
   * @param {object | undefined} request
   * @param {number} credit
   * @param {Arriving} arriving
   */
  callForItems(type, request, credit, arriving) {
    const id = this.session.callForItems(type, request, credit);
    this._asked.set(id, arriving);
    this._arriving.set(id, arriving);
    this._schedule();
    return id;
  }

  /**
   * @param {number} id
   * @param {number} credit
   */
  more(id, credit) {
    this.session.more(id, credit);
    this._schedule();
  }

  /** @param {number} id of a call of this side's, whose answer isn't waited for any more */
  drop(id) {
    this._forgetAsked(id);
    this.session.drop(id);
    this._schedule();
  }

  /**
   * @param {number} id
   * @param {string} array
   */
  sendItems(id, array) {
    this.session.answerItems(id, array);
    // At once, so that the socket says when it is enough.
    this.flush();
  }

  // -- messages and streams

  /**
   * @param {string} type
   * @param {object} [message]
   */
  send(type, message) {
    this.session.send(type, message);
    this._schedule();
  }

  /** @param {object} frame of a stream; nothing happens if the link has ended */
  sendStreamFrame(frame) {
    if (this.session.state !== 'ready') return;
    this.session.say(encode(frame, 'the frame of a stream'));
    this._schedule();
  }

  /**
   * @param {string} id
   * @param {number} first
   * @param {string} array
   */
  sendStreamItems(id, first, array) {
    this.session.say(`{"type":"stream-items","id":${JSON.stringify(id)},"first":${first},"items":${array}}`);
    // At once, so that the socket says when it is enough.
    this.flush();
  }

  /**
   * @param {AbortSignal} [signal]
   * @returns {Promise<void>}
   */
  async drain(signal) {
    this.flush();
    if (this.session.state !== 'ready') throw new NotConnected(this._reason || 'there is no link yet');
    if (this.paused) await this._drains.wait(signal);
  }

  // -- writing

  /** Write at the end of this turn of the event loop what is said in it. */
  _schedule() {
    if (this._flushes) return;
    this._flushes = true;
    process.nextTick(this._flush);
  }

  /** Write what is to be written. */
  flush() {
    this._flushes = false;
    const { session, socket } = this;
    if (session.hasDataToSend) {
      const data = session.dataToSend();
      if (!socket.destroyed && socket.writable && !socket.write(data, 'utf8')) this.paused = true;
      if (socket.writableLength > this._settings.outboundLimit && !session.closed) {
        this._events(session.close('overflow', 'the peer does not read what it is sent', true));
      }
    }
    this._arm();
  }

  _turnEnded() {
    this.flush();
    if (!this._plain || this._ended) return;
    const events = this._plain.settled(now());
    if (events.length) this._events(events);
    this.hold('answers', this._plain.isFull);
  }

  _resume() {
    if (!this.paused) return;
    this.paused = false;
    this._drains.release();
    this.outgoing?.pump();
  }

  /**
   * Stop reading for a reason, or withdraw the reason.
   *
   * @param {string} reason
   * @param {boolean} holds
   */
  hold(reason, holds) {
    if (holds === this._holds.has(reason)) return;
    const before = this._holds.size;
    if (holds) this._holds.add(reason);
    else this._holds.delete(reason);
    if (this._ended || !!before === !!this._holds.size) return;
    this.session.setReading(!holds, now());
    if (holds) this.socket.pause();
    else this.socket.resume();
    this._arm();
  }

  // -- time

  _after() {
    if (this.session.hasDataToSend) this._schedule();
    else this._arm();
  }

  _arm() {
    const due = this.session.nextDeadline();
    if (this._ended || due >= this._timerAt) return; // a timer that fires too early looks again
    clearTimeout(this._timer);
    this._timerAt = due;
    // The socket keeps the process alive, if anything does.
    this._timer = setTimeout(() => this._due(), Math.max(0, Math.min(due - now(), 2 ** 31 - 1))).unref();
  }

  _due() {
    this._timerAt = Infinity;
    // In the next turn: what has arrived while this process was stopped is looked at first.
    setImmediate(() => {
      if (!this._ended) this._events(this.session.tick(now()));
    });
  }

  // -- the end

  /**
   * @param {string} code
   * @param {string} reason
   */
  close(code, reason) {
    this._events(this.session.close(code, reason));
  }

  /** @param {import('./session.cjs').Closed} closed the session is over */
  _over(closed) {
    this._conclude(describe(closed), closed);
    this.flush();
    this.socket.resume(); // or its end would never be seen
    if (closed.abrupt) this.socket.destroy();
    else this.socket.end();
    this._linger = setTimeout(() => this.socket.destroy(), LINGER);
    if (this._unref) this._linger.unref();
  }

  _inputEnded() {
    // A client of plain lines that has said all still gets its answers.
    if (this._plain?.answersAfterEnd) this._events(this._plain.inputEnded(now()));
    else this._lost('the peer has closed the connection');
  }

  /** @param {string} reason the connection has ended without a word, or is about to */
  _lost(reason) {
    if (!this._ended) {
      this.session.close('closed', reason);
      this._conclude(reason);
    }
    this.socket.destroy();
  }

  _gone() {
    if (!this._ended) this._lost('the connection was lost');
    clearTimeout(this._linger);
    this._resolveClosed?.();
  }

  /**
   * Tell everybody that the link has ended: first its owner, so that a call made in answer to that waits for the next
   * link; then those who wait for something of it.
   *
   * @param {string} reason
   * @param {import('./session.cjs').Closed} [closed]
   */
  _conclude(reason, closed) {
    if (this._ended) return;
    this._ended = true;
    this._reason = reason;
    clearTimeout(this._timer);
    this._forgetKey();
    const refusal = closed && !this.peer && REFUSALS.has(closed.code) ? closed.code : '';
    this.outgoing?.linkLost(this);
    this._owner.linkLost(this, reason, refusal);
    const error = () => new NotConnected(reason);
    for (const [, asked] of this._asked) {
      asked.forget?.();
      asked.reject(error());
    }
    this._asked.clear();
    this._arriving.clear();
    this._drains.fail(error());
    for (const streaming of this._streaming.values()) streaming.stop();
    for (const controller of this._answering.values()) controller?.abort(error());
    this._answering.clear();
    this._credits.clear();
    this._incoming?.close();
    const { peer } = this;
    if (peer) this._guard('peerLost', () => this._answers.peerLost?.(peer, reason));
  }

  /**
   * @param {unknown} error
   * @param {string} what
   */
  fault(error, what) {
    this._owner.fault(error, what);
  }

  /**
   * @param {string} what
   * @param {() => void} work
   */
  _guard(what, work) {
    try {
      work();
    } catch (error) {
      this._owner.fault(error, what);
    }
  }
}

/**
 * The items, if a handler has answered by such.
 *
 * @param {any} reply
 * @param {boolean} [wanted] whether its request is declared to be answered by items: then an array may be them as well
 */
function itemsOf(reply, wanted) {
  if (typeof reply !== 'object' || reply === null) return undefined;
  if (reply[Symbol.asyncIterator] || (wanted && reply[Symbol.iterator])) return reply;
  return undefined;
}

const OF_SENDER = new Set(['stream-open', 'stream-items', 'stream-close']);

/** Milliseconds on a clock that nobody sets. */
function now() {
  return performance.now();
}

module.exports = { Link };
