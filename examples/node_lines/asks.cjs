// Asks the Python service of answers.py.
'use strict';

const { LineClient } = require('./lines.cjs');

const client = new LineClient('answers.sock').connect();
client.on('error', (error) => console.log(`not yet: ${error.code}`));
client.on('connect', () => client.send({ type: 'greet', name: 'Ada 😀', id: 1 }));
client.on('message', ({ reply }) => {
  console.log(reply.text);
  client.end();
});
