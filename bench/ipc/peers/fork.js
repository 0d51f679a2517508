// Node's child_process.fork() channel: the parent calls, the child answers. As a call does, a reply finds the call that waits for it.
// WARM COUNT IN_FLIGHT PARENT_CORE CHILD_CORE
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
  const waiting = new Map();
  let lastId = 0;
  const call = (request, answered) => {
    const id = ++lastId;
    waiting.set(id, answered);
    child.send({ id, request });
  };
  child.on('message', ({ id, reply }) => {
    const answered = waiting.get(id);
    waiting.delete(id);
    answered(reply);
  });
  const ask = () => {
    if (next === end) return;
    const seq = next++;
    call({ type: 'echo', build: BUILD, seq, at: AT, text: TEXT }, (reply) => { tally.took(reply.seq); ask(); });
  };
  for (let i = 0; i < inFlight; i++) ask();
}
