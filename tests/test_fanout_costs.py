"""
What a line costs on its way to viewers, counted, so that no clock is needed: Python calls for each line, and for each
frame and viewer; frames in a batch; and the share of the time that rounds take.
"""

from __future__ import annotations

import gc
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.tcp import Server
from twisted.trial.unittest import SynchronousTestCase

from tests.instant import InstantLedger
from tests.web_world import forget_timers
from twistedipc.builds.logs import Lines
from twistedipc.server.fanout.limits import LogLimits
from twistedipc.server.fanout.live import LiveLog
from twistedipc.server.fanout.rounds import FULL_BLOCK, LONGEST_PAUSE, Rounds
from twistedipc.server.fanout.shared import SharedFiles
from twistedipc.server.fanout.store import LogStore
from twistedipc.server.gists import Gists
from twistedipc.server.states import Feed
from twistedipc.storage.rows import TokenRow
from twistedipc.web.access.held import HeldOpen
from twistedipc.web.live.conversation import Sources
from twistedipc.web.live.followers import Crowds
from twistedipc.web.live.limits import Limits
from twistedipc.web.live.one_log import LogConversation
from twistedipc.web.live.viewers import ViewerFactory


def calls_of(work: Callable[[], object]) -> int:
    """How many Python functions are called. The collector doesn't run meanwhile: finalizers are calls too."""
    count = 0

    def count_call(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    gc.disable()
    sys.setprofile(count_call)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


class IdleReactor(Clock):
    """A clock that a transport can be made with; it watches nothing."""

    def addReader(self, reader: object) -> None: ...

    def removeReader(self, reader: object) -> None: ...

    def addWriter(self, writer: object) -> None: ...

    def removeWriter(self, writer: object) -> None: ...


TOKEN = TokenRow(
    id=1,
    name="t",
    scopes=frozenset({"read"}),
    projects=None,
    created=0,
    expires=None,
    revoked=None,
    last_used=None,
    parent=None,
)


class Costs(SynchronousTestCase):
    """Real sockets and the real way to them, from the records' arrival to the write."""

    def setUp(self) -> None:
        self.clock = IdleReactor()
        self.ledger = InstantLedger()
        self.attempt = self.ledger.queue()
        self.store = LogStore(self.clock, self.ledger.as_ledger())
        self.live = self.store.live(self.attempt)
        self.live.active = True
        assert Deferred.fromCoroutine(self.store.load(self.live)).called
        ledger = self.ledger.as_ledger()
        self.sources = Sources(ledger, Crowds(self.store), Feed(), Gists(self.clock, ledger), lambda: 0)
        self.factory = ViewerFactory(self.clock, 1000, Limits())
        self.held = HeldOpen(self.clock, lambda: 0)
        self.ends: list[socket.socket] = []

    def viewer(self) -> None:
        """One more viewer, which has read all there is."""
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        for each in (ours, theirs):
            each.setblocking(False)
        protocol = self.factory.viewer(self.held.hold(TOKEN))
        protocol.factory = self.factory
        protocol.transport = Server(ours, protocol, ("", 0), None, 0, self.clock)  # type: ignore[arg-type]
        build, attempt = map(int, self.attempt.split("-"))
        protocol.converse(LogConversation(self.sources, protocol, build, attempt, self.live.next - 1))
        self.ends.append(theirs)
        self.read_all()

    def read_all(self) -> list[bytes]:
        """Read what each viewer has been sent."""
        found = []
        for end in self.ends:
            data = b""
            while True:
                try:
                    data += end.recv(1 << 20)
                except BlockingIOError:
                    break
            found.append(data)
        return found

    def send(self, lines: int, batches: int = 1) -> int:
        """Let so many lines arrive in one turn. Return the calls until all viewers have them."""
        each = lines // batches

        def work() -> None:
            for _ in range(batches):
                batch = Lines(first=self.live.next, time=1, step=0, lines=["x" * 20] * each)
                self.live.append([batch])
                self.store.changed(self.live)
            self.clock.advance(0)

        return calls_of(work)

    def test_no_python_call_for_a_line(self) -> None:
        self.viewer()
        self.send(10)
        self.assertEqual(self.send(10), self.send(1000))

    def test_no_python_call_for_a_viewer(self) -> None:
        """The socket's own ``send`` is the only call for each."""
        for _ in range(3):
            self.viewer()
        self.send(10)
        few = self.send(10)
        for _ in range(10):
            self.viewer()
        self.send(10)
        self.assertEqual(self.send(10), few)

    def test_few_python_calls_for_a_connection(self) -> None:
        """Before its handshake: its options are the class's, and none is logged."""
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        self.addCleanup(forget_timers)
        protocol = self.factory.buildProtocol(None)
        protocol.transport = Server(ours, protocol, ("", 0), None, 0, self.clock)  # type: ignore[arg-type]
        self.assertLess(calls_of(protocol._connectionMade), 60)

    def test_no_viewer_costs_more_for_more_batches(self) -> None:
        """The batches are joined once, for all viewers."""
        self.viewer()
        self.send(10)
        one_viewer = self.send(500, batches=50) - self.send(10)
        for _ in range(10):
            self.viewer()
        self.read_all()
        self.assertEqual(one_viewer, self.send(500, batches=50) - self.send(10))

    def test_a_batch_is_a_frame_and_all_of_a_turn_one_write(self) -> None:
        self.viewer()
        self.viewer()
        self.send(300, batches=3)
        one, two = self.read_all()
        self.assertEqual(one, two)
        self.assertEqual(3, one.count(b'"type":"lines"'))
        self.assertEqual(300, one.count(b"x" * 20))


class Slow:
    """An audience that takes its time."""

    def __init__(self, clock: Clock, cost: float) -> None:
        self.gathered = 0
        self.woken: list[float] = []
        self._clock = clock
        self._cost = cost

    def wake(self) -> None:
        self.woken.append(self._clock.seconds())
        self.gathered = 0
        self._clock.rightNow += self._cost


class Shares(SynchronousTestCase):
    """When rounds come."""

    def times(self, share: float, cost: float, seconds: float, gather: int = 0) -> list[float]:
        """When an audience is woken that changes each millisecond."""
        clock = Clock()
        rounds: Rounds[Any] = Rounds(clock, share, clock.seconds)
        audience = Slow(clock, cost)
        while clock.seconds() < seconds:
            audience.gathered += gather
            rounds.changed(audience)
            clock.advance(0.001)
        return audience.woken

    def test_what_is_cheap_waits_for_nothing(self) -> None:
        self.assertGreaterEqual(len(self.times(0.5, 0.0001, 1.0)), 900)

    def test_what_is_dear_takes_its_share(self) -> None:
        for share in (0.1, 0.25, 0.5):
            woken = self.times(share, 0.02, 10.0)
            self.assertLess(abs(share - len(woken) * 0.02 / 10.0), share / 10)

    def test_a_share_of_one_is_no_limit(self) -> None:
        woken = self.times(1.0, 0.02, 1.0)
        self.assertGreater(len(woken) * 0.02, 0.9)

    def test_a_full_block_does_not_wait(self) -> None:
        self.assertGreater(len(self.times(0.1, 0.02, 1.0, gather=FULL_BLOCK)), 40)

    def test_only_the_full_one_does_not_wait(self) -> None:
        clock = Clock()
        rounds: Rounds[Any] = Rounds(clock, 0.1, clock.seconds)
        full, other = Slow(clock, 0.05), Slow(clock, 0.0)
        rounds.changed(full)
        clock.advance(0)
        full.gathered = FULL_BLOCK
        rounds.changed(other)
        rounds.changed(full)
        clock.advance(0.01)
        self.assertEqual((2, 0), (len(full.woken), len(other.woken)))
        clock.advance(LONGEST_PAUSE)
        clock.advance(LONGEST_PAUSE)
        self.assertEqual(1, len(other.woken))

    def test_no_pause_is_longer_than_the_longest(self) -> None:
        clock = Clock()
        rounds: Rounds[Any] = Rounds(clock, 0.01, clock.seconds)
        audience = Slow(clock, 5.0)
        rounds.changed(audience)
        clock.advance(0)
        rounds.changed(audience)
        clock.advance(LONGEST_PAUSE)
        self.assertEqual(2, len(audience.woken))


def test_a_viewer_whose_waking_fails_is_alone_with_it() -> None:
    live = LiveLog("1-1", LogLimits(), SharedFiles())
    live.restore(1, None)
    woken = []

    class Failing:
        def wake(self) -> None:
            raise ZeroDivisionError

    class Well:
        def wake(self) -> None:
            woken.append(1)

    live.waiting = {Failing(): None, Well(): None}  # type: ignore[dict-item]
    live.wake()
    assert woken == [1]
