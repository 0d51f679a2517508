"""Twisted's AMP. The same roles as `bench.ipc.peers.ours`."""

from __future__ import annotations

import sys
import time
from typing import Any, cast

from twisted.internet import reactor as default_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, UNIXServerEndpoint, connectProtocol
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory
from twisted.protocols import amp
from twisted.python.failure import Failure
from zope.interface import implementer

from bench.common.processes import say
from bench.ipc.message import AT, BATCH, BUILD, FIRST, TEXT, Tally, cpu
from bench.ipc.peers import latencies

reactor = cast(Any, default_reactor)

FIELDS = [(b"build", amp.Unicode()), (b"seq", amp.Integer()), (b"at", amp.Integer()), (b"text", amp.Unicode())]


class Line(amp.Command):
    arguments = FIELDS
    requiresAnswer = False


class Echo(amp.Command):
    arguments = FIELDS
    response = FIELDS


class Receiver(amp.AMP):
    tally: Tally

    @Line.responder
    def line(self, build: str, seq: int, at: int, text: str) -> dict[str, object]:
        tally = self.tally
        tally.sum += seq
        tally.left -= 1
        if not tally.left:
            tally.reached()
        return {}


class Answerer(amp.AMP):
    @Echo.responder
    def echo(self, build: str, seq: int, at: int, text: str) -> dict[str, object]:
        return {"build": build, "seq": seq, "at": at, "text": text}


@implementer(IPushProducer)
class Sender(amp.AMP):
    next = FIRST
    end = FIRST
    cpu = 0.0
    paused = False

    def start(self, count: int) -> None:
        self.end = FIRST + count
        self.cpu = cpu()
        cast(Any, self.transport).registerProducer(self, True)
        self.turn()

    def turn(self) -> None:
        first, self.next = self.next, min(self.end, self.next + BATCH)
        for seq in range(first, self.next):
            self.callRemote(Line, build=BUILD, seq=seq, at=AT, text=TEXT)
        if self.next == self.end:
            say(sent=self.end - FIRST, cpu=cpu() - self.cpu)
        elif not self.paused:
            reactor.callLater(0, self.turn)

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        if self.paused and self.next < self.end:
            reactor.callLater(0, self.turn)
        self.paused = False

    def stopProducing(self) -> None:
        pass


class Caller(amp.AMP):
    next = FIRST
    end = FIRST
    tally: Tally

    def start(self, warm: int, count: int, in_flight: int) -> None:
        self.tally = Tally(warm, count)
        self.end = FIRST + warm + count
        for _ in range(in_flight):
            self.ask()

    def ask(self) -> None:
        if self.next < self.end:
            seq, self.next = self.next, self.next + 1
            self.callRemote(Echo, build=BUILD, seq=seq, at=AT, text=TEXT).addCallbacks(self.answered, failed)

    def answered(self, reply: dict[str, Any]) -> None:
        tally = self.tally
        tally.sum += reply["seq"]
        tally.left -= 1
        if not tally.left:
            tally.reached()
        self.ask()

    def trip(self, warm: int, count: int) -> None:
        Deferred.fromCoroutine(self.trips(warm, count)).addErrback(failed)

    async def trips(self, warm: int, count: int) -> None:
        times = []
        sum_ = 0
        for seq in range(FIRST, FIRST + warm + count):
            begun = time.perf_counter()
            reply = await self.callRemote(Echo, build=BUILD, seq=seq, at=AT, text=TEXT)
            times.append(time.perf_counter() - begun)
            sum_ += reply["seq"]
        say(received=warm + count, sum=sum_, **latencies(times[warm:]))


def failed(failure: Failure) -> None:
    failure.printTraceback(file=sys.stderr)
    reactor.stop()


def main(role: str, path: str, *arguments: str) -> None:
    numbers = list(map(int, arguments))
    match role:
        case "receive" | "answer":
            factory = Factory.forProtocol(Receiver if role == "receive" else Answerer)
            if role == "receive":
                Receiver.tally = Tally(*numbers)
            UNIXServerEndpoint(reactor, path).listen(factory).addCallbacks(lambda _: say(ready=True), failed)
        case _:
            protocol: Any = Sender() if role == "send" else Caller()
            start = protocol.trip if role == "trip" else protocol.start
            connected = connectProtocol(UNIXClientEndpoint(reactor, path), protocol)
            connected.addCallback(lambda _: start(*numbers)).addErrback(failed)
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
