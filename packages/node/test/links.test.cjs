'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');
const { setTimeout: sleep } = require('node:timers/promises');
const ipc = require('../index.cjs');
const { STEPS, Delays, step } = require('../lib/dialling.cjs');
const { connect } = require('../lib/endpoints.cjs');
const { Outgoing } = require('../lib/sender.cjs');
const { place } = require('./places.cjs');

const { CallFailed, CallTimedOut, FileOutbox, LinkRefused, MemoryOutbox, NotConnected, QueueFull, RefuseStream, dial, listen } = ipc;
const KEY = Buffer.alloc(32, 1);

const add = { handlers: { add: ({ a, b }) => ({ value: a + b }) } };

/** A receiver in memory. */
class Shelf {
  constructor() {
    this.items = [];
  }

  position() {
    return this.items.length + 1;
  }

  take(first, items) {
    assert.equal(first, this.items.length + 1);
    this.items.push(...items);
  }
}

test('a call waits for the link, and messages with it, in their order', async (t) => {
  const here = place(t);
  const heard = [];
  const remote = here.dial();
  remote.send('note', { n: 1 });
  const sum = remote.call('add', { a: 2, b: 3 });
  remote.send('note', { n: 2 });
  await here.listen({ handlers: { note: ({ n }) => heard.push(n), add: ({ a, b }) => (heard.push('add'), { value: a + b }) } });
  assert.deepEqual(await sum, { value: 5 });
  await remote.call('add', { a: 0, b: 0 });
  assert.deepEqual(heard, [1, 'add', 2, 'add']);
});

test('errors, timeouts and aborts end their call alone', async (t) => {
  const here = place(t);
  const aborted = [];
  await here.listen({
    handlers: {
      ...add.handlers,
      refuse: () => {
        throw new CallFailed('division', 'by zero', { by: 0 });
      },
      fail: async () => {
        throw new Error('a secret');
      },
      big: () => ({ text: 'x'.repeat(2 << 20) }),
      wait: (request, peer, { signal }) =>
        new Promise((_, reject) => signal.addEventListener('abort', () => reject(aborted.push(request.n) && signal.reason))),
    },
  });
  const remote = here.dial();
  await assert.rejects(remote.call('refuse'), { name: 'CallFailed', code: 'division', message: 'by zero', data: { by: 0 } });
  await assert.rejects(remote.call('fail'), { code: 'internal', message: 'an error inside; see the log there' });
  await assert.rejects(remote.call('big'), { code: 'too-large' });
  await assert.rejects(remote.call('other'), { code: 'unknown-type' });
  await assert.rejects(remote.call('wait', { n: 1 }, { timeout: 20 }), CallTimedOut);
  const controller = new AbortController();
  const called = remote.call('wait', { n: 2 }, { signal: controller.signal });
  setImmediate(() => controller.abort());
  await assert.rejects(called, { name: 'AbortError' });
  await assert.rejects(remote.call('wait', {}, { signal: AbortSignal.abort() }), { name: 'AbortError' });
  assert.deepEqual(await remote.call('add', { a: 1, b: 1 }), { value: 2 });
  while (aborted.length < 2) await sleep(1);
  assert.deepEqual(aborted, [1, 2]);
});

test('both sides call', async (t) => {
  const here = place(t);
  const listening = await here.listen({ handlers: { who: async (_, peer) => peer.call('name') } });
  const remote = here.dial({ name: 'me', service: { handlers: { name: () => ({ name: 'Ada' }) } } });
  assert.deepEqual(await remote.call('who'), { name: 'Ada' });
  const [peer] = listening.peers;
  assert.equal(peer.info.name, 'me');
  assert.deepEqual(await peer.call('name'), { name: 'Ada' });
});

test('a second call in the catch waits for the next link', async (t) => {
  const here = place(t);
  let calls = 0;
  const service = {
    handlers: {
      once: (_, peer) => {
        if (++calls === 1) return peer._link.socket.destroy();
        return calls;
      },
    },
  };
  await here.listen(service);
  const remote = here.dial();
  const reply = await remote.call('once').catch((error) => {
    assert.ok(error instanceof NotConnected);
    assert.equal(remote.peer, undefined);
    return remote.call('once');
  });
  assert.equal(reply, 2);
});

test('without a link: calls fail at once if they are told to, and the queue is bounded', async (t) => {
  const here = place(t);
  const remote = here.dial({ callsWait: false, queue: 100 });
  await assert.rejects(remote.call('add'), NotConnected);
  remote.send('note', { text: 'x'.repeat(50) });
  assert.throws(() => remote.send('note', { text: 'x'.repeat(50) }), QueueFull);
  await assert.rejects(remote.linked({ timeout: 500 }), /no link in time: connect ENOENT/);
});

test('another key: calls wait, or fail at once', async (t) => {
  const here = place(t);
  await here.listen(add, { key: KEY });
  const wrong = here.dial({ key: Buffer.alloc(32, 2), failOnRefusal: true });
  await assert.rejects(wrong.call('add', {}), (error) => error instanceof LinkRefused && error.code === 'unauthorized');
  const patient = here.dial({ key: Buffer.alloc(32, 2) });
  await assert.rejects(patient.call('add', {}, { timeout: 50 }), /authentication failed/);
});

test('a revoked key ends its links', async (t) => {
  const here = place(t);
  const named = new ipc.NamedKey('k1', KEY, { name: 'shop' });
  const keys = new ipc.Keys(named);
  await here.listen(add, { keys });
  const remote = here.dial({ name: 'shop', keys: new ipc.Keys(new ipc.NamedKey('k1', KEY)) });
  assert.equal((await remote.linked()).info.key, 'k1');
  const [reason] = await Promise.all([once(remote, 'loss'), keys.revoke('k1')]);
  assert.match(reason[0], /revoked/);
});

test('close ends everything, and what waits fails', async (t) => {
  const here = place(t);
  await here.listen({ handlers: { wait: () => new Promise(() => {}) } });
  const remote = here.dial();
  const waiting = assert.rejects(remote.call('wait'), NotConnected);
  const stream = remote.stream('events');
  await stream.write({});
  const flushed = assert.rejects(stream.flushed(), NotConnected);
  await remote.linked();
  await remote.close();
  await Promise.all([waiting, flushed, remote.close(), remote.closed()]);
  await assert.rejects(remote.call('wait'), NotConnected);
  assert.throws(() => remote.send('note', {}), NotConnected);
  assert.throws(() => remote.stream('events'), NotConnected);
});

test('an interface with lists is checked when the program runs', async (t) => {
  const here = place(t);
  const described = { name: 'calc', calls: ['add'], messages: ['note'], streams: [] };
  await assert.rejects(here.listen(add, {}, described), /no handler for note/);
  await assert.rejects(here.listen({ handlers: { add() {}, note() {}, sub() {} } }, {}, described), /sub: not of calc/);
  const remote = here.dial({}, described);
  await assert.rejects(remote.call('sub'), /calc has no sub among its calls/);
  assert.throws(() => remote.send('add', {}), /no add among its messages/);
  assert.throws(() => remote.stream('events'), /no events among its streams/);
});

test('endpoints', async () => {
  const bad = ['x', 'unix:', 'tcp:host:80', 'tcp:127.0.0.1:0', 'tcp:127.0.0.1:70000', `unix:${'x'.repeat(200)}`, 'fd:3'];
  for (const endpoint of bad) assert.throws(() => dial(endpoint, 'calc', { key: KEY }), { code: 'bad-endpoint' }, endpoint);
  assert.throws(() => dial('tcp:127.0.0.1:80', 'calc'), /a key is needed/);
  assert.throws(() => dial('unix:x', 'calc', { key: 'secret' }), { code: 'bad-key' });
  assert.throws(() => dial('unix:x', 'calc', { key: Buffer.alloc(8) }), { code: 'bad-key' });
  assert.throws(() => dial('unix:x', 'Calc'), TypeError);
  assert.throws(() => dial('unix:x', 'calc', { name: '-' }), RangeError);
  assert.throws(() => dial('unix:x', 'calc', { heartbeat: 1 }), RangeError);
});

test('TCP needs the key; a socket that nobody listens at is replaced, and one that is used isn\'t', async (t) => {
  const listening = await listen('tcp:0', 'calc', add, { key: KEY });
  const remote = dial(`tcp:127.0.0.1:${listening.port}`, 'calc', { key: KEY });
  assert.deepEqual(await remote.call('add', { a: 1, b: 2 }), { value: 3 });
  await Promise.all([remote.close(), listening.close()]);
  const here = place(t);
  const file = here.endpoint.slice('unix:'.length);
  const old = net.createServer().listen(file);
  await once(old, 'listening');
  await assert.rejects(here.listen(add), /somebody listens there already/);
  fs.renameSync(file, `${file}.kept`); // Node deletes the file of a server that it closes
  old.close();
  fs.renameSync(`${file}.kept`, file);
  await here.listen(add);
  assert.equal(fs.statSync(file).mode & 0o777, 0o600);
});

test('a flood of what isn\'t the handshake, and of nothing at all', async (t) => {
  const here = place(t);
  const listening = await here.listen(add, { handshakeTimeout: 100 });
  const file = here.endpoint.slice('unix:'.length);
  const strangers = Array.from({ length: 300 }, (_, n) => {
    const socket = net.connect(file);
    socket.on('error', () => {});
    if (n % 2) socket.write('GET / HTTP/1.1\r\n\r\n');
    return once(socket.resume(), 'close');
  });
  const remote = here.dial();
  assert.deepEqual(await remote.call('add', { a: 1, b: 2 }), { value: 3 });
  await Promise.all(strangers);
  assert.equal(listening.peers.size, 1);
});

// -- streams

test('a stream arrives once each, in order, through links that break', async (t) => {
  const here = place(t);
  const shelf = new Shelf();
  const listening = await here.listen({ receiver: () => shelf });
  const remote = here.dial({ name: 'shop' });
  const stream = remote.stream('events');
  let cuts = 0;
  listening.on('link', (peer) => setTimeout(() => cuts++ < 10 && peer._link.socket.destroy(), 5));
  let count = 0;
  async function* items() {
    while (count < 20_000 || cuts < 4) {
      if (++count % 2000 === 0 || count > 20_000) await sleep(3);
      yield { n: count };
    }
  }
  assert.equal(await stream.writeAll(items()), count);
  await stream.flushed();
  assert.deepEqual(shelf.items.map(({ n }) => n), Array.from({ length: count }, (_, n) => n + 1));
  assert.equal(stream.acknowledged, count + 1);
});

test('the listening side sends streams, too', async (t) => {
  const here = place(t);
  const listening = await here.listen({});
  const stream = listening.stream('shop', 'orders');
  await stream.write('first');
  const shelf = new Shelf();
  here.dial({ name: 'shop', service: { receiver: () => shelf } });
  await stream.flushed();
  assert.deepEqual(shelf.items, ['first']);
});

test('a full outbox makes writes wait, and a receiver that waits is not read past its credit', async (t) => {
  const here = place(t);
  let release;
  const taken = [];
  const held = new Promise((resolve) => (release = resolve));
  await here.listen({ receiver: () => ({ position: () => 1, take: (_, items) => (taken.push(...items), held) }) });
  const stream = here.dial().stream('events', { outbox: new MemoryOutbox({ limit: 4 << 20 }) });
  const text = 'x'.repeat(1000);
  let written = 0;
  const writing = (async () => {
    for (; written < 10_000; written++) await stream.write({ text });
  })();
  await sleep(100);
  assert.ok(written < 4500, `${written} of 1 KB in an outbox of 4 MiB`);
  assert.ok(taken.length < 2200, `${taken.length} of 1 KB with a credit of 1 MiB`);
  release();
  await writing;
  await stream.flushed();
  assert.equal(taken.length, 10_000);
});

test('a receiver refuses its stream, for a while or for good, and nothing else', async (t) => {
  const here = place(t);
  const shelf = new Shelf();
  let fails = 2;
  await here.listen({
    ...add,
    receiver: ({ stream }) => {
      if (stream === 'never') throw new RefuseStream('no', 'never');
      if (stream === 'later' && fails-- > 0) throw new RefuseStream('busy', 'later', 100);
      return shelf;
    },
  });
  const remote = here.dial();
  const refusals = [];
  const never = remote.stream('never', { onRefused: ({ code, retryAfter }) => refusals.push([code, retryAfter]) });
  await never.write(1);
  await assert.rejects(never.flushed(), { name: 'StreamFailed', code: 'no', message: 'never' });
  await assert.rejects(never.write(2), { code: 'no' });
  const later = remote.stream('later', { onRefused: ({ code, retryAfter }) => refusals.push([code, retryAfter]) });
  await later.write('kept');
  await later.flushed();
  assert.deepEqual(shelf.items, ['kept']);
  assert.deepEqual(refusals, [['no', undefined], ['busy', 100], ['busy', 100]]);
  assert.deepEqual(await remote.call('add', { a: 1, b: 1 }), { value: 2 });
});

test('without a receiver a stream is refused', async (t) => {
  const here = place(t);
  await here.listen(add);
  const stream = here.dial().stream('events');
  await stream.write(1);
  await assert.rejects(stream.flushed(), { code: 'stream' });
});

test('items that the protocol doesn\'t have are refused where they are written', async (t) => {
  const here = place(t);
  const stream = here.dial().stream('events');
  for (const wrong of [undefined, NaN, () => {}, '\ud800']) await assert.rejects(stream.write(wrong), { code: 'local-protocol' });
  await assert.rejects(stream.write('x'.repeat(1 << 20)), { code: 'too-large' });
  assert.equal(stream.next, 1);
});

test('a link that is lost as soon as it is there does not give who waits for one more time', async (t) => {
  const here = place(t);
  await here.listen(add);
  const remote = here.dial();
  let links = 0;
  remote.on('link', (peer) => {
    links++;
    peer.close();
  });
  const waited = remote.linked({ timeout: 400 }).catch((error) => error);
  assert.ok((await Promise.race([waited, sleep(5000)])) instanceof NotConnected);
  assert.ok(links > 0);
});

// -- a file outbox

test('a file outbox goes on where it was', async (t) => {
  const { folder } = place(t);
  const first = new FileOutbox(`${folder}/outbox`, { segmentBytes: 100 });
  for (let n = 1; n <= 30; n++) assert.equal(first.append(`{"n":${n},"text":"größer"}`), n);
  first.sync();
  assert.throws(() => new FileOutbox(`${folder}/outbox`), { code: 'outbox-taken' });
  first.trim(11);
  const { id } = first;
  first.close();
  const second = new FileOutbox(`${folder}/outbox`, { segmentBytes: 100 });
  assert.deepEqual([second.id, second.next, second.read(30, 1)], [id, 31, ['{"n":30,"text":"größer"}']]);
  assert.ok(second.first > 5 && second.first <= 11);
  second.trim(31);
  assert.ok(fs.readdirSync(`${folder}/outbox`).filter((name) => name.endsWith('.log')).length <= 2);
  second.close();
});

test('an outbox that is opened forces the names of its files to the disk, before it takes an item', (t) => {
  const { folder } = place(t);
  const outbox = `${folder}/outbox`;
  new FileOutbox(outbox).close();
  const synced = [];
  const { fsyncSync } = fs;
  t.mock.method(fs, 'fsyncSync', (file) => {
    synced.push(fs.fstatSync(file).ino);
    fsyncSync(file);
  });
  new FileOutbox(outbox).close();
  assert.ok(synced.includes(fs.statSync(outbox).ino));
});

test('a line that was being written is cut off, at every place; damage elsewhere is found', async (t) => {
  const { folder } = place(t);
  const outbox = `${folder}/outbox`;
  const made = new FileOutbox(outbox);
  made.append('"one"');
  made.append('"two"');
  made.close();
  const file = `${outbox}/0000000000000001.log`;
  const whole = fs.readFileSync(file);
  for (let size = whole.length - 1; size >= whole.length / 2; size--) {
    fs.writeFileSync(file, whole.subarray(0, size));
    const opened = new FileOutbox(outbox);
    assert.deepEqual([opened.next, opened.read(1, 1000)], [2, ['"one"']]);
    opened.close();
  }
  fs.writeFileSync(file, Buffer.concat([Buffer.from('0'), whole.subarray(1)]));
  assert.throws(() => new FileOutbox(outbox), /item 1 is damaged/);
});

test('a file outbox gives the item that fills it its number, and takes no more', (t) => {
  const { folder } = place(t);
  const made = new FileOutbox(`${folder}/outbox`, { limit: 100 });
  let last = 0;
  while (made.room) assert.equal(made.append(`"item ${last + 1}"`), ++last);
  assert.throws(() => made.append('"one more"'), { code: 'outbox-full' });
  assert.equal(made.next, last + 1);
  made.close();
  const opened = new FileOutbox(`${folder}/outbox`, { limit: 100 });
  assert.deepEqual([opened.next, opened.read(last, 1000)], [last + 1, [`"item ${last}"`]]);
  opened.close();
});

test('an item is sent once it is safe from the machine\'s crash, and not before', async () => {
  const sent = [];
  const link = { sendLimit: 1 << 20, paused: false, sendStreamFrame() {}, sendStreamItems: (_, first, items) => sent.push(items) };
  const outgoing = new Outgoing({ frameLimit: 1 << 20 }, (_, work) => work());
  const stream = outgoing.stream('events', {});
  outgoing.linkMade(link);
  outgoing.received(link, { type: 'stream-position', id: stream.id, next: 1, credit: 1 << 20 });
  await stream.write('one');
  outgoing.received(link, { type: 'stream-ack', id: stream.id, next: 1 }); // in the same turn
  assert.deepEqual(sent, []);
  await new Promise((turned) => setImmediate(turned));
  assert.deepEqual(sent, ['["one"]']);
  stream.close();
});

test('a side with a file outbox needs a name', async (t) => {
  const here = place(t);
  const outbox = new FileOutbox(`${here.folder}/outbox`);
  assert.throws(() => here.dial().stream('events', { outbox }), /needs a name/);
  outbox.close();
});

// -- what handlers do to a link

test('an `accept` that fails refuses its peer, and ends nothing else', async (t) => {
  const here = place(t);
  const faults = [];
  let fails = true;
  const accept = () => {
    if (fails) throw new Error('the list of peers is gone');
  };
  const listening = await here.listen(add, { accept });
  listening.on('fault', (error, what) => faults.push(`${what}: ${error.message}`));
  await assert.rejects(here.dial({ failOnRefusal: true }).linked({ timeout: 5000 }), { code: 'not-accepted' });
  assert.match(faults[0], /^accept, of calc-client.*: the list of peers is gone$/);
  fails = false;
  assert.deepEqual(await here.dial().call('add', { a: 2, b: 3 }), { value: 5 });
});

test('a peer that `peerReady` sends away is none of the peers', async (t) => {
  const here = place(t);
  let count = 0;
  const listening = await here.listen({ ...add, peerReady: (peer) => void (count++ || peer.close('later', 'not yet')) });
  const remote = here.dial();
  await once(remote, 'loss');
  assert.deepEqual(await remote.call('add', { a: 2, b: 3 }), { value: 5 });
  assert.deepEqual([count, listening.peers.size], [2, 1]);
});

test('what has come behind a message whose handler closes the link is not handed on', async (t) => {
  const here = place(t);
  const heard = [];
  const note = ({ n }, peer) => {
    heard.push(n);
    peer.close();
  };
  await here.listen({ handlers: { note } });
  const remote = here.dial();
  for (const n of [1, 2, 3]) remote.send('note', { n }); // they are sent in one piece
  await once(remote, 'loss');
  assert.deepEqual(heard, [1]);
});

// -- dialling

test('a server that takes connections, and says nothing of TLS, is given up', { timeout: 10_000 }, async (t) => {
  const server = net.createServer((socket) => socket.on('error', () => {})).listen(0, '127.0.0.1');
  t.after(() => server.close());
  await once(server, 'listening');
  const { setTimeout: real } = globalThis;
  t.mock.method(globalThis, 'setTimeout', (work, after) => real(work, after === 10_000 ? 100 : after));
  const where = { kind: 'tls', path: '', host: '127.0.0.1', port: server.address().port };
  const [error] = await once(connect(where, undefined, () => {}), 'error');
  assert.match(error.message, /no connection within 10 seconds/);
});

test('all inputs in all states of a side that dials', () => {
  const inputs = ['reached', 'failed', 'ready', 'lost', 'due', 'stop'];
  const states = Object.keys(STEPS);
  for (const state of states) {
    for (const input of inputs) {
      const [next, acts] = step(state, input);
      assert.ok(states.includes(next));
      if (next === state) assert.deepEqual(acts, []);
      if (input === 'stop') assert.ok(['closing', 'closed'].includes(next), `${state}: stop`);
      assert.equal(acts.includes('end'), next === 'closed' && state !== 'closed');
    }
  }
});

test('delays grow to their longest, are scattered, and begin again after a link that lasted', () => {
  const far = new Delays(false, () => 1);
  assert.deepEqual(Array.from({ length: 8 }, () => far.next(true)), [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
  far.reset();
  assert.equal(far.next(false), 500);
  const near = new Delays(true, () => 0.5);
  assert.deepEqual(Array.from({ length: 4 }, () => near.next(true)), [250, 500, 1000, 1000]);
  assert.equal(near.next(false), 125);
});
