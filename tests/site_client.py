"""The releases' site without sockets: a request's bytes go in, the answer's come out, all in memory."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from tests.web_world import Answer
from twistedipc.publish.targets.static.releases import ReleaseStore
from twistedipc.web.http.channel import Channel
from twistedipc.web.releases.site import releases_site


class Transport(StringTransport):
    """A connection whose client takes everything at once, until it is told to stop."""

    aborted = False

    def abortConnection(self) -> None:
        """Closed without sending what is left."""
        self.aborted = True
        super().abortConnection()


class SiteClient:
    """A site over the releases in ``folder``, and a client of it."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.store = ReleaseStore(folder)
        self._folder = folder
        self._site = releases_site(self.store, self.clock, os.urandom)

    def release(self, number: int, files: dict[str, bytes], project: str = "shop") -> Path:
        """Put these files where an unpacked release has them, and make it live."""
        folder = self._folder / project / "releases" / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            os.utime(path, (0, 0))
        self.store.activate(project, number)
        return folder

    def connect(self) -> tuple[Channel, Transport]:
        """A new connection."""
        channel = self._site.buildProtocol(None)
        assert channel is not None
        transport = Transport()
        channel.makeConnection(transport)
        return channel, transport

    def send(
        self, path: str, method: str = "GET", host: str = "shop.localhost", headers: tuple[tuple[str, str], ...] = ()
    ) -> bytes:
        """The bytes of a request."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers)]
        return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1")

    def get(self, path: str, *headers: tuple[str, str], method: str = "GET", host: str = "shop.localhost") -> Answer:
        """The answer to one request."""
        channel, transport = self.connect()
        channel.dataReceived(self.send(path, method, host, headers))
        return Answer(transport.value())

    @staticmethod
    def quoted(path: str) -> str:
        """The address of a file with this path in its release."""
        return "/" + quote(path)

    def fetch(self, path: str) -> Answer:
        """The file with this path in its release."""
        return self.get(self.quoted(path))
