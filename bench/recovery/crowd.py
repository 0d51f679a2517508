"""
Many light viewers in this process, on real WebSockets: so light that it is the server that is measured.

Each follows one log, comes back by ``after`` whenever it is broken off, and counts what it lost or saw twice; the end
of the log has to agree with its own count and digest. The frames are read by hand, and a message that many viewers
get alike is decoded once. The reactor runs in a thread; the measurement asks from another.
"""

from __future__ import annotations

import hashlib
import os
import random
import struct
import threading
import time
from array import array
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from twisted.internet import reactor as _reactor
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.internet.threads import blockingCallFromThread

_T = TypeVar("_T")

# Typed as the module, which is no reactor to a type checker.
reactor: Any = _reactor

#: Seconds between two tries to connect: scattered around this. The first try after a loss is made at once.
AGAIN = 0.1

#: Seconds for a connection, and for the handshake on it.
CONNECTING = 30.0

#: Messages that are kept decoded, for the next viewer.
_KEPT = 200


def run_reactor() -> None:
    """Have the reactor run, in a thread of its own, until the process ends."""
    if not reactor.running:
        started = threading.Event()
        reactor.callWhenRunning(started.set)
        threading.Thread(target=reactor.run, args=(False,), name="reactor", daemon=True).start()
        started.wait()


def in_reactor(function: Callable[..., _T], *arguments: Any) -> _T:
    """Call it in the reactor's thread; its result."""
    result: _T = blockingCallFromThread(reactor, function, *arguments)
    return result


class _Lines(msgspec.Struct, tag="lines", tag_field="type"):
    first: int
    lines: list[Any]


class _State(msgspec.Struct, tag="state", tag_field="type"):
    build: int
    state: str


class _Gap(msgspec.Struct, tag="gap", tag_field="type"):
    first: int = msgspec.field(name="from")
    last: int = msgspec.field(name="to")


class _End(msgspec.Struct, tag="end", tag_field="type"):
    lines: int
    sha256: str
    complete: bool


class _Subscribed(msgspec.Struct, tag="subscribed", tag_field="type"):
    topic: str


class _Said(msgspec.Struct, tag="said", tag_field="type"):
    build: int


_decoder = msgspec.json.Decoder(_Lines | _State | _Said | _Gap | _End | _Subscribed)


class Batch:
    """A message with lines, as the viewers need it. ``stamps``: when each was printed, in ns; 0 if it doesn't say."""

    __slots__ = ("digested", "first", "stamps")

    def __init__(self, message: _Lines) -> None:
        self.first = message.first
        self.digested = [
            (line if isinstance(line, str) else msgspec.json.encode(line).decode()).encode() + b"\n"
            for line in message.lines
        ]
        self.stamps = [
            int(line[3:22]) if isinstance(line, str) and line.startswith("at ") else 0 for line in message.lines
        ]


class Socket(Protocol):
    """A WebSocket's client side, as far as a stream needs it: whole text frames, ping, close."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._buffer = b""
        self._open = False
        self._code = 0
        self._waiting: Any = None

    def connectionMade(self) -> None:
        """Shake hands."""
        client = self.client
        self.transport.write(  # type: ignore[union-attr]
            f"GET {client.path()} HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\nAuthorization: Bearer {client.token}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n".encode()
        )
        self._waiting = reactor.callLater(CONNECTING, self.abort)

    def abort(self) -> None:
        """End the connection, as a network would."""
        self.transport.abortConnection()  # type: ignore[union-attr]

    def say(self, payload: bytes) -> None:
        """Send a short text message."""
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        self.transport.write(bytes((0x81, 0x80 | len(payload))) + mask + masked)  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        """The handshake's answer, then frames."""
        buffer = self._buffer + data
        if not self._open:
            head, end, rest = buffer.partition(b"\r\n\r\n")
            if not end:
                self._buffer = buffer
                return
            if not head.startswith(b"HTTP/1.1 101 "):
                self.client.refused(head.split(b"\r\n")[0].decode("latin-1"))
                self.abort()
                return
            self._open = True
            self._waiting.cancel()
            self.client.opened(self)
            buffer = rest
        start, size = 0, len(buffer)
        while size - start >= 2:
            first, length, payload = buffer[start], buffer[start + 1], start + 2
            if length > 125:
                wide = 2 if length == 126 else 8
                if size - payload < wide:
                    break
                length = struct.unpack_from("!H" if wide == 2 else "!Q", buffer, payload)[0]
                payload += wide
            if size - payload < length:
                break
            start = payload + length
            self._frame(first, buffer[payload:start])
        self._buffer = buffer[start:]

    def _frame(self, first: int, payload: bytes) -> None:
        if first == 0x81:
            self.client.heard(self, payload)
        elif first == 0x89:
            mask = b"\0\0\0\0"
            self.transport.write(bytes((0x8A, 0x80 | len(payload))) + mask + payload)  # type: ignore[union-attr]
        elif first == 0x88:
            self._code = struct.unpack_from("!H", payload)[0] if len(payload) >= 2 else 1005
            self.transport.loseConnection()  # type: ignore[union-attr]
        else:
            self.client.refused(f"a frame that begins with {first:#x}")

    def connectionLost(self, reason: object = None) -> None:
        """It is over."""
        if self._waiting is not None and self._waiting.active():
            self._waiting.cancel()
        self.client.lost(self._code)


class _Factory(ClientFactory):
    noisy = False

    def __init__(self, client: Client) -> None:
        self._client = client

    def buildProtocol(self, addr: object) -> Socket:
        return Socket(self._client)

    def clientConnectionFailed(self, connector: object, reason: object) -> None:
        self._client.lost(0)


class Client:
    """Keeps one WebSocket until it is stopped."""

    def __init__(self, port: int, token: str) -> None:
        self.port = port
        self.token = token
        self.connections = 0
        self.refusals: list[str] = []
        self.socket: Socket | None = None
        self.over = False
        self._factory = _Factory(self)
        self._tries = 0

    def path(self) -> str:
        """What to ask for now."""
        raise NotImplementedError

    def connect(self) -> None:
        """Try to connect."""
        if not self.over:
            self._tries += 1
            reactor.connectTCP("127.0.0.1", self.port, self._factory, timeout=CONNECTING)

    def opened(self, socket: Socket) -> None:
        """The handshake is done."""
        self.socket = socket
        self.connections += 1
        self._tries = 0

    def heard(self, socket: Socket, payload: bytes) -> None:
        """A message."""
        raise NotImplementedError

    def refused(self, why: str) -> None:
        """The server answered otherwise than it should; a 503 is no surprise while it comes and goes."""
        if " 503 " not in f"{why} ":
            self.refusals.append(why)

    def lost(self, code: int) -> None:
        """The connection is gone, or was never there: again."""
        self.socket = None
        if not self.over:
            reactor.callLater(random.uniform(0.5, 1.5) * AGAIN if self._tries else 0, self.connect)

    def stop(self) -> None:
        """Leave."""
        self.over = True
        self.cut()

    def cut(self) -> None:
        """Break the connection off."""
        if self.socket is not None:
            self.socket.abort()


class Viewer(Client):
    """Follows one log from its beginning to its end."""

    def __init__(self, crowd: Crowd, build: int) -> None:
        super().__init__(crowd.port, crowd.token)
        self.next = 1
        self.missing = 0  # records
        self.doubled = 0
        self.verified: bool | None = None  # None: it hasn't come to the end
        self.reached: float | None = None  # when it saw what was printed after the crowd's mark, on a new connection
        self.delays: array[float] | None = None  # seconds from print to here, if wanted
        self.printed = (0, 0)  # ns: when the first and the last of these were
        self.fresh = False  # this connection was made after the mark
        self._build = build
        self._crowd = crowd
        self._digest = hashlib.sha256()

    def path(self) -> str:
        return f"/api/v1/builds/{self._build}/log/stream?after={self.next - 1}"

    def opened(self, socket: Socket) -> None:
        super().opened(socket)
        self.fresh = True

    def keep_delays(self) -> None:
        """From now on."""
        self.delays = array("d")

    def kept_delays(self) -> array[float]:
        """Return those that were kept, and keep no more."""
        delays, self.delays = self.delays or array("d"), None
        return delays

    def stick(self, stuck: bool) -> None:
        """Read no more, or read again."""
        if self.socket is not None and self.socket.transport is not None:
            transport: Any = self.socket.transport
            (transport.pauseProducing if stuck else transport.resumeProducing)()

    def heard(self, socket: Socket, payload: bytes) -> None:
        match self._crowd.decoded(payload):
            case Batch() as batch:
                self._take(batch)
            case _Gap() as gap:
                self.missing += gap.last + 1 - self.next
                self.next = gap.last + 1
            case _End() as end:
                counted = (end.lines, end.sha256) == (self.next - 1, self._digest.hexdigest())
                self.verified = counted and end.complete
                self.over = True
            case _:
                pass

    def _take(self, batch: Batch) -> None:
        digested, stamps = batch.digested, batch.stamps
        known = self.next - batch.first
        if known < 0:
            self.missing -= known
        elif known > 0:
            self.doubled += min(known, len(digested))
            digested, stamps = digested[known:], stamps[known:]
        if not digested:
            return
        self.next = batch.first + max(0, known) + len(digested)
        self._digest.update(b"".join(digested))
        if self.reached is None and self.fresh and stamps[-1] >= self._crowd.mark:
            self.reached = time.monotonic()
        if self.delays is not None:
            now = time.time_ns()
            printed = [stamp for stamp in stamps if stamp]
            if printed:
                self.delays.extend([(now - stamp) / 1e9 for stamp in printed])
                self.printed = (self.printed[0] or printed[0], printed[-1])


class States(Client):
    """Hears all builds' states."""

    def __init__(self, port: int, token: str) -> None:
        super().__init__(port, token)
        self.states: dict[int, str] = {}
        self.changes: list[tuple[float, int, str]] = []  # when, which build, its state
        self.listening = False

    def path(self) -> str:
        return "/api/v1/stream"

    def opened(self, socket: Socket) -> None:
        super().opened(socket)
        socket.say(b'{"type":"subscribe","topic":"builds"}')

    def heard(self, socket: Socket, payload: bytes) -> None:
        message = _decoder.decode(payload)
        if isinstance(message, _State):
            self.states[message.build] = message.state
            self.changes.append((time.monotonic(), message.build, message.state))
        elif isinstance(message, _Subscribed):
            self.listening = True

    def when(self, build: int, state: str, since: float) -> float | None:
        """When the build came into this state, after ``since``."""
        return next((at for at, b, s in list(self.changes) if b == build and s == state and at >= since), None)


def _all(viewers: list[Viewer], do: Callable[[Viewer], None]) -> None:
    for viewer in viewers:
        do(viewer)


class Crowd:
    """The viewers. All but `decoded` is called by the bench, outside of the reactor's thread."""

    def __init__(self, port: int, token: str) -> None:
        self.port = port
        self.token = token
        self.viewers: list[Viewer] = []
        self.mark = 0  # ns: what was printed from then on counts as new
        self._decoded: dict[bytes, Any] = {}

    def decoded(self, payload: bytes) -> Any:
        """The message, decoded once for all viewers."""
        found = self._decoded.get(payload)
        if found is None:
            if len(self._decoded) >= _KEPT:
                self._decoded.clear()
            message = _decoder.decode(payload)
            found = self._decoded[payload] = Batch(message) if isinstance(message, _Lines) else message
        return found

    def add(self, build: int, count: int) -> list[Viewer]:
        """More viewers, of this build."""
        added = [Viewer(self, build) for _ in range(count)]
        self.viewers += added
        in_reactor(_all, added, Viewer.connect)
        return added

    def set_mark(self, *, reconnected: bool) -> float:
        """
        Count the viewers that have seen what is printed from now on; with ``reconnected``, on a connection that is
        made from now on. The time on the clock of `Viewer.reached`.
        """

        def mark() -> float:
            self.mark = time.time_ns()
            for viewer in self.viewers:
                viewer.reached = None
                viewer.fresh = not reconnected
            return time.monotonic()

        return in_reactor(mark)

    def cut(self) -> None:
        """Break all connections off, at once."""
        in_reactor(_all, self.viewers, Viewer.cut)

    def current(self) -> bool:
        """Whether all have seen what was printed after the mark."""
        return all(viewer.reached is not None for viewer in self.viewers)

    def took(self, since: float) -> list[float]:
        """For each, the seconds from ``since`` until it was current."""
        return sorted(viewer.reached - since for viewer in self.viewers if viewer.reached is not None)

    def ended(self) -> bool:
        """Whether all have come to their log's end."""
        return all(viewer.verified is not None for viewer in self.viewers)

    def fewest(self) -> int:
        """How many records the viewer with the fewest has."""
        return min(viewer.next - 1 for viewer in self.viewers)

    def counts(self) -> dict[str, int]:
        """What must be 0; and over how many records."""
        return {
            "lost": sum(viewer.missing for viewer in self.viewers),
            "doubled": sum(viewer.doubled for viewer in self.viewers),
            "unverified": sum(viewer.verified is not True for viewer in self.viewers),
            "refused": sum(len(viewer.refusals) for viewer in self.viewers),
            "records": sum(viewer.next - 1 for viewer in self.viewers),
        }
