'use strict';
// Several services at one endpoint.

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');
const { Keys, LinkRefused, LocalProtocolError, NamedKey, Session, dial, listen } = require('../index.cjs');
const { place } = require('./places.cjs');
const { Sessions, settings } = require('./sessions.cjs');

const DOCUMENT = path.join(__dirname, '../../../docs/protocol.md');
const skip = fs.existsSync(DOCUMENT) ? false : 'the document is not here';

test('both ends of one service of several, as docs/protocol.md has it, byte for byte', { skip }, () => {
  const blocks = [...fs.readFileSync(DOCUMENT, 'utf8').matchAll(/^```transcript services=([0-9a-f]+)\n(.*?)^```$/gms)];
  assert.equal(blocks.length, 2);
  for (const [, hex, text] of blocks) {
    const lines = [...text.matchAll(/^\w+: +(.*)$/gm)].map(([, line]) => line);
    const [challenge, hello] = lines.slice(0, 2).map((line) => JSON.parse(line));
    const { nonce, name, incarnation, role, service = 'apiserver' } = hello;
    const takes = { lines: [lines[4]] };
    const key = Buffer.from(hex, 'hex');
    const dialler = new Session('dialler', settings(role, service, { name, incarnation, takes, key }), { nonce, now: 0 });
    dialler.receive(Buffer.from(`${lines[0]}\n`), 0);
    assert.equal(dialler.dataToSend(), `${lines[1]}\n`);
    dialler.receive(Buffer.from(`${lines[2]}\n${lines[3]}\n`), 0);
    assert.equal(dialler.dataToSend(), `${lines[4]}\n`);
    assert.equal(dialler.state, 'ready');
    assert.equal(dialler.peer.role, service);
    assert.equal(dialler.sendLimit, service === 'archive' ? 65536 : 1 << 20);
    const common = { name: 'apiserver-1', incarnation: '92ad77', takes: { lines: [lines[3]] }, key };
    const archive = settings('archive', 'archivist', { ...common, frameLimit: 65536 });
    const ours = settings('apiserver', 'builder', { ...common, others: [archive] });
    const listener = new Session('listener', ours, { nonce: challenge.nonce, now: 0 });
    assert.equal(listener.dataToSend(), `${lines[0]}\n`);
    listener.receive(Buffer.from(`${lines[1]}\n`), 0);
    assert.equal(listener.dataToSend(), `${lines[2]}\n${lines[3]}\n`);
    listener.receive(Buffer.from(`${lines[4]}\n`), 0);
    assert.equal(listener.state, 'ready');
    assert.equal(listener.settings.role, service);
  }
});

const CHALLENGE = { type: 'challenge', versions: [1], role: 'other', name: 'server-1', nonce: 'a1'.repeat(32) };

function challenged(services) {
  const dialler = new Session('dialler', settings('client', 'server'), { nonce: '4f'.repeat(32), now: 0 });
  dialler.receive(Buffer.from(`${JSON.stringify({ ...CHALLENGE, services })}\n`), 0);
  return JSON.parse(dialler.dataToSend());
}

test('a service that is not there is refused, with those that are', () => {
  assert.deepEqual(challenged([{ role: 'scales' }]), {
    type: 'bye',
    code: 'refused',
    reason: 'the peer is other, scales; server is wanted',
  });
  assert.equal(challenged([{ role: 'scales' }, { role: 'server' }]).service, 'server');
});

test('what can be no services', () => {
  const many = Array.from({ length: 17 }, () => ({ role: 'server' }));
  for (const services of [null, 7, [], ['server'], [null], [{}], [{ role: 'SERVER' }], [{ role: 'server', frame_limit: 7 }], many]) {
    assert.equal(challenged(services).code, 'bad-handshake', JSON.stringify(services));
  }
});

test('somebody in between can bring nobody to another service', () => {
  const others = [settings('scales', 'client')];
  const change = (pair, changed) => {
    pair._carry(pair.listener, pair.dialler, pair.dialled);
    const hello = { ...JSON.parse(pair.dialler.dataToSend()), ...changed };
    pair.listened.push(...pair.listener.receive(Buffer.from(`${JSON.stringify(hello)}\n`), 0));
    return pair.listened.at(-1);
  };
  assert.equal(change(new Sessions({ listener: { others } }), {}).event, 'ready');
  assert.equal(change(new Sessions({ listener: { others } }), { service: 'scales' }).code, 'unauthorized');
  assert.equal(change(new Sessions({ listener: { others } }), { service: 'server' }).code, 'unauthorized');
  const wanting = { listener: { others }, dialler: { peerRole: 'scales' } };
  assert.equal(change(new Sessions(wanting), {}).event, 'ready');
  assert.equal(change(new Sessions(wanting), { service: undefined }).code, 'unauthorized');
  const { code, reason } = change(new Sessions(wanting), { service: 'bakery' });
  assert.deepEqual([code, reason], ['refused', 'this is server, scales; bakery is wanted']);
});

const KEYS = [1, 2].map((n) => Buffer.alloc(32, n));
const CALC = { name: 'calc', calls: ['add'], messages: [], streams: [] };
const STORE = { name: 'store', calls: ['put'], messages: [], streams: ['events'] };
const handlers = { add: ({ a, b }) => ({ value: a + b }) };

test('each has its keys, its handlers, its peers and its streams', { timeout: 10_000 }, async (t) => {
  const [kept, left] = [[], []];
  const into = (all) => () => ({ position: () => all.length + 1, take: (_, items) => void all.push(...items) });
  const store = { handlers: { put: () => 'kept' }, receiver: into(kept) };
  const { endpoint } = place(t);
  const keys = new Keys(new NamedKey('k1', KEYS[1], { name: 'clerk' }));
  const accept = ({ name }) => name === 'mallory' && 'no';
  const offers = [
    { interface: CALC, service: { handlers }, calls: STORE },
    { interface: STORE, service: store, keys, accept },
  ];
  const listening = await listen(endpoint, offers, { key: KEYS[0], name: 'both' });
  const made = [listening];
  t.after(() => Promise.all(made.map((each) => each.close())));
  const dialled = (described, options) => {
    const remote = dial(endpoint, described, { random: () => 0.01, failOnRefusal: true, name: 'clerk', ...options });
    made.push(remote);
    return remote;
  };
  const told = [];
  listening.on('link', ({ info }) => told.push(info.role));
  listening.services.get('store').on('link', ({ info }) => told.push(`${info.role} of store`));
  const calc = dialled(CALC, { key: KEYS[0], service: { receiver: into(left), interface: { ...STORE, calls: [] } } });
  assert.deepEqual(await calc.call('add', { a: 1, b: 2 }), { value: 3 });
  const named = new Keys(new NamedKey('k1', KEYS[1]));
  const stored = dialled(STORE, { keys: named });
  assert.equal(await stored.call('put'), 'kept');
  await assert.rejects(dialled('store', { keys: named }).call('add'), { code: 'unknown-type' });
  const stream = stored.stream('events');
  await stream.write({ n: 1 });
  await stream.flushed();
  assert.throws(() => listening.stream('clerk', 'events'), LocalProtocolError);
  const sent = listening.services.get('calc').stream('clerk', 'events');
  await sent.write({ n: 2 });
  await sent.flushed();
  assert.deepEqual([kept, left], [[{ n: 1 }], [{ n: 2 }]]);
  assert.deepEqual([...listening.services].map(([name, { peers }]) => [name, peers.size]), [['calc', 1], ['store', 2]]);
  assert.equal(listening.peers.size, 3);
  const stores = ['store-client', 'store-client of store'];
  assert.deepEqual(told.sort(), ['calc-client', ...stores, ...stores].sort());
  const refused = [
    dialled(STORE, { key: KEYS[1] }),
    dialled(STORE, { key: KEYS[0], name: 'anybody' }),
    dialled(CALC, { keys: named }),
    dialled(STORE, { keys: new Keys(new NamedKey('k1', KEYS[1])), name: 'mallory' }),
    dialled('bakery', { key: KEYS[0] }),
  ];
  for (const each of refused) await assert.rejects(each.linked(), LinkRefused);
});

test('what can not be offered', async (t) => {
  const { endpoint } = place(t);
  const offer = { interface: CALC, service: { handlers } };
  await assert.rejects(listen(endpoint, []), RangeError);
  await assert.rejects(listen(endpoint, [offer, offer]), TypeError);
  await assert.rejects(listen(endpoint, [offer, { ...offer, interface: 'other' }], { role: 'x' }), TypeError);
  const one = { ...offer, key: KEYS[0] };
  await assert.rejects(listen('tcp:0', [one, { ...offer, interface: 'other' }]), /a key is needed/);
});
