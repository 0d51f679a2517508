"""A small registry of the tests' own, to which real npm publishes."""

from __future__ import annotations

import base64
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "npm_S3cretOfTheRegistry"


class Registry(ThreadingHTTPServer):
    """As much of an npm registry as `npm view` and `npm publish` need; it can be told to misbehave."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.packages: dict[str, dict[str, object]] = {}
        self.uploads = 0
        self.uploaded: list[str] = []  # the packages, in the order of their uploads
        self.loses_tags = False  # takes versions without their tags
        self.keeps_tags = False  # and lets no caller set one
        self.tarballs: dict[str, list[str]] = {}  # package -> the names in the last tarball
        self.contents: dict[str, bytes] = {}  # path of a tarball -> the tarball
        self.tokens: list[str | None] = []
        self.refuses: set[str] = set()  # packages of which no upload is taken
        #: answers to the next uploads, instead of taking them: (status, whether it is taken all the same)
        self.faults: list[tuple[int, bool]] = []

    @property
    def url(self) -> str:
        """The registry's address."""
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def have(self, name: str, version: str) -> None:
        """Have this version of a package, the latest, as if somebody had published it before."""
        dist = {"integrity": "sha512-before", "tarball": f"{self.url}{name}/-/{version}.tgz"}
        described = {"name": name, "version": version, "dist": dist}
        self.packages[name] = {"name": name, "versions": {version: described}, "dist-tags": {"latest": version}}

    def take(self, name: str, document: dict[str, dict[str, object]]) -> bool:
        """Take an upload, unless its version is there."""
        package = self.packages.setdefault(name, {"name": name, "versions": {}, "dist-tags": {}})
        versions, tags = package["versions"], package["dist-tags"]
        assert isinstance(versions, dict)
        assert isinstance(tags, dict)
        if versions.keys() & document["versions"].keys():
            return False
        versions.update(document["versions"])
        if not self.loses_tags:
            tags.update(document["dist-tags"])
        (attachment,) = document["_attachments"].values()
        assert isinstance(attachment, dict)
        for described in document["versions"].values():
            assert isinstance(described, dict)
            self.contents[unquote(urlsplit(described["dist"]["tarball"]).path)] = base64.b64decode(attachment["data"])
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(attachment["data"]))) as tar:
            self.tarballs[name] = tar.getnames()
        return True


class _Answers(BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        name = unquote(self.path.partition("?")[0].strip("/"))
        if name.endswith("/dist-tags"):
            package = self.server.packages[name.removeprefix("-/package/").removesuffix("/dist-tags")]
            self._answer(200, package["dist-tags"])
            return
        if "/-/" in name:
            self._send_tarball(self.server.contents[f"/{name}"])
            return
        found = self.server.packages.get(name)
        self._answer(200 if found else 404, found or {"error": "not found"})

    def do_PUT(self) -> None:
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = unquote(self.path.partition("?")[0].strip("/"))
        if "/dist-tags/" in name:
            self._set_tag(name, document)
            return
        self.server.uploads += 1
        self.server.uploaded.append(name)
        self.server.tokens.append(self.headers["Authorization"])
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._answer(401, {"error": "who are you?"})
        elif name in self.server.refuses:
            self._answer(403, {"error": "not this one"})
        elif self.server.faults:
            status, taken = self.server.faults.pop(0)
            if taken:
                self.server.take(name, document)
            self._answer(status, {"error": "misbehaving"})
        else:
            taken = self.server.take(name, document)
            self._answer(201 if taken else 403, {"ok": taken})

    def _set_tag(self, name: str, version: str) -> None:
        package, _, tag = name.removeprefix("-/package/").partition("/dist-tags/")
        if self.server.keeps_tags or self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._answer(403, {"error": "the tags stay"})
            return
        tags = self.server.packages[package]["dist-tags"]
        assert isinstance(tags, dict)
        tags[tag] = version
        self._answer(201, {"ok": True})

    def _send_tarball(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def running() -> Iterator[Registry]:
    """A registry, while it is needed."""
    server = Registry()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
