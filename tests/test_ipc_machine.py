"""
Any story of a link, by hypothesis: two protocols on a wire in memory, whose bytes are carried some at a time, cut
anywhere, lost in one direction or in both, while both sides send, ask, answer, pause, close and let time go by.

What must hold at each step: what is heard is what was said, in order, each once, up to some point; a call ends once,
and in its time; nothing is heard after the end, nor while reading is paused; what waits is bounded.
"""

from __future__ import annotations

from typing import Any, cast
from unittest.mock import patch

from hypothesis import Phase
from hypothesis import settings as run_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure

from tests.ipc_example import Ask, Note, Told, apiserver, builder
from tests.properties import examples
from twistedipc.ipc.connections import cork
from twistedipc.ipc.connections.connection import Life
from twistedipc.ipc.connections.link import JSONLineProtocol
from twistedipc.ipc.connections.peer import Peer
from twistedipc.ipc.testing import ConnectedPair
from twistedipc.ipc.wire.errors import CallFailed, CallTimedOut, LocalProtocolError, NotConnected
from twistedipc.ipc.wire.settings import Side

FRAME_LIMIT = 4096
HIGH_WATER = 1000
OUTBOUND_LIMIT = 3000
CORK = 4000
MAX_CALLS = 3
DEAD_AFTER = 30.0
HEARTBEAT = 10.0

OTHER = {Side.DIALLER: Side.LISTENER, Side.LISTENER: Side.DIALLER}

#: What an application that hears a message does at once, while it is being delivered; and what ends the link.
REACTIONS = ["", "", "echo", "echo", "ask", "pause"]
LAST_REACTIONS = ["close", "raise"]

#: How much is done with a connection before the next one is made to end: else hardly any would live to say much.
CALM = 10

#: How a call is answered: at once; when the story says so; then, even if nobody waits for it any more; by an error.
ANSWERS = ["now", "later", "later", "stubborn", "refuse"]


class Asked:
    """A call, as its caller sees it."""

    def __init__(self, request: Ask, deadline: float, waits: Deferred[Any]) -> None:
        self.request = request
        self.deadline = deadline
        self.waits = waits
        self.outcomes: list[object] = []
        self.cancelled = False
        waits.addBoth(self.outcomes.append)


class Talker:
    """One side's application; it notes what it says and hears."""

    def __init__(self, peer: Peer, clock: Clock) -> None:
        self.peer = peer
        self.clock = clock
        self.said: list[Note | Ask] = []
        self.heard: list[Note | Ask] = []
        self.asked: list[Asked] = []
        self.answering: dict[str, Deferred[Told]] = {}
        self.answered: set[str] = set()
        self.lost: list[str] = []
        self.paused = False  # its reading
        self.resumed_at = 0.0
        self.full = False  # its writing
        self.closed = False
        self.wrong: list[str] = []

    # -- what it does

    def say(self, *notes: Note) -> None:
        """Send."""
        if len(notes) == 1:
            self.peer.send(notes[0])
        else:
            self.peer.send_many(notes)
        self.said += notes

    def ask(self, what: str, timeout: float) -> None:
        """Call."""
        request = Ask(f"{what} {len(self.asked)}")
        waiting = sum(not call.outcomes for call in self.asked)
        asked = Asked(request, self.clock.seconds() + timeout, self.peer.call(request, timeout))
        self.asked.append(asked)
        if not asked.outcomes:
            self.said.append(request)
        elif waiting < MAX_CALLS and not isinstance(_error(asked.outcomes[0]), NotConnected):
            self.wrong.append(f"{waiting} calls wait, and one more gave {asked.outcomes}")

    def cancel(self, asked: Asked) -> None:
        """Wait for it no longer."""
        if not asked.outcomes:
            asked.cancelled = True
            asked.waits.cancel()

    def pause(self) -> None:
        """Hear nothing for a while."""
        if not self.closed and not self.lost:
            self.peer.pause_reading()
            self.paused = True

    def resume(self) -> None:
        """Hear again."""
        if self.paused:
            self.resumed_at = self.clock.seconds()
        self.paused = False
        self.peer.resume_reading()

    def close(self) -> None:
        """End the link."""
        self.closed = True
        self.peer.close("closed", "that is all")

    # -- what happens to it

    def message_received(self, message: Note) -> None:
        """Note it, and do what it says."""
        self._hear(message)
        match message.text.partition(" ")[0]:
            case "echo":
                self.say(Note(message.n))
            case "pause":
                self.pause()
            case "ask":
                self.ask("now", 5)
            case "close":
                self.close()
            case "raise":
                raise ZeroDivisionError

    async def call_received(self, request: Ask) -> Told:
        """Answer it as it says."""
        self._hear(request)
        how, _, number = request.what.partition(" ")
        if how == "refuse":
            raise CallFailed(f"no-{number}", "no")
        while how != "now":
            self.answering[request.what] = waiting = Deferred[Told]()
            try:
                await waiting
                break
            except CancelledError:
                if how != "stubborn":
                    raise
            finally:
                del self.answering[request.what]
        self.answered.add(request.what)
        return Told(request.what)

    def connection_lost(self, reason: str) -> None:
        """The last that it hears."""
        self.lost.append(reason)

    def writing_paused(self) -> None:
        """The wire is full."""
        self.wrong += ["paused twice"] if self.full else []
        self.full = True

    def writing_resumed(self) -> None:
        """It isn't."""
        self.wrong += [] if self.full else ["resumed twice"]
        self.full = False

    def _hear(self, message: Note | Ask) -> None:
        for flag, when in ((self.paused, "while paused"), (self.closed, "after closing"), (self.lost, "after the end")):
            if flag:
                self.wrong.append(f"heard {message} {when}")
        self.heard.append(message)


def _error(outcome: object) -> object:
    return outcome.value if isinstance(outcome, Failure) else None


class Connection:
    """One connection from its first byte to its end."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.talkers: dict[Side, Talker] = {}
        limits: dict[str, Any] = {
            "frame_limit": FRAME_LIMIT,
            "outbound_limit": OUTBOUND_LIMIT,
            "max_calls": MAX_CALLS,
            "heartbeat": HEARTBEAT,
            "dead_after": DEAD_AFTER,
        }
        self.pair = ConnectedPair(
            clock,
            (builder(**limits), lambda peer: self._ready(Side.DIALLER, peer)),
            (apiserver(**limits), lambda peer: self._ready(Side.LISTENER, peer)),
            high_water=HIGH_WATER,
        )
        self.quiet_since = dict.fromkeys(Side, clock.seconds())  # when the side last received anything
        self.compared = dict.fromkeys(Side, (0, 0))  # how far what the side heard was compared with what was said
        self.wired = True  # nothing is lost on the way yet

    def _ready(self, side: Side, peer: Peer) -> Talker:
        assert side not in self.talkers, "ready twice"
        self.talkers[side] = Talker(peer, self.clock)
        return self.talkers[side]

    def link(self, side: Side) -> JSONLineProtocol:
        """This side's protocol."""
        return self.pair.dialler if side is Side.DIALLER else self.pair.listener

    def is_over(self, side: Side) -> bool:
        """Whether this side has ended the link, or taken note of its end."""
        return self.link(side).life in (Life.CLOSING, Life.LOST)

    def carry(self, source: Side, limit: int | None = None) -> bool:
        """Carry bytes to the other side."""
        wire, target = self.pair.wire(source), OTHER[source]
        if wire.buffer and self.pair.wire(target).reading and not self.is_over(target):
            self.quiet_since[target] = self.clock.seconds()
        return self.pair.carry(source, limit)

    def pump(self) -> None:
        """Carry everything, until nothing moves."""
        for _ in range(1000):
            self.clock.advance(0)
            moved = [self.carry(side) for side in Side]
            due = any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls())
            if not any(moved) and not due:
                return
        raise AssertionError("the two sides never become quiet")

    def check(self) -> None:
        """What must hold at any time."""
        for side in Side:
            self._check_protocol(side)
            talker = self.talkers.get(side)
            if talker is not None:
                self._check_talker(side, talker)

    def _check_protocol(self, side: Side) -> None:
        wire = self.pair.wire(side)
        assert self.link(side).waiting <= OUTBOUND_LIMIT + CORK + FRAME_LIMIT
        assert len(wire.buffer) <= HIGH_WATER + CORK + FRAME_LIMIT + OUTBOUND_LIMIT  # the last: handed over at the end
        talker, quiet = self.talkers.get(side), self.clock.seconds() - self.quiet_since[side]
        if "[silent]" in self.pair.reason(side) and "said" not in self.pair.reason(side):
            assert quiet >= DEAD_AFTER, f"silent, after {quiet} s"
        if talker is not None and not talker.paused and not talker.lost:
            quiet = min(quiet, self.clock.seconds() - talker.resumed_at)
            assert quiet < DEAD_AFTER + 2 * HEARTBEAT, "silence goes unnoticed"

    def _check_talker(self, side: Side, talker: Talker) -> None:
        assert not talker.wrong, talker.wrong
        assert len(talker.lost) <= 1
        assert len(talker.answering) <= MAX_CALLS
        assert talker.full == talker.peer.paused or talker.lost
        other = self.talkers.get(OTHER[side])
        said = [] if other is None else other.said
        heard, at = self.compared[side]
        for message in talker.heard[heard:]:
            # Calls beyond what the other side answers at a time are refused unheard; a message is never left out.
            while at < len(said) and said[at] != message and isinstance(said[at], Ask):
                at += 1
            assert at < len(said), f"{message} was heard and not said, or not then"
            assert said[at] == message, f"{message} was heard instead of {said[at]}"
            at += 1
        self.compared[side] = len(talker.heard), at
        for asked in talker.asked:
            self._check_asked(talker, other, asked)

    def _check_asked(self, talker: Talker, other: Talker | None, asked: Asked) -> None:
        now = self.clock.seconds()
        if not asked.outcomes:
            assert not talker.lost, f"{asked.request} still waits after the end"
            # Except that it was answered in time, and the answer waits until the caller reads on.
            kept = talker.paused and other is not None and asked.request.what not in other.answering
            assert now <= asked.deadline or kept, f"{asked.request} still waits after its time"
            return
        assert len(asked.outcomes) == 1
        outcome = asked.outcomes[0]
        match _error(outcome):
            case None:
                assert outcome == Told(asked.request.what)
                assert other is not None
                assert asked.request.what in other.answered
            case CallFailed(code="busy"):
                pass
            case CallFailed(code="closed"):
                assert asked.request.what.startswith("later")  # the other application has cancelled its answer
            case CallFailed(code=code):
                assert asked.request.what == f"refuse {code.removeprefix('no-')}", outcome
            case CallTimedOut():
                assert now >= asked.deadline
            case CancelledError():
                assert asked.cancelled
            case NotConnected():
                assert talker.lost or self.is_ending(talker)
            case _:
                raise AssertionError(outcome)

    def is_ending(self, talker: Talker) -> bool:
        """Whether the link under this application has ended, or ends with this turn of the reactor."""
        turn_is_over = all(call.getTime() > self.clock.seconds() for call in self.clock.getDelayedCalls())
        return any(self.is_over(side) or not turn_is_over for side in Side if self.talkers.get(side) is talker)


sides = st.sampled_from(list(Side))
pick = st.integers(0, 5)


class LinkMachine(RuleBasedStateMachine):
    """A story of some connections, one after the other or at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.connections: list[Connection] = []
        self.said = 0
        self.calm = 0
        self.failures: list[object] = []
        globalLogPublisher.addObserver(cast(Any, self._logged))
        self.patch = patch.object(cork, "TURN", CORK)
        self.patch.start()

    def _logged(self, event: LogEvent) -> None:
        failure = event.get("log_failure")
        if failure is not None and not failure.check(ZeroDivisionError):
            self.failures.append(failure.getTraceback())

    @property
    def open(self) -> list[Connection]:
        """The connections that at least one side still has."""
        return [connection for connection in self.connections if not connection.pair.lost]

    def talker(self, which: int, side: Side) -> Talker | None:
        """One side of one of the open connections, if it is ready and not over."""
        found = self.open[which % len(self.open)].talkers.get(side)
        return None if found is None or found.lost else found

    def note(self, text: str = "") -> Note:
        """A message like no other."""
        self.said += 1
        return Note(self.said, text)

    @initialize()
    def begin(self) -> None:
        """A connection that is ready."""
        self.connect(at_once=True)

    @precondition(lambda self: len(self.open) < 2)
    @rule(at_once=st.booleans())
    def connect(self, at_once: bool) -> None:
        """A new connection; its handshake is over at once, or is to be carried."""
        connection = Connection(self.clock)
        self.connections.append(connection)
        if at_once:
            connection.pump()
            assert len(connection.talkers) == 2

    @precondition(lambda self: self.open)
    @rule(which=pick, side=sides, limit=st.sampled_from([None, None, 1, 30, 200, 1000]), turn=st.booleans())
    def carry(self, which: int, side: Side, limit: int | None, turn: bool) -> None:
        """Some bytes arrive."""
        self.calm += 1
        self.open[which % len(self.open)].carry(side, limit)
        if turn:
            self.clock.advance(0)

    @precondition(lambda self: self.open)
    @rule(
        which=pick,
        side=sides,
        reactions=st.lists(st.sampled_from(REACTIONS), max_size=4),
        size=st.sampled_from([0, 700, 700, 1500, 5000]),
    )
    def say(self, which: int, side: Side, reactions: list[str], size: int) -> None:
        """One side sends some messages at once, perhaps one that is too long."""
        self.calm += 1
        self._say(self.talker(which, side), reactions, size)

    def _say(self, talker: Talker | None, reactions: list[str], size: int = 0) -> None:
        if talker is None:
            return
        notes = [self.note(f"{reaction} ".ljust(size, "x")) for reaction in reactions]
        try:
            talker.say(*notes or [self.note()])
        except NotConnected:
            assert talker.lost or any(connection.is_ending(talker) for connection in self.connections)
        except LocalProtocolError:
            assert size > FRAME_LIMIT
            assert notes

    @precondition(lambda self: self.open)
    @rule(which=pick, side=sides, what=st.sampled_from(ANSWERS), timeout=st.sampled_from([1.0, 5.0, 60.0]))
    def ask(self, which: int, side: Side, what: str, timeout: float) -> None:
        """One side makes a call."""
        self.calm += 1
        talker = self.talker(which, side)
        if talker is not None:
            talker.ask(what, timeout)

    @precondition(lambda self: any(t.answering for c in self.connections for t in c.talkers.values()))
    @rule(which=pick, refuse=st.booleans())
    def answer(self, which: int, refuse: bool) -> None:
        """A call is answered, or can't be."""
        waiting = [w for c in self.connections for t in c.talkers.values() for w in t.answering.items()]
        what, deferred = waiting[which % len(waiting)]
        if refuse and what.startswith("later"):
            deferred.cancel()  # as an application does that stops
        else:
            deferred.callback(Told(what))

    @precondition(lambda self: any(not a.outcomes for c in self.open for t in c.talkers.values() for a in t.asked))
    @rule(which=pick)
    def drop(self, which: int) -> None:
        """A caller waits for its call no longer."""
        waiting = [(t, a) for c in self.open for t in c.talkers.values() for a in t.asked if not a.outcomes]
        talker, asked = waiting[which % len(waiting)]
        talker.cancel(asked)

    @precondition(lambda self: self.open)
    @rule(which=pick, side=sides)
    def pause(self, which: int, side: Side) -> None:
        """One side stops reading."""
        talker = self.talker(which, side)
        if talker is not None:
            talker.pause()

    @precondition(lambda self: any(t.paused for c in self.open for t in c.talkers.values()))
    @rule(which=pick)
    def resume(self, which: int) -> None:
        """It reads again."""
        paused = [t for c in self.open for t in c.talkers.values() if t.paused]
        paused[which % len(paused)].resume()

    @rule(seconds=st.sampled_from([0.5, 1.0, 5.0, 10.0, 20.0]), carrying=st.booleans())
    def wait(self, seconds: float, carrying: bool) -> None:
        """Time goes by, with or without anything arriving."""
        while seconds > 0:
            self.clock.advance(min(5.0, seconds))
            seconds -= 5.0
            for connection in self.open if carrying else ():
                connection.pump()

    @precondition(lambda self: self.open and self.calm >= CALM)
    @rule(which=pick, side=sides)
    def close(self, which: int, side: Side) -> None:
        """One side ends the link."""
        self.calm = 0
        talker = self.talker(which, side)
        if talker is not None:
            talker.close()

    @precondition(lambda self: self.open and self.calm >= CALM)
    @rule(
        which=pick,
        side=sides,
        before=st.lists(st.sampled_from(REACTIONS), max_size=2),
        last=st.sampled_from(LAST_REACTIONS),
        after=st.lists(st.sampled_from(REACTIONS + LAST_REACTIONS), max_size=2),
        and_close=st.booleans(),
    )
    def say_what_ends_it(
        self, which: int, side: Side, before: list[str], last: str, after: list[str], and_close: bool
    ) -> None:
        """One side sends what makes the other end the link, or fail; and perhaps ends it itself."""
        self.calm = 0
        talker = self.talker(which, side)
        self._say(talker, [*before, last, *after])
        if talker is not None and and_close:
            talker.close()

    @precondition(lambda self: self.open and self.calm >= CALM)
    @rule(which=pick)
    def cut(self, which: int) -> None:
        """The connection breaks, and both sides notice."""
        self.calm = 0
        self.open[which % len(self.open)].pair.cut()

    @precondition(lambda self: self.open and self.calm >= CALM)
    @rule(which=pick, lost=st.sets(sides, min_size=1), noticed=st.booleans())
    def go_dark(self, which: int, lost: set[Side], noticed: bool) -> None:
        """What these sides write is lost from now on; perhaps one side learns that its connection is gone."""
        self.calm = 0
        connection = self.open[which % len(self.open)]
        connection.wired = False
        connection.pair.blackhole(*lost)
        if noticed:
            connection.pair.blackhole(*Side)
            connection.pair.wire(min(lost)).lose(Failure(ConnectionLost()))

    @precondition(lambda self: self.open)
    @rule(which=pick)
    def settle(self, which: int) -> None:
        """Everything arrives that can."""
        connection = self.open[which % len(self.open)]
        for talker in connection.talkers.values():
            talker.resume()
        connection.pump()
        if not connection.wired or connection.pair.lost or any(t.paused for t in connection.talkers.values()):
            return
        for side, talker in connection.talkers.items():
            other = connection.talkers[OTHER[side]]
            notes = [message for message in other.said if isinstance(message, Note)]
            assert [message for message in talker.heard if isinstance(message, Note)] == notes

    @invariant()
    def hold(self) -> None:
        """What must hold at any time."""
        for connection in self.connections:
            connection.check()
        assert not self.failures, self.failures

    def teardown(self) -> None:
        """All links end, and leave nothing behind."""
        try:
            for connection in self.open:
                connection.pump()
                for talker in connection.talkers.values():
                    talker.resume()
                    if not talker.lost:
                        talker.close()
            for _ in range(12):
                self.wait(5.0, carrying=True)
            self.hold()
            for connection in self.connections:
                assert connection.pair.lost
                for talker in connection.talkers.values():
                    assert len(talker.lost) == 1
                    assert all(len(asked.outcomes) == 1 for asked in talker.asked)
            assert self.clock.getDelayedCalls() == []
        finally:
            globalLogPublisher.removeObserver(cast(Any, self._logged))
            self.patch.stop()


TestLinks = LinkMachine.TestCase
TestLinks.settings = run_settings(
    derandomize=True,
    database=None,
    report_multiple_bugs=False,
    phases=[Phase.generate, Phase.shrink],
    max_examples=examples(75),
    stateful_step_count=40,
)
