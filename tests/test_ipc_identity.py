"""Who the peer is: what is proven of it, who decides whether it is taken, and a second peer of its name."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.ipc_example import Note, Recorders, apiserver, builder
from tests.properties import examples
from tests.test_ipc_service import CALCULATOR, Add, Calculator, Sum
from twistedipc.ipc import (
    Keys,
    LinkReactor,
    LinkRefused,
    NamedKey,
    Names,
    Peer,
    PeerCertificate,
    PeerInfo,
    TLSFiles,
    dial,
    listen,
    names_by_certificate,
    names_by_uid,
)
from twistedipc.ipc.places.unread import UnreadPeer
from twistedipc.ipc.testing import ConnectedPair
from twistedipc.ipc.wire.settings import Side

REACTOR = cast(LinkReactor, reactor)
KEY = b"a key of at least 16 bytes"


class World:
    """A listener, and diallers that come to it one after another or at once, in memory."""

    def __init__(self, **listener: Any) -> None:
        self.clock = Clock()
        self.accepted = Recorders()
        self.settings = apiserver(**listener)
        self.pairs: list[ConnectedPair] = []

    def dial(self, name: str = "one", incarnation: str = "i1", pump: bool = True) -> ConnectedPair:
        pair = ConnectedPair(
            self.clock,
            (builder(name=name, incarnation=incarnation), Recorders()),
            (self.settings, self.accepted),
        )
        self.pairs.append(pair)
        if pump:
            self.pump()
        return pair

    def pump(self) -> None:
        for _ in range(3):
            for pair in self.pairs:
                pair.pump()

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.pump()

    @property
    def linked(self) -> list[str]:
        """The incarnations of those that are linked."""
        return [each.peer.info.incarnation for each in self.accepted if not each.lost]


class AcceptTests(SynchronousTestCase):
    """``accept`` decides, at once or later."""

    def test_a_reason_refuses(self) -> None:
        asked: list[PeerInfo] = []

        def accept(peer: PeerInfo) -> str | None:
            asked.append(peer)
            return "not today" if peer.name == "two" else None

        world = World(accept_peer=accept)
        world.dial("one")
        refused = world.dial("two")
        self.assertEqual([each.peer.info.name for each in world.accepted], ["one"])
        self.assertEqual([each.name for each in asked], ["one", "two"])
        self.assertEqual(refused.reason(Side.DIALLER), "the peer said: not today [not-accepted]")
        self.assertEqual(refused.dialler.refusal, "not-accepted")

    def test_it_may_take_its_time(self) -> None:
        decisions: list[Deferred[str | None]] = []

        async def accept(peer: PeerInfo) -> str | None:
            decisions.append(Deferred())
            return await decisions[-1]

        world = World(accept_peer=accept)
        first, second, third = world.dial("one"), world.dial("two"), world.dial("three")
        self.assertEqual(len(world.accepted), 0)
        decisions[1].callback(None)
        world.pump()
        self.assertEqual([each.peer.info.name for each in world.accepted], ["two"])
        decisions[0].callback("no")
        world.pump()
        self.assertIn("no [not-accepted]", first.reason(Side.DIALLER))
        world.advance(10)
        self.assertIn("handshake-timeout", third.reason(Side.DIALLER))
        self.assertTrue(decisions[2].called)  # it was cancelled
        self.assertFalse(second.lost)

    def test_a_peer_that_goes_meanwhile(self) -> None:
        decision: Deferred[str | None] = Deferred()
        world = World(accept_peer=lambda peer: decision)
        pair = world.dial()
        pair.cut()
        self.assertTrue(decision.called)
        self.assertEqual(world.accepted, [])

    def test_what_is_said_before_the_decision_is_heard_after_it(self) -> None:
        """A dialler decides as well, and an older listener takes the link for ready meanwhile."""
        decision: Deferred[str | None] = Deferred()
        clock, here, there = Clock(), Recorders(), Recorders()
        pair = ConnectedPair(
            clock, (builder(accept_peer=lambda peer: decision, features=()), here), (apiserver(), there)
        )
        pair.pump()
        there[0].peer.send(Note(1))
        pair.pump()
        self.assertEqual(here, [])
        decision.callback(None)
        pair.pump()
        self.assertEqual([note.n for note in here[0].messages], [1])

    def test_one_that_raises_refuses_and_harms_nobody_else(self) -> None:
        def accept(peer: PeerInfo) -> str | None:
            if peer.name == "two":
                raise ZeroDivisionError("a secret")
            return None

        async def later(peer: PeerInfo) -> str | None:
            return accept(peer)

        for each in (accept, later):
            world = World(accept_peer=each)
            first = world.dial("one")
            refused = world.dial("two")
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
            self.assertIn("[internal]", refused.reason(Side.DIALLER))
            self.assertNotIn("secret", refused.reason(Side.DIALLER))
            self.assertFalse(first.lost)
            world.dial("three")
            self.assertEqual([each.peer.info.name for each in world.accepted], ["one", "three"])


class _Transport:
    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    return ours, theirs


class SameNameTests(SynchronousTestCase):
    """A second peer of one name."""

    def test_allow(self) -> None:
        world = World(names=Names("allow"))
        world.dial()
        world.dial(incarnation="i2")
        self.assertEqual(world.linked, ["i1", "i2"])

    def test_refuse_while_the_first_is_alive(self) -> None:
        world = World(names=Names("refuse"))
        world.dial()
        refused = world.dial(incarnation="i2")
        self.assertEqual(world.linked, ["i1"])
        self.assertEqual(refused.dialler.refusal, "name-taken")
        world.dial("two", "i3")
        self.assertEqual(world.linked, ["i1", "i3"])

    def test_refuse_gives_the_name_of_a_dead_link_away(self) -> None:
        world = World(names=Names("refuse"))
        dead = world.dial()
        dead.blackhole(Side.DIALLER, Side.LISTENER)
        newcomer = world.dial(incarnation="i2")
        self.assertEqual(world.linked, ["i1"])
        world.advance(2)
        self.assertEqual(world.linked, ["i2"])
        self.assertFalse(newcomer.lost)
        self.assertIn("silent", world.accepted[0].lost[0])

    def test_the_same_process_needs_no_proof(self) -> None:
        world = World(names=Names("refuse"))
        world.dial().blackhole(Side.DIALLER, Side.LISTENER)
        world.dial()
        self.assertEqual(len(world.accepted), 2)
        self.assertEqual(world.linked, ["i1"])
        self.assertIn("superseded", world.accepted[0].lost[0])

    def test_supersede(self) -> None:
        world = World(names=Names("supersede"))
        old = world.dial()
        events: list[str] = []
        world.accepted[0].connection_lost = lambda reason: events.append("lost")  # type: ignore[method-assign]
        new = world.dial(incarnation="i2")
        self.assertTrue(old.lost)
        self.assertIn("[superseded]", old.reason(Side.DIALLER))
        self.assertEqual((events, len(world.accepted)), (["lost"], 2))
        self.assertFalse(new.lost)

    def test_the_old_one_is_lost_before_the_new_one_is_ready(self) -> None:
        order: list[str] = []

        class Noting(Recorders):
            def __call__(self, peer: Peer) -> Any:
                order.append(f"{peer.info.incarnation} ready")
                made = cast(Any, super().__call__(peer))
                made.connection_lost = lambda reason: order.append(f"{peer.info.incarnation} lost")
                return made

        for policy in ("supersede", "refuse"):
            order.clear()
            world = World(names=Names(cast(Any, policy)))
            world.accepted = Noting()
            world.dial().blackhole(Side.DIALLER, Side.LISTENER)
            world.dial(incarnation="i2")
            world.advance(2)
            self.assertEqual(order, ["i1 ready", "i1 lost", "i2 ready"])

    def test_two_newcomers_at_once(self) -> None:
        world = World(names=Names("refuse"))
        world.dial().blackhole(Side.DIALLER, Side.LISTENER)
        first = world.dial(incarnation="i2")
        second = world.dial(incarnation="i3")
        world.advance(2)
        self.assertEqual(world.linked, ["i3"])
        self.assertEqual((second.lost, first.dialler.refusal), (False, "name-taken"))

    def test_a_newcomer_that_goes_while_the_old_one_is_asked(self) -> None:
        world = World(names=Names("refuse"))
        world.dial().blackhole(Side.DIALLER, Side.LISTENER)
        world.dial(incarnation="i2").cut()
        world.advance(2)
        self.assertEqual(world.linked, [])
        world.dial(incarnation="i3")
        self.assertEqual(world.linked, ["i3"])

    def test_the_old_one_goes_while_it_is_asked(self) -> None:
        world = World(names=Names("refuse"))
        old = world.dial()
        old.blackhole(Side.LISTENER)
        world.dial(incarnation="i2")
        old.cut()
        world.pump()
        self.assertEqual(world.linked, ["i2"])
        world.advance(5)
        self.assertEqual(world.linked, ["i2"])

    def test_a_link_that_is_not_read_counts_as_alive(self) -> None:
        world = World(names=Names("refuse"))
        world.dial()
        world.accepted[0].peer.pause_reading()
        refused = world.dial(incarnation="i2")
        world.advance(2)
        self.assertEqual((world.linked, refused.dialler.refusal), (["i1"], "name-taken"))

    def test_what_the_system_knows_of_a_peer_that_is_not_read(self) -> None:
        for pair in (socket.socketpair, _tcp_pair):
            ours, theirs = pair()
            unread = UnreadPeer(_Transport(ours))
            ours.send(b"ping")
            theirs.send(b"something")
            self.assertTrue(unread.has_heard(0))
            theirs.close()
            self.assertFalse(unread.has_heard(0), "its end comes behind what isn't read")
            ours.close()
        self.assertTrue(UnreadPeer(_Transport(ours)).has_heard(0))

    def test_a_peer_that_does_not_read_either(self) -> None:
        ours, theirs = _tcp_pair()
        ours.setblocking(False)
        with contextlib.suppress(BlockingIOError):  # trial has another use for a name "suppress"
            while True:
                ours.send(b"x" * 65536)
        self.assertTrue(UnreadPeer(_Transport(ours)).has_heard(0))
        ours.close()
        theirs.close()

    def test_the_first_one_has_not_introduced_itself_yet(self) -> None:
        world = World(names=Names("refuse"))
        first = world.dial(pump=False)
        for side in (Side.LISTENER, Side.DIALLER):
            world.clock.advance(0)
            first.carry(side)
        second = world.dial(incarnation="i2", pump=False)
        second.pump()
        self.assertEqual(world.linked, [])
        world.advance(0.1)
        world.advance(2)
        self.assertEqual((world.linked, second.dialler.refusal), (["i1"], "name-taken"))

    def test_a_bad_policy(self) -> None:
        with self.assertRaisesRegex(ValueError, "refuse, supersede, allow"):
            Names(cast(Any, "replace"))


STEPS = st.lists(
    st.tuples(st.sampled_from(["dial", "cut", "blackhole", "wait"]), st.integers(0, 3)), min_size=1, max_size=12
)


@pytest.mark.parametrize("policy", ["refuse", "supersede"])
@settings(max_examples=examples(60))
@given(steps=STEPS)
def test_one_at_a_time_and_nobody_is_locked_out(policy: str, steps: list[tuple[str, int]]) -> None:
    """Whatever links come and go: an application never sees two of one name, and in the end a newcomer gets in."""
    names = Names(cast(Any, policy))
    world = World(names=names)
    for what, which in steps:
        pair = world.pairs[which % len(world.pairs)] if world.pairs else None
        if what == "dial":
            world.dial(incarnation=f"i{which}", pump=which % 2 == 0)
        elif what == "wait":
            world.advance(1)
        elif pair is not None and what == "cut":
            pair.cut()
        elif pair is not None:
            pair.blackhole(Side.DIALLER, Side.LISTENER)
        assert len(world.linked) <= 1, world.linked
    world.pump()
    for pair in world.pairs:
        pair.blackhole(Side.DIALLER, Side.LISTENER)
    world.dial(incarnation="last")
    world.advance(2)
    assert world.linked == ["last"]
    for pair in world.pairs:
        pair.cut()
    assert names._names == {}
    assert names._claims == {}


class ProvenTests(TestCase):
    """What the kernel and TLS tell of the other end, over real sockets."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ipc"))  # short, for UNIX sockets
        self.addCleanup(shutil.rmtree, self.folder)

    async def meet(self, endpoint: str, dialled: str, **sides: Any) -> tuple[PeerInfo, PeerInfo]:
        """Link, and return what the listener and the dialler know of one another."""
        met: Deferred[PeerInfo] = Deferred()

        class Meeting(Calculator):
            def peer_ready(self, peer: Peer) -> None:
                met.callback(peer.info)

        listening = await listen(REACTOR, endpoint, Meeting(), **sides.get("listen", {}))
        port = "" if endpoint.startswith("unix:") else str(listening.port)
        remote = dial(REACTOR, dialled.format(port=port), CALCULATOR, name="asker", **sides.get("dial", {}))
        try:
            peer = await remote.linked(10)
            return await met, peer.info
        finally:
            await remote.close()
            await listening.close()

    async def test_unix(self) -> None:
        here, there = await self.meet(f"unix:{self.folder}/s", f"unix:{self.folder}/s")
        for info in (here, there):
            self.assertEqual((info.uid, info.gid, info.pid), (os.getuid(), os.getgid(), os.getpid()))
            self.assertIsNone(info.certificate)

    async def test_tcp_tells_nothing(self) -> None:
        key = {"key": KEY}
        here, there = await self.meet("tcp:0", "tcp:127.0.0.1:{port}", listen=key, dial=key)
        for info in (here, there):
            self.assertEqual((info.uid, info.gid, info.pid, info.certificate), (None, None, None, None))

    async def test_tls(self) -> None:
        authority = trustme.CA()
        files, expected = {}, {}
        for name in ("localhost", "asker"):
            certificate = authority.issue_cert(name, common_name=name)
            path = self.folder / name
            certificate.private_key_and_cert_chain_pem.write_to_path(f"{path}.pem")
            pem = certificate.cert_chain_pems[0].bytes()
            expected[name] = sha256(ssl.PEM_cert_to_DER_cert(pem.decode())).hexdigest()
            files[name] = TLSFiles(f"{path}.pem", f"{path}.pem", self.folder / "authority")
        authority.cert_pem.write_to_path(str(self.folder / "authority"))
        bound = names_by_certificate({"asker": expected["asker"].upper()})
        here, there = await self.meet(
            "tls:0:interface=127.0.0.1",
            "tls:localhost:{port}",
            listen={"key": KEY, "tls": files["localhost"], "accept": bound},
            dial={"key": KEY, "tls": files["asker"]},
        )
        self.assertEqual(cast(PeerCertificate, here.certificate).fingerprint, expected["asker"])
        self.assertIn("CN=asker", cast(PeerCertificate, here.certificate).subject)
        self.assertEqual(cast(PeerCertificate, there.certificate).fingerprint, expected["localhost"])
        self.assertIsNone(here.uid)

    async def test_tls_without_an_authority(self) -> None:
        authority = trustme.CA()
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(self.folder / "c"))
        authority.cert_pem.write_to_path(str(self.folder / "authority"))
        here, there = await self.meet(
            "tls:0:interface=127.0.0.1",
            "tls:localhost:{port}",
            listen={"key": KEY, "tls": TLSFiles(self.folder / "c", self.folder / "c")},
            dial={"key": KEY, "tls": TLSFiles(authority=self.folder / "authority")},
        )
        self.assertIsNone(here.certificate)
        self.assertIsNotNone(there.certificate)

    async def test_a_named_key(self) -> None:
        key = NamedKey("k1", KEY, "asker")
        here, there = await self.meet(
            f"unix:{self.folder}/s",
            f"unix:{self.folder}/s",
            listen={"keys": Keys(key)},
            dial={"keys": Keys(NamedKey("k1", KEY))},
        )
        self.assertEqual((here.key, there.key), ("k1", "k1"))

    async def test_accept_as_a_user_has_it(self) -> None:
        listening = await listen(
            REACTOR, f"unix:{self.folder}/s", Calculator(), accept=names_by_uid({"good": os.getuid(), "other": 4711})
        )
        good = dial(REACTOR, f"unix:{self.folder}/s", CALCULATOR, name="good")
        self.assertEqual(await good.call(Add(1, 2)), Sum(3))
        for name in ("other", "unknown"):
            bad = dial(REACTOR, f"unix:{self.folder}/s", CALCULATOR, name=name, fail_on_refusal=True)
            with self.assertRaisesRegex(LinkRefused, f"the name {name} isn't for the user") as caught:
                await bad.call(Add(1, 2))
            self.assertEqual(caught.exception.code, "not-accepted")
            await bad.close()
        self.assertEqual(await good.call(Add(2, 2)), Sum(4))
        await good.close()
        await listening.close()

    async def test_a_name_that_is_taken_as_a_user_has_it(self) -> None:
        listening = await listen(REACTOR, f"unix:{self.folder}/s", Calculator(), same_name="refuse")
        first = dial(REACTOR, f"unix:{self.folder}/s", CALCULATOR, name="one")
        await first.linked(10)
        second = dial(REACTOR, f"unix:{self.folder}/s", CALCULATOR, name="one", fail_on_refusal=True)
        with self.assertRaisesRegex(LinkRefused, "a peer of the name one is linked already"):
            await second.linked(10)
        await first.close()
        third = dial(REACTOR, f"unix:{self.folder}/s", CALCULATOR, name="one")
        self.assertEqual(await third.call(Add(1, 1)), Sum(2))
        for remote in (second, third):
            await remote.close()
        await listening.close()
