"""
The releases, on a port of their own: what was built, as static sites. ``web`` layer; called by the taps.

Their scripts are strangers' scripts, so they are served from another origin than the API and the page, without
cookies. A project is named by the host, ``PROJECT.DOMAIN``, an origin for each; or, where a host name can't be had, by
the first segment of the path, where all projects share an origin. The latter is done only on hosts that the API
doesn't have (see ``hosts``): ports share cookies.

Only regular files of the live release are served. A missing file is a 404, never index.html; but an asset whose name
has its hash in it is looked for in the newest other releases too, since a page that is still open may ask for it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from urllib.parse import quote, unquote_to_bytes

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from twisted.web.static import File

from twistedipc.builds import names
from twistedipc.builds.names import BadValue
from twistedipc.publish.releases import ReleaseStore
from twistedipc.web.channel import BodySink, BoundedRequest, BoundedSite, set_common_headers
from twistedipc.web.hosts import Hosts
from twistedipc.web.media import content_type

#: In how many other releases an old asset is looked for.
OLD_RELEASES = 3

#: The most ranges of one request that are answered as such.
MAX_RANGES = 8

_HASHED = re.compile(r"[.-](?=[A-Za-z0-9_-]*[0-9A-Z])[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9]+)+\Z")


@lru_cache(maxsize=4096)
def is_hashed(name: str) -> bool:
    """Whether a file's name has a hash of its content in it (``index-BvJ3kT9a.js``, ``main.4f2a9c1b.css``)."""
    return _HASHED.search(name) is not None


class Refused(Exception):
    """A path that names nothing that is served."""


def segments_of(path: bytes) -> list[str]:
    """
    The segments of a request's path, decoded once; a final "" stands for the slash at the end. Raises `Refused` for
    what isn't a path downwards, and for names that begin with a dot (``/.well-known/`` aside).
    """
    if not path.startswith(b"/"):
        raise Refused
    segments: list[str] = []
    for raw in path[1:].split(b"/"):
        try:
            segment = unquote_to_bytes(raw).decode("utf-8")
        except UnicodeDecodeError as error:
            raise Refused from error
        if "/" in segment or "\\" in segment or not (segment.isprintable() or segment == ""):
            raise Refused
        if segment.startswith(".") and not (segment == ".well-known" and not segments):
            raise Refused
        segments.append(segment)
    if "" in segments[:-1]:
        raise Refused
    return segments


def find(release: Path, segments: list[str]) -> tuple[Path, os.stat_result] | None:
    """
    The file or folder in the release, which no symbolic link leads out of. None if there is none.
    """
    path = release.joinpath(*segments) if segments else release
    try:
        if os.path.realpath(path) != os.path.join(os.path.realpath(release), *segments):
            return None
        found = os.stat(path, follow_symlinks=False)
    except (OSError, ValueError):
        return None
    return path, found


class _Served(File):
    """One file, by Twisted's own way with ranges and producers."""

    def __init__(self, path: Path, kind: str) -> None:
        super().__init__(str(path), defaultType=kind)
        self.type, self.encoding = kind, None

    def serve(self, request: BoundedRequest) -> int | bytes:
        """Write the file, or its ranges."""
        self.restat(False)
        if request.method == b"HEAD":
            self._setContentHeaders(request)
            return b""
        self.makeProducer(request, self.openForReading()).start()
        return NOT_DONE_YET

    def serve_as_error(self, request: BoundedRequest) -> bytes:
        """The file as the body of a 404."""
        body: bytes = self.getContent()
        request.setHeader(b"Content-Type", str(self.type).encode())
        request.setHeader(b"Content-Length", b"%d" % len(body))
        return body


class Releases(Resource):
    """All projects' live releases. Implements `channel.Front`."""

    isLeaf = True
    _log = Logger()

    def __init__(self, store: ReleaseStore, hosts: Hosts, addresses_of: Callable[[str], list[str]]) -> None:
        super().__init__()
        self._store = store
        self._hosts = hosts
        self._addresses_of = addresses_of

    def head_received(self, request: BoundedRequest) -> BodySink | None:
        """See `channel.Front`."""
        return None

    def render(self, request: BoundedRequest) -> int | bytes:
        """Twisted calls this when the request is there."""
        set_common_headers(request)
        request.setHeader(b"Cache-Control", b"no-cache")
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"Allow", b"GET, HEAD")
            return self._plain(request, 405, "This can only be read.")
        try:
            return self._render(request)
        except (Refused, BadValue):
            return self._missing(request, None)
        except OSError as error:
            self._log.error("a release's file can't be read: {error}", error=error)
            return self._plain(request, 503, "This can't be read now.")

    def _render(self, request: BoundedRequest) -> int | bytes:
        segments = segments_of(request.path)
        host = request.getHeader("host") or ""
        project = self._hosts.project_of(host)
        prefix = ""
        if project is None:
            if not self._hosts.has_paths(host):
                return self._elsewhere(request, segments[0])
            project, segments = segments[0], segments[1:]
            prefix = "/" + quote(project)
            if not project:
                return self._missing(request, None)
        release = self._store.live(names.project(project))
        if release is None:
            return self._missing(request, None)
        if not segments:
            return self._redirect(request, prefix + "/")
        if segments[-1] == "":
            return self._folder(request, release, segments[:-1])
        found = find(release, segments)
        if found is not None and S_ISDIR(found[1].st_mode):
            return self._redirect(request, f"{prefix}/{'/'.join(map(quote, segments))}/")
        if (found is None or not S_ISREG(found[1].st_mode)) and is_hashed(segments[-1]):
            found = self._old_asset(project, release, segments)
        return self._file(request, release, found)

    def _elsewhere(self, request: BoundedRequest, name: str) -> bytes:
        """421: the request is to a host that has no releases. No redirect, which could lead back to here."""
        addresses = self._addresses_of(names.project(name)) if name else []
        where = f"The release of {name} is at {' or at '.join(addresses)}\n" if addresses else ""
        return self._plain(
            request,
            421,
            f"No release is served at this host. {where}"
            "An address with the project in its path needs a host that the API doesn't have, since a browser keeps one "
            "set of cookies for all ports of a host: see releases.public_url in the configuration.",
        )

    def _folder(self, request: BoundedRequest, release: Path, segments: list[str]) -> int | bytes:
        return self._file(request, release, find(release, [*segments, "index.html"]))

    def _old_asset(self, project: str, live: Path, segments: list[str]) -> tuple[Path, os.stat_result] | None:
        others = [release for release in self._store.kept(project) if release != live]
        for release in others[:OLD_RELEASES]:
            found = find(release, segments)
            if found is not None and S_ISREG(found[1].st_mode):
                return found
        return None

    def _file(self, request: BoundedRequest, release: Path, found: tuple[Path, os.stat_result] | None) -> int | bytes:
        if found is None or not S_ISREG(found[1].st_mode):
            return self._missing(request, release)
        path, stat = found
        # A release never changes, so its number, and what tells its files apart, is a strong validator. The time is
        # none: archives are deterministic, hence all their times may be the same.
        etag = f'"{release.name}-{stat.st_ino:x}-{stat.st_size:x}-{stat.st_mtime_ns:x}"'.encode()
        if is_hashed(path.name):
            request.setHeader(b"Cache-Control", b"public, max-age=31536000, immutable")
        if request.setETag(etag):
            return b""
        _check_ranges(request, etag)
        request.setHeader(b"Accept-Ranges", b"bytes")
        return _Served(path, content_type(path.name)).serve(request)

    def _missing(self, request: BoundedRequest, release: Path | None) -> bytes:
        """404, with the release's own page for it, if it has one."""
        found = None if release is None else find(release, ["404.html"])
        if found is None or not S_ISREG(found[1].st_mode) or found[1].st_size > 1 << 20:
            return self._plain(request, 404, "There is nothing here.")
        request.setResponseCode(404)
        return _Served(found[0], content_type("404.html")).serve_as_error(request)

    def _redirect(self, request: BoundedRequest, path: str) -> bytes:
        query = request.uri.partition(b"?")[2]
        location = path.encode() + (b"?" + query if query else b"")
        request.setHeader(b"Location", location)
        return self._plain(request, 302, "It is there.")

    def _plain(self, request: BoundedRequest, status: int, text: str) -> bytes:
        request.setResponseCode(status)
        request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
        body = f"{text}\n".encode()
        request.setHeader(b"Content-Length", b"%d" % len(body))
        return body


def _check_ranges(request: BoundedRequest, etag: bytes) -> None:
    """Forget a Range that is of another version of the file, or of too many parts."""
    condition = request.getHeader(b"if-range")
    ranges = request.getHeader(b"range")
    if ranges is not None and ((condition is not None and condition != etag) or ranges.count(b",") >= MAX_RANGES):
        request.requestHeaders.removeHeader(b"range")


def releases_site(
    store: ReleaseStore,
    reactor: IReactorTime,
    *,
    hosts: Hosts | None = None,
    addresses_of: Callable[[str], list[str]] = lambda project: [],
) -> BoundedSite:
    """
    The site; ``reactor`` for its deadlines, ``hosts`` where it is served (by default below ``localhost``),
    ``addresses_of`` where a project's release is, for those who look for it at another host.
    """
    root = Releases(store, hosts or Hosts(), addresses_of)
    return BoundedSite(root, root, reactor)
