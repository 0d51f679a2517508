'use strict';
// What one side of a link is given: an interface, what answers it, and limits.

const { Catalogue, untold } = require('./catalogue.cjs');
const { BadEndpoint, BadService, LinkError } = require('./errors.cjs');
const { NAME, ROLE, makeNonce, secretOf } = require('./keys.cjs');
const { Receivers } = require('./receiver.cjs');
const { isReserved } = require('./session.cjs');
const { timeoutOf } = require('./waiting.cjs');

const INTERFACE_NAME = /^[a-z][a-z0-9-]{0,23}$/;

/** @typedef {import('./session.cjs').Settings} Settings */
/**
 * @typedef {object} Interface
 * @property {string} name
 * @property {readonly string[]} [calls]
 * @property {readonly string[]} [streamed] the calls that are answered by items
 * @property {readonly string[]} [messages]
 * @property {readonly string[]} [streams]
 * @property {import('./schema.cjs').Schema} [schema]
 */
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
    if (isReserved(type)) throw new BadService(`the type ${type} belongs to the link itself`);
  }
  const known = [...(answered?.calls ?? []), ...(answered?.streamed ?? []), ...(answered?.messages ?? [])];
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
 * @param {{ answered?: Interface, asked?: Interface }} interfaces
 * @param {Record<string, any>} options
 * @returns {Settings}
 */
function settingsOf(roles, answers, { answered, asked }, options) {
  const { role, peerRole } = { ...roles, ...rolesOf(options) };
  const { name = `${role}.${process.pid}`, key, keys, accept } = options;
  if (!NAME.test(name)) {
    throw new RangeError(`${JSON.stringify(name)} can't be a name: 1 to 64 letters, digits and . _ -, a letter or digit first and last`);
  }
  // Without lists it isn't known which are called: each may be either. A generator answers by items.
  const all = Object.keys(answers.handlers);
  const generators = new Set(all.filter((type) => isGenerator(answers.handlers[type])));
  const types = new Set(all.filter((type) => !generators.has(type)));
  const messages = answered?.messages ? new Set(answered.messages) : types;
  const answersOne = answered?.calls ? new Set(answered.calls) : types;
  const streamed = answered?.streamed ? new Set(answered.streamed) : answered?.calls ? new Set() : generators;
  const names = answers.streams ?? new Set();
  const schema = answered?.schema;
  const row = (/** @type {import('./catalogue.cjs').Kind} */ kind, /** @type {Set<string>} */ all) =>
    [...all].map((each) => [kind, each, ...(schema?.fingerprints(kind, each) ?? untold(kind))]);
  return {
    name,
    role,
    peerRole,
    incarnation: makeNonce().slice(0, 16),
    key: key === undefined ? undefined : secretOf(key),
    keys,
    accept,
    messages,
    answers: answersOne,
    streamed,
    takes: new Catalogue([...row('message', messages), ...row('call', answersOne), ...row('items', streamed), ...row('stream', names)]),
    schema,
    askedSchema: asked?.schema,
    heartbeat: within(options, 'heartbeat', 8000, 10, 3_600_000),
    deadAfter: within(options, 'deadAfter', 24_000, 20, Infinity),
    handshakeTimeout: within(options, 'handshakeTimeout', 10_000, 1, 2 ** 31 - 1),
    frameLimit: within(options, 'frameLimit', 1 << 20, 4096, 2 ** 29),
    maxCalls: within(options, 'maxCalls', 1024, 1, 2 ** 24),
    outboundLimit: within(options, 'outboundLimit', 64 << 20, 4096, Infinity),
  };
}

/**
 * The roles of a link that isn't one of this library's own, whose roles follow from the interface's name.
 *
 * @param {Record<string, any>} options
 */
function rolesOf({ role, peerRole }) {
  /** @type {{ role?: string, peerRole?: string }} */
  const given = {};
  for (const [name, value] of Object.entries({ role, peerRole })) {
    if (value === undefined) continue;
    if (typeof value !== 'string' || !ROLE.test(value)) {
      throw new RangeError(`${name} is up to 32 of a-z, 0-9 and -, a letter first, and not ${JSON.stringify(value)}`);
    }
    Object.assign(given, { [name]: value });
  }
  return given;
}

/**
 * How plain lines are written.
 *
 * @param {Record<string, any>} options
 * @param {string} endpoint
 * @returns {import('./plain_session.cjs').Format}
 */
function formatOf({ typeField = 'type', defaultType, requestId = 'id', idleTimeout }, endpoint) {
  if (endpoint === 'parent:') throw new BadEndpoint('parent: is a link of its own, and has no plain lines');
  if (typeField === null && defaultType === undefined) throw new TypeError('lines without a type need a `defaultType`');
  if (typeField === requestId) throw new TypeError('`typeField` and `requestId` are two members of a line');
  return { typeField, defaultType, requestId, idleTimeout: timeoutOf(idleTimeout ?? Infinity) };
}

/** @param {Handler} handler */
function isGenerator(handler) {
  return /GeneratorFunction$/.test(handler.constructor.name);
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


module.exports = { interfaceOf, answersOf, formatOf, settingsOf, tellFault };
