'use strict';
// The peer at the other end of a link, as programs have it.

const { StreamedReply } = require('./streamed.cjs');

/** @type {import('./catalogue.cjs').Kind[]} */
const KINDS = ['call', 'items', 'message', 'stream'];

/** The peer at the other end of a link: what handlers and `Listening.peers` have of it. */
class Peer {
  /** @param {import('./link.cjs').Link} link */
  constructor(link) {
    Object.defineProperty(this, '_link', { value: link });
    /** @type {import('./link.cjs').Link} */
    this._link;
    this.info = link.info;
  }

  /** Whether messages can be sent. */
  get connected() {
    return this._link.session.state === 'ready';
  }

  /** Whether the peer doesn't keep up with what this side sends. */
  get paused() {
    return this._link.paused;
  }

  /** Bytes of a message to the peer: the smaller one of both sides' limits. */
  get frameLimit() {
    return this._link.sendLimit;
  }

  /**
   * Call the peer, and wait for the reply.
   *
   * @param {string} type
   * @param {object} [request]
   * @param {{ timeout?: number, signal?: AbortSignal }} [options]
   * @returns {Promise<any>}
   */
  call(type, request, options) {
    return new Promise((resolve, reject) => this._link.call(type, request, options, { resolve, reject }));
  }

  /**
   * Call the peer for items: `for await (const row of peer.streamCall('query', { … }))`.
   *
   * @param {string} type
   * @param {object} [request]
   * @param {{ timeout?: number, signal?: AbortSignal }} [options]
   */
  streamCall(type, request, options) {
    return new StreamedReply(async () => this._link, type, request, options);
  }

  /**
   * Whether the peer takes a call, a message or a stream of this name, as it says itself. One that says nothing of
   * itself (`interface` isn't among `info.features`) is taken to understand nothing.
   *
   * @param {string} name
   * @param {{ kind?: import('./catalogue.cjs').Kind, exactly?: boolean }} [options] which of them, by default any; and
   *   whether it must have the fields that this side has declared by a schema
   */
  understands(name, { kind, exactly = false } = {}) {
    const { takes, settings } = this._link.session;
    const as = (/** @type {import('./catalogue.cjs').Kind} */ each) =>
      exactly ? (settings.askedSchema?.fingerprints(each, name) ?? []) : undefined;
    return !!takes && (kind ? [kind] : KINDS).some((each) => takes.has(each, name, as(each)));
  }

  /**
   * Send a one-way message.
   *
   * @param {string} type
   * @param {object} [message]
   */
  send(type, message) {
    this._link.send(type, message);
  }

  /**
   * Resolves when the peer keeps up.
   *
   * @param {{ signal?: AbortSignal }} [options]
   */
  drain(options) {
    return this._link.drain(options?.signal);
  }

  /**
   * Tell the peer why, and end the link.
   *
   * @param {string} [code]
   * @param {string} [reason]
   */
  close(code = 'closed', reason = 'the peer has closed the link') {
    this._link.close(code, reason);
  }

  pauseReading() {
    this._link.hold('application', true);
  }

  resumeReading() {
    this._link.hold('application', false);
  }
}

module.exports = { Peer };
