'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const { test } = require('node:test');
const { setTimeout: sleep } = require('node:timers/promises');
const { CallFailed, CallTimedOut, LocalProtocolError, NotConnected, dialPlain, listenPlain } = require('../index.cjs');
const { PlainSession } = require('../lib/plain_session.cjs');
const { place } = require('./places.cjs');

const FORMAT = { typeField: 'type', defaultType: undefined, requestId: 'id', idleTimeout: Infinity };

/** A session in memory, and what it says. */
function session(side, { format, ...more } = {}) {
  const settings = {
    peerRole: 'client',
    frameLimit: 1 << 20,
    maxCalls: 1024,
    messages: new Set(['note']),
    answers: new Set(['ask']),
    format: { ...FORMAT, ...format },
    ...more,
  };
  const made = new PlainSession(side, settings, { now: 0, address: 'unix' });
  const said = () => made.dataToSend().split('\n').filter(Boolean).map((line) => JSON.parse(line));
  return { session: made, said, hear: (...lines) => made.receive(Buffer.from(lines.map((line) => `${line}\n`).join('')), 0) };
}

const kinds = (events) => events.map(({ event }) => event);

test('the transcript of docs/protocol.md, but for the words of what is wrong', (t) => {
  const document = path.join(__dirname, '../../../docs/protocol.md');
  if (!fs.existsSync(document)) return t.skip('the document is not here');
  const [, transcript] = /^```plain\n(.*?)^```$/ms.exec(fs.readFileSync(document, 'utf8'));
  const wrong = (_, kind, { what, n }) => (kind === 'call' && what === undefined && 'no what') || (typeof n === 'string' && 'no n') || '';
  const server = session('listener', { schema: { wrong: (kind, name, value) => wrong(name, kind, value) } });
  const expected = [];
  for (const [, side, line] of transcript.matchAll(/^(\w+): (.*)$/gm)) {
    if (side === 'server') {
      const { message, reason, ...rest } = JSON.parse(line);
      expected.push(rest);
      continue;
    }
    for (const { event, id, request } of server.hear(line)) {
      if (event !== 'call') continue;
      if (request.what === 'refuse') server.session.refuse(id, 'no-such-thing', 'there is no such thing');
      else server.session.answer(id, { answer: `about ${request.what}` });
    }
    server.session.settled(0);
  }
  assert.deepEqual(server.said().map(({ message, reason, ...rest }) => rest), expected);
  assert.equal(server.session.closed.code, 'bad-message');
  return undefined;
});

test('a request without an id is answered before the next line is looked at', () => {
  const server = session('listener');
  const first = server.hear('{"type":"ask","n":1}', '{"type":"ask","n":2}', '{"type":"ask","n":3,"id":"x"}');
  assert.deepEqual(kinds(first), ['call']);
  assert.ok(server.session.isFull);
  server.session.answer(first[0].id, 1);
  const [second] = server.session.settled(0);
  assert.equal(second.request.n, 2);
  server.session.answer(second.id, 2);
  const [third] = server.session.settled(0);
  server.session.answer(third.id, 3);
  assert.deepEqual(server.said(), [{ type: 'reply', reply: 1 }, { type: 'reply', reply: 2 }, { type: 'reply', reply: 3, id: 'x' }]);
  assert.ok(!server.session.isFull);
});

test('lines are cut anywhere, and one without an end has a minute', () => {
  const server = session('listener');
  const bytes = Buffer.from('{"type":"note","text":"größer 😀"}\n{"type":"ask","id":1}\n{"ty');
  const events = [...bytes].flatMap((byte) => server.session.receive(Buffer.from([byte]), 5));
  assert.deepEqual(kinds(events), ['message', 'call']);
  assert.equal(events[0].message.text, 'größer 😀');
  assert.equal(server.session.nextDeadline(), 60_005);
  assert.equal(server.session.tick(60_005)[0].code, 'silent');
});

test('a line has its minute from its own beginning, and while this side reads', () => {
  const server = session('listener', { format: { idleTimeout: 70_000 } });
  const hear = (text, now) => server.session.receive(Buffer.from(text), now);
  hear('{"type":"note"}\n{"ty', 5);
  hear('pe":"note"}\n{"type":"n', 40_000); // another one
  assert.equal(server.session.nextDeadline(), 100_000);
  const [, call] = hear('ote"}\n{"type":"ask"}\n{"type":"note"}\n{"type":"n', 50_000);
  assert.ok(server.session.isFull);
  server.session.setReading(false, 50_000);
  assert.equal(server.session.nextDeadline(), Infinity);
  assert.deepEqual(server.session.tick(500_000), []);
  server.session.answer(call.id, 1);
  server.session.settled(500_000);
  assert.equal(server.session.nextDeadline(), Infinity); // the program may have stopped reading, too
  server.session.setReading(true, 500_000);
  assert.equal(server.session.nextDeadline(), 560_000);
  hear('ote"}\n', 559_999);
  server.session.setReading(false, 560_000);
  assert.equal(server.session.nextDeadline(), Infinity);
  server.session.setReading(true, 900_000);
  assert.equal(server.session.nextDeadline(), 970_000);
  server.session.inputEnded(900_000);
  assert.equal(server.session.state, 'closing');
});

test('the last answers have their time, also of a side that does not read', () => {
  const server = session('listener');
  server.hear('{"type":"ask"}');
  server.session.inputEnded(10);
  server.session.setReading(false, 20);
  assert.equal(server.session.nextDeadline(), 30_010);
  assert.equal(server.session.tick(30_010)[0].code, 'silent');
});

test('a connection without lines is closed, but not while something is at work', () => {
  const server = session('listener', { format: { idleTimeout: 100 } });
  const [call] = server.hear('{"type":"ask","id":1}');
  assert.equal(server.session.nextDeadline(), Infinity);
  server.session.answer(call.id, 1);
  server.said();
  assert.equal(server.session.nextDeadline(), 100);
  assert.deepEqual(server.session.tick(100), []); // it has said something
  assert.equal(server.session.tick(200)[0].code, 'silent');
  const client = session('dialler', { format: { idleTimeout: 100 } });
  client.session.call('sum', {}, 1000);
  assert.equal(client.session.nextDeadline(), 1000);
});

test('what a client takes for an answer', () => {
  const { session: client, said, hear } = session('dialler');
  for (let n = 1; n <= 6; n++) client.call('sum', { n }, 1000);
  assert.deepEqual(said()[5], { type: 'sum', n: 6, id: 6 });
  const lines = [
    '{"type":"reply","id":1,"reply":[1]}',
    '{"id":2,"value":5}',
    '{"id":3,"error":"no such row"}',
    '{"id":4,"error":{"code":"gone","message":"it is gone","data":7}}',
    '{"type":"error","id":5,"code":"busy","message":"later"}',
    '{"type":"note","id":6}',
    '{"type":"reply","id":6}',
  ];
  const events = hear(...lines);
  assert.deepEqual(kinds(events), ['replied', 'replied', 'failed', 'failed', 'failed', 'message', 'failed']);
  assert.deepEqual([events[0].reply, events[1].reply], [[1], { value: 5 }]);
  const errors = events.filter(({ error }) => error).map(({ error: { code, message, data } }) => [code, message, data]);
  assert.deepEqual(errors.slice(0, 3), [['error', 'no such row', undefined], ['gone', 'it is gone', 7], ['busy', 'later', undefined]]);
  assert.equal(errors[3][0], 'bad-reply');
  assert.deepEqual(kinds(hear('{"type":"reply","id":1,"reply":1}', '{"id":99}', 'nonsense', '[]', '{"type":"zzz"}')), Array(4).fill('refused'));
  assert.deepEqual(said(), []); // a client answers nothing but requests
  assert.deepEqual(kinds(hear('{"type":"ask","id":"mine"}')), ['call']);
  assert.equal(hear('{"type":"bye","code":"closed","reason":"enough"}')[0].reason, 'enough');
});

test('members of other names, and bare objects', () => {
  const format = { typeField: 'cmd', requestId: 'seq' };
  const server = session('listener', { format });
  const [call] = server.hear('{"cmd":"ask","seq":3}');
  assert.deepEqual(call.request, { cmd: 'ask', type: 'ask' });
  server.session.answer(call.id, null);
  assert.deepEqual(server.said(), [{ type: 'reply', reply: null, seq: 3 }]);
  const bare = session('listener', { format: { typeField: null, defaultType: 'note' } });
  assert.equal(bare.hear('{"n":1}')[0].message.n, 1);
  bare.session.send('note', { n: 2 });
  assert.deepEqual(bare.said(), [{ n: 2 }]);
});

const service = {
  handlers: {
    ask: ({ n }) => (n < 0 ? Promise.reject(new CallFailed('negative', 'below 0', n)) : { value: n + 1 }),
    wait: () => new Promise(() => {}),
    note: ({ n }, peer) => peer.send('note', { n: n + 1 }),
  },
};
const LISTS = { name: 'calc', calls: ['ask', 'wait'], messages: ['note'], streams: [] };

test('both ends of the package, over a connection that is lost', async (t) => {
  const here = place(t);
  const listening = await here.listenPlain(service, {}, LISTS);
  const heard = [];
  const remote = here.dialPlain({ service: { handlers: { note: ({ n }) => heard.push(n) } } });
  assert.deepEqual(await remote.call('ask', { n: 1 }), { value: 2 });
  await assert.rejects(remote.call('ask', { n: -1 }), { code: 'negative', data: -1 });
  await assert.rejects(remote.call('wait', {}, { timeout: 10 }), CallTimedOut);
  await assert.rejects(remote.call('other', {}), { code: 'unknown-type' });
  remote.send('note', { n: 1 });
  const replies = await Promise.all(Array.from({ length: 1000 }, (_, n) => remote.call('ask', { n })));
  assert.equal(replies[999].value, 1000);
  assert.deepEqual(heard, [2]);
  const failing = assert.rejects(remote.call('wait'), NotConnected);
  const [peer] = listening.peers;
  const lost = once(remote, 'loss');
  peer.close('enough', 'for today');
  await Promise.all([failing, lost]);
  assert.match((await lost)[0], /for today \[enough\]/);
  assert.deepEqual(await remote.call('ask', { n: 5 }), { value: 6 });
  assert.throws(() => remote.stream('events'), LocalProtocolError);
  assert.throws(() => listening.stream('x', 'events'), LocalProtocolError);
  await assert.rejects(remote.streamCall('ask').next(), LocalProtocolError);
  assert.throws(() => dialPlain('unix:s', 'calc', { typeField: null }), TypeError);
  assert.throws(() => dialPlain('parent:', 'calc'), { code: 'bad-endpoint' });
  await assert.rejects(listenPlain('tls:0', 'calc', {}, {}), { code: 'bad-endpoint' });
});

test('a client by hand: lines, a half that is closed, and a server by hand', async (t) => {
  const here = place(t);
  await here.listenPlain(service, {}, LISTS);
  const client = net.connect(`${here.folder}/socket`);
  client.end('{"type":"ask","n":1}\n{"type":"ask","n":2,"id":7}\n{"type":"zzz"}\n');
  let text = '';
  for await (const chunk of client) text += chunk;
  const lines = text.split('\n').filter(Boolean).map((line) => JSON.parse(line));
  const replies = lines.filter(({ type }) => type === 'reply');
  assert.deepEqual(replies, [{ type: 'reply', reply: { value: 2 } }, { type: 'reply', reply: { value: 3 }, id: 7 }]);
  assert.deepEqual(lines.filter(({ code }) => code).map(({ code }) => code), ['unknown-type']);

  const server = net.createServer((socket) => {
    socket.on('data', (data) => {
      for (const line of String(data).split('\n').filter(Boolean)) {
        const { id, n } = JSON.parse(line);
        socket.write(`${JSON.stringify({ id, value: n * 2 })}\n`);
      }
    });
  });
  await new Promise((resolve) => server.listen(`${here.folder}/other`, resolve));
  const remote = dialPlain(`unix:${here.folder}/other`, 'double', { random: () => 0.01 });
  assert.deepEqual(await remote.call('double', { n: 4 }), { value: 8 });
  await remote.close();
  await new Promise((resolve) => server.close(resolve));
});

test('a client that asks without end and reads nothing is not read either', async (t) => {
  const here = place(t);
  let asked = 0;
  await here.listenPlain({ handlers: { ...service.handlers, ask: () => { asked++; return new Promise(() => {}); } } }, {}, LISTS);
  const client = net.connect(`${here.folder}/socket`);
  let sent = 0;
  const line = Buffer.from('{"type":"ask","n":1,"id":1}\n'.repeat(1000));
  while (client.write(line) || (await Promise.race([once(client, 'drain').then(() => true), sleep(200)]))) if (++sent > 2000) break;
  assert.equal(asked, 256);
  assert.ok(sent < 2000, `${sent}`);
  client.destroy();
});
