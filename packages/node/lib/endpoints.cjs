'use strict';
// Endpoints: where to dial and where to listen, and what each kind demands.
//
//   dialling    unix:PATH   tcp:HOST:PORT                        tls:HOST:PORT
//   listening   unix:PATH   tcp:PORT[:interface=ADDRESS]         tls:PORT[:interface=ADDRESS]
//   either      parent:     Node's own channel to the process that has started this one: one link, and no other
//
// `tcp:` is for this machine alone; beyond it goes `tls:`. Both need a key.

const fs = require('node:fs');
const net = require('node:net');
const tls = require('node:tls');
const { isMainThread } = require('node:worker_threads');
const { BadEndpoint } = require('./errors.cjs');

/** The longest path that fits a socket's address on every system. */
const UNIX_PATH_LIMIT = 103;
const CONNECT_TIMEOUT = 10_000;

/** @typedef {{ kind: 'unix' | 'tcp' | 'tls' | 'parent', path: string, host: string, port: number }} Address */
/**
 * @typedef {object} TLSFiles PEM files of one side of a `tls:` link
 * @property {string | URL} [certificate]
 * @property {string | URL} [key] of the certificate
 * @property {string | URL} [authority] that has issued the peer's certificate, which the peer must have then
 */

/**
 * @param {string} text
 * @param {{ dialled: boolean, hasKey: boolean }} options
 * @returns {Address}
 */
function parse(text, { dialled, hasKey }) {
  if (text === 'parent:') {
    if (!process.connected) throw new BadEndpoint('parent: this process has no channel to the one that has started it');
    return { kind: 'parent', path: '', host: '', port: 0 };
  }
  const [, kind, rest] = /^(unix|tcp|tls):(.+)$/s.exec(text) ?? [];
  if (!kind) throw new BadEndpoint(`${JSON.stringify(text)}: unix:PATH, tcp:…, tls:… or parent: is expected`);
  if (kind === 'unix') {
    if (Buffer.byteLength(rest) > UNIX_PATH_LIMIT) {
      throw new BadEndpoint(`${JSON.stringify(text)}: a socket's path has at most ${UNIX_PATH_LIMIT} bytes`);
    }
    return { kind, path: rest, host: '', port: 0 };
  }
  const pattern = dialled ? /^(?:\[([^\]]+)\]|([^:]+)):(\d+)$/ : /^(\d+)(?::interface=(?:\[([^\]]+)\]|([^:]+)))?$/;
  const found = pattern.exec(rest);
  const expected = dialled ? `${kind}:HOST:PORT` : `${kind}:PORT or ${kind}:PORT:interface=ADDRESS`;
  if (!found) throw new BadEndpoint(`${JSON.stringify(text)}: ${expected} is expected`);
  const port = Number(dialled ? found[3] : found[1]);
  const host = (dialled ? (found[1] ?? found[2]) : (found[2] ?? found[3])) ?? (kind === 'tcp' ? '127.0.0.1' : '0.0.0.0');
  if (port > 65535 || (dialled && !port)) throw new BadEndpoint(`${JSON.stringify(text)}: ${port} is no port`);
  if (!hasKey) throw new BadEndpoint(`${JSON.stringify(text)}: a key is needed at ${kind}:`);
  if (kind === 'tcp' && !isLoopback(host)) {
    throw new BadEndpoint(`${JSON.stringify(text)}: tcp: is for this machine alone; beyond it, use tls:`);
  }
  return { kind: /** @type {'tcp' | 'tls'} */ (kind), path: '', host, port };
}

/** @param {string} host */
function isLoopback(host) {
  return host === 'localhost' || host === '::1' || (net.isIPv4(host) && host.startsWith('127.'));
}

/**
 * Begin to connect. The socket is connected when `ready` is called; before that it fails by its event `error`.
 *
 * @param {Address} address
 * @param {TLSFiles | undefined} files
 * @param {() => void} ready
 * @returns {net.Socket}
 */
function connect({ kind, path, host, port }, files, ready) {
  let socket;
  if (kind === 'unix') {
    socket = net.connect({ path }, ready);
  } else if (kind === 'tcp') {
    socket = net.connect({ host, port }, ready);
  } else {
    const servername = net.isIP(host) ? '' : host;
    socket = tls.connect({ host, port, servername, minVersion: 'TLSv1.2', ...read(files) }, ready);
  }
  const connecting = socket;
  const timer = setTimeout(() => connecting.destroy(new Error('no connection within 10 seconds')), CONNECT_TIMEOUT);
  timer.unref();
  // The handshake of TLS is in that time too: a server that takes connections and says nothing would hold it for ever.
  connecting.once(kind === 'tls' ? 'secureConnect' : 'connect', () => clearTimeout(timer));
  connecting.once('close', () => clearTimeout(timer));
  return connecting;
}

/**
 * Listen. A socket's file that nobody listens at any more is replaced.
 *
 * @param {string} text
 * @param {Address} address
 * @param {TLSFiles | undefined} files
 * @param {(socket: net.Socket) => void} connected
 * @param {boolean} [allowHalfOpen] whether a peer that says nothing more may still be answered
 * @returns {Promise<net.Server>}
 */
async function listen(text, address, files, connected, allowHalfOpen = false) {
  if (address.kind === 'tls' && !files?.certificate) throw new BadEndpoint(`${text}: a certificate is needed (tls)`);
  const { authority } = files ?? {};
  const make = () =>
    address.kind === 'tls'
      ? tls.createServer(
          {
            allowHalfOpen,
            minVersion: 'TLSv1.2',
            handshakeTimeout: CONNECT_TIMEOUT,
            ...read(files),
            requestCert: !!authority,
            rejectUnauthorized: !!authority,
          },
          connected,
        )
      : net.createServer({ allowHalfOpen }, connected);
  try {
    return await bind(make(), address);
  } catch (error) {
    const { code, message } = /** @type {NodeJS.ErrnoException} */ (error);
    if (code !== 'EADDRINUSE' || address.kind !== 'unix') throw new BadEndpoint(`${text}: ${message}`);
    if (!fs.lstatSync(address.path).isSocket()) throw new BadEndpoint(`${text}: a file is there that is no socket`);
    if (await answers(address.path)) throw new BadEndpoint(`${text}: somebody listens there already`);
    fs.rmSync(address.path, { force: true });
    return bind(make(), address);
  }
}

/**
 * @param {net.Server} server
 * @param {Address} address
 * @returns {Promise<net.Server>}
 */
function bind(server, { kind, path, host, port }) {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.once('listening', () => {
      server.off('error', reject);
      resolve(server);
    });
    if (kind !== 'unix') {
      server.listen({ host, port });
      return;
    }
    // The file is made within `listen`, and nobody else may connect to it, at no moment. Only worker threads can't set
    // the mask: what they make has its mode a moment later.
    const { umask } = process;
    const masked = isMainThread ? umask(0o177) : undefined;
    try {
      server.listen({ path });
    } finally {
      if (masked !== undefined) umask(masked);
    }
    if (masked === undefined && fs.existsSync(path)) fs.chmodSync(path, 0o600);
  });
}

/**
 * @param {string} path
 * @returns {Promise<boolean>}
 */
function answers(path) {
  return new Promise((resolve) => {
    const socket = net.connect({ path });
    socket.once('connect', () => socket.destroy() && resolve(true));
    socket.once('error', (/** @type {NodeJS.ErrnoException} */ { code }) => resolve(code !== 'ECONNREFUSED'));
  });
}

/** @param {TLSFiles | undefined} files */
function read({ certificate, key, authority } = {}) {
  /** @type {{ cert?: Buffer, key?: Buffer, ca?: Buffer }} */
  const found = {};
  if (certificate) found.cert = fs.readFileSync(certificate);
  if (key) found.key = fs.readFileSync(key);
  if (authority) found.ca = fs.readFileSync(authority);
  return found;
}

/** @param {net.Socket} socket the other end, for people */
function addressOf(socket) {
  return socket.remoteAddress ? `${socket.remoteAddress}:${socket.remotePort}` : 'unix';
}

module.exports = { parse, connect, listen, addressOf };
