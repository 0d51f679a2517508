"""
Logs on real sockets: each viewer gets its log, once and in order, however its socket is read, whichever viewers share
a cursor with it, and whichever way the bytes go.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from twisted.internet.tcp import Server
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.frames import read
from tests.properties import examples
from tests.test_fanout_costs import TOKEN, IdleReactor
from tests.test_server_logs import Platform, batch
from tests.web_world import forget_timers
from twistedipc.server.fanout import entries
from twistedipc.server.fanout.limits import LogLimits
from twistedipc.server.fanout.shared import SharedFiles
from twistedipc.server.gists import Gists
from twistedipc.server.states import Feed
from twistedipc.web.access.held import HeldOpen
from twistedipc.web.http.closing import CloseCode
from twistedipc.web.live import followers
from twistedipc.web.live.conversation import Sources
from twistedipc.web.live.followers import Crowds
from twistedipc.web.live.limits import Limits
from twistedipc.web.live.one_log import LogConversation
from twistedipc.web.live.subscriptions import StreamConversation
from twistedipc.web.live.viewers import ViewerFactory, ViewerProtocol

FORMS = ("plain", "deflated", "tagged", "tagged deflated")

#: Small, so that a short story comes to each limit.
TAKE_BYTES = 4000
LIMITS = LogLimits(tail=9000, fetch=3000)


class Viewer:
    """One viewer of the room's log, behind a record, on a socket without a handshake."""

    def __init__(self, room: Room, after: int, form: str, buffer: int | None) -> None:
        self.room = room
        self.after = after
        self.raw = b""
        ours, self.end = (room.stack.enter_context(each) for each in socket.socketpair())
        for each in (ours, self.end):
            each.setblocking(False)
        if buffer is not None:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        self.protocol: ViewerProtocol = room.factory.viewer(room.held.hold(TOKEN))
        self.protocol.factory = room.factory
        self.transport: Any = Server(ours, self.protocol, ("", 0), None, 0, room.clock)  # type: ignore[arg-type]
        self.protocol.transport = self.transport
        self.protocol.state = ViewerProtocol.STATE_OPEN
        self.protocol.deflates = "deflated" in form
        self.transport.registerProducer(self.protocol, True)
        build, attempt = map(int, room.platform.attempt.split("-"))
        self.tagged = form.startswith("tagged")
        if self.tagged:
            conversation = StreamConversation(room.sources, self.protocol, None)
            self.protocol.converse(conversation)
            wish = {"type": "subscribe", "topic": "log", "build": build, "attempt": attempt, "after": after}
            conversation.heard(json.dumps(wish).encode(), False)
        else:
            self.protocol.converse(LogConversation(room.sources, self.protocol, build, attempt, after))

    def lose(self) -> None:
        """Lose the viewer's connection."""
        self.transport.connectionLost(Failure(ConnectionDone()))

    @property
    def waiting(self) -> int:
        """Bytes in the transport's buffer."""
        transport = self.transport
        return len(transport.dataBuffer) - transport.offset + transport._tempDataLen  # type: ignore[no-any-return]

    def read(self, size: int) -> bool:
        """Read so much of what has come; whether there was anything."""
        try:
            data = self.end.recv(size)
        except BlockingIOError:
            return False
        self.raw += data
        return bool(data)

    def turn(self) -> None:
        """The socket is seen to take more, if the reactor looks at all."""
        if self.waiting or self.protocol.paused:
            self.transport.doWrite()

    def read_all(self) -> None:
        """Until nothing more comes."""
        idle = 0
        while idle < 2:
            self.turn()
            idle = 0 if self.read(1 << 20) else idle + 1

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages that the viewer has got."""
        return [json.loads(message) for message in read(self.raw, texts=True)]

    def check(self) -> None:
        """Check that the viewer has got the log from its place on, without a gap, and with the end if there is one."""
        next = self.after + 1
        ended = False
        for message in self.messages:
            match message["type"]:
                case "lines":
                    assert not ended
                    assert message["first"] == next
                    assert message["lines"] == batch(next, len(message["lines"]), len(message["lines"][0])).lines
                    assert ("build" in message) == self.tagged
                    next += len(message["lines"])
                case "end":
                    ended = True
                    assert message["lines"] == next - 1 == self.room.platform.live.next - 1
        assert next == self.room.platform.live.next
        assert ended == self.room.platform.live.ended


class Room:
    """One log, and its viewers."""

    def __init__(self, limits: LogLimits | None = None, files: SharedFiles | None = None) -> None:
        self.clock = IdleReactor()
        self.files = files or SharedFiles()
        self.platform = Platform(self.clock, limits, self.files)
        self.crowds = Crowds(self.platform.store)
        ledger = self.platform.ledger.as_ledger()
        self.sources = Sources(ledger, self.crowds, Feed(), Gists(self.clock, ledger), lambda: 0)
        self.factory = ViewerFactory(self.clock, 1000, Limits())
        self.held = HeldOpen(self.clock, lambda: 0)
        self.viewers: list[Viewer] = []
        self.stack = ExitStack()
        self.stack.callback(forget_timers)

    def open(self, form: str = "plain", after: int = 0, buffer: int | None = None) -> Viewer:
        """One more viewer."""
        self.viewers.append(Viewer(self, after, form, buffer))
        return self.viewers[-1]

    def send(self, count: int, size: int = 20) -> None:
        """Let so many records come, and tell the viewers."""
        self.platform.send(batch(self.platform.live.next, count, size))
        self.clock.advance(0.001)

    def settle(self) -> None:
        """All is committed and all is read."""
        for _ in range(3):
            self.platform.commit()
            self.clock.advance(1)
            for viewer in self.viewers:
                viewer.read_all()

    @property
    def cursors(self) -> int:
        """How many the log has."""
        return len(self.platform.live.cursors)


@pytest.fixture
def room() -> Iterator[Room]:
    room = Room()
    with room.stack:
        yield room


@pytest.fixture
def failures() -> Iterator[list[LogEvent]]:
    """The failures that are logged meanwhile."""
    found: list[LogEvent] = []

    @implementer(ILogObserver)
    def look(event: LogEvent) -> None:
        if "log_failure" in event:
            found.append(event)

    globalLogPublisher.addObserver(look)
    yield found
    globalLogPublisher.removeObserver(look)


def test_all_current_viewers_share_a_cursor(room: Room) -> None:
    room.send(10)
    for after in (0, 3, 10):
        room.open(after=after)
    assert room.cursors == 1
    room.send(10)
    for viewer in room.viewers:
        viewer.read_all()
        viewer.check()
    assert (room.cursors, len(room.crowds)) == (1, 1)


def test_each_form_is_a_crowd(room: Room) -> None:
    for form in FORMS * 2:
        room.open(form)
    assert (room.cursors, len(room.crowds)) == (4, 4)
    room.send(30, 100)
    for viewer in room.viewers:
        viewer.read_all()
        viewer.check()


def test_a_crowd_ends_with_its_last_member(room: Room) -> None:
    one, two = room.open(), room.open()
    one.lose()
    assert (room.cursors, len(room.crowds)) == (1, 1)
    two.lose()
    assert (room.cursors, len(room.crowds)) == (0, 0)
    three = room.open()
    room.send(1)
    three.read_all()
    three.check()


def test_a_viewer_that_is_ahead_joins_the_others_at_their_round(room: Room) -> None:
    """The viewer has taken what is there at once, and is ahead of the others until the round."""
    room.open()
    live = room.platform.live
    room.platform.commits.add(live, live.append([batch(1, 5)]))
    ahead = room.open()
    assert room.cursors == 2
    room.platform.store.changed(live)
    room.clock.advance(1)
    assert room.cursors == 1
    room.send(1)
    ahead.read_all()
    ahead.check()


def test_a_viewer_that_waits_alone_joins_a_later_crowd(room: Room) -> None:
    """The lone viewer is woken first."""
    first = room.open()
    live = room.platform.live
    room.platform.commits.add(live, live.append([batch(1, 5)]))
    room.open()
    first.lose()
    room.open()
    assert room.cursors == 2
    room.send(1)
    assert room.cursors == 1


def test_a_slow_viewer_leaves_and_comes_back(room: Room) -> None:
    quick, slow = room.open(), room.open(buffer=4096)
    while not slow.protocol.paused:
        room.send(50, 100)
    room.send(50, 100)
    assert room.cursors == 2
    most = slow.waiting
    for _ in range(100):
        room.send(50, 100)
    assert slow.waiting == most, "it is given nothing that it doesn't take"
    quick.read_all()
    quick.check()
    room.settle()
    slow.check()
    room.send(1)
    assert room.cursors == 1
    room.settle()
    slow.check()


def test_all_go_on_by_themselves_when_the_log_is_elsewhere(room: Room) -> None:
    """The log in memory isn't the ledger's: all viewers read from the ledger."""
    for form in FORMS:
        for _ in range(3):
            room.open(form)
    room.send(10)
    room.platform.commit()
    old = room.platform.live
    old.broken = True
    room.platform.live = room.platform.store.live(room.platform.attempt)
    room.platform.live.active = True
    old.wake()
    assert not old.cursors
    room.send(10)
    assert room.cursors == len(FORMS)
    room.settle()
    for viewer in room.viewers:
        viewer.check()


def test_all_are_told_the_end(room: Room) -> None:
    for form in FORMS:
        for _ in range(3):
            room.open(form)
    room.send(10)
    room.platform.commit()
    room.platform.finish()
    room.settle()
    for viewer in room.viewers:
        viewer.check()
        assert viewer.protocol.over != viewer.tagged, "a stream goes on"
    assert (room.cursors, len(room.crowds)) == (0, 0)


def fail(*_: object) -> None:
    """Instead of a method."""
    raise ZeroDivisionError


@pytest.mark.parametrize("when", ["writing", "keeping", "alone"])
def test_a_viewer_that_cannot_be_written_to_is_closed_and_harms_no_other(
    room: Room, failures: list[LogEvent], when: str
) -> None:
    """Something is missing in what the viewer has: only a close may follow, after which it comes again."""
    one, bad, two = (room.open() for _ in range(3))
    room.send(1)
    if when == "keeping":
        bad.protocol.keep = fail  # type: ignore[method-assign, assignment]
        bad.protocol.direct = bad.transport.socket
        bad.transport.socket.close()
    else:
        if when == "alone":
            bad.protocol.paused = True
            room.send(1)
            bad.protocol.paused = False
        bad.protocol.direct = None
        bad.protocol.write_frames = fail  # type: ignore[method-assign, assignment]
    if when == "alone":
        bad.protocol.resumeProducing()
    room.send(1)
    assert len(failures) == 1
    assert bad.protocol.over
    room.send(1)
    assert len(failures) == 1, "it is told no more"
    assert room.cursors == 1
    for viewer in (one, two):
        viewer.read_all()
        viewer.check()


def test_frames_that_cannot_be_made_close_their_viewers(room: Room, failures: list[LogEvent]) -> None:
    one, two = room.open(), room.open("tagged")
    with patch.object(entries, "SharedBytes", side_effect=MemoryError):
        room.send(1)
    assert (one.protocol.over, two.protocol.over, len(failures)) == (True, True, 2)
    assert (room.cursors, len(room.crowds)) == (0, 0)


def test_one_viewers_end_is_not_anothers(room: Room, failures: list[LogEvent]) -> None:
    one, bad, two = (room.open() for _ in range(3))
    bad.protocol.say_goodbye = fail  # type: ignore[method-assign, assignment]
    room.platform.finish()
    assert len(failures) == 1
    for viewer in (one, two):
        viewer.read_all()
        viewer.check()
    assert room.cursors == 0


def test_a_viewer_that_is_closed_during_a_write_to_others_is_gone(room: Room) -> None:
    one, two = room.open(), room.open()
    one.protocol.direct = None
    write = one.protocol.write_frames

    def close_the_other(data: bytes) -> None:
        write(data)
        two.protocol.say_goodbye(CloseCode.NORMAL, "it is enough")

    one.protocol.write_frames = close_the_other  # type: ignore[method-assign]
    room.send(1)
    one.protocol.write_frames = write  # type: ignore[method-assign]
    assert room.cursors == 1
    room.send(1)
    one.read_all()
    one.check()
    two.read_all()
    assert not [message for message in two.messages[1:] if message["type"] == "lines"]


# -- the two ways of the bytes


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The files that were sent from, one for each call."""
    sent = []
    sendfile = os.sendfile

    def noted(out: int, file: int, offset: int, count: int) -> int:
        sent.append(file)
        return sendfile(out, file, offset, count)

    monkeypatch.setattr(os, "sendfile", noted)
    return sent


def test_many_bytes_for_many_sockets_go_by_a_file(room: Room, files: list[int]) -> None:
    viewers = [room.open() for _ in range(room.files.least_sockets)]
    room.send(1)
    room.send(1)
    assert files == []
    room.send(room.files.least_bytes // 100, 120)
    assert len(files) == room.files.least_sockets
    assert len(set(files)) == 1
    room.platform.live.tail.runs.clear()
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(files[0])
    for viewer in viewers:
        viewer.read_all()
        viewer.check()


def test_a_lost_connection_takes_nothing(room: Room) -> None:
    viewers = [room.open() for _ in range(2)]
    room.send(1)
    room.send(1)
    lost = viewers[1]
    lost.end.close()
    room.send(5)
    assert lost.waiting > 0, "for the transport, which finds it out at its next turn"
    viewers[0].read_all()
    viewers[0].check()


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("open"), st.sampled_from(FORMS), st.floats(0, 1)),
            st.tuples(st.just("send"), st.integers(1, 60), st.sampled_from([8, 100, 900])),
            st.tuples(st.just("read"), st.integers(0, 20), st.sampled_from([100, 3000, 100_000])),
            st.tuples(st.just("turn"), st.integers(0, 20), st.none()),
            st.tuples(st.just("ping"), st.integers(0, 20), st.none()),
            st.tuples(st.just("close"), st.integers(0, 20), st.none()),
            st.tuples(st.just("commit"), st.none(), st.none()),
            st.tuples(st.just("append"), st.integers(1, 5), st.sampled_from([8, 100])),
        ),
        min_size=10,
        max_size=60,
    ),
    st.booleans(),
)
@settings(max_examples=examples(30))
def test_nothing_is_lost_doubled_or_overtaken(steps: list[tuple[str, Any, Any]], ends: bool) -> None:
    """Whatever is written, however full the sockets are, which viewers come and go, and whatever Autobahn writes."""
    room = Room(LIMITS, SharedFiles(least_bytes=1000, least_sockets=2))
    live = room.platform.live
    with room.stack, patch.object(followers, "TAKE_BYTES", TAKE_BYTES):
        room.open(buffer=4096)
        for step, one, two in steps:
            viewer = room.viewers[(one or 0) % len(room.viewers)] if isinstance(one, int) else room.viewers[0]
            match step:
                case "open" if len(room.viewers) < 12:
                    room.open(one, int((live.next - 1) * two), (4096, 1 << 16)[len(room.viewers) % 2])
                case "send":
                    room.send(one, two)
                case "append":  # and the viewers aren't told yet
                    room.platform.commits.add(live, live.append([batch(live.next, one, two)]))
                    room.platform.store.changed(live)
                case "read":
                    viewer.read(two)
                case "turn":
                    viewer.turn()
                case "ping":
                    viewer.protocol.sendPing(b"well?")
                case "close" if len(room.viewers) > 1:
                    room.viewers.remove(viewer)
                    viewer.lose()
                case "commit":
                    room.platform.commit()
            assert room.cursors <= len(room.viewers)
        room.settle()
        if ends:
            room.platform.finish()
            room.settle()
        for viewer in room.viewers:
            viewer.check()
        assert room.cursors == (0 if ends else len({form_of(viewer) for viewer in room.viewers}))
        assert len(room.crowds) == room.cursors


def form_of(viewer: Viewer) -> tuple[bool, bool]:
    """Which crowd it belongs to."""
    return viewer.tagged, viewer.protocol.deflates
