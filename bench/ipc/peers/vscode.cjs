// vscode-jsonrpc over a UNIX socket. `answer PATH`, `call PATH WARM COUNT IN_FLIGHT`.
'use strict';

const net = require('node:net');
const rpc = require('vscode-jsonrpc/node');
const { AT, BUILD, FIRST, TEXT, Tally, say } = require('./message.js');

function connect(socket) {
  return rpc.createMessageConnection(new rpc.SocketMessageReader(socket), new rpc.SocketMessageWriter(socket));
}

function answer(path) {
  net.createServer((socket) => {
    const connection = connect(socket);
    connection.onRequest('echo', ({ build, seq, at, text }) => ({ build, seq, at, text }));
    connection.listen();
  }).listen(path, () => say({ ready: true }));
}

function call(path, warm, count, inFlight) {
  const tally = new Tally(warm, count);
  const end = FIRST + warm + count;
  let next = FIRST;
  const socket = net.connect(path, () => {
    const connection = connect(socket);
    connection.listen();
    const ask = () => {
      if (next === end) return;
      connection.sendRequest('echo', { build: BUILD, seq: next++, at: AT, text: TEXT }).then((reply) => {
        tally.took(reply.seq);
        ask();
      });
    };
    for (let i = 0; i < inFlight; i++) ask();
  });
}

const [role, path, ...rest] = process.argv.slice(2);
if (role === 'answer') answer(path);
else call(path, ...rest.map(Number));
