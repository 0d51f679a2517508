'use strict';
// The handshake as one side goes through it: lines in, lines out, and at its end what both have agreed upon. Sans-IO.
// See "The handshake" in docs/protocol.md.

const crypto = require('node:crypto');
const { Introduced, INTERFACE } = require('./catalogue.cjs');
const { decode, NotUtf8, remoteFault } = require('./json.cjs');
const { NAME, ROLE, TOKEN, MOST_KEYS } = require('./keys.cjs');

const VERSIONS = [1];
/** What this package can do beside the version, by the names on the wire. An end uses a feature if both have it. */
const FEATURES = [INTERFACE];
const MOST_FEATURES = 32;
/** Services that a listener may have beside the first one. */
const MOST_OTHER_SERVICES = 16;
const NONCE = /^[0-9a-f]{64}$/;
const MAC = /^(?:[0-9a-f]{64})?$/;
/** Stands for a key that isn't known. It opens nothing. */
const DECOY = Buffer.alloc(32);

/** @typedef {import('./session.cjs').Settings} Settings */
/** @typedef {import('./session.cjs').PeerInfo} PeerInfo */
/** @typedef {import('./keys.cjs').NamedKey} NamedKey */
/** @typedef {Record<string, any>} Frame */
/**
 * @typedef {object} Agreement
 * @property {PeerInfo} peer
 * @property {number} heartbeat
 * @property {number} sendLimit
 * @property {Settings} settings that this side goes by: of the service that the peer wants
 * @property {import('./catalogue.cjs').Catalogue} [takes] what the peer takes, if it says so
 */
/**
 * @typedef {object} Greeted what a line amounts to
 * @property {string[]} [answers] lines to be sent
 * @property {Agreement} [agreement] the handshake is complete
 * @property {{ code: string, reason: string }} [bye] the peer ends it
 */

class Greeting {
  /**
   * @param {'dialler' | 'listener'} side
   * @param {Settings} settings
   * @param {string} nonce
   * @param {string} address
   */
  constructor(side, settings, nonce, address) {
    this._settings = settings;
    this._nonce = nonce;
    this._address = address;
    this._expected = side === 'listener' ? 'hello' : 'challenge';
    /** @type {Frame} */
    this._challenge = {};
    /** @type {Frame} */
    this._hello = {};
    /** what both have agreed upon, while each says what it takes @type {Agreement | undefined} */
    this._agreement = undefined;
    this._introduced = new Introduced();
    /** the listener's first words */
    this.opening = '';
    if (side === 'listener') {
      const { role, name, frameLimit, keys } = settings;
      this._challenge = { type: 'challenge', versions: VERSIONS, role, name, nonce, frame_limit: frameLimit };
      if (keys) this._challenge.keys = true;
      if (settings.takes) this._challenge.features = FEATURES;
      if (settings.others?.length) this._challenge.services = settings.others.map(otherService);
      this.opening = JSON.stringify(this._challenge);
    }
  }

  /** What is to come, in words for the peer. */
  get expectation() {
    return `this is a twistedipc link, and expects ${this._expected}`;
  }

  /**
   * @param {string | NotUtf8} line
   * @returns {Greeted}
   */
  take(line) {
    /** @type {Frame} */
    let frame;
    try {
      if (line instanceof NotUtf8) throw new SyntaxError('it is not UTF-8');
      frame = decode(line);
      if (typeof frame !== 'object' || frame === null || Array.isArray(frame)) throw new SyntaxError('it is no object');
      if (frame.type === 'bye') {
        check(frame, 'code', (code) => typeof code === 'string');
        check(frame, 'reason', (reason) => typeof reason === 'string');
        return { bye: { code: frame.code, reason: frame.reason } };
      }
      if (frame.type !== this._expected) throw new SyntaxError(`its type is ${JSON.stringify(frame.type ?? null)}`);
      CHECKS[this._expected](frame);
    } catch (error) {
      throw remoteFault('bad-handshake', `${this.expectation}: ${/** @type {Error} */ (error).message}`);
    }
    switch (frame.type) {
      case 'challenge':
        return this._onChallenge(frame);
      case 'hello':
        return this._onHello(frame);
      case 'welcome':
        return this._onWelcome(frame);
      default:
        return this._onIntroduction(frame);
    }
  }

  /**
   * @param {Frame} received
   * @returns {Greeted}
   */
  _onChallenge(received) {
    const settings = this._settings;
    const version = best(received.versions);
    if (version === undefined) {
      const both = `${received.versions.join(', ')} there, ${VERSIONS.join(', ')} here`;
      throw remoteFault('version', `no version in common: ${both}`);
    }
    const challenge = ofService(received, settings.peerRole);
    this._challenge = challenge;
    const offered = this._offered(challenge);
    /** @type {Frame} */
    const hello = {
      type: 'hello',
      version,
      role: settings.role,
      name: settings.name,
      incarnation: settings.incarnation,
      nonce: this._nonce,
    };
    if (challenge.frame_limit !== undefined) hello.frame_limit = settings.frameLimit;
    if (offered.length) hello.keys = offered.map(({ id }) => ({ id, mac: '' }));
    if (challenge.features && settings.takes) hello.features = FEATURES;
    if (challenge.role !== received.role) hello.service = challenge.role;
    const fields = said(challenge, hello);
    offered.forEach(({ secret }, index) => {
      hello.keys[index].mac = mac(secret, 'hello', fields);
    });
    hello.mac = mac(this._shared(challenge.name), 'hello', fields);
    this._hello = hello;
    this._expected = 'welcome';
    return { answers: [JSON.stringify(hello)] };
  }

  /**
   * @param {Frame} hello
   * @returns {Greeted}
   */
  _onHello(hello) {
    const challenge = hello.service === undefined ? this._challenge : this._wanted(hello.service);
    const settings = this._settings;
    if (!VERSIONS.includes(hello.version)) {
      throw remoteFault('version', `version ${hello.version} was chosen, of ${VERSIONS.join(', ')}`);
    }
    const key = this._proven(challenge, hello);
    this._checkRole(hello.role);
    const peer = this._peer(hello.name, hello.role, hello.incarnation, hello.version, key?.id ?? '', hello.features);
    /** @type {Frame} */
    const welcome = { type: 'welcome', incarnation: settings.incarnation, heartbeat: settings.heartbeat };
    if (key) welcome.key = key.id;
    welcome.mac = welcomeMac(key?.secret ?? settings.key, challenge, hello, welcome);
    return this._met([JSON.stringify(welcome)], this._agreed(peer, settings.heartbeat, hello.frame_limit));
  }

  /**
   * @param {Frame} welcome
   * @returns {Greeted}
   */
  _onWelcome(welcome) {
    const challenge = this._challenge;
    checkMac(this._expectedWelcome(welcome), welcome.mac, !!welcome.mac);
    const { name, role, features } = challenge;
    const peer = this._peer(name, role, welcome.incarnation, this._hello.version, welcome.key ?? '', features);
    return this._met([], this._agreed(peer, welcome.heartbeat, challenge.frame_limit));
  }

  /**
   * Go by the service that the dialler wants from now on, and return the challenge as it is for that one.
   *
   * @param {string} role
   */
  _wanted(role) {
    const challenge = ofService(this._challenge, role, 'this is');
    this._settings = [this._settings, ...(this._settings.others ?? [])].find((each) => each.role === role) ?? this._settings;
    return challenge;
  }

  // -- what each takes

  /**
   * Both are proven. If the peer wants to know what this side takes, it is told, and tells the same.
   *
   * @param {string[]} answers
   * @param {Agreement} agreement
   * @returns {Greeted}
   */
  _met(answers, agreement) {
    const { takes } = this._settings;
    if (!takes || !agreement.peer.features.includes(INTERFACE)) return { answers, agreement };
    this._agreement = agreement;
    this._expected = 'link-interface';
    return { answers: [...answers, ...takes.lines] };
  }

  /**
   * @param {Frame} frame
   * @returns {Greeted}
   */
  _onIntroduction(frame) {
    this._introduced.add(/** @type {any} */ (frame));
    if (frame.more) return {};
    return { agreement: { .../** @type {Agreement} */ (this._agreement), takes: this._introduced.catalogue() } };
  }

  // -- keys

  /**
   * The named keys for this listener.
   *
   * @param {Frame} challenge
   */
  _offered(challenge) {
    const { keys } = this._settings;
    if (!keys) return [];
    const offered = challenge.keys === true ? keys.of(challenge.name, challenge.role) : [];
    const open = !this._hasKey && !keys.hasOwn(challenge.name);
    if (!offered.length && !this._shared(challenge.name) && !open) {
      const why =
        challenge.keys === true
          ? `there is no key here for ${challenge.name} (${challenge.role})`
          : 'the peer takes no named keys, and nothing else is known here';
      throw remoteFault('unauthorized', why);
    }
    return offered;
  }

  /** Whether a peer must prove that it has a key. */
  get _hasKey() {
    const { key, keys, keysOptional } = this._settings;
    return !!key || (!!keys && !keysOptional);
  }

  /** @param {string} name the shared key, if it is good for a peer of this name */
  _shared(name) {
    const { key, keys } = this._settings;
    return keys?.hasOwn(name) ? undefined : key;
  }

  /**
   * The first named key that the dialler has proven; none if it has proven the shared one, or there is no key. All
   * codes are worked out, so that it takes as long for ids that aren't known.
   *
   * @param {Frame} challenge
   * @param {Frame} hello
   */
  _proven(challenge, hello) {
    const { key: shared, keys } = this._settings;
    const fields = said(challenge, hello);
    /** @type {NamedKey | undefined} */
    let found;
    for (const proof of keys ? (hello.keys ?? []) : []) {
      const key = keys?.get(proof.id);
      const same = sameMac(mac(key?.secret ?? DECOY, 'hello', fields), proof.mac);
      if (same && key && !found) found = key;
    }
    const open = !this._hasKey;
    const expected = mac(open ? undefined : (shared ?? DECOY), 'hello', fields);
    if (!found) {
      checkMac(open || shared ? expected : undefined, hello.mac, !!(hello.mac || hello.keys));
      if (keys?.hasOwn(hello.name)) {
        throw remoteFault('refused', `${hello.name} has a key of its own here: the shared one isn't good for it any longer`);
      }
    } else if (!found.isFor(hello.name, hello.role)) {
      const whose = `${found.name || 'any name'} (${found.role || 'any role'})`;
      throw remoteFault('refused', `the key ${found.id} is for ${whose}, not for ${hello.name} (${hello.role})`);
    }
    return found;
  }

  /** @param {Frame} welcome the code that it must have; undefined if it goes by a key that isn't good */
  _expectedWelcome(welcome) {
    const { keys } = this._settings;
    const { name } = this._challenge;
    let secret = this._shared(name);
    if (welcome.key !== undefined) {
      // One that was revoked since the hello isn't good any longer.
      const mine = (this._hello.keys ?? []).some((/** @type {Frame} */ { id }) => id === welcome.key);
      secret = mine ? keys?.get(welcome.key)?.secret : undefined;
      if (!secret) return undefined;
    }
    if (!secret && (this._hasKey || keys?.hasOwn(name))) return undefined;
    return welcomeMac(secret, this._challenge, this._hello, welcome);
  }

  // -- what is agreed

  /** @param {string} role */
  _checkRole(role) {
    const wanted = this._settings.peerRole;
    if (role !== wanted) throw remoteFault('refused', `the peer is ${role}; ${wanted} is wanted`);
  }

  /**
   * @param {string} name
   * @param {string} role
   * @param {string} incarnation
   * @param {number} version
   * @param {string} key
   * @param {string[]} [theirs] the features that the peer has
   * @returns {PeerInfo}
   */
  _peer(name, role, incarnation, version, key, theirs = []) {
    const features = Object.freeze(this._settings.takes ? FEATURES.filter((each) => theirs.includes(each)) : []);
    const peer = Object.freeze({ name, role, incarnation, version, address: this._address, key, features });
    const reason = this._settings.accept?.(peer);
    if (reason) throw remoteFault('not-accepted', String(reason));
    return peer;
  }

  /**
   * @param {PeerInfo} peer
   * @param {number} heartbeat
   * @param {number | undefined} limit
   * @returns {Agreement}
   */
  _agreed(peer, heartbeat, limit) {
    const own = this._settings.frameLimit;
    return { peer, heartbeat, settings: this._settings, sendLimit: limit === undefined ? own : Math.min(own, limit) };
  }
}

/** @param {number[]} versions */
function best(versions) {
  return VERSIONS.filter((version) => versions.includes(version)).sort((a, b) => b - a)[0];
}

/**
 * The challenge as it is for a dialler that wants the service with this role: with this one's fields in place of the
 * first one's.
 *
 * @param {Frame} challenge
 * @param {string} role
 * @param {string} [this_] who has the challenge
 * @returns {Frame}
 */
function ofService(challenge, role, this_ = 'the peer is') {
  if (challenge.role === role) return challenge;
  /** @type {Frame[]} */
  const others = challenge.services ?? [];
  const found = others.find((each) => each.role === role);
  if (!found) {
    const roles = [challenge, ...others].map((each) => each.role).join(', ');
    throw remoteFault('refused', `${this_} ${roles}; ${role} is wanted`);
  }
  return { ...challenge, role, frame_limit: found.frame_limit, keys: found.keys, features: found.features };
}

/** @param {Settings} settings of a service beside the first one */
function otherService({ role, frameLimit, keys, takes }) {
  /** @type {Frame} */
  const said = { role, frame_limit: frameLimit };
  if (keys) said.keys = true;
  if (takes) said.features = FEATURES;
  return said;
}

/**
 * What all codes are over.
 *
 * @param {Frame} challenge that of the service that is wanted
 * @param {Frame} hello
 * @returns {string[]}
 */
function said(challenge, hello) {
  const fields = [challenge.versions.join(','), challenge.role, challenge.name, challenge.nonce];
  fields.push(String(hello.version), hello.role, hello.name, hello.incarnation, hello.nonce);
  if (hello.frame_limit !== undefined) fields.push(String(challenge.frame_limit), String(hello.frame_limit));
  if (hello.keys) fields.push(`keys ${hello.keys.map((/** @type {Frame} */ { id }) => id).join(',')}`);
  if (hello.features && challenge.features) fields.push(`features ${challenge.features.join(',')} ${hello.features.join(',')}`);
  if (hello.service) {
    const roles = (challenge.services ?? []).map((/** @type {Frame} */ { role }) => role);
    fields.push(`services ${roles.join(',')} ${hello.service}`);
  }
  return fields;
}

/**
 * @param {Buffer | undefined} secret
 * @param {Frame} challenge
 * @param {Frame} hello
 * @param {Frame} welcome
 */
function welcomeMac(secret, challenge, hello, welcome) {
  const fields = [...said(challenge, hello), welcome.incarnation, String(welcome.heartbeat)];
  if (welcome.key !== undefined) fields.push(`key ${welcome.key}`);
  return mac(secret, 'welcome', fields);
}

/**
 * @param {Buffer | undefined} secret
 * @param {string} label
 * @param {string[]} fields
 */
function mac(secret, label, fields) {
  if (!secret) return '';
  const code = crypto.createHmac('sha256', secret);
  for (const field of [`twistedipc link ${label}`, ...fields]) {
    const bytes = Buffer.from(field, 'utf8');
    const size = Buffer.alloc(4);
    size.writeUInt32BE(bytes.length);
    code.update(size).update(bytes);
  }
  return code.digest('hex');
}

/**
 * Comparison in constant time.
 *
 * @param {string} expected
 * @param {string} received
 */
function sameMac(expected, received) {
  const [one, other] = [Buffer.from(expected), Buffer.from(received)];
  return one.length === other.length && crypto.timingSafeEqual(one, other);
}

/**
 * @param {string | undefined} expected undefined: no code is good
 * @param {string} received
 * @param {boolean} offered whether the peer has shown that it has any key
 */
function checkMac(expected, received, offered) {
  if (expected !== undefined && sameMac(expected, received)) return;
  if (expected === '') throw remoteFault('unauthorized', 'the peer has a key, and none is set here');
  if (!offered) throw remoteFault('unauthorized', 'a key is required here');
  throw remoteFault('unauthorized', 'authentication failed: do both sides have the same key?');
}

/**
 * @param {Frame} frame
 * @param {string} field
 * @param {(value: any) => boolean} isGood
 */
function check(frame, field, isGood) {
  if (!isGood(frame[field])) throw new SyntaxError(`the field \`${field}\` isn't as it should be`);
}

/** @param {RegExp} pattern */
const matches = (pattern) => (/** @type {unknown} */ value) => typeof value === 'string' && pattern.test(value);

/**
 * @param {number} least
 * @param {number} most
 */
const within = (least, most) => (/** @type {any} */ value) => Number.isInteger(value) && value >= least && value <= most;

/** @param {(value: any) => boolean} isGood */
const optional = (isGood) => (/** @type {any} */ value) => value === undefined || isGood(value);

const isVersion = within(0, 2 ** 31 - 1);
const isFrameLimit = optional(within(4096, Number.MAX_SAFE_INTEGER));
/** @param {any} proof */
const isProof = (proof) => typeof proof === 'object' && proof !== null && matches(TOKEN)(proof.id) && matches(MAC)(proof.mac);

const isFeatures = optional((all) => Array.isArray(all) && all.length <= MOST_FEATURES && all.every(matches(ROLE)));
/** @param {any} row */
const isRow = (row) => Array.isArray(row) && row.length >= 1 && row.length <= 8 && row.every((each) => typeof each === 'string');

/** @param {Frame} frame what a challenge says of each service */
function checkService(frame) {
  if (typeof frame !== 'object' || frame === null) throw new SyntaxError('the field `services` is no list of objects');
  check(frame, 'role', matches(ROLE));
  check(frame, 'frame_limit', isFrameLimit);
  check(frame, 'keys', optional((keys) => typeof keys === 'boolean'));
  check(frame, 'features', isFeatures);
}

/** @type {Record<string, (frame: Frame) => void>} */
const CHECKS = {
  challenge(frame) {
    check(frame, 'versions', (all) => Array.isArray(all) && all.length >= 1 && all.length <= 16 && all.every(isVersion));
    check(frame, 'name', matches(NAME));
    check(frame, 'nonce', matches(NONCE));
    checkService(frame);
    const most = MOST_OTHER_SERVICES;
    check(frame, 'services', optional((all) => Array.isArray(all) && all.length >= 1 && all.length <= most));
    for (const each of frame.services ?? []) checkService(each);
  },
  hello(frame) {
    check(frame, 'version', isVersion);
    check(frame, 'role', matches(ROLE));
    check(frame, 'name', matches(NAME));
    check(frame, 'incarnation', matches(TOKEN));
    check(frame, 'nonce', matches(NONCE));
    check(frame, 'frame_limit', isFrameLimit);
    check(frame, 'keys', optional((all) => Array.isArray(all) && all.length >= 1 && all.length <= MOST_KEYS && all.every(isProof)));
    check(frame, 'features', isFeatures);
    check(frame, 'service', optional(matches(ROLE)));
    check(frame, 'mac', matches(MAC));
  },
  welcome(frame) {
    check(frame, 'incarnation', matches(TOKEN));
    check(frame, 'heartbeat', within(10, 3_600_000));
    check(frame, 'key', optional(matches(TOKEN)));
    check(frame, 'mac', matches(MAC));
  },
  'link-interface'(frame) {
    check(frame, 'takes', (rows) => Array.isArray(rows) && rows.every(isRow));
    check(frame, 'more', optional((more) => typeof more === 'boolean'));
  },
};

module.exports = { Greeting, MOST_OTHER_SERVICES };
