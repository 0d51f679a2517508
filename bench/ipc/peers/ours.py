"""``twistedipc.ipc`` as it is shipped: UNIX socket, authenticated. ``ROLE PATH …``, see `main`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Awaitable
from typing import Any, cast

import msgspec
from twisted.internet import reactor as default_reactor
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from bench.common.processes import say
from bench.ipc.message import AT, BATCH, BUILD, FIRST, TEXT, Echo, Line, Tally, cpu
from bench.ipc.peers import latencies
from twistedipc.ipc import Peer, SessionSettings, Vocabulary, dial_links, listen_for_links

reactor = cast(Any, default_reactor)
KEY = b"a key of thirty-two bytes, shared"


def settings(role: str, peer_role: str, vocabulary: Vocabulary) -> SessionSettings:
    return SessionSettings(
        name=f"{role}-1",
        role=role,
        peer_role=peer_role,
        incarnation="run-1",
        key=KEY,
        vocabulary=vocabulary,
        busy_poll=0.0 if "NO_POLLING" in os.environ else SessionSettings.busy_poll,
    )


class Quiet:
    """An application that wants nothing."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    def message_received(self, message: object) -> None:
        raise AssertionError("no message is expected")

    def call_received(self, request: msgspec.Struct) -> msgspec.Struct | Awaitable[msgspec.Struct]:
        raise AssertionError("no call is expected")

    def connection_lost(self, reason: str) -> None:
        pass

    def writing_paused(self) -> None:
        pass

    def writing_resumed(self) -> None:
        pass


class Receiver(Quiet):
    def __init__(self, peer: Peer, tally: Tally) -> None:
        super().__init__(peer)
        self.tally = tally

    def message_received(self, message: object) -> None:
        assert isinstance(message, Line)
        tally = self.tally
        tally.sum += message.seq
        tally.left -= 1
        if not tally.left:
            tally.reached()


class ListReceiver(Quiet):
    """The same, with its messages by the list."""

    def __init__(self, peer: Peer, tally: Tally) -> None:
        super().__init__(peer)
        self.tally = tally

    def messages_received(self, messages: list[Line]) -> None:
        tally = self.tally
        for message in messages:
            tally.sum += message.seq
            tally.left -= 1
            if not tally.left:
                tally.reached()


class Sender(Quiet):
    """Sends ``count`` messages: some in each turn, while the peer keeps up."""

    def __init__(self, peer: Peer, count: int, many: bool) -> None:
        super().__init__(peer)
        self.next = FIRST
        self.end = FIRST + count
        self.many = many
        self.cpu = cpu()
        reactor.callLater(0, self.turn)

    def turn(self) -> None:
        first, until = self.next, min(self.end, self.next + BATCH)
        self.next = until
        if self.many:
            self.peer.send_many([Line(BUILD, seq, AT, TEXT) for seq in range(first, until)])
        else:
            send = self.peer.send
            for seq in range(first, until):
                send(Line(BUILD, seq, AT, TEXT))
        if until == self.end:
            say(sent=self.end - FIRST, cpu=cpu() - self.cpu)
        elif not self.peer.paused:
            reactor.callLater(0, self.turn)

    def writing_resumed(self) -> None:
        if self.next < self.end:
            reactor.callLater(0, self.turn)


class Answerer(Quiet):
    def call_received(self, request: msgspec.Struct) -> msgspec.Struct:
        return request


class Caller(Quiet):
    """Keeps ``in_flight`` calls under way, until ``count`` have been answered after ``warm`` others."""

    def __init__(self, peer: Peer, warm: int, count: int, in_flight: int, *, ask: Any = Echo) -> None:
        super().__init__(peer)
        self.ask = ask
        self.next = FIRST
        self.tally = Tally(warm, count)
        self.end = FIRST + warm + count
        for _ in range(in_flight):
            self.call()

    def call(self) -> None:
        if self.next < self.end:
            seq, self.next = self.next, self.next + 1
            self.peer.call(self.ask(BUILD, seq, AT, TEXT), 60).addCallbacks(self.answered, failed)

    def answered(self, reply: Any) -> None:
        tally = self.tally
        tally.sum += reply.seq
        tally.left -= 1
        if not tally.left:
            tally.reached()
        self.call()


class RoundTripper(Quiet):
    """One call after the other, each one timed."""

    def __init__(self, peer: Peer, warm: int, count: int) -> None:
        super().__init__(peer)
        Deferred.fromCoroutine(self.run(warm, count)).addErrback(failed)

    async def run(self, warm: int, count: int) -> None:
        times = []
        sum_ = 0
        for seq in range(FIRST, FIRST + warm + count):
            begun = time.perf_counter()
            reply = await self.peer.call(Echo(BUILD, seq, AT, TEXT), 60)
            times.append(time.perf_counter() - begun)
            sum_ += reply.seq
        say(received=warm + count, sum=sum_, **latencies(times[warm:]))


def failed(failure: Failure) -> None:
    failure.printTraceback(file=sys.stderr)
    reactor.stop()


def main(role: str, path: str, *arguments: str) -> None:
    """
    ``receive WARM COUNT``, ``receive-lists WARM COUNT``, ``send COUNT``, ``send-many COUNT``; ``answer``,
    ``call WARM COUNT IN_FLIGHT``, ``trip WARM COUNT``.
    """
    numbers = list(map(int, arguments))
    match role:
        case "receive" | "receive-lists" | "answer":
            vocabulary = Vocabulary(answers={Echo: Echo}) if role == "answer" else Vocabulary(Line)
            made = {
                "receive": lambda peer: Receiver(peer, Tally(*numbers)),
                "receive-lists": lambda peer: ListReceiver(peer, Tally(*numbers)),
                "answer": Answerer,
            }[role]
            listen_for_links(reactor, f"unix:{path}", settings("server", "client", vocabulary), made).startService()
            say(ready=True)
        case "send" | "send-many":
            dialled = lambda peer: Sender(peer, numbers[0], role == "send-many")  # noqa: E731
            dial_links(reactor, f"unix:{path}", settings("client", "server", Vocabulary()), dialled).startService()
        case "call" | "trip":
            vocabulary = Vocabulary(calls={Echo: Echo})
            kind = Caller if role == "call" else RoundTripper
            dial_links(
                reactor, f"unix:{path}", settings("client", "server", vocabulary), lambda peer: kind(peer, *numbers)
            ).startService()
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
