// Node's net: lines of JSON over a UNIX socket. ROLE PATH …, see the end.
'use strict';

const net = require('node:net');
const { AT, BATCH, BUILD, FIRST, TEXT, Tally, cpu, latencies, say } = require('./message.js');

// One JSON.parse a line.
function onLines(socket, each) {
  let rest = '';
  socket.setEncoding('utf8');
  socket.on('data', (chunk) => {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop();
    for (const line of lines) each(JSON.parse(line));
  });
}

// One JSON.parse a chunk.
function onBlocks(socket, each) {
  let rest = '';
  socket.setEncoding('utf8');
  socket.on('data', (chunk) => {
    const text = rest + chunk;
    const end = text.lastIndexOf('\n');
    rest = text.slice(end + 1);
    if (end > 0) JSON.parse(`[${text.slice(0, end).replaceAll('\n', ',')}]`).forEach(each);
  });
}

function listen(path, connected) {
  net.createServer(connected).listen(path, () => say({ ready: true }));
}

function receive(path, split, warm, count) {
  const tally = new Tally(warm, count);
  listen(path, (socket) => split(socket, (line) => { if (line.type === 'line') tally.took(line.seq); }));
}

const message = (seq) => ({ type: 'line', build: BUILD, seq, at: AT, text: TEXT });
const encoded = (seq) => `${JSON.stringify(message(seq))}\n`;

// writeSome(socket, first, until) writes these messages, and tells whether the socket wants more.
function send(path, count, writeSome) {
  const end = FIRST + count;
  let next = FIRST;
  const begun = cpu();
  const socket = net.connect(path, turn);
  function turn() {
    const first = next;
    next = Math.min(end, first + BATCH);
    const more = writeSome(socket, first, next);
    if (next === end) say({ sent: count, cpu: cpu() - begun });
    else if (more) setImmediate(turn);
    else socket.once('drain', turn);
  }
}

function writeEach(socket, first, until) {
  let more = true;
  for (let seq = first; seq < until; seq++) more = socket.write(encoded(seq));
  return more;
}

function writeCorked(socket, first, until) {
  socket.cork();
  const more = writeEach(socket, first, until);
  socket.uncork();
  return more;
}

function writeJoined(socket, first, until) {
  let text = '';
  for (let seq = first; seq < until; seq++) text += encoded(seq);
  return socket.write(text);
}

function answer(path) {
  listen(path, (socket) => onLines(socket, ({ id, request }) => socket.write(`${JSON.stringify({ id, reply: request })}\n`)));
}

class Client {
  constructor(path, connected) {
    this.waiting = new Map();
    this.lastId = 0;
    this.socket = net.connect(path, connected);
    onLines(this.socket, ({ id, reply }) => {
      const answered = this.waiting.get(id);
      this.waiting.delete(id);
      answered(reply);
    });
  }

  call(request, answered) {
    const id = ++this.lastId;
    this.waiting.set(id, answered);
    this.socket.write(`${JSON.stringify({ id, request })}\n`);
  }
}

function call(path, warm, count, inFlight) {
  const tally = new Tally(warm, count);
  const end = FIRST + warm + count;
  let next = FIRST;
  const client = new Client(path, () => { for (let i = 0; i < inFlight; i++) ask(); });
  function ask() {
    if (next === end) return;
    client.call(message(next++), (reply) => { tally.took(reply.seq); ask(); });
  }
}

function trip(path, warm, count) {
  const times = [];
  let sum = 0;
  let seq = FIRST;
  const client = new Client(path, ask);
  function ask() {
    const begun = process.hrtime.bigint();
    client.call(message(seq++), (reply) => {
      times.push(Number(process.hrtime.bigint() - begun) / 1000);
      sum += reply.seq;
      if (times.length < warm + count) ask();
      else say({ received: times.length, sum, ...latencies(times.slice(warm)) });
    });
  }
}

const [role, path, ...rest] = process.argv.slice(2);
const numbers = rest.map(Number);
switch (role) {
  case 'receive': receive(path, onLines, ...numbers); break;
  case 'receive-many': receive(path, onBlocks, ...numbers); break;
  case 'send': send(path, ...numbers, writeEach); break;
  case 'send-corked': send(path, ...numbers, writeCorked); break;
  case 'send-many': send(path, ...numbers, writeJoined); break;
  case 'answer': answer(path); break;
  case 'call': call(path, ...numbers); break;
  case 'trip': trip(path, ...numbers); break;
  default: throw new Error(`no role ${role}`);
}
