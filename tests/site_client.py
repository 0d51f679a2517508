"""The releases' site without sockets: a request's bytes go in, the answer's come out, all in memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from tests.web_world import Answer
from twistedipc.builds.site.rules import Serving
from twistedipc.disk.files import write_file
from twistedipc.publish.targets.static.pool import Pool
from twistedipc.publish.targets.static.release import Entry, Index
from twistedipc.publish.targets.static.releases import ReleaseStore
from twistedipc.web.access.audience import Audience
from twistedipc.web.http.channel import Channel
from twistedipc.web.releases.site import releases_site


def put_release(
    folder: Path, project: str, number: int, files: Mapping[str, bytes], serving: Serving | None = None
) -> None:
    """Put a release into a store's folder, without an archive: also one that could not be packed."""
    entries: dict[str, Entry] = {}
    with Pool(folder / project / "pool").adding() as adding:
        for path, content in files.items():
            entries[path] = Entry(hashlib.sha256(content).hexdigest(), len(content))
            adding.write(entries[path].sha256, [content])
    (folder / project / "releases").mkdir(parents=True, exist_ok=True)
    index = Index(files=entries, serving=serving or Serving())
    write_file(folder / project / "releases" / f"{number}.json", index)


def file_of(store: ReleaseStore, path: str, project: str = "shop") -> Path | None:
    """Where the content of a file of the live release is; None if nothing is live."""
    live = store.live(project)
    return None if live is None else store.file(project, live.files[path].sha256)


class Transport(StringTransport):
    """A connection whose client takes everything at once, until it is told to stop."""

    aborted = False

    def abortConnection(self) -> None:
        """Closed without sending what is left."""
        self.aborted = True
        super().abortConnection()


class SiteClient:
    """A site over the releases in ``folder``, for everybody if no ``audience`` says else; and a client of it."""

    def __init__(self, folder: Path, audience: Audience | None = None, **more: Any) -> None:
        self.clock = Clock()
        self.store = ReleaseStore(folder)
        self._folder = folder
        self.site = releases_site(self.store, self.clock, os.urandom, audience=audience, **more)

    def release(
        self, number: int, files: Mapping[str, bytes], project: str = "shop", serving: Serving | None = None
    ) -> None:
        """Make a release of these files, and make it live."""
        put_release(self._folder, project, number, files, serving)
        self.store.activate(project, number)

    def compress(self, project: str = "shop", number: int = 1) -> None:
        """Compress what is live, as it is done in the background."""
        made = self.store.compress(project, number, 1 << 20)
        assert made is not None
        assert made.complete
        self.store.take_compressed(project, made)

    def connect(self) -> tuple[Channel, Transport]:
        """A new connection."""
        channel = self.site.buildProtocol(None)
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
        channel.connectionLost()
        return Answer(transport.value())

    @staticmethod
    def quoted(path: str) -> str:
        """The address of a file with this path in its release."""
        return "/" + quote(path)

    def fetch(self, path: str) -> Answer:
        """The file with this path in its release."""
        return self.get(self.quoted(path))
