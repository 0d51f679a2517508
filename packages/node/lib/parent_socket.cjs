'use strict';
// Node's own channel to the process that has started this one, as a connection: each message on it is a frame of the
// link. So what `process.send` and the event `message` carry is the link's, and nothing else.

const { EventEmitter } = require('node:events');

/** Bytes under way over which `write` says that it is enough. */
const HIGH_WATER = 1 << 20;

class ParentSocket extends EventEmitter {
  /** @param {number} limit bytes that may wait while this side doesn't read, which Node can't make the parent wait for */
  constructor(limit) {
    super();
    this.destroyed = false;
    this.writable = true;
    this.writableLength = 0;
    this._limit = limit;
    /** @type {Buffer[] | undefined} what has come while this side doesn't read */
    this._held = undefined;
    this._heldBytes = 0;
    this._wantsDrain = false;
    this._ending = false;
    this._onMessage = (/** @type {unknown} */ message) => this._received(message);
    this._onDisconnect = () => this._disconnected();
    process.on('message', this._onMessage);
    process.on('disconnect', this._onDisconnect);
  }

  /** @param {string} lines */
  write(lines) {
    for (const line of lines.split('\n')) if (line) this._send(line);
    this._wantsDrain = this.writableLength > HIGH_WATER;
    return !this._wantsDrain;
  }

  end() {
    this.writable = false;
    this._ending = true;
    if (!this.writableLength) this.destroy();
  }

  destroy() {
    if (this.destroyed) return;
    this.destroyed = true;
    this.writable = false;
    // Not at once: in a handler of a message that has come before the program was loaded, Node 20 crashes of it.
    setImmediate(() => (process.connected ? process.disconnect() : this._disconnected()));
  }

  pause() {
    this._held ??= [];
  }

  resume() {
    const held = this._held ?? [];
    this._held = undefined;
    this._heldBytes = 0;
    for (let index = 0; index < held.length; index++) {
      if (this._held) this._hold(held[index]); // paused again meanwhile
      else this.emit('data', held[index]);
    }
  }

  unref() {
    process.channel?.unref();
  }

  /** @param {string} line */
  _send(line) {
    this.writableLength += line.length;
    const sent = (/** @type {Error | null} */ error) => {
      this.writableLength -= line.length;
      if (error && !this.destroyed) this.emit('error', error);
      if (this._ending && !this.writableLength) this.destroy();
      if (this._wantsDrain && this.writableLength <= HIGH_WATER) {
        this._wantsDrain = false;
        this.emit('drain');
      }
    };
    // Without a handler for its errors it would throw them into the program.
    /** @type {any} */ (process).send(JSON.parse(line), undefined, undefined, sent);
  }

  /** @param {unknown} message */
  _received(message) {
    if (this.destroyed) return;
    const line = Buffer.from(`${JSON.stringify(message)}\n`);
    if (this._held) this._hold(line);
    else this.emit('data', line);
  }

  /** @param {Buffer} line */
  _hold(line) {
    this._heldBytes += line.length;
    if (this._heldBytes > this._limit) this.emit('error', new Error('more has come from the parent than is read'));
    else this._held?.push(line);
  }

  _disconnected() {
    process.off('message', this._onMessage);
    process.off('disconnect', this._onDisconnect);
    if (!this.destroyed) {
      this.destroyed = true;
      this.writable = false;
      this.emit('end');
    }
    this.emit('close');
  }
}

module.exports = { ParentSocket };
