"""
What a peer may do to a listener without end, over real sockets: whatever it is, the process doesn't grow by it, the
peer hears a code or nothing and never a traceback, and other peers are answered all the while.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import tempfile
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.properties import examples
from twistedipc.ipc import (
    Blob,
    Code,
    Interface,
    Listening,
    MemoryOutbox,
    Message,
    Peer,
    Remote,
    Request,
    Service,
    StreamedRequest,
    StreamId,
    StreamOf,
    dial,
    handles,
    listen,
    receives,
)
from twistedipc.ipc.places.endpoints import LinkReactor
from twistedipc.ipc.service import side_settings
from twistedipc.ipc.streams import receiver
from twistedipc.ipc.wire.session import Session
from twistedipc.ipc.wire.settings import Side
from twistedipc.ipc.wire.states import State

reactor = cast(LinkReactor, global_reactor)

#: How much more may be allocated at any moment of a flood than before it, in bytes: so often as a line of the greatest
#: length is copied on its way (what is kept of it until it ends, the block, what it is decoded to), and a bit. A call
#: that waits for its answer takes more than a KiB, with the steps, the context and the times of its handler: the flood
#: of those that are never answered, and whose refusals aren't read, comes to 5.8 to 6.5 million bytes.
GROWTH = 7 << 20

#: How much waits for a peer that doesn't read, before it is closed; here as in its settings.
OUTBOUND = 1 << 20

#: How much of a link's items may wait to be taken; less than it is otherwise.
LINK_ALLOWANCE = 2 << 20

#: What a streamed reply has without end: 30 of it are a frame, which costs as little time as it may.
ITEM = "x" * 1000

#: How long an honest peer may wait for an answer, in seconds: others work on this machine too.
PATIENCE = 20.0

KEY = b"k" * 32


class Told(msgspec.Struct):
    value: int


class Ask(Request[Told]):
    value: int = 0
    text: str = ""


class Wait(Request[Told]):
    """Isn't answered."""


class Note(Message):
    text: str = ""


class Slow(Message):
    """Is at work for ever."""


class Endless(StreamedRequest[str]):
    """Is answered by items without end."""


class Store(Request[Told]):
    """Is answered when all of its body is read."""

    content: Blob


class Item(msgspec.Struct):
    n: int
    text: str = ""


ITEMS = StreamOf("items", Item)
SLOW_ITEMS = StreamOf("slow", Item)
TARGET = Interface("target", Ask, Wait, Endless, Store, Note, Slow, streams=[ITEMS, SLOW_ITEMS])
BACK = Interface("back", streams=[ITEMS])


class Sink:
    """Keeps nothing but its place."""

    def __init__(self) -> None:
        self.next = 1

    def position(self) -> int:
        return self.next

    def take(self, first: int, items: Sequence[Any]) -> None:
        self.next = first + len(items)


class Blocked(Sink):
    """Never done with what it takes."""

    async def take(self, first: int, items: Sequence[Any]) -> None:  # type: ignore[override]
        await Deferred()


class Target(Service):
    """What is flooded."""

    interface = TARGET

    def __init__(self) -> None:
        self.lost: list[str] = []

    @handles(Ask)
    def ask(self, request: Ask, peer: Peer) -> Told:
        return Told(request.value)

    @handles(Wait)
    async def wait(self, request: Wait, peer: Peer) -> Told:
        await Deferred()
        raise AssertionError

    @handles(Endless)
    async def endless(self, request: Endless, peer: Peer) -> AsyncIterator[str]:
        while True:
            yield ITEM

    @handles(Store)
    async def store(self, request: Store, peer: Peer) -> Told:
        return Told(len(await request.content.read(limit=1 << 20)))

    @handles(Note)
    def note(self, message: Note, peer: Peer) -> None:
        pass

    @handles(Slow)
    async def slow(self, message: Slow, peer: Peer) -> None:
        await Deferred()

    def peer_lost(self, peer: Peer, reason: str) -> None:
        self.lost.append(reason)

    @receives(ITEMS, SLOW_ITEMS)
    def items(self, stream: StreamId) -> Sink:
        return Sink() if stream.stream == "items" else Blocked()


@dataclass(frozen=True)
class Flood:
    """
    One way to flood.

    :param block: the n-th block of bytes, in parts; the same one again and again if it is no function
    :param code: with which the listener closes; "" if it doesn't
    :param first: what is said once, before
    :param total: bytes to send on all connections together, if it isn't made to wait before; ten times as many by
        `make thorough`
    :param connections: on how many connections, one after the other: for what closes them
    :param ready: whether the handshake is made
    :param reads: whether what the listener says is read
    :param waits: whether the listener reads no more after a while
    :param long: whether it is left to `make test-long`: another flood is like it, and this one takes seconds
    """

    block: bytes | Callable[[int], Sequence[bytes]]
    code: str = ""
    first: bytes = b""
    total: int = 1 << 19
    connections: int = 1
    ready: bool = True
    reads: bool = True
    waits: bool = False
    long: bool = False

    def at(self, n: int) -> Sequence[bytes]:
        """The n-th block, in parts."""
        return [self.block] if isinstance(self.block, bytes) else self.block(n)


def line(type_: str, **fields: object) -> bytes:
    """One frame."""
    return json.dumps({"type": type_, **fields}).encode() + b"\n"


def many(frame: bytes, size: int = 1 << 16) -> bytes:
    """A block of the same frame."""
    return frame * max(1, size // len(frame))


def counted(make: Callable[[int], bytes], per_block: int = 1000) -> Callable[[int], Sequence[bytes]]:
    """Blocks of frames that differ by their number, from 1."""
    return lambda n: [b"".join([make(n * per_block + k) for k in range(1, per_block + 1)])]


def ids(template: bytes) -> Callable[[int], Sequence[bytes]]:
    """The same, of a template with one number in it."""
    return counted(lambda n: template % n)


OPEN = line("stream-open", stream="items", id="x", first=1)
WAIT = line("call", id=1, request={"type": "wait"})
ENDLESS = line("call", id=1, request={"type": "endless"}, credit=1)
STORE = b'{"type":"call","id":%d,"request":{"type":"store","content":{"body":%d}}}\n'
CHUNK = line("link-body-chunk", body=1, data="AAAA" * (1 << 16))
AWAY = b'{"type":"stream-items","id":"x","first":%d,"items":[{"n":1}]}\n'
SLOW = (
    b'{"type":"stream-open","stream":"slow","id":"%(id)b","first":1}\n'
    b'{"type":"stream-items","id":"%(id)b","first":1,"items":[{"n":1,"text":"'
)
# Made once, since the flooder is in the process that is measured: up to three copies of a text that it made for each
# block, while it still had the block before, were taken for growth of the listener.
TEXT = b"x" * 900_000
END = b'"}]}\n'
COUNTER = count(1)
# What comes to a sender is about its one stream, whose outbox's id the test puts in.
POSITION = b'{"type":"stream-position","id":"ID","next":%d,"credit":%d}\n'

FLOODS: dict[str, Flood] = {
    # before authentication
    "silence and then one byte at a time": Flood(b"{", "frame-too-long", ready=False, total=20_000),
    "an endless line, by a stranger": Flood(b"{" * 65536, "frame-too-long", ready=False, connections=40),
    "a million empty lines, by a stranger": Flood(b"\n" * 65536, "bad-handshake", ready=False, connections=40),
    "HTTP, by a stranger": Flood(b"GET / HTTP/1.1\r\n\r\n" * 99, "bad-handshake", ready=False, connections=40),
    "messages, by a stranger": Flood(many(line("note")), "bad-handshake", ready=False, connections=40),
    "hellos, by a stranger": Flood(
        many(line("hello", version=1, role="x", name="../x", incarnation="i", nonce="0" * 64, mac="0" * 64)),
        "bad-handshake",
        ready=False,
        connections=40,
    ),
    # lines
    "messages with wrong fields": Flood(many(line("note", text=1))),
    "messages with wrong fields, and no answer is read": Flood(
        many(line("note", text=1)), "overflow", reads=False, total=16 << 20, long=True
    ),
    "an endless line": Flood(b"x" * 65536, "frame-too-long", total=8 << 20, connections=4),
    "nesting without end": Flood(b"[" * 65536, "frame-too-long", total=8 << 20, connections=4),
    "a million empty lines": Flood(b"\n" * 65536, "bad-message", connections=12),
    "lines at the limit": Flood(line("note", text="x" * ((1 << 20) - 40)), total=32 << 20),
    "lines over the limit": Flood(line("note", text="x" * (1 << 20)), "frame-too-long", total=8 << 20, connections=4),
    "nesting within the limit": Flood(
        b'{"type":"note","q":' + b"[" * 400_000 + b"]" * 400_000 + b"}\n", total=16 << 20
    ),
    "nesting within a call": Flood(
        b'{"type":"call","id":1,"request":{"type":"ask","q":' + b"[" * 400_000 + b"]" * 400_000 + b"}}\n",
        total=16 << 20,
    ),
    "a number of a million digits": Flood(
        b'{"type":"call","id":1,"request":{"type":"ask","value":' + b"9" * 1_000_000 + b"}}\n", total=16 << 20
    ),
    # what is the session's own
    "pings": Flood(many(line("ping"))),
    "pongs": Flood(many(line("pong"))),
    "unknown types": Flood(many(line("zzz"))),
    "unknown types, and no answer is read": Flood(many(line("zzz")), "overflow", reads=False, total=16 << 20),
    "unknown types with long names": Flood(line("z" * 1_000_000), total=16 << 20),
    "a second hello": Flood(many(line("hello", version=1)), "bad-message", connections=12),
    "errors about nothing": Flood(many(line("error", code="c", message="m"))),
    "long errors about nothing": Flood(line("error", code="c" * 1000, message="m" * 1_000_000), total=16 << 20),
    "errors with a lot of data": Flood(
        b'{"type":"error","code":"c","message":"m","data":[' + b"[]," * 330_000 + b"[]]}\n", total=8 << 20
    ),
    "cancels of unknown calls": Flood(many(line("drop", id=2**53 - 1), 1 << 18), total=8 << 20),
    "cancels of one call": Flood(many(line("drop", id=1)), first=WAIT),
    "replies never asked for": Flood(ids(b'{"type":"reply","id":%d,"reply":{}}\n'), "bad-message", connections=12),
    "errors never asked for": Flood(
        ids(b'{"type":"error","id":%d,"code":"c","message":"m"}\n'), "bad-message", connections=12
    ),
    # calls
    "calls that are never answered": Flood(ids(b'{"type":"call","id":%d,"request":{"type":"wait"}}\n')),
    "calls that are never answered, and no refusal is read": Flood(
        ids(b'{"type":"call","id":%d,"request":{"type":"wait"}}\n'), "overflow", reads=False, total=16 << 20
    ),
    "calls and cancels": Flood(
        counted(
            lambda n: b'{"type":"call","id":%d,"request":{"type":"wait"}}\n{"type":"drop","id":%d}\n' % (n, n), 300
        ),
    ),
    "calls, and no answer is read": Flood(
        ids(b'{"type":"call","id":%d,"request":{"type":"ask"}}\n'), "overflow", reads=False, total=16 << 20, long=True
    ),
    "calls of one number": Flood(many(WAIT), "bad-message", connections=12),
    "calls with numbers beyond all": Flood(many(line("call", id=2**53, request={})), "bad-message", connections=12),
    "calls with wrong fields": Flood(ids(b'{"type":"call","id":%d,"request":{"type":"ask","value":"x"}}\n')),
    "calls of unknown requests": Flood(ids(b'{"type":"call","id":%d,"request":{"type":"zzz"}}\n')),
    "calls for endless items, with all credit, none of which is read": Flood(
        ids(b'{"type":"call","id":%d,"request":{"type":"endless"},"credit":9007199254740991}\n'),
        "overflow",
        reads=False,
        total=16 << 20,
    ),
    "calls for endless items without credit": Flood(
        ids(b'{"type":"call","id":%d,"request":{"type":"endless"}}\n'),
    ),
    "calls for endless items, and cancels": Flood(
        counted(
            lambda n: (
                b'{"type":"call","id":%d,"request":{"type":"endless"},"credit":1}\n{"type":"drop","id":%d}\n' % (n, n)
            ),
            300,
        ),
        total=1 << 18,
    ),
    "credit without end": Flood(many(line("call-more", id=1, credit=2**53 - 1)), first=ENDLESS, total=1 << 18),
    "credit of no call": Flood(many(line("call-more", id=9, credit=1))),
    "credit that is none": Flood(many(line("call-more", id=1, credit=0)), "bad-message", connections=12),
    "items never asked for": Flood(ids(b'{"type":"call-items","id":%d,"items":[1]}\n'), "bad-message", connections=12),
    # bodies
    "bodies that never come": Flood(counted(lambda n: STORE % (n, n), 300)),
    "a body without end": Flood(CHUNK, first=STORE % (1, 1), total=4 << 20),
    "chunks of no body": Flood(CHUNK, total=4 << 20),
    "small chunks of no body": Flood(many(line("link-body-chunk", body=1, data=""))),
    "chunks that are none": Flood(many(line("link-body-chunk", body=1, data="?")), "bad-message", connections=12),
    "ends of a body": Flood(many(line("link-body-ended", body=1, size=5)), first=STORE % (1, 1)),
    "credit of bodies that aren't sent": Flood(ids(b'{"type":"link-body-wanted","body":%d,"credit":9}\n')),
    "bodies given back that aren't sent": Flood(ids(b'{"type":"link-body-done","body":%d}\n')),
    "messages that keep it at work": Flood(many(line("slow")), total=64 << 20, waits=True),
    # streams: to a receiver
    "streams without end": Flood(ids(b'{"type":"stream-open","stream":"items","id":"%d","first":1}\n')),
    "unknown streams without end": Flood(ids(b'{"type":"stream-open","stream":"zzz","id":"%d","first":1}\n')),
    "one stream again and again": Flood(many(OPEN), "bad-message", connections=12),
    "items of no stream": Flood(ids(AWAY), "bad-message", connections=12),
    "holes": Flood(counted(lambda n: AWAY % (2 * n)), first=OPEN),
    "a regress": Flood(many(AWAY % 1), first=OPEN),
    "an overlap with other bytes": Flood(
        counted(lambda n: b'{"type":"stream-items","id":"x","first":%d,"items":[{"n":7},{"n":8}]}\n' % n), first=OPEN
    ),
    "no items": Flood(many(b'{"type":"stream-items","id":"x","first":1,"items":[]}\n'), first=OPEN),
    "items that are no array": Flood(many(b'{"type":"stream-items","id":"x","first":1,"items":{}}\n'), first=OPEN),
    "big items": Flood(
        lambda n: (
            b'{"type":"stream-items","id":"x","first":%d,"items":[{"n":1,"text":"' % (n + 1),
            TEXT,
            END,
        ),
        first=OPEN,
        total=32 << 20,
    ),
    "items of many streams that aren't taken": Flood(
        lambda _: (SLOW % {b"id": b"%d" % next(COUNTER)}, TEXT, END),
        total=64 << 20,
        waits=True,
    ),
    # streams: to a sender
    "acknowledgements of what was never sent": Flood(
        many(line("stream-ack", id="ID", next=2**53 - 1)), "bad-message", first=POSITION % (1, 1000), connections=12
    ),
    "acknowledgements of the same": Flood(many(line("stream-ack", id="ID", next=1)), first=POSITION % (1, 1000)),
    "acknowledgements of unknown streams": Flood(ids(b'{"type":"stream-ack","id":"%d","next":1}\n')),
    "positions": Flood(many(POSITION % (1, 2**53 - 1))),
    "positions, and nothing is read": Flood(many(POSITION % (1, 2**53 - 1)), reads=False),
    "more credit than there are numbers": Flood(many(POSITION % (1, 2**53)), "bad-message", connections=12),
    "refusals for an hour": Flood(many(line("stream-refused", id="ID", code="c", message="m", retry_after=3600))),
    "refusals for a moment": Flood(many(line("stream-refused", id="ID", code="c", message="m", retry_after=1e-9))),
    "refusals for ever and a day": Flood(
        many(line("stream-refused", id="ID", code="c", message="m", retry_after=1e9)), "bad-message", connections=12
    ),
    "refusals": Flood(many(line("stream-refused", id="ID", code="c", message="m", retry_after=0))),
}


class Flooder:
    """One connection after the other, from a thread of its own: it knows no reactor."""

    def __init__(self, path: str, flood: Flood, outbox: str) -> None:
        self._path = path
        self._flood = flood
        self._outbox = outbox.encode()
        # Where the listener is to read on, a busy machine is no reason to think that it doesn't.
        self._patience = 1.0 if flood.waits else 20.0
        self.stop = False
        self.heard = b""  # the end of it
        self.codes: set[str] = set()
        self.waits = False  # the listener doesn't read on

    def run(self, share: float) -> None:
        """Send this share of it all."""
        flood = self._flood
        # What closes the link may need more than a line may have.
        left = max(int(examples(flood.total) * share), 3 << 19 if flood.code else 0)
        blocks: Iterator[int] = iter(range(1 << 60))
        for _ in range(max(1, int(flood.connections * share))):
            with contextlib.closing(socket.socket(socket.AF_UNIX)) as connection:
                connection.settimeout(60.0)
                connection.connect(self._path)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    if flood.ready:
                        self._shake_hands(connection)
                    connection.sendall(flood.first.replace(b"ID", self._outbox))
                    left = self._send(connection, blocks, left)
                self._listen(connection, to_the_end=bool(flood.code))
            self._note_codes()
            if left <= 0 or self.stop:
                break

    def _shake_hands(self, connection: socket.socket) -> None:
        settings = side_settings(TARGET.peer_role, TARGET.role, None, TARGET, KEY, "flooder", {})
        session = Session(Side.DIALLER, settings, nonce=os.urandom(32).hex(), now=0.0)
        while session.state is not State.READY:
            session.receive(connection.recv(4096), 0.0)
            connection.sendall(session.data_to_send())

    def _send(self, connection: socket.socket, blocks: Iterator[int], left: int) -> int:
        connection.settimeout(self._patience)
        while left > 0 and not self.stop:
            for part in self._flood.at(next(blocks)):
                view = memoryview(part.replace(b"ID", self._outbox))
                while view:
                    try:
                        sent = connection.send(view)
                    except TimeoutError:
                        self.waits = True
                        return 0
                    view = view[sent:]
                    left -= sent
                    if self._flood.reads:
                        self._listen(connection)
        return left

    def _listen(self, connection: socket.socket, *, to_the_end: bool = False) -> None:
        connection.settimeout(60.0 if to_the_end else 0.0)
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            while data := connection.recv(1 << 16):
                self.heard = (self.heard + data)[-4096:]
        connection.settimeout(self._patience)

    def _note_codes(self) -> None:
        assert b"Traceback" not in self.heard
        assert b'File "' not in self.heard
        last = self.heard.rstrip(b"\n").rpartition(b"\n")[2]
        with contextlib.suppress(msgspec.DecodeError):
            said = msgspec.json.decode(last)
            if said["type"] == "bye":
                self.codes.add(said["code"])
        self.heard = b""


class Floods(TestCase):
    """One listener, a peer that floods it, and an honest one."""

    timeout = 180  # seconds: a deadline, never a wait

    async def begin(self) -> None:
        """Listen, and link the honest one."""
        self.folder = Path(tempfile.mkdtemp(prefix="ipc"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = str(self.folder / "s")
        self.service = Target()
        self.listening: Listening = await listen(
            reactor, f"unix:{self.path}", self.service, calls=BACK, key=KEY, outbound_limit=OUTBOUND
        )
        self.addCleanup(self.listening.close)
        self.honest: Remote = dial(reactor, f"unix:{self.path}", TARGET, key=KEY)
        self.addCleanup(self.honest.close)
        self.outbox = MemoryOutbox()
        back = self.listening.stream("flooder", ITEMS, self.outbox)
        for n in range(200):
            await back.write(Item(n, "x" * 1000))
        await self.honest.call(Ask(1))

    async def ask(self) -> None:
        """The honest one's life."""
        peer = self.honest.peer
        while self.flooding:
            self.assertEqual(Told(7), await self.honest.call(Ask(7), timeout=PATIENCE))
        self.assertIs(peer, self.honest.peer, "its link was lost")

    async def flood(self, flood: Flood) -> None:
        """Flood, and look."""
        self.patch(receiver, "LINK_ALLOWANCE", LINK_ALLOWANCE)
        await self.begin()
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        warming = Flooder(self.path, flood, self.outbox.id)
        await deferToThread(warming.run, 0.1)
        flooder = Flooder(self.path, flood, self.outbox.id)
        self.addCleanup(setattr, flooder, "stop", True)
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        self.flooding = True
        asking = Deferred.fromCoroutine(self.ask())
        try:
            await deferToThread(flooder.run, 1.0)
        finally:
            self.flooding = False
        await asking
        _, highest = tracemalloc.get_traced_memory()
        if flood.code == Code.OVERFLOW:
            # It is cut off: it doesn't read, so it would wait for ever for what it is told.
            self.assertIn("overflow", self.service.lost[-1])
        else:
            self.assertEqual({flood.code} if flood.code else set(), flooder.codes)
        self.assertEqual(flood.waits, flooder.waits)
        self.assertLess(highest - before, GROWTH)


def _add(name: str, flood: Flood) -> None:
    async def test(self: Floods) -> None:
        await self.flood(flood)

    marked = pytest.mark.long(test) if flood.long else test
    setattr(Floods, "test_" + "".join(c if c.isalnum() else "_" for c in name), marked)


for _name, _flood in FLOODS.items():
    _add(_name, _flood)
