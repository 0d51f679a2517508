'use strict';
// What one side of a link takes, as it tells the other when both are proven: rows of what something is, its name, and
// fingerprints of its fields. Sans-IO; used by `Greeting`. See "Features" in docs/protocol.md.

const { remoteFault } = require('./json.cjs');

/** The feature of an end that says what it takes, and hears it of the peer. */
const INTERFACE = 'interface';
/** The fingerprint of what isn't told. It is like no other. */
const UNTOLD = '0'.repeat(16);
/** How many fingerprints there are of each kind: of a call, those of the request and of what answers it. */
const FINGERPRINTS = Object.freeze(Object.assign(Object.create(null), { message: 1, call: 2, items: 2, stream: 1 }));

const MOST_ROWS = 2048;
const NAME_LIMIT = 128;
/** Bytes of the rows of a line, with some room for what is around them: a line of the handshake has 4096. */
const LINE = 4000;

/** @typedef {'message' | 'call' | 'items' | 'stream'} Kind */
/** @typedef {string[]} Row */

/**
 * The fingerprints of what has none that could be told.
 *
 * @param {Kind} kind
 * @returns {string[]}
 */
const untold = (kind) => Array(FINGERPRINTS[kind]).fill(UNTOLD);

/**
 * @param {Kind} kind
 * @param {string} name
 */
const keyOf = (kind, name) => `${kind} ${name}`;

/** What one side takes. */
class Catalogue {
  /** @param {Iterable<Row>} rows each `[kind, name, ...fingerprints]` */
  constructor(rows) {
    /** @type {Map<string, Row>} */
    this._rows = new Map();
    for (const row of rows) this._rows.set(keyOf(/** @type {Kind} */ (row[0]), row[1]), row);
  }

  /**
   * Whether something is taken.
   *
   * @param {Kind} kind
   * @param {string} name
   * @param {readonly string[]} [fingerprints] that it must have; without them any will do
   */
  has(kind, name, fingerprints) {
    const found = this.fingerprints(kind, name);
    if (!found || !fingerprints) return !!found;
    return found.length === fingerprints.length && found.every((each, index) => each !== UNTOLD && each === fingerprints[index]);
  }

  /**
   * @param {Kind} kind
   * @param {string} name
   * @returns {string[] | undefined} undefined: it isn't taken
   */
  fingerprints(kind, name) {
    return this._rows.get(keyOf(kind, name))?.slice(2);
  }

  /** The lines that say all of it. */
  get lines() {
    /** @type {Row[][]} */
    const parts = [[]];
    let size = 0;
    for (const row of this._rows.values()) {
      const length = Buffer.byteLength(JSON.stringify(row)) + 1;
      if (size && size + length > LINE) {
        parts.push([]);
        size = 0;
      }
      parts[parts.length - 1].push(row);
      size += length;
    }
    return parts.map((takes, index) => {
      const more = index < parts.length - 1 ? { more: true } : {};
      return JSON.stringify({ type: 'link-interface', takes, ...more });
    });
  }
}

/** What the peer has said so far of what it takes. */
class Introduced {
  constructor() {
    /** @type {Row[]} */
    this._rows = [];
    this._count = 0;
  }

  /**
   * Note the next part. Throws if it is too much, or nothing although more is to follow.
   *
   * @param {{ takes: Row[], more?: boolean }} frame whose rows are arrays of strings
   */
  add({ takes, more }) {
    this._count += takes.length;
    if (this._count > MOST_ROWS) throw remoteFault('bad-handshake', `more than ${MOST_ROWS} rows of what the peer takes`);
    if (more && !takes.length) throw remoteFault('bad-handshake', 'a part of what the peer takes has nothing in it');
    for (const row of takes) {
      const [kind, name = ''] = row;
      const count = FINGERPRINTS[kind];
      if (count === undefined) continue; // of a later version
      const found = row.slice(2, 2 + count);
      if (!name || name.length > NAME_LIMIT || found.length < count || found.some((each) => each.length !== UNTOLD.length)) {
        throw remoteFault('bad-handshake', `a row of what the peer takes isn't a ${kind}`);
      }
      this._rows.push([kind, name, ...found]);
    }
  }

  catalogue() {
    return new Catalogue(this._rows);
  }
}

module.exports = { Catalogue, Introduced, INTERFACE, untold };
