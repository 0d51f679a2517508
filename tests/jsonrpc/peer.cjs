// vscode-jsonrpc at the other end. `serve`: answers on standard input and output. `ask PATH`: asks at a socket, and
// prints what came of it, a line of JSON each.
'use strict';

const net = require('node:net');
const rpc = require('vscode-jsonrpc/node');

const [role, path] = process.argv.slice(2);

function connect(input, output) {
  const connection = rpc.createMessageConnection(new rpc.StreamMessageReader(input), new rpc.StreamMessageWriter(output));
  connection.onError((error) => { console.error(error); process.exit(3); });
  return connection;
}

function serve() {
  const connection = connect(process.stdin, process.stdout);
  connection.onRequest('math/add', ({ a, b }) => ({ value: a + b }));
  connection.onRequest('point', (x, y) => ({ value: x * 100 + y }));
  connection.onRequest('fail', () => { throw new rpc.ResponseError(-32050, 'of its own', { left: 3 }); });
  connection.onRequest('slow', (_, token) => new Promise((resolve) => {
    token.onCancellationRequested(() => {
      connection.sendNotification('noted', { text: 'cancelled' });
      resolve({ value: 0 });
    });
  }));
  connection.onRequest('ask-back', async ({ a }) => connection.sendRequest('math/add', { a, b: 1 }));
  connection.onNotification('note', ({ text }) => connection.sendNotification('noted', { text }));
  connection.onClose(() => process.exit(0));
  connection.listen();
}

async function ask() {
  const socket = net.connect(path);
  const connection = connect(socket, socket);
  const say = (what) => console.log(JSON.stringify(what));
  connection.onNotification('noted', ({ text }) => say(text));
  connection.onRequest('math/add', ({ a, b }) => ({ value: a + b }));
  connection.listen();
  say(await connection.sendRequest('math/add', { a: 2, b: 3 }));
  say(await connection.sendRequest('math/add', rpc.ParameterStructures.byPosition, 2, 3));
  say(await Promise.all(Array.from({ length: 200 }, (_, a) => connection.sendRequest('math/add', { a, b: 0 })))
    .then((all) => all.reduce((sum, { value }) => sum + value, 0)));
  for (const method of ['fail', 'nowhere', 'math/add']) {
    try {
      say(await connection.sendRequest(method, { text: 1 }));
    } catch (error) {
      say([error.code, error.data ?? null]);
    }
  }
  const source = new rpc.CancellationTokenSource();
  const slow = connection.sendRequest('slow', {}, source.token);
  source.cancel();
  await slow.catch((error) => say(error.code));
  say(await connection.sendRequest('ask-back', { a: 6 }));
  await connection.sendNotification('note', { text: 'é€😀' });
  say(await connection.sendRequest('math/add', { a: 1, b: 1 }));
  connection.end();
}

if (role === 'serve') serve();
else ask();
