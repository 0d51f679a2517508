'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');
const { CallFailed, CallTimedOut, Keys, LocalProtocolError, NamedKey, NotConnected, Session, TooManyCalls } = require('../index.cjs');
const { KEY, Sessions, alone, settings } = require('./sessions.cjs');

const codes = (events) => events.map(({ event }) => event);
const last = (events) => events[events.length - 1];

test('both are ready after the handshake, and know one another, however the bytes are cut', () => {
  for (const cut of [1, 7, 100, Infinity]) {
    const pair = new Sessions({ cut }).pump();
    assert.deepEqual(codes(pair.dialled), ['ready']);
    assert.deepEqual(codes(pair.listened), ['ready']);
    assert.equal(pair.dialler.peer.name, 'server-1');
    assert.equal(pair.listener.peer.name, 'client-1');
  }
});

// -- handshakes, replayed

const transcripts = (file) =>
  fs.readFileSync(file, 'utf8').matchAll(/^```transcript (key|named)=(?:(\w+):)?([0-9a-f]+)\n(.*?)^```$/gms);
const linesOf = (text) => [...text.matchAll(/^(\w+): +(.*)$/gm)].map(([, side, line]) => ({ side, line }));

const DOCUMENT = path.join(__dirname, '../../../docs/protocol.md');
const skip = fs.existsSync(DOCUMENT) ? false : 'the document is not here';

test('a dialler without features, as docs/protocol.md has it, byte for byte', { skip }, () => {
  let count = 0;
  for (const [, kind, , hex, text] of transcripts(DOCUMENT)) {
    const lines = linesOf(text);
    if (kind !== 'key' || lines[1]?.line.includes('features') || !lines[2].line.includes('welcome')) continue;
    const { nonce, name, incarnation } = JSON.parse(lines[1].line);
    const more = { name, incarnation, key: Buffer.from(hex, 'hex') };
    const dialler = new Session('dialler', settings('builder', 'apiserver', more), { nonce, now: 0 });
    dialler.receive(Buffer.from(`${lines[0].line}\n`), 0);
    assert.equal(dialler.dataToSend(), `${lines[1].line}\n`);
    dialler.receive(Buffer.from(`${lines[2].line}\n`), 0);
    assert.equal(dialler.state, 'ready');
    count += 1;
  }
  assert.equal(count, 1);
});

test('both ends without features, byte for byte', () => {
  const blocks = transcripts(path.join(__dirname, 'handshakes.md'));
  let count = 0;
  for (const [, kind, id, hex, text] of blocks) {
    const secret = Buffer.from(hex, 'hex');
    const lines = linesOf(text);
    const hello = JSON.parse(lines[1].line);
    const common = { messages: new Set(), answers: new Set(), key: kind === 'key' ? secret : undefined };
    const listener = new Session(
      'listener',
      settings('apiserver', 'builder', {
        ...common,
        incarnation: '92ad77',
        keys: kind === 'named' ? new Keys(new NamedKey(id, secret, { name: 'builder-1', role: 'builder' })) : undefined,
      }),
      { nonce: JSON.parse(lines[0].line).nonce, now: 0 },
    );
    let said = listener.dataToSend();
    for (const { side, line } of lines) {
      if (side === 'listener') {
        assert.equal(said, `${line}\n`);
        said = '';
      } else {
        listener.receive(Buffer.from(`${line}\n`), 0);
        said += listener.dataToSend();
      }
    }
    assert.equal(said, '');
    if (listener.state === 'ready') {
      const dialler = new Session(
        'dialler',
        settings('builder', 'apiserver', {
          ...common,
          name: hello.name,
          incarnation: hello.incarnation,
          keys: kind === 'named' ? new Keys(new NamedKey(id, secret)) : undefined,
        }),
        { nonce: hello.nonce, now: 0 },
      );
      dialler.receive(Buffer.from(`${lines[0].line}\n`), 0);
      assert.equal(dialler.dataToSend(), `${lines[1].line}\n`);
      dialler.receive(Buffer.from(`${lines[2].line}\n`), 0);
      assert.equal(dialler.state, 'ready');
    }
    count += 1;
  }
  assert.equal(count, 5);
});

// -- who may link

test('another key is refused, by both', () => {
  const pair = new Sessions({ dialler: { key: Buffer.alloc(32) } }).pump();
  assert.deepEqual(last(pair.listened).code, 'unauthorized');
  assert.equal(last(pair.dialled).remote, true);
  assert.match(last(pair.dialled).reason, /do both sides have the same key/);
});

test('a listener that hasn\'t the key is refused by the dialler', () => {
  const pair = new Sessions();
  pair._carry(pair.listener, pair.dialler, pair.dialled);
  const welcome = { type: 'welcome', incarnation: 'x', heartbeat: 8000, mac: '0'.repeat(64) };
  const events = pair.dialler.receive(Buffer.from(`${JSON.stringify(welcome)}\n`), 0);
  assert.equal(last(events).code, 'unauthorized');
});

test('the roles must be the ones that are wanted', () => {
  const pair = new Sessions({ dialler: { peerRole: 'other' } }).pump();
  assert.equal(last(pair.dialled).code, 'refused');
});

test('a version that is not in common', () => {
  const session = new Session('dialler', settings('client', 'server'), { nonce: '4f'.repeat(32), now: 0 });
  const challenge = { type: 'challenge', versions: [2, 3], role: 'server', name: 's', nonce: 'a1'.repeat(32) };
  assert.equal(last(session.receive(Buffer.from(`${JSON.stringify(challenge)}\n`), 0)).code, 'version');
});

test('accept refuses a peer with a reason', () => {
  const pair = new Sessions({ listener: { accept: ({ name }) => name === 'client-1' && 'not you' } }).pump();
  assert.deepEqual([last(pair.dialled).code, last(pair.dialled).reason], ['not-accepted', 'not you']);
});

test('a name that has a key of its own can\'t be had by the shared one', () => {
  const keys = new Keys(new NamedKey('k1', Buffer.alloc(32, 7), { name: 'client-1' }));
  const shared = new Sessions({ listener: { keys } }).pump();
  assert.equal(last(shared.dialled).code, 'refused');
  const own = new Sessions({ listener: { keys }, dialler: { keys: new Keys(new NamedKey('k1', Buffer.alloc(32, 7))) } }).pump();
  assert.equal(own.listener.peer.key, 'k1');
  assert.equal(own.dialler.peer.key, 'k1');
});

test('what isn\'t the handshake ends it at once', () => {
  for (const said of ['GET / HTTP/1.1\r\n', '\x16\x03\x01', '\n', '{"type":"call"}\n', '[]\n', '{"type":"hello"}\n', 'null\n']) {
    const listener = new Session('listener', settings('server', 'client'), { nonce: 'a1'.repeat(32), now: 0 });
    assert.equal(last(listener.receive(Buffer.from(said), 0)).code, 'bad-handshake', said);
  }
  const long = new Session('listener', settings('server', 'client'), { nonce: 'a1'.repeat(32), now: 0 });
  assert.equal(last(long.receive(Buffer.from(`{${' '.repeat(5000)}`), 0)).code, 'frame-too-long');
});

test('a handshake that takes too long', () => {
  const pair = new Sessions();
  assert.equal(pair.listener.nextDeadline(), 10_000);
  assert.deepEqual(pair.listener.tick(9999), []);
  assert.equal(last(pair.listener.tick(10_000)).code, 'handshake-timeout');
});

// -- calls and messages

test('a call is answered, whatever the cuts', () => {
  for (const cut of [1, 3, Infinity]) {
    const pair = new Sessions({ cut }).pump();
    const id = pair.dialler.call('add', { a: 'größer 😀', b: [1, null, { c: true }] }, 1000);
    pair.pump();
    const call = last(pair.listened);
    const request = { type: 'add', a: 'größer 😀', b: [1, null, { c: true }] };
    assert.deepEqual(call, { event: 'call', id, request, credit: 0 });
    pair.listener.answer(id, { value: '😀' });
    pair.pump();
    assert.deepEqual(last(pair.dialled), { event: 'replied', id, reply: { value: '😀' } });
  }
});

test('an error has its code, message and data', () => {
  const pair = new Sessions().pump();
  const id = pair.dialler.call('add', {}, 1000);
  pair.pump();
  pair.listener.refuse(id, 'division', 'by zero', { by: 0 });
  const { error } = last(pair.pump().dialled);
  assert.ok(error instanceof CallFailed);
  assert.deepEqual([error.code, error.message, error.data], ['division', 'by zero', { by: 0 }]);
});

test('a call that isn\'t answered in time is dropped at the other side', () => {
  const pair = new Sessions().pump();
  const id = pair.dialler.call('add', {}, 1000);
  pair.pump();
  assert.equal(pair.dialler.nextDeadline(), 1000);
  const [{ error }] = pair.dialler.tick(1000);
  assert.ok(error instanceof CallTimedOut);
  assert.deepEqual(last(pair.pump().listened), { event: 'dropped', id });
  pair.listener.answer(id, {});
  assert.equal(pair.listener.hasDataToSend, false);
});

test('too many calls: here and there', () => {
  const pair = new Sessions({ dialler: { maxCalls: 2 }, listener: { maxCalls: 1 } }).pump();
  pair.dialler.call('add', {}, 1000);
  pair.dialler.call('add', {}, 1000);
  assert.throws(() => pair.dialler.call('add', {}, 1000), TooManyCalls);
  assert.equal(last(pair.pump().dialled).error.code, 'busy');
});

test('what JSON can\'t hold is refused where it is sent', () => {
  const { session, said } = alone();
  const loop = {};
  loop.loop = loop;
  for (const wrong of [{ a: NaN }, { a: [{ b: -Infinity }] }, { a: '\ud800' }, { '\udc00': 1 }, { a: 1n }, loop]) {
    assert.throws(() => session.send('note', wrong), LocalProtocolError);
    assert.throws(() => session.call('add', wrong, 1), LocalProtocolError);
  }
  assert.throws(() => session.send('reply', {}), LocalProtocolError);
  assert.throws(() => session.send('stream-open', {}), LocalProtocolError);
  assert.equal(said(), '');
  session.send('note', { text: 'null \\ud800 "😀"', none: null });
  assert.equal(JSON.parse(said()).text, 'null \\ud800 "😀"');
});

test('the smaller limit of both holds', () => {
  const pair = new Sessions({ listener: { frameLimit: 5000 } }).pump();
  assert.throws(() => pair.dialler.send('note', { text: 'x'.repeat(5000) }), { code: 'too-large' });
  assert.throws(() => pair.dialler.send('note', { text: '€'.repeat(1700) }), { code: 'too-large' });
  pair.dialler.send('note', { text: 'x'.repeat(4900) });
  assert.equal(last(pair.pump().listened).event, 'message');
});

// -- what a fault costs

test('a fault costs what is at fault, and the link goes on', () => {
  const { session, hear, said } = alone();
  const told = (text) => {
    hear(`${text}\n`);
    const answer = said();
    assert.equal(session.state, 'ready', text);
    return answer && JSON.parse(answer);
  };
  assert.equal(told('{"type":"dance"}').code, 'unknown-type');
  assert.deepEqual(told('{"type":"call","id":1,"request":{"type":"sing"}}').id, 1);
  assert.equal(told('{"type":"call","id":2,"request":[]}').code, 'bad-request');
  assert.equal(told('{"type":"call","id":3}').code, 'bad-request');
  assert.equal(told('{"type":"call","id":4,"request":{').code, 'bad-request');
  assert.equal(told('{"type":"note","text":"\\ud800"}').code, 'bad-message');
  assert.equal(told('{"type":"note","text":').code, 'bad-message');
  const id = session.call('add', {}, 1000);
  said();
  assert.equal(told(`{"type":"error","id":${id},"code":1,"message":"x"}`).code, 'bad-reply');
});

test('one pong for all pings of a chunk', () => {
  const { hear, said } = alone();
  hear('{"type":"ping"}\n'.repeat(1000));
  assert.equal(said(), '{"type":"pong"}\n');
});

test('what breaks the rules of the link ends it', () => {
  const wrong = {
    'bad-message': [
      'nonsense', '', '[]', '1', 'null', '{}', '{"type":1}', '{"type":"drop","id":"one"}', '{"type":"drop","id":0}',
      '{"type":"reply","id":7,"reply":1}', '{"type":"error","code":1,"message":2}', '{"type":"call","id":1.5,"request":{}}',
      '{"type":"hello"}', '{"type":"bye"}', '\ufeff{"type":"pong"}', '{"type":"drop","id":', '{"type":"pong"}{"type":"pong"}',
    ],
    'frame-too-long': ['x'.repeat((1 << 20) + 1)],
  };
  for (const [code, lines] of Object.entries(wrong)) {
    for (const line of lines) {
      const { session, hear } = alone();
      const events = hear(`${line}\n`);
      assert.equal(session.closed?.code, code, `${line.slice(0, 60)}: ${JSON.stringify(events)}`);
      assert.deepEqual(hear('{"type":"ping"}\n'), []);
    }
  }
  const { session } = alone();
  session.receive(Buffer.from([0x7b, 0xff, 0x0a]), 0);
  assert.equal(session.closed.code, 'bad-message');
});

test('an endless line takes no more room than its limit', () => {
  const { session } = alone();
  for (let index = 0; index < 20 && !session.closed; index++) session.receive(Buffer.alloc(1 << 16, 'x'), 0);
  assert.equal(session.closed.code, 'frame-too-long');
});

test('the same call twice ends the link', () => {
  const { session, hear } = alone();
  hear('{"type":"call","id":1,"request":{"type":"add"}}\n{"type":"call","id":1,"request":{"type":"add"}}\n');
  assert.equal(session.closed.code, 'bad-message');
});

// -- time

test('a silent peer is asked, and then taken for dead', () => {
  const { session, said } = alone();
  session.tick(8000);
  session.tick(16_000);
  assert.equal(said(), '{"type":"ping"}\n{"type":"ping"}\n');
  const [closed] = session.tick(24_000);
  assert.deepEqual([closed.code, closed.abrupt], ['silent', true]);
});

test('a process that was stopped doesn\'t count its own pause', () => {
  const { session } = alone();
  session.tick(1_000_000);
  assert.equal(session.state, 'ready');
});

test('while this side doesn\'t read it tells the peer that it lives', () => {
  const { session, said } = alone();
  session.setReading(false, 0);
  for (let now = 8000; now <= 80_000; now += 8000) session.tick(now);
  assert.equal(said(), '{"type":"pong"}\n'.repeat(10));
});

test('after the end nothing can be sent', () => {
  const pair = new Sessions().pump();
  pair.dialler.close('closed', 'the end');
  pair.pump();
  assert.deepEqual([last(pair.listened).code, last(pair.listened).reason, last(pair.listened).remote], ['closed', 'the end', true]);
  assert.throws(() => pair.listener.send('note', {}), NotConnected);
  assert.equal(pair.listener.nextDeadline(), Infinity);
  assert.deepEqual(pair.dialler.close('closed', 'again'), []);
});

test('a key is hidden from logs', () => {
  assert.doesNotMatch(require('node:util').inspect(new NamedKey('k1', KEY)), /Buffer|secret/);
});
