'use strict';
// What can go wrong on a link. Each error has a `code` for programs, and a message that says what happened.

/** The base of all errors of links and streams. */
class LinkError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   */
  constructor(code, message) {
    super(message);
    this.name = new.target.name;
    this.code = code;
  }
}

/** There is no link, or it has ended. What was sent may or may not have arrived. */
class NotConnected extends LinkError {
  /**
   * @param {string} message
   * @param {string} [code]
   */
  constructor(message, code = 'not-connected') {
    super(code, message);
  }
}

/** The two sides have met, and one of them refuses the other; with `failOnRefusal` only. */
class LinkRefused extends NotConnected {
  /**
   * @param {string} code
   * @param {string} message
   */
  constructor(code, message) {
    super(message, code);
  }
}

/** There is no link, and no room for one more message that waits for the next. */
class QueueFull extends NotConnected {
  /** @param {string} message */
  constructor(message) {
    super(message, 'queue-full');
  }
}

/** There was no reply in time, or no link. */
class CallTimedOut extends LinkError {
  /** @param {string} message */
  constructor(message) {
    super('timed-out', message);
  }
}

/** A call was answered by an error. A handler throws it, and the caller gets it with the same code, message and data. */
class CallFailed extends LinkError {
  /**
   * @param {string} code
   * @param {string} message
   * @param {unknown} [data] what JSON can hold
   */
  constructor(code, message, data) {
    super(code, message);
    this.data = data;
  }
}

/** This side has as many calls under way as it allows itself. The peer wasn't asked. */
class TooManyCalls extends CallFailed {
  /** @param {string} message */
  constructor(message) {
    super('busy', message);
  }
}

/** The receiver doesn't take a stream. With `retryAfter` (milliseconds) the sender tries again by itself. */
class StreamFailed extends LinkError {
  /**
   * @param {string} code
   * @param {string} message
   * @param {number} [retryAfter]
   */
  constructor(code, message, retryAfter) {
    super(code, message);
    this.retryAfter = retryAfter;
  }
}

/** A receiver throws it to refuse its stream: for good, or with `retryAfter` (milliseconds) for a while. */
class RefuseStream extends LinkError {
  /**
   * @param {string} code
   * @param {string} message
   * @param {number} [retryAfter]
   */
  constructor(code, message, retryAfter) {
    super(code, message);
    if (retryAfter !== undefined && !(retryAfter >= 0)) {
      throw new RangeError(`a stream can't be tried again after ${retryAfter} milliseconds`);
    }
    this.retryAfter = retryAfter;
  }
}

/** This side tried to send what can't be sent: it isn't of the interface, can't be JSON, or is too long. A bug here. */
class LocalProtocolError extends LinkError {
  /**
   * @param {string} message
   * @param {string} [code]
   */
  constructor(message, code = 'local-protocol') {
    super(code, message);
  }
}

/** The peer said what the protocol doesn't have. It ends the link, by a `bye` with this code. */
class RemoteProtocolError extends LinkError {}

/** An outbox has no room, can't be used, or is damaged. */
class BadOutbox extends LinkError {
  /**
   * @param {string} message
   * @param {string} [code]
   */
  constructor(message, code = 'bad-outbox') {
    super(code, message);
  }
}

/** An endpoint can't be used. */
class BadEndpoint extends LinkError {
  /** @param {string} message */
  constructor(message) {
    super('bad-endpoint', message);
  }
}

/** A key, or a key file, can't be used. */
class BadKey extends LinkError {
  /** @param {string} message */
  constructor(message) {
    super('bad-key', message);
  }
}

/** A service lacks a handler of its interface, or has one that isn't of it. */
class BadService extends LinkError {
  /** @param {string} message */
  constructor(message) {
    super('bad-service', message);
  }
}

module.exports = {
  LinkError,
  NotConnected,
  LinkRefused,
  QueueFull,
  CallTimedOut,
  CallFailed,
  TooManyCalls,
  StreamFailed,
  RefuseStream,
  LocalProtocolError,
  RemoteProtocolError,
  BadOutbox,
  BadEndpoint,
  BadKey,
  BadService,
};
