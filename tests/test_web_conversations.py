"""What is said on a WebSocket, without the socket: an output that takes, or doesn't take, what is written to it."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.frames import read
from tests.instant import InstantLedger
from twistedipc.builds.logs import Lines
from twistedipc.server.boundaries import StateChange
from twistedipc.server.logs import LogStore
from twistedipc.server.states import Feed
from twistedipc.storage import attempts
from twistedipc.web.followers import Crowds
from twistedipc.web.websocket import MAX_WAITING, LogConversation, StreamConversation


class Socket:
    """What a conversation writes to."""

    def __init__(self) -> None:
        self.paused = False
        self.deflates = False
        self.direct: socket.socket | None = None
        self.written = b""
        self.goodbyes: list[int] = []

    def write_frames(self, data: bytes) -> None:
        """The conversation says something."""
        self.written += data

    def keep(self, data: bytes, sent: int) -> None:
        """See `Output`."""
        raise AssertionError("it has no socket that could have refused it")

    def say_goodbye(self, code: int, reason: str) -> None:
        """It ends."""
        self.goodbyes.append(code)


class SlowLedger(InstantLedger):
    """Its reads wait until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[Deferred[None]] = []

    def read(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        """What it reads is read at once, and told later."""
        result = self._run(query, *args, **kwargs)
        told: Deferred[None] = Deferred()
        self.reads.append(told)
        return told.addCallback(lambda _: result)


class Conversations(SynchronousTestCase):
    def setUp(self) -> None:
        self.feed = Feed()
        self.socket = Socket()

    def stream(self, ledger: InstantLedger) -> StreamConversation:
        self.logs = LogStore(Clock(), ledger.as_ledger())
        conversation = StreamConversation(ledger.as_ledger(), Crowds(self.logs), self.feed, None)
        conversation.opened(self.socket)
        return conversation

    def test_who_does_not_read_the_answers_gets_no_more(self) -> None:
        conversation = self.stream(InstantLedger())
        self.socket.paused = True
        for _ in range(MAX_WAITING):
            conversation.heard(b"nonsense", False)
        self.assertEqual((b"", []), (self.socket.written, self.socket.goodbyes))
        conversation.heard(b"nonsense", False)
        self.assertEqual([1008], self.socket.goodbyes)

    def test_wishes_that_waited_are_granted_when_the_socket_takes_more(self) -> None:
        ledger = InstantLedger()
        attempt = ledger.queue()
        conversation = self.stream(ledger)
        self.socket.paused = True
        conversation.heard(b'{"type":"subscribe","topic":"builds"}', False)
        conversation.heard(b'{"type":"subscribe","topic":"log","build":%d}' % int(attempt.split("-")[0]), False)
        self.assertEqual(b"", self.socket.written)
        self.socket.paused = False
        conversation.pump()
        self.assertEqual(2, self.socket.written.count(b'"subscribed"'))
        conversation.closed()

    def test_tagged_messages_are_deflated_for_a_socket_that_takes_them(self) -> None:
        long = "built in 12 ms, 34 modules; " * 100
        said = []
        for deflates in (False, True):
            ledger = InstantLedger()
            build, attempt = map(int, ledger.queue().split("-"))
            self.socket = Socket()
            self.socket.deflates = deflates
            conversation = self.stream(ledger)
            live = self.logs.live(f"{build}-{attempt}")
            live.active = True
            conversation.heard(b'{"type":"subscribe","topic":"log","build":%d}' % build, False)
            live.append([Lines(first=1, time=1, step=0, lines=[long])])
            live.wake()
            said.append(self.socket.written)
        plain, deflated = said
        self.assertIn(long.encode(), plain)
        self.assertLess(len(deflated), len(plain) / 5)
        self.assertEqual(read(plain), read(deflated))

    def test_an_old_state_is_not_told_after_a_newer_one(self) -> None:
        ledger = SlowLedger()
        attempt = ledger.queue()
        logs = LogStore(Clock(), ledger.as_ledger())
        conversation = LogConversation(ledger.as_ledger(), Crowds(logs), self.feed, lambda: 7, 1, 1, 0)
        conversation.opened(self.socket)
        row = ledger.now(attempts.cancel_queued, attempt, "no more", 9)
        assert row is not None
        self.feed.publish(
            StateChange(build=1, attempt=1, project="hello", state=row.state.value, reason=row.reason, time=9)
        )
        ledger.reads.pop(0).callback(None)
        self.assertEqual(1, self.socket.written.count(b'"state":'))
        self.assertIn(b'"state":"cancelled"', self.socket.written)
        conversation.closed()

    def test_an_attempt_that_is_gone_ends_the_conversation(self) -> None:
        ledger = InstantLedger()
        logs = LogStore(Clock(), ledger.as_ledger())
        conversation = LogConversation(ledger.as_ledger(), Crowds(logs), self.feed, lambda: 7, 99, 1, 0)
        conversation.opened(self.socket)
        self.assertEqual([1011], self.socket.goodbyes)
