"""
Our own ends of a link, as programs that `twistedipc conform` tries: ``python -m tests.conform_ends WHAT PLACE [KEY]``,
where WHAT is ``listen``, ``second`` (it listens, and has another service before the one that is tried), ``dial`` or
``plain``, and PLACE an endpoint's string. At ``tls:`` KEY is followed by the folder of ``server.pem``, ``server.key``
and ``authority.pem``.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from twistedipc.ipc import (
    Interface,
    LinkReactor,
    Message,
    Peer,
    Request,
    Service,
    StreamedRequest,
    StreamId,
    StreamOf,
    TLSFiles,
    dial,
    handles,
    listen,
    listen_plain,
    read_key,
    receives,
)


class Told(msgspec.Struct):
    """A reply."""

    answer: str


class Ask(Request[Told]):
    """A request."""

    what: str


class Rows(StreamedRequest[str]):
    """A request that is answered by items."""


class Large(Request[str]):
    """A request with a long reply."""


class Note(Message):
    """A message."""

    text: str


class Line(msgspec.Struct):
    """An item of the stream."""

    text: str


LINES = StreamOf("lines", Line)
TRIED = Interface("tried", Ask, Rows, Large, Note, streams=[LINES])
TRIED_PLAINLY = Interface("tried", Ask, Note)


class Shelf:
    """Keeps the items of one run of the stream."""

    def __init__(self) -> None:
        self.next = 1

    def position(self) -> int:
        """The number of the next item."""
        return self.next

    def take(self, first: int, items: Sequence[Line]) -> None:
        """Keep these."""
        self.next = first + len(items)


class Tried(Service):
    """What is asked, answered."""

    interface = TRIED

    def __init__(self) -> None:
        self._shelves: dict[StreamId, Shelf] = {}

    @handles(Ask)
    def ask(self, request: Ask, peer: Peer) -> Told:
        """Answer."""
        return Told(request.what)

    @handles(Rows)
    async def rows(self, request: Rows, peer: Peer) -> AsyncIterator[str]:
        """Answer."""
        for _ in range(100):
            yield "x" * 100

    @handles(Large)
    def large(self, request: Large, peer: Peer) -> str:
        """Answer."""
        return "x" * 8000

    @handles(Note)
    def note(self, message: Note, peer: Peer) -> None:
        """Take it."""

    @receives(LINES)
    def lines(self, stream: StreamId) -> Shelf:
        """Where the items of this run are kept: they outlive the connection."""
        return self._shelves.setdefault(stream, Shelf())


class Other(Service):
    """Another service."""

    interface = Interface("other")


class TriedPlainly(Service):
    """The same without streams, which the plain profile hasn't."""

    interface = TRIED_PLAINLY

    @handles(Ask)
    def ask(self, request: Ask, peer: Peer) -> Told:
        """Answer."""
        return Told(request.what)

    @handles(Note)
    def note(self, message: Note, peer: Peer) -> None:
        """Take it."""


async def main(reactor: LinkReactor, what: str, place: str, key: str = "", folder: str = "") -> None:
    """Run one end until it is killed."""
    names = ("server.pem", "server.key", "authority.pem")
    tls = TLSFiles(*(Path(folder) / name for name in names)) if folder else None
    secret = read_key(Path(key)) if key else None
    if what == "listen":
        await listen(reactor, place, Tried(), key=secret, tls=tls)
    elif what == "second":
        await listen(reactor, place, [Other(), Tried()], key=secret)
    elif what == "plain":
        await listen_plain(reactor, place, TriedPlainly())
    else:
        dial(reactor, place, TRIED, key=secret, service=Tried(), random=lambda: 0.02)
    await Deferred()


if __name__ == "__main__":
    react(main, sys.argv[1:])
