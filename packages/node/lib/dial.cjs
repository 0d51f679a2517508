'use strict';
// The side that asks: `dial` returns a `Remote`, which stands for a service whether there is a link just now or not.

const { EventEmitter } = require('node:events');
const { Delays, step } = require('./dialling.cjs');
const { addressOf, connect, parse } = require('./endpoints.cjs');
const { CallTimedOut, LinkRefused, LocalProtocolError, NotConnected } = require('./errors.cjs');
const { FileOutbox } = require('./file_outbox.cjs');
const { makeNonce } = require('./keys.cjs');
const { Link } = require('./link.cjs');
const { ParentSocket } = require('./parent_socket.cjs');
const { Outgoing } = require('./sender.cjs');
const { answersOf, formatOf, interfaceOf, settingsOf, tellFault } = require('./service.cjs');
const { StreamedReply } = require('./streamed.cjs');
const { Unsent } = require('./unsent.cjs');
const { LONGEST_TIMEOUT, Waiting, timeoutOf } = require('./waiting.cjs');

/** Milliseconds that a link must have been ready for, before the next delay is the first one again. */
const LASTING = 5000;

/** @typedef {import('./service.cjs').Interface} Interface */
/** @typedef {import('./peer.cjs').Peer} Peer */
/** @typedef {Record<string, any>} Options */

/**
 * Stay linked with the service at an endpoint, until `Remote.close`. Returns at once.
 *
 * @param {string} endpoint
 * @param {Interface | string} described the service's interface
 * @param {Options} [options]
 */
function dial(endpoint, described, options = {}) {
  return new Remote(endpoint, interfaceOf(described), options);
}

/**
 * Stay connected with a server of lines of JSON, otherwise like `dial`.
 *
 * @param {string} endpoint
 * @param {Interface | string} described
 * @param {Options} [options]
 */
function dialPlain(endpoint, described, options = {}) {
  return new Remote(endpoint, interfaceOf(described), options, formatOf(options, endpoint));
}

/** A service, over one link after another. Events: `link` (a peer), `loss` (a reason), `fault` (an error, and where). */
class Remote extends EventEmitter {
  /**
   * @param {string} endpoint
   * @param {Interface} asked
   * @param {Options} options
   * @param {import('./plain_session.cjs').Format} [format] of plain lines, in place of a link
   */
  constructor(endpoint, asked, options, format) {
    super();
    const { service, callsWait = true, queue = 1 << 20, failOnRefusal = false, unref = false, tls } = options;
    const answered = service?.interface === undefined ? undefined : interfaceOf(service.interface);
    const answers = answersOf(service, answered);
    const roles = { role: `${asked.name}-client`, peerRole: `${asked.name}-server` };
    const settings = settingsOf(roles, answers, { answered, asked }, options);
    settings.format = format;
    const address = parse(endpoint, { dialled: true, hasKey: !!(format || settings.key || settings.keys) });
    settings.keysOptional = address.kind === 'unix' || address.kind === 'parent';
    this._interface = asked;
    this._named = options.name !== undefined;
    this._settings = settings;
    this._answers = answers;
    this._address = address;
    this._tls = tls;
    this._unref = unref;
    this._callsWait = callsWait;
    this._failOnRefusal = failOnRefusal;
    this._outgoing = new Outgoing(settings, (what, work) => this._guard(what, work));
    this._unsent = new Unsent(settings, queue);
    this._linked = new Waiting();
    /** @type {Peer | undefined} */
    this._peer = undefined;
    this._why = 'no link was made yet';
    /** why everything fails at once @type {(() => NotConnected) | undefined} */
    this._fails = undefined;
    /** @type {import('./dialling.cjs').State} */
    this._state = 'connecting';
    this._delays = new Delays(address.kind === 'unix', options.random ?? Math.random);
    /** @type {import('node:net').Socket | undefined} */
    this._socket = undefined;
    /** @type {Link | undefined} */
    this._link = undefined;
    /** @type {NodeJS.Timeout | undefined} */
    this._timer = undefined;
    /** @type {NodeJS.Timeout | undefined} */
    this._lasting = undefined;
    this._ended = new Promise((/** @type {(reason: string) => void} */ resolve) => (this._resolveEnded = resolve));
    // In the next turn, so that the caller can listen for events first.
    this._timer = setTimeout(() => this._state === 'connecting' && this._connect(), 0);
  }

  /** The service on the link of now; undefined while there is none. */
  get peer() {
    return this._peer;
  }

  /**
   * Call the service, and wait for the reply.
   *
   * @param {string} type
   * @param {object} [request]
   * @param {{ timeout?: number, signal?: AbortSignal }} [options]
   * @returns {Promise<any>}
   */
  call(type, request, options = {}) {
    return new Promise((resolve, reject) => {
      this._check('calls', type);
      if (this._link && this._peer) return this._link.call(type, request, options, { resolve, reject });
      if (this._fails) throw this._fails();
      if (!this._callsWait) throw new NotConnected(this._why);
      const timeout = timeoutOf(options.timeout);
      const why = () => this._why;
      this._unsent.call(type, request, { timeout, signal: options.signal, why }, { resolve, reject });
    });
  }

  /**
   * Call the service for items: `for await (const row of remote.streamCall('query', { … }))`. The call is made when the
   * first item is asked for; without a link, on the next one.
   *
   * @param {string} type
   * @param {object} [request]
   * @param {{ timeout?: number, signal?: AbortSignal }} [options] `timeout` is for the link, and for each next item
   */
  streamCall(type, request, options) {
    this._check('streamed', type);
    return new StreamedReply((timeout, signal) => this._linkOf(type, timeout, signal), type, request, options);
  }

  /**
   * @param {string} type
   * @param {number} timeout
   * @param {AbortSignal} [signal]
   */
  async _linkOf(type, timeout, signal) {
    if (!this._peer && !this._fails && !this._callsWait) throw new NotConnected(this._why);
    const late = () => new CallTimedOut(`no link in time for ${type}: ${this._why}`);
    return (await this._whenLinked(timeout, signal, late))._link;
  }

  /**
   * Send a one-way message; or keep it for the next link.
   *
   * @param {string} type
   * @param {object} [message]
   */
  send(type, message) {
    this._check('messages', type);
    if (this._link && this._peer) return this._link.send(type, message);
    if (this._fails) throw this._fails();
    this._unsent.send(type, message, this._why);
  }

  /**
   * Resolves when the peer keeps up with what this side sends; without a link, when there is one and it does.
   *
   * @param {{ signal?: AbortSignal }} [options]
   * @returns {Promise<void>}
   */
  async drain({ signal } = {}) {
    await (await this.linked({ signal })).drain({ signal });
  }

  /**
   * Resolves with the peer when there is a link.
   *
   * @param {{ timeout?: number, signal?: AbortSignal }} [options]
   * @returns {Promise<Peer>}
   */
  async linked({ timeout = Infinity, signal } = {}) {
    return this._whenLinked(timeoutOf(timeout), signal, () => new NotConnected(`no link in time: ${this._why}`));
  }

  /**
   * @param {number} timeout
   * @param {AbortSignal | undefined} signal
   * @param {() => Error} late
   * @returns {Promise<Peer>}
   */
  async _whenLinked(timeout, signal, late) {
    const limit = timeout <= LONGEST_TIMEOUT ? new AbortController() : undefined;
    const signals = [signal, limit?.signal].filter((each) => each !== undefined);
    const either = signals.length ? AbortSignal.any(signals) : undefined;
    const timer = limit && setTimeout(() => limit.abort(late()), timeout);
    try {
      for (;;) {
        const fails = this._fails;
        if (fails) throw fails();
        if (this._peer) return this._peer;
        // Once more if it is lost at once: in the same time.
        await this._linked.wait(either);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * A reliable stream to the service.
   *
   * @param {string} name
   * @param {{ outbox?: import('./outbox.cjs').Outbox, onRefused?: (refusal: any) => void }} [options]
   */
  stream(name, options = {}) {
    this._check('streams', name);
    if (this._settings.format) throw new LocalProtocolError('plain lines have no streams');
    checkNamed(options.outbox, this._named);
    return this._outgoing.stream(name, options);
  }

  /** End the link, and dial no more. Resolves when all is gone, within 5 seconds. */
  async close() {
    if (!this._isOver) {
      // The only link's end says more.
      if (this._address.kind !== 'parent' || this._state !== 'waiting') this._why = 'it was closed here';
      const why = this._why;
      this._failWaiting(() => new NotConnected(why, 'closed'));
      this._outgoing.close();
      this._unsent.dropMessages();
      this._handle('stop');
    }
    await this._ended;
  }

  /** Resolves with the reason when there is no link and won't be another. */
  closed() {
    return this._ended;
  }

  [Symbol.asyncDispose ?? Symbol.for('nodejs.asyncDispose')]() {
    return this.close();
  }

  /**
   * @param {'calls' | 'streamed' | 'messages' | 'streams'} kind
   * @param {string} type
   */
  _check(kind, type) {
    const known = this._interface[kind];
    if (known && !known.includes(type)) {
      throw new LocalProtocolError(`${this._interface.name} has no ${type} among its ${kind}`);
    }
  }

  get _isOver() {
    return this._state === 'closing' || this._state === 'closed';
  }

  // -- the machine

  /** @param {import('./dialling.cjs').Input} input */
  _handle(input) {
    const [state, acts] = step(this._state, input);
    this._state = state;
    for (const act of acts) {
      switch (act) {
        case 'connect':
          this._connect();
          break;
        case 'retry':
        case 'retry unreached':
          this._timer = setTimeout(() => this._handle('due'), this._delays.next(act === 'retry'));
          if (this._unref) this._timer.unref();
          break;
        case 'give up':
          clearTimeout(this._timer);
          this._socket?.destroy();
          break;
        case 'wait no longer':
          clearTimeout(this._timer);
          break;
        case 'close':
          this._link?.close('closed', 'the peer is stopping');
          break;
        case 'end':
          this._resolveEnded?.(this._why);
          break;
      }
    }
  }

  _connect() {
    if (this._address.kind === 'parent') return this._connectToParent();
    let socket;
    try {
      socket = connect(this._address, this._tls, () => this._reached(made));
    } catch (error) {
      // The certificates can't be read just now, say.
      return this._notReached(undefined, /** @type {Error} */ (error));
    }
    const made = socket;
    this._socket = made;
    if (this._unref) made.unref();
    made.once('error', (error) => this._notReached(made, error));
    made.once('close', () => this._notReached(made, new Error('the connection was closed')));
  }

  _connectToParent() {
    const socket = /** @type {any} */ (new ParentSocket(this._settings.outboundLimit));
    this._socket = socket;
    this._reached(socket);
  }

  /**
   * @param {import('node:net').Socket | undefined} socket
   * @param {Error} error
   */
  _notReached(socket, error) {
    if (this._state !== 'connecting' || this._socket !== socket) return;
    this._socket = undefined;
    this._why = error.message;
    this._fails = undefined; // what has failed for a refusal waits again
    this._handle('failed');
    if (this._failOnRefusal && isOfCertificates(error)) this._refused('refused', error.message);
  }

  /** @param {import('node:net').Socket} socket */
  _reached(socket) {
    if (this._state !== 'connecting' || this._socket !== socket) return socket.destroy();
    socket.removeAllListeners('error').removeAllListeners('close');
    this._handle('reached');
    const options = { nonce: makeNonce(), address: addressOf(socket), unref: this._unref };
    const link = new Link(socket, 'dialler', this._settings, this._answers, this, options);
    link.outgoing = this._outgoing;
    this._link = link;
    link.closed.then(() => {
      if (this._state === 'closing') this._handle('lost');
    });
    link.begin();
  }

  // -- as the owner of links

  /** @param {Link} link */
  linkReady(link) {
    const peer = /** @type {Peer} */ (link.peer);
    this._handle('ready');
    if (this._state !== 'linked') return;
    this._fails = undefined;
    this._peer = peer;
    this._unsent.sendAll(link);
    this._outgoing.linkMade(link);
    this._lasting = setTimeout(() => this._delays.reset(), LASTING).unref();
    this._linked.release();
    this._guard('a listener for `link`', () => this.emit('link', peer));
  }

  /**
   * @param {Link} link
   * @param {string} reason
   * @param {string} refusal
   */
  linkLost(link, reason, refusal) {
    if (this._link !== link) return;
    const had = this._peer;
    clearTimeout(this._lasting);
    this._peer = this._link = this._socket = undefined;
    if (!this._isOver) {
      this._why = reason;
      this._fails = undefined;
      this._handle('lost');
      if (this._address.kind === 'parent') this.close(); // there is no other
      if (refusal && this._failOnRefusal) this._refused(refusal, reason);
    }
    if (had) this._guard('a listener for `loss`', () => this.emit('loss', reason));
  }

  /**
   * @param {string} code
   * @param {string} reason
   */
  _refused(code, reason) {
    this._failWaiting(() => new LinkRefused(code, reason));
  }

  /** @param {() => NotConnected} error */
  _failWaiting(error) {
    this._fails = error;
    this._unsent.failCalls(error);
    this._linked.fail(error());
  }

  /**
   * @param {unknown} error
   * @param {string} what
   */
  fault(error, what) {
    tellFault(this, error, what);
  }

  /**
   * @param {string} what
   * @param {() => void} work
   */
  _guard(what, work) {
    try {
      work();
    } catch (error) {
      this.fault(error, what);
    }
  }
}

/** @param {Error} error */
function isOfCertificates(error) {
  return /CERT|SELF_SIGNED|ALTNAME|UNABLE_TO/.test(/** @type {NodeJS.ErrnoException} */ (error).code ?? '');
}

/**
 * A receiver knows a stream by its sender's name too, so a stream that outlives the process needs one that does.
 *
 * @param {unknown} outbox
 * @param {boolean} named
 */
function checkNamed(outbox, named) {
  if (outbox instanceof FileOutbox && !named) {
    throw new LocalProtocolError('a FileOutbox outlives this process, so this side needs a name that does: {name: …}');
  }
}

module.exports = { dial, dialPlain, Remote, checkNamed };
