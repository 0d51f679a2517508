'use strict';
// What one side of a link is given: an interface, what answers it, and limits.

const { BadService, LinkError } = require('./errors.cjs');
const { NAME, makeNonce, secretOf } = require('./keys.cjs');
const { Receivers } = require('./receiver.cjs');
const { RESERVED } = require('./session.cjs');

const INTERFACE_NAME = /^[a-z][a-z0-9-]{0,23}$/;

/** @typedef {import('./session.cjs').Settings} Settings */
/** @typedef {{ name: string, calls?: readonly string[], messages?: readonly string[], streams?: readonly string[] }} Interface */
/** @typedef {(message: any, peer: any, context: any) => any} Handler */
/**
 * @typedef {object} Service
 * @property {Record<string, Handler>} [handlers] by the type of the message or request
 * @property {(stream: import('./receiver.cjs').StreamId) => import('./receiver.cjs').Receiver} [receiver]
 * @property {(peer: any) => void} [peerReady]
 * @property {(peer: any, reason: string) => void} [peerLost]
 */
/**
 * @typedef {object} Answers a service, as links use it
 * @property {Record<string, Handler>} handlers
 * @property {Receivers | undefined} receivers
 * @property {Set<string> | undefined} streams
 * @property {((peer: any) => void) | undefined} peerReady
 * @property {((peer: any, reason: string) => void) | undefined} peerLost
 */

/**
 * @param {Interface | string} described
 * @returns {Interface}
 */
function interfaceOf(described) {
  const found = typeof described === 'string' ? { name: described } : described;
  if (typeof found?.name !== 'string' || !INTERFACE_NAME.test(found.name)) {
    throw new TypeError(`${JSON.stringify(found?.name)} is no name for an interface: lower-case letters, digits and - are`);
  }
  return found;
}

/**
 * @param {Service | undefined} service
 * @param {Interface | undefined} answered what it answers, if that is known
 * @returns {Answers}
 */
function answersOf(service, answered) {
  const handlers = Object.assign(Object.create(null), service?.handlers);
  for (const [type, handler] of Object.entries(handlers)) {
    if (typeof handler !== 'function') throw new BadService(`the handler of ${type} is no function`);
    if (RESERVED.has(type) || type.startsWith('stream-')) throw new BadService(`the type ${type} belongs to the link itself`);
  }
  const known = [...(answered?.calls ?? []), ...(answered?.messages ?? [])];
  const missing = known.filter((type) => !handlers[type]);
  if (missing.length) throw new BadService(`there is no handler for ${missing.join(', ')}`);
  const foreign = Object.keys(handlers).filter((type) => known.length && !known.includes(type));
  if (foreign.length) throw new BadService(`${foreign.join(', ')}: not of ${answered?.name}'s interface`);
  if (answered?.streams?.length && !service?.receiver) throw new BadService('there is no `receiver` for the streams');
  return {
    handlers,
    receivers: service?.receiver && new Receivers((stream) => /** @type {any} */ (service).receiver(stream)),
    streams: answered?.streams && new Set(answered.streams),
    peerReady: service?.peerReady?.bind(service),
    peerLost: service?.peerLost?.bind(service),
  };
}

/**
 * @param {{ role: string, peerRole: string }} roles
 * @param {Answers} answers
 * @param {Interface | undefined} answered
 * @param {Record<string, any>} options
 * @returns {Settings}
 */
function settingsOf({ role, peerRole }, answers, answered, options) {
  const { name = `${role}.${process.pid}`, key, keys, accept } = options;
  if (!NAME.test(name)) {
    throw new RangeError(`${JSON.stringify(name)} can't be a name: 1 to 64 letters, digits and . _ -, a letter or digit first and last`);
  }
  // Without lists it isn't known which are called: each may be either.
  const types = new Set(Object.keys(answers.handlers));
  return {
    name,
    role,
    peerRole,
    incarnation: makeNonce().slice(0, 16),
    key: key === undefined ? undefined : secretOf(key),
    keys,
    accept,
    messages: answered?.messages ? new Set(answered.messages) : types,
    answers: answered?.calls ? new Set(answered.calls) : types,
    heartbeat: within(options, 'heartbeat', 8000, 10, 3_600_000),
    deadAfter: within(options, 'deadAfter', 24_000, 20, Infinity),
    handshakeTimeout: within(options, 'handshakeTimeout', 10_000, 1, 2 ** 31 - 1),
    frameLimit: within(options, 'frameLimit', 1 << 20, 4096, 2 ** 29),
    maxCalls: within(options, 'maxCalls', 1024, 1, 2 ** 24),
    outboundLimit: within(options, 'outboundLimit', 64 << 20, 4096, Infinity),
  };
}

/**
 * @param {Record<string, any>} options
 * @param {string} name
 * @param {number} usual
 * @param {number} least
 * @param {number} most
 */
function within(options, name, usual, least, most) {
  const value = options[name] ?? usual;
  if (!(Math.round(value) >= least && value <= most)) throw new RangeError(`${name} is from ${least} to ${most}, not ${value}`);
  return Math.round(value);
}

/**
 * Tell of an error that belongs to no call: the event `fault`, or a warning if nobody listens for it.
 *
 * @param {import('node:events').EventEmitter} emitter
 * @param {unknown} error
 * @param {string} what
 */
function tellFault(emitter, error, what) {
  if (emitter.emit('fault', error, what)) return;
  const { message = String(error), stack = '', code = 'fault' } = /** @type {any} */ (error) ?? {};
  // The stack of an error of the package's own says nothing of what is wrong.
  const detail = error instanceof LinkError ? '' : stack;
  process.emitWarning(`${what}: ${message}`, { type: 'TwistedipcWarning', code: String(code), detail });
}


module.exports = { interfaceOf, answersOf, settingsOf, tellFault };
