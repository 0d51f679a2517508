// Node's child_process.fork() channel: the parent calls, the child answers. WARM COUNT IN_FLIGHT PARENT_CORE CHILD_CORE
'use strict';

const { execFileSync, fork } = require('node:child_process');
const { AT, BUILD, FIRST, TEXT, Tally } = require('./message.js');

if (process.send) {
  process.on('message', ({ id, request }) => process.send({ id, reply: request }));
} else {
  const [warm, count, inFlight, childCore] = process.argv.slice(2).map(Number);
  const tally = new Tally(warm, count);
  const end = FIRST + warm + count;
  let next = FIRST;
  const child = fork(__filename);
  execFileSync('taskset', ['-a', '-p', '-c', String(childCore), String(child.pid)]);
  const ask = () => {
    if (next === end) return;
    const seq = next++;
    child.send({ id: seq, request: { type: 'echo', build: BUILD, seq, at: AT, text: TEXT } });
  };
  child.on('message', ({ reply }) => { tally.took(reply.seq); ask(); });
  for (let i = 0; i < inFlight; i++) ask();
}
