"""Connections of strangers: what is too much, too slow or no HTTP at all."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource

from tests.web_world import Answer, World, connect, say
from twistedipc.web.http import channel
from twistedipc.web.http.channel import BodySink, BoundedRequest, BoundedSite, Channel, send
from twistedipc.web.http.problems import ProblemError

_HEAD = "POST /api/v1/projects HTTP/1.1\r\nHost: api.test\r\nContent-Type: application/json\r\n"


class OverTCP(World):
    async def test_a_body_of_a_gigabyte_is_refused_by_its_length(self) -> None:
        self.patch(channel, "LINGER_SECONDS", 0.1)  # nothing more is sent
        answer = Answer(await say(self.port, f"{_HEAD}Content-Length: 1073741824\r\n\r\n{{".encode()))
        self.problem(answer, 413, "1048576")
        assert answer.headers["Connection"] == "close"

    async def test_a_client_that_asks_before_sending_is_answered_before_sending(self) -> None:
        self.patch(channel, "LINGER_SECONDS", 0.1)  # nothing is sent
        data = f"{_HEAD}Expect: 100-continue\r\nContent-Length: 1073741824\r\n\r\n".encode()
        self.problem(Answer(await say(self.port, data)), 413)
        data = f"{_HEAD}Expect: 100-continue\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}".encode()
        assert (await say(self.port, data)).startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 401")

    async def test_an_endless_body(self) -> None:
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        data = f"{_HEAD}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk * 40
        self.problem(Answer(await say(self.port, data)), 413)

    async def test_a_body_at_the_limit(self) -> None:
        for size, status in ((channel.MAX_BODY, 400), (channel.MAX_BODY + 1, 413)):
            body = b" " * size
            answer = await self.ask("POST", "/api/v1/projects", body, headers={"Content-Type": "application/json"})
            self.problem(answer, status)

    async def test_what_is_no_http(self) -> None:
        for data in (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n",
            b'{"type":"hello"}\n\r\n',
            b"GET\r\n\r\n",
            b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: " + b"9" * 10_000 + b"\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"GET / HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n",
            b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
            b"GET / HTTP/1.1\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
            b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
            b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        ):
            answer = Answer(await say(self.port, data))
            self.problem(answer, 400)
        assert (await self.ask("GET", "/api/v1/identity")).status == 200

    async def test_several_requests_on_one_connection(self) -> None:
        one = f"GET /api/v1/identity HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.admin}\r\n".encode()
        received = await say(self.port, (one + b"\r\n") * 3 + one + b"Connection: close\r\n\r\n")
        assert received.count(b"HTTP/1.1 200 OK") == 4

    async def test_so_many_connections(self) -> None:
        self.patch(channel, "MAX_CONNECTIONS", 2)
        clients = [await connect(self.port) for _ in range(3)]
        await clients[2].closed
        for client in clients[:2]:
            assert client.transport is not None
            client.transport.loseConnection()
            await client.closed
        assert (await self.ask("GET", "/api/v1/identity")).status == 200

    async def test_all_bodies_together_are_bounded(self) -> None:
        self.patch(channel, "MAX_BODIES", 100)
        json = {"Content-Type": "application/json"}
        self.problem(await self.ask("POST", "/api/v1/projects", b" " * 101, headers=json), 503)
        for _ in range(3):
            self.problem(await self.ask("POST", "/api/v1/projects", b" " * 99, headers=json), 400)
        assert self.site.hold(100), "nothing is left of them"


class _Plain(Resource):
    isLeaf = True

    def render(self, request: Any) -> int:
        send(request, 200, b"{}", "application/json")
        return 1


class _Front:
    def __init__(self) -> None:
        self.sink: BodySink | None = None

    def head_received(self, request: BoundedRequest) -> BodySink | None:
        if request.path == b"/refused":
            raise ProblemError(401, "no")
        return self.sink


class _Sink:
    limit = 10

    def __init__(self) -> None:
        self.data = b""
        self.abandoned = False

    def write(self, data: bytes) -> None:
        self.data += data

    def abandon(self) -> None:
        self.abandoned = True


class _Transport(StringTransport):
    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True
        self.loseConnection()


class OverTime(SynchronousTestCase):
    """On a clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.front = _Front()
        self.site = BoundedSite(self.front, _Plain(), self.clock, lambda size: bytes([7]) * size)
        built = self.site.buildProtocol(None)
        assert isinstance(built, Channel)
        self.channel = built
        self.transport = _Transport()
        self.channel.makeConnection(self.transport)

    def _closing(self) -> bool:
        return self.transport.disconnecting

    def test_silence(self) -> None:
        self.clock.advance(channel.REQUEST_SECONDS)
        assert self.transport.disconnecting

    def test_slow_bytes_of_a_head(self) -> None:
        for _ in range(channel.REQUEST_SECONDS // 10):
            self.channel.dataReceived(b"G")
            self.clock.advance(10)
        assert self.transport.value().startswith(b"HTTP/1.1 408 ")
        assert self.transport.disconnecting

    def test_slow_bytes_of_a_body(self) -> None:
        self.channel.dataReceived(b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\n")
        for _ in range(channel.REQUEST_SECONDS // 10):
            self.channel.dataReceived(b"x")
            self.clock.advance(10)
        assert self.transport.value().startswith(b"HTTP/1.1 408 ")

    def test_an_upload_may_take_long_but_not_stand_still(self) -> None:
        self.front.sink = sink = _Sink()
        self.channel.dataReceived(b"PUT / HTTP/1.1\r\nContent-Length: 10\r\n\r\n")
        for _ in range(9):
            self.channel.dataReceived(b"x")
            self.clock.advance(channel.REQUEST_SECONDS - 1)
        assert not self._closing()
        self.clock.advance(1)
        assert self._closing()
        assert sink.data == b"x" * 9

    def test_a_refused_request_is_read_on_for_a_while(self) -> None:
        self.channel.dataReceived(b"PUT /refused HTTP/1.1\r\nContent-Length: 100\r\n\r\nsome")
        assert self.transport.value().startswith(b"HTTP/1.1 401 ")
        assert not self.transport.disconnecting
        self.channel.dataReceived(b"x" * 96)
        self.channel.dataReceived(b"GET / HTTP/1.1\r\n\r\n")
        assert self.transport.value().count(b"HTTP/1.1") == 1
        self.clock.advance(channel.LINGER_SECONDS)
        assert self.transport.disconnecting

    def test_a_refused_request_without_a_body(self) -> None:
        self.channel.dataReceived(b"PUT /refused HTTP/1.1\r\n\r\n")
        assert self.transport.value().startswith(b"HTTP/1.1 401 ")
        assert self.transport.value().count(b"HTTP/1.1") == 1

    def test_a_request_is_named_by_the_randomness_that_the_site_was_given(self) -> None:
        self.channel.dataReceived(b"PUT /refused HTTP/1.1\r\n\r\n")
        assert b"\r\nX-Request-Id: " + b"07" * 8 + b"\r\n" in self.transport.value()

    def test_a_sink_that_has_enough(self) -> None:
        self.front.sink = sink = _Sink()
        self.channel.dataReceived(b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n123456\r\n6\r\n123456\r\n")
        assert self.transport.value().startswith(b"HTTP/1.1 413 ")
        assert (sink.data, sink.abandoned) == (b"123456", True)

    def test_a_lost_connection_is_told_to_the_sink_and_uncounted(self) -> None:
        self.front.sink = sink = _Sink()
        self.channel.dataReceived(b"PUT / HTTP/1.1\r\nContent-Length: 10\r\n\r\n1234")
        assert len(self.site.connections) == 1
        self.channel.connectionLost()
        assert sink.abandoned
        assert len(self.site.connections) == 0

    def test_every_cut_of_a_request(self) -> None:
        data = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" * 2
        for cut in range(len(data)):
            self.transport.clear()
            self.channel.dataReceived(data[:cut])
            self.channel.dataReceived(data[cut:])
            assert self.transport.value().count(b"HTTP/1.1 200 OK") == 2, cut

    def tearDown(self) -> None:
        if self.site.connections:
            self.channel.connectionLost()
        assert not self.clock.getDelayedCalls()
