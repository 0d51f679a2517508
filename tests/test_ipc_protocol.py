"""`twistedipc.ipc.connections.link` over a wire in memory, on a clock."""

from __future__ import annotations

import gc
import weakref
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.ipc_example import VOCABULARY, Ask, Note, Recorder, Recorders, Told, apiserver, builder
from twistedipc.ipc.connections.connection import LINGER
from twistedipc.ipc.connections.eager import send_at_once
from twistedipc.ipc.connections.link import JSONLineProtocol
from twistedipc.ipc.connections.peer import Peer
from twistedipc.ipc.places.keys import make_nonce
from twistedipc.ipc.testing import ConnectedPair, connected_pair
from twistedipc.ipc.wire.errors import CallFailed, CallTimedOut, LocalProtocolError, NotConnected
from twistedipc.ipc.wire.settings import SessionSettings, Side


def linked(
    *, dialler: SessionSettings | None = None, listener: SessionSettings | None = None, **wire: Any
) -> tuple[ConnectedPair, Recorder, Recorder]:
    """A ready pair, with the applications of the dialler and the listener."""
    ours, theirs = Recorders(), Recorders()
    pair = connected_pair((dialler or builder(), ours), (listener or apiserver(), theirs), **wire)
    return pair, ours[0], theirs[0]


class LinkTests(SynchronousTestCase):
    def test_both_know_the_other(self) -> None:
        _, ours, theirs = linked()
        self.assertEqual((ours.peer.info.role, ours.peer.info.name), ("apiserver", "apiserver-1"))
        self.assertEqual((theirs.peer.info.role, theirs.peer.info.incarnation), ("builder", "builder-run-1"))
        self.assertEqual((ours.peer.info.version, ours.peer.info.address), (1, "unix"))

    def test_messages_go_both_ways_in_order(self) -> None:
        pair, ours, theirs = linked()
        ours.peer.send(Note(1, "größer ☃ 𝄞"))
        ours.peer.send_many([Note(2), Note(3)])
        theirs.peer.send(Note(9))
        pair.pump()
        self.assertEqual(theirs.messages, [Note(1, "größer ☃ 𝄞"), Note(2), Note(3)])
        self.assertEqual(ours.messages, [Note(9)])

    @given(st.lists(st.text(max_size=20), max_size=8), st.integers(1, 7))
    def test_any_cut_of_the_stream(self, texts: list[str], size: int) -> None:
        def split(data: bytes) -> list[bytes]:
            return [data[i : i + size] for i in range(0, len(data), size)]

        pair, ours, theirs = linked(split=split)
        ours.peer.send_many([Note(i, text) for i, text in enumerate(texts)])
        asked = ours.peer.call(Ask("it"), 5)
        pair.pump()
        self.assertEqual(theirs.messages, [Note(i, text) for i, text in enumerate(texts)])
        self.assertEqual(self.successResultOf(asked), Told("about it"))

    def test_output_of_one_turn_is_one_write(self) -> None:
        pair, ours, _ = linked()
        writes: list[bytes] = []
        wire = pair.wire(Side.DIALLER)
        self.patch(wire, "write", writes.append)
        for n in range(5):
            ours.peer.send(Note(n))
        self.assertEqual(writes, [])
        pair.pump()
        self.assertEqual([data.count(b"\n") for data in writes], [5])

    def test_replies_to_one_chunk_are_one_write_at_once(self) -> None:
        pair, ours, theirs = linked()
        theirs.on_message = lambda note: theirs.peer.send(Note(note.n + 100))
        ours.peer.send_many([Note(1), Note(2), Note(3)])
        pair.clock.advance(0)
        writes: list[bytes] = []
        self.patch(pair.wire(Side.LISTENER), "write", writes.append)
        pair.listener.dataReceived(pair.wire(Side.DIALLER).take())
        self.assertEqual([data.count(b"\n") for data in writes], [3])

    def test_a_lot_in_one_turn_is_not_kept_until_its_end(self) -> None:
        pair, ours, _ = linked()
        ours.peer.send(Note(1, "x" * 200_000))
        self.assertGreater(len(pair.wire(Side.DIALLER).buffer), 200_000)

    def test_the_application_hears_once_of_the_end(self) -> None:
        pair, ours, theirs = linked()
        ours.peer.close("closed", "that is all")
        self.assertEqual(ours.lost, [], "not from within its own call")
        pair.pump()
        self.assertTrue(pair.lost)
        self.assertEqual(ours.lost, ["that is all [closed]"])
        self.assertEqual(theirs.lost, ["the peer said: that is all [closed]"])
        self.assertEqual(pair.reason(Side.LISTENER), "the peer said: that is all [closed]")
        self.assertRaises(NotConnected, ours.peer.send, Note(1))
        ours.peer.close("closed", "again")

    def test_what_was_sent_before_the_end_arrives(self) -> None:
        pair, ours, theirs = linked()
        ours.peer.send(Note(1))
        ours.peer.close("closed", "that is all")
        pair.pump()
        self.assertEqual(theirs.messages, [Note(1)])

    def test_nothing_is_received_after_closing(self) -> None:
        pair, ours, theirs = linked()
        theirs.on_message = lambda note: theirs.peer.close("closed", "enough")
        ours.peer.send_many([Note(1), Note(2)])
        pair.pump()
        self.assertEqual(theirs.messages, [Note(1)])

    def test_nothing_is_received_after_closing_from_who_says_goodbye_in_the_same_chunk(self) -> None:
        pair, ours, theirs = linked()
        theirs.on_message = lambda note: theirs.peer.close("closed", "enough")
        ours.peer.send_many([Note(1), Note(2)])
        ours.peer.close("closed", "that is all")
        pair.pump()
        self.assertEqual(theirs.messages, [Note(1)])
        self.assertEqual(theirs.lost, ["the peer said: that is all [closed]"])

    def test_sending_to_who_said_goodbye_in_the_same_chunk(self) -> None:
        pair, ours, theirs = linked()
        theirs.on_message = lambda note: theirs.peer.send(Note(2))
        ours.peer.send(Note(1))
        ours.peer.close("closed", "that is all")
        pair.pump()
        self.assertEqual(theirs.lost, ["the peer said: that is all [closed]"])

    def test_a_broken_connection(self) -> None:
        pair, ours, theirs = linked()
        asked = ours.peer.call(Ask("later"), 60)
        pair.pump()
        pair.cut()
        self.failureResultOf(asked, NotConnected)
        self.assertEqual(theirs.cancelled, 1)
        self.assertEqual((len(ours.lost), len(theirs.lost)), (1, 1))
        self.failureResultOf(ours.peer.call(Ask("it"), 5), NotConnected)
        self.assertEqual(pair.clock.getDelayedCalls(), [])

    def test_an_application_that_raises_ends_the_link(self) -> None:
        pair, ours, theirs = linked()
        theirs.on_message = lambda note: 1 / (note.n - 1)
        ours.peer.send_many([Note(1), Note(2)])
        pair.pump()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(theirs.messages, [Note(1)])
        self.assertEqual(ours.lost, ["the peer said: an error inside; see the log there [internal]"])

    def test_a_factory_that_raises_ends_the_link(self) -> None:
        def factory(peer: object) -> Recorder:
            raise ZeroDivisionError

        ours = Recorders()
        pair = connected_pair((builder(), ours), (apiserver(), factory))
        self.assertTrue(pair.lost)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_garbage_ends_the_link_and_nothing_escapes(self) -> None:
        pair, ours, theirs = linked()
        pair.listener.dataReceived(b'{"type":"note","n":1}\nnonsense\n{"type":"note","n":2}\n')
        pair.pump()
        self.assertEqual(theirs.messages, [Note(1)])
        self.assertIn("[bad-message]", ours.lost[0])

    def test_an_unknown_type_is_said_and_survived(self) -> None:
        class Strange(Note, frozen=True, tag="strange", tag_field="type"):
            pass

        pair, ours, theirs = linked()
        ours.peer.send_many([Strange(1), Note(2)])
        pair.pump()
        self.assertEqual(theirs.messages, [Note(2)])
        self.assertEqual(ours.lost, [])

    def test_who_understands_nothing_does_not_fill_the_log(self) -> None:
        said: list[str] = []
        observer = cast(Any, lambda event: said.append(str(event["log_format"])))
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        pair, _, _ = linked()
        for _ in range(300):
            pair.wire(Side.LISTENER).write(b'{"type":"error","code":"c","message":"%b"}\n' % (b"m" * 100))
        pair.pump()
        self.assertFalse(pair.lost)
        self.assertEqual(100, len([format for format in said if "didn't understand" in format]))

    def test_refused_by_the_listener(self) -> None:
        ours, theirs = Recorders(), Recorders()
        listener = apiserver(accept_peer=lambda peer: f"{peer.name} is linked already")
        pair = connected_pair((builder(), ours), (listener, theirs))
        self.assertTrue(pair.lost)
        self.assertEqual((ours, theirs), ([], []))
        self.assertEqual(pair.reason(Side.DIALLER), "the peer said: builder-1 is linked already [not-accepted]")

    def test_nothing_can_be_sent_without_a_connection(self) -> None:
        link = JSONLineProtocol(Side.DIALLER, builder(), Recorders(), Clock(), _Nobody(), make_nonce())
        self.assertRaises(LocalProtocolError, link.send, Note(1))


class Listing(Recorder):
    """Takes its messages by the list; what it notes is the lists and the requests."""

    def __init__(self, peer: Peer) -> None:
        super().__init__(peer)
        self.lists: list[Any] = []

    def messages_received(self, messages: list[Note]) -> None:
        self.lists.append(messages)
        if self.on_message is not None:
            self.on_message(messages[0])

    def call_received(self, request: Any) -> Any:
        self.lists.append(request)
        return super().call_received(request)


class ListTests(SynchronousTestCase):
    def linked(self) -> tuple[ConnectedPair, Recorder, Listing]:
        ours = Recorders()
        theirs: list[Listing] = []

        def listing(peer: Peer) -> Listing:
            theirs.append(Listing(peer))
            return theirs[0]

        pair = connected_pair((builder(), ours), (apiserver(), listing))
        return pair, ours[0], theirs[0]

    def test_what_comes_together_is_one_list(self) -> None:
        pair, ours, theirs = self.linked()
        ours.peer.send_many([Note(1), Note(2)])
        ours.peer.send(Note(3))
        pair.pump()
        ours.peer.send(Note(4))
        pair.pump()
        self.assertEqual(theirs.lists, [[Note(1), Note(2), Note(3)], [Note(4)]])
        self.assertEqual(theirs.messages, [])

    def test_calls_keep_their_place(self) -> None:
        pair, ours, theirs = self.linked()
        ours.peer.send(Note(1))
        asked = ours.peer.call(Ask("it"), 5)
        ours.peer.send(Note(2))
        pair.pump()
        self.assertEqual(theirs.lists, [[Note(1)], Ask("it"), [Note(2)]])
        self.assertEqual(self.successResultOf(asked), Told("about it"))

    def test_pausing_holds_back_what_comes_after_the_list(self) -> None:
        pair, ours, theirs = self.linked()
        theirs.on_message = lambda note: theirs.peer.pause_reading()
        ours.peer.send_many([Note(1), Note(2)])
        pair.pump()
        ours.peer.send(Note(3))
        pair.pump()
        self.assertEqual(theirs.lists, [[Note(1), Note(2)]])
        theirs.on_message = None
        theirs.peer.resume_reading()
        pair.pump()
        self.assertEqual(theirs.lists, [[Note(1), Note(2)], [Note(3)]])

    def test_an_error_ends_the_link(self) -> None:
        pair, ours, theirs = self.linked()
        theirs.on_message = lambda note: 1 // (note.n - 1)
        ours.peer.send_many([Note(1), Note(2)])
        pair.pump()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(pair.lost)


class CallTests(SynchronousTestCase):
    def test_answers(self) -> None:
        pair, ours, theirs = linked()
        asked = [ours.peer.call(Ask(what), 5) for what in ("later", "it", "coroutine")]
        pair.pump()
        self.assertNoResult(asked[0])
        self.assertEqual(self.successResultOf(asked[1]), Told("about it"))
        self.assertEqual(self.successResultOf(asked[2]), Told("in time"))
        theirs.pending[0].callback(Told("at last"))
        pair.pump()
        self.assertEqual(self.successResultOf(asked[0]), Told("at last"))

    def test_both_ways_at_once(self) -> None:
        pair, ours, theirs = linked()
        a, b = ours.peer.call(Ask("a"), 5), theirs.peer.call(Ask("b"), 5)
        pair.pump()
        self.assertEqual((self.successResultOf(a), self.successResultOf(b)), (Told("about a"), Told("about b")))

    def test_typed_errors(self) -> None:
        pair, ours, _ = linked()
        asked = ours.peer.call(Ask("refuse"), 5)
        pair.pump()
        error = self.failureResultOf(asked, CallFailed).value
        self.assertEqual((error.code, error.message), ("no-such-thing", "there is no such thing"))

    def test_a_bug_of_the_application_is_logged_here_and_not_told(self) -> None:
        pair, ours, _ = linked()
        asked = [ours.peer.call(Ask(what), 5) for what in ("fail", "wrong type")]
        pair.pump()
        for call in asked:
            error = self.failureResultOf(call, CallFailed).value
            self.assertEqual(error.code, "internal")
            self.assertNotIn("secret", str(error))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(len(self.flushLoggedErrors(LocalProtocolError)), 1)
        self.assertEqual(ours.lost, [])

    def test_no_answer_in_time(self) -> None:
        pair, ours, theirs = linked()
        asked = ours.peer.call(Ask("later"), 3)
        pair.pump()
        pair.advance(2.5, step=0.5)
        self.assertNoResult(asked)
        pair.advance(1)
        self.failureResultOf(asked, CallTimedOut)
        self.assertEqual(theirs.cancelled, 1)
        self.assertEqual((ours.lost, theirs.lost), ([], []))

    def test_deadlines_in_any_order(self) -> None:
        pair, ours, _ = linked()
        late, soon = ours.peer.call(Ask("later"), 9), ours.peer.call(Ask("later"), 1)
        pair.pump()
        pair.advance(1)
        self.failureResultOf(soon, CallTimedOut)
        self.assertNoResult(late)
        pair.advance(8)
        self.failureResultOf(late, CallTimedOut)

    def test_cancelling_drops(self) -> None:
        pair, ours, theirs = linked()
        asked = ours.peer.call(Ask("later"), 30)
        pair.pump()
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        pair.pump()
        self.assertEqual(theirs.cancelled, 1)
        again = ours.peer.call(Ask("it"), 30)
        pair.pump()
        self.successResultOf(again)

    def test_cancelled_while_the_reply_is_being_delivered(self) -> None:
        pair, ours, theirs = linked()
        asked = ours.peer.call(Ask("it"), 30)
        ours.on_message = lambda note: asked.cancel()
        theirs.peer.send(Note(1))  # leaves together with the reply
        pair.pump()
        self.failureResultOf(asked, CancelledError)
        self.assertEqual(ours.lost, [])

    def test_whose_call_ends_with_the_link_may_cancel_other_calls(self) -> None:
        pair, ours, _ = linked()
        first, second, third = (ours.peer.call(Ask("later"), 30) for _ in range(3))
        first.addErrback(lambda _: second.cancel())
        pair.pump()
        pair.dialler.connectionLost()
        self.failureResultOf(second, CancelledError)
        self.failureResultOf(third, NotConnected)
        self.assertEqual(len(ours.lost), 1)

    def test_too_many_in_flight(self) -> None:
        pair, ours, theirs = linked(dialler=builder(max_calls=3), listener=apiserver(max_calls=2))
        asked = [ours.peer.call(Ask("later"), 5) for _ in range(4)]
        self.assertEqual(self.failureResultOf(asked[3], CallFailed).value.code, "busy")
        pair.pump()
        self.assertEqual(self.failureResultOf(asked[2], CallFailed).value.code, "busy")
        self.assertEqual(len(theirs.pending), 2)
        for call in asked[:2]:
            call.addErrback(lambda _: None)

    def test_an_undeclared_call(self) -> None:
        _, ours, _ = linked()
        self.assertRaises(LocalProtocolError, ours.peer.call, Note(1), 5)

    def test_a_call_answered_from_within_a_call(self) -> None:
        pair, ours, _ = linked()
        replies: list[Told] = []

        async def both() -> None:
            replies.append(await ours.peer.call(Ask("a"), 5))
            replies.append(await ours.peer.call(Ask("b"), 5))

        running: Deferred[None] = Deferred.fromCoroutine(both())
        pair.pump()
        self.successResultOf(running)
        self.assertEqual(replies, [Told("about a"), Told("about b")])


class BackpressureTests(SynchronousTestCase):
    def test_a_peer_that_doesnt_keep_up(self) -> None:
        pair, ours, theirs = linked(high_water=1000)
        theirs.peer.pause_reading()
        for n in range(20):
            ours.peer.send(Note(n, "x" * 100))
            pair.pump()
        self.assertTrue(ours.peer.paused)
        self.assertEqual(ours.pauses, ["paused"])
        self.assertLess(len(pair.wire(Side.DIALLER).buffer), 1200, "the rest waits where it is counted")
        theirs.peer.resume_reading()
        pair.pump()
        self.assertEqual([note.n for note in theirs.messages], list(range(20)))
        self.assertFalse(ours.peer.paused)
        self.assertEqual(ours.pauses, ["paused", "resumed"])

    def test_who_gives_up_waiting_for_a_peer_that_never_reads_is_forgotten(self) -> None:
        pair, ours, theirs = linked(high_water=1000)
        theirs.peer.pause_reading()
        while not ours.peer.paused:
            ours.peer.send(Note(0, "x" * 100))
            pair.pump()
        waiting = ours.peer.drain()
        gone = weakref.ref(waiting)
        waiting.addErrback(lambda _: None)
        waiting.cancel()
        del waiting
        gc.collect()
        self.assertIsNone(gone())

    def test_a_peer_that_never_reads_again(self) -> None:
        pair, ours, theirs = linked(dialler=builder(outbound_limit=10_000), high_water=1000)
        theirs.peer.pause_reading()
        with self.assertRaises(NotConnected):
            for n in range(1000):
                ours.peer.send(Note(n, "x" * 100))
                pair.clock.advance(0)
        self.assertEqual(ours.lost, ["more than 10000 bytes wait for the peer to read them [overflow]"])
        self.assertTrue(pair.wire(Side.DIALLER).aborted)

    def test_pausing_in_the_middle_of_a_chunk(self) -> None:
        pair, ours, theirs = linked()
        theirs.on_message = lambda note: theirs.peer.pause_reading() if note.n % 2 else None
        ours.peer.send_many([Note(n) for n in range(6)])
        pair.pump()
        self.assertEqual([note.n for note in theirs.messages], [0, 1])
        theirs.peer.resume_reading()
        self.assertEqual([note.n for note in theirs.messages], [0, 1], "not from within the call")
        pair.pump()
        self.assertEqual([note.n for note in theirs.messages], [0, 1, 2, 3])
        ours.peer.send(Note(6))
        theirs.peer.resume_reading()
        pair.pump()
        theirs.peer.resume_reading()
        pair.pump()
        self.assertEqual([note.n for note in theirs.messages], list(range(7)))

    def test_who_pauses_stays_alive(self) -> None:
        pair, ours, theirs = linked()
        theirs.peer.pause_reading()
        pair.advance(300)
        self.assertFalse(pair.lost)
        theirs.peer.resume_reading()
        ours.peer.send(Note(1))
        pair.pump()
        pair.advance(300)
        self.assertFalse(pair.lost)
        self.assertEqual(theirs.messages, [Note(1)])

    def test_who_pauses_is_told_in_time_that_a_call_has_timed_out(self) -> None:
        pair, ours, _ = linked()
        ours.peer.pause_reading()
        asked = ours.peer.call(Ask("it"), 3)
        pair.advance(4)
        self.failureResultOf(asked, CallTimedOut)
        ours.peer.resume_reading()
        pair.pump()
        self.assertEqual(ours.lost, [])

    def test_closing_does_not_wait_for_ever(self) -> None:
        pair, ours, theirs = linked(high_water=10)
        theirs.peer.pause_reading()
        ours.peer.send(Note(1, "x" * 100))
        pair.pump()
        ours.peer.close("closed", "that is all")
        pair.pump()
        self.assertEqual(ours.lost, ["that is all [closed]"])
        self.assertFalse(pair.lost)
        pair.clock.advance(LINGER)
        pair.pump()
        self.assertEqual(pair.reason(Side.DIALLER), "that is all [closed]")


class TimeTests(SynchronousTestCase):
    def test_a_quiet_link_lives(self) -> None:
        pair, ours, theirs = linked()
        pair.advance(600)
        self.assertEqual((ours.lost, theirs.lost), ([], []))

    def test_a_dead_peer_is_noticed_by_both(self) -> None:
        pair, ours, theirs = linked()
        pair.blackhole(Side.DIALLER, Side.LISTENER)
        pair.advance(23)
        self.assertEqual((ours.lost, theirs.lost), ([], []))
        pair.advance(2)
        self.assertEqual(ours.lost, ["nothing was received for 24 seconds [silent]"])
        self.assertEqual(theirs.lost, ["nothing was received for 24 seconds [silent]"])

    def test_one_direction_is_dead(self) -> None:
        pair, ours, theirs = linked()
        pair.blackhole(Side.DIALLER)
        pair.advance(25)
        self.assertEqual(theirs.lost, ["nothing was received for 24 seconds [silent]"])
        self.assertEqual(len(ours.lost), 1)

    def test_a_process_that_was_stopped_reads_before_it_judges(self) -> None:
        pair, ours, theirs = linked()
        ours.peer.send(Note(1))
        pair.clock.advance(0)  # it lies in the socket
        pair.clock.advance(90)
        pair.pump()
        self.assertEqual((theirs.messages, theirs.lost, ours.lost), ([Note(1)], [], []))

    def test_silence_before_authentication(self) -> None:
        clock = Clock()
        owner = _Nobody()
        link = JSONLineProtocol(Side.LISTENER, apiserver(), Recorders(), clock, owner, make_nonce())
        transport = StringTransport()
        link.makeConnection(transport)
        for _ in range(9):
            clock.advance(1)
            link.dataReceived(b"{")
        self.assertFalse(transport.disconnecting)
        clock.advance(1)
        self.assertTrue(transport.disconnecting)
        self.assertIn(b'"code":"handshake-timeout"', transport.value())
        link.connectionLost(Failure(NotConnected("gone")))
        self.assertEqual(owner.lost, ["no authentication within 10 seconds [handshake-timeout]"])
        self.assertEqual(clock.getDelayedCalls(), [])


class SendAtOnceTests(SynchronousTestCase):
    def test_a_transport_that_it_doesnt_know(self) -> None:
        self.assertEqual(send_at_once(StringTransport(), b"x"), 0)


class _Nobody:
    def __init__(self) -> None:
        self.lost: list[str] = []

    def link_made(self, link: JSONLineProtocol) -> str | None:
        return None

    def link_ready(self, link: JSONLineProtocol) -> None:
        raise AssertionError("nobody should get this far")

    def link_lost(self, link: JSONLineProtocol, reason: str) -> None:
        self.lost.append(reason)


def test_the_vocabulary_serves_both_sides() -> None:
    assert VOCABULARY.messages == {Note}
