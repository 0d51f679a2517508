"""Twisted's `LineReceiver` with the standard library's json: what one writes first. ``receive`` and ``send``."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any, cast

from twisted.internet import reactor as default_reactor
from twisted.internet.endpoints import UNIXClientEndpoint, UNIXServerEndpoint, connectProtocol
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineReceiver
from zope.interface import implementer

from bench.common.processes import say
from bench.ipc.message import AT, BATCH, BUILD, FIRST, TEXT, Tally, cpu

reactor = cast(Any, default_reactor)


@dataclass
class Line:
    build: str
    seq: int
    at: int
    text: str


class Receiver(LineReceiver):
    delimiter = b"\n"
    tally: Tally

    def lineReceived(self, line: bytes) -> None:
        fields = json.loads(line)
        if fields.pop("type") == "line":
            tally = self.tally
            tally.sum += Line(**fields).seq
            tally.left -= 1
            if not tally.left:
                tally.reached()


@implementer(IPushProducer)
class Sender(LineReceiver):
    delimiter = b"\n"
    next = FIRST
    end = FIRST
    cpu = 0.0
    full = False

    def start(self, count: int) -> None:
        self.end = FIRST + count
        self.cpu = cpu()
        cast(Any, self.transport).registerProducer(self, True)
        self.turn()

    def turn(self) -> None:
        first, self.next = self.next, min(self.end, self.next + BATCH)
        for seq in range(first, self.next):
            line = Line(BUILD, seq, AT, TEXT)
            self.sendLine(json.dumps({"type": "line", **vars(line)}, separators=(",", ":")).encode())
        if self.next == self.end:
            say(sent=self.end - FIRST, cpu=cpu() - self.cpu)
        elif not self.full:
            reactor.callLater(0, self.turn)

    def pauseProducing(self) -> None:
        self.full = True

    def resumeProducing(self) -> None:
        if self.full and self.next < self.end:
            reactor.callLater(0, self.turn)
        self.full = False

    def stopProducing(self) -> None:
        pass


def main(role: str, path: str, *arguments: str) -> None:
    numbers = list(map(int, arguments))
    if role == "receive":
        Receiver.tally = Tally(*numbers)
        UNIXServerEndpoint(reactor, path).listen(Factory.forProtocol(Receiver)).addCallback(lambda _: say(ready=True))
    else:
        sender = Sender()
        connectProtocol(UNIXClientEndpoint(reactor, path), sender).addCallback(lambda _: sender.start(*numbers))
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
