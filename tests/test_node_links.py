"""The package for Node against this library, over real sockets: calls and streams both ways, and links that break."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec
import trustme
from twisted.internet import reactor as default_reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from tests.node import need_node
from twistedipc.ipc import (
    CallFailed,
    Interface,
    Keys,
    LinkRefused,
    Message,
    NamedKey,
    Offer,
    Peer,
    Request,
    Service,
    StreamedRequest,
    StreamId,
    StreamOf,
    TLSFiles,
    dial,
    dial_plain,
    handles,
    listen,
    listen_plain,
    make_key,
    receives,
)

reactor: Any = default_reactor
PACKAGE = Path(__file__).parent.parent / "packages/node/index.cjs"


class Sum(msgspec.Struct):
    value: float
    text: str = ""


class Add(Request[Sum]):
    a: Annotated[float, msgspec.Meta(ge=-1e22, le=1e22)]  # bounds that JavaScript writes otherwise
    b: Annotated[float, msgspec.Meta(ge=-1000.0)]
    text: str = ""


class Refuse(Request[Sum]):
    pass


class Count(StreamedRequest[Sum]):
    to: int
    fails: bool = False


class Note(Message):
    text: str


class Event(msgspec.Struct):
    n: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    text: str = ""


EVENTS = StreamOf("events", Event)
CALC = Interface("calc", Add, Refuse, Count, Note, streams=[EVENTS])
PLAIN = Interface("calc", Add, Refuse, Note)


class Shelf:
    """Keeps a stream's items in memory."""

    def __init__(self) -> None:
        self.items: list[Event] = []

    def position(self) -> int:
        return len(self.items) + 1

    def take(self, first: int, items: Sequence[Event]) -> None:
        assert first == len(self.items) + 1
        self.items += items


class Sums(Service):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.shelf = Shelf()
        self.links = 0
        self.counted = 0

    @handles(Add)
    def add(self, request: Add, peer: Peer) -> Sum:
        return Sum(request.a + request.b, request.text)

    @handles(Refuse)
    def refuse(self, request: Refuse, peer: Peer) -> Sum:
        raise CallFailed("no", "I won't", {"why": "größer"})

    @handles(Note)
    def note(self, message: Note, peer: Peer) -> None:
        self.notes.append(message.text)

    def peer_ready(self, peer: Peer) -> None:
        self.links += 1


class PlainCalculator(Sums):
    interface = PLAIN


class PlainOther(Sums):
    interface = Interface("other", Add, Refuse, Note)


class Calculator(Sums):
    interface = CALC

    @handles(Count)
    async def count(self, request: Count, peer: Peer) -> AsyncIterator[Sum]:
        try:
            for number in range(1, request.to + 1):
                yield Sum(number, "größer 😀")
            if request.fails:
                raise CallFailed("tired", "enough", [1])
        finally:
            self.counted += 1

    @receives(EVENTS)
    def events(self, stream: StreamId) -> Shelf:
        return self.shelf


class NodeLinks(TestCase):
    timeout: ClassVar[float] = 60

    def setUp(self) -> None:
        self.node = need_node() / "node"
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.endpoint = f"unix:{self.folder}/s"

    async def run_node(self, program: str, **arguments: object) -> Any:
        """Run a program, and return what it has printed, as JSON."""
        script = self.folder / "program.cjs"
        head = f"const ipc = require({json.dumps(str(PACKAGE))});\nconst given = {json.dumps(arguments)};\n"
        script.write_text(f"{head}(async () => {{\n{program}\n}})();\n", "utf-8")
        done: Any = getProcessOutputAndValue(str(self.node), [str(script)], os.environ)
        output, errors, code = await done
        assert code == 0, (output + errors).decode()
        return json.loads(output) if output else None

    async def test_node_asks(self) -> None:
        service = Calculator()
        listening = await listen(reactor, self.endpoint, service)
        said = await self.run_node(
            """
            const remote = ipc.dial(given.endpoint, 'calc', { name: 'from-node' });
            const text = 'größer 😀 \\u2028';
            const sums = await Promise.all([1, 2, 3].map((a) => remote.call('add', { a, b: 0.5, text })));
            remote.send('note', { text });
            const failed = [];
            const wrong = [['refuse', {}], ['add', { a: 'one', b: 2 }], ['other', {}]];
            for (const [type, request] of wrong) {
              await remote.call(type, request).catch(({ code, message, data }) => failed.push([code, message, data]));
            }
            const same = sums.every((sum) => sum.text === text);
            const values = sums.map(({ value }) => value);
            console.log(JSON.stringify({ values, same, failed, info: remote.peer.info }));
            await remote.close();
            """,
            endpoint=self.endpoint,
        )
        self.assertEqual((said["values"], said["same"]), ([1.5, 2.5, 3.5], True))
        self.assertEqual([code for code, *_ in said["failed"]], ["no", "bad-request", "unknown-type"])
        self.assertEqual(said["failed"][0], ["no", "I won't", {"why": "größer"}])
        self.assertEqual(said["info"]["role"], "calc-server")
        self.assertEqual(service.notes, ["größer 😀 \u2028"])
        await listening.close()

    async def test_node_asks_one_of_several_services(self) -> None:
        secret = make_key()
        calculator = Offer(service=Calculator(), keys=Keys(NamedKey("k1", secret, name="from-node")))
        listening = await listen(reactor, "tcp:0:interface=127.0.0.1", [PlainOther(), calculator], key=make_key())
        said = await self.run_node(
            """
            const keys = new ipc.Keys(new ipc.NamedKey('k1', Buffer.from(given.secret, 'hex')));
            const remote = ipc.dial(given.endpoint, 'calc', { name: 'from-node', keys });
            const { value } = await remote.call('add', { a: 1, b: 2 });
            const wrong = ipc.dial(given.endpoint, 'bakery', { keys, failOnRefusal: true });
            const { message } = await wrong.call('add', {}).catch((error) => error);
            console.log(JSON.stringify({ value, message, info: remote.peer.info }));
            await Promise.all([remote.close(), wrong.close()]);
            """,
            endpoint=f"tcp:127.0.0.1:{listening.port}",
            secret=secret.hex(),
        )
        self.assertEqual((said["value"], said["info"]["role"], said["info"]["key"]), (3, "calc-server", "k1"))
        self.assertIn("the peer is other-server, calc-server; bakery-server is wanted", said["message"])
        self.assertEqual(listening.services["calc"].traffic.links, 1)
        await listening.close()

    async def test_node_has_several_services(self) -> None:
        keys = [make_key(), make_key()]
        running = ensureDeferred(
            self.run_node(
                """
                const add = ({ a, b }) => ({ value: a + b });
                const refuse = () => { throw new ipc.CallFailed('no', 'closed'); };
                const note = () => listening.close();
                const other = { handlers: { add, refuse, note } };
                const calc = { handlers: { add: ({ a, b }) => ({ value: a * b }), refuse } };
                const [first, second] = given.keys.map((key) => Buffer.from(key, 'hex'));
                const offers = [{ interface: 'other', service: other }];
                offers.push({ interface: 'calc', service: calc, key: second });
                const listening = await ipc.listen(given.endpoint, offers, { key: first });
                """,
                endpoint=self.endpoint,
                keys=[key.hex() for key in keys],
            )
        )
        other = dial(reactor, self.endpoint, PlainOther.interface, key=keys[0])
        calc = dial(reactor, self.endpoint, PLAIN, key=keys[1])
        self.assertEqual(await other.call(Add(2, 4), timeout=10), Sum(6))
        self.assertEqual(await calc.call(Add(2, 4), timeout=10), Sum(8))
        wrong = dial(reactor, self.endpoint, PLAIN, key=keys[0], fail_on_refusal=True)
        await self.assertFailure(wrong.linked(), LinkRefused)
        for each in (calc, wrong):
            await each.close()
        other.send(Note("stop"))
        await running
        await other.close()

    async def test_node_answers_and_calls_back(self) -> None:
        running = ensureDeferred(
            self.run_node(
                """
                const service = {
                  handlers: {
                    add: async ({ a, b }, peer) => {
                      const { value } = await peer.call('add', { a, b });
                      return { value: value * 2, text: peer.info.name };
                    },
                    refuse: () => { throw new ipc.CallFailed('no', 'not me', [1, null]); },
                    note: (_, peer) => { listening.close(); },
                  },
                };
                const key = Buffer.from(given.key, 'hex');
                const listening = await ipc.listen(given.endpoint, 'calc', service, { key });
                """,
                endpoint=self.endpoint,
                key=(key := make_key()).hex(),
            )
        )
        remote = dial(reactor, self.endpoint, CALC, service=Calculator(), key=key, name="from-python")
        self.assertEqual(await remote.call(Add(2, 3), timeout=10), Sum(10, "from-python"))
        error: Any = await self.assertFailure(remote.call(Refuse()), CallFailed)
        self.assertEqual((error.code, error.message, error.data), ("no", "not me", [1, None]))
        remote.send(Note("stop"))
        await running
        await remote.close()

    async def test_node_asks_for_items(self) -> None:
        service = Calculator()
        listening = await listen(reactor, self.endpoint, service)
        said = await self.run_node(
            """
            const remote = ipc.dial(given.endpoint, 'calc');
            let count = 0;
            for await (const { value, text } of remote.streamCall('count', { to: 20_000 })) {
              if (value !== ++count || text !== 'größer 😀') throw new Error(`${value} after ${count}`);
            }
            let left = 0;
            for await (const { value } of remote.streamCall('count', { to: 1e9 })) if ((left = value) === 5000) break;
            const failed = [];
            for (const request of [{ to: 3, fails: true }, { to: 'x' }]) {
              try {
                for await (const { value } of remote.streamCall('count', request)) failed.push(value);
              } catch ({ code, data }) {
                failed.push(code, data);
              }
            }
            const { value } = await remote.call('add', { a: 1, b: 1 });
            console.log(JSON.stringify({ count, left, failed, value }));
            await remote.close();
            """,
            endpoint=self.endpoint,
        )
        self.assertEqual(said["failed"], [1, 2, 3, "tired", [1], "bad-request", None])
        self.assertEqual((said["count"], said["left"], said["value"]), (20_000, 5000, 2))
        self.assertEqual(service.counted, 3)
        await listening.close()

    async def test_node_answers_by_items(self) -> None:
        running = ensureDeferred(
            self.run_node(
                """
                let stopped = 0;
                const service = {
                  handlers: {
                    add: () => ({ value: 0 }),
                    refuse: () => ({ value: 0 }),
                    count: async function* ({ to, fails }) {
                      try {
                        for (let value = 1; value <= to; value++) yield { value, text: '😀' };
                        if (fails) throw new ipc.CallFailed('tired', 'enough');
                      } finally {
                        stopped++;
                      }
                    },
                    note: async () => {
                      await listening.close();
                      console.log(stopped);
                    },
                  },
                };
                const listening = await ipc.listen(given.endpoint, 'calc', service);
                """,
                endpoint=self.endpoint,
            )
        )
        remote = dial(reactor, self.endpoint, CALC)
        values = [row.value async for row in remote.stream_call(Count(20_000))]
        self.assertEqual(values, list(range(1, 20_001)))
        async with remote.stream_call(Count(10**9)) as rows:
            async for row in rows:
                if row.value == 5000:
                    break
        found: list[Any] = []
        try:
            async for row in remote.stream_call(Count(2, fails=True)):
                found.append(row.value)
        except CallFailed as error:
            found.append(error.code)
        self.assertEqual(found, [1, 2, "tired"])
        self.assertEqual(await remote.call(Add(1, 2), timeout=10), Sum(0))
        remote.send(Note("stop"))
        self.assertEqual(await running, 3)
        await remote.close()

    async def test_each_knows_what_the_other_takes_by_the_schema(self) -> None:
        service = Calculator()
        listening = await listen(reactor, self.endpoint, service)
        said = await self.run_node(
            """
            const described = ipc.fromSchema(given.schema);
            const remote = ipc.dial(given.endpoint, described);
            const peer = await remote.linked();
            const understood = ['add', 'refuse', 'count', 'note', 'events', 'other'].map((name) =>
              [peer.understands(name), peer.understands(name, { exactly: true })]);
            const failed = [];
            for (const request of [{ a: 'one', b: 2 }, { a: 1 }]) {
              await remote.call('add', request).catch(({ code, message }) => failed.push([code, message]));
            }
            const { value } = await remote.call('add', { a: 1, b: 0.5 });
            console.log(JSON.stringify({ understood, failed, value }));
            await remote.close();
            """,
            endpoint=self.endpoint,
            schema=CALC.schema(),
        )
        self.assertEqual(said["understood"], [[True, True]] * 5 + [[False, False]])
        self.assertEqual([code for code, _ in said["failed"]], ["local-protocol"] * 2)
        self.assertIn("$.a must be number", said["failed"][0][1])
        self.assertEqual(said["value"], 1.5)
        await listening.close()

    async def test_python_knows_what_node_takes(self) -> None:
        running = ensureDeferred(
            self.run_node(
                """
                const handlers = {
                  add: () => ({ value: 'wrong' }),
                  refuse: () => ({ value: 0 }),
                  count: function* () { yield { value: 1 }; yield { value: 'x' }; },
                  note: () => listening.close(),
                };
                const receiver = () => ({ position: () => 1, take: () => {} });
                const service = { handlers, receiver };
                const listening = await ipc.listen(given.endpoint, ipc.fromSchema(given.schema), service);
                listening.on('fault', () => {});
                """,
                endpoint=self.endpoint,
                schema=CALC.schema(),
            )
        )
        remote = dial(reactor, self.endpoint, CALC)
        peer = await remote.linked(timeout=30)
        kinds: list[Any] = [Add, Refuse, Count, Note, EVENTS]
        self.assertEqual([peer.understands(kind, exactly=True) for kind in kinds], [True] * 5)
        # Node finds what its own program answers wrongly, and tells nobody else what it was.
        error: Any = await self.assertFailure(remote.call(Add(1, 2), timeout=10), CallFailed)
        self.assertEqual(error.code, "internal")
        found: list[Any] = []
        try:
            async for row in remote.stream_call(Count(2)):
                found.append(row.value)
        except CallFailed as failed:
            found.append(failed.code)
        self.assertEqual(found, [1, "internal"])
        remote.send(Note("stop"))
        await running
        await remote.close()

    async def test_plain_lines_that_node_asks(self) -> None:
        listening = await listen_plain(reactor, self.endpoint, PlainCalculator())
        said = await self.run_node(
            """
            const remote = ipc.dialPlain(given.endpoint, 'calc');
            const { value, text } = await remote.call('add', { a: 1, b: 0.5, text: 'größer 😀' });
            const failed = [];
            for (const [type, request] of [['refuse', {}], ['add', { a: 'one', b: 2 }], ['other', {}]]) {
              await remote.call(type, request).catch(({ code, data }) => failed.push([code, data]));
            }
            console.log(JSON.stringify([value, text, failed]));
            await remote.close();
            """,
            endpoint=self.endpoint,
        )
        failed = [["no", {"why": "größer"}], ["bad-request", None], ["unknown-type", None]]
        self.assertEqual(said, [1.5, "größer 😀", failed])
        await listening.close()

    async def test_plain_lines_that_node_answers(self) -> None:
        running = ensureDeferred(
            self.run_node(
                """
                const described = { name: 'calc', calls: ['add', 'refuse'], messages: ['note'] };
                const handlers = {
                  add: async ({ a, b, text }) => ({ value: a + b, text }),
                  refuse: () => { throw new ipc.CallFailed('no', 'not me', [1, null]); },
                  note: () => void listening.close(),
                };
                const listening = await ipc.listenPlain(given.endpoint, described, { handlers });
                """,
                endpoint=self.endpoint,
            )
        )
        remote = dial_plain(reactor, self.endpoint, PLAIN, random=lambda: 0.01)
        self.assertEqual(await remote.call(Add(2, 3, "größer 😀"), timeout=30), Sum(5, "größer 😀"))
        error: Any = await self.assertFailure(remote.call(Refuse()), CallFailed)
        self.assertEqual((error.code, error.message, error.data), ("no", "not me", [1, None]))
        remote.send(Note("stop"))
        await running
        await remote.close()

    async def test_keys(self) -> None:
        key = make_key()
        named = NamedKey("k1", make_key(), "shop", "calc-client")
        listening = await listen(reactor, self.endpoint, Calculator(), key=key, keys=Keys(named))
        said = await self.run_node(
            """
            const said = [];
            const buffer = (hex) => hex && Buffer.from(hex, 'hex');
            for (const { name, key, id, secret } of given.all) {
              const keys = id && new ipc.Keys(new ipc.NamedKey(id, buffer(secret)));
              const remote = ipc.dial(given.endpoint, 'calc', { name, key: buffer(key), keys, failOnRefusal: true });
              said.push(await remote.call('add', { a: 1, b: 1 }).then(() => remote.peer.info.key, ({ code }) => code));
              await remote.close();
            }
            const other = ipc.dial(given.endpoint, 'other', { key: buffer(given.all[0].key), failOnRefusal: true });
            said.push(await other.call('add', {}).catch(({ code }) => code));
            await other.close();
            console.log(JSON.stringify(said));
            """,
            endpoint=self.endpoint,
            all=[
                {"name": "any", "key": key.hex()},
                {"name": "any", "key": make_key().hex()},
                {"name": "any"},
                {"name": "shop", "id": "k1", "secret": named.secret.hex()},
                {"name": "other", "id": "k1", "secret": named.secret.hex()},
                {"name": "shop", "key": key.hex()},
            ],
        )
        self.assertEqual(said, ["", "unauthorized", "unauthorized", "k1", "refused", "refused", "refused"])
        await listening.close()

    async def test_python_finds_another_key_in_node(self) -> None:
        running = ensureDeferred(
            self.run_node(
                """
                const listening = await ipc.listen(given.endpoint, 'calc', {}, { key: Buffer.alloc(32) });
                const { existsSync } = require('node:fs');
                const timer = setInterval(() => {
                  if (!existsSync(given.done)) return;
                  clearInterval(timer);
                  listening.close();
                }, 20);
                """,
                endpoint=self.endpoint,
                done=str(self.folder / "done"),
            )
        )
        remote = dial(reactor, self.endpoint, CALC, key=make_key(), fail_on_refusal=True)
        error: Any = await self.assertFailure(remote.linked(timeout=10), LinkRefused)
        self.assertEqual(error.code, "unauthorized")
        await remote.close()
        (self.folder / "done").touch()
        await running

    async def test_tls_with_certificates_on_both_sides(self) -> None:
        authority, key = trustme.CA(), make_key()
        authority.cert_pem.write_to_path(self.folder / "authority.pem")
        for side in ("server", "client"):
            certificate = authority.issue_cert("localhost")
            certificate.private_key_pem.write_to_path(self.folder / f"{side}.key")
            for pem in certificate.cert_chain_pems:
                pem.write_to_path(self.folder / f"{side}.pem", append=True)
        files = TLSFiles(*(self.folder / name for name in ("server.pem", "server.key", "authority.pem")))
        listening = await listen(reactor, "tls:0:interface=127.0.0.1", Calculator(), key=key, tls=files)
        said = await self.run_node(
            """
            const key = Buffer.from(given.key, 'hex');
            const file = (name) => `${given.folder}/${name}`;
            const authority = file('authority.pem');
            const both = { certificate: file('client.pem'), key: file('client.key'), authority };
            const server = { certificate: file('server.pem'), key: file('server.key'), authority };
            const handlers = { add: () => ({ value: -1 }) };
            const own = await ipc.listen('tls:0:interface=127.0.0.1', 'calc', { handlers }, { key, tls: server });
            const said = [];
            for (const port of [given.port, own.port]) {
              for (const tls of [both, { authority }, undefined]) {
                const remote = ipc.dial(`tls:localhost:${port}`, 'calc', { key, tls, failOnRefusal: !tls });
                const timeout = tls === both ? 20_000 : 500;
                const called = remote.call('add', { a: 1, b: 2 }, { timeout });
                said.push(await called.then(({ value }) => value, ({ code }) => code));
                await remote.close();
              }
            }
            await own.close();
            console.log(JSON.stringify(said));
            """,
            key=key.hex(),
            folder=str(self.folder),
            port=listening.port,
        )
        self.assertEqual(said, [3, "timed-out", "refused", -1, "timed-out", "refused"])
        await listening.close()

    async def test_a_stream_from_node_through_twenty_destroyed_connections(self) -> None:
        service = Calculator()
        listening = await listen(reactor, self.endpoint, service)
        said = await self.run_node(
            """
            const { once } = require('node:events');
            const remote = ipc.dial(given.endpoint, 'calc', { name: 'shop', random: () => 0.01 });
            const stream = remote.stream('events');
            let cuts = 0;
            for (let n = 1; n <= 20_000; n++) {
              await stream.write({ n, text: 'größer' });
              if (n % 1000 === 500) {
                const peer = await remote.linked();
                const lost = once(remote, 'loss');
                peer._link.socket.destroy();
                await lost;
                cuts++;
              }
            }
            await stream.flushed();
            await remote.close();
            console.log(JSON.stringify({ cuts, acknowledged: stream.acknowledged }));
            """,
            endpoint=self.endpoint,
        )
        self.assertEqual(said, {"cuts": 20, "acknowledged": 20_001})
        self.assertEqual([event.n for event in service.shelf.items], list(range(1, 20_001)))
        self.assertGreater(service.links, 20)
        await listening.close()

    async def test_a_stream_to_node_through_twenty_destroyed_connections(self) -> None:
        running = ensureDeferred(
            self.run_node(
                """
                const got = [];
                let cuts = 0;
                const receiver = () => ({
                  position: () => got.length + 1,
                  take: (first, items) => {
                    if (first !== got.length + 1) throw new Error(`${first} after ${got.length}`);
                    for (const { n } of items) got.push(n);
                    if (cuts < 20 && got.length >= (cuts + 1) * 900) {
                      cuts++;
                      for (const peer of listening.peers) peer._link.socket.destroy();
                    }
                    if (got.length === 20_000) setTimeout(() => listening.close(), 100);
                  },
                });
                const listening = await ipc.listen(given.endpoint, 'calc', { receiver });
                listening.on('loss', () => {});
                const right = () => got.every((n, index) => n === index + 1);
                process.on('exit', () => console.log(JSON.stringify({ cuts, right: right(), count: got.length })));
                """,
                endpoint=self.endpoint,
            )
        )
        remote = dial(reactor, self.endpoint, CALC, name="from-python", random=lambda: 0.01)
        stream = remote.stream(EVENTS)
        for n in range(1, 20_001):
            await stream.write(Event(n, "größer" * 10))
        await stream.flushed()
        await remote.close()
        self.assertEqual(await running, {"cuts": 20, "right": True, "count": 20_000})
