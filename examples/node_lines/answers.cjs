// Answers the Python program asks.py.
'use strict';

const { serve } = require('./lines.cjs');

const server = serve('answers-in-node.sock', ({ type, id, name }) => {
  if (type === 'greet') return { id, text: `Hello ${name}, from Node` };
  server.close();
  return undefined;
});
