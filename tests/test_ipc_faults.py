"""
A fault costs what is at fault: a call, a message, a stream. What else is on the link goes on; and after a link has
ended nothing that is said goes to it.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.ipc_example import apiserver, builder
from twistedipc.ipc import (
    CallFailed,
    CallTimedOut,
    Interface,
    LinkRefused,
    LocalProtocolError,
    MemoryOutbox,
    Message,
    NotConnected,
    Peer,
    RefuseStream,
    Remote,
    RemoteProtocolError,
    Request,
    Service,
    StreamFailed,
    StreamId,
    StreamOf,
    TooManyCalls,
    Unlinked,
    handles,
    receives,
)
from twistedipc.ipc.testing import ServicePair
from twistedipc.ipc.wire import handshake
from twistedipc.ipc.wire.messages import encode
from twistedipc.ipc.wire.session import Closed, Ready, Session
from twistedipc.ipc.wire.settings import Side

NAN = float("nan")


class Inner(msgspec.Struct):
    x: float = 0.0
    note: str | None = None


class Told(msgspec.Struct):
    n: int = 0
    x: float | None = None
    s: str = ""
    more: dict[str, Inner] = {}
    any: Any = None


class Ask(Request[Told]):
    what: str = ""
    x: float | None = None
    any: Any = None


class Note(Message):
    text: str = ""
    x: float | None = None
    any: Any = None


class Item(msgspec.Struct):
    n: int
    x: float | None = None
    text: str = ""


ITEMS = StreamOf("items", Item)
OTHERS = StreamOf("others", Item)
ODD = Interface("odd", Ask, Note, streams=[ITEMS, OTHERS])


class Shelf:
    """Takes items, and does as it is told before."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.first: Callable[[], object] = lambda: None  # at each `take`
        self.asked: Callable[[], Any] = lambda: len(self.items) + 1

    def position(self) -> Any:
        return self.asked()

    def take(self, first: int, items: Sequence[Item]) -> None:
        self.first()
        self.items += items


class Odd(Service):
    """Answers what ``answer`` gives, and receives into its shelves."""

    interface = ODD

    def __init__(self) -> None:
        self.answer: Callable[[Ask], Any] = lambda request: Told(s=request.what)
        self.handle: Callable[[Note], Any] = lambda message: self.heard.append(message.text)
        self.make: Callable[[StreamId], Any] = lambda stream: self.shelves.setdefault(stream.stream, Shelf())
        self.heard: list[str] = []
        self.shelves: dict[str, Shelf] = {}
        self.lost: list[str] = []

    @handles(Ask)
    def ask(self, request: Ask, peer: Peer) -> Told:
        self.heard.append(f"call {request.what}")
        told: Told = self.answer(request)
        return told

    @handles(Note)
    def note(self, message: Note, peer: Peer) -> Any:
        return self.handle(message)

    @receives(ITEMS, OTHERS)
    def items(self, stream: StreamId) -> Shelf:
        shelf: Shelf = self.make(stream)
        return shelf

    def peer_lost(self, peer: Peer, reason: str) -> None:
        self.lost.append(reason)


class World(SynchronousTestCase):
    """One service, and the remote that asks it."""

    def setUp(self) -> None:
        self.service = Odd()
        self.pair = ServicePair(self.service)
        self.remote = self.pair.remote

    def assert_lives(self) -> None:
        """The link is the first one still, and is answered."""
        self.assertEqual(self.service.lost, [])
        self.service.answer = lambda request: Told(7)
        reply = self.remote.call(Ask())
        self.pair.pump()
        self.assertEqual(self.successResultOf(reply), Told(7))


class AfterTheLink(World):
    """
    In ``except NotConnected:`` a second call failed at once, by the old reason, since the dead peer still stood for the
    living one; and a loop that tried again never let the reactor turn.
    """

    def ends(self) -> dict[str, Callable[[], object]]:
        """Ways for a link to end."""

        def kill() -> None:
            assert self.pair.wire is not None
            self.pair.wire.kill(Side.LISTENER)

        def garbage() -> None:
            assert self.pair.wire is not None
            self.pair.wire.wire(Side.LISTENER).write(b"no JSON\n")
            self.pair.pump()

        def goodbye() -> None:
            (peer,) = self.pair.listening.peers
            peer.close("tired", "that is all")
            self.pair.pump()

        def own() -> None:
            assert self.remote.peer is not None
            self.remote.peer.close("tired", "that is all")
            self.pair.pump()

        def silence() -> None:
            assert self.pair.wire is not None
            self.pair.wire.blackhole(*Side)
            self.pair.advance(40)

        return {each.__name__: each for each in (self.pair.cut, kill, garbage, goodbye, own, silence)}

    def test_what_is_said_in_the_errback_waits_for_the_next_link(self) -> None:
        for how in self.ends():
            self.setUp()
            later: list[Any] = []
            self.service.answer = lambda request: Deferred()
            self.service.heard.clear()

            def again(failure: Failure, later: list[Any] = later) -> None:
                failure.trap(NotConnected)
                self.assertIsNone(self.remote.peer)
                self.remote.send(Note("kept"))
                later.append(self.remote.linked())
                later.append(self.remote.call(Ask("again"), timeout=500))
                later.append(Deferred.fromCoroutine(self.remote.drain()))
                stream = self.remote.stream(ITEMS)
                later.append(Deferred.fromCoroutine(stream.write(Item(1))))
                later.append(stream.flushed())

            lost = self.remote.call(Ask("lost"), timeout=500)
            lost.addErrback(again)
            self.pair.pump()
            self.ends()[how]()
            self.successResultOf(lost)
            linked, reply, drained, written, flushed = later
            for each in (linked, reply, drained, flushed):
                self.assertNoResult(each)
            self.assertEqual(self.successResultOf(written), 1)
            self.service.answer = lambda request: Told(1)
            self.pair.link()
            self.pair.pump()
            self.assertEqual(self.service.heard, ["call lost", "kept", "call again"], how)
            self.assertEqual(self.successResultOf(reply), Told(1))
            for each in (linked, drained, flushed):
                self.successResultOf(each)

    def test_a_reply_and_the_end_in_one_chunk(self) -> None:
        """A caller that asks again when a link's last words answer it gets another link."""
        first = self.remote.call(Ask("first"))
        second: list[Deferred[Told]] = []
        first.addCallback(lambda told: second.append(self.remote.call(Ask("second"))))
        assert self.pair.wire is not None
        self.pair.wire.clock.advance(0)
        self.pair.wire.carry(Side.DIALLER)
        (peer,) = self.pair.listening.peers
        peer.close("tired", "that is all")
        self.pair.pump()
        self.assertNoResult(second[0])
        self.pair.link()
        self.assertEqual(self.successResultOf(second[0]), Told(s="second"))

    def test_a_loop_of_retries_lets_the_reactor_turn(self) -> None:
        self.service.answer = lambda request: Deferred()

        async def ask() -> Told:
            while True:
                try:
                    return await self.remote.call(Ask("x"))
                except NotConnected:
                    continue

        asking = Deferred.fromCoroutine(ask())
        self.pair.pump()
        self.pair.cut()
        self.assertNoResult(asking)
        self.service.answer = lambda request: Told(3)
        self.pair.link()
        self.assertEqual(self.successResultOf(asking), Told(3))

    def test_even_where_calls_do_not_wait(self) -> None:
        """And where there won't be a link again: a turn comes after a hundred failures."""
        for end in (False, True):
            pair = ServicePair(Odd(), unlinked=Unlinked(calls_wait=False), linked=False)
            if end:
                pair.remote.close()
            count = [0]
            stop: list[bool] = []

            async def ask(pair: ServicePair = pair, count: list[int] = count, stop: list[bool] = stop) -> None:
                while not stop:
                    try:
                        await pair.remote.call(Ask("x"))
                    except NotConnected:
                        count[0] += 1

            asking = Deferred.fromCoroutine(ask())
            self.assertLess(count[0], 101)
            stop.append(True)
            pair.pump()
            self.successResultOf(asking)

    def test_the_listening_side(self) -> None:
        """The service's peers are those that are linked, also in a callback that hears of a failure."""
        answers = Odd()
        back = ServicePair(Odd(), answers=answers)
        (peer,) = back.listening.peers
        seen: list[set[Peer]] = []
        lost: Deferred[Any] = peer.call(Ask("x"))
        answers.answer = lambda request: Deferred()
        lost.addErrback(lambda failure: seen.append(set(back.listening.peers)))
        back.wire.wire(Side.LISTENER).buffer.clear()  # type: ignore[union-attr]
        back.cut()
        self.assertEqual(seen, [set()])


class Order(World):
    """Calls overtook messages, and messages calls, when they had waited for the link."""

    @given(st.lists(st.sampled_from(["send", "call", "cancel", "late"]), max_size=12))
    def test_as_it_was_said(self, said: list[str]) -> None:
        self.service = Odd()
        pair = ServicePair(self.service, linked=False)
        expected: list[str] = []
        replies: list[Deferred[Told]] = []
        for number, what in enumerate(said):
            match what:
                case "send":
                    pair.remote.send(Note(str(number)))
                    expected.append(str(number))
                case "call":
                    replies.append(pair.remote.call(Ask(str(number))))
                    expected.append(f"call {number}")
                case "cancel":
                    cancelled = pair.remote.call(Ask(str(number)))
                    cancelled.cancel()
                    self.failureResultOf(cancelled, CancelledError)
                case "late":
                    late = pair.remote.call(Ask(str(number)), timeout=0.5)
                    pair.advance(1.0)
                    self.failureResultOf(late, CallTimedOut)
        # A caller that waits for the link speaks after what was said before.
        pair.remote.linked().addCallback(lambda _: pair.remote.send(Note("last")))
        pair.link()
        pair.pump()
        self.assertEqual(self.service.heard, [*expected, "last"])
        for reply in replies:
            self.successResultOf(reply)

    def test_what_is_said_meanwhile_comes_behind(self) -> None:
        """In a callback that hears of a failure while waiting messages are being sent."""
        pair = ServicePair(self.service, linked=False)
        changed = Ask("changed")
        failing = pair.remote.call(changed)
        pair.remote.send(Note("second"))
        failing.addErrback(lambda _: pair.remote.send(Note("third")))
        changed.any = NAN  # it could be sent when it was said
        pair.link()
        self.assertEqual(self.service.heard, ["second", "third"])

    def test_one_that_was_changed_meanwhile_costs_itself(self) -> None:
        """All messages that waited with it were lost, too."""
        pair = ServicePair(self.service, linked=False)
        notes = [Note(str(n)) for n in range(3)]
        for note in notes:
            pair.remote.send(note)
        notes[1].x = NAN
        pair.link()
        self.assertEqual(self.service.heard, ["0", "2"])
        (logged,) = self.flushLoggedErrors(LocalProtocolError)
        self.assertIn("nan at $.x", logged.getErrorMessage())

    def test_a_link_that_ends_on_one_who_waited_is_not_given_to_the_next(self) -> None:
        pair = ServicePair(self.service, linked=False)
        first, second = pair.remote.linked(), pair.remote.linked()
        first.addCallback(lambda peer: peer.close("tired", "that is all"))
        pair.link()
        self.successResultOf(first)
        self.assertNoResult(second)
        pair.link()
        self.assertIs(self.successResultOf(second), pair.remote.peer)

    def test_the_limit_of_calls_is_this_sides_own(self) -> None:
        """One more than may wait, or be in flight, isn't the service's ``busy``."""
        for linked in (True, False):
            pair = ServicePair(Odd(), linked=linked, max_calls=3)
            calls = [pair.remote.call(Ask(str(n))) for n in range(4)]
            error = self.failureResultOf(calls.pop(), TooManyCalls).value
            self.assertEqual(error.code, "busy")
            self.assertIn("its own limit (max_calls)", str(error))
            if not linked:
                pair.link()
            pair.pump()
            for call in calls:
                self.successResultOf(call)


class Colour(enum.Enum):
    RED = "red"


#: What is no `Told`, and what its author reads of it.
BAD_REPLIES: dict[str, tuple[Any, str]] = {
    "a string for a number": (Told("1"), "Expected `int`, got `str`"),  # type: ignore[arg-type]
    "within": (Told(more={"a": Inner(x="1")}), "got `str` - at `$.reply.more"),  # type: ignore[arg-type]
    "None": (None, "it must be Told, not NoneType"),
    "a dict": ({"n": 1}, "it must be Told, not dict"),
    "another struct": (Inner(), "it must be Told, not Inner"),
    "NaN": (Told(x=NAN), "nan at $.x"),
    "infinity, deep in": (Told(any=[{"a": (1, float("-inf"))}]), "-inf at $.any[0].a[1]"),
    "NaN beside a number of more than 64 bits": (Told(2**70, x=NAN), "nan at $.x"),
    "NaN in a struct of a dict": (Told(more={"k": Inner(NAN)}), "nan at $.more.k.x"),
    "a lone surrogate": (Told(s="caf\udce9"), "lone surrogate"),
    "no JSON": (Told(any=object()), "can't be sent as JSON"),
}


class Replies(World):
    """A reply with a wrong field ended the link, with all calls in flight; its author heard nothing of it."""

    def answered(self, answer: Callable[[Ask], Any]) -> CallFailed:
        self.service.answer = answer
        innocent: Deferred[Told] = Deferred()
        self.service.answer = lambda request: innocent if request.what == "innocent" else answer(request)
        other, reply = self.remote.call(Ask("innocent")), self.remote.call(Ask("x"))
        self.pair.pump()
        innocent.callback(Told(5))
        self.pair.pump()
        self.assertEqual(self.successResultOf(other), Told(5))
        error = self.failureResultOf(reply, CallFailed).value
        assert isinstance(error, CallFailed)
        self.assert_lives()
        return error

    def test_its_author_gets_the_error(self) -> None:
        for how in (succeed, lambda reply: reply):
            for name, (reply, words) in BAD_REPLIES.items():
                with self.subTest(name):
                    error = self.answered(lambda request, r=reply, h=how: h(r))  # type: ignore[misc]
                    self.assertEqual(error.code, "internal")
                    self.assertEqual(error.message, "the reply to ask isn't what was declared; see the log there")
                    (logged,) = self.flushLoggedErrors()
                    self.assertIn(words, str(logged.value))

    def test_good_ones_are_as_they_were(self) -> None:
        for reply in (
            Told(2**70, 1e300, "ü☃", {"k": Inner(note=None)}, [None, {"null": "null"}, -0.0, "\xcb\x7f"]),
            Told(any={"a": float(2**1023)}),
        ):
            self.service.answer = lambda request, r=reply: r  # type: ignore[misc]
            told = self.remote.call(Ask())
            self.pair.pump()
            self.assertEqual(self.successResultOf(told), reply)

    def test_one_over_the_limit_says_so_at_both_sides(self) -> None:
        error = self.answered(lambda request: Told(s="x" * (1 << 20)))
        self.assertEqual(error.code, "too-large")
        self.assertIn("over the limit of 1048576 (frame_limit)", error.message)
        (logged,) = self.flushLoggedErrors()
        self.assertIn("over the limit of 1048576", str(logged.value))

    def test_errors_whose_words_cannot_be_sent(self) -> None:
        """`CallFailed` with a surrogate, a code that is no string, or data that JSON can't hold."""
        for data in ({"x": [NAN]}, "\ud800", object()):
            error = self.answered(lambda request, d=data: self.fail_with(404, "caf\udce9 " + "x" * 5000, d))  # type: ignore[misc]
            self.assertEqual((error.code, error.data), ("404", None))
            self.assertIn("caf\\udce9 xxx", error.message)
            (logged,) = self.flushLoggedErrors()
            self.assertIn("JSON", str(logged.value))

    def fail_with(self, code: Any, message: str, data: object) -> None:
        raise CallFailed(code, message, data)

    def test_from_an_older_program(self) -> None:
        """It has sent what was right in its own version: only the caller can tell."""
        reply = self.remote.call(Ask("x"))
        other = self.remote.call(Ask("y"))
        assert self.pair.wire is not None
        self.pair.wire.clock.advance(0)
        self.pair.wire.wire(Side.DIALLER).take()
        answers = b'{"type":"reply","id":1,"reply":{"n":"1"}}\n{"type":"reply","id":2,"reply":{"n":2}}\n'
        self.pair.wire.wire(Side.LISTENER).write(answers)
        self.pair.pump()
        error = self.failureResultOf(reply, CallFailed).value
        self.assertEqual(error.code, "bad-reply")
        self.assertEqual(self.successResultOf(other), Told(2))
        self.assertEqual(self.service.lost, [])


class WhereItIsSent(World):
    """NaN became null in silence, and ended the link at the far end; a lone surrogate raised UnicodeEncodeError."""

    def test_what_json_cannot_hold_is_refused_at_once(self) -> None:
        for linked in (True, False):
            remote = ServicePair(self.service, linked=linked).remote
            for bad in (
                Note(x=NAN),
                Note(any=[NAN]),
                Note("\ud800"),
                Note(any=object()),
                Note(any={1.5: float("inf")}),
            ):
                self.assertRaises(LocalProtocolError, remote.send, bad)
            for bad_call in (Ask(x=NAN), Ask(any={"a": NAN}), Ask("\udcff"), Ask(any=object())):
                self.assertRaises(LocalProtocolError, remote.call, bad_call)
            stream = remote.stream(ITEMS)
            for item in (Item(1, NAN), Item("1"), Item(None), Item(2, "\ud800")):  # type: ignore[arg-type]
                self.failureResultOf(Deferred.fromCoroutine(stream.write(item)), LocalProtocolError)
            self.assertEqual(stream.next, 1)
        self.assert_lives()

    def test_several_at_once(self) -> None:
        assert self.remote.peer is not None
        for bad in (Note(x=NAN), Note("\ud800"), Note(any=[float("inf")])):
            self.assertRaises(LocalProtocolError, self.remote.peer.send_many, [Note("good"), bad])
        self.remote.peer.send_many([Note("a"), Note("b", any=[None])])
        self.pair.pump()
        self.assertEqual(self.service.heard, ["a", "b"])


class Loose(Message):
    """What may hold anything."""

    any: Any = None
    raw: msgspec.Raw = msgspec.Raw(b"null")


class LooseAsk(Request[Loose]):
    any: Any = None
    raw: msgspec.Raw = msgspec.Raw(b"null")


class Whatever(Message):
    any: Any = None


class WhateverAsk(Request[Loose]):
    any: Any = None


class LooseItem(msgspec.Struct):
    any: Any = None
    raw: msgspec.Raw = msgspec.Raw(b"null")


LOOSE_ITEMS = StreamOf("items", LooseItem)


class LooseService(Service):
    interface = Interface("loose", Loose, LooseAsk, Whatever, WhateverAsk, streams=[LOOSE_ITEMS])

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.lost: list[str] = []
        self.reply = Loose()

    @handles(Loose)
    def note(self, message: Loose, peer: Peer) -> None:
        self.got.append(message)

    @handles(Whatever)
    def whatever(self, message: Whatever, peer: Peer) -> None:
        self.got.append(message)

    @handles(WhateverAsk)
    def whatever_ask(self, request: WhateverAsk, peer: Peer) -> Loose:
        self.got.append(request)
        return self.reply

    @handles(LooseAsk)
    def ask(self, request: LooseAsk, peer: Peer) -> Loose:
        self.got.append(request)
        return self.reply

    @receives(LOOSE_ITEMS)
    def items(self, stream: StreamId) -> LooseService:
        return self

    def position(self) -> int:
        return 1

    def take(self, first: int, items: Sequence[LooseItem]) -> None:
        self.got += items

    def peer_lost(self, peer: Peer, reason: str) -> None:
        self.lost.append(reason)


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def at_depth(frames: int, work: Callable[[], Any]) -> Any:
    """Do it with so many more frames on the stack."""
    return work() if frames == 0 else at_depth(frames - 1, work)


class WhatIsInside(SynchronousTestCase):
    """JSON that a `msgspec.Raw` brings, and what is nested as deeply as one side can just write, ended the link."""

    def setUp(self) -> None:
        self.service = LooseService()
        self.pair = ServicePair(self.service)
        self.remote = self.pair.remote

    def assert_lives(self) -> None:
        self.assertEqual(self.service.lost, [])
        self.service.got.clear()
        self.remote.send(Loose(1))
        self.pair.pump()
        self.assertEqual(self.service.got, [Loose(1)])

    def test_raw_that_is_no_json_is_refused_where_it_is_sent(self) -> None:
        stream, peer = self.remote.stream(LOOSE_ITEMS), self.remote.peer
        assert peer is not None
        for bad in (b"", b"{", b"nul", b"1}", b'"\xff"', b'"\\ud800"', b"NaN", b"1 2", b"[" * 2000 + b"]" * 2000):
            raw = msgspec.Raw(bad)
            with self.subTest(bad[:20]):
                for send in (
                    lambda raw=raw: self.remote.send(Loose(raw=raw)),
                    lambda raw=raw: peer.send_many([Loose(), Loose(raw=raw)]),
                    lambda raw=raw: self.remote.call(LooseAsk(raw=raw)),
                ):
                    with self.assertRaisesRegex(LocalProtocolError, "JSON"):
                        send()
                written = Deferred.fromCoroutine(stream.write(LooseItem(raw=raw)))
                self.failureResultOf(written, LocalProtocolError)
                self.service.reply = Loose(raw=raw)
                reply = self.remote.call(LooseAsk())
                self.pair.pump()
                self.assertEqual(self.failureResultOf(reply, CallFailed).value.code, "internal")
                self.assertEqual(len(self.flushLoggedErrors()), 1)
                self.assert_lives()

    def test_raw_with_line_breaks_arrives(self) -> None:
        raw = msgspec.Raw(b'{\r\n  "a": [1,\n 2.50, "\\n"]\n}\n')
        self.service.reply = Loose(raw=raw)
        self.remote.send(Loose({"x": [raw]}, raw))
        assert self.remote.peer is not None
        self.remote.peer.send_many([Loose(raw=raw)] * 2)
        reply = self.remote.call(LooseAsk(raw=raw))
        self.successResultOf(Deferred.fromCoroutine(self.remote.stream(LOOSE_ITEMS).write(LooseItem(raw=raw))))
        self.pair.pump()
        there = [*self.service.got, self.successResultOf(reply)]
        self.assertEqual([bytes(each.raw) for each in there], [b'{"a":[1,2.50,"\\n"]}'] * 6)
        self.assertEqual(self.service.got[0].any, {"x": [{"a": [1, 2.5, "\n"]}]})

    def test_what_is_unsound_within_anything_costs_itself(self) -> None:
        self.remote.send(Whatever([msgspec.Raw(b"{")]))
        reply = self.remote.call(WhateverAsk([msgspec.Raw(b"{")]))
        self.pair.pump()
        self.assertEqual(self.failureResultOf(reply, CallFailed).value.code, "bad-request")
        self.assertEqual(self.service.got, [])
        self.assert_lives()

    def test_nesting_that_one_side_can_just_write(self) -> None:
        """For the other it may be too much, or not: it has other frames on its stack."""
        stream = self.remote.stream(LOOSE_ITEMS)
        there = 0
        for levels in range(880, 1000, 3):
            value = nested(levels)
            for say in (
                lambda value=value: self.remote.send(Loose(value)),
                lambda value=value: self.remote.call(LooseAsk(value)).addErrback(lambda _: None),
            ):
                try:
                    say()
                except LocalProtocolError:
                    continue
                self.assertEqual(self.service.lost, [])
            at_depth(60, self.pair.pump)
            there += len(self.service.got)
            self.assert_lives()
        self.assertGreater(there, 0)
        for levels in range(880, 1000, 3):
            self.service.reply = Loose(nested(levels))
            reply = self.remote.call(LooseAsk())
            self.pair.pump()
            assert reply.called
            reply.addErrback(lambda failure: failure.trap(CallFailed))
            self.assert_lives()
        self.flushLoggedErrors()
        for levels in range(880, 1000, 3):
            Deferred.fromCoroutine(stream.write(LooseItem(nested(levels)))).addErrback(lambda _: None)
            at_depth(60, self.pair.pump)
            self.assertEqual(self.service.lost, [])
        self.assertIsNotNone(stream.refusal)
        self.assert_lives()


class FrameLimits(SynchronousTestCase):
    """A message that this side might send and the other wouldn't take ended the link."""

    def pair(self, asks: int, answers: int) -> tuple[ServicePair, Remote, Odd]:
        """The limit of the side that asks, and of the one that answers."""
        service = Odd()
        pair = ServicePair(service, linked=False)
        for side, limit in ((Side.DIALLER, asks), (Side.LISTENER, answers)):
            pair.settings[side] = dataclasses.replace(pair.settings[side], frame_limit=limit)
        pair.link()
        return pair, pair.remote, service

    def test_a_reply_is_checked_against_the_callers_limit(self) -> None:
        for asks, answers in ((4096, 1 << 20), (1 << 20, 4096)):
            pair, remote, service = self.pair(asks, answers)
            assert remote.peer is not None
            self.assertEqual(remote.peer.frame_limit, 4096)
            service.answer = lambda request: Told(s="x" * int(request.what))
            calls = [remote.call(Ask(str(size))) for size in (4000, 4200)]
            pair.pump()
            self.assertEqual(len(self.successResultOf(calls[0]).s), 4000)
            error = self.failureResultOf(calls[1], CallFailed).value
            assert isinstance(error, CallFailed)
            self.assertEqual(error.code, "too-large")
            self.assertIn("over the limit of 4096", error.message)
            (logged,) = self.flushLoggedErrors()
            self.assertIn("over the limit of 4096", str(logged.value))
            self.assertEqual(service.lost, [])

    def test_messages_and_requests_are_refused_where_they_are_sent(self) -> None:
        for asks, answers in ((4096, 1 << 20), (1 << 20, 4096)):
            pair, remote, service = self.pair(asks, answers)
            peer = remote.peer
            assert peer is not None
            note = Note("x" * 4200)
            with self.assertRaisesRegex(LocalProtocolError, "over the limit of 4096"):
                remote.send(note)
            with self.assertRaisesRegex(LocalProtocolError, "over the limit of 4096"):
                peer.send_many([note])
            with self.assertRaisesRegex(LocalProtocolError, "over the limit of 4096"):
                remote.call(Ask(note.text))
            pair.pump()
            self.assertEqual(service.lost, [])

    def test_what_was_said_before_there_was_a_link(self) -> None:
        """It is checked again when the other side's limit is known: each costs itself."""
        pair, remote, service = self.pair(1 << 20, 4096)
        pair.cut()
        remote.send(Note("x" * 4200))
        remote.send(Note("short"))
        call = remote.call(Ask("x" * 4200))
        other = remote.call(Ask("short"))
        pair.link()
        pair.pump()
        self.failureResultOf(call, LocalProtocolError)
        self.assertEqual(self.successResultOf(other), Told(s="short"))
        self.assertEqual(service.heard, ["short", "call short"])
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        self.assertEqual(len(service.lost), 1)  # the first link, which was cut

    def test_items_of_streams(self) -> None:
        pair, remote, service = self.pair(1 << 20, 4096)
        stream = remote.stream(ITEMS)
        pair.pump()
        written = Deferred.fromCoroutine(stream.write(Item(1, text="x" * 4200)))
        self.assertIn("over the limit", str(self.failureResultOf(written, LocalProtocolError).value))
        outbox = MemoryOutbox()
        outbox.append(b'{"n":1,"text":"%b"}' % (b"x" * 4200))
        refused = remote.stream(ITEMS, outbox).flushed()
        pair.pump()
        self.assertEqual(self.failureResultOf(refused, StreamFailed).value.code, "too-large")
        self.assertEqual(service.lost, [])

    def test_an_older_peer_says_no_limit(self) -> None:
        """Then each side goes by its own, as it did before; and the codes are those of before."""
        settings = builder(frame_limit=8192)
        session = Session(Side.DIALLER, settings, nonce="d" * 64, now=0.0)
        challenge = handshake.Challenge(versions=[1], role="apiserver", name="apiserver-1", nonce="a" * 64)
        session.receive(encode(challenge), 0.0)
        hello = msgspec.json.decode(session.data_to_send(), type=handshake.Hello)
        self.assertIs(hello.frame_limit, msgspec.UNSET)
        self.assertEqual(hello.mac, handshake.hello_mac(settings.key, challenge, hello))
        welcome = handshake.Welcome(incarnation="x", heartbeat=8000, mac="")
        mac = handshake.welcome_mac(settings.key, challenge, hello, welcome)
        (ready,) = session.receive(encode(msgspec.structs.replace(welcome, mac=mac)), 0.0)
        self.assertIsInstance(ready, Ready)
        self.assertEqual(session.send_limit, 8192)
        # And the other way round: an older dialler.
        settings = apiserver(frame_limit=8192)
        session = Session(Side.LISTENER, settings, nonce="a" * 64, now=0.0)
        challenge = msgspec.json.decode(session.data_to_send(), type=handshake.Challenge)
        self.assertEqual(challenge.frame_limit, 8192)
        hello = handshake.Hello(version=1, role="builder", name="b", incarnation="i", nonce="d" * 64, mac="")
        hello = msgspec.structs.replace(hello, mac=handshake.hello_mac(settings.key, challenge, hello))
        (ready,) = session.receive(encode(hello), 0.0)
        self.assertIsInstance(ready, Ready)
        self.assertEqual(session.send_limit, 8192)

    def test_a_limit_that_was_changed_on_the_way(self) -> None:
        settings = apiserver()
        session = Session(Side.LISTENER, settings, nonce="a" * 64, now=0.0)
        challenge = msgspec.json.decode(session.data_to_send(), type=handshake.Challenge)
        hello = handshake.Hello(
            version=1, role="builder", name="b", incarnation="i", nonce="d" * 64, frame_limit=1 << 20, mac=""
        )
        mac = handshake.hello_mac(settings.key, challenge, hello)
        (closed,) = session.receive(encode(msgspec.structs.replace(hello, mac=mac, frame_limit=4096)), 0.0)
        assert isinstance(closed, Closed)
        self.assertEqual(closed.code, "unauthorized")


class Messages(World):
    """A one-way message with a wrong field, or whose handler raised, ended the link."""

    def test_handlers_that_raise_are_alike(self) -> None:
        """With ``async`` or without: logged, told, and the link goes on."""

        def fail(error: Exception) -> None:
            raise error

        async def fail_later(error: Exception) -> None:
            raise error

        told: list[str] = []
        for handler in (fail, fail_later):
            self.service.handle = lambda message, h=handler: h(ZeroDivisionError("a secret"))  # type: ignore[misc]
            told.append(self.say(Note("x")))
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
            self.service.handle = lambda message, h=handler: h(CallFailed("full", "no \udce9 room"))  # type: ignore[misc]
            told.append(self.say(Note("x")))
        self.assertEqual(told[:2], told[2:])
        self.assertIn('"code":"internal","message":"note: an error inside; see the log there"', told[0])
        self.assertIn('"code":"full","message":"note: no', told[1])
        self.assert_lives()
        for handler in (fail, fail_later):
            self.setUp()
            self.service.handle = lambda message, h=handler: h(RemoteProtocolError("rude", "enough"))  # type: ignore[misc]
            self.remote.send(Note("x"))
            self.pair.pump()
            self.assertEqual(self.service.lost, ["enough [rude]"])

    def say(self, message: msgspec.Struct) -> str:
        """Send this; what is said to it."""
        assert self.pair.wire is not None
        self.remote.send(message)
        self.pair.wire.clock.advance(0)
        self.pair.wire.carry(Side.DIALLER)
        self.pair.wire.clock.advance(0)
        said = self.pair.wire.wire(Side.LISTENER).take()
        self.pair.wire.dialler.dataReceived(said)
        return said.decode()

    def test_one_of_another_version_costs_itself(self) -> None:
        assert self.pair.wire is not None
        call = self.remote.call(Ask("x"))
        for line in (b'{"type":"note","text":7}', b'{"type":"fresh"}', b'{"type":"note","text":"good"}'):
            self.pair.wire.wire(Side.DIALLER).write(line + b"\n")
        self.pair.pump()
        self.assertEqual(self.service.heard, ["good", "call x"])
        self.successResultOf(call)
        self.assert_lives()


class Streams(World):
    """A receiver that raised, or an item of another version, ended the link, and did it again on each next one."""

    def setUp(self) -> None:
        super().setUp()
        self.refusals: list[StreamFailed] = []
        self.stream = self.remote.stream(ITEMS)
        self.stream.when_refused = self.refusals.append
        self.other = self.remote.stream(OTHERS)

    def write(self, number: int) -> Deferred[None]:
        """To both; the flushing of the first."""
        for stream in (self.stream, self.other):
            self.successResultOf(Deferred.fromCoroutine(stream.write(Item(number))))
        return self.stream.flushed()

    def raising(self, place: str, error: Exception | None) -> None:
        """Have this place of the receiver raise that, or not."""
        shelf = Shelf()

        def fail() -> None:
            if error is not None:
                raise error

        def make(stream: StreamId) -> Shelf:
            if stream.stream == "items":
                if place == "receiver":
                    fail()
                if place == "position":
                    shelf.asked = lambda: fail() or len(shelf.items) + 1  # type: ignore[func-returns-value]
                if place == "take":
                    shelf.first = fail
                return shelf
            return self.service.shelves.setdefault(stream.stream, Shelf())

        self.service.make = make
        self.service.shelves["items"] = shelf

    def test_refused_for_good(self) -> None:
        for place in ("receiver", "position", "take"):
            self.setUp()
            self.raising(place, RefuseStream("forbidden", "not from you, \udce9"))
            self.pair.cut()
            flushed = self.write(1)
            self.pair.link()
            error = self.failureResultOf(flushed, StreamFailed).value
            self.assertEqual((error.code, error.retry_after), ("forbidden", None), place)
            self.assertIn("not from you", str(error))
            self.failureResultOf(Deferred.fromCoroutine(self.stream.write(Item(2))), StreamFailed)
            self.assertEqual(self.stream.refusal, error)
            self.assertEqual(self.refusals, [error])
            self.assertEqual(self.other.acknowledged, 2)
            self.service.lost.clear()
            self.assert_lives()
            self.pair.cut()
            self.pair.link()
            self.assertEqual(len(self.refusals), 1)  # it isn't opened again

    def test_refused_for_a_while(self) -> None:
        for place in ("receiver", "position", "take"):
            self.setUp()
            self.raising(place, RefuseStream("full", "later", retry_after=30))
            self.pair.cut()
            self.pair.link()
            flushed = self.write(1)
            self.pair.advance(29)
            self.assertEqual([(each.code, each.retry_after) for each in self.refusals], [("full", 30.0)], place)
            self.assertEqual(self.stream.refusal, self.refusals[0])
            self.assertEqual(self.other.acknowledged, 2)
            self.raising("", None)
            self.pair.advance(2)
            self.successResultOf(flushed)
            self.assertIsNone(self.stream.refusal)
            self.assertEqual(self.service.shelves["items"].items, [Item(1)])

    def test_any_other_error_is_logged_and_tried_again(self) -> None:
        for place in ("receiver", "position", "take"):
            self.setUp()
            self.raising(place, OSError("database is locked"))
            self.pair.cut()
            self.pair.link()
            self.service.lost.clear()
            flushed = self.write(1)
            self.pair.advance(4)
            self.assertEqual([(each.code, each.retry_after) for each in self.refusals], [("internal", 5.0)], place)
            self.assertNotIn("locked", str(self.refusals[0]))
            (logged,) = self.flushLoggedErrors(OSError)
            self.assertTrue(logged.getTraceback())
            self.assert_lives()
            self.raising("", None)
            self.pair.advance(2)
            self.successResultOf(flushed)

    def test_receivers_that_are_none(self) -> None:
        for wrong in (None, 7, "shelf"):
            self.setUp()
            self.service.make = lambda stream, w=wrong: w  # type: ignore[misc]
            self.pair.cut()
            self.pair.link()
            self.service.lost.clear()
            self.assertEqual([each.code for each in self.refusals], ["internal"])
            self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 2)
            self.assert_lives()

    def test_positions_that_are_none(self) -> None:
        for wrong in (0, -1, None, "1", 2**60):
            self.setUp()
            self.raising("", None)
            self.service.shelves["items"].asked = lambda w=wrong: w  # type: ignore[misc]
            self.pair.cut()
            self.pair.link()
            self.service.lost.clear()
            self.assertEqual([each.code for each in self.refusals], ["internal"], wrong)
            self.assertEqual(len(self.flushLoggedErrors(TypeError, ValueError)), 1)
            self.assert_lives()

    def test_a_callback_that_raises(self) -> None:
        self.stream.when_refused = lambda refusal: 1 // 0  # type: ignore[assignment]
        self.raising("take", RefuseStream("full", "later", retry_after=0))
        self.pair.cut()
        self.pair.link()
        self.service.lost.clear()
        self.write(1)
        self.pair.pump()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assert_lives()

    def test_items_of_an_older_program(self) -> None:
        """A field too few: the stream fails at its sender, with the reason, instead of relinking for ever."""

        class OldItem(msgspec.Struct):
            x: float

        old_items = StreamOf("items", OldItem)
        old = Interface("odd", Ask, Note, streams=[old_items, OTHERS])
        pair = ServicePair(self.service, asks=old)
        remote = pair.remote
        stream, other = remote.stream(old_items), remote.stream(OTHERS)
        Deferred.fromCoroutine(stream.write(OldItem(1.0)))
        Deferred.fromCoroutine(other.write(Item(1)))
        flushed = stream.flushed()
        pair.pump()
        error = self.failureResultOf(flushed, StreamFailed).value
        self.assertEqual(error.code, "bad-item")
        self.assertIn("item 1 of items: Object missing required field `n`", str(error))
        self.assertEqual(other.acknowledged, 2)
        self.assertEqual(self.service.lost, [])

    def test_the_good_items_before_a_wrong_one_are_taken(self) -> None:
        """Which of them were depended on how they happened to come together."""

        class AnyItem(msgspec.Struct):
            n: Any

        for slow in (False, True):
            service = Odd()
            any_items = StreamOf("items", AnyItem)
            old = Interface("odd", Ask, Note, streams=[any_items])
            pair = ServicePair(service, asks=old, linked=False)
            stream = pair.remote.stream(any_items)
            shelf = service.shelves["items"] = Shelf()
            if slow:
                taking: list[Deferred[None]] = []

                async def take(first: int, items: Sequence[Item], taking: Any = taking, shelf: Shelf = shelf) -> None:
                    taking.append(Deferred())
                    await taking[-1]
                    shelf.items += items

                shelf.take = take  # type: ignore[assignment,method-assign]
            for n in (1, 2, 3, "four", 5, "six"):
                self.successResultOf(Deferred.fromCoroutine(stream.write(AnyItem(n))))
            flushed = stream.flushed()
            pair.link()
            if slow:
                self.assertNoResult(flushed)
                taking.pop().callback(None)
                pair.pump()
            self.assertEqual(shelf.items, [Item(1), Item(2), Item(3)])
            error = self.failureResultOf(flushed, StreamFailed).value
            self.assertEqual(str(error), "item 4 of items: Expected `int`, got `str` - at `$.n` [bad-item]")
            self.assertEqual(stream.acknowledged, 4)
            self.assertEqual(service.lost, [])

    def test_a_link_that_ends_while_items_are_taken(self) -> None:
        """It was logged as the receiver's error."""
        taking: Deferred[None] = Deferred()
        shelf = self.service.shelves["items"] = Shelf()
        shelf.take = lambda first, items: taking  # type: ignore[assignment,method-assign]
        self.write(1)
        self.pair.pump()
        (peer,) = self.pair.listening.peers
        peer.close("tired", "that is all")
        taking.callback(None)
        self.pair.pump()
        self.assertEqual(self.refusals, [])


@pytest.mark.parametrize("retry_after", [-1, NAN, float("-inf")])
def test_refusals_that_cannot_be(retry_after: float) -> None:
    with pytest.raises(ValueError, match="tried again"):
        RefuseStream("x", "y", retry_after)


class Refusals(World):
    """With ``fail_on_refusal``: what waits fails as soon as it is known that people must set something right first."""

    def test_what_waits_fails(self) -> None:
        pair = ServicePair(self.service, linked=False)
        remote = pair.remote
        remote.send(Note("kept"))
        call, linked = remote.call(Ask("x")), remote.linked()
        remote.refused("unauthorized", "do both sides have the same key?")
        for each in (call, linked, remote.call(Ask("y")), remote.linked()):
            error = self.failureResultOf(each, LinkRefused).value
            self.assertEqual((error.code, str(error)), ("unauthorized", "do both sides have the same key?"))
        self.assertRaises(LinkRefused, remote.send, Note("not kept"))
        # An attempt that ends otherwise: there may be a link soon.
        remote.not_linked("connection refused")
        call = remote.call(Ask("z"))
        pair.link()
        self.successResultOf(call)
        self.assertEqual(self.service.heard, ["kept", "call z"])
