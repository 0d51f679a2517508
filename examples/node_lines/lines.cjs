// The classic pair over Node's `net`: lines of JSON, a parser that is fed with chunks, and a client that connects again.
'use strict';

const { EventEmitter } = require('node:events');
const net = require('node:net');

const NEWLINE = 10;
const LIMIT = 1 << 20; // bytes of a line

/** Chunks in, messages out: the event `message`, and `error` for a line that is no JSON or is too long. */
class LineParser extends EventEmitter {
  constructor() {
    super();
    this.rest = Buffer.alloc(0);
  }

  static encode(message) {
    return `${JSON.stringify(message)}\n`;
  }

  feed(chunk) {
    // Bytes are put together, and not texts: a chunk may end within a character.
    this.rest = Buffer.concat([this.rest, chunk]);
    for (let end; (end = this.rest.indexOf(NEWLINE)) >= 0; ) {
      const line = this.rest.subarray(0, end);
      this.rest = this.rest.subarray(end + 1);
      let message;
      try {
        message = JSON.parse(line.toString('utf8'));
      } catch (error) {
        this.emit('error', error);
        continue;
      }
      this.emit('message', message);
    }
    if (this.rest.length > LIMIT) {
      this.rest = Buffer.alloc(0);
      this.emit('error', new Error(`a line is longer than ${LIMIT} bytes`));
    }
  }
}

/** Events: `connect`, `message`, `end`, `error`. Where `net.connect` can connect, it can. */
class LineClient extends EventEmitter {
  constructor(where, { delay = 100 } = {}) {
    super();
    this.where = where;
    this.delay = delay;
    this.ended = false;
  }

  connect() {
    const socket = (this.socket = net.connect(this.where));
    const parser = new LineParser();
    parser.on('message', (message) => this.emit('message', message));
    parser.on('error', (error) => this.emit('error', error));
    socket.on('connect', () => this.emit('connect'));
    socket.on('data', (chunk) => parser.feed(chunk));
    socket.on('error', (error) => this.emit('error', error));
    socket.on('close', () => {
      this.emit('end');
      if (!this.ended && this.socket === socket) this.timer = setTimeout(() => this.reconnect(), this.delay);
    });
    return this;
  }

  reconnect() {
    clearTimeout(this.timer);
    const before = this.socket;
    this.connect();
    before?.destroy();
  }

  /** Gives false when there is no connection: the message is lost then, as `end` has said. */
  send(message) {
    return !!this.socket?.writable && (this.socket.write(LineParser.encode(message)), true);
  }

  end() {
    this.ended = true;
    clearTimeout(this.timer);
    this.socket?.end();
  }
}

/** A server of such lines: `answer(message, socket)` gives what is sent back, if anything. */
function serve(where, answer) {
  const server = net.createServer((socket) => {
    const parser = new LineParser();
    parser.on('message', (message) => {
      const said = answer(message, socket);
      if (said !== undefined) socket.write(LineParser.encode(said));
    });
    parser.on('error', () => socket.destroy());
    socket.on('error', () => {});
    socket.on('data', (chunk) => parser.feed(chunk));
  });
  return server.listen(where);
}

module.exports = { LineParser, LineClient, serve };
