"""`twistedipc.ipc.dial` and `twistedipc.ipc.listen` on real sockets: UNIX, TCP and TLS."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import trustme
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as global_reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError, ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import ILogObserver, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from tests.ipc_example import Ask, Note, Recorder, Told, apiserver, builder
from twistedipc.ipc import Interface, LinkRefused, Request, Service, dial, handles, listen
from twistedipc.ipc.connections.eager import send_at_once
from twistedipc.ipc.connections.peer import Application, Peer
from twistedipc.ipc.links.dial import (
    LASTING,
    LONGEST_DELAY,
    LONGEST_LOCAL_DELAY,
    UNREACHED_LOCAL_DELAY,
    Delays,
    DialService,
    dial_links,
)
from twistedipc.ipc.links.listen import ListenService, listen_for_links
from twistedipc.ipc.places.endpoints import LinkReactor, TLSFiles
from twistedipc.ipc.wire.errors import BadEndpoint, NotConnected
from twistedipc.ipc.wire.settings import SessionSettings

reactor = cast(LinkReactor, global_reactor)


class Hailed(msgspec.Struct):
    pass


class Hail(Request[Hailed]):
    pass


GREETER = Interface("greeter", Hail)


class Greeter(Service):
    interface = GREETER

    @handles(Hail)
    def hail(self, request: Hail, peer: Peer) -> Hailed:
        return Hailed()


class Arrivals:
    """An application factory that can be waited for."""

    def __init__(self) -> None:
        self.all: list[Recorder] = []
        self._waiting: list[Deferred[Recorder]] = []

    def __call__(self, peer: Peer) -> Application:
        recorder = Recorder(peer)
        self.all.append(recorder)
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(recorder)
        return recorder

    def next(self) -> Deferred[Recorder]:
        """The next one to be made."""
        deferred: Deferred[Recorder] = Deferred()
        self._waiting.append(deferred)
        return deferred


async def until(condition: Callable[..., object], *arguments: object) -> None:
    """Let the reactor turn until the condition holds; the test's own time limit ends it if it never does."""
    while not condition(*arguments):
        await deferLater(cast(Any, reactor), 0.002, lambda: None)


class Stranger(Protocol):
    """Connects and says something else."""

    def __init__(self) -> None:
        self.received = b""
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: object = None) -> None:
        self.lost = True


def was_lost(end: Recorder | Stranger) -> bool:
    return bool(end.lost)


class SocketTestCase(TestCase):
    timeout = 180  # seconds: a deadline, never a wait

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ipc"))  # short, for UNIX sockets
        self.here, self.there = Arrivals(), Arrivals()
        self.failures: list[str] = []  # why attempts have failed and links have ended

    def tearDown(self) -> None:
        for path in self.folder.iterdir():
            path.unlink()
        self.folder.rmdir()

    async def stop(self, service: DialService | ListenService) -> None:
        if service.running:
            await service.stopService()

    def listening(self, endpoint: str, settings: SessionSettings | None = None, **options: Any) -> ListenService:
        service = listen_for_links(reactor, endpoint, settings or apiserver(), self.there, **options)
        service.startService()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.stop(service)))
        return service

    def dialling(self, endpoint: str, settings: SessionSettings | None = None, **options: Any) -> DialService:
        # Scattered to a hundredth: reconnecting in milliseconds.
        service = dial_links(
            reactor,
            endpoint,
            settings or builder(),
            self.here,
            random=lambda: 0.01,
            failed=self.failures.append,
            **options,
        )
        service.startService()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.stop(service)))
        return service

    def certificate(self, name: str, authority: trustme.CA, trusted: trustme.CA | None = None) -> TLSFiles:
        issued = authority.issue_cert(name)
        paths = [self.folder / f"{len(list(self.folder.iterdir()))}-{part}.pem" for part in ("cert", "key", "ca")]
        for index, pem in enumerate(issued.cert_chain_pems):
            pem.write_to_path(paths[0], append=index > 0)
        issued.private_key_pem.write_to_path(paths[1])
        (trusted or authority).cert_pem.write_to_path(paths[2])
        return TLSFiles(*paths)

    def linked_times(self, times: int) -> bool:
        return len(self.here.all) == len(self.there.all) == times

    async def converse(self) -> tuple[Recorder, Recorder]:
        """Wait for a link, and use it."""
        await until(lambda: self.here.all and self.there.all)
        ours, theirs = self.here.all[-1], self.there.all[-1]
        self.assertEqual(await ours.peer.call(Ask("it"), 5), Told("about it"))
        self.assertEqual(await theirs.peer.call(Ask("that"), 5), Told("about that"))
        ours.peer.send_many([Note(n, "ü" * 100) for n in range(2000)])
        await until(lambda: len(theirs.messages) == 2000)
        self.assertEqual([note.n for note in theirs.messages], list(range(2000)))
        return ours, theirs


class UNIXTests(SocketTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = self.folder / "link"
        self.endpoint = f"unix:{self.path}"

    async def test_link(self) -> None:
        self.listening(self.endpoint, apiserver(key=None))
        self.dialling(self.endpoint, builder(key=None))
        ours, _ = await self.converse()
        self.assertEqual(ours.peer.info.address, "unix")
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    async def test_either_may_come_first_and_either_may_come_back(self) -> None:
        self.dialling(self.endpoint)
        for _ in range(3):
            arrives = self.there.next()
            service = self.listening(self.endpoint)
            theirs = await arrives
            await until(lambda: len(self.here.all) == len(self.there.all))
            ours = self.here.all[-1]
            self.assertEqual(await ours.peer.call(Ask("it"), 5), Told("about it"))
            await self.stop(service)
            self.assertEqual(theirs.lost, ["the peer is stopping [closed]"])
            await until(was_lost, ours)
            self.assertEqual(ours.lost, ["the peer said: the peer is stopping [closed]"])

    async def test_stopping_the_dialler_waits_for_the_end(self) -> None:
        self.listening(self.endpoint)
        service = self.dialling(self.endpoint)
        ours, theirs = await self.converse()
        asked = theirs.peer.call(Ask("later"), 60)
        await until(lambda: ours.pending)
        await service.stopService()
        self.assertEqual(ours.lost, ["the peer is stopping [closed]"])
        await until(lambda: theirs.lost)
        with self.assertRaises(NotConnected):
            await asked
        self.assertEqual(ours.cancelled, 1)
        self.assertEqual(len(self.here.all), 1)
        service.startService()
        await until(lambda: len(self.here.all) == 2)

    async def test_a_stale_socket_is_removed(self) -> None:
        left = socket.socket(socket.AF_UNIX)
        left.bind(str(self.path))
        left.close()
        self.listening(self.endpoint)
        self.dialling(self.endpoint)
        await self.converse()

    def test_a_socket_that_is_used_is_left_alone(self) -> None:
        self.listening(self.endpoint)
        other = listen_for_links(reactor, self.endpoint, apiserver(), self.there)
        with self.assertRaisesRegex(BadEndpoint, "somebody listens there already"):
            other.startService()
        self.assertTrue(self.path.is_socket())

    def test_what_isnt_a_socket_is_left_alone(self) -> None:
        self.path.write_text("precious")
        service = listen_for_links(reactor, self.endpoint, apiserver(), self.there)
        with self.assertRaisesRegex(BadEndpoint, "left alone"):
            service.startService()
        self.assertEqual(self.path.read_text(), "precious")

    def test_a_folder_that_isnt_there(self) -> None:
        service = listen_for_links(reactor, f"unix:{self.folder}/no/link", apiserver(), self.there)
        with self.assertRaisesRegex(BadEndpoint, "can't listen there"):
            service.startService()

    async def test_other_users_are_refused_on_both_sides(self) -> None:
        nobody = frozenset({os.getuid() + 1})
        service = self.listening(self.endpoint, uids=nobody)
        stranger = Stranger()
        await connectProtocol(UNIXClientEndpoint(reactor, str(self.path)), stranger)
        await until(lambda: stranger.lost)
        self.assertIn(b"isn't allowed at this socket", stranger.received)
        await self.stop(service)
        self.listening(self.endpoint)
        self.dialling(self.endpoint, uids=nobody)
        await until(lambda: len(self.failures) >= 2)
        self.assertEqual((self.here.all, self.there.all), ([], []))

    async def test_a_slow_reader(self) -> None:
        self.listening(self.endpoint)
        self.dialling(self.endpoint)
        ours, theirs = await self.converse()
        theirs.peer.pause_reading()
        sent = 0
        while not ours.peer.paused:
            ours.peer.send(Note(sent, "x" * 10_000))
            sent += 1
            await until(lambda: True)
            await deferLater(cast(Any, reactor), 0, lambda: None)
        for _ in range(50):
            ours.peer.send(Note(sent, "x" * 10_000))
            sent += 1
        theirs.peer.resume_reading()
        await until(lambda: len(theirs.messages) == 2000 + sent)
        self.assertEqual([note.n for note in theirs.messages[2000:]], list(range(sent)))
        await until(lambda: not ours.peer.paused)
        self.assertEqual(ours.pauses[-1], "resumed")


class TCPTests(SocketTestCase):
    def port(self, service: ListenService) -> int:
        return cast(int, cast(Any, service.host).port)

    async def test_link(self) -> None:
        service = self.listening("tcp:0")
        self.dialling(f"tcp:localhost:{self.port(service)}")
        ours, _ = await self.converse()
        self.assertEqual(ours.peer.info.address, f"127.0.0.1:{self.port(service)}")
        link = cast(Any, ours.peer)._link
        self.assertTrue(link.transport.getTcpNoDelay())

    async def test_a_port_that_is_taken(self) -> None:
        service = self.listening("tcp:0")
        other = listen_for_links(reactor, f"tcp:{self.port(service)}", apiserver(), self.there)
        with self.assertRaisesRegex(BadEndpoint, "can't listen there"):
            other.startService()
        self.assertRaises(RuntimeError, lambda: other.host)

    async def test_the_wrong_key_is_tried_again_later_and_later(self) -> None:
        service = self.listening("tcp:0", apiserver(key=b"another key, also 32 bytes long!"))
        began = time.monotonic()
        self.dialling(f"tcp:127.0.0.1:{self.port(service)}")
        await until(lambda: len(self.failures) >= 4)
        self.assertEqual((self.here.all, self.there.all), ([], []))
        self.assertGreaterEqual(time.monotonic() - began, 0.01 * (0.5 + 1 + 2))

    async def stranger(self, service: ListenService, data: bytes) -> Stranger:
        stranger = Stranger()
        await connectProtocol(TCP4ClientEndpoint(cast(Any, reactor), "127.0.0.1", self.port(service)), stranger)
        assert stranger.transport is not None
        if data:
            stranger.transport.write(data)
        return stranger

    async def test_strangers(self) -> None:
        service = self.listening("tcp:0")
        for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"\0" * 9000, b"\n", b"{" * 9000):
            stranger = await self.stranger(service, data)
            await until(was_lost, stranger)
            challenge, bye = stranger.received.splitlines()
            self.assertIn(b'"type":"challenge"', challenge)
            self.assertIn(b'"type":"bye"', bye)
        self.dialling(f"tcp:127.0.0.1:{self.port(service)}")
        await self.converse()

    async def test_a_flood_of_strangers_doesnt_keep_anyone_out(self) -> None:
        service = self.listening("tcp:0", unauthenticated=3)
        strangers = [await self.stranger(service, b"") for _ in range(8)]
        await until(lambda: sum(stranger.lost for stranger in strangers) == 5)
        self.assertEqual([stranger.lost for stranger in strangers], [True] * 5 + [False] * 3)
        self.dialling(f"tcp:127.0.0.1:{self.port(service)}")
        await self.converse()

    async def test_too_many_connections(self) -> None:
        service = self.listening("tcp:0", connections=1)
        self.dialling(f"tcp:127.0.0.1:{self.port(service)}")
        await self.converse()
        stranger = await self.stranger(service, b"")
        await until(lambda: stranger.lost)
        self.assertIn(b"there are too many connections", stranger.received)

    async def test_a_connection_that_is_reset(self) -> None:
        service = self.listening("tcp:0")
        self.dialling(f"tcp:127.0.0.1:{self.port(service)}")
        await self.converse()
        for n in range(3):
            cast(Any, self.there.all[-1].peer)._link.transport.abortConnection()
            await until(self.linked_times, n + 2)
        self.assertTrue(all(recorder.lost for recorder in self.here.all[:-1]))
        self.assertEqual(self.here.all[-1].lost, [])


class TLSTests(SocketTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.authority = trustme.CA()
        self.files = self.certificate("localhost", self.authority)

    def port(self, service: ListenService) -> int:
        return cast(int, cast(Any, service.host).port)

    async def test_link_with_certificates_on_both_sides(self) -> None:
        service = self.listening("tls:0:interface=127.0.0.1", tls=self.files)
        dialling = self.dialling(
            f"tls:localhost:{self.port(service)}", tls=self.certificate("builder-1", self.authority)
        )
        await self.converse()
        await self.stop(dialling)

    async def test_the_files_may_be_named_by_strings(self) -> None:
        files = TLSFiles(*(str(getattr(self.files, part)) for part in ("certificate", "key", "authority")))
        service = self.listening("tls:0:interface=127.0.0.1", tls=files)
        self.dialling(f"tls:localhost:{self.port(service)}", tls=files)
        await self.converse()

    async def test_a_certificate_chain(self) -> None:
        between = self.authority.create_child_ca()
        files = self.certificate("localhost", between, trusted=self.authority)
        service = self.listening("tls:0:interface=127.0.0.1", tls=files)
        self.dialling(f"tls:localhost:{self.port(service)}", tls=self.certificate("builder-1", between, self.authority))
        await self.converse()

    async def test_who_cant_show_a_certificate_stays_out(self) -> None:
        service = self.listening("tls:0:interface=127.0.0.1", tls=self.files)
        self.dialling(f"tls:localhost:{self.port(service)}", tls=TLSFiles(authority=self.files.authority))
        await until(lambda: len(self.failures) >= 2)
        self.assertEqual((self.here.all, self.there.all), ([], []))
        self.assertTrue(
            any("TLS: " in reason and "certificate required" in reason for reason in self.failures), self.failures
        )

    async def test_a_listener_by_another_authority_isnt_believed(self) -> None:
        service = self.listening("tls:0:interface=127.0.0.1", tls=self.certificate("localhost", trustme.CA()))
        self.dialling(f"tls:localhost:{self.port(service)}", tls=self.files)
        await until(lambda: len(self.failures) >= 2)
        self.assertEqual((self.here.all, self.there.all), ([], []))
        self.assertTrue(
            any("TLS: " in reason and "certificate verify failed" in reason for reason in self.failures), self.failures
        )

    async def test_a_listener_of_another_name_isnt_believed(self) -> None:
        service = self.listening("tls:0:interface=127.0.0.1", tls=self.certificate("elsewhere.example", self.authority))
        self.dialling(f"tls:localhost:{self.port(service)}", tls=self.files)
        await until(lambda: len(self.failures) >= 2)
        self.assertEqual(self.here.all, [])
        self.assertTrue(
            any(
                "TLS: " in reason and "the peer's certificate is for another host" in reason for reason in self.failures
            ),
            self.failures,
        )

    async def test_plain_text_at_a_tls_port(self) -> None:
        service = self.listening("tls:0:interface=127.0.0.1", tls=self.files)
        stranger = Stranger()
        await connectProtocol(TCP4ClientEndpoint(cast(Any, reactor), "127.0.0.1", self.port(service)), stranger)
        assert stranger.transport is not None
        stranger.transport.write(b"GET / HTTP/1.1\r\n\r\n")
        await until(lambda: stranger.lost)
        self.assertNotIn(b"challenge", stranger.received)

    async def test_a_slow_reader(self) -> None:
        service = self.listening("tls:0:interface=127.0.0.1", tls=self.files)
        self.dialling(f"tls:localhost:{self.port(service)}", tls=self.certificate("builder-1", self.authority))
        ours, theirs = await self.converse()
        theirs.peer.pause_reading()
        sent = 0
        while not ours.peer.paused:
            ours.peer.send(Note(sent, "x" * 10_000))
            sent += 1
            await deferLater(cast(Any, reactor), 0, lambda: None)
        theirs.peer.resume_reading()
        await until(lambda: len(theirs.messages) == 2000 + sent)


class SendAtOnceTests(SocketTestCase):
    async def test_it_never_overtakes_what_waits(self) -> None:
        self.listening(f"unix:{self.folder}/link")
        self.dialling(f"unix:{self.folder}/link")
        ours, theirs = await self.converse()
        transport = cast(Any, ours.peer)._link.transport
        line = b'{"type":"note","n":1}\n'
        self.assertEqual(send_at_once(transport, line), len(line))
        transport.write(line)
        self.assertEqual(send_at_once(transport, line), 0)
        await until(lambda: len(theirs.messages) == 2002)
        self.assertEqual(send_at_once(transport, line), len(line))
        transport.loseConnection()
        self.assertEqual(send_at_once(transport, line), 0)
        await until(lambda: theirs.lost)
        self.assertEqual(len(theirs.messages), 2003)


class Refused:
    """What is heard of refusals."""

    def __init__(self) -> None:
        self.codes: list[str] = []

    def __call__(self, code: str, reason: str) -> None:
        self.codes.append(code)


class RefusalTests(SocketTestCase):
    """What only people can set right is told apart from what may pass by itself."""

    async def test_refusals(self) -> None:
        self.authority = trustme.CA()
        good = self.certificate("localhost", self.authority)
        key = b"another key, also 32 bytes long!"
        elsewhere = self.certificate("localhost", trustme.CA(), trusted=self.authority)
        cases: list[tuple[str, str, dict[str, Any], TLSFiles | None, TLSFiles | None]] = [
            ("unauthorized", "tcp:0", {"key": key}, None, None),
            ("refused", "tcp:0", {"role": "other"}, None, None),
            ("refused", "tcp:0", {"peer_role": "other"}, None, None),
            ("not-accepted", "tcp:0", {"accept_peer": lambda info: "not you"}, None, None),
            ("unauthorized", "tls:0:interface=127.0.0.1", {}, good, elsewhere),
            ("unauthorized", "tls:0:interface=127.0.0.1", {}, TLSFiles(authority=good.authority), good),
        ]
        for code, endpoint, theirs, tls, their_tls in cases:
            service = listen_for_links(reactor, endpoint, apiserver(**theirs), self.there, tls=their_tls)
            service.startService()
            kind = endpoint[:3]
            refused = Refused()
            where = f"{kind}:localhost:{cast(Any, service.host).port}"
            dialling = self.dialling(where, tls=tls, refused=refused)
            await until(lambda heard=refused: heard.codes)
            self.assertEqual(refused.codes[0], code)
            await dialling.stopService()
            await service.stopService()

    async def test_what_may_pass(self) -> None:
        """No listener is there; no room."""
        refused = Refused()
        full = listen_for_links(reactor, "tcp:0", apiserver(), self.there, connections=0)
        full.startService()
        self.dialling(f"tcp:127.0.0.1:{cast(Any, full.host).port}", refused=refused)
        await until(lambda: len(self.failures) >= 2)
        await full.stopService()
        await until(lambda: len(self.failures) >= 4)
        self.assertEqual(refused.codes, [])

    async def test_by_the_interface(self) -> None:
        """As a user has it: `dial` with ``fail_on_refusal``."""
        listening = await listen(reactor, f"unix:{self.folder}/s", Greeter(), key=b"k" * 32)
        remote = dial(reactor, f"unix:{self.folder}/s", GREETER, key=b"l" * 32, fail_on_refusal=True)
        began = time.monotonic()
        with self.assertRaisesRegex(LinkRefused, "do both sides have the same key"):
            await remote.call(Hail())
        self.assertLess(time.monotonic() - began, 10)
        await remote.close()
        await listening.close()


ACTIONS = st.lists(st.sampled_from(["start", "stop", "connect", "fail", "lose", "wait"]), max_size=14)


class StartAndStopTests(SynchronousTestCase):
    """
    Stopped and started again before the connection of before was closed, a service dialled a second one beside it and
    forgot the first: neither that stop ever fired, nor the next.
    """

    @given(ACTIONS)
    def test_every_stop_fires(self, actions: list[str]) -> None:
        memory = MemoryReactorClock()
        service = dial_links(cast(LinkReactor, memory), "tcp:127.0.0.1:1", builder(), Arrivals(), random=lambda: 1.0)
        self.wires: list[tuple[Any, StringTransport]] = []
        attempts = 0
        stops: list[Deferred[None]] = []
        for action in [*actions, "stop"]:
            match action:
                case "start":
                    service.startService()
                case "stop":
                    stops.append(service.stopService())
                    attempts = len(memory.tcpClients)  # the last one is cancelled, if it was still under way
                case "wait":
                    memory.advance(40)
                case "lose" if self.wires:
                    self.lose()
                case "connect" | "fail" if len(memory.tcpClients) > attempts:
                    factory = memory.tcpClients[-1][2]
                    attempts = len(memory.tcpClients)
                    if action == "fail":
                        cast(Any, factory).clientConnectionFailed(None, Failure(ConnectionRefusedError("refused")))
                    elif protocol := factory.buildProtocol(None):
                        wire = StringTransport(peerAddress=IPv4Address("TCP", "127.0.0.1", 1))
                        self.wires.append((protocol, wire))
                        protocol.makeConnection(wire)
            self.assertLessEqual(len(self.wires), 1)
        memory.advance(0)
        while self.wires:
            self.assertTrue(self.wires[0][1].disconnecting)
            self.lose()
        for stop in stops:
            self.successResultOf(stop)
        # And it can be started once more, with one attempt.
        memory.advance(40)
        self.assertEqual(memory.getDelayedCalls(), [])
        before = len(memory.tcpClients)
        service.startService()
        self.assertEqual(len(memory.tcpClients), before + 1)

    def lose(self) -> None:
        protocol, _ = self.wires.pop()
        protocol.connectionLost(Failure(ConnectionDone()))

    def test_started_again_it_dials_as_soon_as_the_old_connection_is_closed(self) -> None:
        memory = MemoryReactorClock()
        service = dial_links(cast(LinkReactor, memory), "tcp:127.0.0.1:1", builder(), Arrivals(), random=lambda: 1.0)
        service.startService()
        protocol = cast(Any, memory.tcpClients[0][2].buildProtocol(None))
        protocol.makeConnection(StringTransport(peerAddress=IPv4Address("TCP", "127.0.0.1", 1)))
        first = service.stopService()
        service.startService()
        self.assertEqual(len(memory.tcpClients), 1)
        self.assertNoResult(first)
        protocol.connectionLost(Failure(ConnectionDone()))
        self.successResultOf(first)
        self.assertEqual(len(memory.tcpClients), 2)
        self.successResultOf(service.stopService())


class ListenAgainTests(TestCase):
    """A stop waits for the connections of its own time, and each stop fires."""

    async def test_each_stop_fires(self) -> None:
        here, there = Arrivals(), Arrivals()
        service = listen_for_links(reactor, "tcp:0", apiserver(), there)
        service.startService()
        port = cast(Any, service.host).port
        dialling = dial_links(reactor, f"tcp:127.0.0.1:{port}", builder(), here, random=lambda: 0.01)
        arrived = there.next()
        dialling.startService()
        await arrived
        first, second = service.stopService(), service.stopService()
        await first
        await second
        await dialling.stopService()


class Dialled:
    """A dialling service on a reactor in memory, whose attempts end as the test says."""

    def __init__(self, endpoint: str) -> None:
        self.memory = MemoryReactorClock()
        self.service = dial_links(cast(LinkReactor, self.memory), endpoint, builder(), Arrivals(), random=lambda: 1.0)
        self.service.startService()

    def attempts(self) -> list[Any]:
        """The factory of each attempt."""
        return [each[1] for each in self.memory.unixClients] + [each[2] for each in self.memory.tcpClients]

    def fail(self, reason: str = "refused") -> None:
        """The attempt reaches no listener."""
        self.attempts()[-1].clientConnectionFailed(None, Failure(ConnectError(string=reason)))

    def reach(self, *, ready: bool = False) -> Any:
        """The attempt makes a connection."""
        link = self.attempts()[-1].buildProtocol(None)
        link.makeConnection(StringTransport(peerAddress=IPv4Address("TCP", "127.0.0.1", 1)))
        if ready:
            self.service.link_ready(link._wrappedProtocol)
        return link

    def delay(self) -> float:
        """Seconds until the next attempt, which is made then."""
        (call,) = self.memory.getDelayedCalls()
        delay = call.getTime() - self.memory.seconds()
        self.memory.advance(delay)
        return delay


class BackoffTests(SynchronousTestCase):
    """The times between attempts, on a clock."""

    def delays(self, random: Callable[[], float], count: int) -> list[float]:
        """The delays between attempts of which none reaches a listener."""
        clock = Clock()
        row = Delays(clock, random, longest=LONGEST_DELAY, unreached=None)
        delays: list[float] = []
        for _ in range(count):
            row.wait(lambda: None, reached=False)
            (call,) = clock.getDelayedCalls()
            delays.append(call.getTime() - clock.seconds())
            clock.advance(delays[-1])
        row.wait(lambda: None, reached=False)
        row.wait_no_longer()
        self.assertEqual(clock.getDelayedCalls(), [])
        return delays

    def test_it_doubles_up_to_half_a_minute(self) -> None:
        self.assertEqual(self.delays(lambda: 1.0, 9), [0.5, 1, 2, 4, 8, 16, 30, 30, 30])

    def test_on_one_machine_a_peer_that_isnt_there_is_soon_tried_again(self) -> None:
        dialled = Dialled("unix:/nowhere")
        for _ in range(5):
            dialled.fail()
            self.assertEqual(dialled.delay(), UNREACHED_LOCAL_DELAY)

    def test_on_one_machine_a_peer_that_throws_out_is_tried_less_and_less(self) -> None:
        """Also if it can't be reached in between."""
        dialled = Dialled("unix:/nowhere")
        for lost, delay in ((1, 0.5), (1, 1), (0, UNREACHED_LOCAL_DELAY), (1, 2), (1, LONGEST_LOCAL_DELAY)):
            if lost:
                dialled.reach().connectionLost(Failure(ConnectionDone()))
            else:
                dialled.fail()
            self.assertEqual(dialled.delay(), delay)

    def test_that_nobody_is_there_is_said_once(self) -> None:
        said: list[str] = []

        @implementer(ILogObserver)
        def observe(event: dict[str, Any]) -> None:
            text = formatEvent(event)
            if "can't be reached" in text:
                said.append(text.rpartition(": ")[2])

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        dialled = Dialled("unix:/nowhere")
        for reason in ("no", "no", "none", "linked", "none", "none"):
            if reason == "linked":
                dialled.reach(ready=True).connectionLost(Failure(ConnectionDone()))
            else:
                dialled.fail(reason)
            dialled.memory.advance(40.0)
        self.assertEqual([text.rstrip(".") for text in said], ["no", "none", "none"])

    def test_it_is_scattered_over_the_whole_delay(self) -> None:
        self.assertEqual(self.delays(lambda: 0.25, 4), [0.125, 0.25, 0.5, 1])

    def test_only_a_link_that_lasts_starts_afresh(self) -> None:
        dialled = Dialled("tcp:127.0.0.1:1")
        for lasted, delay in ((LASTING - 1, 0.5), (LASTING - 1, 1.0), (LASTING, 0.5)):
            link = dialled.reach(ready=True)
            dialled.memory.advance(lasted)
            link.connectionLost(Failure(ConnectionDone()))
            self.assertEqual(dialled.delay(), delay)

    def test_what_cant_be_dialled_is_said_at_once(self) -> None:
        memory = cast(LinkReactor, MemoryReactorClock())
        for endpoint, changes in (("tcp:example.org:1", {}), ("tcp:localhost:1", {"key": None})):
            with self.assertRaises(BadEndpoint):
                dial_links(memory, endpoint, builder(**changes), Arrivals())
            with self.assertRaises(BadEndpoint):
                listen_for_links(memory, endpoint.replace("localhost:", ""), apiserver(**changes), Arrivals())
