"""
The demo's package registry: as much of npm's protocol as it takes to publish, look and install, on this machine's
loopback. It keeps all in memory, so that nothing of it is left when the demo ends. It isn't for more than that:
the token may publish everything.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import msgspec

#: The most bytes of a request's body, and seconds that a client may be silent.
_MAX_BODY = 16 << 20
_SILENCE = 30.0

_TAGS = "-/package/"  # before a package's name and "/dist-tags"


class _Attachment(msgspec.Struct):
    data: bytes  # base64 in JSON


class _Upload(msgspec.Struct):
    """The document by which npm's clients publish a version."""

    name: str
    versions: dict[str, dict[str, Any]]
    tags: dict[str, str] = msgspec.field(name="dist-tags")
    attachments: dict[str, _Attachment] = msgspec.field(name="_attachments")


class _Package(msgspec.Struct):
    """What a client gets of a package."""

    name: str
    versions: dict[str, dict[str, Any]] = {}
    tags: dict[str, str] = msgspec.field(name="dist-tags", default_factory=dict)


class DemoRegistry(ThreadingHTTPServer):
    """A registry in this process, on a port of its own. ``token`` is asked for whatever is to be changed."""

    daemon_threads = True

    def __init__(self, token: str) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.token = token
        self.lock = threading.Lock()
        self.packages: dict[str, _Package] = {}
        self.tarballs: dict[str, bytes] = {}  # by their paths

    @property
    def url(self) -> str:
        """Its address, with a final slash."""
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def take(self, upload: _Upload) -> bool:
        """Publish a version under its tags. Return whether it is published: not if it was there, or isn't one."""
        if len(upload.versions) != 1 or len(upload.attachments) != 1:
            return False
        ((version, described),) = upload.versions.items()
        (attachment,) = upload.attachments.values()
        path = f"/{upload.name}/-/{upload.name.rpartition('/')[2]}-{version}.tgz"
        sha512 = base64.b64encode(hashlib.sha512(attachment.data).digest()).decode()
        dist = {
            "integrity": f"sha512-{sha512}",
            "shasum": hashlib.sha1(attachment.data, usedforsecurity=False).hexdigest(),
            "tarball": self.url + quote(path[1:], safe="/@"),
        }
        with self.lock:
            package = self.packages.setdefault(upload.name, _Package(upload.name))
            if version in package.versions:
                return False
            self.tarballs[path] = attachment.data
            package.versions[version] = {**described, "dist": dist}
            package.tags.update(upload.tags)
        return True

    def move(self, name: str, tag: str, version: str | None) -> bool:
        """Let a tag lead to a version, or with None remove it. Return whether the package and the version are there."""
        with self.lock:
            package = self.packages.get(name)
            if package is None or (tag not in package.tags if version is None else version not in package.versions):
                return False
            if version is None:
                del package.tags[tag]
            else:
                package.tags[tag] = version
        return True

    def found(self, name: str) -> bytes | None:
        """Return a package as JSON; None if there is none."""
        with self.lock:
            package = self.packages.get(name)
            return None if package is None else msgspec.json.encode(package)

    def tags_of(self, name: str) -> dict[str, str] | None:
        """Return the tags of a package; None if there is none."""
        with self.lock:
            package = self.packages.get(name)
            return None if package is None else dict(package.tags)


class _Answers(BaseHTTPRequestHandler):
    server: DemoRegistry
    timeout = _SILENCE
    protocol_version = "HTTP/1.1"

    @property
    def _name(self) -> str:
        """What is asked for, such as "@demo/text" or "-/package/@demo/text/dist-tags/latest"."""
        return unquote(urlsplit(self.path).path).strip("/")

    def do_GET(self) -> None:
        """Answer with a package, its tags, or a tarball."""
        name = self._name
        if name.startswith(_TAGS) and name.endswith("/dist-tags"):
            tags = self.server.tags_of(name.removeprefix(_TAGS).removesuffix("/dist-tags"))
            self._answer(HTTPStatus.NOT_FOUND) if tags is None else self._send(msgspec.json.encode(tags))
            return
        found = self.server.tarballs.get(f"/{name}") if "/-/" in name else self.server.found(name)
        self._answer(HTTPStatus.NOT_FOUND) if found is None else self._send(found)

    def do_PUT(self) -> None:
        """Publish a version, or let a tag lead to one."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _MAX_BODY:
            self.close_connection = True
            self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        body, (name, tag) = self.rfile.read(int(length)), self._tag()
        if not self._may_change():
            return
        try:
            if tag:
                done, code = self.server.move(name, tag, msgspec.json.decode(body, type=str)), HTTPStatus.NOT_FOUND
            else:
                done, code = self.server.take(msgspec.json.decode(body, type=_Upload)), HTTPStatus.CONFLICT
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._answer(HTTPStatus.BAD_REQUEST, str(error))
            return
        self._answer(HTTPStatus.CREATED if done else code)

    def do_DELETE(self) -> None:
        """Remove a tag."""
        name, tag = self._tag()
        if self._may_change():
            self._answer(HTTPStatus.OK if tag and self.server.move(name, tag, None) else HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        """Say that there are no stages, searches and the like."""
        self.close_connection = True
        self._answer(HTTPStatus.NOT_FOUND)

    def _tag(self) -> tuple[str, str]:
        """Return the package and the tag that are meant; without a tag if it isn't one."""
        package, dist_tags, tag = self._name.removeprefix(_TAGS).partition("/dist-tags/")
        return package, tag if dist_tags and self._name.startswith(_TAGS) else ""

    def _may_change(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {self.server.token}":
            return True
        self._answer(HTTPStatus.UNAUTHORIZED)
        return False

    def _answer(self, status: HTTPStatus, why: str = "") -> None:
        done = status < HTTPStatus.BAD_REQUEST
        self._send(msgspec.json.encode({"ok": True} if done else {"error": why or status.phrase}), status)

    def _send(self, data: bytes, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if data[:1] == b"{" else "application/octet-stream")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing: what is published is shown at the end."""


@contextmanager
def demo_registry(token: str) -> Iterator[DemoRegistry]:
    """Give a registry while inside."""
    server = DemoRegistry(token)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
