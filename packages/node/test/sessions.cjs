'use strict';
// Two sessions in memory, whose bytes a test carries, whole or in pieces.

const { Session } = require('../index.cjs');

const KEY = Buffer.from(Array.from({ length: 32 }, (_, index) => index));

function settings(role, peerRole, more = {}) {
  return {
    name: `${role}-1`,
    role,
    peerRole,
    incarnation: 'run-1',
    key: KEY,
    messages: new Set(['note']),
    answers: new Set(['add']),
    heartbeat: 8000,
    deadAfter: 24_000,
    handshakeTimeout: 10_000,
    frameLimit: 1 << 20,
    maxCalls: 1024,
    outboundLimit: 64 << 20,
    ...more,
  };
}

class Sessions {
  constructor({ dialler = {}, listener = {}, cut = Infinity } = {}) {
    this.now = 0;
    this.cut = cut;
    this.dialler = new Session('dialler', settings('client', 'server', dialler), { nonce: '4f'.repeat(32), now: 0 });
    this.listener = new Session('listener', settings('server', 'client', listener), { nonce: 'a1'.repeat(32), now: 0 });
    this.dialled = [];
    this.listened = [];
  }

  /** Carry what there is to carry, until neither says anything more. */
  pump() {
    for (let moved = true; moved; ) {
      moved = this._carry(this.dialler, this.listener, this.listened);
      moved = this._carry(this.listener, this.dialler, this.dialled) || moved;
    }
    return this;
  }

  _carry(from, to, events) {
    const bytes = Buffer.from(from.dataToSend());
    for (let at = 0; at < bytes.length; at += this.cut) events.push(...to.receive(bytes.subarray(at, at + this.cut), this.now));
    return bytes.length > 0;
  }
}

/** A ready dialler, to which a test says what it likes. */
function alone(more = {}) {
  const { dialler } = new Sessions({ dialler: more }).pump();
  return { session: dialler, hear: (text) => dialler.receive(Buffer.from(text), 0), said: () => dialler.dataToSend() };
}

module.exports = { KEY, Sessions, alone, settings };
