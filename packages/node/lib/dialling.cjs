'use strict';
// The states of a side that dials, as a table: state → input → the next state, and what is done. `Dialler` does it.

/** @typedef {'connecting' | 'linking' | 'linked' | 'waiting' | 'closing' | 'closed'} State */
/** @typedef {'reached' | 'failed' | 'ready' | 'lost' | 'due' | 'stop'} Input */
/** @typedef {'connect' | 'give up' | 'retry' | 'retry unreached' | 'wait no longer' | 'close' | 'end'} Act */

/** @type {Record<State, Partial<Record<Input, [State, Act[]]>>>} */
const STEPS = {
  connecting: {
    reached: ['linking', []],
    failed: ['waiting', ['retry unreached']],
    stop: ['closed', ['give up', 'end']],
  },
  linking: { ready: ['linked', []], lost: ['waiting', ['retry']], stop: ['closing', ['close']] },
  linked: { lost: ['waiting', ['retry']], stop: ['closing', ['close']] },
  waiting: { due: ['connecting', ['connect']], stop: ['closed', ['wait no longer', 'end']] },
  closing: { lost: ['closed', ['end']] },
  closed: {},
};

/**
 * @param {State} state
 * @param {Input} input
 * @returns {[State, Act[]]} what isn't in the table changes nothing
 */
function step(state, input) {
  return STEPS[state][input] ?? [state, []];
}

const FIRST_DELAY = 500;
const LONGEST_DELAY = 30_000;
/** UNIX sockets reconnect fast: only processes of this machine do so. */
const LONGEST_LOCAL_DELAY = 2000;
const UNREACHED_LOCAL_DELAY = 250;

/** The delays between attempts: each is anything from nothing to the whole of it, so that a crowd doesn't stay one. */
class Delays {
  /**
   * @param {boolean} isLocal
   * @param {() => number} random
   */
  constructor(isLocal, random) {
    this._isLocal = isLocal;
    this._random = random;
    this._delay = FIRST_DELAY;
  }

  /** @param {boolean} reached whether there was a connection at all */
  next(reached) {
    if (!reached && this._isLocal) return UNREACHED_LOCAL_DELAY * this._random();
    const delay = this._delay;
    this._delay = Math.min(delay * 2, this._isLocal ? LONGEST_LOCAL_DELAY : LONGEST_DELAY);
    return delay * this._random();
  }

  /** A link has lasted: the next delay is the first one again. */
  reset() {
    this._delay = FIRST_DELAY;
  }
}

module.exports = { STEPS, Delays, step };
