// The pair against the package for Node: its client asks a `listenPlain`, and a `dialPlain` asks its server.
'use strict';

const { dialPlain, listenPlain } = require('twistedipc');
const { LineClient, serve } = require('./lines.cjs');

async function clientOfThePair() {
  const described = { name: 'greeter', calls: ['greet'], messages: ['stop'] };
  const handlers = { greet: ({ name }) => ({ text: `Hello ${name}, from the package` }), stop: () => {} };
  const listening = await listenPlain('unix:package.sock', described, { handlers });
  const client = new LineClient('package.sock').connect();
  client.on('connect', () => client.send({ type: 'greet', name: 'Ada 😀', id: 1 }));
  const { reply } = await new Promise((resolve) => client.once('message', resolve));
  console.log(reply.text);
  client.end();
  await listening.close();
}

async function serverOfThePair() {
  const server = serve('pair.sock', ({ id, name }) => ({ id, text: `Hello ${name}, from the pair` }));
  const greeter = dialPlain('unix:pair.sock', 'greeter');
  const { text } = await greeter.call('greet', { name: 'Ada 😀' });
  console.log(text);
  await greeter.close();
  server.close();
}

clientOfThePair().then(serverOfThePair);
