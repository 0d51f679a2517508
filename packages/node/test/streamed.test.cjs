'use strict';

const assert = require('node:assert/strict');
const { test } = require('node:test');
const { setTimeout: sleep } = require('node:timers/promises');
const v8 = require('node:v8');
const vm = require('node:vm');
const { CallFailed, CallTimedOut, LocalProtocolError, NotConnected } = require('../index.cjs');
const { place } = require('./places.cjs');
const { Sessions, alone } = require('./sessions.cjs');

const events = (all, kind) => all.filter(({ event }) => event === kind);
const STREAMED = { dialler: {}, listener: { streamed: new Set(['query']) } };

// -- the protocol

test('items come as far as the credit goes, and the end says how many they were', () => {
  const pair = new Sessions(STREAMED).pump();
  const id = pair.dialler.callForItems('query', { above: 9 }, 100);
  pair.pump();
  const [call] = events(pair.listened, 'call');
  assert.deepEqual(call, { event: 'call', id, request: { type: 'query', above: 9 }, credit: 100 });
  pair.listener.answerItems(id, '[{"text":"größer"},2]');
  pair.dialler.more(id, 7);
  pair.pump();
  assert.deepEqual(events(pair.dialled, 'items'), [{ event: 'items', id, items: [{ text: 'größer' }, 2], size: 23 }]);
  assert.deepEqual(events(pair.listened, 'more'), [{ event: 'more', id, credit: 7 }]);
  pair.listener.answer(id, { items: 2 });
  pair.pump();
  assert.deepEqual(events(pair.dialled, 'replied'), [{ event: 'replied', id, reply: { items: 2 } }]);
  pair.dialler.more(id, 7); // crosses with the end
  assert.equal(pair.dialler.dataToSend(), '');
});

test('a fault costs its call: no credit, no items, items for one reply', () => {
  const pair = new Sessions(STREAMED).pump();
  const id = pair.dialler.call('query', {}, 1000);
  pair.pump();
  assert.equal(events(pair.dialled, 'failed')[0].error.code, 'bad-request');
  for (const wrong of ['"items":[]', '"items":{}', '"more":1']) {
    const { session, hear, said } = alone();
    session.callForItems('query', {}, 100);
    session.dataToSend();
    const [failed] = hear(`{"type":"call-items","id":1,${wrong}}\n`);
    assert.equal(failed.error.code, 'bad-reply', wrong);
    assert.match(said(), /^\{"type":"drop","id":1\}\n\{"type":"error","code":"bad-reply"/);
    assert.deepEqual(hear('{"type":"call-items","id":1,"items":[1]}\n'), []);
    assert.equal(session.state, 'ready');
  }
  const { session, hear, said } = alone();
  session.call('add', {}, 1000);
  session.callForItems('query', {}, 100);
  session.dataToSend();
  assert.equal(hear('{"type":"call-items","id":1,"items":[1]}\n')[0].error.code, 'bad-reply');
  assert.equal(hear('{"type":"reply","id":2,"reply":{"rows":1}}\n')[0].error.code, 'bad-reply');
  assert.match(said(), /"drop","id":1/);
  assert.equal(id, 1);
});

test('what the protocol does not have ends the link', () => {
  const wrong = [
    '{"type":"call-items","id":9,"items":[1]}',
    '{"type":"call-items","id":"x","items":[1]}',
    '{"type":"call-more","id":1,"credit":0}',
    '{"type":"call","id":1,"credit":-1,"request":{"type":"add"}}',
    '{"type":"link-interface","takes":[]}',
  ];
  for (const line of wrong) {
    const { session, hear } = alone();
    hear(`${line}\n`);
    assert.equal(session.closed?.code, 'bad-message', line);
  }
});

// -- on links

const counting = {
  handlers: {
    count: async function* ({ to, fail, size = 0 }) {
      for (let n = 1; n <= to; n++) yield { n, text: 'x'.repeat(size) };
      if (fail) throw new CallFailed('tired', 'that is enough');
    },
    list: () => ({ value: 1 }),
  },
};

test('items both ways, small ones and large ones, once each and in order', async (t) => {
  const here = place(t);
  const listening = await here.listen(counting);
  const remote = here.dial({ service: counting });
  await remote.call('list');
  const [peer] = listening.peers;
  for (const side of [remote, peer]) {
    for (const [to, size] of [[0, 0], [1, 0], [20_000, 0], [40, 100_000]]) {
      let n = 0;
      for await (const item of side.streamCall('count', { to, size })) {
        assert.equal(item.n, ++n);
        assert.equal(item.text.length, size);
      }
      assert.equal(n, to);
    }
  }
});

test('what the program does not take is bounded, and leaving the loop stops the handler', async (t) => {
  const here = place(t);
  let made = 0;
  let ended = false;
  await here.listen({
    handlers: {
      async *endless() {
        try {
          for (;;) yield `${made++}`.padStart(1000);
        } finally {
          ended = true;
        }
      },
    },
  });
  const remote = here.dial();
  const reply = remote.streamCall('endless');
  const first = await reply.next();
  assert.equal(first.value.trim(), '0');
  for (let before = -1; before !== made; await sleep(5)) before = made;
  assert.ok(made * 1000 < 400_000, `${made}`);
  for await (const item of reply) if (item.trim() === '1000') break;
  while (!ended) await sleep(1);
  await assert.doesNotReject(remote.linked());
  assert.deepEqual(await reply.next(), { done: true, value: undefined });
});

test('what ends a streamed reply comes behind its items', async (t) => {
  const here = place(t);
  const aborted = [];
  await here.listen({
    handlers: {
      ...counting.handlers,
      none: async function* (_, __, { signal }) {
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
        aborted.push(signal.aborted);
        yield 1;
      },
      large: function* () {
        yield 1;
        yield 'x'.repeat(2 << 20);
      },
      late: async () => counting.handlers.count({ to: 2 }),
      cut: async function* (_, peer) {
        yield 1;
        await sleep(5);
        peer._link.socket.destroy();
      },
    },
  });
  const remote = here.dial();
  const taken = async (type, request, options) => {
    const items = [];
    try {
      for await (const item of remote.streamCall(type, request, options)) items.push(item.n ?? item);
      return items;
    } catch (error) {
      return [...items, error.code ?? error.name];
    }
  };
  assert.deepEqual(await taken('count', { to: 2, fail: true }), [1, 2, 'tired']);
  assert.deepEqual(await taken('large'), [1, 'too-large']);
  assert.deepEqual(await taken('late'), [1, 2]);
  assert.deepEqual(await taken('list'), ['bad-reply']);
  assert.deepEqual(await taken('other'), ['unknown-type']);
  assert.deepEqual(await taken('none', {}, { timeout: 20 }), ['timed-out']);
  const controller = new AbortController();
  setTimeout(() => controller.abort(), 20);
  assert.deepEqual(await taken('none', {}, { signal: controller.signal }), [DOMException.ABORT_ERR]);
  assert.deepEqual(await taken('cut'), [1, 'not-connected']);
  await assert.rejects(remote.call('count', { to: 1 }), { code: 'bad-request' });
  while (aborted.length < 2) await sleep(1);
});

test('credit that comes before the items do is theirs as well', async (t) => {
  const here = place(t);
  let begin;
  const begun = new Promise((resolve) => (begin = resolve));
  const listening = await here.listen({ handlers: { late: async () => (await begun, counting.handlers.count({ to: 3, size: 1000 })), list: () => 1 } });
  const remote = here.dial();
  const { _link: link } = await remote.linked();
  const whole = new Promise((resolve, reject) => {
    let count = 0;
    const id = link.callForItems('late', {}, 1, { came: (items) => (count += items.length), resolve: () => resolve(count), reject });
    link.more(id, 5000);
    assert.equal(id, 1);
  });
  await remote.call('list'); // behind them
  begin();
  assert.equal(await whole, 3);
  const [peer] = listening.peers;
  assert.equal(peer._link._credits.size, 0);
});

test('one item after the other, and timeouts that are some', async (t) => {
  const here = place(t);
  const remote = here.dial();
  for (const timeout of [NaN, -1, '5', null]) {
    assert.throws(() => remote.streamCall('count', {}, { timeout }), RangeError);
    await assert.rejects(remote.call('count', {}, { timeout }), RangeError);
    await assert.rejects(remote.linked({ timeout }), RangeError);
  }
  const reply = remote.streamCall('count', { to: 1 });
  const first = assert.rejects(reply.next(), NotConnected);
  await assert.rejects(reply.next(), LocalProtocolError);
  await remote.close();
  await first;
});

test('without a link it waits for one, as long as it may', async (t) => {
  const here = place(t);
  const remote = here.dial();
  await assert.rejects(remote.streamCall('count', { to: 1 }, { timeout: 20 }).next(), CallTimedOut);
  const waiting = remote.streamCall('count', { to: 1 }).next();
  await here.listen(counting);
  assert.equal((await waiting).value.n, 1);
});

// -- a reply that is forgotten

v8.setFlagsFromString('--expose-gc');
const gc = vm.runInNewContext('gc');

/** Wait until something is so, which takes collections of garbage. */
async function collectedUntil(isSo) {
  for (let round = 0; !isSo(); round++) {
    if (round > 500) throw new Error('it is kept');
    gc();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test('a reply that the program has forgotten drops its call', { timeout: 30_000 }, async (t) => {
  const here = place(t);
  let stopped = 0;
  await here.listen({
    handlers: {
      query: async function* (_, __, { signal }) {
        signal.addEventListener('abort', () => (stopped += 1));
        for (let n = 0; ; n++) yield { n };
      },
    },
  });
  const remote = here.dial();
  assert.deepEqual(await remote.streamCall('query', {}).next(), { done: false, value: { n: 0 } });
  await collectedUntil(() => stopped === 1);
  const kept = remote.streamCall('query', {});
  for (let n = 0; n < 20_000; n++) assert.equal((await kept.next()).value.n, n);
  gc();
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal((await kept.next()).value.n, 20_000);
  assert.equal(stopped, 1);
  await kept.return();
});

test('a reply whose next item is waited for is not forgotten', { timeout: 30_000 }, async (t) => {
  const here = place(t);
  let give;
  const given = new Promise((resolve) => (give = resolve));
  await here.listen({
    handlers: {
      query: async function* () {
        await given;
        yield { n: 1 };
      },
    },
  });
  const remote = here.dial();
  await remote.linked();
  const next = remote.streamCall('query', {}).next();
  for (let round = 0; round < 20; round++) {
    gc();
    await new Promise((resolve) => setImmediate(resolve));
  }
  give();
  assert.deepEqual(await next, { done: false, value: { n: 1 } });
});
