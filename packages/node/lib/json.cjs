'use strict';
// Lines of JSON: bytes to lines, values to lines, and what JSON can't hold. Sans-IO.

const { isUtf8 } = require('node:buffer');
const { LocalProtocolError, RemoteProtocolError } = require('./errors.cjs');

const NEWLINE = 10;

/** A line that isn't UTF-8. Only its beginning may be readable. */
class NotUtf8 {
  /** @param {Buffer} bytes */
  constructor(bytes) {
    this.text = bytes.subarray(0, BEGINNING).toString('utf8');
  }
}

/** Cuts a stream of bytes into lines. It keeps at most one line that isn't complete, of `limit` bytes. */
class LineSplitter {
  /** @param {number} limit bytes of a line, without its newline */
  constructor(limit) {
    this.limit = limit;
    /** @type {Buffer[]} */
    this._pending = [];
    this._size = 0;
  }

  /** Whether a line has begun that isn't complete. */
  get pending() {
    return this._size > 0;
  }

  /**
   * Return the lines that are complete now, without their newlines.
   *
   * @param {Uint8Array} chunk
   * @returns {Array<string | NotUtf8>}
   * @throws {RemoteProtocolError} after the lines before it were returned: a line is over the limit
   */
  feed(chunk) {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    const end = bytes.lastIndexOf(NEWLINE);
    if (end < 0) {
      this._keep(bytes);
      return [];
    }
    let block = bytes.subarray(0, end);
    if (this._size) {
      block = Buffer.concat([...this._pending, block]);
      this._pending = [];
      this._size = 0;
    }
    this._keep(bytes.subarray(end + 1));
    if (block.length <= this.limit && isUtf8(block)) return block.toString('utf8').split('\n');
    return this._oneByOne(block);
  }

  /** Whether more than a line's bytes wait: the line can't end well. To be asked after each `feed`. */
  get overflowed() {
    return this._size > this.limit;
  }

  /** @param {Buffer} bytes */
  _keep(bytes) {
    if (!bytes.length || this.overflowed) return;
    this._size += bytes.length;
    // A copy, since a slice of few bytes would keep its whole chunk.
    this._pending.push(bytes.length < bytes.buffer.byteLength / 2 ? Buffer.from(bytes) : bytes);
  }

  /** @param {Buffer} block */
  _oneByOne(block) {
    /** @type {Array<string | NotUtf8>} */
    const lines = [];
    for (let begin = 0; begin <= block.length; ) {
      const found = block.indexOf(NEWLINE, begin);
      const line = block.subarray(begin, found < 0 ? block.length : found);
      if (line.length > this.limit) {
        this._size = this.limit + 1; // what follows isn't read any more
        this._pending = [];
        break;
      }
      lines.push(isUtf8(line) ? line.toString('utf8') : new NotUtf8(line));
      begin += line.length + 1;
    }
    return lines;
  }
}

// -- values to lines --------------------------------------------------------------------------------------------------

const SURROGATE = /\\u[dD][89a-fA-F]/;

/**
 * Return a value as JSON on one line.
 *
 * @param {unknown} value
 * @param {string} what it is, for the error
 * @returns {string}
 * @throws {LocalProtocolError} JSON can't hold it
 */
function encode(value, what) {
  let text;
  try {
    text = JSON.stringify(value);
  } catch (error) {
    throw new LocalProtocolError(`${what} can't be sent as JSON: ${/** @type {Error} */ (error).message}`);
  }
  if (text === undefined) throw new LocalProtocolError(`${what} can't be sent as JSON: it is ${typeof value}`);
  // JSON.stringify writes null for what it doesn't have, and an escape for half of a surrogate pair. A look at the
  // text says whether there can be any; only then the value itself is looked through.
  if (text.includes('null')) {
    const wrong = findNotFinite(value);
    if (wrong) throw new LocalProtocolError(`${what} can't be sent as JSON, which has no ${wrong}`);
  }
  if (SURROGATE.test(text) && hasLoneSurrogate(JSON.parse(text))) {
    throw new LocalProtocolError(`${what} can't be sent as JSON: a text in it has half of a surrogate pair`);
  }
  return text;
}

/**
 * @param {unknown} value
 * @returns {string} the number that JSON doesn't have, if there is one in it; else ""
 */
function findNotFinite(value) {
  const left = [value];
  while (left.length) {
    const each = left.pop();
    if (typeof each === 'number' && !Number.isFinite(each)) return String(each);
    if (typeof each === 'object' && each !== null && typeof /** @type {any} */ (each).toJSON !== 'function') {
      for (const inner of Object.values(each)) left.push(inner);
    }
  }
  return '';
}

/**
 * @param {unknown} value of JSON
 * @returns {boolean}
 */
function hasLoneSurrogate(value) {
  const left = [value];
  while (left.length) {
    const each = left.pop();
    if (typeof each === 'string') {
      if (!isWellFormed(each)) return true;
    } else if (typeof each === 'object' && each !== null) {
      for (const [key, inner] of Object.entries(each)) {
        if (!isWellFormed(key)) return true;
        left.push(inner);
      }
    }
  }
  return false;
}

/** @param {string} text */
function isWellFormed(text) {
  // In Node since 20, and younger than the types that this is checked with.
  return /** @type {any} */ (text).isWellFormed();
}

// -- lines to values --------------------------------------------------------------------------------------------------

/**
 * Return the value of a line.
 *
 * @param {string} line
 * @returns {any}
 * @throws {SyntaxError} it isn't JSON
 */
function decode(line) {
  const value = JSON.parse(line);
  if (SURROGATE.test(line) && hasLoneSurrogate(value)) throw new SyntaxError('half of a surrogate pair');
  return value;
}

/** How much of a line is looked through for its first members, in characters. */
const BEGINNING = 4096;
const MEMBER = /\s*"((?:[^"\\\u0000-\u001f]|\\["\\/bfnrtu])*)"\s*:\s*("(?:[^"\\\u0000-\u001f]|\\["\\/bfnrtu])*"|-?\d[-+.\deE]*|true|false|null)\s*,/y;

/**
 * Return the members with which a line begins that are no objects and no arrays: of a line that can't be read to its
 * end, they may say what it is of.
 *
 * @param {string} line
 * @returns {Record<string, any>}
 */
function beginning(line) {
  const text = line.slice(0, BEGINNING);
  /** @type {Record<string, any>} */
  const found = Object.create(null);
  const brace = /\s*\{/y;
  if (!brace.test(text)) return found;
  MEMBER.lastIndex = brace.lastIndex;
  for (let member; (member = MEMBER.exec(text)); ) {
    try {
      found[JSON.parse(`"${member[1]}"`)] = decode(member[2]);
    } catch {
      break;
    }
  }
  return found;
}

/**
 * A text cut to `limit` characters, in which nothing can't be sent.
 *
 * @param {unknown} text
 * @param {number} [limit]
 */
function words(text, limit = 512) {
  const cut = String(text).slice(0, limit);
  return isWellFormed(cut) ? cut : /** @type {any} */ (cut).toWellFormed();
}

/**
 * A peer's words, fit for a log.
 *
 * @param {string} text
 * @param {number} [limit]
 */
function printable(text, limit = 512) {
  return words(text, limit).replace(/[\p{Cc}\p{Zl}\p{Zp}]/gu, '\ufffd');
}

/**
 * @param {string} code
 * @param {string} reason
 */
function remoteFault(code, reason) {
  return new RemoteProtocolError(code, reason);
}

module.exports = { LineSplitter, NotUtf8, encode, decode, beginning, words, printable, remoteFault };
