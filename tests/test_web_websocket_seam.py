"""The real WebSockets behind the API: the connection is handed over whole."""

from __future__ import annotations

import base64
import json
import os
from typing import Any

from twisted.internet.task import deferLater
from twisted.internet.tcp import Server
from twisted.logger import capturedLogs

from tests.web_world import World, connect, eventually, forget_timers, reactor, request_bytes
from twistedipc.server.gists import Gists
from twistedipc.server.states import Feed
from twistedipc.web.live import lean
from twistedipc.web.live.limits import Limits
from twistedipc.web.live.sockets import WebSockets


def messages(received: bytes) -> list[object]:
    """The text messages that came after the handshake, each in one frame of less than 64 KiB."""
    data = bytes(received).split(b"\r\n\r\n", 1)[1]
    found: list[object] = []
    while data and data[0] == 0x81:
        size, begin = (data[1], 2) if data[1] < 126 else (int.from_bytes(data[2:4], "big"), 4)
        found.append(json.loads(data[begin : begin + size]))
        data = data[begin + size :]
    return found


class Seam(World):
    async def prepare(self) -> None:
        await self.project()
        self.number = await self.build()
        self.addCleanup(forget_timers)
        self.serve(Limits())

    def serve(self, limits: Limits) -> None:
        """Have WebSockets with these limits."""
        gists = Gists(reactor, self.ledger)
        self.real = WebSockets(reactor, self.now, self.ledger, self.logs, Feed(), gists, limits=limits)
        # The context is frozen, so that this isn't done by accident.
        object.__setattr__(self.context, "websockets", self.real)

    async def _open(self, path: str, token: str | None = None) -> Any:
        client = await connect(self.port)
        assert client.transport is not None
        headers = {
            "Authorization": f"Bearer {token or self.admin}",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        }
        request = request_bytes("GET", path, headers, b"").replace(b"Connection: close\r\n", b"")
        client.transport.write(request)
        await client.until(b"\r\n\r\n")
        return client

    async def test_a_log(self) -> None:
        log = self.logs.of(f"{self.number}-1")
        log.add("hello")
        client = await self._open(f"/api/v1/builds/{self.number}/log/stream")
        assert client.received.startswith(b"HTTP/1.1 101 ")
        await client.until(b'"hello"')
        assert len(self.site.connections) == 0, "it is the WebSockets' to count now"
        client.abort()
        await client.closed
        await eventually(lambda: not any(isinstance(each, Server) for each in reactor.getReaders()))
        await eventually(lambda: all(cursor.closed for cursor in log.cursors))

    async def test_a_log_with_a_gap(self) -> None:
        log = self.logs.of(f"{self.number}-1")
        log.add("a", "b")
        log.gap(3)
        log.add("f")
        log.end(complete=False)
        for after, first in ((1, {"type": "lines", "first": 2, "time": 1, "step": 0, "lines": ["b"]}), (3, None)):
            client = await self._open(f"/api/v1/builds/{self.number}/log/stream?after={after}")
            await client.until(b'"complete"')
            gap = {"type": "gap", "from": max(3, after + 1), "to": 5, "reason": "lost"}
            last = {"type": "lines", "first": 6, "time": 1, "step": 0, "lines": ["f"]}
            said = messages(client.received)
            assert said[1:-1] == [*([first] if first else []), gap, last], "behind the state"
            assert said[-1] == {"type": "end", "lines": 6, "sha256": "", "state": "succeeded", "complete": False}
            await self._over(client)

    async def test_nothing_follows_a_close(self) -> None:
        # The client doesn't answer the close. Autobahn's timers come up to a second early.
        self.serve(Limits(close_timeout=1.5))
        log = self.logs.of(f"{self.number}-1")
        client = await self._open(f"/api/v1/builds/{self.number}/log/stream")
        await client.until(b'"state"')
        client.transport.write(b"\x81\x02hi")  # unmasked
        await client.until(b"\x03\xeaunmasked")
        log.add("too late")
        await client.closed
        assert b"too late" not in client.received
        await eventually(lambda: all(cursor.closed for cursor in log.cursors))
        await self._over(client)

    async def _over(self, client: Any) -> None:
        """The connection ends, and the server lets go of it."""
        client.abort()
        await client.closed
        await eventually(lambda: not any(isinstance(each, Server) for each in reactor.getReaders()))

    async def test_an_open_socket_keeps_nothing_of_its_handshake(self) -> None:
        path = f"/api/v1/builds/{self.number}/log/stream"
        clients = [await self._open(path) for _ in range(2)]
        for client in clients:
            await client.until(b'"state"')
        one, two = self.real.viewers
        assert one.holding.token is two.holding.token
        for viewer in (one, two):
            kept = vars(viewer)
            assert len(kept) < 20, sorted(kept)
            assert not [name for name in kept if name.startswith("http_")]
        # What it has from its class is not shared when it changes.
        one.wasClean = True
        assert not two.wasClean
        clients[0].transport.write(b"\x89\x82" + bytes(4) + b"hi")  # a ping, masked
        await clients[0].until(b"\x8a\x02hi")
        clients[0].abort()
        await clients[0].closed
        await self._over(clients[1])

    async def test_another_autobahn_costs_memory_and_nothing_else(self) -> None:
        self.patch(lean, "HANDSHAKE", (*lean.HANDSHAKE, "renamed_since"))
        with capturedLogs() as said:
            for client in [await self._open(f"/api/v1/builds/{self.number}/log/stream") for _ in range(2)]:
                await client.until(b'"state"')
                client.transport.write(b"\x89\x82" + bytes(4) + b"hi")  # a ping, masked
                await client.until(b"\x8a\x02hi")
                client.abort()
                await client.closed
        assert [event["names"] for event in said if "names" in event] == ["renamed_since"]
        await self._over(client)

    async def test_a_client_that_reads_nothing_is_closed(self) -> None:
        self.serve(Limits(look_interval=0.02, progress_timeout=0.3))
        log = self.logs.of(f"{self.number}-1")
        client = await self._open(f"/api/v1/builds/{self.number}/log/stream")
        client.transport.pauseProducing()
        for _ in range(1000):
            log.add("x" * 16_000)
        await eventually(lambda: all(cursor.closed for cursor in log.cursors))
        await self._over(client)

    async def test_a_client_that_reads_slowly_is_not(self) -> None:
        self.serve(Limits(look_interval=0.02, progress_timeout=0.5))
        log = self.logs.of(f"{self.number}-1")
        client = await self._open(f"/api/v1/builds/{self.number}/log/stream")
        client.transport.pauseProducing()
        for _ in range(1000):
            log.add("x" * 16_000)
        for _ in range(30):  # for three times as long as nothing may move
            client.transport.resumeProducing()
            await deferLater(reactor, 0)
            client.transport.pauseProducing()
            await deferLater(reactor, 0.05)
        assert len(client.received) < 16_000_000, "it was not so slow"
        assert not all(cursor.closed for cursor in log.cursors)
        await self._over(client)

    async def test_a_client_that_gives_no_sign_of_life(self) -> None:
        self.serve(Limits(look_interval=0.02, ping_interval=0.1, pong_timeout=0.2))
        client = await self._open(f"/api/v1/builds/{self.number}/log/stream")
        await client.closed
        assert b"\x89\x00" in client.received, "it was asked"
        await eventually(lambda: not any(isinstance(each, Server) for each in reactor.getReaders()))

    async def test_a_client_that_answers_stays(self) -> None:
        self.serve(Limits(look_interval=0.02, ping_interval=0.1, pong_timeout=1.0))
        client = await self._open(f"/api/v1/builds/{self.number}/log/stream")
        answered = 0

        def answer_each() -> bool:
            nonlocal answered
            while client.received.count(b"\x89\x00") > answered:
                answered += 1
                client.transport.write(b"\x8a\x80" + os.urandom(4))  # a pong, masked
            return answered >= 12  # for longer than an answer may take

        await eventually(answer_each)
        assert client.transport.connected
        await self._over(client)

    async def _flood(self, frames: bytes) -> None:
        """Check that these frames are not taken for long: the client is told why, and costs nothing more."""
        client = await self._open(f"/api/v1/builds/{self.number}/log/stream")
        await client.until(b'"state"')
        for _ in range(50):
            client.transport.write(frames)
        await client.closed
        assert b"\x88\x11\x03\xf0too many frames" in client.received
        await eventually(lambda: not any(isinstance(each, Server) for each in reactor.getReaders()))
        assert all(cursor.closed for cursor in self.logs.of(f"{self.number}-1").cursors)

    async def test_a_message_in_any_number_of_empty_frames(self) -> None:
        await self._flood(b"\x01\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * 10_000)

    async def test_a_flood_of_pings(self) -> None:
        await self._flood(b"\x89\x80\0\0\0\0" * 10_000)

    async def test_a_flood_of_pongs(self) -> None:
        await self._flood(b"\x8a\x80\0\0\0\0" * 10_000)

    async def test_frames_that_are_none(self) -> None:
        for frame in (
            b"\x81\x02hi",  # not masked
            b"\xc1\x80\0\0\0\0",  # a reserved bit
            b"\x83\x80\0\0\0\0",  # a reserved opcode
            b"\x89\xfe\x00\x7e\0\0\0\0" + bytes(126),  # a ping of 126 bytes
            b"\x80\x80\0\0\0\0",  # the rest of nothing
        ):
            with self.subTest(frame=frame[:4]):
                client = await self._open(f"/api/v1/builds/{self.number}/log/stream")
                await client.until(b'"state"')
                client.transport.write(frame)
                await client.until(b"\x03\xea")  # 1002, a protocol error
                await self._over(client)

    async def test_text_that_is_cut_in_a_character_and_goes_on_wrong(self) -> None:
        client = await self._open("/api/v1/stream")
        client.transport.write(b"\x01\x81\0\0\0\0\xe2" + b"\x80\x81\0\0\0\0\x28")
        await client.until(b"\x03\xef")  # 1007
        await self._over(client)

    async def test_a_token_that_expires_closes_it(self) -> None:
        token = await self.token("brief", "read", expires=self.now() + 300)
        client = await self._open(f"/api/v1/builds/{self.number}/log/stream", token)
        await client.until(b'"state"')
        self.time += 300
        await client.until(b"expired")
        client.abort()
        await client.closed
        await eventually(lambda: not any(isinstance(each, Server) for each in reactor.getReaders()))

    async def test_a_token_that_is_bound_no_more_has_to_come_again(self) -> None:
        """A socket that was open when a project was deleted would have seen another one of the same name."""
        await self.project("other")
        token = await self.token("bound", "read", ["shop", "other"])
        client = await self._open("/api/v1/stream", token)
        await client.until(b"101 Switching")
        assert (await self.ask("DELETE", "/api/v1/projects/other")).status == 204
        await client.until(b"\x03\xf4what the token may see has changed")  # 1012
        await self._over(client)

    async def test_a_revoked_token_closes_it(self) -> None:
        client = await self._open(f"/api/v1/builds/{self.number}/log/stream")
        tokens = (await self.ask("GET", "/api/v1/tokens")).json["tokens"]
        assert (await self.ask("DELETE", f"/api/v1/tokens/{tokens[0]['id']}")).status == 204
        await client.until(b"revoked")
        client.abort()
        await client.closed
        await eventually(lambda: not any(isinstance(each, Server) for each in reactor.getReaders()))
