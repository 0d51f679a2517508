"""Deflated frames: as they are made, as they are agreed on, and as real clients read them."""

from __future__ import annotations

import os
import zlib
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from autobahn.websocket.compress import (
    PerMessageDeflateOffer,
    PerMessageDeflateResponse,
    PerMessageDeflateResponseAccept,
)
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.tcp import Server
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from tests.frames import read
from tests.web_world import World, connect, eventually, forget_timers, reactor
from twistedipc.builds.frames import LEAST_DEFLATED, Form, deflated_frame
from twistedipc.builds.logs import Gap, Lines
from twistedipc.server.fanout.limits import LogLimits
from twistedipc.server.fanout.live import LiveLog
from twistedipc.server.fanout.shared import SharedFiles
from twistedipc.server.gists import Gists
from twistedipc.server.states import Feed
from twistedipc.web.live.sockets import WebSockets

LONG = "built in 12 ms, 34 modules; " * 100


lines = st.lists(st.text(max_size=30) | st.text(max_size=5).map(lambda text: text * 2000), min_size=1, max_size=8)


@given(st.lists(lines | st.none(), min_size=1, max_size=6), st.booleans())
def test_any_log_is_the_same_deflated(batches: list[list[str] | None], takeover: bool) -> None:
    live = LiveLog("7-2", LogLimits(), SharedFiles())
    live.restore(1, None)
    for batch in batches:
        first = live.next
        live.append(
            [
                Gap(first=first, to=first + 2, reason="lost")
                if batch is None
                else Lines(first=first, time=1, step=0, lines=list(batch))
            ]
        )
    run = live.tail.run(0, 1 << 30)
    messages = [entry.message for entry in run]
    assert read(run.frames[Form.DEFLATED].data, takeover=takeover) == messages == read(run.frames[Form.PLAIN].data)
    tagged = read(run.frames[Form.DEFLATED_TAGGED].data, takeover=takeover)
    assert tagged == read(run.frames[Form.TAGGED].data)
    assert all(message.startswith(b'{"build":7,"attempt":2,"type"') for message in tagged)


def test_an_entry_is_deflated_once() -> None:
    live = LiveLog("7-2", LogLimits(), SharedFiles())
    live.restore(1, None)
    ((entry, _),) = live.append([Lines(first=1, time=1, step=0, lines=[LONG])])
    run = live.tail.run(0, 1 << 16)
    assert entry.frame(Form.DEFLATED) is entry.frame(Form.DEFLATED)
    assert run.frames[Form.DEFLATED] is run.frames[Form.DEFLATED]
    assert run.frames[Form.DEFLATED_TAGGED] is run.frames[Form.DEFLATED_TAGGED]
    assert len(run.frames[Form.DEFLATED].data) < len(run.frames[Form.PLAIN].data) / 5


def test_what_is_short_or_does_not_shrink_goes_plain() -> None:
    assert deflated_frame(b"x" * (LEAST_DEFLATED - 1)) is None
    assert deflated_frame(os.urandom(LEAST_DEFLATED * 4)) is None
    frame = deflated_frame(b"x" * LEAST_DEFLATED)
    assert frame is not None
    assert frame[0] == 0xC1
    live = LiveLog("7-2", LogLimits(), SharedFiles())
    live.restore(1, None)
    ((entry, _),) = live.append([Lines(first=1, time=1, step=0, lines=["short"])])
    assert entry.frame(Form.DEFLATED) is entry.frame(Form.PLAIN)
    assert entry.frame(Form.DEFLATED_TAGGED) is entry.frame(Form.TAGGED)


class Agreement(World):
    """Real sockets, and the ``websockets`` package and Autobahn at their other end."""

    async def prepare(self) -> None:
        await self.project()
        self.number = await self.build()
        self.real = real = WebSockets(reactor, self.now, self.ledger, self.logs, Feed(), Gists(reactor, self.ledger))
        self.addCleanup(forget_timers)
        # The context is frozen, so that this isn't done by accident.
        object.__setattr__(self.context, "websockets", real)

    async def open(
        self, path: str, *, offer: ClientPerMessageDeflateFactory | None = None, header: str | None = None
    ) -> tuple[ClientProtocol, Any]:
        """The client's protocol, and its connection: the handshake is done."""
        factory = ClientPerMessageDeflateFactory(client_max_window_bits=True) if offer is None else offer
        protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{self.port}{path}"), extensions=[factory])
        request = protocol.connect()
        request.headers["Authorization"] = f"Bearer {self.admin}"
        if header is not None:
            del request.headers["Sec-WebSocket-Extensions"]
            if header:
                request.headers["Sec-WebSocket-Extensions"] = header
        protocol.send_request(request)
        connection = await connect(self.port)
        assert connection.transport is not None
        connection.transport.write(b"".join(protocol.data_to_send()))
        await connection.until(b"\r\n\r\n")
        return protocol, connection

    def log_path(self, query: str = "?compress=1") -> str:
        return f"/api/v1/builds/{self.number}/log/stream{query}"

    async def over(self, connection: Any) -> None:
        connection.abort()
        await connection.closed
        await eventually(lambda: not any(isinstance(each, Server) for each in reactor.getReaders()))

    def answered(self, connection: Any) -> str:
        """The extensions that the server named."""
        head = bytes(connection.received).split(b"\r\n\r\n", 1)[0].decode()
        assert head.startswith("HTTP/1.1 101 "), head
        named = [line for line in head.split("\r\n") if line.lower().startswith("sec-websocket-extensions:")]
        return named[0].partition(":")[2].strip() if named else ""

    async def test_a_log_by_websockets(self) -> None:
        log = self.logs.of(f"{self.number}-1")
        log.add("short")
        log.add(LONG, "näher")
        log.gap(3)
        log.add(LONG + "again")
        log.end(complete=False)
        seen = {}
        for query in ("?compress=1", "?compress=0", "", "?compress=1&after=1"):
            protocol, connection = await self.open(self.log_path(query))
            await connection.until(b"has ended")
            protocol.receive_data(bytes(connection.received))
            assert protocol.handshake_exc is None
            assert protocol.parser_exc is None
            frames = [each for each in protocol.events_received() if isinstance(each, Frame)]
            seen[query] = [bytes(each.data) for each in frames if each.opcode is Opcode.TEXT]
            compressed = "compress=1" in query
            assert (self.answered(connection) != "") is compressed
            assert (LONG.encode() in connection.received) is not compressed
            await self.over(connection)
        assert seen["?compress=1"] == seen["?compress=0"] == seen[""]
        assert b'"lines":["short"]' in seen[""][1]
        assert seen["?compress=1&after=1"][1:] == seen[""][2:], "the first is the state"

    async def test_a_log_by_autobahn(self) -> None:
        log = self.logs.of(f"{self.number}-1")
        log.add(LONG)
        log.add("short")
        log.end(complete=False)
        heard: list[bytes] = []
        closed: Deferred[object] = Deferred()

        class Viewer(WebSocketClientProtocol):
            def onMessage(self, payload: bytes, isBinary: bool) -> None:
                heard.append(payload)

            def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
                closed.callback(code)

        factory = WebSocketClientFactory(
            f"ws://127.0.0.1:{self.port}{self.log_path()}",
            headers={"Authorization": f"Bearer {self.admin}"},
            reactor=reactor,
        )
        factory.protocol = Viewer

        def accept(response: object) -> object:
            assert isinstance(response, PerMessageDeflateResponse)
            assert response.server_no_context_takeover
            assert response.client_no_context_takeover
            return PerMessageDeflateResponseAccept(response)

        factory.setProtocolOptions(
            perMessageCompressionOffers=[PerMessageDeflateOffer()], perMessageCompressionAccept=accept
        )
        reactor.connectTCP("127.0.0.1", self.port, factory)
        assert await closed == 1000
        assert LONG.encode() in heard[1]
        assert b'"lines":["short"]' in heard[2]
        await eventually(lambda: not any(isinstance(each, Server) for each in reactor.getReaders()))

    async def test_what_is_agreed_on(self) -> None:
        nothing = ""
        both = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
        for offered, agreed in (
            (nothing, nothing),
            ("x-something", nothing),
            ("permessage-deflate", both),
            ("permessage-deflate; client_max_window_bits", both),
            ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", both),
            ("permessage-deflate; server_max_window_bits=10", nothing),
            ("permessage-deflate; server_max_window_bits=10, permessage-deflate", both),
        ):
            _, connection = await self.open(self.log_path(), header=offered)
            assert self.answered(connection) == agreed, offered
            await self.over(connection)
        _, connection = await self.open(self.log_path(), header="permessage-deflate; server_max_window_bits=15")
        assert "server_max_window_bits=15" in self.answered(connection)
        await self.over(connection)

    async def test_a_compress_that_is_none(self) -> None:
        _, connection = await self.open(self.log_path("?compress=yes"))
        assert connection.received.startswith(b"HTTP/1.1 422 ")
        await self.over(connection)

    def frame(self, payload: bytes, first: int = 0xC1) -> bytes:
        """A client's text frame, masked with zeros."""
        size = len(payload)
        head = bytes((first, 0x80 | size)) if size < 126 else bytes((first, 0xFE)) + size.to_bytes(2, "big")
        return head + bytes(4) + payload

    def deflated(self, message: bytes) -> bytes:
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        return (deflate.compress(message) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]

    async def test_a_clients_deflated_message(self) -> None:
        _, connection = await self.open("/api/v1/stream?compress=1")
        wish = b'{"type":"subscribe","topic":"builds"}'
        for _ in range(3):
            connection.transport.write(self.frame(self.deflated(wish)))
        connection.transport.write(self.frame(wish, 0x81))
        await eventually(lambda: connection.received.count(b'"subscribed"') == 4)
        (viewer,) = self.real.viewers
        assert viewer._perMessageCompress._decompressor is None, "its window isn't kept"
        await self.over(connection)

    async def refused(self, frame: bytes, code: int, path: str = "/api/v1/stream?compress=1") -> None:
        """The server closes with this code."""
        _, connection = await self.open(path)
        connection.transport.write(frame)
        await eventually(lambda: code.to_bytes(2, "big") in bytes(connection.received).split(b"\r\n\r\n", 1)[1])
        received = bytes(connection.received).split(b"\r\n\r\n", 1)[1]
        assert received[0] == 0x88, received
        assert received[2:4] == code.to_bytes(2, "big"), received
        await self.over(connection)

    async def test_a_message_that_blows_up(self) -> None:
        bomb = self.deflated(bytes(3_000_000))
        assert len(bomb) < 4000
        await self.refused(self.frame(bomb), 1009)

    async def test_a_message_that_cannot_be_inflated(self) -> None:
        await self.refused(self.frame(b"\xff" * 50), 1007)

    async def test_a_deflated_message_that_was_not_agreed_on(self) -> None:
        await self.refused(self.frame(self.deflated(b"hello")), 1002, "/api/v1/stream")
