'use strict';
// How long the peer has been silent, and what follows from it. Sans-IO; used by `Session`.

/**
 * The peer's silence, counted in heartbeats. What counts is how often a heartbeat's time has passed without a byte, not
 * the time that has passed: a process that was stopped for a minute must look at what waits in its socket before it
 * judges its peer. Times are in milliseconds.
 */
class Silence {
  /**
   * @param {number} heartbeat
   * @param {number} deadAfter without received bytes the peer is dead; in whole heartbeats, never less than two
   * @param {number} now
   */
  constructor(heartbeat, deadAfter, now) {
    this.heartbeat = heartbeat;
    this._deadAfter = deadAfter;
    this._since = now; // when the last byte came, or the last heartbeat was missed
    this._beats = 0; // that have passed since a byte came
    this._reading = true;
  }

  /** When `heartbeatPassed` is to be called. */
  get due() {
    return this._since + this.heartbeat;
  }

  /** How long the peer has been silent, in seconds. */
  get lasted() {
    return (this._beats * this.heartbeat) / 1000;
  }

  /** @param {number} now when bytes have come */
  broken(now) {
    this._since = now;
    this._beats = 0;
  }

  /**
   * Note whether this side reads. While it doesn't, the peer's silence means nothing.
   *
   * @param {boolean} reading
   * @param {number} now
   */
  setReading(reading, now) {
    this._reading = reading;
    if (reading) this.broken(now);
  }

  /**
   * Note that a heartbeat's time has passed without a byte.
   *
   * @param {number} now
   * @returns {'ping' | 'pong' | 'dead'} what is due: a question, a sign of life (this side can't see the peer's
   *   questions), or the end
   */
  heartbeatPassed(now) {
    this._since = now;
    if (!this._reading) return 'pong';
    this._beats += 1;
    return this._beats >= Math.max(2, Math.ceil(this._deadAfter / this.heartbeat)) ? 'dead' : 'ping';
  }
}

module.exports = { Silence };
