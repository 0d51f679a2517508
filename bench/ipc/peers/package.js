// The package for Node, packages/node, to Python: calls and a stream. ROLE PATH …, see the end.
'use strict';

const { AT, BUILD, FIRST, TEXT, Tally, cpu, say } = require('./message.js');
const { dial } = require('../../../packages/node/index.cjs');

const KEY = Buffer.from('a key of thirty-two bytes, shared');
const message = (seq) => ({ build: BUILD, seq, at: AT, text: TEXT });

async function call(path, warm, count, inFlight) {
  const remote = dial(`unix:${path}`, 'bench', { key: KEY });
  const tally = new Tally(warm, count);
  const end = FIRST + warm + count;
  let next = FIRST;
  async function ask() {
    while (next < end) tally.took((await remote.call('echo', message(next++))).seq);
  }
  await remote.linked();
  await Promise.all(Array.from({ length: inFlight }, ask));
  await remote.close();
}

async function send(path, count) {
  const remote = dial(`unix:${path}`, 'bench', { key: KEY });
  await remote.linked();
  const begun = cpu();
  const stream = remote.stream('lines');
  for (let seq = FIRST; seq < FIRST + count; seq++) await stream.write(message(seq));
  await stream.flushed();
  say({ sent: count, cpu: cpu() - begun });
  await remote.close();
}

const [role, path, ...rest] = process.argv.slice(2);
const numbers = rest.map(Number);
switch (role) {
  case 'call': call(path, ...numbers); break;
  case 'send': send(path, ...numbers); break;
  default: throw new Error(`no role ${role}`);
}
