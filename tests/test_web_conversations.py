"""What is said on a WebSocket, without the socket: an output that takes, or doesn't take, what is written to it."""

from __future__ import annotations

import json
import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.frames import read
from tests.instant import InstantLedger
from tests.test_server_gists import TalkativeLedger, told
from twistedipc.builds.logs import Lines
from twistedipc.server.boundaries import StateChange
from twistedipc.server.fanout.store import LogStore
from twistedipc.server.gists import ROUND_INTERVAL, Gists
from twistedipc.server.states import Feed
from twistedipc.storage import attempts
from twistedipc.web.http.closing import CloseCode
from twistedipc.web.live.changes import MAX_KEPT
from twistedipc.web.live.conversation import Sources
from twistedipc.web.live.followers import Crowds
from twistedipc.web.live.one_log import LogConversation
from twistedipc.web.live.subscriptions import MAX_WAITING, StreamConversation


class Socket:
    """A socket, as a conversation writes to it."""

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
        """Note that the socket is closed."""
        self.goodbyes.append(code)


class SlowLedger(InstantLedger):
    """A ledger whose reads wait until they are let go."""

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

    def sources(self, ledger: InstantLedger) -> Sources:
        self.clock = Clock()
        self.gists = Gists(self.clock, ledger.as_ledger())
        self.logs = LogStore(Clock(), ledger.as_ledger())
        return Sources(ledger.as_ledger(), Crowds(self.logs), self.feed, self.gists, lambda: 7)

    def stream(
        self, ledger: InstantLedger, projects: frozenset[str] | None = None, *, max_kept: int = MAX_KEPT
    ) -> StreamConversation:
        conversation = StreamConversation(self.sources(ledger), self.socket, projects, max_kept=max_kept)
        conversation.begin()
        return conversation

    def test_a_client_that_does_not_read_its_answers_gets_no_more(self) -> None:
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
        conversation.write_on()
        self.assertEqual(2, self.socket.written.count(b'"subscribed"'))
        conversation.close()

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
        conversation = LogConversation(self.sources(ledger), self.socket, 1, 1, 0)
        conversation.begin()
        row = ledger.now(attempts.cancel_at_once, attempt, "no more", 9)
        assert row is not None
        self.feed.publish(
            StateChange(
                build=1,
                attempt=1,
                project="hello",
                state=row.state.value,
                ended=True,
                tone="warning",
                reason=row.reason,
                time=9,
            )
        )
        ledger.reads.pop(0).callback(None)
        self.assertEqual(1, self.socket.written.count(b'"state":'))
        self.assertIn(b'"state":"cancelled"', self.socket.written)
        conversation.close()

    def test_an_attempt_that_is_gone_ends_the_conversation(self) -> None:
        ledger = InstantLedger()
        conversation = LogConversation(self.sources(ledger), self.socket, 99, 1, 0)
        conversation.begin()
        self.assertEqual([1011], self.socket.goodbyes)


class Sayings(Conversations):
    """The gists of builds, as subscribers of builds get them."""

    def setUp(self) -> None:
        super().setUp()
        self.ledger = TalkativeLedger()
        self.build, self.other = self.ledger.build(), self.ledger.build("other")
        self.ledger.say(self.build, 0.25)

    def heard(self) -> list[Any]:
        """The messages since, but for states."""
        written, self.socket.written = self.socket.written, b""
        return [message for message in map(json.loads, read(written)) if message["type"] != "state"]

    def ask(self, conversation: StreamConversation, kind: str = "subscribe", **wish: object) -> None:
        conversation.heard(json.dumps({"type": kind, "topic": "builds", **wish}).encode(), False)

    def say(self, build: int, value: float) -> None:
        self.ledger.say(build, value)
        self.gists.changed(build)

    def later(self) -> None:
        """A round is due, and made."""
        self.clock.advance(ROUND_INTERVAL)

    def test_what_holds_follows_the_subscription_and_then_what_changes(self) -> None:
        conversation = self.stream(self.ledger)
        self.ask(conversation)
        self.assertEqual([{"type": "subscribed", "topic": "builds"}], self.heard())
        self.clock.advance(0)
        mine, others = told(self.build, 0.25), told(self.other, None, project="other")
        self.assertEqual([others, mine], self.heard())
        self.say(self.build, 0.5)
        self.later()
        self.assertEqual([told(self.build, 0.5)], self.heard())
        # Once more, as after a socket that was lost: all that holds.
        self.ask(conversation)
        self.later()
        self.assertEqual([{"type": "subscribed", "topic": "builds"}, others, told(self.build, 0.5)], self.heard())
        conversation.close()

    def test_nothing_for_a_client_without_the_topic(self) -> None:
        conversation = self.stream(self.ledger)
        self.ask(conversation, topic="log", build=self.build)
        self.heard()
        reads = self.ledger.reads
        self.say(self.build, 0.5)
        self.later()
        self.assertEqual(([], reads), (self.heard(), self.ledger.reads))
        # Nor for a client that has it no longer.
        self.ask(conversation)
        self.ask(conversation, project="other")
        self.later()
        self.assertEqual(4, len(self.heard()))
        self.ask(conversation, "unsubscribe")
        self.say(self.build, 0.6)
        self.say(self.other, 0.6)
        self.later()
        self.assertEqual([told(self.other, 0.6, project="other")], self.heard())
        self.ask(conversation, "unsubscribe", project="other")
        reads = self.ledger.reads
        self.say(self.other, 0.7)
        self.later()
        self.assertEqual(([], reads), (self.heard(), self.ledger.reads))
        conversation.close()

    def test_no_client_is_told_what_it_may_not_see(self) -> None:
        conversation = self.stream(self.ledger, frozenset({"other"}))
        self.ask(conversation)
        self.ask(conversation, project="hello")
        subscribed, refused = self.heard()
        self.assertEqual(("subscribed", "not_found"), (subscribed["type"], refused["code"]))
        self.later()
        self.assertEqual([told(self.other, None, project="other")], self.heard())
        self.say(self.build, 0.5)
        self.later()
        self.assertEqual(b"", self.socket.written)
        self.say(self.build, 0.6)
        self.say(self.other, 0.6)
        self.later()
        self.assertEqual([told(self.other, 0.6, project="other")], self.heard())
        conversation.close()

    def test_a_client_that_does_not_read_gets_the_newest_gist(self) -> None:
        conversation = self.stream(self.ledger)
        self.ask(conversation)
        self.later()
        self.heard()
        self.socket.paused = True
        for value in (0.4, 0.5, 0.6):
            self.say(self.build, value)
            self.later()
        self.feed.publish(
            StateChange(
                build=self.build,
                attempt=1,
                project="hello",
                state="publishing",
                ended=False,
                tone="busy",
                reason="",
                time=9,
            )
        )
        self.say(self.other, 0.1)
        self.later()
        self.assertEqual(b"", self.socket.written)
        self.socket.paused = False
        conversation.write_on()
        self.assertIn(b'"state":"publishing"', self.socket.written, "beside it")
        self.assertEqual([told(self.build, 0.6), told(self.other, 0.1, project="other")], self.heard())
        conversation.write_on()
        self.assertEqual([], self.heard())
        conversation.close()

    def test_what_is_kept_is_bounded(self) -> None:
        conversation = self.stream(self.ledger, max_kept=3)
        self.ask(conversation)
        self.later()
        self.socket.paused = True
        more = [self.ledger.build() for _ in range(2)]
        for build in (self.build, *more) * 2:
            self.say(build, 0.5)
            self.later()
        self.assertEqual([], self.socket.goodbyes)
        self.say(self.other, 0.5)
        self.later()
        self.assertEqual([CloseCode.TOO_SLOW], self.socket.goodbyes)
        conversation.close()

    def test_a_socket_that_is_closed_listens_no_more(self) -> None:
        conversation = self.stream(self.ledger)
        self.ask(conversation)
        self.later()
        self.heard()
        conversation.close()
        self.say(self.build, 0.5)
        self.later()
        self.assertEqual(([], []), (self.heard(), self.clock.getDelayedCalls()))
