"""Uploads by a builder: to the real API, and to one that stands still, on the loopback."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent

from tests.web_world import World, reactor
from twistedipc.builder import upload as module
from twistedipc.builder.upload import NoArchive, UploadFailed, UploadRefused, WrongArchive, upload
from twistedipc.server.uploads import UploadTarget
from twistedipc.storage import artifacts


class ToTheApi(World):
    """A builder and the API that it uploads to."""

    async def prepare(self) -> None:
        await self.project()
        self.attempt = f"{await self.build()}-1"
        self.archive = self.folder / "archive.tar.gz"
        self.data = bytes(range(256)) * 4000
        self.archive.write_bytes(self.data)
        self.sha256 = hashlib.sha256(self.data).hexdigest()
        await self.ledger.write(artifacts.begin, self.attempt, len(self.data), self.sha256, self.now())
        self.grant = self.uploads.grant(UploadTarget(attempt=self.attempt, size=len(self.data), sha256=self.sha256))

    async def _upload(self, token: str = "") -> None:
        url = f"http://127.0.0.1:{self.port}/api/v1/uploads/{self.attempt}"
        await upload(Agent(reactor), reactor, url, token or self.grant, self.archive, len(self.data))

    async def test_it_arrives(self) -> None:
        await self._upload()
        assert self.artifacts.path(self.sha256).read_bytes() == self.data

    async def test_it_goes_on_where_an_earlier_one_was_broken_off(self) -> None:
        self.artifacts.append(self.attempt, 0, self.data[:100_001])
        await self._upload()
        assert self.artifacts.path(self.sha256).read_bytes() == self.data

    async def test_another_archive_is_said_to_be_one(self) -> None:
        self.archive.write_bytes(self.data[::-1])
        with self.assertRaises(WrongArchive):
            await self._upload()
        self.archive.write_bytes(b"short")
        with self.assertRaises(NoArchive):
            await self._upload()

    async def test_a_token_that_is_not_good(self) -> None:
        with self.assertRaises(UploadRefused):
            await self._upload("tipu_wrong")

    async def test_an_apiserver_that_stops_is_tried_again(self) -> None:
        self.draining = True
        with self.assertRaises(UploadFailed):
            await self._upload()
        self.draining = False
        await self._upload()


class Before(Protocol):
    """Something that isn't the apiserver: what it answers to each method is in its factory."""

    factory: Any

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        answer = self.factory.answers.get(data.split(b" ")[0])
        if answer:
            transport.write(b"HTTP/1.1 " + answer + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        transport.loseConnection()


class ToSomethingElse(TestCase):
    """An address that isn't the apiserver's is named, with what to change."""

    async def said(self, head: bytes, put: bytes = b"", size: int = 5 << 20) -> str:
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "archive.tar.gz"
            archive.write_bytes(bytes(size))
            server: Any = Factory.forProtocol(Before)
            server.answers = {b"HEAD": head, b"PUT": put}
            port = reactor.listenTCP(0, server, interface="127.0.0.1")
            self.site = f"http://127.0.0.1:{port.getHost().port}"
            with self.assertRaises(UploadFailed) as caught:
                await upload(Agent(reactor), reactor, f"{self.site}/api/v1/uploads/1-1", "tipu_x", archive, size)
            await port.stopListening()
        assert not isinstance(caught.exception, WrongArchive)
        assert not caught.exception.passes
        return str(caught.exception)

    async def test_a_proxy_that_limits_the_body(self) -> None:
        """The proxy's 413 was taken for the apiserver's: the build failed at once, with a page of HTML as reason."""
        offset = b"204 No Content\r\nUpload-Offset: 0"
        said = await self.said(offset, b"413 Request Entity Too Large\r\nContent-Type: text/html")
        assert said == (
            f"{self.site} answered 413 to 5.0 MiB: a proxy before the apiserver takes no requests of that size. "
            "Raise its limit (nginx: client_max_body_size 0; in the location of the API)"
        )

    async def test_other_answers(self) -> None:
        for head, wanted in (
            (b"404 Not Found\r\nContent-Type: text/html", "answered 404, and not as an apiserver does"),
            (b"200 OK\r\nContent-Type: text/html", "answered 200, and not as an apiserver does"),
            (b"401 Unauthorized", "answered 401, and not as an apiserver does"),
            (b"502 Bad Gateway", "answered 502: a proxy before the apiserver can't reach it"),
            (b"301 Moved\r\nLocation: https://ci.example.org/x", "answered 301, and leads to https://ci.example.org"),
            (b"401 No\r\nContent-Type: application/problem+json", "answered 401: it doesn't know this upload"),
            (b"", "closed the connection in the middle of the upload"),
        ):
            said = await self.said(head)
            assert wanted in said, said

    async def test_a_good_answer_to_a_body_that_is_not_the_apiservers(self) -> None:
        said = await self.said(b"204 No Content\r\nUpload-Offset: 0", b"200 OK\r\nContent-Type: text/html", size=10)
        assert "answered 200, and not as an apiserver does" in said

    async def test_no_answer(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "archive.tar.gz"
            archive.write_bytes(b"12345")
            port = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
            number = port.getHost().port
            await port.stopListening()
            for url, wanted in (
                (
                    f"http://127.0.0.1:{number}",
                    f"http://127.0.0.1:{number} can't be reached: the connection was refused.",
                ),
                ("http://nowhere.invalid", "http://nowhere.invalid can't be reached: there is no such host."),
                ("ftp://ci.example.org", "ftp://ci.example.org can't be reached: "),
                ("http://b\u00fccher.example", "can't be reached: "),
            ):
                with self.assertRaises(UploadFailed) as caught:
                    await upload(Agent(reactor), reactor, f"{url}/x", "tipu_x", archive, 5)
                assert wanted in str(caught.exception), caught.exception
                assert "http.public_url in apiserver.toml" in str(caught.exception)


class Endless(Protocol):
    """Answers, and the answer's body has no end."""

    factory: Any

    def __init__(self) -> None:
        self.closed: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        if data.startswith(b"HEAD"):
            transport.write(b"HTTP/1.1 204 No Content\r\nUpload-Offset: 0\r\n\r\n")
        else:
            transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 99999999\r\n\r\n" + bytes(1 << 20))

    def connectionMade(self) -> None:
        self.factory.connections.append(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed.callback(None)


class ToOneWhoseAnswerHasNoEnd(TestCase):
    """It is given up, and nothing of it stays."""

    async def test_it_is_given_up(self) -> None:
        self.patch(module, "ANSWER_TIMEOUT", 0.5)
        server: Any = Factory.forProtocol(Endless)
        server.connections = []
        port = reactor.listenTCP(0, server, interface="127.0.0.1")
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "archive.tar.gz"
            archive.write_bytes(b"12345")
            with self.assertRaises(UploadFailed) as caught:
                await upload(Agent(reactor), reactor, f"http://127.0.0.1:{port.getHost().port}/x", "t", archive, 5)
        assert "it doesn't answer" in str(caught.exception)
        for connection in server.connections:
            await connection.closed.addTimeout(20, reactor)
        await port.stopListening()


class Standing(Protocol):
    """An apiserver that reads ``pause`` seconds after it has read, and nothing beyond ``stands_at`` bytes."""

    factory: Any

    def __init__(self) -> None:
        self.taken = 0
        self.closed: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.factory.connections.append(self)

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        self.taken += len(data)
        if data.startswith(b"HEAD"):
            transport.write(b"HTTP/1.1 204 No Content\r\nUpload-Offset: 0\r\nConnection: close\r\n\r\n")
            transport.loseConnection()
        elif self.taken >= self.factory.answers_at:
            offset = b"Upload-Offset: %d" % ToOneThatStandsStill.SIZE
            transport.write(b"HTTP/1.1 204 No Content\r\n" + offset + b"\r\nConnection: close\r\n\r\n")
            transport.loseConnection()
        elif self.taken >= self.factory.stands_at:
            transport.pauseProducing()
        elif self.factory.pause:
            transport.pauseProducing()
            reactor.callLater(self.factory.pause, transport.resumeProducing)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed.callback(None)


class ToOneThatStandsStill(TestCase):
    """Nothing waits for ever, and nothing that moves is broken off."""

    SIZE = 12 << 20

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.archive = Path(folder.name) / "archive.tar.gz"
        self.archive.write_bytes(bytes(self.SIZE))

    async def _upload(self, *, stands_at: int = 1 << 60, pause: float = 0.0, answers_at: int = 1 << 60) -> None:
        server: Any = Factory.forProtocol(Standing)
        server.connections, server.stands_at, server.pause, server.answers_at = [], stands_at, pause, answers_at
        standing = reactor.listenTCP(0, server, interface="127.0.0.1")
        url = f"http://127.0.0.1:{standing.getHost().port}/api/v1/uploads/1-1"
        try:
            await upload(Agent(reactor), reactor, url, "tipu_x", self.archive, self.SIZE)
        finally:
            for connection in server.connections:
                if connection.transport.connected:
                    connection.transport.abortConnection()
                await connection.closed
            await standing.stopListening()

    async def test_one_that_takes_nothing_more(self) -> None:
        self.patch(module, "PROGRESS_TIMEOUT", 0.3)
        with self.assertRaises(UploadFailed) as caught:
            await self._upload(stands_at=1 << 20)
        assert "nothing has moved" in str(caught.exception)

    async def test_one_that_never_answers(self) -> None:
        self.patch(module, "PROGRESS_TIMEOUT", 1.0)
        self.patch(module, "VERIFIED_TIMEOUT", 0.3)
        with self.assertRaises(UploadFailed) as caught:
            await self._upload()
        assert "no answer" in str(caught.exception)

    async def test_one_that_is_slow(self) -> None:
        """A slow upload may take several times as long as one may stand still."""
        self.patch(module, "PROGRESS_TIMEOUT", 0.5)
        began = reactor.seconds()
        await self._upload(pause=0.005, answers_at=self.SIZE)
        assert reactor.seconds() - began > 1.0
