"""The Python side of the package for Node: a service, as a program would have it. ``ROLE PATH …``, see `main`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from bench.common.processes import say
from bench.ipc.message import Tally
from twistedipc.ipc import Interface, Peer, Request, Service, StreamId, StreamOf, handles, listen, receives

KEY = b"a key of thirty-two bytes, shared"


class Echoed(msgspec.Struct, gc=False):
    """The same as `Echo`, as a reply."""

    build: str
    seq: int
    at: int
    text: str


class Echo(Request[Echoed], gc=False):
    """A line of a build's log, as a request."""

    build: str
    seq: int
    at: int
    text: str


LINES = StreamOf("lines", Echoed)
BENCH = Interface("bench", Echo, streams=[LINES])


class Shelf:
    """Counts the items of a stream."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.next = 1

    def position(self) -> int:
        return self.next

    def take(self, first: int, items: Sequence[Echoed]) -> None:
        self.next = first + len(items)
        tally = self.tally
        for item in items:
            tally.sum += item.seq
            tally.left -= 1
            if not tally.left:
                tally.reached()


class Bench(Service):
    interface = BENCH

    def __init__(self, tally: Tally) -> None:
        self.shelf = Shelf(tally)

    @handles(Echo)
    def echo(self, request: Echo, peer: Peer) -> Echoed:
        return Echoed(request.build, request.seq, request.at, request.text)

    @receives(LINES)
    def lines(self, stream: StreamId) -> Shelf:
        return self.shelf


def main(role: str, path: str, *arguments: str) -> None:
    """``answer``, ``receive WARM COUNT``."""
    numbers = list(map(int, arguments)) if role == "receive" else [1, 1]

    async def serve(reactor: Any) -> None:
        await listen(reactor, f"unix:{path}", Bench(Tally(*numbers)), key=KEY)
        say(ready=True)
        await Deferred()

    react(serve)


if __name__ == "__main__":
    main(*sys.argv[1:])
