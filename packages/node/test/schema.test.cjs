'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const { test } = require('node:test');
const { LocalProtocolError, StreamFailed, fromSchema } = require('../index.cjs');
const { Catalogue, Introduced } = require('../lib/catalogue.cjs');
const { place } = require('./places.cjs');
const { PlainSession } = require('../lib/plain_session.cjs');
const { Sessions } = require('./sessions.cjs');

const integer = { type: 'integer', minimum: 0 };
const [NOTE, ADD, SUM, QUERY, ROW] = ['1', '2', '3', '4', '5'].map((digit) => digit.repeat(16));
const tagged = (name, properties, required = Object.keys(properties)) => ({
  title: name,
  type: 'object',
  properties: { type: { enum: [name] }, ...properties },
  required: ['type', ...required],
});

/** As `python -m twistedipc.ipc dump` prints it. */
const DUMPED = {
  format: 1,
  interface: 'shop',
  messages: { note: { $ref: '#/$defs/Note' } },
  requests: { add: { request: { $ref: '#/$defs/Add' }, reply: { $ref: '#/$defs/Sum' } } },
  streamed: { query: { request: { $ref: '#/$defs/Query' }, item: { $ref: '#/$defs/Row' } } },
  streams: { events: { $ref: '#/$defs/Row' } },
  takes: [['message', 'note', NOTE], ['call', 'add', ADD, SUM], ['items', 'query', QUERY, ROW], ['stream', 'events', ROW], ['later', 'x']],
  $defs: {
    Note: tagged('note', { text: { type: 'string', maxLength: 5, default: '' } }, []),
    Add: tagged('add', { a: integer, b: { anyOf: [integer, { type: 'null' }] } }),
    Sum: { title: 'Sum', type: 'object', properties: { value: integer }, required: ['value'] },
    Query: tagged('query', { above: integer }),
    Row: { title: 'Row', type: 'object', properties: { n: integer, inner: { type: 'array', items: { $ref: '#/$defs/Row' } } }, required: ['n'] },
  },
};
const SHOP = fromSchema(DUMPED);

test('values are checked by what msgspec writes of their types', () => {
  const cases = [
    [{ type: 'integer' }, [0, -5, 1e15], [1.5, '1', true, null]],
    [{ type: 'number', exclusiveMinimum: 0, multipleOf: 0.5 }, [0.5, 3], [0, -1, 0.7, NaN, Infinity]],
    [{ type: ['string', 'null'] }, ['', null], [0, {}]],
    [{ enum: ['a', 3, null] }, ['a', 3, null], ['b', '3', false]],
    [{ const: 7 }, [7], [8]],
    [{ type: 'string', minLength: 1, maxLength: 2, pattern: '^[a-z😀]+\\Z' }, ['a', '😀😀'], ['', 'abc', 'A']],
    [{ type: 'string', format: 'date-time' }, ['2026-01-02T00:00:00Z', '2026-01-02 10:00:00.5+01:00'], ['yesterday', '2026-01-02']],
    [{ type: 'string', format: 'date' }, ['2026-01-02'], ['2026-1-2']],
    [{ type: 'string', format: 'uuid' }, ['00000000-0000-0000-0000-000000000001'], ['1']],
    [{ type: 'string', format: 'duration' }, ['PT90S', '-P1DT2H'], ['P', '90']],
    [{ type: 'string', format: 'decimal' }, ['1.10', '-3', '1e5'], ['one', '']],
    [{ type: 'string', contentEncoding: 'base64' }, ['/w==', ''], ['/w=', '?']],
    [{ type: 'array', items: { type: 'integer' }, minItems: 1, maxItems: 2 }, [[1], [1, 2]], [[], [1, 2, 3], ['1'], {}]],
    [{ type: 'array', prefixItems: [{ type: 'string' }, { type: 'integer' }], items: false, minItems: 2 }, [['a', 1]], [['a'], ['a', 1, 2], [1, 1]]],
    [{ type: 'object', additionalProperties: { type: 'integer' }, propertyNames: { pattern: '^x' } }, [{}, { x: 1 }], [{ x: 'a' }, { y: 1 }, [], null]],
    [{ type: 'object', properties: { a: { type: 'integer' } }, additionalProperties: false }, [{ a: 1 }, {}], [{ a: 1, b: 2 }]],
    [{ anyOf: [{ type: 'integer' }, { $ref: '#/$defs/Row' }] }, [1, { n: 1, inner: [{ n: 2, more: 1 }] }], [{ n: 1, inner: [{ n: -2 }] }, 'x']],
    [{}, [1, null, []], []],
  ];
  for (const [part, right, wrong] of cases) {
    const { schema } = fromSchema({ ...DUMPED, messages: { x: part } });
    for (const value of right) assert.equal(schema.wrong('message', 'x', value), '', JSON.stringify([part, value]));
    for (const value of wrong) assert.notEqual(schema.wrong('message', 'x', value), '', JSON.stringify([part, value]));
  }
  assert.match(SHOP.schema.wrong('call', 'add', { type: 'add', a: 1, b: 'x' }), /\$\.b must be/);
  assert.match(SHOP.schema.wrong('call', 'add', { type: 'add', a: 1 }), /the field `b` is missing/);
  assert.throws(() => fromSchema({ name: 'x' }), /no schema of an interface/);
});

const service = (more = {}) => ({
  handlers: { add: ({ a, b }) => ({ value: a + (b ?? 0) }), note: () => {}, query: function* () { yield { n: 1 }; yield { n: -1 }; }, ...more },
  receiver: () => ({ position: () => 1, take: () => {} }),
});

test('what is wrong is refused where it was made, and where it comes', async (t) => {
  const here = place(t);
  const faults = [];
  const listening = await here.listen(service(), {}, SHOP);
  listening.on('fault', ({ message }) => faults.push(message));
  const strict = here.dial({}, SHOP);
  const loose = here.dial({}, 'shop');
  assert.deepEqual(await strict.call('add', { a: 1, b: null }), { value: 1 });
  await assert.rejects(strict.call('add', { a: -1, b: 0 }), LocalProtocolError);
  await assert.rejects(loose.call('add', { a: -1, b: 0 }), { code: 'bad-request', message: 'add: $.a must be at least 0, and not -1' });
  assert.throws(() => strict.send('note', { text: 1 }), LocalProtocolError);
  const told = once(loose, 'fault');
  loose.send('note', { text: 1 });
  assert.equal((await told)[0].code, 'bad-message');
  await assert.rejects(strict.stream('events').write({ n: 'x' }), LocalProtocolError);
  const items = [];
  await assert.rejects(async () => { for await (const { n } of strict.streamCall('query', { above: 1 })) items.push(n); }, { code: 'internal' });
  assert.deepEqual(items, [1]);
  const stream = loose.stream('events');
  await stream.writeAll([{ n: 1 }, { n: 2 }, { n: 'x' }, { n: 4 }]);
  await assert.rejects(stream.flushed(), (error) => error instanceof StreamFailed && error.code === 'bad-item');
  assert.equal(stream.acknowledged, 3);
  assert.ok(faults.some((message) => /isn't what was declared/.test(message)));
});

test('an answer that is not what was declared is an error for its caller', async (t) => {
  const here = place(t);
  await here.listen(service({ add: () => ({ value: 'x' }) }), {}, 'shop');
  const remote = here.dial({}, SHOP);
  await assert.rejects(remote.call('add', { a: 1, b: 1 }), { code: 'bad-reply' });
  const items = [];
  await assert.rejects(async () => { for await (const { n } of remote.streamCall('query', { above: 1 })) items.push(n); }, { code: 'bad-reply' });
  assert.deepEqual(items, [1]);
  assert.equal(remote.peer.understands('add'), true);
});

test('what is nested without end costs its call and no process', () => {
  const { schema } = SHOP;
  let row = '{"n":1,"inner":[]}';
  const depth = 20_000;
  row = '{"n":1,"inner":['.repeat(depth) + row + ']}'.repeat(depth);
  assert.match(schema.wrong('stream', 'events', JSON.parse(row)), /nested too deeply/);
  const tree = fromSchema({ ...DUMPED, requests: { add: { request: tagged('add', { row: { $ref: '#/$defs/Row' } }), reply: {} } } }).schema;
  const pair = new Sessions({ listener: { schema: tree }, dialler: { askedSchema: tree } }).pump();
  assert.equal(pair.listener.receive(Buffer.from(`{"type":"call","id":1,"request":{"type":"add","row":${row}}}\n`), 0).length, 0);
  assert.match(pair.listener.dataToSend(), /"bad-request","message":"add: it is nested too deeply/);
  const format = { typeField: 'type', defaultType: undefined, requestId: 'id', idleTimeout: Infinity };
  const settings = { ...pair.listener.settings, format, schema: tree };
  const plain = new PlainSession('listener', settings, { now: 0, address: 'unix' });
  plain.receive(Buffer.from(`{"type":"add","id":1,"row":${row}}\n`), 0);
  assert.match(plain.dataToSend(), /"bad-request"/);
  assert.deepEqual([pair.listener.state, plain.state], ['ready', 'ready']);
  assert.throws(() => pair.dialler.call('add', { row: JSON.parse(row) }, 1000), LocalProtocolError);
  const rows = fromSchema({ ...DUMPED, requests: { add: { request: {}, reply: { $ref: '#/$defs/Row' } } } }).schema;
  assert.match(rows.wrongAnswer('call', 'add', JSON.parse(row)), /nested too deeply/);
});

test('a pattern that JavaScript does not have is told at the beginning, wherever it is', () => {
  const odd = { type: 'string', pattern: '(?P<year>[0-9]+)' };
  assert.throws(() => fromSchema({ ...DUMPED, messages: { x: odd } }), /a pattern of the schema.*\(\?P<year>/);
  const rows = { ...DUMPED.$defs, Note: tagged('note', { text: { type: 'array', items: { anyOf: [odd, { type: 'null' }] } } }) };
  assert.throws(() => fromSchema({ ...DUMPED, $defs: rows }), TypeError);
  const large = fromSchema({ ...DUMPED, messages: { x: { type: 'string', contentEncoding: 'base64' } } }).schema;
  assert.equal(large.wrong('message', 'x', 'A'.repeat(64 << 20)), '');
  for (const text of ['A', 'AA=', 'A===', 'AAAA====', 'AA==AA==', 'AAAAA===']) assert.notEqual(large.wrong('message', 'x', text), '', text);
});

test('each side knows what the other takes', async (t) => {
  const here = place(t);
  await here.listen(service(), {}, SHOP);
  const remote = here.dial({}, SHOP);
  const peer = await remote.linked();
  assert.deepEqual(peer.info.features, ['interface']);
  for (const name of ['add', 'note', 'query', 'events']) assert.ok(peer.understands(name, { exactly: true }), name);
  assert.ok(!peer.understands('sub'));
  assert.ok(!peer.understands('add', { kind: 'message' }));
  const other = structuredClone(DUMPED);
  other.takes[1][3] = NOTE;
  other.requests.sub = other.requests.add;
  const newer = await here.dial({}, fromSchema(other)).linked();
  assert.ok(newer.understands('add') && !newer.understands('add', { exactly: true }));
  assert.ok(!newer.understands('sub') && newer.understands('note', { exactly: true }));
  const unknowing = await here.dial({}, 'shop').linked();
  assert.ok(unknowing.understands('add') && !unknowing.understands('add', { exactly: true }));
  // Of a dump that has none, as older ones, no fingerprint is known: neither here nor, by this side's words, there.
  const { takes, ...older } = DUMPED;
  assert.equal(fromSchema(older).schema.fingerprints('call', 'add'), undefined);
  const one = await here.dial({}, fromSchema(older)).linked();
  assert.ok(one.understands('add') && !one.understands('add', { exactly: true }));
});

test('fingerprints are those of the dump, and nothing else', () => {
  assert.deepEqual(SHOP.schema.fingerprints('call', 'add'), [ADD, SUM]);
  assert.deepEqual(SHOP.schema.fingerprints('stream', 'events'), [ROW]);
  assert.equal(SHOP.schema.fingerprints('message', 'add'), undefined);
  for (const takes of [null, {}, 'x', [['message', 'note']], [['message', 'note', 'short']], [['call', 'add', ADD]], [5]]) {
    assert.throws(() => fromSchema({ ...DUMPED, takes }), /the fingerprints of the schema .*are none/, JSON.stringify(takes));
  }
});

test('a long list of what is taken comes in several lines, and too much of it ends the link', () => {
  const rows = Array.from({ length: 2048 }, (_, n) => ['message', `m${n}`, '0123456789abcdef']);
  const takes = new Catalogue(rows);
  assert.ok(takes.lines.length > 10 && takes.lines.every((line) => line.length < 4096));
  const pair = new Sessions({ listener: { takes }, dialler: { takes: new Catalogue([]) }, cut: 1000 }).pump();
  assert.ok(pair.dialler.takes.has('message', 'm2047', ['0123456789abcdef']));
  assert.equal(pair.listener.takes.has('message', 'x'), false);
  const untold = new Sessions({ listener: { takes } }).pump();
  assert.deepEqual([untold.dialler.state, untold.dialler.takes, untold.dialler.peer.features], ['ready', undefined, []]);
  const introduced = new Introduced();
  introduced.add({ takes: [['later', 'x'], ['message', 'note', '0'.repeat(16), 'more']], more: true });
  for (const takes of [[['message', '', '0'.repeat(16)]], [['call', 'x', '0'.repeat(16)]], [['stream', 'x', '0']], Array(2048).fill(['later'])]) {
    assert.throws(() => introduced.add({ takes }), { code: 'bad-handshake' });
  }
  assert.throws(() => introduced.add({ takes: [], more: true }), { code: 'bad-handshake' });
});
