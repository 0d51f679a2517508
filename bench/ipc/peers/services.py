"""Services of ours, by `listen` and `dial`, or the same by JSON-RPC. FORMAT ROLE PATH …, see `main`."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from bench.common.processes import say
from bench.ipc.message import AT, BUILD, FIRST, TEXT, Tally
from twistedipc.ipc import (
    Interface,
    Peer,
    Request,
    Service,
    dial,
    dial_jsonrpc,
    handles,
    listen,
    listen_jsonrpc,
)


class Echoed(msgspec.Struct, frozen=True, gc=False):
    build: str
    seq: int
    at: int
    text: str


class Echo(Request[Echoed], gc=False):
    build: str
    seq: int
    at: int
    text: str


ECHO = Interface("echo", Echo)


class Echoes(Service):
    interface = ECHO

    @handles(Echo)
    def echo(self, request: Echo, peer: Peer) -> Echoed:
        return Echoed(request.build, request.seq, request.at, request.text)


class Caller:
    """Keeps ``in_flight`` calls under way, until ``count`` have been answered after ``warm`` others."""

    def __init__(self, peer: Peer, warm: int, count: int, in_flight: int) -> None:
        self.peer = peer
        self.next = FIRST
        self.tally = Tally(warm, count)
        self.end = FIRST + warm + count
        for _ in range(in_flight):
            self.call()

    def call(self) -> None:
        if self.next < self.end:
            seq, self.next = self.next, self.next + 1
            self.peer.call(Echo(BUILD, seq, AT, TEXT), 60).addCallbacks(self.answered, failed)

    def answered(self, reply: Echoed) -> None:
        tally = self.tally
        tally.sum += reply.seq
        tally.left -= 1
        if not tally.left:
            tally.reached()
        self.call()


def failed(failure: Failure) -> None:
    failure.printTraceback(file=sys.stderr)
    reactor.stop()


def main(format_: str, role: str, path: str, *arguments: str) -> None:
    """``answer``, ``call WARM COUNT IN_FLIGHT``; by ``link``, ``lines`` or ``content-length``."""
    endpoint: str = f"unix:{path}"
    how: Any = {} if format_ == "link" else {"framing": format_}
    if role == "answer":
        begin: Any = listen if format_ == "link" else listen_jsonrpc
        listening = Deferred.fromCoroutine(begin(reactor, endpoint, Echoes(), **how))
        listening.addCallbacks(lambda _: say(ready=True), failed)
    else:
        reach: Any = dial if format_ == "link" else dial_jsonrpc
        linked = reach(reactor, endpoint, ECHO, **how).linked()
        linked.addCallbacks(lambda peer: Caller(peer, *map(int, arguments)), failed)
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
