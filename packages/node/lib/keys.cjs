'use strict';
// Keys: the shared one of both sides, and named ones, each of one peer. See "Named keys" in docs/protocol.md.

const crypto = require('node:crypto');
const fs = require('node:fs');
const { BadKey } = require('./errors.cjs');

const SHORTEST_SECRET = 16;
const MOST_KEYS = 4;
const NAME = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$/;
const ROLE = /^[a-z][a-z0-9-]{0,31}$/;
const TOKEN = /^[A-Za-z0-9._-]{1,64}$/;

/**
 * @param {unknown} secret
 * @returns {Buffer}
 */
function secretOf(secret) {
  if (!(secret instanceof Uint8Array)) throw new BadKey('a key is a Buffer or another Uint8Array of bytes');
  if (secret.length < SHORTEST_SECRET) throw new BadKey(`a key has at least ${SHORTEST_SECRET} bytes`);
  return Buffer.from(secret);
}

/** A key that says whose it is. Both sides have it with the same id and secret; each binds it to the other. */
class NamedKey {
  /**
   * @param {string} id says in the handshake which key is meant; it isn't secret
   * @param {Uint8Array} secret at least 16 bytes
   * @param {{ name?: string, role?: string, sole?: boolean }} [bound] the peer that it is for. `sole`: the shared key
   *   isn't good for that name any longer
   */
  constructor(id, secret, { name = '', role = '', sole = true } = {}) {
    if (!TOKEN.test(id)) throw new BadKey(`${JSON.stringify(id)} can't be a key's id: 1 to 64 letters, digits and . _ -`);
    if (name && !NAME.test(name)) throw new BadKey(`${JSON.stringify(name)} can't be the name that a key is for`);
    if (role && !ROLE.test(role)) throw new BadKey(`${JSON.stringify(role)} can't be the role that a key is for`);
    this.id = id;
    this.name = name;
    this.role = role;
    this.sole = sole;
    const bytes = secretOf(secret);
    // Not enumerable, so that no log shows it.
    Object.defineProperty(this, 'secret', { value: bytes });
    /** @type {Buffer} */
    this.secret;
  }

  /**
   * @param {string} name
   * @param {string} role
   */
  isFor(name, role) {
    return (!this.name || this.name === name) && (!this.role || this.role === role);
  }
}

/** The named keys that a side knows. They may be added and revoked at any time. */
class Keys {
  /** @param {NamedKey[]} keys the newest last */
  constructor(...keys) {
    /** @type {Map<string, NamedKey>} */
    this._keys = new Map();
    /** @type {Map<string, Set<() => void>>} */
    this._watched = new Map();
    for (const key of keys) this.add(key);
  }

  /** @param {NamedKey} key */
  add(key) {
    const known = this._keys.get(key.id);
    if (known && !(known.secret.equals(key.secret) && known.name === key.name && known.role === key.role)) {
      throw new BadKey(`there is another key with the id ${key.id}`);
    }
    this._keys.set(key.id, key);
  }

  /**
   * End a key, and close the links that were made with it.
   *
   * @param {string} id
   * @returns {boolean} whether there was one
   */
  revoke(id) {
    const found = this._keys.delete(id);
    const links = this._watched.get(id);
    this._watched.delete(id);
    for (const close of links ?? []) close();
    return found;
  }

  /** @param {string} id */
  get(id) {
    return this._keys.get(id);
  }

  /**
   * The keys to prove oneself with to a peer, the newest first.
   *
   * @param {string} name
   * @param {string} role
   */
  of(name, role) {
    return [...this._keys.values()].reverse().filter((key) => key.isFor(name, role)).slice(0, MOST_KEYS);
  }

  /** @param {string} name whether it has a key of its own, so that the shared one isn't good for it */
  hasOwn(name) {
    return [...this._keys.values()].some((key) => key.sole && key.name === name);
  }

  /**
   * Call `close` when the key is revoked. Internal to the package.
   *
   * @param {string} id
   * @param {() => void} close
   * @returns {() => void} forgets it
   */
  watch(id, close) {
    const links = this._watched.get(id) ?? new Set();
    this._watched.set(id, links.add(close));
    return () => {
      links.delete(close);
      if (!links.size && this._watched.get(id) === links) this._watched.delete(id);
    };
  }
}

/**
 * Read a key's file: 64 hexadecimal digits.
 *
 * @param {string | URL} path
 */
function readKey(path) {
  const found = /^([0-9a-fA-F]{64})\s*$/.exec(read(path));
  if (!found) throw new BadKey(`the key file ${path} doesn't hold a key: 64 hexadecimal digits are expected`);
  return Buffer.from(found[1], 'hex');
}

/**
 * Read a named key's file: its id, a colon, 64 hexadecimal digits.
 *
 * @param {string | URL} path
 * @param {{ name?: string, role?: string, sole?: boolean }} [bound]
 */
function readNamedKey(path, bound) {
  const found = /^([A-Za-z0-9._-]{1,64}):([0-9a-fA-F]{64})\s*$/.exec(read(path));
  if (!found) {
    throw new BadKey(`the key file ${path} doesn't hold a named key: an id, a colon and 64 hexadecimal digits`);
  }
  return new NamedKey(found[1], Buffer.from(found[2], 'hex'), bound);
}

/** @param {string | URL} path */
function read(path) {
  // Opened first and looked at afterwards, so that what is checked is what is read; not blocking, if it is a FIFO.
  const descriptor = fs.openSync(path, fs.constants.O_RDONLY | (fs.constants.O_NONBLOCK ?? 0));
  try {
    const status = fs.fstatSync(descriptor);
    if (!status.isFile()) throw new BadKey(`the key file ${path} is not a file`);
    if (status.mode & 0o077 && process.platform !== 'win32') {
      throw new BadKey(`the key file ${path} can be used by others: run \`chmod 600 ${path}\``);
    }
    const bytes = Buffer.alloc(1024);
    return bytes.toString('latin1', 0, fs.readSync(descriptor, bytes, 0, bytes.length, 0));
  } finally {
    fs.closeSync(descriptor);
  }
}

/** A new secret, or nonce: 32 random bytes, as 64 hexadecimal digits. */
function makeNonce() {
  return crypto.randomBytes(32).toString('hex');
}

module.exports = { NamedKey, Keys, readKey, readNamedKey, makeNonce, secretOf, NAME, ROLE, TOKEN, MOST_KEYS };
