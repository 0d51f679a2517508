'use strict';
// Where a stream's items wait until they are acknowledged. An outbox is any object with the methods of `MemoryOutbox`.

const crypto = require('node:crypto');
const { BadOutbox } = require('./errors.cjs');

/** Bytes of items that an outbox keeps, unless told otherwise. */
const OUTBOX_LIMIT = 64 << 20;

/**
 * @typedef {object} Outbox keeps a stream's numbered items, each a line of JSON
 * @property {string} id 1 to 64 characters; another one for each that began at number 1
 * @property {number} first the number of the oldest item that is kept
 * @property {number} next the number that the next item gets
 * @property {boolean} room whether one more item is taken
 * @property {(item: string) => number} append keep an item, and return its number
 * @property {() => void} sync make what was appended safe from the machine's crash too
 * @property {(number: number, limit: number) => string[]} read the items from `number` on, of about `limit` bytes; one
 *   at least, if there is one
 * @property {(next: number) => void} trim the items below `next` aren't needed any more
 * @property {() => void} close
 */

/** An outbox that ends with the process. */
class MemoryOutbox {
  /** @param {{ limit?: number }} [options] bytes that it keeps; over it `Stream.write` waits */
  constructor({ limit = OUTBOX_LIMIT } = {}) {
    this.id = crypto.randomBytes(16).toString('hex');
    this.first = 1;
    this.next = 1;
    this._limit = limit;
    /** @type {string[]} */
    this._items = [];
    this._head = 0; // of the items before it none is kept
    this._size = 0;
  }

  get room() {
    return this._size < this._limit;
  }

  /** @param {string} item */
  append(item) {
    if (!this.room) throw new BadOutbox(`${this._size} bytes wait to be acknowledged`, 'outbox-full');
    return this._keep(item);
  }

  /** @param {string} item is kept in memory, whether there is room or not */
  _keep(item) {
    this._items.push(item);
    this._size += Buffer.byteLength(item);
    return this.next++;
  }

  sync() {}

  /**
   * @param {number} number
   * @param {number} limit
   */
  read(number, limit) {
    const begin = this._head + Math.max(number, this.first) - this.first;
    let end = begin;
    for (let size = 0; end < this._items.length; end++) {
      size += Buffer.byteLength(this._items[end]);
      if (size > limit && end > begin) break;
    }
    return this._items.slice(begin, end);
  }

  /** @param {number} next */
  trim(next) {
    while (this.first < Math.min(next, this.next)) {
      this._size -= Buffer.byteLength(this._items[this._head]);
      this._items[this._head++] = '';
      this.first++;
    }
    if (this._head > 1024 && this._head * 2 > this._items.length) {
      this._items = this._items.slice(this._head);
      this._head = 0;
    }
  }

  close() {}
}

module.exports = { MemoryOutbox, OUTBOX_LIMIT };
