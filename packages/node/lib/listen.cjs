'use strict';
// The side that answers: `listen` makes a service available at an endpoint.

const { EventEmitter } = require('node:events');
const { checkNamed } = require('./dial.cjs');
const { addressOf, listen: listenAt, parse } = require('./endpoints.cjs');
const { BadEndpoint, LocalProtocolError } = require('./errors.cjs');
const { MOST_OTHER_SERVICES } = require('./greeting.cjs');
const { makeNonce } = require('./keys.cjs');
const { Link } = require('./link.cjs');
const { ParentSocket } = require('./parent_socket.cjs');
const { Outgoing } = require('./sender.cjs');
const { answersOf, formatOf, interfaceOf, settingsOf, tellFault } = require('./service.cjs');

/** Connections that may be in their handshake at a time: others wait for nothing, and are closed. */
const MAX_GREETINGS = 256;
/** Connections that there may be at a time. */
const MAX_LINKS = 4096;

/** @typedef {import('./service.cjs').Interface} Interface */
/** @typedef {import('./peer.cjs').Peer} Peer */
/** @typedef {import('./service.cjs').Service} Service */
/**
 * @typedef {object} Offer one of several services at an endpoint
 * @property {Interface | string} interface
 * @property {Service} service
 * @property {Interface | string} [calls]
 * @property {Uint8Array} [key]
 * @property {import('./keys.cjs').Keys} [keys]
 * @property {(peer: import('./session.cjs').PeerInfo) => string | undefined | null | false} [accept]
 */

/**
 * Listen at an endpoint for peers of a service, or of several: then `described` has them all, and the options follow.
 *
 * @param {string} endpoint
 * @param {Interface | string | Offer[]} described
 * @param {any} service
 * @param {Record<string, any>} [options]
 * @returns {Promise<Listening>}
 */
async function listen(endpoint, described, service, options = {}) {
  const listening = Array.isArray(described)
    ? new Listening(endpoint, described, service ?? {})
    : new Listening(endpoint, [{ interface: described, service }], options);
  await listening._start(endpoint);
  return listening;
}

/**
 * Listen for tools that speak plain lines of JSON, otherwise like `listen`.
 *
 * @param {string} endpoint
 * @param {Interface | string} described
 * @param {import('./service.cjs').Service} service
 * @param {Record<string, any>} [options]
 * @returns {Promise<Listening>}
 */
async function listenPlain(endpoint, described, service, options = {}) {
  const offers = [{ interface: described, service }];
  const listening = new Listening(endpoint, offers, options, formatOf(options, endpoint));
  await listening._start(endpoint);
  return listening;
}

/** One of the services that listen at an endpoint. Events: `link` (a peer), `loss` (a peer, a reason). */
class Served extends EventEmitter {
  /**
   * @param {Offer} offer
   * @param {Record<string, any>} options what holds for all services
   * @param {(what: string, work: () => void) => void} guard
   */
  constructor(offer, options, guard) {
    super();
    const answered = interfaceOf(offer.interface);
    this.name = answered.name;
    this._answers = answersOf(offer.service, answered);
    // With secrets of its own it has none of the shared ones, which would open it otherwise.
    const { key, keys } = offer.key === undefined && offer.keys === undefined ? options : offer;
    const { accept = options.accept, calls = options.calls } = offer;
    const asked = calls === undefined ? undefined : interfaceOf(calls);
    const roles = { role: `${answered.name}-server`, peerRole: `${answered.name}-client` };
    this._settings = settingsOf(roles, this._answers, { answered, asked }, { ...options, key, keys, accept });
    this._named = options.name !== undefined;
    this._guard = guard;
    /** the peers that are linked now @type {Set<Peer>} */
    this.peers = new Set();
    /** the streams to peers, by their names @type {Map<string, Outgoing>} */
    this._outgoing = new Map();
  }

  /**
   * A reliable stream to the peer of this name, whenever it is linked.
   *
   * @param {string} peer
   * @param {string} name
   * @param {{ outbox?: import('./outbox.cjs').Outbox, onRefused?: (refusal: any) => void }} [options]
   */
  stream(peer, name, options = {}) {
    if (this._settings.format) throw new LocalProtocolError('plain lines have no streams');
    checkNamed(options.outbox, this._named);
    let outgoing = this._outgoing.get(peer);
    if (!outgoing) {
      outgoing = new Outgoing(this._settings, this._guard);
      this._outgoing.set(peer, outgoing);
      for (const each of this.peers) if (each.info.name === peer) this._sendStreams(each._link);
    }
    return outgoing.stream(name, options);
  }

  /** @param {Link} link */
  _sendStreams(link) {
    const found = this._outgoing.get(link.info.name);
    if (!found || link.outgoing) return;
    link.outgoing = found;
    found.linkMade(link);
  }

  /** @param {Link} link */
  _linkReady(link) {
    const peer = /** @type {Peer} */ (link.peer);
    this.peers.add(peer);
    this._sendStreams(link);
    this._guard('a listener for `link`', () => this.emit('link', peer));
  }

  /**
   * @param {Peer} peer
   * @param {string} reason
   */
  _linkLost(peer, reason) {
    this.peers.delete(peer);
    this._guard('a listener for `loss`', () => this.emit('loss', peer, reason));
  }
}

/**
 * A service that listens, or several. Events: `link` (a peer), `loss` (a peer, a reason), `fault` (an error, and where).
 */
class Listening extends EventEmitter {
  /**
   * @param {string} endpoint
   * @param {Offer[]} offers
   * @param {Record<string, any>} options
   * @param {import('./plain_session.cjs').Format} [format] of plain lines, in place of a link
   */
  constructor(endpoint, offers, options, format) {
    super();
    if (!offers.length || offers.length > 1 + MOST_OTHER_SERVICES) {
      throw new RangeError(`an endpoint has 1 to ${1 + MOST_OTHER_SERVICES} services, not ${offers.length}`);
    }
    if (offers.length > 1 && (options.role ?? options.peerRole) !== undefined) {
      throw new TypeError('the roles of several services follow from their interfaces');
    }
    const all = offers.map((offer) => new Served(offer, options, (what, work) => this._guard(what, work)));
    /** the services, by the names of their interfaces @type {Map<string, Served>} */
    this.services = new Map(all.map((served) => [served.name, served]));
    if (this.services.size < all.length) throw new TypeError('two services at one endpoint have one name');
    this._first = all[0];
    const [settings, ...others] = all.map((served) => served._settings);
    settings.format = format;
    for (const each of others) Object.assign(each, { name: settings.name, incarnation: settings.incarnation });
    settings.others = others;
    const hasKey = [settings, ...others].every(({ key, keys }) => key || keys);
    this._address = parse(endpoint, { dialled: false, hasKey: !!format || hasKey });
    if (format && this._address.kind === 'tls' && !options.tls?.authority) {
      throw new BadEndpoint(`${endpoint}: an authority is needed (tls): where there is no key, only a certificate proves a peer`);
    }
    const keysOptional = this._address.kind === 'unix' || this._address.kind === 'parent';
    for (const each of [settings, ...others]) each.keysOptional = keysOptional;
    this._settings = settings;
    this._tls = options.tls;
    this._unref = options.unref ?? false;
    /** the peers that are linked now @type {Set<Peer>} */
    this.peers = new Set();
    /** @type {Set<Link>} */
    this._links = new Set();
    /** @type {import('node:net').Server | undefined} */
    this._server = undefined;
    /** @type {Promise<void> | undefined} */
    this._closing = undefined;
    this._ended = new Promise((/** @type {(value?: undefined) => void} */ resolve) => (this._resolveEnded = resolve));
  }

  /** @param {string} endpoint */
  async _start(endpoint) {
    if (this._address.kind === 'parent') {
      this._connected(/** @type {any} */ (new ParentSocket(this._settings.outboundLimit)));
      for (const link of this._links) link.closed.then(() => this.close());
      return;
    }
    const halfOpen = !!this._settings.format;
    const server = await listenAt(endpoint, this._address, this._tls, (socket) => this._connected(socket), halfOpen);
    this._server = server;
    if (this._unref) server.unref();
    server.on('error', (error) => this.fault(error, 'listening'));
    // Of TLS: a handshake that failed is its own connection's affair.
    server.on('tlsClientError', () => {});
  }

  /** The TCP port, which the system has chosen if the endpoint's was 0. */
  get port() {
    const address = this._server?.address();
    if (typeof address !== 'object' || !address) throw new TypeError('it is no TCP, and has no port');
    return address.port;
  }

  /** @param {import('node:net').Socket} socket */
  _connected(socket) {
    if (this._closing || this._links.size - this.peers.size >= MAX_GREETINGS || this._links.size >= MAX_LINKS) {
      socket.destroy();
      return;
    }
    const options = { nonce: makeNonce(), address: addressOf(socket), unref: this._unref };
    const link = new Link(socket, 'listener', this._settings, this._first._answers, this, options);
    this._links.add(link);
    link.closed.then(() => this._links.delete(link));
    link.begin();
  }

  /**
   * A reliable stream to the peer of this name, whenever it is linked.
   *
   * @param {string} peer
   * @param {string} name
   * @param {{ outbox?: import('./outbox.cjs').Outbox, onRefused?: (refusal: any) => void }} [options]
   */
  stream(peer, name, options = {}) {
    if (this.services.size > 1) {
      const names = [...this.services.keys()].join(', ');
      throw new LocalProtocolError(`say whose peer ${peer} is: services.get(…).stream(…), of one of ${names}`);
    }
    return this._first.stream(peer, name, options);
  }

  /** End all links, and listen no more. Resolves when all is gone, within 5 seconds. */
  close() {
    this._closing ??= this._close().then(() => this._resolveEnded?.());
    return this._closing;
  }

  /** Resolves when no peer can link any more: after `close`, and at `parent:` when the only link has ended. */
  closed() {
    return this._ended;
  }

  async _close() {
    const server = this._server;
    const stopped = new Promise((resolve) => (server ? server.close(resolve) : resolve(undefined)));
    for (const served of this.services.values()) for (const outgoing of served._outgoing.values()) outgoing.close();
    const links = [...this._links];
    for (const link of links) link.close('closed', 'the peer is stopping');
    await Promise.all([stopped, ...links.map((link) => link.closed)]);
  }

  [Symbol.asyncDispose ?? Symbol.for('nodejs.asyncDispose')]() {
    return this.close();
  }

  // -- as the owner of links

  /** @param {Link} link */
  _servedOf(link) {
    const { role } = link.session.settings;
    return [...this.services.values()].find((served) => served._settings.role === role) ?? this._first;
  }

  /** @param {Link} link that is ready */
  answersFor(link) {
    return this._servedOf(link)._answers;
  }

  /** @param {Link} link */
  linkReady(link) {
    const peer = /** @type {Peer} */ (link.peer);
    this.peers.add(peer);
    this._servedOf(link)._linkReady(link);
    this._guard('a listener for `link`', () => this.emit('link', peer));
  }

  /**
   * @param {Link} link
   * @param {string} reason
   */
  linkLost(link, reason) {
    const { peer } = link;
    if (!peer) return;
    this.peers.delete(peer);
    this._servedOf(link)._linkLost(peer, reason);
    this._guard('a listener for `loss`', () => this.emit('loss', peer, reason));
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

module.exports = { listen, listenPlain, Listening };
